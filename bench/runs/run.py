"""One job: compose -> check -> train -> evaluate -> record."""

from __future__ import annotations

import ctypes
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from bench import datasets
from bench.core import InputError, Model, SkipError
from bench.data import Data
from bench.draws import Draws
from bench.engine.seeds import Stack
from bench.engine.train import EARLY_STEPS, check_ownership, train
from bench.evaluation.evaluate import evaluate, missing, requested
from bench.evaluation.evidence import images_of
from bench.evaluation.pictures import pictures
from bench.evaluation.progress import Progress
from bench.runs import store, tracking
from bench.runs.config import Job, build, check, check_combination, corruption, optimizers
from bench.runs.estimate import estimated_seconds
from bench.runs.trained import restored

PACE = ("steps", "seconds", "samples_per_second")
# What a record says of a seed's training, whoever evaluates it.
OF_TRAINING = (*PACE, "seeds_stacked", "gradient_norms", "code", "libraries", "hardware", "started")
ELSEWHERE = "in another process"


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
    """A job, from its resolved configuration. What is done already is not done again; what fails is recorded.

    Raises InputError for wrong input. In a sweep that is recorded as failed once the run is known, and a combination
    that makes no sense as skipped.
    """
    keep_freed_memory()
    job = check(config)
    requested(job.metrics)
    data = datasets.load(job.config["dataset"], job.device)
    folder = store.run_folder(job.results, job.settings.sweep, job.name, job.id)
    outcome = Outcome(str(job.results), job.settings.sweep, folder.name, {})
    seeds = job.settings.seeds
    base = _base(job, data)
    try:
        base |= about(job, check_combination(job, data.shapes), data)
    except Exception as error:
        if isinstance(error, InputError) and not in_sweep:
            raise
        ending = _ending(error)
        found = _finished(folder, seeds, data)
        for seed in seeds:
            outcome.seeds[seed], outcome.reason = ending["status"], ending["reason"]
            # One that says so already stays: a table's rows are in the order in which runs were started.
            if not job.settings.dry_run and found.get(seed, {}).get("reason") != ending["reason"]:
                store.write(store.seed_folder(folder, seed), base | ending | {"seed": seed})
        return outcome

    found = {} if job.settings.rerun else _finished(folder, seeds, data)
    todo = [seed for seed in seeds if seed not in found]
    if job.settings.dry_run:
        outcome.seeds = {seed: "to do" if seed in todo else "done" for seed in seeds}
        untrained = len(todo) - len(_trained(job, data, folder, todo))
        outcome.seconds = estimated_seconds(job, data.shapes, len(data.train.x)) * untrained
        return outcome
    for seed, entry in found.items():
        outcome.seeds[seed], outcome.reason = entry["status"], entry["reason"]
        if not _lacking(job, data, entry):
            continue
        with ExitStack() as locks:
            if not _locked(locks, entry["folder"]):
                continue  # another process is at it
            try:
                add_metrics(job, data, store.read(entry["folder"]))
            except Exception as error:  # the record stays as it was
                ending = _ending(error)
                outcome.seeds[seed], outcome.reason = ending["status"], f"its metrics: {ending['reason']}"
                print(f"{job.name} seed {seed}: {outcome.reason}; its record stays as it was", file=sys.stderr)
    listeners = tracking.listeners(job.tracking, job.results, job.settings.sweep) if todo else []
    for start in range(0, len(todo), job.stack_size):
        group = todo[start : start + job.stack_size]
        # Jobs that come to the same run (two likelihoods of a GAN) may be side by side: each seed is trained by one.
        with ExitStack() as locks:
            mine = [seed for seed in group if _locked(locks, store.seed_folder(folder, seed))]
            found = {} if job.settings.rerun else _finished(folder, mine, data)
            outcome.seeds |= {seed: found[seed]["status"] if seed in found else ELSEWHERE for seed in group}
            mine = [seed for seed in mine if seed not in found]
            if mine:
                train_group(job, data, folder, base | {"seeds_stacked": mine}, listeners, outcome)
    return outcome


def keep_freed_memory() -> None:
    """Has glibc keep what is freed for what is allocated next. Else each step gives megabytes of gradients back to the
    system and is given the same pages anew, zeroed: 5 % of a small network's training on a CPU."""
    if sys.platform != "linux":
        return
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):  # glibc's; other C libraries lack it
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        allocator.mallopt(trim_threshold, 1 << 30)
        allocator.mallopt(mmap_threshold, 1 << 26)


