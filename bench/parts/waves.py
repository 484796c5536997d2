"""Waves: one sample of sound after the other. A model sees them in [0, 1], with silence at 1/2."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EMPHASIS = 0.95  # of Pascual et al. 2017
FORGOTTEN = 1e-8  # an echo below this share is rounding in float32
MOST_SNR = 60.0  # dB
QUIET = 1e-6  # an energy: that of 1,000 samples of one step of 16 bits


def centred(x: Tensor) -> Tensor:
    """From [0, 1] to [-1, 1], with silence at 0."""
    return 2 * x - 1


def joined(windows: Tensor, file: Tensor, start: Tensor, samples: Tensor) -> list[Tensor]:
    """The whole files [length], by number, that windows [N, 1, T] without overlap come from; in any order.

    file: [N], the number of each window's file; start: [N], where in it the window starts; samples: [N], how many
    samples of the window belong to it. The rest of a window, its padding, is dropped. See `bench.datasets.audio.cut`.
    """
    order = start.argsort(stable=True)
    order = order[file[order].argsort(stable=True)]
    is_kept = torch.arange(windows.shape[-1], device=windows.device) < samples[order, None]
    _, number = file.unique(return_inverse=True)
    lengths = torch.bincount(number, samples.double()).long()
    return list(windows[order].flatten(1)[is_kept].split(lengths.tolist()))


def si_sdr(x: Tensor, y: Tensor) -> Tensor:
    """The scale-invariant ratio, in dB, of the signal x [..., T] to the distortion in y [..., T] (Le Roux et al. 2019).

    10 log10 of |a x|^2 / |a x - y|^2, where a x is the projection of y onto x. Means are removed first.
    """
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    target = (x * y).sum(-1, keepdim=True) / x.square().sum(-1, keepdim=True) * x
    return 10 * (target.square().sum(-1) / (target - y).square().sum(-1)).log10()


def snr(x: Tensor, y: Tensor) -> Tensor:
    """The ratio, in dB, of the signal x [..., T] to the distortion y - x, for training: at most MOST_SNR.

    It stays finite for silence, where an energy of QUIET is added to both.
    """
    signal, distortion = x.square().sum(-1), (y - x).square().sum(-1)
    return 10 * ((signal + QUIET) / (distortion + 10 ** (-MOST_SNR / 10) * signal + QUIET)).log10()


def at_speed(x: Tensor, factor: Tensor) -> Tensor:
    """Waves x [B, C, T] in [0, 1] played faster by a factor [B, 1, 1], around their middle; silence beyond their ends.

    Between samples the wave is linear.
    """
    length, middle = x.shape[-1], (x.shape[-1] - 1) / 2
    place = middle + factor * (torch.arange(length, dtype=x.dtype, device=x.device) - middle)
    before = place.floor()

    def at(index: Tensor) -> Tensor:
        inside = (index >= 0) & (index < length)
        return torch.where(inside, x.gather(-1, index.long().clamp(0, length - 1).expand_as(x)), 0.5)

    return torch.lerp(at(before), at(before + 1), place - before)


def pre_emphasis(x: Tensor, coefficient: float = EMPHASIS) -> Tensor:
    """x[t] - coefficient x[t - 1] for waves [..., T] around 0. Before the first sample there is silence."""
    return x - coefficient * F.pad(x, (1, 0))[..., :-1]


def de_emphasis(x: Tensor, coefficient: float = EMPHASIS) -> Tensor:
    """The inverse of `pre_emphasis`: y[t] = x[t] + coefficient y[t - 1]."""
    # A sum of echoes, doubled in length each time: y = (1 + c z)(1 + c^2 z^2)(1 + c^4 z^4) ... x, where z is a delay.
    delay = 1
    while delay < x.shape[-1] and coefficient**delay > FORGOTTEN:
        x = x + coefficient**delay * F.pad(x, (delay, 0))[..., : x.shape[-1]]
        delay *= 2
    return x
