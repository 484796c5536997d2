"""A metric: a pure function. The names of its parameters request what it is computed from."""

from __future__ import annotations

from torch import Tensor

from bench.metrics import metric


@metric(better="lower", ideal=0.0)
def brightness_error(x: Tensor, x_mean: Tensor) -> Tensor:
    """How far the mean brightness of an image [N, C, H, W] is from that of its reconstruction, [N]."""
    return (x - x_mean).flatten(1).mean(1).abs()
