"""Evidence becomes metrics."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from bench.core import Corruption, Data, InputError, Model, UnavailableError
from bench.evidence import Answers, NoisyAnswers, NoisyImages, images_of, judged_under, pieces, pieces_of
from bench.metrics import Metric, Value, discover, summarise

_NOTHING = Value(math.nan)


def _fact(name: str, value: float | None) -> float:
    if value is None:
        raise UnavailableError(f"{name} was not measured")
    return value


def requested(names: list[str], noise_levels: list[float], samples: int) -> dict[str, Metric]:
    """The metrics of these names. Raises InputError for what `evaluate` refuses, before anything is trained."""
    known = discover()
    for name in names:
        if name not in known:
            raise InputError(f"metrics.names: there is no metric {name!r}; choose from {', '.join(sorted(known))}")
    for level in noise_levels:
        if not (math.isfinite(level) and level >= 0):
            raise InputError(f"metrics.noise_levels: {level} is not a noise level; give finite numbers, 0 or more")
    if samples < 1:
        raise InputError(f"metrics.samples={samples}: give 1 or more")
    return {name: known[name] for name in names}


def entry_names(names: list[str], noise_levels: list[float]) -> list[str]:
    """The names under which `evaluate` answers: `name`, and `name@level` for metrics of corrupted images."""
    of_noise = pieces_of(NoisyImages) | pieces_of(NoisyAnswers)
    noisy = [name for name in names if inspect.signature(discover()[name]).parameters.keys() & of_noise]
    return [*names, *(f"{name}@{level:g}" for name in noisy for level in noise_levels)]


def _answer(metric: Metric, evidence: dict[str, Callable[[], Any]]) -> Value:
    return summarise(metric(**{piece: evidence[piece]() for piece in inspect.signature(metric).parameters}))


def _entry(metric: Metric, answer: Value, reason: str | None = None) -> dict[str, Any]:
    """A record's entry: numbers are finite or null, and a null value has its reason."""
    if reason is None and not math.isfinite(answer.value):
        answer, reason = _NOTHING, f"not a finite number: {answer.value}"
    finite = {name: x if x is not None and math.isfinite(x) else None for name, x in vars(answer).items()}
    return {"better": metric.better, "ideal": metric.ideal, **finite, "reason": reason}


@torch.no_grad()
def evaluate(
    model: Model,
    data: Data,
    *,
    names: list[str],
    noise_levels: list[float],
    corruption: Corruption,
    samples: int,
    seed: int,
    facts: dict[str, float | None],
) -> dict[str, dict[str, Any]]:
    """The metrics `names` of a model on the test split: {name: {value, better, ideal, se, n, floor, reason}}.

    A metric of corrupted images is taken under `corruption` (Gaussian noise of 0.5, where that is Identity) and, as
    `name@level`, under the same kind at each of `noise_levels`. facts: parameters, seconds, samples_per_second,
    gradient_norm_first and gradient_norm_last. Leaves the model in evaluation mode. Raises InputError for an unknown
    name, a level that is negative or not finite, and samples < 1.
    """
    metrics = requested(names, noise_levels, samples)
    model.eval()
    own = judged_under(corruption)
    kinds: dict[str, Corruption] = {"": own} | {f"@{level:g}": type(own)(level=level) for level in noise_levels}  # type: ignore[call-arg]
    images = images_of(data)
    answers = Answers(model, images, samples, seed)
    given = {name: partial(_fact, name, value) for name, value in facts.items()}
    entries: dict[str, dict[str, Any]] = {}
    for suffix, kind in kinds.items():
        # Made here and dropped again, so that only one level's images are held at a time.
        noisy = NoisyImages(images, kind)
        of_images, of_noise = pieces(images), pieces(noisy)
        denoised = pieces(NoisyAnswers(answers, noisy))
        evidence = given | of_images | pieces(answers) | of_noise | denoised
        for name, metric in metrics.items():
            wanted = inspect.signature(metric).parameters.keys()
            noise_key = (type(kind), *sorted(vars(kind).items())) if wanted & (of_noise | denoised).keys() else ()
            if suffix and not noise_key:
                continue
            shared = images.answers if wanted <= (of_images | of_noise).keys() else {}
            key = (name, *noise_key)
            try:
                if key not in shared:
                    shared[key] = _answer(metric, evidence)
                entries[name + suffix] = _entry(metric, shared[key])
            except UnavailableError as reason:
                entries[name + suffix] = _entry(metric, _NOTHING, str(reason))
    return {name + suffix: entries[name + suffix] for name in names for suffix in kinds if name + suffix in entries}
