"""Distances between codes and a prior, and Jacobian norms of encoders: pure functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp, vmap

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel widths; the kernel is a sum over them


def mmd(codes: Tensor, prior_samples: Tensor) -> Tensor:
    """Scalar: unbiased estimate of the squared maximum mean discrepancy between codes [n, D] and prior samples [m, D].

    Inverse multiquadratic kernels C / (C + |a - b|^2) with C = 2 D sigma^2 s, summed over SCALES s (Tolstikhin et al.
    2018, section 4, and their code). sigma^2 is the mean variance of the prior samples, so that codes cannot change the
    kernel width.
    """
    width = 2 * prior_samples.var(0).sum()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squared = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)
        return torch.stack([(s * width / (s * width + squared)).sum() for s in SCALES]).sum()

    def within(a: Tensor) -> Tensor:
        return (kernel(a, a) - len(a) * len(SCALES)) / (len(a) * (len(a) - 1))  # without k(a, a) = 1

    cross = kernel(codes, prior_samples) / (len(codes) * len(prior_samples))
    return within(codes) + within(prior_samples) - 2 * cross


# --- Squared Frobenius norms [B] of the Jacobians of an encoder from images [B, ...] to codes [B, D]


def jacobian_exact(encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """|J|_F^2 at each x, by one backward pass per latent."""
    codes, pullback = vjp(encode, x)[:2]
    basis = torch.eye(codes.shape[1], dtype=x.dtype, device=x.device)[:, None].expand(-1, *codes.shape)
    # In chunks of latents, because each latent needs memory for the gradients of all activations.
    return vmap(lambda v: pullback(v)[0].square().flatten(1).sum(1), chunk_size=16)(basis).sum(0)


def jacobian_hutchinson(encode: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """Unbiased estimate of |J|_F^2 at each x: |v'J|^2 for random v [B, D], mean 0, covariance I (Hutchinson 1990)."""
    return vjp(encode, x)[1](v)[0].square().flatten(1).sum(1)


def jacobian_layer(weight: Tensor, slope: Tensor) -> Tensor:
    """|J|_F^2 of one layer s(W x + b): sum_j s'_j^2 sum_i W_ji^2 (Rifai et al. 2011, section 3.2).

    weight: [D, P]; slope: the activation's derivative at each x, [B, D].
    """
    return slope.square() @ weight.square().sum(1)
