"""One job: check -> load -> plan -> train -> evaluate -> record."""

from __future__ import annotations

import ctypes
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench import datasets
from bench.core import InputError, Model, SkipError
from bench.data import Data
from bench.draws import Draws
from bench.engine.seeds import Stack
from bench.engine.train import EARLY_STEPS, check_ownership, train
from bench.evaluation.evaluate import FAILED, evaluate, requested
from bench.evaluation.evidence import images_of
from bench.evaluation.pictures import pictures
from bench.evaluation.progress import Progress
from bench.runs import store, tracking
from bench.runs.config import Job, build, check, check_combination, corruption, optimizers, schedule
from bench.runs.environment import environment
from bench.runs.estimate import estimated_seconds
from bench.runs.lifecycle import Action, Plan, finished, lock, plan
from bench.runs.trained import restored

PACE = ("steps", "seconds", "samples_per_second")
# The fields of a record about training, which stay if another process evaluates the seed.
OF_TRAINING = (*PACE, "seeds_stacked", "gradient_norms", "code", "libraries", "hardware", "started")


@dataclass
class Outcome:
    """The result of a job. seeds: the status of each seed, or in a dry run the action that is planned.

    failed_metrics: by seed, the metrics that raised; seconds: the training that a dry run expects;
    warnings: for the user.
    """

    results: str
    sweep: str
    run: str
    seeds: dict[int, str] = field(default_factory=dict)
    reason: str | None = None
    failed_metrics: dict[int, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        """The status, the reason and the failed metrics of a seed's record."""
        seed, metrics = record["seed"], record["metrics"]
        self.seeds[seed], self.reason = record["status"], record["reason"]
        self.failed_metrics[seed] = [name for name, m in metrics.items() if str(m["reason"]).startswith(FAILED)]

    def fail(self, seed: int, ending: Mapping[str, Any]) -> None:
        """A failure that leaves a finished seed's record unchanged."""
        self.seeds[seed], self.reason = ending["status"], ending["reason"]
        print(f"{self.run} seed {seed}: {ending['status']} ({ending['reason']}); its record stays", file=sys.stderr)


@dataclass
class SeedRun:
    """One seed of a job, from its plan to its record. record: it starts with the fields that all seeds share."""

    seed: int
    folder: Path
    plan: Plan
    record: dict[str, Any]
    trackers: tracking.Trackers
    outcome: Outcome
    history: list[dict[str, float]] = field(default_factory=list)
    is_recorded: bool = False

    def save_weights(self, model: Model) -> None:
        """Saves the trained weights, with a record that says that the evaluation is missing."""
        unfinished = self.record | {"reason": "its evaluation did not finish"}
        store.write(self.folder, unfinished, history=self.history or None, weights=model.state_dict())

    def finish(self, ending: Mapping[str, Any], **arrays: dict[str, Any] | None) -> None:
        """Writes the record. ending: its status, reason and metrics; arrays: `weights` and `images`."""
        self.record |= {"finished": _now(), **ending}
        store.write(self.folder, self.record, history=self.history or None, **arrays)
        self.is_recorded = True
        self.outcome.add(self.record)
        self.trackers.finished(self.seed, self.record, arrays.get("images"))

    def fail(self, ending: Mapping[str, Any]) -> None:
        """Records a failure, unless there is a result that a rerun has not replaced yet: that one stays."""
        if finished(self.folder):
            self.outcome.fail(self.seed, ending)
        else:
            self.finish(ending)


def run(config: dict[str, Any], in_sweep: bool) -> Outcome:
    """Runs a job from its resolved configuration. Finished work is not repeated, and failures are recorded.

    Raises InputError for wrong input. In a sweep, once the run is known, wrong input is recorded as failed and a
    combination that makes no sense as skipped.
    """
    keep_freed_memory()
    job = check(config, in_sweep)
    requested(job.metrics)
    data = datasets.load(job.config["dataset"], job.device, job.cache)

    id = store.identity(job.config, data.fingerprint)
    folder = store.run_folder(job.results, job.settings.sweep, job.name, id)
    outcome = Outcome(str(job.results), job.settings.sweep, folder.name, warnings=[*job.ignored, *job.warnings])
    facts = facts_before_training(job, data, id)
    try:
        facts |= facts_of_model(job, check_combination(job, data.shapes), data)
        corruption(job, data)
    except Exception as error:
        if isinstance(error, InputError) and not in_sweep:
            raise
        ending = _ending(error)
        if isinstance(error, SkipError):
            ending["id"] = store.identity(job.config, data.fingerprint, refused=str(error))
            folder = store.run_folder(job.results, job.settings.sweep, job.name, ending["id"])
            outcome.run = folder.name
        record_refusal(job, folder, facts | ending, outcome)
        return outcome

    plans = {seed: plan(job, data, store.seed_folder(folder, seed)) for seed in job.settings.seeds}
    if job.settings.dry_run:
        outcome.seeds = {seed: planned.action for seed, planned in plans.items()}
        untrained = sum(planned.action == Action.TRAIN for planned in plans.values())
        outcome.seconds = estimated_seconds(job, data) * untrained if untrained else 0.0
        return outcome

    trackers = tracking.trackers(job.tracking, job.results, job.settings.sweep)
    for seeds in grouped(plans, job.stack_size):
        with ExitStack() as locks:
            runs = []
            for seed in seeds:
                path, planned = store.seed_folder(folder, seed), plans[seed]
                # Two jobs may share a run (two likelihoods of a GAN): each seed is locked, and planned under its lock.
                if planned.action != Action.DONE:
                    if not lock(locks, path):
                        outcome.seeds[seed] = store.ELSEWHERE
                        continue
                    planned = plan(job, data, path)
                runs.append(SeedRun(seed, path, planned, facts | {"seed": seed}, trackers, outcome))
            carry_out(job, data, runs, trackers)
    return outcome


def record_refusal(job: Job, folder: Path, entry: dict[str, Any], outcome: Outcome) -> None:
    """Records for each seed that a combination was refused. A seed that has a result keeps it."""
    for seed in job.settings.seeds:
        outcome.seeds[seed], outcome.reason = entry["status"], entry["reason"]
        if job.settings.dry_run:
            continue
        path = store.seed_folder(folder, seed)
        with ExitStack() as locks:
            if not lock(locks, path):
                outcome.seeds[seed] = store.ELSEWHERE
                continue
            existing = finished(path)
            if existing and existing["status"] != "skipped":
                outcome.fail(seed, entry)
            # An equal record is not written again: the rows of a table are in the order in which runs were started.
            elif not existing or existing["reason"] != entry["reason"]:
                store.write(path, entry | {"seed": seed})


def grouped(plans: Mapping[int, Plan], stack_size: int) -> Iterator[list[int]]:
    """The seeds that are processed together: first each trained seed alone, then the others in groups of stack_size."""
    yield from ([seed] for seed, planned in plans.items() if planned.action != Action.TRAIN)
    training = [seed for seed, planned in plans.items() if planned.action == Action.TRAIN]
    yield from (training[start : start + stack_size] for start in range(0, len(training), stack_size))


def carry_out(job: Job, data: Data, runs: Sequence[SeedRun], trackers: tracking.Trackers) -> None:
    """Carries out the plans of some seeds. A failure is recorded, not raised."""
    for one in runs:
        if one.plan.action in (Action.DONE, Action.ADD_METRICS):
            assert one.plan.record is not None, "a finished seed has a record"
            one.outcome.add(one.plan.record)
            if one.plan.action == Action.ADD_METRICS:
                add_metrics(job, data, one, one.plan.record)
    trained = [one for one in runs if one.plan.action == Action.EVALUATE]
    untrained = [one for one in runs if one.plan.action == Action.TRAIN]
    if not trained + untrained:
        return
    try:
        trackers.started([one.record for one in trained + untrained], job.budget.plan(len(data.train.x))[0])
        for one in trained:
            assert one.plan.record is not None, "a trained seed has a record"
            one.record |= {key: one.plan.record.get(key) for key in OF_TRAINING}
            evaluate_seed(job, data, one, restored(one.plan.record, job.settings.allow).to(job.device))
        for one, model in train_seeds(job, data, untrained, trackers) if untrained else ():
            evaluate_seed(job, data, one, model)
    except KeyboardInterrupt:
        for one in untrained:
            if not one.is_recorded and not finished(one.folder):
                one.finish({"status": "interrupted", "reason": "stopped by Ctrl-C"})
        raise
    except Exception as error:
        for one in trained + untrained:
            if not one.is_recorded:
                one.fail(_ending(error))
    finally:
        trackers.closed()


def train_seeds(
    job: Job, data: Data, runs: Sequence[SeedRun], trackers: tracking.Trackers
) -> list[tuple[SeedRun, Model]]:
    """Trains seeds together and saves their weights. Returns those that did not diverge, with their models."""
    seeds = [one.seed for one in runs]
    models = [build(job.config, data.shapes, seed, job.settings.allow).to(job.device) for seed in seeds]
    clock = time.perf_counter()
    for one, model in zip(runs, models, strict=True):
        one.record["seeds_stacked"] = seeds
        model.fit(data, Draws(one.seed, "fit", device=job.device))
    pace: dict[str, Any] = {"steps": 0, "seconds": time.perf_counter() - clock, "samples_per_second": None}

    stack = Stack(models, seeds, job.device)
    diverged_at: list[int | None] = [None] * len(seeds)
    for progress in train(stack, data, corruption(job, data), optimizers(job), job.budget, schedule(job)):
        diverged_at = progress.diverged
        for one, row in zip(runs, progress.row or (), strict=False):
            one.history.append(row)
            pace = {"steps": progress.step, **{key: row[key] for key in ("seconds", "samples_per_second")}}
        trackers.advanced(progress)

    # From here on the record says that training is done: a failure loses the evaluation, not the weights.
    converged = []
    for one, model, step in zip(runs, stack.unstack(), diverged_at, strict=True):
        one.record |= pace | {"seconds": pace["seconds"] / len(seeds), "gradient_norms": early_gradients(one.history)}
        if step or not all(weight.isfinite().all() for weight in model.state_dict().values()):
            reason = f"its loss or its weights were no longer finite at step {step or pace['steps']}"
            one.finish({"status": "diverged", "reason": reason})
        else:
            one.save_weights(model)
            converged.append((one, model))
    return converged


def evaluate_seed(job: Job, data: Data, one: SeedRun, model: Model) -> None:
    """Evaluates a trained model and records the result. An exception ends only this seed."""
    try:
        with torch.no_grad():
            model.fit_after(data, Draws(one.seed, "fit_after", device=job.device))
        metrics = metrics_of(job, model, data, one.record, one.trackers.progress)
        images = pictures(model, images_of(data, job.cache), corruption=corruption(job), seed=one.seed)
    except Exception as error:
        one.finish(_ending(error))
        return
    # The weights are already saved, except those that are fitted after training.
    weights = model.state_dict() if type(model).fit_after is not Model.fit_after else None
    one.finish({"status": "ok", "reason": None, "metrics": metrics}, images=images, weights=weights)


def add_metrics(job: Job, data: Data, one: SeedRun, record: dict[str, Any]) -> None:
    """Adds the metrics that a finished run lacks, from its saved weights. If that fails, its record stays."""
    try:
        job = replace(job, metrics=replace(job.metrics, names=list(one.plan.metrics)))
        model = restored(record, job.settings.allow).to(job.device)
        progress = tracking.Terminal(f"{job.name} seed {one.seed}").progress
        metrics = metrics_of(job, model, data, record, progress)
    except Exception as error:
        one.outcome.failed_metrics[one.seed] = list(one.plan.metrics)
        print(f"{job.name} seed {one.seed}: its metrics: {_ending(error)['reason']}; its record stays", file=sys.stderr)
        return
    record |= {"metrics": record["metrics"] | metrics}
    store.write(one.folder, record)
    one.outcome.add(record)


def metrics_of(job: Job, model: Model, data: Data, record: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The metrics of a trained model. record: with the fields about its training."""
    facts = {"parameters": record["parameters"]["total"]} | {key: record[key] for key in PACE}
    facts |= {f"gradient_norm_{end}": (record.get("gradient_norms") or {}).get(end) for end in ("first", "last")}
    images = images_of(data, job.cache)
    return evaluate(
        model, images, job.metrics, corruption=corruption(job), seed=record["seed"], facts=facts, progress=progress
    )


def early_gradients(history: list[dict[str, float]]) -> dict[str, float] | None:
    """The norms of the gradients in a history, means over EARLY_STEPS; None where nothing was trained."""
    steps, sums = 0, dict.fromkeys(("first", "last"), 0.0)
    for row in history:
        if "gradient_norm/first" not in row:
            break
        weight = min(row["step"], EARLY_STEPS) - steps
        steps += int(weight)
        sums = {end: total + weight * row[f"gradient_norm/{end}"] for end, total in sums.items()}
    return {end: total / steps for end, total in sums.items()} if steps else None


def facts_before_training(job: Job, data: Data, id: str) -> dict[str, Any]:
    """The fields of a record that are known before training."""
    device = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else job.device.type
    return {
        "id": id,
        "name": job.name,
        "sweep": job.settings.sweep,
        "status": "failed",
        "reason": None,
        "traceback": None,
        "choices": job.choices,
        "config": store.identified(job.config),
        "data": {
            "fingerprint": data.fingerprint,
            "range": list(data.range),
            "train": len(data.train.x),
            "validation": len(data.validation.x),
            "test": len(data.test.x),
            "image": list(data.shapes.x),
            "classes": data.shapes.classes,
            "source": data.shapes.source and list(data.shapes.source),
            "conditions": {name: list(shape) for name, shape in data.shapes.conditions.items()},
        },
        "likelihood_key": None,
        **environment(device, torch.get_num_threads()),
        "seeds_stacked": [],
        "steps": 0,
        "seconds": 0.0,
        "samples_per_second": None,
        "gradient_norms": None,
        "parameters": {},
        "metrics": {},
        "warnings": [*data.warnings, *job.warnings],
        "started": _now(),
        "finished": _now(),
    }


def facts_of_model(job: Job, model: Model, data: Data) -> dict[str, Any]:
    """The parameter counts of the model, and the key that comparable likelihoods share."""
    likelihood, binary = getattr(model, "likelihood", None), data.binarize != "none"
    key = None
    if likelihood or hasattr(model, "prior"):  # a GAN has no likelihood: its images are observed through a Gaussian
        key = {
            "dataset": job.choices["dataset"],
            "binarize": data.binarize,
            "dequantize": data.dequantize,
            "measure": likelihood.measure(binary) if likelihood else "density",
            "conditional": model.conditional,
        }
    return {"likelihood_key": key, "parameters": _parameters(model)}


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation. Otherwise each step returns megabytes of gradients to the
    system and receives the same pages again, zeroed: 5 % of a small network's training on a CPU."""
    if sys.platform != "linux":
        return
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):  # in glibc, but not in other C libraries
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        allocator.mallopt(trim_threshold, 1 << 30)
        allocator.mallopt(mmap_threshold, 1 << 26)


def _ending(error: Exception) -> dict[str, Any]:
    """The fields of a record that describe an exception."""
    if isinstance(error, InputError):
        return {"status": "skipped" if isinstance(error, SkipError) else "failed", "reason": str(error)}
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return {"status": "failed", "reason": reason, "traceback": traceback.format_exc()}


def _parameters(model: Model) -> dict[str, int]:
    """Parameter counts of each player, which may overlap, and of the whole model."""
    sizes = {f"model.{name}": parameter.numel() for name, parameter in model.named_parameters()}
    owned = check_ownership(Stack([model], [0]))
    return {player: sum(sizes[n] for n in names) for player, names in owned.items()} | {"total": sum(sizes.values())}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
