"""The training of seeds, from their checkpoints, until their weights are saved."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from bench.core import Model
from bench.data import Data
from bench.draws import Draws
from bench.engine.seeds import Stack
from bench.engine.train import Progress, train
from bench.runs import checkpoint, tracking
from bench.runs.checkpoint import Checkpoint
from bench.runs.config import Job, build, corruption, optimizers, schedule
from bench.runs.facts import early_gradients
from bench.runs.lifecycle import checkpoint_key
from bench.runs.output import say
from bench.runs.seed_run import SeedRun
from bench.runs.signals import Signals
from bench.runs.validation import Validation


def train_seeds(
    job: Job, data: Data, runs: Sequence[SeedRun], trackers: tracking.Trackers, signals: Signals
) -> list[tuple[SeedRun, Model]]:
    """Trains seeds together, from their checkpoints if they have any, and saves their weights.

    Returns those that did not diverge, with their models. On a signal it saves checkpoints and raises.
    """
    by_seed = {one.seed: one for one in runs}
    seeds = list(by_seed)
    models = [build(job.config, data.shapes, seed, job.settings.allow).to(job.device) for seed in seeds]
    checkpoints = [one.checkpoint for one in runs if one.checkpoint]
    clock = time.perf_counter()
    for one, model in zip(runs, models, strict=True):
        one.record["seeds_stacked"] = seeds
        if one.checkpoint:
            one.history = list(one.checkpoint.history)
        else:
            model.fit(data, Draws(one.seed, "fit", device=job.device))
    fitted = {"seconds": time.perf_counter() - clock, "samples_per_second": None}
    for one in runs:
        one.record |= {"steps": one.checkpoint.step if one.checkpoint else 0, **_pace_of([fitted, *one.history])}

    stack = Stack(models, seeds, job.device)
    start = [one.state for one in checkpoints]
    validation = Validation(job, data, stack, start)
    saver = Saver(job, data, runs, validation)
    diverged_at: dict[int, int | None] = dict.fromkeys(seeds)
    for k, (one, state) in enumerate(zip(runs, start, strict=False)):  # a seed that stopped early stays as it was
        if stopped := validation.stopped(k):
            one.record["steps"] = stopped
            diverged = state["log/diverged"]
            diverged_at[one.seed] = diverged if diverged and diverged <= stopped else None
    is_stopping = False
    reports = train(
        stack, data, corruption(job, data), optimizers(job), job.budget, schedule(job),
        start=start, is_stopping=lambda: signals.is_pending or saver.has_lost_a_lease,
    )  # fmt: skip
    with signals.deferred():
        for report in reports:
            progress = validation.observe(report)  # without the seeds that stopped early
            steps = dict(zip(seeds, report.diverged, strict=True))
            diverged_at |= {seed: steps[seed] for seed in progress.seeds}
            for seed, row in zip(progress.seeds, progress.row or (), strict=False):
                by_seed[seed].history.append(row)
                by_seed[seed].record |= _pace_of([row])
            for seed in progress.seeds:
                by_seed[seed].record["steps"] = report.step
            trackers.advanced(progress)
            if validation.is_over:
                break
            is_stopping = signals.is_pending and report.step < report.steps
            if is_stopping or saver.is_due or saver.has_lost_a_lease:
                saver.save(report)
            if is_stopping:
                break
        if not is_stopping:
            for k, one in enumerate(runs):
                one.record["validation"] = validation.result(k, one.record["steps"]) if stack.model.players else None
            return save_trained(runs, stack.unstack(validation.kept), list(diverged_at.values()))
    raise AssertionError("a signal that stops the training is raised at the end of its deferral")


def save_trained(
    runs: Sequence[SeedRun], models: Sequence[Model], diverged_at: Sequence[int | None]
) -> list[tuple[SeedRun, Model]]:
    """Saves the weights of trained seeds, and then records those that diverged. Returns the others with their models.

    Then the records say that training is done: a failure loses the evaluation, not the weights.
    """
    converged, diverged = [], []
    for one, model, step in zip(runs, models, diverged_at, strict=True):
        seconds = one.record["seconds"] / len(runs)
        one.record |= {"seconds": seconds, "gradient_norms": early_gradients(one.history)}
        if step or not all(weight.isfinite().all() for weight in model.state_dict().values()):
            diverged.append((one, step or one.record["steps"]))
        else:
            one.save_weights(model)
            converged.append((one, model))
    for one, step in diverged:
        one.finish({"status": "diverged", "reason": f"its loss or its weights were no longer finite at step {step}"})
    return converged


def _pace_of(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """That of the last row."""
    return {key: rows[-1][key] for key in ("seconds", "samples_per_second")}


class Saver:
    """Saves the checkpoints of seeds that are trained together, every `checkpoint.minutes`."""

    def __init__(self, job: Job, data: Data, runs: Sequence[SeedRun], validation: Validation):
        self._validation = validation
        self._runs, self._keys = runs, [checkpoint_key(job, data, one.record["id"], one.seed) for one in runs]
        minutes = job.settings.checkpoint.minutes
        self._interval = None if minutes is None else 60 * minutes
        self._saved = time.monotonic()
        self._has_failed = False

    @property
    def is_due(self) -> bool:
        return self._interval is not None and time.monotonic() - self._saved >= self._interval

    @property
    def has_lost_a_lease(self) -> bool:
        return any(one.lease and one.lease.is_lost for one in self._runs)

    def save(self, progress: Progress) -> None:
        """Saves the state of all seeds. If it cannot be written, training goes on without.

        Raises LeaseLostError if another process trains one of them.
        """
        seeds = [one.seed for one in self._runs]
        try:
            self._check_leases()
            if self._interval is not None:
                states = [state | self._validation.state(k) for k, state in enumerate(progress.state())]
                entries = [
                    (one.folder, key, Checkpoint(progress.step, seeds, one.history, state))
                    for one, key, state in zip(self._runs, self._keys, states, strict=True)
                ]
                checkpoint.write(entries, check=self._check_leases)
        except OSError as error:
            if not self._has_failed:
                say(f"{self._runs[0].record['name']}: no checkpoint, {error.strerror}; training goes on")
            self._has_failed = True
        self._saved = time.monotonic()

    def _check_leases(self) -> None:
        for one in self._runs:
            if one.lease:
                one.lease.check()
