"""The settings of a job outside the groups that identify a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.core import Count, Positive

Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]


@dataclass(frozen=True)
class CheckpointSettings:
    """minutes: between two checkpoints of a training; None for no checkpoints."""

    minutes: Positive | None = 5.0


@dataclass(frozen=True)
class LimitSettings:
    """minutes: of the training and the evaluation of one run; None for no limit."""

    minutes: Positive | None = None


@dataclass(frozen=True)
class LeaseSettings:
    """seconds: without a sign of life after which a process is taken for dead, and another one takes over its run."""

    seconds: Positive = 60.0


@dataclass(frozen=True)
class TuningSettings:
    """trials: of each model; objective: a metric on the validation split; space: settings and their ranges."""

    trials: Annotated[int, Field(ge=1, le=2**16, strict=True)] | None
    objective: str | None
    space: dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The values of a job outside the groups."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    stack: Literal["auto"] | Count
    sweep: str
    device: str
    checkpoint: CheckpointSettings
    limit: LimitSettings
    lease: LeaseSettings
    stop_on_failure: bool
    isolate: bool
    attempts: Count
    rerun: bool
    dry_run: bool
    allow: list[str]
    trial: Annotated[int, Field(ge=0, lt=2**16, strict=True)] | Literal["default", "best"] | None
    objective: str | None
    tuning: TuningSettings


@dataclass(frozen=True)
class Paths:
    """The values of `paths`."""

    results: str
    cache: str


@dataclass(frozen=True)
class TrackingSettings:
    """The values of the tracking group. tags: W&B takes those of 1 to 64 characters."""

    mode: str
    project: str
    entity: str | None
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]]
    notes: str | None
    images: bool
