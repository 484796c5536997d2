"""The state of each seed of a run, and what is left to do for it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.core import InputError
from bench.data import Data
from bench.evaluation.evaluate import missing
from bench.evaluation.evidence import images_of
from bench.runs import store
from bench.runs.config import Job


class Action(StrEnum):
    """What is left to do for a seed."""

    DONE = "done"  # its record has everything that the job asks for
    ADD_METRICS = "to add metrics"  # its record lacks metrics, which can be computed from its weights
    EVALUATE = "to evaluate"  # it is trained, but its evaluation did not finish
    TRAIN = "to train"  # there is nothing to resume


@dataclass(frozen=True)
class Plan:
    """An action, the record that it starts from, and the metrics to add."""

    action: Action
    record: dict[str, Any] | None = None
    metrics: tuple[str, ...] = ()


def plan(job: Job, data: Data, folder: Path) -> Plan:
    """The plan of a seed, from its folder. Raises InputError for a record of another schema."""
    if job.settings.rerun:
        return Plan(Action.TRAIN)
    if (record := finished(folder)) is not None:
        images = images_of(data, job.cache)
        metrics = missing(record["metrics"], job.metrics, images) if record["status"] == "ok" else []
        return Plan(Action.ADD_METRICS, record, tuple(metrics)) if metrics else Plan(Action.DONE, record)
    record = trained(folder, job.budget.plan(len(data.train.x))[0])
    return Plan(Action.EVALUATE, record) if record else Plan(Action.TRAIN)


def finished(folder: Path) -> dict[str, Any] | None:
    """A seed's record if it is a result: ok, diverged or skipped. None if it is missing, damaged or not a result.

    Raises InputError for a record of another schema.
    """
    path = folder / store.RECORD
    if not path.is_file() or store.parse(path) is None:
        return None
    record = store.read(folder)
    return record if record["status"] in ("ok", "diverged", "skipped") else None


def trained(folder: Path, steps: int) -> dict[str, Any] | None:
    """The record of a seed that was trained for all its steps but not completely evaluated, if its weights exist."""
    path = folder / store.RECORD
    record = store.parse(path) if path.is_file() and (folder / store.WEIGHTS).is_file() else None
    if record is None or record.get("schema") != store.SCHEMA or record["status"] not in ("failed", "interrupted"):
        return None
    return record | {"folder": folder} if 0 < record["steps"] == steps else None


def lock(locks: ExitStack, folder: Path) -> bool:
    """Locks a seed's folder until `locks` or the process ends. Returns False if another process holds it.

    Raises InputError if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        locks.enter_context(FileLock(folder / ".lock", blocking=False))
    except Timeout:
        return False
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; set paths.results to another folder") from error
    return True
