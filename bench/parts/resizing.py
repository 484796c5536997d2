"""Bicubic interpolation of sources to the size of images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from bench.core import SkipError
from bench.data import Shapes


def check_resizable(shapes: Shapes) -> None:
    """Raises SkipError unless x and sources are images with equally many channels."""
    if not len(shapes.input) == len(shapes.x) == 3:
        raise SkipError(f"bicubic interpolation is for images, not for sources {shapes.input} and examples {shapes.x}")
    if shapes.input[0] != shapes.x[0]:
        raise SkipError(f"sources {shapes.input} and images {shapes.x} differ in channels: resizing is not enough")


def bicubic(source: Tensor, sides: tuple[int, ...]) -> Tensor:
    """[B, C, h, w] -> [B, C, *sides], clipped to [0, 1]: Keys 1981, a = -1/2."""
    # Only with antialias does PyTorch have this a, otherwise -3/4. It smooths nothing where images become larger.
    return F.interpolate(source, sides, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
