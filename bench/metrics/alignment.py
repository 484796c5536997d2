"""Does the object stand upright in the images that a model makes? Each is compared with its aligned original."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.parts.networks.transformer import blurred, compose, warp

COARSE, FINE = 16, 32  # pixels a side at which images are registered
STARTS = torch.arange(-60, 61, 15).deg2rad()  # the rotations from which the search starts
PRIOR = (0.5, 0.15, 0.15, 0.15)
CORRELATED = 60
STEPS = 12  # of Gauss and Newton at each size


def placements(images: Tensor, x: Tensor) -> Tensor:
    """Where the objects of x [N, C, H, W] lie in the images [N, C, H, W]: placements [N, 4] as `warp` takes them.

    They minimise the squared difference of x and the images set upright, both slightly blurred, in a disc around the
    centre: by Gauss-Newton steps (Baker & Matthews 2004, compositional) at 16 pixels a side from several rotations,
    then from the best of them at 32 pixels. The object must be within about 60 degrees of upright.
    """
    return torch.cat([_placements(*parts) for parts in zip(images.split(100), x.split(100), strict=True)])


def _placements(images: Tensor, x: Tensor) -> Tensor:
    starts = x.new_zeros(len(STARTS), len(x), 4)
    starts[:, :, 0] = STARTS.to(x)[:, None]
    many, originals = (_scaled(part, COARSE).repeat(len(STARTS), 1, 1, 1) for part in (images, x))
    found, error = _descend(many, originals, starts.flatten(0, 1))
    best = error.view(len(STARTS), -1).argmin(0)
    found = found.view(len(STARTS), -1, 4)[best, torch.arange(len(x))]
    return _descend(_scaled(images, FINE), _scaled(x, FINE), found)[0]


def _scaled(images: Tensor, size: int) -> Tensor:
    """At size x size pixels and blurred with a sigma of a pixel."""
    return blurred(F.interpolate(images, size=(size, size), mode="bilinear", antialias=True))


def _descend(images: Tensor, x: Tensor, placement: Tensor) -> tuple[Tensor, Tensor]:
    """The placements [N, 4] after STEPS steps, and the squared differences [N] that are left."""
    size = x.shape[2]
    along = (torch.arange(size) + 0.5).to(x) * 2 / size - 1
    u, v = along[None, :], along[:, None]
    window = ((0.9 - (u.square() + v.square()).sqrt()) * size / 4).clamp(0, 1)

    def slopes(images: Tensor) -> tuple[Tensor, Tensor]:
        """Along u and v, in a unit of the coordinates."""
        padded = F.pad(images, [1] * 4, mode="replicate") * size / 4
        return padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]

    x = _normalised(x, window)
    own, prior = slopes(x), 1 / x.new_tensor(PRIOR).square()
    pixels = window.sum() / CORRELATED
    for step in range(STEPS + 1):
        upright = _normalised(warp(images, placement), window)
        difference = (x - upright) * window
        error = difference.square().flatten(1).sum(1) / window.sum()
        if step == STEPS:
            break
        # The mean of both images' slopes makes the step exact to second order (Malis 2004).
        right, down = ((a + b) / 2 for a, b in zip(slopes(upright), own, strict=True))
        by = torch.stack([u * down - v * right, u * right + v * down, right, down], 1)  # rotation, log scale, shift
        by = (by * window).flatten(2)  # [N, 4, pixels]
        weight = (error[:, None] * window.sum() / pixels) * prior
        target = by @ difference.flatten(1)[:, :, None] - (weight * placement)[:, :, None]
        change = torch.linalg.solve(by @ by.mT + torch.diag_embed(weight), target)[:, :, 0]
        placement = compose(placement, change.clamp(-0.3, 0.3))
    return placement, error * (1 + (prior * placement.square()).sum(1) / pixels)


def _normalised(images: Tensor, window: Tensor) -> Tensor:
    """Each channel without its mean, and each image with mean square 1, in the window."""
    weight = window / window.sum()
    images = images - (weight * images).sum((2, 3), keepdim=True)
    return images / (weight * images.square()).sum((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
