"""An estimate of the time that a run takes: its training is timed, its evaluation is that of earlier runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from statistics import mean
from typing import Any

from bench.data import Data
from bench.engine.seeds import Stack
from bench.engine.train import phases_of, train
from bench.runs import store
from bench.runs.config import Job, build, corruption, optimizers, schedule

MEASURED = 3  # training steps of each phase that are timed, after one that is not
EARLIER = 20  # runs whose evaluation is looked up

_timed: dict[str, float] = {}  # what was estimated in this process


def evaluation_seconds(job: Job) -> float | None:
    """Seconds of evaluation of one seed: the mean of finished runs of this name with the same metrics. None without."""
    paths = job.results.glob(f"[!.]*/{job.name}-*/seed-*/{store.RECORD}")
    latest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:EARLIER]
    records = [record for path in latest if (record := store.parse(path))]
    found = [r["evaluation_seconds"] for r in records if r.get("evaluation_seconds") and _has_metrics(r, job)]
    return mean(found) if found else None


def _has_metrics(record: Mapping[str, Any], job: Job) -> bool:
    return job.metrics.names is None or set(job.metrics.names) <= record["metrics"].keys()


def training_seconds(job: Job, data: Data) -> float:
    """Seconds of training of one seed: a few steps of each phase are timed, with weights that are then forgotten.

    The time that a model takes before its first step is left out. Jobs that differ in numbers such as rates and weights
    only are timed once in a process.
    """
    sizes = {group: _without_floats(values) for group, values in store.identified(job.config).items()}
    key = json.dumps([sizes, data.shapes, len(data.train.x), str(job.device)], sort_keys=True, default=str)
    if key not in _timed:
        _timed[key] = _training_seconds(job, data)
    return _timed[key]


def _without_floats(value: Any) -> Any:
    """A weight of 0 stays: it often means that a part of a model is not trained."""
    if isinstance(value, Mapping):
        return {name: _without_floats(item) for name, item in value.items()}
    return "number" if isinstance(value, float) and value else value


def _training_seconds(job: Job, data: Data) -> float:
    steps, _ = job.budget.plan(len(data.train.x))
    model = build(job.config, data.shapes, seed=0, allow=job.settings.allow).to(job.device)
    phases = phases_of(model) if model.players else ()
    whole = sum(phase.share for phase in phases)
    seconds = 0.0
    for phase in phases:
        model.phases = (phase,)
        if share := round(steps * phase.share / whole):
            _seconds(job, data, Stack([model], [0], job.device), steps=1)
            seconds += share * _seconds(job, data, Stack([model], [0], job.device), MEASURED) / MEASURED
    return seconds


def _seconds(job: Job, data: Data, stack: Stack, steps: int) -> float:
    budget = replace(job.budget, steps=steps)
    *_, last = train(stack, data, corruption(job, data), optimizers(job), budget, schedule(job))
    assert last.row is not None, "training ends with a row"
    return last.row[0]["seconds"]
