"""p(z): densities, samples, and the divergence of a posterior from the prior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.core import Count, Positive, Posterior, SkipError, UnavailableError
from bench.draws import Draws
from bench.parts.posteriors import DiagonalGaussian

Width = Annotated[float, Field(ge=1e-3, allow_inf_nan=False)]  # bounded below, because covariances are inverted


class Prior(nn.Module, ABC):
    """A distribution of codes [n, latent_dim]. log_prob and kl: [n] nats.

    dimensions: the number of latents that it is defined for, None for any; components: the number of parts that labels
    can select, or 0; has_full_support: whether it has a density that is positive everywhere.
    """

    dimensions: int | None = None
    components: int = 0
    has_full_support: bool = True

    @abstractmethod
    def sample(self, shape: tuple[int, ...], draws: Draws, label: Tensor | None = None) -> Tensor:
        """Codes of the shape [n, latent_dim]. label: [n], the component of each code; `components` means any."""

    def log_prob(self, z: Tensor) -> Tensor:
        raise UnavailableError("the prior has no density, because it lies on a curve")

    def component(self, z: Tensor) -> Tensor:
        """[n] int64: the most probable component of each code."""
        raise UnavailableError("the prior has no components")

    def kl(self, q: Posterior, z: Tensor) -> Tensor:
        """KL(q || p), estimated from one sample z ~ q."""
        if not self.has_full_support:
            raise UnavailableError("the prior does not have full support, so KL(q(z|x) || p(z)) is infinite")
        return q.log_prob(z) - self.log_prob(z)

    def checked(self, latent_dim: int, *, needs_kl: bool = False, classes: int | None = None) -> Self:
        """Returns self if the model can use this prior, else raises SkipError.

        needs_kl: the model computes a KL; classes: the model needs one component for each of so many classes.
        """
        if self.dimensions not in (None, latent_dim):
            raise SkipError(
                f"this prior has {self.dimensions} dimensions, but model.latent_dim is {latent_dim}: "
                f"set model.latent_dim={self.dimensions} or prior=normal"
            )
        if needs_kl and not self.has_full_support:
            raise SkipError(
                "this prior does not have full support, so KL(q(z|x) || p(z)) is infinite: choose prior=normal or "
                "gaussian_mixture, or a model that only needs samples of the prior, such as aae or wae_mmd"
            )
        if classes == 0:
            raise SkipError(
                "the model needs one component of the prior for each class, but this data set has no labels: choose a "
                "data set with labels, or a model that does not use them"
            )
        if classes is not None and (not self.components or self.components != classes):
            raise SkipError(
                f"each of the {classes} classes needs a component of the prior, but this prior has {self.components}: "
                f"choose prior=gaussian_mixture or swiss_roll with prior.components={classes}"
            )
        return self


class Normal(Prior):
    """N(0, I)."""

    def sample(self, shape: tuple[int, ...], draws: Draws, label: Tensor | None = None) -> Tensor:
        return draws.normal("prior", shape)

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)

    def kl(self, q: Posterior, z: Tensor) -> Tensor:
        """In closed form for a Gaussian q (Kingma & Welling 2014, appendix B)."""
        if isinstance(q, DiagonalGaussian):
            return 0.5 * (q.mean**2 + q.log_variance.exp() - q.log_variance - 1).sum(-1)
        return super().kl(q, z)


class Uniform(Prior):
    """Uniform on the cube [-half_width, half_width]^latent_dim."""

    has_full_support = False

    def __init__(self, half_width: Positive = 1.0):
        super().__init__()
        self.half_width = half_width

    def sample(self, shape: tuple[int, ...], draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.half_width * (2 * draws.uniform("prior", shape) - 1)

    def log_prob(self, z: Tensor) -> Tensor:
        inside = (z.abs() <= self.half_width).all(-1)
        return torch.where(inside, -z.shape[-1] * math.log(2 * self.half_width), -math.inf)


class GaussianMixture(Prior):
    """sum_k w_k N(mean_k, F_k F_k'): mean [K, D], factor [K, D, D], weight [K]."""

    mean: Tensor
    factor: Tensor
    inverse: Tensor  # of each factor
    weight: Tensor

    def __init__(self, mean: Tensor, factor: Tensor, weight: Tensor):
        super().__init__()
        self.components, self.dimensions = mean.shape
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)
        self.register_buffer("inverse", torch.linalg.inv(factor))
        self.register_buffer("weight", weight)

    def sample(self, shape: tuple[int, ...], draws: Draws, label: Tensor | None = None) -> Tensor:
        u = draws.uniform("component", (shape[0], 1))
        k = (u >= self.weight.cumsum(0)[:-1]).sum(1)
        if label is not None:
            k = torch.where(label == self.components, k, label)
        return self.mean[k] + (self.factor[k] @ draws.normal("prior", shape)[:, :, None]).squeeze(-1)

    def joint(self, z: Tensor) -> Tensor:
        """log(w_k N(z; mean_k, F_k F_k')), [n, K]."""
        whitened = (self.inverse @ (z[:, None] - self.mean)[..., None]).squeeze(-1)
        log_volume = torch.linalg.slogdet(self.inverse)[1] - 0.5 * z.shape[1] * math.log(2 * math.pi)
        return self.weight.log() + log_volume - 0.5 * whitened.square().sum(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.joint(z).logsumexp(1)

    def component(self, z: Tensor) -> Tensor:
        return self.joint(z).argmax(1)

    def fit(self, codes: Tensor, draws: Draws) -> None:
        """Fits the mixture to codes [N, D] by expectation maximisation (scikit-learn) with full covariances."""
        from sklearn import mixture  # slow to import, and needed only here

        seed = int(draws.uniform("expectation_maximisation", ()).item() * 2**31)
        fitted = mixture.GaussianMixture(self.components, random_state=seed).fit(codes.double().cpu().numpy())
        parameters = {
            "mean": fitted.means_,
            "factor": torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)),
            "inverse": torch.from_numpy(fitted.precisions_cholesky_).mT,
            "weight": fitted.weights_,
        }
        for name, value in parameters.items():
            getattr(self, name).copy_(torch.as_tensor(value))


