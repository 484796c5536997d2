"""The types that everything shares: the interface of a model, its inputs and outputs, and the errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from pydantic import ConfigDict, Discriminator, Field, Tag, with_config
from torch import Tensor, nn
from typing_extensions import TypedDict  # Pydantic accepts that of typing from Python 3.12 on

from bench.data import KINDS, Batch, Data
from bench.draws import Draws
from bench.errors import InputError as InputError
from bench.errors import SkipError as SkipError
from bench.errors import UnavailableError as UnavailableError

# Types for the options of a constructor. Values are checked against them before anything runs.
MOST, DEEPEST = 2**31 - 1, 1000  # larger counts overflow; each layer takes time to build
Count = Annotated[int, Field(ge=1, le=MOST, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, le=MOST, strict=True)]
Depth = Annotated[int, Field(ge=1, le=DEEPEST, strict=True)]  # a number of layers
Level = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

# A weight that changes linearly in the first part of a phase, such as that of a KL divergence during its warm-up.
Ramp = TypedDict(  # `from` is a keyword of Python, so this cannot be a class
    "Ramp", {"from": Level, "to": Level, "over": Annotated[float, Field(gt=0, le=1)]}
)
with_config(ConfigDict(extra="forbid"))(Ramp)

# The type of an option that multiplies a loss: a number, or a `Ramp` such as {from: 0, to: 1, over: 0.2}.
Weight = Annotated[
    Annotated[Level, Tag("number")] | Annotated[Ramp, Tag("ramp")],
    Discriminator(lambda value: "ramp" if isinstance(value, Mapping) else "number"),
]


def weight_at(weight: Weight, batch: Batch) -> float | Tensor:
    """The value of a weight at this point of the phase; 0-dim if it is a ramp.

    A ramp changes linearly from `from` to `to` over the share `over` of the phase, and then stays at `to`. Outside
    training its value is `to`.
    """
    if not isinstance(weight, Mapping):
        return weight
    if batch.progress is None:
        return weight["to"]
    done = (batch.progress / weight["over"]).clamp(max=1)
    return (1 - done) * weight["from"] + done * weight["to"]


class UnusedIf:
    """Annotates an option that has no effect if other options of its group have certain values.

    UnusedIf(learned=False, kind=("a", "b")): if learned is False and kind is "a" or "b". UnusedIf(): always.
    """

    def __init__(self, **options: Any):
        self.options = {name: value if isinstance(value, tuple) else (value,) for name, value in options.items()}

    def holds(self, options: Mapping[str, Any]) -> bool:
        """Whether the option has no effect with these options of its group."""
        return all(name in options and options[name] in values for name, values in self.options.items())


@dataclass(frozen=True)
class Player:
    """The submodules that one optimizer updates, as prefixes; "" is the whole model. Players may share submodules.

    average: the decay of an exponential moving average of the parameters over steps. At the end of a phase, the
    averages replace the parameters of its players. 0: the parameters of the last step.
    """

    name: str
    owns: tuple[str, ...] = ("",)
    average: float = 0.0


@dataclass(frozen=True)
class Phase:
    """A part of training. Each turn names the players updated from one forward pass; share: relative, of the budget."""

    turns: tuple[tuple[str, ...], ...]
    share: float = 1.0


class Losses(NamedTuple):
    """The result of a forward pass, all scalars.

    players: the loss of each player; log: values to log; gates: bool, whether a player updates its parameters (default:
    it does).
    """

    players: dict[str, Tensor]
    log: dict[str, Tensor] = {}
    gates: dict[str, Tensor] = {}


class Observation(Protocol):
    """p(x|z), the output of a decoder. log_prob: [B] nats, summed over an image, all constants included."""

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
    """q(x~|x): maps x [B, C, *sides] to x~ of the same shape. level: a standard deviation or a rate."""

    level: float

    def __call__(self, x: Tensor, draws: Draws) -> Tensor: ...


@runtime_checkable
class Recorded(Protocol):
    """A corruption that adds recordings of the data set to x, also where x has a source: it makes a new source."""

    def with_recordings(self, bank: Tensor) -> Corruption:
        """The corruption with these recordings, [noises, samples]."""
        ...


class Model(nn.Module):
    """An objective: its players, the order in which they are updated, and the loss of each.

    A subclass with players implements `losses`. Each subclass implements the other methods that make sense for it.
    Its constructor takes by name the parts it uses (shapes, network, likelihood, prior, adversarial) and its own
    options, with type annotations.
    """

    players: tuple[Player, ...] = (Player("model"),)
    phases: tuple[Phase, ...] = ()  # empty: one phase with one turn of all players
    latent_dim: int  # of models with codes
    conditional: bool = False  # whether encoder and decoder use labels
    samples_by_label: bool = False  # whether `sample` uses its label
    reads_noise: ClassVar[bool] = True  # whether training uses batch.input
    unused_settings: ClassVar[tuple[str, ...]] = ()  # settings of its parts without effect; not inherited
    needs_noise: bool = False  # whether the loss is meaningless without noise
    # Caveats to show with metrics, keyed by what the metric uses: mean (of the posterior), encode, posterior (its
    # density), decode, likelihood, prior, sample.
    notes: dict[str, str] = {}

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        """The losses of the players in this turn, from one forward pass. A model without players has none."""
        raise NotImplementedError(f"{type(self).__name__} has players, but does not implement losses")

    @property
    def samples_by_translation(self) -> bool:
        """Whether samples are translations of examples, each with the conditions of another one.

        Default: for a model that has neither `sample` nor `encode`. A model that decodes a code and conditions sets it.
        """
        return type(self).sample is Model.sample and type(self).encode is Model.encode

    @classmethod
    def default_balance(cls, **options: Any) -> str:
        """The policy for adversarial.balance=own. options: those of the constructor."""
        return "always"

    def fit(self, data: Data, draws: Draws) -> None:
        """Fits parameters in closed form on data.train, before gradient training. Default: none."""

    def fit_after(self, data: Data, draws: Draws) -> None:
        """Fits parameters in closed form on data.train, after gradient training, in evaluation mode. Default: none."""

    def encode(self, batch: Batch) -> Posterior:
        """q(z|x) of batch.input, the source or x (and of batch.label, if the model is conditional)."""
        raise UnavailableError(f"{type(self).__name__} has no encoder")

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        """p(x|z) for z [B, latent_dim]; batch supplies the label of a conditional model."""
        raise UnavailableError(f"{type(self).__name__} has no decoder")

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        """The output [B, *shapes.x] for batch.input and batch.conditions. Default: the mean reconstruction."""
        return self.decode(self.encode(batch).mean, batch).mean

    def stages(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The images [B, C, H, W] of each stage of `translate`, by name; the last one is its output."""
        return {"output": self.translate(batch, draws)}

    def critic_features(self, x: Tensor, draws: Draws) -> Tensor:
        """Features [B, F] of images, waves or volumes x in a discriminator."""
        raise UnavailableError(f"{type(self).__name__} has no discriminator of {KINDS[x.ndim - 2]} without conditions")

    def prior_codes(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        """Codes [n, latent_dim] sampled from the prior; with the same draws, the codes that `sample` decodes."""
        prior: Any = getattr(self, "prior", None)
        if prior is None or not hasattr(self, "latent_dim"):
            raise UnavailableError(f"{type(self).__name__} has no prior to sample codes from")
        return prior.sample((n, self.latent_dim), draws)

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        """Mean images [n, C, H, W] of n codes from the prior; label: [n], used if samples_by_label."""
        raise UnavailableError(f"{type(self).__name__} has no prior to sample codes from")
