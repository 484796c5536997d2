"""Tracking of a run while it happens: in the terminal, and in Weights & Biases.

A tracker has four methods, which the run calls in this order:

    started(records, steps, histories)    seeds start together; steps: of training; records: see `record.Record`
    advanced(progress)                    every few steps, see `Event`
    finished(seed, record, images)        once per seed, whatever its status
    closed()                              always, last; seeds that are still open were interrupted

W&B has a fifth one, for a seed that was finished before: recalled(record).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.core import InputError
from bench.runs.position import Position
from bench.runs.terminal import Terminal
from bench.runs.wandb_runs import WandB

if TYPE_CHECKING:
    import numpy as np

MODES = ("online", "offline", "disabled")

# For each seed the rows of the epochs that an earlier process has trained; None if this one starts its training.
Histories = Sequence[Sequence[Mapping[str, float]] | None]


class Event(Protocol):
    """Training has reached `step` of `steps`. row: at the end of an epoch, for each seed, means since the last one."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def seeds(self) -> Sequence[int]: ...
    @property
    def row(self) -> list[dict[str, float]] | None: ...


def trackers(options: Mapping[str, Any], results: Path, sweep: str, position: Position | None = None) -> Trackers:
    """The trackers that the config group `tracking` names. Raises InputError for an unknown mode.

    position: of the job in its command.
    """
    if options["mode"] not in MODES:
        raise InputError(
            f"tracking.mode={options['mode']} (by default the value of WANDB_MODE) is unknown: use one of "
            f"{', '.join(MODES)}"
        )
    wandb = None if options["mode"] == "disabled" else WandB(options, Path(results), sweep)
    return Trackers(Terminal(position=position), wandb)


class Trackers:
    """The terminal and, where it is enabled, W&B."""

    def __init__(self, terminal: Terminal, wandb: WandB | None):
        self._all: list[Terminal | WandB] = [terminal] if wandb is None else [terminal, wandb]
        self._wandb = wandb
        self.progress = terminal.progress

    def started(self, records: Sequence[Mapping[str, Any]], steps: int, histories: Histories) -> None:
        for tracker in self._all:
            tracker.started(records, steps, histories)

    def advanced(self, event: Event) -> None:
        for tracker in self._all:
            tracker.advanced(event)

    def finished(self, seed: int, record: Mapping[str, Any], images: Mapping[str, np.ndarray] | None) -> None:
        for tracker in self._all:
            tracker.finished(seed, record, images)

    def recalled(self, record: Mapping[str, Any]) -> None:
        if self._wandb:
            self._wandb.recalled(record)

    def closed(self) -> None:
        for tracker in self._all:
            tracker.closed()
