"""About how long a run will take, without training anything."""

from __future__ import annotations

import time

import torch

from bench import record
from bench.check import Job, build
from bench.core import Shapes
from bench.train import phases_of

PASSES = 6  # floating-point operations a parameter, an example and a turn: 2 forward, 4 backward
EFFICIENCY = 0.3  # of a large matrix product's speed that training these networks was seen to reach


def estimated_seconds(job: Job, shapes: Shapes, examples: int) -> float:
    """Seconds of training a seed: from runs of the same name in these results, else from the size of the model."""
    steps, _ = job.budget.plan(examples)
    for path in job.results.glob(f"*/{job.name}-*/seed-*/record.json"):
        found = record.done(path.parent)
        if found and found["status"] == "ok" and found["steps"] and found["config"]["network"] == job.config["network"]:
            return found["seconds"] * steps / found["steps"]
    model = build(job.config, shapes, seed=0)
    turns = sum(len(phase.turns) for phase in phases_of(model)) if model.players else 0
    weights = sum(p.numel() for p in model.parameters())
    return steps * job.budget.batch_size * turns * weights * PASSES / (EFFICIENCY * _operations_per_second(job.device))


def _operations_per_second(device: torch.device, size: int = 1024) -> float:
    matrix = torch.ones(size, size, device=device)
    (matrix @ matrix).sum().item()
    start = time.perf_counter()
    (matrix @ matrix).sum().item()
    return 2 * size**3 / (time.perf_counter() - start)
