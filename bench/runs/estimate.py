"""An estimate of the training time of a run."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import torch

from bench.core import InputError
from bench.data import Shapes
from bench.engine.train import phases_of
from bench.runs import store
from bench.runs.config import Job, build

PASSES = 6  # floating-point operations per parameter, example and turn: 2 forward, 4 backward
EFFICIENCY = 0.6  # relative to a large matrix product: a guess, good for an order of magnitude
OVERHEAD = 1.5e-3  # seconds of a turn of the smallest network: a guess too


def estimated_seconds(job: Job, shapes: Shapes, examples: int) -> float:
    """Seconds of training for one seed, from a finished run with this name and networks, else from the model's size."""
    steps, _ = job.budget.plan(examples)
    for path in job.results.glob(f"*/{job.name}-*/seed-*/{store.RECORD}"):
        try:
            record = store.read(path.parent)
        except InputError:
            continue  # damaged, or of another version: an error only in its own sweep
        if record["status"] == "ok" and record["steps"] and _costs(record["config"]) == _costs(job.config):
            return record["seconds"] * steps / record["steps"]
    model = build(job.config, shapes, seed=0, allow=job.settings.allow)
    phases = phases_of(model) if model.players else ()
    turns = sum(phase.share * len(phase.turns) for phase in phases) / (sum(phase.share for phase in phases) or 1)
    operations = PASSES * job.budget.batch_size * sum(parameter.numel() for parameter in model.parameters())
    return steps * turns * (OVERHEAD + operations / (EFFICIENCY * _operations_per_second(job.device)))


def _costs(config: dict[str, Any]) -> tuple[Any, ...]:
    """The values that decide the time of a step among runs of one name."""
    model = {key: value for key, value in config["model"].items() if key != "optimizers"}
    return model, config["adversarial"], config["network"], config["budget"] and config["budget"]["batch_size"]


@cache
def _operations_per_second(device: torch.device, size: int = 1024) -> float:
    matrix = torch.ones(size, size, device=device)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        (matrix @ matrix).sum().item()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
