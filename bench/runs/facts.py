"""What a record says about a run besides its metrics."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from typing import Any

import torch

from bench.core import InputError, Model, SkipError
from bench.data import Data
from bench.engine.seeds import Stack
from bench.engine.train import EARLY_STEPS, check_ownership
from bench.runs import store
from bench.runs.config import Job
from bench.runs.environment import environment
from bench.runs.signals import TimeLimitReached
from bench.runs.size import is_memory_error
from bench.runs.targets import own_packages

PACE = ("steps", "seconds", "samples_per_second")
# The fields about training, which stay if another process evaluates the seed.
OF_TRAINING = (
    *PACE,
    "seeds_stacked",
    "gradient_norms",
    "code",
    "libraries",
    "hardware",
    "started",
    "weights",
    "validation",
)


def facts_before_training(job: Job, data: Data, id: str) -> dict[str, Any]:
    """The fields of a record that are known before training."""
    device = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else job.device.type
    around = environment(device, torch.get_num_threads())
    own = own_packages(job.config)
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
        **around | {"code": around["code"] | ({"own": own} if own else {})},
        "seeds_stacked": [],
        "steps": 0,
        "seconds": 0.0,
        "evaluation_seconds": None,
        "samples_per_second": None,
        "gradient_norms": None,
        "validation": None,
        "tuning": job.tuning,
        "parameters": {},
        "metrics": {},
        "warnings": [*data.warnings, *job.warnings],
        "started": now(),
        "finished": now(),
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


def unexpected(error: BaseException) -> str:
    """An error that is not the user's, in one line: what was raised, and where in this package or in the user's own."""
    reason = " ".join(str(error).split())
    if is_memory_error(error):
        return f"this does not fit into memory ({reason or 'no more is known'}): make the data or the networks smaller"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {reason}{place}"


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


def ending(error: BaseException) -> dict[str, Any]:
    """The fields of a record that describe why a run ended early."""
    if isinstance(error, InputError):
        return {"status": "skipped" if isinstance(error, SkipError) else "failed", "reason": str(error)}
    if isinstance(error, KeyboardInterrupt | TimeLimitReached):
        status = "timeout" if isinstance(error, TimeLimitReached) else "interrupted"
        return {"status": status, "reason": str(error) or "stopped by Ctrl-C"}
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return {
        "status": "out_of_memory" if is_memory_error(error) else "failed",
        "reason": reason,
        "traceback": "".join(traceback.format_exception(error)),
    }


def _parameters(model: Model) -> dict[str, int]:
    """Parameter counts of each player, which may overlap, and of the whole model."""
    sizes = {f"model.{name}": parameter.numel() for name, parameter in model.named_parameters()}
    owned = check_ownership(Stack([model], [0]))
    return {player: sum(sizes[n] for n in names) for player, names in owned.items()} | {"total": sum(sizes.values())}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
