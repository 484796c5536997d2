"""Is the object in the output aligned? Each output is registered to its aligned original.

x, x_mean: [N, C, H, W] in [0, 1]. truth: rotation, [N] degrees, and shift, [N, 2] pixels of x, of the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.metrics import Value, metric
from bench.metrics.checks import check_count, check_varies
from bench.parts.networks.transformer import blurred, compose, warp

EXAMPLES = 500  # outputs that are registered
AT_ONCE = 100  # outputs; only memory depends on it
COARSE, FINE = 16, 32  # pixels a side at which images are registered
STARTS = torch.arange(-60, 61, 15).deg2rad()  # the rotations from which the search starts
STEPS = 12  # of Gauss-Newton at each size
PRIOR = (0.5, 0.15, 0.15, 0.15)  # standard deviations of a placement's numbers
CORRELATED = 60  # values of a blurred image that count as one independent measurement


def placements(images: Tensor, x: Tensor) -> Tensor:
    """Where the objects of x [N, C, H, W] lie in images [N, C, H, W]: placements [N, 4], as `warp` takes them.

    These are the most probable placements, if x and the aligned images differ by Gaussian noise. The noise level is
    estimated from the residual; PRIOR keeps placements near upright if an image does not show its object. Both images
    are blurred, normalised in brightness and contrast, and compared in a disc around the centre. Compositional
    Gauss-Newton steps (Baker & Matthews 2004) start from several rotations at 16 pixels a side, and continue from the
    best one at 32 pixels. The object must be within about 60 degrees of upright.
    """
    parts = zip(images.split(AT_ONCE), x.split(AT_ONCE), strict=True)
    return torch.cat([_registered(*part) for part in parts])


def _registered(images: Tensor, x: Tensor) -> Tensor:
    starts = x.new_zeros(len(STARTS), len(x), 4)
    starts[:, :, 0] = STARTS.to(x)[:, None]
    many, originals = (_scaled(part, COARSE).repeat(len(STARTS), 1, 1, 1) for part in (images, x))
    found, score = _descend(many, originals, starts.flatten(0, 1))
    best = score.view(len(STARTS), -1).argmin(0)
    found = found.view(len(STARTS), -1, 4)[best, torch.arange(len(x))]
    return _descend(_scaled(images, FINE), _scaled(x, FINE), found)[0]


def _scaled(images: Tensor, size: int) -> Tensor:
    """The images at size x size pixels, blurred by one pixel."""
    return blurred(F.interpolate(images, size=(size, size), mode="bilinear", antialias=True))


def _descend(images: Tensor, x: Tensor, placement: Tensor) -> tuple[Tensor, Tensor]:
    """The placements [N, 4] after STEPS steps, and their cost [N]; the most probable one has the lowest."""
    size, prior = x.shape[2], 1 / x.new_tensor(PRIOR).square()
    along = (torch.arange(size) + 0.5).to(x) * 2 / size - 1
    u, v = along[None, :], along[:, None]
    window = ((0.9 - (u.square() + v.square()).sqrt()) * size / 4).clamp(0, 1)
    x = _normalised(x, window)
    slopes = _slopes(x)

    def compared(placement: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The aligned images, their difference from x, and its mean square, the variance of the noise, [N]."""
        upright = _normalised(warp(images, placement), window)
        difference = (x - upright) * window
        return upright, difference, difference.square().flatten(1).sum(1) / window.sum()

    for _ in range(STEPS):
        upright, difference, variance = compared(placement)
        # With the mean of both images' slopes, a step is exact to second order (Malis 2004).
        right, down = ((one + other) / 2 for one, other in zip(slopes, _slopes(upright), strict=True))
        by = torch.stack([u * down - v * right, u * right + v * down, right, down], 1)  # rotation, log scale, shift
        by = (by * window).flatten(2)  # the derivatives of the aligned image, [N, 4, pixels]
        weight = CORRELATED * variance[:, None] * prior
        target = by @ difference.flatten(1)[:, :, None] - (weight * placement)[:, :, None]
        change = torch.linalg.solve(by @ by.mT + torch.diag_embed(weight + 1e-6), target)[:, :, 0]
        placement = compose(placement, change.clamp(-0.3, 0.3))
    variance = compared(placement)[2]
    return placement, variance.log() + CORRELATED / window.sum() * (prior * placement.square()).sum(1)


def _slopes(images: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of images to the right and downwards; a side has length 2."""
    padded = F.pad(images, [1] * 4, mode="replicate") * images.shape[2] / 4
    return padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]


def _normalised(images: Tensor, window: Tensor) -> Tensor:
    """Images with a mean of 0 in each channel and a mean square of 1, both in the window."""
    weight = window / window.sum()
    images = images - (weight * images).sum((2, 3), keepdim=True)
    return images / (weight * images.square()).sum((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)


@lru_cache(maxsize=1)  # three metrics use it
def _left(x_mean: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The remaining rotation [N] in degrees and shift [N, 2] in pixels of the first EXAMPLES outputs."""
    found = placements(x_mean[:EXAMPLES], x[:EXAMPLES])
    return found[:, 0].rad2deg(), found[:, 2:] * x.shape[3] / 2


def _root_mean_square(left: Tensor, before: Tensor) -> Value:
    """The root mean square length of vectors [N, D]; floor: that of the vectors `before`."""
    squared = left.double().square().sum(1)
    root = squared.mean().sqrt().item()
    # By the delta method, the standard error of a root is that of the mean square over twice the root.
    se = squared.std().item() / len(squared) ** 0.5 / (2 * root) if len(squared) > 1 and root else None
    return Value(root, se, len(squared), floor=before.double().square().sum(1).mean().sqrt().item())


@metric(better="lower", ideal=0.0, unit="°", sides={2})
def rotation_error(x: Tensor, x_mean: Tensor, truth: Mapping[str, Tensor]) -> Value:
    """The root mean square of the remaining rotation; floor: that of the sources."""
    return _root_mean_square(_left(x_mean, x)[0][:, None], truth["rotation"][:EXAMPLES, None])


@metric(better="lower", ideal=0.0, unit="px", sides={2})
def shift_error(x: Tensor, x_mean: Tensor, truth: Mapping[str, Tensor]) -> Value:
    """The root mean square of the remaining shift, in pixels of x; floor: that of the sources."""
    return _root_mean_square(_left(x_mean, x)[1], truth["shift"][:EXAMPLES])


@metric(better="higher", ideal=1.0, sides={2})
def rotation_correlation(x: Tensor, x_mean: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
    """Pearson's correlation of the rotation of the sources and the part of it that the model undoes; 0-dim."""
    rotation = truth["rotation"][:EXAMPLES]
    check_count(len(rotation), 3, "test images", "a correlation")
    check_varies(rotation[:, None], "sources' rotations")
    undone = rotation - _left(x_mean, x)[0]
    check_varies(undone[:, None], "rotations that are undone")
    return torch.corrcoef(torch.stack([rotation, undone]).double())[0, 1]
