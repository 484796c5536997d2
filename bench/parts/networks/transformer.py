"""Spatial transformers (Jaderberg et al. 2015) that find where an object lies in an image and set it upright.

A placement [B, 4] is a similarity: rotation (radians, clockwise), log scale, shift to the right and downwards (2 is a
whole side). The point p of the upright image, in [-1, 1] x [-1, 1], lies at exp(log scale) R(rotation) p + shift.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BOUNDS = (1.0, 0.35, 0.5, 0.5)  # of a placement's four numbers, to either side


def similarity_grid(placement: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the pixels of the upright image lie: [B, height, width, 2], the last dimension (right, down).

    Written out, because F.affine_grid does not work under vmap.
    """
    height, width = size
    # The centres of pixels, as F.grid_sample has them with align_corners=False.
    v, u = ((2 * torch.arange(side, device=placement.device) + 1).to(placement.dtype) / side - 1 for side in size)
    u, v = u.expand(height, width), v[:, None].expand(height, width)
    rotation, log_scale, right, down = placement[:, :, None, None].unbind(1)
    cos, sin = log_scale.exp() * rotation.cos(), log_scale.exp() * rotation.sin()
    return torch.stack([cos * u - sin * v + right, sin * u + cos * v + down], -1)


def warp(images: Tensor, placement: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Sets images [B, C, H, W] upright: [B, C, *size], by bilinear interpolation; size: None for that of the images.

    Beyond the border the outermost pixels are repeated: with zeros there, gradients would die.
    """
    grid = similarity_grid(placement, size or images.shape[2:])
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The placement in an image of what lies at `inner` in the image that was set upright by `outer`; [B, 4]."""
    rotation, log_scale, right, down = outer.unbind(1)
    cos, sin = log_scale.exp() * rotation.cos(), log_scale.exp() * rotation.sin()
    turn, zoom, across, along = inner.unbind(1)
    shift = cos * across - sin * along + right, sin * across + cos * along + down
    return torch.stack([rotation + turn, log_scale + zoom, *shift], 1)


class Localiser(nn.Module):
    """Images or features [B, C, H, W] -> where the object lies, a placement [B, 4] within BOUNDS; at first all zero."""

    def __init__(self, shape: tuple[int, ...], hidden: int = 24):
        super().__init__()
        sides = (-(-side // 4) for side in shape[1:])
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], hidden, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * hidden, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * hidden * prod(sides), 64),
            nn.ReLU(),
        )
        self.last = nn.Linear(64, 4)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        bounds = torch.tensor(BOUNDS, dtype=x.dtype, device=x.device)
        return bounds * (self.last(self.layers(x)) / bounds).tanh()


class Transformer(nn.Module):
    """One localiser, applied several times: each time it reads the images, upright as far as it has found until then.

    Reading the images themselves every time, they are interpolated only once (Lin & Lucey 2017).
    """

    def __init__(self, shape: tuple[int, ...], iterations: int = 3):
        super().__init__()
        self.localiser, self.iterations = Localiser(shape), iterations

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, C, H, W] around 0 -> the placement [B, 4] after each iteration, which is trained on its own."""
        placement = torch.zeros_like(images[:, :4, 0, 0]) if images.shape[1] >= 4 else images.new_zeros(len(images), 4)
        found = []
        for _ in range(self.iterations):
            placement = placement.detach()
            placement = compose(placement, self.localiser(warp(images, placement)))
            found.append(placement)
        return found
