"""One job: compose -> check -> train -> evaluate -> record."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from bench import datasets, record, tracking
from bench.check import Job, build, check, check_combination, corruption, optimizers
from bench.core import Data, InputError, Model, SkipError
from bench.draws import Draws
from bench.estimate import estimated_seconds
from bench.evaluate import evaluate, pictures, requested
from bench.seeds import Stack
from bench.train import check_ownership, train
from bench.trained import load_trained


@dataclass
class Outcome:
    """What became of a job: the status of each seed (or "done" and "to do", in a dry run), and why."""

    results: str
    sweep: str
    run: str
    seeds: dict[int, str]
    reason: str | None = None
    seconds: float = 0.0  # that a dry run expects


def run(config: dict[str, Any], in_sweep: bool) -> Outcome:
    """A job, from its resolved configuration. What is done already is not done again; a seed that fails is recorded.

    Raises InputError for wrong input, and SkipError for a combination that makes no sense: in a sweep that is recorded
    as skipped instead.
    """
    job = check(config)
    requested(**job.metrics)
    data = datasets.load(job.config["dataset"], job.device)
    folder = record.run_folder(job.results, job.settings.sweep, job.name, job.id)
    outcome = Outcome(str(job.results), job.settings.sweep, folder.name, {})
    try:
        check_combination(job, data.shapes)
    except SkipError as reason:
        if not in_sweep:
            raise
        return skip(job, data, folder, outcome, str(reason))

    seeds = job.settings.seeds
    found = {} if job.settings.rerun else _finished(folder, seeds, data)
    todo = [seed for seed in seeds if seed not in found]
    if job.settings.dry_run:
        outcome.seeds = {seed: "to do" if seed in todo else "done" for seed in seeds}
        outcome.seconds = estimated_seconds(job, data.shapes, len(data.train.x)) * len(todo)
        return outcome

    # Jobs that come to the same run (two likelihoods of a GAN) may be side by side: one of them trains it.
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", blocking=False):
            for seed, entry in found.items():
                add_metrics(job, data, entry)
                outcome.seeds[seed], outcome.reason = entry["status"], entry["reason"]
            listeners = tracking.listeners(job.tracking, job.results, job.settings.sweep) if todo else []
            for start in range(0, len(todo), job.stack_size):
                train_group(job, data, folder, todo[start : start + job.stack_size], listeners, outcome)
    except Timeout:
        outcome.reason = "another job is at it"
    return outcome


def train_group(job: Job, data: Data, folder: Path, seeds: list[int], listeners: list[Any], outcome: Outcome) -> None:
    """Trains, evaluates and records seeds that are trained at once (or one). A failure is recorded, not raised."""
    base = _base(job, data, seeds)
    history: dict[int, list[dict[str, float]]] = {seed: [] for seed in seeds}

    def keep(seed: int, entry: dict[str, Any], images: dict[str, Any] | None = None) -> None:
        entry = base | {"seed": seed, "finished": _now()} | entry
        record.write(record.seed_folder(folder, seed), entry, history=history[seed], images=images)
        outcome.seeds[seed], outcome.reason = entry["status"], entry["reason"]
        for listener in listeners:
            listener.finished(seed, entry, images)

    def keep_the_rest(entry: dict[str, Any]) -> None:
        for seed in seeds:
            if seed not in outcome.seeds:
                keep(seed, entry)

    for listener in listeners:
        listener.started(job.name, job.id, base["config"], seeds, job.budget.plan(len(data.train.x))[0])
    try:
        models = [build(job.config, data.shapes, seed).to(job.device) for seed in seeds]
        clock = time.perf_counter()
        for seed, model in zip(seeds, models, strict=True):
            model.fit(data, Draws(seed, "fit", device=job.device))
        stack = Stack(models, seeds, job.device)
        pace: dict[str, Any] = {"steps": 0, "seconds": time.perf_counter() - clock, "samples_per_second": None}
        diverged: list[int | None] = [None] * len(seeds)
        for progress in train(stack, data, corruption(job), optimizers(job), job.budget):
            diverged = progress.diverged
            for seed, row in zip(seeds, progress.row or (), strict=False):
                history[seed].append(row)
                pace |= {"steps": progress.step, **{key: row[key] for key in ("seconds", "samples_per_second")}}
            for listener in listeners:
                listener.advanced(progress)

        pace["seconds"] /= len(seeds)
        for seed, model, lost_at in zip(seeds, stack.unstack(), diverged, strict=True):
            if lost_at is not None:
                reason = f"its loss was no longer a finite number at step {lost_at}"
                keep(seed, pace | {"status": "diverged", "reason": reason})
                continue
            # The weights are kept before anything else can go wrong.
            unjudged = base | pace | {"seed": seed, "reason": "its evaluation did not finish"}
            record.write(record.seed_folder(folder, seed), unjudged, weights=model.state_dict())
            metrics = judge(job, model, data, seed, base["parameters"], pace)
            images = pictures(model, data, corruption=corruption(job), seed=seed)
            keep(seed, pace | {"status": "ok", "metrics": metrics}, images)
    except KeyboardInterrupt:
        keep_the_rest({"status": "interrupted", "reason": "stopped by Ctrl-C"})
        raise
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        keep_the_rest({"status": "failed", "reason": reason, "traceback": traceback.format_exc()})
    finally:
        for listener in listeners:
            listener.closed()


def judge(
    job: Job, model: Model, data: Data, seed: int, parameters: dict[str, int], pace: dict[str, Any]
) -> dict[str, Any]:
    """The job's metrics of a trained model, each with what the model says must stand beside it."""
    facts = {"parameters": parameters["total"]} | {key: pace[key] for key in ("seconds", "samples_per_second")}
    entries = evaluate(model, data, corruption=corruption(job), seed=seed, facts=facts, **job.metrics)
    for name, note in model.notes.items():
        if name in entries and entries[name]["value"] is not None:
            entries[name]["reason"] = note
    return entries


