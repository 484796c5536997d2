"""q(x~|x): what the model reads in training, while its target stays clean. level is a sigma or a rate."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from bench.core import InputError, Level, Rate, UnusedIf
from bench.draws import Draws


class Identity:
    """No corruption. It takes a level, as the others do, and pays no heed to it."""

    def __init__(self, level: Annotated[Level, UnusedIf()] = 0.0):
        self.level = 0.0

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return x


class Gaussian:
    """x + level * epsilon, not clipped: clipping would bias the mean of black and white pixels."""

    def __init__(self, level: Level = 0.5):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return x + self.level * draws.normal("noise", x.shape)


class Masking:
    """Each pixel set to 0 with probability level, all its channels together (Vincent et al. 2010, section 3.3)."""

    def __init__(self, level: Rate = 0.25):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        lost = draws.uniform("noise", (x.shape[0], 1, *x.shape[2:])) < self.level
        return torch.where(lost, torch.zeros_like(x), x)


class SaltAndPepper:
    """Each pixel set to 0 or to 1, evenly, with probability level (Vincent et al. 2010, section 3.3)."""

    def __init__(self, level: Rate = 0.25):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        # One uniform number decides both: below level/2 pepper, from there to level salt.
        u = draws.uniform("noise", (x.shape[0], 1, *x.shape[2:]))
        return torch.where(u < self.level, (u >= self.level / 2).to(x.dtype), x)


class Blocks:
    """One rectangle set to 0 in all channels: the share `level` of the area, anywhere inside the image.

    It has the image's proportions: its sides are sqrt(level) of the image's, rounded, and at least one pixel.
    """

    def __init__(self, level: Rate = 0.25):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        place = draws.uniform("noise", (x.shape[0], 2))
        rows, columns = (self._covered(place[:, axis], x.shape[2 + axis]) for axis in (0, 1))
        return torch.where(rows[:, None, :, None] & columns[:, None, None, :], torch.zeros_like(x), x)

    def _covered(self, place: Tensor, side: int) -> Tensor:
        """[B, side] bool: the pixels of a side that the rectangle covers; place: [B] in [0, 1)."""
        length = max(1, round(math.sqrt(self.level) * side)) if self.level else 0
        first = torch.floor(place * (side - length + 1))[:, None]
        pixels = torch.arange(side, device=place.device)
        return (pixels >= first) & (pixels < first + length)


class Blur:
    """A Gaussian filter of sigma = level pixels, without randomness; its weights sum to one at the border too."""

    def __init__(self, level: Level = 1.0):
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        rows, columns = (self._weights(side, x) for side in x.shape[2:])
        return rows @ x @ columns.T

    def _weights(self, side: int, like: Tensor) -> Tensor:
        """[side, side], a row for each pixel of the answer."""
        pixels = torch.arange(side, dtype=like.dtype, device=like.device)
        # Below a sigma of 0.001 the neighbours' weights are 0 exactly, so that is the identity, as level 0 must be.
        return torch.softmax(-0.5 * ((pixels[:, None] - pixels) / max(self.level, 1e-3)) ** 2, dim=1)


class Poisson:
    """Shot noise: the share of 1 / level^2 photons that arrive, so that a white pixel's sigma is level. Not clipped.

    Each channel counts its own. Raises InputError for a level between 0 and 0.05.
    """

    def __init__(self, level: Level = 0.5):
        if 0 < level < 0.05:
            raise InputError(
                f"noise.level={level}: below 0.05 a white pixel is more than 400 photons, too many to count; "
                "use noise=gaussian, which is nearly the same there, or level 0"
            )
        self.level = level

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        if self.level == 0:
            return x
        u = draws.uniform("noise", x.shape)
        # A whole test set at once would take gigabytes.
        return torch.cat([self._counted(*part) for part in zip(x.split(500), u.split(500), strict=True)])

    def _counted(self, x: Tensor, u: Tensor) -> Tensor:
        white = 1 / self.level**2  # photons
        # They lie on a grid from 0, here moved by half a step: 0 itself would be "no photon" however many are due.
        u = u.double() + torch.finfo(u.dtype).eps / 4
        rate = x.double().clamp(min=0) * white
        # The inverse CDF: as many photons as there are counts whose CDF lies at u or below.
        mass = cdf = torch.exp(-rate)
        count = (cdf <= u).double()
        for k in range(1, math.ceil(white + 8 * math.sqrt(white) + 10)):
            mass = mass * rate / k
            cdf = cdf + mass
            count = count + (cdf <= u)
        return (count / white).to(x.dtype)
