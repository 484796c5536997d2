"""The state of each seed of a run, and what is left to do for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench.data import Data
from bench.evaluation.evaluate import missing
from bench.evaluation.evidence import images_of
from bench.runs import checkpoint, store
from bench.runs.checkpoint import Checkpoint, UnusableError
from bench.runs.config import Job
from bench.runs.files import checksum_of
from bench.runs.output import say
from bench.runs.record import RESULTS

CLOCKS = 60.0  # seconds by which the clocks of two machines may differ
UNFINISHED = ("failed", "interrupted", "timeout", "out_of_memory", "crashed")


class Action(StrEnum):
    """What is left to do for a seed."""

    DONE = "done"  # its record has everything that the job asks for
    ADD_METRICS = "to add metrics"  # its record lacks metrics, which can be computed from its weights
    EVALUATE = "to evaluate"  # it is trained, but its evaluation did not finish
    RESUME = "to resume"  # there is a checkpoint of its training
    TRAIN = "to train"  # there is nothing to go on from


@dataclass(frozen=True)
class Plan:
    """An action, and what it starts from: a record and the metrics to add, or the step of a checkpoint.

    together: the seeds that were trained together up to the checkpoint.
    """

    action: Action
    record: dict[str, Any] | None = None
    metrics: tuple[str, ...] = ()
    step: int = 0
    together: tuple[int, ...] = ()


def plan(job: Job, data: Data, folder: Path, id: str, seed: int) -> Plan:
    """The plan of a seed, from its folder, which it does not change. Raises InputError for a record of another schema.

    rerun=true repeats all that was finished before the command started.
    """
    if (record := finished(folder)) is not None and not is_outdated(job, folder / store.RECORD):
        images = images_of(data, job.cache)
        metrics = missing(record["metrics"], job.metrics, images) if record["status"] == "ok" else []
        return Plan(Action.ADD_METRICS, record, tuple(metrics)) if metrics else Plan(Action.DONE, record)
    record = trained(folder, job.budget.plan(len(data.train.x))[0])
    if record and not is_outdated(job, folder / store.RECORD):
        return Plan(Action.EVALUATE, record)
    if not is_outdated(job, folder / store.CHECKPOINT):
        try:
            step, seeds = checkpoint.position(folder, checkpoint_key(job, data, id, seed))
            return Plan(Action.RESUME, step=step, together=tuple(seeds))
        except (FileNotFoundError, UnusableError):
            pass
    return Plan(Action.TRAIN)


def is_outdated(job: Job, path: Path) -> bool:
    """Whether rerun=true repeats what a file says: it was written before the command started.

    A file from the future was so too, and the clock has been set back since.
    """
    if not job.settings.rerun:
        return False
    try:
        written = path.stat().st_mtime
    except FileNotFoundError:
        return False
    return not job.started <= written <= time.time() + CLOCKS


def checkpoint_key(job: Job, data: Data, id: str, seed: int) -> checkpoint.Key:
    return checkpoint.Key(id, seed, job.budget.plan(len(data.train.x))[0])


def saved_checkpoint(job: Job, data: Data, folder: Path, id: str, seed: int) -> Checkpoint | None:
    """The checkpoint of a seed, or None. One that cannot be used is set aside, with a line that says why."""
    if is_outdated(job, folder / store.CHECKPOINT):
        checkpoint.remove(folder)
    try:
        return checkpoint.read(folder, checkpoint_key(job, data, id, seed))
    except FileNotFoundError:
        return None
    except UnusableError as reason:
        place = checkpoint.set_aside(folder)
        say(f"{folder}: the checkpoint cannot be used, {reason}; it is now {place.name}, and training starts over")
        return None


def finished(folder: Path) -> dict[str, Any] | None:
    """A seed's record if it is a result. None if it is missing, damaged or not a result.

    Raises InputError for a record of another schema.
    """
    record = store.read_if_whole(folder)
    return record if record and record["status"] in RESULTS else None


def trained(folder: Path, steps: int) -> dict[str, Any] | None:
    """The record of a seed that was trained for all its steps but not completely evaluated, if its weights exist."""
    path, weights = folder / store.RECORD, folder / store.WEIGHTS
    record = store.parse(path) if weights.is_file() else None
    if record is None or record.get("schema") != store.SCHEMA or record["status"] not in UNFINISHED:
        return None
    stopped = (record.get("validation") or {}).get("stopped")
    if not 0 < record["steps"] == (stopped or steps) or record.get("weights") not in (None, checksum_of(weights)):
        return None
    return record | {"folder": folder}
