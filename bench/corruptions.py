"""q(x~|x): what the model reads in training, while its target stays clean. level is a sigma or a rate."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import Level, Rate
from bench.draws import Draws


class Identity:
    """No corruption. It takes a level, as the others do, and pays no heed to it."""

    def __init__(self, level: Level = 0.0):
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
