"""What do gradients do?

Norms are of the gradients of the player that moves first, means over the first 20 steps: the whole of an autoencoder or
VAE, the discriminator of a GAN, the encoder of a VAE/GAN. The others are taken at the trained weights.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric
from bench.metrics.neighbours import ratio_of_pairs


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


def _as_predicted(step: Any) -> Value:
    """The decrease of the loss over the predicted one."""
    return Value((step.actual / step.predicted).item(), details={"step_size": step.size.item()})


@metric(better="closest", ideal=1.0)
def first_order_ratio(small_step: Any) -> Value:
    """By how much a step of gradient descent lowers the loss, over what the expansion to first order says.

    L(w) - L(w - s g) over s |g|^2, g the gradient of the model's own loss L of test images at the trained weights w
    (Nocedal & Wright 2006, theorem 2.1); s is such that the prediction is a ten thousandth of |L|.
    """
    return _as_predicted(small_step)


@metric(better=None, ideal=1.0)
def first_order_ratio_large(large_step: Any) -> Value:
    """`first_order_ratio` of a step that is predicted to lower the loss by |L|: below 0 it makes the loss larger."""
    return _as_predicted(large_step)


@metric(better=None)
def output_signal(output_gradient: Tensor, output_error: Tensor) -> Value:
    """How much of an image's error the decoder's last layer hears: |d(-log p(x|z)) / d raw| over |x - mean|.

    raw is what the likelihood reads, z the posterior mean; both are sums over an image, [S]. 1 for a Bernoulli, whose
    logarithm undoes the sigmoid's slope m (1 - m) (Bishop 2006, section 5.2); for a Gaussian of sigma = 1 around a
    sigmoid m the mean of m (1 - m) weighted by the error, at most 1/4.
    """
    return ratio_of_pairs(output_gradient, output_error)