def train_group(
    job: Job, data: Data, folder: Path, base: dict[str, Any], listeners: list[Any], outcome: Outcome
) -> None:
    """Trains, evaluates and records base["seeds_stacked"], at once or one. A failure is recorded, not raised."""
    seeds = base["seeds_stacked"]
    history: dict[int, list[dict[str, float]]] = {seed: [] for seed in seeds}
    own: dict[int, dict[str, Any]] = {seed: {} for seed in seeds}  # what a seed's record says otherwise than base
    recorded: set[int] = set()
    steps = job.budget.plan(len(data.train.x))[0]
    trained_only = _trained(job, data, folder, seeds)

    def keep(seed: int, entry: dict[str, Any], **arrays: dict[str, Any] | None) -> None:
        entry = base | own[seed] | {"seed": seed, "finished": _now()} | entry
        store.write(store.seed_folder(folder, seed), entry, history=history[seed] or None, **arrays)
        outcome.seeds[seed], outcome.reason = entry["status"], entry["reason"]
        recorded.add(seed)
        for listener in listeners:
            listener.finished(seed, entry, arrays.get("images"))

    def conclude(seed: int, model: Model) -> None:
        try:
            with torch.no_grad():
                model.fit_after(data, Draws(seed, "fit_after", device=job.device))
            metrics = judge(job, model, data, seed, base | own[seed], listeners[0].watch)
            images = pictures(model, images_of(data, job.cache), corruption=corruption(job), seed=seed)
        except Exception as error:  # of this seed: the others are evaluated all the same
            keep(seed, _ending(error))
            return
        # The weights are saved already, but for what a model fits after training.
        weights = model.state_dict() if type(model).fit_after is not Model.fit_after else None
        keep(seed, {"status": "ok", "reason": None, "metrics": metrics}, images=images, weights=weights)

    try:
        for listener in listeners:
            listener.started(job.name, job.id, base["config"], seeds, steps)
        for seed, found in trained_only.items():
            model = restored(found).to(job.device)
            own[seed] = {key: found.get(key) for key in OF_TRAINING}
            conclude(seed, model)
        seeds = [seed for seed in seeds if seed not in recorded]
        if not seeds:
            return
        base["seeds_stacked"] = seeds
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
                pace = {"steps": progress.step, **{key: row[key] for key in ("seconds", "samples_per_second")}}
            for listener in listeners:
                listener.advanced(progress)

        # From here on a record says that training is done: what goes wrong below costs an evaluation, not the weights.
        base |= pace | {"seconds": pace["seconds"] / len(seeds)}
        trained = list(zip(seeds, stack.unstack(), diverged, strict=True))
        for seed, model, lost_at in trained:
            own[seed] = {"gradient_norms": early_gradients(history[seed])}
            if lost_at or not all(weight.isfinite().all() for weight in model.state_dict().values()):
                reason = f"its loss or its weights were no longer finite at step {lost_at or base['steps']}"
                keep(seed, {"status": "diverged", "reason": reason})
            else:
                unfinished = base | own[seed] | {"seed": seed, "reason": "its evaluation did not finish"}
                store.write(store.seed_folder(folder, seed), unfinished, weights=model.state_dict())
        for seed, model, _ in trained:
            if seed not in recorded:
                conclude(seed, model)
    except KeyboardInterrupt:
        for seed in seeds:
            # A result that a rerun had not replaced yet stays, and what says that only an evaluation is lacking.
            if seed not in recorded | trained_only.keys() and not store.done(store.seed_folder(folder, seed)):
                keep(seed, {"status": "interrupted", "reason": "stopped by Ctrl-C"})
        raise
    except Exception as error:
        for seed in seeds:
            if seed not in recorded:
                keep(seed, _ending(error))
    finally:
        for listener in listeners:
            listener.closed()


def early_gradients(history: list[dict[str, float]]) -> dict[str, float] | None:
    """The gradients' norms that a history's rows hold, means over EARLY_STEPS; None where nothing was trained."""
    steps, sums = 0, dict.fromkeys(("first", "last"), 0.0)
    for row in history:
        if "gradient_norm/first" not in row:
            break
        weight = min(row["step"], EARLY_STEPS) - steps
        steps += int(weight)
        sums = {end: total + weight * row[f"gradient_norm/{end}"] for end, total in sums.items()}
    return {end: total / steps for end, total in sums.items()} if steps else None


