"""Networks for noisy speech: those of SEGAN (Pascual et al. 2017), and a gate on a fixed filterbank.

The two that make speech, WaveUNet and FilterbankGate, are exchangeable: network(length, widths, kernel) reads waves
[B, 1, length] around 0 and, if its `code_shape` is not None, codes z [B, *code_shape]; it returns waves [B, 1, length].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import SkipError
from bench.draws import Draws
from bench.parts.networks.shared import CriticOutput

# The widths of SEGAN, for windows of 16,384 samples at 16 kHz, a kernel of 31 and a stride of 2.
PUBLISHED = (16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024)
SPREAD = 0.02  # standard deviation of initial weights, cut off at two of them
VARIANCE = 1e-5  # added to that of a normalised channel
LOG_FLOOR = 1e-6  # a power, added before the logarithm; waves have a power of about 1


def initialised(network: nn.Module) -> nn.Module:
    """The network with the initial weights of the published code."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def lengths_of(length: int, stride: int, depth: int) -> list[int]:
    """The length of a wave and of each level: divided by the stride each time, rounded up."""
    return [-(-length // stride**level) for level in range(depth + 1)]


class Down(nn.Module):
    """A strided convolution, [B, C, T] -> [B, width, T / stride rounded up]. Raises SkipError for kernel < stride."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int, bias: bool = True):
        super().__init__()
        if kernel < stride:
            raise SkipError(f"a kernel of {kernel} samples skips some with a stride of {stride}: choose a longer one")
        self.convolution = nn.Conv1d(width_in, width, kernel, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(F.pad(x, _padding(x.shape[2], self.convolution)))


class Up(nn.Module):
    """A transposed convolution, [B, C, T / stride rounded up] -> [B, width, T]; the adjoint of `Down`."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int):
        super().__init__()
        self.convolution = nn.ConvTranspose1d(width_in, width, kernel, stride)

    def forward(self, x: Tensor, length: int) -> Tensor:
        left, _ = _padding(length, self.convolution)
        return self.convolution(x)[:, :, left : left + length]


def _padding(length: int, convolution: nn.Conv1d | nn.ConvTranspose1d) -> tuple[int, int]:
    """Zeros to the left and to the right of a wave, at most one more to the right."""
    (kernel,), (stride,) = convolution.kernel_size, convolution.stride
    total = (-(-length // stride) - 1) * stride + kernel - length
    return total // 2, total - total // 2


class WaveUNet(nn.Module):
    """The generator of SEGAN, without its tanh at the end.

    Convolutions with PReLU, which starts as ReLU, down to a code to which z is concatenated; then transposed
    convolutions, to whose outputs the features of the same length are concatenated, as they are before PReLU.
    skips=False leaves these out, noise=False leaves z out.
    """

    def __init__(
        self,
        length: int,
        widths: Sequence[int],
        kernel: int = 31,
        stride: int = 2,
        skips: bool = True,
        noise: bool = True,
    ):
        super().__init__()
        self.lengths, self.skips = lengths_of(length, stride, len(widths)), skips
        self.code_shape = (widths[-1], self.lengths[-1]) if noise else None
        self.down = nn.ModuleList(Down(*pair, kernel, stride) for pair in pairwise([1, *widths]))
        outputs = [*widths[-2::-1], 1]
        inputs = [(2 if noise else 1) * widths[-1], *((2 if skips else 1) * width for width in outputs[:-1])]
        self.up = nn.ModuleList(Up(*pair, kernel, stride) for pair in zip(inputs, outputs, strict=True))
        self.down_activations = nn.ModuleList(nn.PReLU(width, init=0.0) for width in widths)
        self.up_activations = nn.ModuleList(nn.PReLU(width, init=0.0) for width in outputs[:-1])
        initialised(self)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        levels, hidden = [], x
        for down, activation in zip(self.down, self.down_activations, strict=True):
            levels.append(down(hidden))
            hidden = activation(levels[-1])
        if self.code_shape is not None:
            assert z is not None, "z is missing"
            hidden = torch.cat([hidden, z], 1)
        *ups, last = self.up
        for up, activation, level in zip(ups, self.up_activations, levels[-2::-1], strict=True):
            hidden = activation(up(hidden, level.shape[2]))
            if self.skips:
                hidden = torch.cat([hidden, level], 1)
        return last(hidden, x.shape[2])


class Filterbank(nn.Module):
    """The short-time Fourier transform with a square root of a Hann window, and its exact inverse.

    size: samples of a frame, an even number; neighbours overlap by three quarters. Frames are scaled so that the
    inverse is the adjoint, so the lowest and the highest frequency count half.
    """

    kernel: Tensor

    def __init__(self, size: int = 256):
        super().__init__()
        self.size, self.hop, self.bins = size, size // 4, size // 2 + 1
        time, frequency = torch.arange(size, dtype=torch.float64), torch.arange(self.bins, dtype=torch.float64)
        angle = 2 * math.pi / size * frequency[:, None] * time
        scale = torch.full((self.bins, 1), (2 / size) ** 0.5, dtype=torch.float64)
        scale[0] = scale[-1] = (1 / size) ** 0.5
        window = (torch.hann_window(size, dtype=torch.float64) / 2).sqrt()  # the squares of four neighbours sum to 1
        kernel = torch.cat([scale * angle.cos(), -scale * angle.sin()]) * window
        self.register_buffer("kernel", kernel[:, None].to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        """Waves [B, 1, T] -> real and imaginary parts [B, 2, bins, frames]."""
        edge = self.size - self.hop  # with it, all samples are in four frames
        padded = F.pad(x, (edge, edge + -x.shape[2] % self.hop))
        return F.conv1d(padded, self.kernel, stride=self.hop).unflatten(1, (2, self.bins))

    def inverse(self, spectrum: Tensor, length: int) -> Tensor:
        """Real and imaginary parts [B, 2, bins, frames] -> waves [B, 1, length]."""
        waves = F.conv_transpose1d(spectrum.flatten(1, 2), self.kernel, stride=self.hop)
        edge = self.size - self.hop
        return waves[:, :, edge : edge + length]


class DilatedResidual(nn.Module):
    """[B, width_in, frames] -> [B, width, frames]: normalised, activated, convolved with gaps, and added."""

    def __init__(self, width_in: int, width: int, kernel: int, dilation: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width_in)
        self.convolution = nn.Conv1d(width_in, width, kernel, padding="same", dilation=dilation)
        self.shortcut = nn.Conv1d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.convolution(F.relu(self.norm(x)))


class FilterbankGate(nn.Module):
    """Multiplies each frequency of each frame by a number from 0 to 1, which a network computes from all of them.

    The network reads log magnitudes; widths: of its residual blocks, whose gaps are 1, 2, 4, 8, 1, 2, ... frames. It
    has no code. The wave should have a power of about 1, as log magnitudes depend on its level.
    """

    code_shape = None

    def __init__(self, length: int, widths: Sequence[int] = (128,) * 8, kernel: int = 3, size: int = 256):
        super().__init__()
        self.filterbank = Filterbank(size)
        bins = self.filterbank.bins
        layers: list[nn.Module] = [nn.Conv1d(bins, widths[0], 1)]
        for i, (width_in, width) in enumerate(pairwise([widths[0], *widths])):
            layers.append(DilatedResidual(width_in, width, kernel, dilation=2 ** (i % 4)))
        self.gate = nn.Sequential(*layers, nn.ReLU(), nn.Conv1d(widths[-1], bins, 1))

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        spectrum = self.filterbank(x)
        log_magnitude = (spectrum.square().sum(1) + LOG_FLOOR).log() / 2
        gain = torch.sigmoid(self.gate(log_magnitude))
        return self.filterbank.inverse(gain[:, None] * spectrum, x.shape[2])


class VirtualBatchNorm(nn.Module):
    """Normalises channels by statistics that are mostly those of a reference batch (Salimans et al. 2016).

    With R reference examples, means are 1 / (R + 1) those of the batch and R / (R + 1) those of the reference.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, reference: Tensor, copies: int = 1) -> tuple[Tensor, Tensor]:
        """x [B, C, T] and the reference batch [R, C, T], normalised. x: `copies` batches, concatenated."""
        batches = x.unflatten(0, (copies, -1))
        mean, square = reference.mean((0, 2)), reference.square().mean((0, 2))
        own = 1 / (len(reference) + 1)
        live_mean = own * batches.mean((1, 3)) + (1 - own) * mean
        live_square = own * batches.square().mean((1, 3)) + (1 - own) * square
        live = self._normalised(batches, live_mean[:, None, :, None], live_square[:, None, :, None])
        return live.flatten(0, 1), self._normalised(reference, mean[:, None], square[:, None])

    def _normalised(self, x: Tensor, mean: Tensor, square: Tensor) -> Tensor:
        standard = (x - mean) / (square - mean.square() + VARIANCE).sqrt()
        return standard * self.weight[:, None] + self.bias[:, None]


class WaveCritic(nn.Module):
    """The discriminator of SEGAN: judges waves next to the noisy ones, [B, 1, length] each.

    reference: the number of examples in the reference batch of its virtual batch normalisation. The buffer `reference`
    holds them, [reference, 2, length], wave and noisy wave; `Model.fit` fills it. Their features are computed with the
    current weights each time.
    """

    reference: Tensor

    def __init__(self, length: int, widths: Sequence[int], kernel: int = 31, stride: int = 4, reference: int = 16):
        super().__init__()
        self.register_buffer("reference", torch.zeros(reference, 2, length))
        # Normalisation removes what a bias would add.
        self.layers = nn.ModuleList(Down(*pair, kernel, stride, bias=False) for pair in pairwise([2, *widths]))
        self.norms = nn.ModuleList(VirtualBatchNorm(width) for width in widths)
        self.channel = nn.Conv1d(widths[-1], 1, 1)
        self.last = nn.Linear(lengths_of(length, stride, len(widths))[-1], 1)
        initialised(self)

    def forward(self, x: Tensor, draws: Draws | None = None, *, noisy: Tensor, copies: int = 1) -> CriticOutput:
        """x: `copies` versions of one batch, concatenated. noisy: one row for each of x, or of the batch."""
        noisy = noisy if len(noisy) == len(x) else torch.cat([noisy] * copies)
        hidden, reference = torch.cat([x, noisy], 1), self.reference
        for layer, norm in zip(self.layers, self.norms, strict=True):
            features, reference = norm(layer(hidden), layer(reference), copies)
            hidden, reference = F.leaky_relu(features, 0.3), F.leaky_relu(reference, 0.3)
        logit = self.last(self.channel(hidden).flatten(1))[:, 0]
        return CriticOutput(logit, features.flatten(1))
