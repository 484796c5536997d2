"""How probable does the model find an image? In nats an image, at one code drawn from the posterior."""

from __future__ import annotations

from torch import Tensor

from bench.metrics import metric


@metric(better="higher", unit="nats")
def elbo(log_likelihood: Tensor, divergence: Tensor) -> Tensor:
    """log p(x|z) - KL(q(z|x) || p(z)), [N], z ~ q(z|x): at most log p(x) in expectation (Kingma & Welling 2014, eq. 3).

    beta = 1, whatever beta a model was trained with.
    """
    return log_likelihood - divergence


@metric(better=None, unit="nats")
def kl(divergence: Tensor) -> Tensor:
    """KL(q(z|x) || p(z)), [N]. Neither way is better: at 0 the code says nothing of the image."""
    return divergence


@metric(better="lower", unit="nats")
def reconstruction_nll(log_likelihood: Tensor) -> Tensor:
    """-log p(x|z), [N], z ~ q(z|x)."""
    return -log_likelihood
