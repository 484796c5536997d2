"""Shared by the tests of Weights & Biases: what a run hands to its trackers, and how logs are read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bench.runs import wandb_runs
from bench.runs.wandb_files import _steps
from bench.runs.wandb_runs import WandB

OPTIONS = {"mode": "offline", "project": "latentbench", "entity": None, "tags": [], "notes": None, "images": True}
NAME, ID = "vae-bernoulli-digits-none", "0123456789"
CONFIG = {"model": {"beta": 1.0, "latent_dim": 16}, "noise": None}
CHOICES = {"model": "vae", "dataset": "cells", "noise": None}


def starting(*seeds: int, id: str = ID) -> list[dict]:
    """The record of each seed before training."""
    common = {"name": NAME, "id": id, "config": CONFIG, "choices": CHOICES, "data": {"fingerprint": "f00d"}}
    return [common | {"seed": seed} for seed in seeds]


class Event(NamedTuple):
    step: int
    steps: int
    seeds: list[int]
    row: list[dict[str, float]] | None


def row(step: int, loss: float) -> dict[str, float]:
    return {"step": step, "epoch": step / 10, "seconds": 0.1, "samples_per_second": 1234.5, "loss/model": loss}


def ended(seed: int, status: str = "ok", reason: str | None = None) -> dict:
    metrics = {
        "elbo": {"value": -100.0 - seed, "reason": None},
        "kl": {"value": None, "reason": "no posterior"},
        "mig": {"value": None, "reason": "no factors"},
    }
    ending = {"status": status, "reason": reason, "steps": 20, "seconds": 2.0, "samples_per_second": 1234.5}
    return {"name": NAME, "seed": seed, "metrics": metrics, **ending}


def pictures(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    shapes = {"input": (12, 1, 4, 4), "reconstruction": (12, 1, 4, 4), "samples": (20, 1, 4, 4)}
    arrays = {name: generator.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}
    return arrays | {"codes": generator.normal(size=(5, 2))}


def track(
    results: Path,
    *rows: dict[str, float],
    history: Sequence[dict[str, float]] | None = None,
    status: str = "ok",
    seeds: Sequence[int] = (0,),
    id: str = ID,
    **options: Any,
) -> None:
    """Seeds with equal rows, from the start or, with a history, from where an earlier process has left them."""
    if history is not None:
        written()
    tracker = WandB(OPTIONS | {"images": False} | options, results, "first")
    tracker.started(starting(*seeds, id=id), 40, [history] * len(seeds))
    for one in rows:
        tracker.advanced(Event(int(one["step"]), 40, list(seeds), [one] * len(seeds)))
    for seed in seeds:
        tracker.finished(seed, ended(seed, status))
    tracker.closed()


def written() -> None:
    """Waits until W&B has written everything, as at the end of a process."""
    import wandb

    wandb.teardown()


def folders(results: Path) -> list[Path]:
    """The offline runs, by time, completely written."""
    written()
    found = results.glob("*/wandb/offline-run-*")
    return sorted(found, key=lambda folder: (folder / "logs").stat().st_mtime_ns)  # filled when the run starts


def inspect(folder: Path) -> dict:
    """An offline run, read by W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()
    run: dict[str, Any] = {"history": [], "summary": {}}
    for record in map(json.loads, lines):
        kind = record["type"]
        if kind == "run":
            run["run"] = record["run"]
        elif kind == "history":
            run["history"].append(record["history"]["item"])
        elif kind == "summary":
            run["summary"] |= record["summary"]["update"]
        elif kind == "exit":
            run["exit"] = record["exit"].get("exit_code", 0)
    return run


def steps(folder: Path) -> list[int]:
    """The steps in the history of an offline run."""
    (path,) = folder.glob("*.wandb")
    return list(_steps(path))


@contextmanager
def forgetting(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Iterator[None]:
    """W&B and the tracker as in a new process, with only these variables of W&B."""
    written()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(WandB, "is_lost", False)
    monkeypatch.setattr(WandB, "has_failed", False)
    wandb_runs._online_or_offline.cache_clear()
    yield
    written()
    wandb_runs._online_or_offline.cache_clear()
