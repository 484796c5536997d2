"""The types that everything shares: what a model is, what it is given and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

from pydantic import Field
from torch import Tensor, nn

from bench.data import Batch, Data
from bench.draws import Draws

# Annotations that a constructor gives its options; they are checked before anything runs.
Count = Annotated[int, Field(ge=1, strict=True)]
Whole = Annotated[int, Field(ge=0, strict=True)]
Level = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class UnusedIf:
    """Marks an option, in Annotated, as one without effect where other options of its group have certain values.

    UnusedIf(learned=False, kind=("a", "b")): where learned is False and kind is one of two. UnusedIf(): always.
    """

    def __init__(self, **options: Any):
        self.options = {name: value if isinstance(value, tuple) else (value,) for name, value in options.items()}

    def holds(self, options: Mapping[str, Any]) -> bool:
        """Whether the option has no effect beside these options."""
        return all(name in options and options[name] in values for name, values in self.options.items())


class InputError(ValueError):
    """Something a user can mend: the message says what was wrong, what was expected and what to do."""


class SkipError(InputError):
    """A combination that makes no sense: an error alone, a skipped row with its reason in a sweep."""


class UnavailableError(Exception):
    """A model cannot answer this; the message is the reason that stands beside n/a."""


@dataclass(frozen=True)
class Player:
    """A name and the submodules it updates, by prefix; "" is the whole model. Ownership may overlap."""

    name: str
    owns: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Phase:
    """A share of the budget, and its turns: the players updated from one forward pass, in order."""

    turns: tuple[tuple[str, ...], ...]
    share: float = 1.0


class Losses(NamedTuple):
    """One scalar a player to descend, scalars to log, and, where a player may have to wait, a bool scalar gate."""

    players: dict[str, Tensor]
    log: dict[str, Tensor] = {}
    gates: dict[str, Tensor] = {}


class Observation(Protocol):
    """p(x|z) at a decoder's output. log_prob: [B] nats, summed over an image, all constants included."""

    @property
    def mean(self) -> Tensor: ...
    def log_prob(self, x: Tensor) -> Tensor: ...
    def sample(self, draws: Draws) -> Tensor: ...


class Posterior(Protocol):
    """q(z|x). mean: [B, latent_dim]; log_prob: [B] nats."""

    @property
    def mean(self) -> Tensor: ...
    def sample(self, draws: Draws) -> Tensor: ...
    def log_prob(self, z: Tensor) -> Tensor: ...


class Corruption(Protocol):
    """q(x~|x): x [B, C, H, W] -> x~ of the same shape. level: a sigma or a rate."""

    level: float

    def __call__(self, x: Tensor, draws: Draws) -> Tensor: ...


class Model(nn.Module, ABC):
    """An objective: which players there are, in which turns they move, and what each of them descends.

    A subclass writes `losses`, and of the other methods those it can answer. Its constructor takes the parts it uses
    by name (shapes, network, likelihood, prior, adversarial) and its own options, with annotations.
    """

    players: tuple[Player, ...] = (Player("model"),)
    phases: tuple[Phase, ...] = ()  # empty: one phase, in which all players move in one turn
    latent_dim: int
    conditional: bool = False  # whether encoder and decoder read labels
    samples_by_label: bool = False  # whether samples are of the classes asked for
    reads_noise: ClassVar[bool] = True  # whether training reads batch.input
    unused_settings: ClassVar[tuple[str, ...]] = ()  # of its parts, such as network.dropout
    needs_noise: bool = False  # whether without noise its loss says nothing
    # What must be said beside metrics, by what they ask for: mean (of the posterior), encode, posterior (its density),
    # decode, likelihood, prior, sample.
    notes: dict[str, str] = {}

    @abstractmethod
    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses: ...

    @classmethod
    def own_balance(cls, **options: Any) -> str:
        """The policy that adversarial.balance=own stands for. options: those of the constructor."""
        return "always"

    def fit(self, data: Data, draws: Draws) -> None:
        """The closed-form part of training, if there is one, from data.train; before the rest of it."""

    def fit_after(self, data: Data, draws: Draws) -> None:
        """What is fitted in closed form once the rest has been trained, if anything; in evaluation mode."""

    def encode(self, batch: Batch) -> Posterior:
        """q(z|x), read from batch.input (and batch.label, where the model is conditional)."""
        raise UnavailableError(f"{type(self).__name__} has no encoder")

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        """p(x|z) for z [B, latent_dim]; batch supplies the condition of a conditional model."""
        raise UnavailableError(f"{type(self).__name__} has no decoder")

    def prior_codes(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        """Codes [n, latent_dim] drawn from the prior: of the same draws, those that `sample` turns into images."""
        prior: Any = getattr(self, "prior", None)
        if prior is None or not hasattr(self, "latent_dim"):
            raise UnavailableError(f"{type(self).__name__} has no prior to draw codes from")
        return prior.sample((n, self.latent_dim), draws)

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        """Mean images [n, C, H, W] of n draws from the prior; label: [n], read where samples_by_label says so."""
        raise UnavailableError(f"{type(self).__name__} has no prior to draw codes from")
