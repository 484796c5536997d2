"""An estimate of the training time of a run."""

from __future__ import annotations

from dataclasses import replace

from bench.data import Data
from bench.engine.seeds import Stack
from bench.engine.train import phases_of, train
from bench.runs.config import Job, build, corruption, optimizers, schedule

MEASURED = 3  # training steps of each phase that are timed, after one that is not


def estimated_seconds(job: Job, data: Data) -> float:
    """Seconds of training for one seed: a few steps of each phase are timed, with weights that are then forgotten.

    The time that a model takes before its first step, and the evaluation, are left out.
    """
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
