"""p(x|z): maps raw decoder output to an observation. log_prob: nats, summed over an image, all constants included."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import InputError, Observation, Positive, UnavailableError, UnusedIf
from bench.draws import Draws

MeanActivation = Literal["sigmoid", "identity"]


def _mean(raw: Tensor, activation: MeanActivation) -> Tensor:
    return torch.sigmoid(raw) if activation == "sigmoid" else raw


def _check_log_odds(activation: MeanActivation) -> None:
    """Raises InputError unless the activation is the sigmoid of log-odds."""
    if activation != "sigmoid":
        raise InputError(
            f"likelihood.mean_activation={activation}: a (continuous) Bernoulli reads log-odds, so it must be sigmoid"
        )


@dataclass(frozen=True)
class BernoulliObservation:
    """Independent pixels that are 1 with probability sigmoid(logits); logits: [B, C, H, W]."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(self.logits, x, reduction="none").flatten(1).sum(1)

    def sample(self, draws: Draws) -> Tensor:
        return (draws.uniform("pixels", self.logits.shape) < self.mean).to(self.logits.dtype)


# Logits below this use Taylor series, because the closed forms of a continuous Bernoulli cancel near 0.
_SMALL_LOGIT = 0.25


@dataclass(frozen=True)
class ContinuousBernoulliObservation:
    """Independent pixels in [0, 1] with density e^(l (x - 1/2)) (l/2) / sinh(l/2) for logits l: [B, C, H, W].

    This equals C(l) s(l)^x (1 - s(l))^(1 - x) with s = sigmoid and C = l / tanh(l/2) (Loaiza-Ganem & Cunningham 2019).
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """1/2 + 1 / (2 tanh(l/2)) - 1/l; this is not sigmoid(l)."""
        small, near, far = self._split()
        series = near / 12 - near**3 / 720 + near**5 / 30240
        return 0.5 + torch.where(small, series, 0.5 / torch.tanh(far / 2) - 1 / far)

    def log_prob(self, x: Tensor) -> Tensor:
        small, near, far = self._split()
        steep = far.abs()
        # log(sinh(l/2) / (l/2))
        series = near**2 / 24 - near**4 / 2880 + near**6 / 181440
        normaliser = torch.where(small, series, steep / 2 + torch.log(-torch.expm1(-steep)) - torch.log(steep))
        return (self.logits * (x - 0.5) - normaliser).flatten(1).sum(1)

    def sample(self, draws: Draws) -> Tensor:
        # The inverse CDF for l < 0 is log(1 - u (1 - e^-|l|)) / -|l|; a density with l > 0 is its mirror image.
        steep = self.logits.abs().clamp(min=1e-6)
        falling = torch.log1p(draws.uniform("pixels", self.logits.shape) * torch.expm1(-steep)) / -steep
        return torch.where(self.logits > 0, 1 - falling, falling).clamp(0, 1)

    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        """(mask of the logits that use the series, those logits or else 0, the other logits or else 1).

        The fill values keep the gradients of the branch that is not used finite.
        """
        small = self.logits.abs() < _SMALL_LOGIT
        return small, self.logits.masked_fill(~small, 0), self.logits.masked_fill(small, 1)


@dataclass(frozen=True)
class GaussianObservation:
    """Independent pixels, N(mean, sigma^2); mean: [B, C, H, W], log_sigma: broadcastable to it."""

    mean: Tensor
    log_sigma: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        standardised = (x - self.mean) * torch.exp(-self.log_sigma)
        return -(0.5 * standardised**2 + self.log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def sample(self, draws: Draws) -> Tensor:
        return self.mean + torch.exp(self.log_sigma) * draws.normal("pixels", self.mean.shape)


@dataclass(frozen=True)
class PointObservation:
    """The output of a decoder without a likelihood, such as the generator of a GAN; mean: [B, C, H, W]."""

    mean: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        raise UnavailableError("the model has no likelihood: its output is an image, not a distribution")

    def sample(self, draws: Draws) -> Tensor:
        return self.mean


@dataclass(frozen=True)
class LaplaceObservation:
    """Independent pixels with density e^(-|x - mean| / scale) / (2 scale); mean: [B, C, H, W]."""

    mean: Tensor
    scale: float

    def log_prob(self, x: Tensor) -> Tensor:
        return -((x - self.mean).abs() / self.scale + math.log(2 * self.scale)).flatten(1).sum(1)

    def sample(self, draws: Draws) -> Tensor:
        # One number gives the side and, by the inverse CDF, the distance: log(1 - u), because u can be 0 but not 1.
        u = 2 * draws.uniform("pixels", self.mean.shape)
        side = u.floor()
        return self.mean - self.scale * (2 * side - 1) * torch.log1p(side - u)


FLOOR_TOLERANCE = 1.05  # a sigma below this multiple of its floor counts as being at the floor


class Likelihood(nn.Module, ABC):
    """Maps raw decoder output [B, *raw_shape(image)] to an observation of images [B, C, H, W]."""

    learned: bool = False  # whether it has a learned sigma
    floor: float | None = None  # lower bound of a learned sigma

    @abstractmethod
    def forward(self, raw: Tensor) -> Observation: ...

    def raw_shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the raw decoder output for images of this shape, both (channels, height, width)."""
        return image

    def at_floor(self, observation: Any) -> Tensor:
        """[B]: the share of the pixels of each image whose learned sigma is at its floor; 0 if there is no floor."""
        if self.floor is None:
            return observation.mean.new_zeros(len(observation.mean))
        sigma = observation.log_sigma.exp().expand_as(observation.mean)
        return (sigma < FLOOR_TOLERANCE * self.floor).to(sigma.dtype).flatten(1).mean(1)

    @abstractmethod
    def measure(self, binary: bool) -> str:
        """What exp(log_prob) is for binary or for grey pixels: a "density", a "mass", or "unnormalised"."""


