"""What a model is given: the shape of a data set, its splits, and a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.draws import Draws


class Shapes(NamedTuple):
    """What a data set looks like: image = (channels, height, width); classes = 0 where there are no labels."""

    image: tuple[int, int, int]
    classes: int = 0


class Split(NamedTuple):
    """x: [N, C, H, W], uint8 (0 to 255) or float32 in [0, 1]; label: [N] int64, factors: [N, F] float32, or None."""

    x: Tensor
    label: Tensor | None = None
    factors: Tensor | None = None  # the known ones that made each image


@dataclass(frozen=True)
class Data:
    """A data set as it is trained and tested on: split, checked, and binarised where that is done once."""

    train: Split
    validation: Split
    test: Split
    shapes: Shapes
    grey_levels: int  # of a pixel: 256 for 8 bits; dequantisation fills the step between two of them
    binarize: str  # none, static (drawn once, already done), dynamic (drawn at every visit)
    dequantize: bool
    fingerprint: str  # a hash of every pixel, label and factor
    modes: Tensor | None = None  # [M, C, H, W] float32 on the CPU: the centres of the true density's modes, if known
    mode_sigma: float | None = None  # their standard deviation, the same in each dimension

    def observe(self, x: Tensor, draws: Draws) -> Tensor:
        """Stored images to what a model sees: float in [0, 1], [B, C, H, W]."""
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        if self.binarize == "dynamic":
            return (draws.uniform("binarize", x.shape) < x).to(x.dtype)
        if self.dequantize:
            step = draws.uniform("dequantize", x.shape)
            return (x * (self.grey_levels - 1) + step) / self.grey_levels
        return x


class Batch(NamedTuple):
    """x: [B, C, H, W] in [0, 1], the target; input: x corrupted, what an encoder reads; label: [B] int64; conditions.

    In training also example: [B] int64, which training examples these are; step: 0-dim int64, how many came before.
    """

    x: Tensor
    input: Tensor
    label: Tensor | None = None
    conditions: Tensor | None = None
    example: Tensor | None = None
    step: Tensor | None = None
