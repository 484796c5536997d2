"""One seed of a job: its training, its evaluation and its record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bench.core import InputError, Model
from bench.data import Data
from bench.draws import Draws
from bench.engine.seeds import Stack
from bench.engine.train import Progress as Training
from bench.engine.train import train
from bench.evaluation.evaluate import evaluations, missing
from bench.evaluation.evidence import images_of
from bench.evaluation.pictures import pictures
from bench.evaluation.progress import Progress
from bench.runs import checkpoint, store, tracking
from bench.runs.attempts import forget
from bench.runs.checkpoint import Checkpoint
from bench.runs.config import Job, build, corruption, optimizers, schedule
from bench.runs.facts import PACE, early_gradients, ending, now
from bench.runs.lease import Lease, LeaseLostError
from bench.runs.lifecycle import Action, Plan, checkpoint_key, finished
from bench.runs.outcome import Outcome
from bench.runs.output import say
from bench.runs.record import RESULTS
from bench.runs.signals import Signals
from bench.runs.terminal import Terminal
from bench.runs.trained import restored

UNEVALUATED = "its evaluation did not finish"


@dataclass
class SeedRun:
    """One seed of a job, from its plan to its record. record: it starts with the fields that all seeds share.

    lease: None for a seed that is done. Everything that is written first makes sure that the lease is still held.
    checkpoint: the one that training goes on from.
    """

    seed: int
    folder: Path
    plan: Plan
    record: dict[str, Any]
    trackers: tracking.Trackers
    outcome: Outcome
    lease: Lease | None = None
    checkpoint: Checkpoint | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    is_recorded: bool = False

    @property
    def plan_record(self) -> dict[str, Any]:
        """The record that the plan starts from: of a seed that is trained."""
        assert self.plan.record is not None, "a trained seed has a record"
        return self.plan.record

    @property
    def earlier_rows(self) -> list[dict[str, float]] | None:
        """The rows of the epochs that an earlier process has trained; None if this one starts the training."""
        if self.checkpoint:
            return self.checkpoint.history
        return store.read_history(self.folder) if self.plan.action == Action.EVALUATE else None

    def write(self, record: Mapping[str, Any], **files: Any) -> None:
        """Writes a record, and with it other files, see `store.write`."""
        if self.lease:
            self.lease.check()
            files["check"] = self.lease.check
        self.record["weights"] = store.write(self.folder, record, **files).get("weights")

    def save_weights(self, model: Model) -> None:
        """Saves the trained weights, with a record that says that the evaluation is missing."""
        unfinished = self.record | {"reason": UNEVALUATED}
        self.write(unfinished, history=self.history or None, weights=model.state_dict())

    def save_metrics(self, reason: str) -> None:
        """Saves the metrics so far, with a record that says what is missing."""
        self.write(self.record | {"reason": reason})

    def finish(self, how: Mapping[str, Any], **files: dict[str, Any] | None) -> None:
        """Writes the record. how: its status and reason; files: `weights` and `images`."""
        self.record |= {"finished": now(), **how}
        self.write(self.record, history=self.history or None, **files)
        if self.record["status"] != "crashed":
            forget(self.folder)
        if self.record["status"] in RESULTS:
            checkpoint.remove(self.folder)
        self.is_recorded = True
        self.outcome.add(self.record)
        self.trackers.finished(self.seed, self.record, files.get("images"))

    def fail(self, how: Mapping[str, Any]) -> None:
        """Records a failure, unless there is a result that a rerun has not replaced yet: that one stays."""
        if finished(self.folder):
            self.outcome.fail(self.seed, how, "its record stays")
            return
        try:
            self.finish(how)
        except (InputError, LeaseLostError, OSError) as error:
            self.outcome.fail(self.seed, how, f"not recorded: {error}")


def train_seeds(
    job: Job, data: Data, runs: Sequence[SeedRun], trackers: tracking.Trackers, signals: Signals
) -> list[tuple[SeedRun, Model]]:
    """Trains seeds together, from their checkpoints if they have any, and saves their weights.

    Returns those that did not diverge, with their models. On a signal it saves checkpoints and raises.
    """
    seeds = [one.seed for one in runs]
    models = [build(job.config, data.shapes, seed, job.settings.allow).to(job.device) for seed in seeds]
    checkpoints = [one.checkpoint for one in runs if one.checkpoint]
    clock = time.perf_counter()
    for one, model in zip(runs, models, strict=True):
        one.record["seeds_stacked"] = seeds
        if one.checkpoint:
            one.history = list(one.checkpoint.history)
        else:
            model.fit(data, Draws(one.seed, "fit", device=job.device))
    pace: dict[str, Any] = {"steps": 0, "seconds": time.perf_counter() - clock, "samples_per_second": None}
    if checkpoints and checkpoints[0].history:
        pace = {"steps": checkpoints[0].step, **_pace_of(checkpoints[0].history[-1])}

    stack = Stack(models, seeds, job.device)
    diverged_at: list[int | None] = [None] * len(seeds)
    saver = Saver(job, data, runs)
    progress_of_seeds = train(
        stack, data, corruption(job, data), optimizers(job), job.budget, schedule(job),
        start=[one.state for one in checkpoints], is_stopping=lambda: signals.is_pending or saver.has_lost_a_lease,
    )  # fmt: skip
    with signals.deferred():
        for progress in progress_of_seeds:
            diverged_at = progress.diverged
            for one, row in zip(runs, progress.row or (), strict=False):
                one.history.append(row)
                pace = {"steps": progress.step, **_pace_of(row)}
            for one in runs:
                one.record["steps"] = progress.step
            trackers.advanced(progress)
            is_stopping = signals.is_pending and progress.step < progress.steps
            if is_stopping or saver.is_due or saver.has_lost_a_lease:
                saver.save(progress)
            if is_stopping:
                break
        else:
            return save_trained(runs, stack.unstack(), diverged_at, pace)
    raise AssertionError("a signal that stops the training is raised at the end of its deferral")


def save_trained(
    runs: Sequence[SeedRun], models: Sequence[Model], diverged_at: Sequence[int | None], pace: Mapping[str, Any]
) -> list[tuple[SeedRun, Model]]:
    """Saves the weights of trained seeds, and then records those that diverged. Returns the others with their models.

    Then the records say that training is done: a failure loses the evaluation, not the weights.
    """
    converged, diverged = [], []
    for one, model, step in zip(runs, models, diverged_at, strict=True):
        one.record |= {**pace, "seconds": pace["seconds"] / len(runs), "gradient_norms": early_gradients(one.history)}
        if step or not all(weight.isfinite().all() for weight in model.state_dict().values()):
            diverged.append((one, step or pace["steps"]))
        else:
            one.save_weights(model)
            converged.append((one, model))
    for one, step in diverged:
        one.finish({"status": "diverged", "reason": f"its loss or its weights were no longer finite at step {step}"})
    return converged


def _pace_of(row: Mapping[str, float]) -> dict[str, float]:
    return {key: row[key] for key in ("seconds", "samples_per_second")}


class Saver:
    """Saves the checkpoints of seeds that are trained together, every `checkpoint.minutes`."""

    def __init__(self, job: Job, data: Data, runs: Sequence[SeedRun]):
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

    def save(self, progress: Training) -> None:
        """Saves the state of all seeds. If it cannot be written, training goes on without.

        Raises LeaseLostError if another process trains one of them.
        """
        seeds = [one.seed for one in self._runs]
        try:
            self._check_leases()
            if self._interval is not None:
                states = zip(self._runs, self._keys, progress.state(), strict=True)
                entries = [
                    (one.folder, key, Checkpoint(progress.step, seeds, one.history, state))
                    for one, key, state in states
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


def evaluate_seed(job: Job, data: Data, one: SeedRun, model: Model) -> None:
    """Evaluates a trained model and records the result. An exception ends only this seed.

    The metrics so far are saved every `checkpoint.minutes`.
    """
    clock = saved = time.perf_counter()
    interval = 60 * (job.settings.checkpoint.minutes or math.inf)
    try:
        with torch.no_grad():
            model.fit_after(data, Draws(one.seed, "fit_after", device=job.device))
        images = images_of(data, job.cache)
        if names := missing(one.record["metrics"], job.metrics, images):
            earlier = one.record["metrics"]
            for found in metrics_of(job, model, data, one.record, names, one.trackers.progress):
                one.record["metrics"] = earlier | found
                if time.perf_counter() - saved >= interval:
                    one.save_metrics(UNEVALUATED)
                    saved = time.perf_counter()
            one.save_metrics("its pictures were not made")
        shown = pictures(model, images, corruption=corruption(job), seed=one.seed)
    except Exception as error:
        one.finish(ending(error))
        return
    # The weights are already saved, except those that are fitted after training.
    weights = model.state_dict() if type(model).fit_after is not Model.fit_after else None
    seconds = time.perf_counter() - clock
    one.finish({"status": "ok", "reason": None, "evaluation_seconds": seconds}, images=shown, weights=weights)


def add_metrics(job: Job, data: Data, one: SeedRun, record: dict[str, Any]) -> dict[str, Any]:
    """Adds the metrics that a finished run lacks, from its saved weights. If that fails, its record stays.

    Returns the record as it is then.
    """
    try:
        model = restored(record, job.settings.allow).to(job.device)
        progress = Terminal(f"{job.name} seed {one.seed}").progress
        *_, metrics = metrics_of(job, model, data, record, one.plan.metrics, progress)
        one.record = record | {"metrics": record["metrics"] | metrics}
        one.write(one.record)
    except Exception as error:
        one.outcome.failed_metrics[one.seed] = list(one.plan.metrics)
        say(f"{job.name} seed {one.seed}: its metrics: {ending(error)['reason']}; its record stays")
        return record
    forget(one.folder)
    one.outcome.add(one.record)
    return one.record


def metrics_of(
    job: Job, model: Model, data: Data, record: Mapping[str, Any], names: Sequence[str], progress: Progress
) -> Iterator[dict[str, Any]]:
    """Metrics of a trained model, by name: those so far, after each. record: with the fields about its training."""
    facts = {"parameters": record["parameters"]["total"]} | {key: record[key] for key in PACE}
    facts |= {f"gradient_norm_{end}": (record.get("gradient_norms") or {}).get(end) for end in ("first", "last")}
    settings = replace(job.metrics, names=list(names))
    images = images_of(data, job.cache)
    return evaluations(
        model, images, settings, corruption=corruption(job), seed=record["seed"], facts=facts, progress=progress
    )
