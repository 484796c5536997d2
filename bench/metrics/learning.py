"""How did training begin? Norms of the gradients of the player that moves first, means over the first 20 steps.

That is the whole of an autoencoder or VAE, the discriminator of a GAN, and the encoder of a VAE/GAN.
"""

from __future__ import annotations

from bench.core import UnavailableError
from bench.metrics import metric


@metric(better=None)
def gradient_norm_first(gradient_norm_first: float) -> float:
    """Of the weights of its first layer."""
    return gradient_norm_first


@metric(better=None)
def gradient_norm_last(gradient_norm_last: float) -> float:
    """Of the weights of its last layer."""
    return gradient_norm_last


@metric(better=None)
def gradient_ratio(gradient_norm_first: float, gradient_norm_last: float) -> float:
    """The first layer's over the last one's: near 0, gradients vanish on their way back."""
    if gradient_norm_last == 0:
        raise UnavailableError("the last layer heard nothing of the loss")
    return gradient_norm_first / gradient_norm_last