def add_metrics(job: Job, data: Data, found: dict[str, Any]) -> None:
    """Metrics that a finished run has not been asked for yet, from its saved weights."""
    asked = set(job.metrics["names"])
    if found["status"] != "ok" or asked <= set(found["metrics"]):
        return
    model = load_trained(found["folder"].parent, found["seed"]).model.to(job.device)
    entries = judge(job, model, data, found["seed"], found["parameters"], found)
    record.write(found["folder"], found | {"metrics": entries | found["metrics"]})


def skip(job: Job, data: Data, folder: Path, outcome: Outcome, reason: str) -> Outcome:
    """Records the seeds of a combination that makes no sense."""
    for seed in job.settings.seeds:
        outcome.seeds[seed] = "skipped"
        if not job.settings.dry_run:
            entry = _base(job, data, [seed], skipped=True) | {"seed": seed, "status": "skipped", "reason": reason}
            record.write(record.seed_folder(folder, seed), entry)
    outcome.reason = reason
    return outcome


def _finished(folder: Path, seeds: list[int], data: Data) -> dict[int, dict[str, Any]]:
    found = {seed: record.done(record.seed_folder(folder, seed), data.fingerprint) for seed in seeds}
    return {seed: entry for seed, entry in found.items() if entry is not None}


def _base(job: Job, data: Data, seeds: list[int], skipped: bool = False) -> dict[str, Any]:
    """What is known of a run before it starts."""
    model = None if skipped else build(job.config, data.shapes, seeds[0])
    device = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else job.device.type
    return {
        "id": job.id,
        "name": job.name,
        "sweep": job.settings.sweep,
        "status": "failed",
        "reason": None,
        "traceback": None,
        "choices": job.choices,
        "config": record.identified(job.config),
        "data": {
            "fingerprint": data.fingerprint,
            "train": len(data.train.x),
            "validation": len(data.validation.x),
            "test": len(data.test.x),
            "image": list(data.shapes.image),
            "classes": data.shapes.classes,
        },
        "likelihood_key": _likelihood_key(job, model, data) if model else None,
        **record.environment(device, torch.get_num_threads()),
        "seeds_stacked": seeds,
        "steps": 0,
        "seconds": 0.0,
        "samples_per_second": None,
        "parameters": _parameters(model) if model else {},
        "metrics": {},
        "warnings": [],
        "started": _now(),
        "finished": _now(),
    }


def _likelihood_key(job: Job, model: Model, data: Data) -> dict[str, Any] | None:
    """What a likelihood number of this run may be compared with; None for a model without a likelihood."""
    likelihood = getattr(model, "likelihood", None)
    return likelihood and {
        "dataset": job.choices["dataset"],
        "binarize": data.binarize,
        "dequantize": data.dequantize,
        "measure": likelihood.measure(binary=data.binarize != "none"),
        "conditional": model.conditional,
        "estimator": "elbo",
    }


def _parameters(model: Model) -> dict[str, int]:
    """Counts of each player, which may overlap, and of the whole."""
    sizes = {f"model.{name}": parameter.numel() for name, parameter in model.named_parameters()}
    owned = check_ownership(Stack([model], [0]))
    return {player: sum(sizes[n] for n in names) for player, names in owned.items()} | {"total": sum(sizes.values())}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