class Bernoulli(Likelihood):
    """Cross-entropy: a probability mass for binary pixels, not normalised for grey ones."""

    def __init__(self, mean_activation: MeanActivation = "sigmoid"):
        super().__init__()
        _check_log_odds(mean_activation)

    def forward(self, raw: Tensor) -> Observation:
        return BernoulliObservation(raw)

    def measure(self, binary: bool) -> str:
        return "mass" if binary else "unnormalised"


class ContinuousBernoulli(Likelihood):
    """Cross-entropy, normalised to a density on [0, 1] (Loaiza-Ganem & Cunningham 2019)."""

    def __init__(self, mean_activation: MeanActivation = "sigmoid"):
        super().__init__()
        _check_log_odds(mean_activation)

    def forward(self, raw: Tensor) -> Observation:
        return ContinuousBernoulliObservation(raw)

    def measure(self, binary: bool) -> str:
        return "density"


class Gaussian(Likelihood):
    """sigma = 1 is half the squared error plus a constant. learned: one sigma for all pixels, initially sigma.

    The parameter is log(sigma - sigma_floor) / 10, because optimizers change a parameter by about the learning rate per
    step, so without the factor it would take thousands of steps from 1 to 0.1. The floor keeps the density finite for
    images that are reconstructed exactly.
    """

    log_sigma: Tensor

    def __init__(
        self,
        sigma: Positive = 1.0,
        learned: bool = False,
        sigma_floor: Annotated[Positive, UnusedIf(learned=False)] = 1e-3,
        mean_activation: MeanActivation = "sigmoid",
    ):
        super().__init__()
        self.mean_activation: MeanActivation = mean_activation
        self.learned, self.floor = learned, sigma_floor if learned else None
        if learned and sigma <= sigma_floor:
            raise InputError(
                f"likelihood.sigma={sigma}, the initial value of a learned sigma, must be above likelihood.sigma_floor="
                f"{sigma_floor}: choose a larger sigma or a smaller floor"
            )
        if learned:
            self.tenth_log_sigma = nn.Parameter(torch.tensor(math.log(sigma - sigma_floor) / 10))
        else:
            self.register_buffer("log_sigma", torch.tensor(math.log(sigma)))

    def forward(self, raw: Tensor) -> Observation:
        if self.floor is None:
            log_sigma = self.log_sigma
        else:
            log_sigma = torch.log(self.floor + torch.exp(10 * self.tenth_log_sigma))
        return GaussianObservation(_mean(raw, self.mean_activation), log_sigma)

    def measure(self, binary: bool) -> str:
        return "density"


class GaussianPixelwise(Likelihood):
    """The decoder outputs C channels of means, then C channels of raw sigmas (Kingma & Welling 2014, appendix C.2).

    sigma = sigma_floor + softplus(raw). The floor keeps the density of a constant pixel finite.
    """

    learned = True

    def __init__(self, sigma_floor: Positive = 0.01, mean_activation: MeanActivation = "sigmoid"):
        super().__init__()
        self.floor: float = sigma_floor
        self.mean_activation: MeanActivation = mean_activation

    def raw_shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        channels, height, width = image
        return (2 * channels, height, width)

    def forward(self, raw: Tensor) -> Observation:
        mean, sigma = raw.chunk(2, dim=1)
        return GaussianObservation(_mean(mean, self.mean_activation), torch.log(self.floor + F.softplus(sigma)))

    def measure(self, binary: bool) -> str:
        return "density"


class Laplace(Likelihood):
    """scale = 1 is the absolute error plus a constant."""

    def __init__(self, scale: Positive = 1.0, mean_activation: MeanActivation = "sigmoid"):
        super().__init__()
        self.scale = scale
        self.mean_activation: MeanActivation = mean_activation

    def forward(self, raw: Tensor) -> Observation:
        return LaplaceObservation(_mean(raw, self.mean_activation), self.scale)

    def measure(self, binary: bool) -> str:
        return "density"