def petals(components: Count = 10, radius: Positive = 1.4, along: Width = 0.5, across: Width = 0.1) -> Prior:
    """Gaussians on a circle in 2 dimensions, each an ellipse that points outwards. along, across: the standard
    deviations in this direction and perpendicular to it (Makhzani et al. 2016, figure 2; values from public code)."""
    angle = 2 * math.pi * torch.arange(components) / components
    outwards = torch.stack([angle.cos(), angle.sin()], 1)
    sideways = torch.stack([-angle.sin(), angle.cos()], 1)
    factor = torch.stack([along * outwards, across * sideways], 2)
    return GaussianMixture(radius * outwards, factor, torch.full((components,), 1 / components))


def unfitted_mixture(components: int, latent_dim: int) -> GaussianMixture:
    """A mixture of equal components N(0, I), to be fitted to codes."""
    eye = torch.eye(latent_dim).repeat(components, 1, 1)
    return GaussianMixture(torch.zeros(components, latent_dim), eye, torch.full((components,), 1 / components))


class SwissRoll(Prior):
    """A spiral in 2 dimensions with two turns around the origin (Makhzani et al. 2016, figure 4; public code).

    At t in [0, 1] the radius is `radius` sqrt(t) and the angle 4 pi sqrt(t), so that t ~ U[0, 1] is spread evenly along
    the curve. The components are equal intervals of t.
    """

    dimensions = 2
    has_full_support = False

    def __init__(self, components: Count = 10, radius: Positive = 3.0):
        super().__init__()
        self.components, self.radius = components, radius

    def curve(self, t: Tensor) -> Tensor:
        """The points [n, 2] at t [n]."""
        root = t.sqrt()
        return self.radius * root[:, None] * torch.stack([(4 * math.pi * root).cos(), (4 * math.pi * root).sin()], 1)

    def sample(self, shape: tuple[int, ...], draws: Draws, label: Tensor | None = None) -> Tensor:
        t = draws.uniform("prior", shape[:1])
        if label is not None:
            t = torch.where(label == self.components, t, (label + t) / self.components)
        return self.curve(t)

    def component(self, z: Tensor) -> Tensor:
        """The component of the nearest of 1,000 points of the curve in each component."""
        fine = 1000 * self.components
        t = (torch.arange(fine, device=z.device, dtype=z.dtype) + 0.5) / fine
        nearest = torch.cat([torch.cdist(part, self.curve(t)).argmin(1) for part in z.split(1000)])
        return nearest // 1000