def judge(job: Job, model: Model, data: Data, seed: int, entry: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The job's metrics of a trained model. entry: its record."""
    facts = {"parameters": entry["parameters"]["total"]} | {key: entry[key] for key in PACE}
    facts |= {f"gradient_norm_{end}": (entry.get("gradient_norms") or {}).get(end) for end in ("first", "last")}
    images = images_of(data, job.cache)
    return evaluate(model, images, job.metrics, corruption=corruption(job), seed=seed, facts=facts, progress=progress)


def _lacking(job: Job, data: Data, found: dict[str, Any]) -> list[str]:
    """The metrics asked for that a finished run's record does not hold, or not in these sizes."""
    return missing(found["metrics"], job.metrics, images_of(data, job.cache)) if found["status"] == "ok" else []


def add_metrics(job: Job, data: Data, found: dict[str, Any]) -> None:
    """What a finished run's record lacks of the metrics asked for, from its saved weights."""
    if names := _lacking(job, data, found):
        job = replace(job, metrics=replace(job.metrics, names=names))
        watch = tracking.Terminal(f"{job.name} seed {found['seed']}").watch
        entries = judge(job, restored(found).to(job.device), data, found["seed"], found, watch)
        store.write(found["folder"], found | {"metrics": found["metrics"] | entries})


def about(job: Job, model: Model, data: Data) -> dict[str, Any]:
    """What a record says of the model: its size, and what its likelihood numbers may be compared with."""
    likelihood, binary = getattr(model, "likelihood", None), data.binarize != "none"
    # A GAN, which has no likelihood, is observed through a Gaussian.
    key = (likelihood or hasattr(model, "prior")) and {
        "dataset": job.choices["dataset"],
        "binarize": data.binarize,
        "dequantize": data.dequantize,
        "measure": likelihood.measure(binary) if likelihood else "density",
        "conditional": model.conditional,
    }
    return {"likelihood_key": key, "parameters": _parameters(model)}


def _finished(folder: Path, seeds: list[int], data: Data) -> dict[int, dict[str, Any]]:
    found = {seed: store.done(store.seed_folder(folder, seed), data.fingerprint) for seed in seeds}
    return {seed: entry for seed, entry in found.items() if entry is not None}


def _trained(job: Job, data: Data, folder: Path, seeds: list[int]) -> dict[int, dict[str, Any]]:
    """The records of the seeds that only their evaluation is lacking to."""
    if job.settings.rerun:
        return {}
    steps = job.budget.plan(len(data.train.x))[0]
    found = {seed: store.trained_only(store.seed_folder(folder, seed), data.fingerprint, steps) for seed in seeds}
    return {seed: entry for seed, entry in found.items() if entry is not None}


def _locked(locks: ExitStack, folder: Path) -> bool:
    """Whether this process got hold of a seed's folder; given back when the stack closes, or the process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        locks.enter_context(FileLock(folder / ".lock", blocking=False))
    except Timeout:
        return False
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; set paths.results to another folder") from error
    return True


def _ending(error: Exception) -> dict[str, Any]:
    """How a record says that something was raised."""
    if isinstance(error, InputError):
        return {"status": "skipped" if isinstance(error, SkipError) else "failed", "reason": str(error)}
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return {"status": "failed", "reason": reason, "traceback": traceback.format_exc()}


def _base(job: Job, data: Data) -> dict[str, Any]:
    """What is known of a run before it starts."""
    device = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else job.device.type
    return {
        "id": job.id,
        "name": job.name,
        "sweep": job.settings.sweep,
        "status": "failed",
        "reason": None,
        "traceback": None,
        "choices": job.choices,
        "config": store.identified(job.config),
        "data": {
            "fingerprint": data.fingerprint,
            "train": len(data.train.x),
            "validation": len(data.validation.x),
            "test": len(data.test.x),
            "image": list(data.shapes.image),
            "classes": data.shapes.classes,
        },
        "likelihood_key": None,
        **store.environment(device, torch.get_num_threads()),
        "seeds_stacked": [],
        "steps": 0,
        "seconds": 0.0,
        "samples_per_second": None,
        "gradient_norms": None,
        "parameters": {},
        "metrics": {},
        "warnings": [],
        "started": _now(),
        "finished": _now(),
    }


def _parameters(model: Model) -> dict[str, int]:
    """Counts of each player, which may overlap, and of the whole."""
    sizes = {f"model.{name}": parameter.numel() for name, parameter in model.named_parameters()}
    owned = check_ownership(Stack([model], [0]))
    return {player: sum(sizes[n] for n in names) for player, names in owned.items()} | {"total": sum(sizes.values())}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
