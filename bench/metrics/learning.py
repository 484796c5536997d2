"""How did training begin? Norms of the first player's gradients, means over the first steps."""

from __future__ import annotations

from bench.metrics import metric


@metric(better=None)
def gradient_norm_first(gradient_norm_first: float) -> float:
    """Of the weights of the first layer, an encoder's."""
    return gradient_norm_first


@metric(better=None)
def gradient_norm_last(gradient_norm_last: float) -> float:
    """Of the weights of the last layer, a decoder's."""
    return gradient_norm_last


@metric(better=None)
def gradient_ratio(gradient_norm_first: float, gradient_norm_last: float) -> float:
    """The first layer's over the last one's: near 0, gradients vanish on their way back."""
    return gradient_norm_first / gradient_norm_last
