"""What do gradients do?

Gradient norms are means over the first 20 steps, for the player that is updated first: all of an autoencoder or VAE,
the discriminator of a GAN, the encoder of a VAE/GAN. The other metrics are taken at the trained weights.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric
from bench.metrics.neighbours import ratio_of_pairs


@metric(better=None)
def gradient_norm_first(gradient_norm_first: float) -> float:
    """Norm for the weights of the first layer."""
    return gradient_norm_first


@metric(better=None)
def gradient_norm_last(gradient_norm_last: float) -> float:
    """Norm for the weights of the last layer."""
    return gradient_norm_last


@metric(better=None)
def gradient_ratio(gradient_norm_first: float, gradient_norm_last: float) -> float:
    """The first layer's norm over the last layer's: near 0 if gradients vanish on their way back."""
    if gradient_norm_last == 0:
        raise UnavailableError("the last layer received no gradient")
    return gradient_norm_first / gradient_norm_last


def _as_predicted(step: Any) -> Value:
    """The decrease of the loss over the predicted one. Raises UnavailableError if no decrease is predicted."""
    if step.predicted == 0 or step.size.isinf():
        raise UnavailableError("the loss has no slope at the trained weights, or is 0")
    return Value((step.actual / step.predicted).item(), details={"step_size": step.size.item()})


@metric(better="closest", ideal=1.0)
def first_order_ratio(small_step: Any) -> Value:
    """The decrease of the loss in a step of gradient descent, over the one that the first-order expansion predicts.

    L(w) - L(w - s g) over s |g|^2, g the gradient of the model's own loss L on test images at the trained weights w
    (Nocedal & Wright 2006, theorem 2.1); s is such that the prediction is |L| / 10,000.
    """
    return _as_predicted(small_step)


@metric(better=None, ideal=1.0)
def first_order_ratio_large(large_step: Any) -> Value:
    """`first_order_ratio` of a step that is predicted to lower the loss by |L|. Below 0 the loss rises."""
    return _as_predicted(large_step)


@metric(better=None)
def output_signal(output_gradient: Tensor, output_error: Tensor) -> Value:
    """The gradient at the decoder's output relative to the image's error: |d(-log p(x|z)) / d raw| over |x - mean|.

    raw is the likelihood's input, z the posterior mean; both are sums over an image, [S]. For a Bernoulli it is 1: the
    logarithm cancels the sigmoid's slope m (1 - m) (Bishop 2006, section 5.2). For a Gaussian of sigma = 1 around a
    sigmoid m it is the mean of m (1 - m) weighted by the error, at most 1/4.
    """
    return ratio_of_pairs(output_gradient, output_error, "all images are reproduced exactly: there is no error")
