"""q(x~|x): corruptions of the model's input in training; the target stays clean. level: a sigma or a rate."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import InputError, Level, Rate, UnusedIf
from bench.draws import Draws


class Identity:
    """No corruption. It accepts a level like the others and ignores it."""

    def __init__(self, level: Annotated[Level, UnusedIf()] = 0.0):
        self.level = 0.0

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return x


class Gaussian:
    """x + level * epsilon. Not clipped, because clipping would bias the mean of black and white pixels."""

    def __init__(self, level: Level = 0.5):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return x + self.level * draws.normal("noise", x.shape)


class Masking:
    """Sets each pixel to 0 in all channels with probability level (Vincent et al. 2010, section 3.3)."""

    def __init__(self, level: Rate = 0.25):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        masked = draws.uniform("noise", (x.shape[0], 1, *x.shape[2:])) < self.level
        return torch.where(masked, torch.zeros_like(x), x)


class SaltAndPepper:
    """Sets each pixel to 0 or 1, equally likely, with probability level (Vincent et al. 2010, section 3.3)."""

    def __init__(self, level: Rate = 0.25):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        # One uniform number decides both: pepper below level/2, salt from there to level.
        u = draws.uniform("noise", (x.shape[0], 1, *x.shape[2:]))
        return torch.where(u < self.level, (u >= self.level / 2).to(x.dtype), x)


class Blocks:
    """Sets one rectangle at a random position to 0 in all channels. level: its share of the image's area.

    Its sides are sqrt(level) times those of the image, rounded, and at least one pixel. It is a cuboid of volumes, and
    an interval of waves, with the same share.
    """

    def __init__(self, level: Rate = 0.25):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        sides = x.shape[2:]
        covered = torch.ones_like(x[:, :1], dtype=torch.bool)
        for axis, position in enumerate(draws.uniform("noise", (x.shape[0], len(sides))).unbind(1)):
            along = self._covered(position, sides[axis], self.level ** (1 / len(sides)))
            covered = covered & along.reshape(-1, *[1] * (axis + 1), sides[axis], *[1] * (len(sides) - axis - 1))
        return torch.where(covered, torch.zeros_like(x), x)

    def _covered(self, position: Tensor, side: int, share: float) -> Tensor:
        """[B, side] bool: the pixels that the rectangle covers along one axis; position: [B] in [0, 1)."""
        length = max(1, round(share * side)) if self.level else 0
        first = torch.floor(position * (side - length + 1))[:, None]
        pixels = torch.arange(side, device=position.device)
        return (pixels >= first) & (pixels < first + length)


class Blur:
    """A Gaussian filter with sigma = level pixels, not random. Its weights sum to one at the border too."""

    def __init__(self, level: Level = 1.0):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        sigma = max(self.level, 1e-3)  # the weights of neighbours are then exactly 0, so level 0 is the identity
        for axis, side in enumerate(x.shape[2:], start=2):
            radius = min(side - 1, math.ceil(6 * sigma))  # weights further away are below 2e-8
            offset = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
            weights = torch.exp(-0.5 * (offset / sigma) ** 2).view(1, 1, -1)
            along = x.movedim(axis, -1)
            total = F.conv1d(x.new_ones(1, 1, side), weights, padding=radius)
            filtered = F.conv1d(along.reshape(-1, 1, side), weights, padding=radius) / total
            x = filtered.view(along.shape).movedim(-1, axis)
        return x


class Poisson:
    """Shot noise, not clipped: level^2 times a Poisson number of photons with mean x / level^2.

    So the standard deviation of a white pixel is level. Channels are independent. Raises InputError for a level between
    0 and 0.05.
    """

    def __init__(self, level: Level = 0.5):
        if 0 < level < 0.05:
            raise InputError(
                f"noise.level={level}: between 0 and 0.05 a white pixel has more than 400 photons, too many to count; "
                "use noise=gaussian, which is nearly the same there, or noise.level=0"
            )
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        if self.level == 0:
            return x
        u = draws.uniform("noise", x.shape)
        # In parts, because a test set of 10,000 images at once would take gigabytes.
        return torch.cat([self._from_uniform(*part) for part in zip(x.split(500), u.split(500), strict=True)])

    def _from_uniform(self, x: Tensor, u: Tensor) -> Tensor:
        white = 1 / self.level**2  # mean photons of a white pixel
        # Uniform numbers lie on a grid from 0, where the count is 0 for every rate: shift them by half a grid step.
        u = u.double() + torch.finfo(u.dtype).eps / 4
        rate = x.double().clamp(min=0) * white
        # The inverse CDF: the number of counts whose CDF is at most u.
        mass = cdf = torch.exp(-rate)
        count = (cdf <= u).double()
        for k in range(1, math.ceil(white + 8 * math.sqrt(white) + 10)):
            mass = mass * rate / k
            cdf = cdf + mass
            count = count + (cdf <= u)
        return (count / white).to(x.dtype)
