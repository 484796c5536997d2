"""Learning-rate schedules: a factor of every player's learning rate, as a function of the progress of a phase."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from bench.core import InputError, Rate, SkipError, UnusedIf

BelowOne = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]

# The factor during a decay from 1 to `end`, when the share `done` of the decay is over.
DECAYS: dict[str, Callable[[float, float], float]] = {
    "linear": lambda done, end: 1 - (1 - end) * done,
    "cosine": lambda done, end: 1 - (1 - end) * (1 - math.cos(math.pi * done)) / 2,  # Loshchilov & Hutter 2017, eq. 5
    "exponential": lambda done, end: end**done,
}
NO_DECAY, NO_STEPS = UnusedIf(decay=("none", "steps")), UnusedIf(decay=("none", *DECAYS))


@dataclass(frozen=True)
class Schedule:
    """Maps the progress of a phase, the share of its steps that is over, to a factor of the learning rates.

    linear, cosine, exponential    1 until progress `start`, then down to end_factor at the end of the phase
    steps                          multiplied by gamma at each of the milestones, which are values of the progress

    During the share `warmup` of the phase, this is multiplied by a factor that rises linearly from warmup_factor to 1.
    Raises InputError for milestones that do not increase, and SkipError for an exponential decay to 0.
    """

    decay: Literal["none", "linear", "cosine", "exponential", "steps"] = "none"
    start: Annotated[BelowOne, NO_DECAY] = 0.0
    end_factor: Annotated[BelowOne, NO_DECAY] = 0.0
    milestones: Annotated[list[Share], Field(min_length=1), NO_STEPS] = field(default_factory=lambda: [0.5, 0.75])
    gamma: Annotated[BelowOne, NO_STEPS] = 0.1
    warmup: Rate = 0.0
    warmup_factor: Annotated[BelowOne, UnusedIf(warmup=0.0)] = 0.0

    def __post_init__(self) -> None:
        if any(one >= other for one, other in pairwise(self.milestones)):
            raise InputError(f"schedule.milestones={self.milestones} must increase, such as [0.5, 0.75]")
        if self.decay == "exponential" and not self.end_factor:
            raise SkipError("an exponential decay never reaches 0: set schedule.end_factor to a small number above 0")

    def __call__(self, progress: float) -> float:
        warmup = 1.0
        if progress < self.warmup:
            warmup = self.warmup_factor + (1 - self.warmup_factor) * progress / self.warmup
        return warmup * self.without_warmup(progress)

    def without_warmup(self, progress: float) -> float:
        """The factor without the warm-up."""
        if self.decay == "none":
            return 1.0
        if self.decay == "steps":
            return self.gamma ** bisect_right(self.milestones, progress)
        done = max(0.0, progress - self.start) / (1 - self.start)
        return DECAYS[self.decay](done, self.end_factor)


CONSTANT = Schedule()
