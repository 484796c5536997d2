"""Evidence becomes metrics."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Set
from functools import partial
from typing import Any

import torch

from bench.core import Corruption, InputError, Model, UnavailableError
from bench.evaluation.evidence import (
    ASKS,
    OF_FEATURES,
    SIZED_BY,
    Answers,
    CorruptedAnswers,
    CorruptedImages,
    Densities,
    Images,
    denoising_corruption,
    evidence_names,
    pieces,
)
from bench.evaluation.evidence.densities import Watch, without_progress
from bench.evaluation.settings import EvaluationSettings
from bench.metrics import Metric, Value, discover, summarise

FAILED = "failed: "  # how the reason of a metric that raised begins

_NOTHING = Value(math.nan)
_OF_NOISE = evidence_names(CorruptedImages) | evidence_names(CorruptedAnswers)


def _fact(name: str, value: float | None) -> float:
    if value is None:
        raise UnavailableError(f"{name} was not measured")
    return value


def _wanted(metric: Metric) -> Set[str]:
    return inspect.signature(metric).parameters.keys()


def requested(asked: EvaluationSettings) -> dict[str, Metric]:
    """The metrics asked for. Raises InputError for a name that there is not, before anything is trained."""
    known = discover()
    for name in asked.names or ():
        if name not in known:
            raise InputError(f"metrics.names: there is no metric {name!r}; choose from {', '.join(sorted(known))}")
    return known if asked.names is None else {name: known[name] for name in asked.names}


def settings(metric: Metric, asked: EvaluationSettings) -> dict[str, Any]:
    """What of `asked` decides the number of a metric."""
    return {key: getattr(asked, key) for piece, keys in SIZED_BY.items() if piece in _wanted(metric) for key in keys}


def missing(entries: dict[str, dict[str, Any]], asked: EvaluationSettings, device: torch.device) -> list[str]:
    """The metrics asked for that the entries lack, that failed, or that stand on less than is asked for."""
    asked = asked.on(device)

    def is_there(name: str, metric: Metric) -> bool:
        suffixes = [f"@{level:g}" for level in asked.noise_levels] if _wanted(metric) & _OF_NOISE else []
        found = [entries.get(name + suffix) for suffix in ["", *suffixes]]
        wanted = settings(metric, asked)
        return all(
            entry and not str(entry["reason"]).startswith(FAILED) and _covers(entry["settings"], wanted)
            for entry in found
        )

    return [name for name, metric in requested(asked).items() if not is_there(name, metric)]


def _covers(taken: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a number was taken with as many of everything as are wanted now, and under the same sigma."""
    return wanted.keys() <= taken.keys() and all(
        taken[key] == value if key == "ais_sigma" else taken[key] >= value  # a larger number is not given up
        for key, value in wanted.items()
    )


def _answer(metric: Metric, evidence: dict[str, Callable[[], Any]]) -> Value:
    return summarise(metric(**{piece: evidence[piece]() for piece in _wanted(metric)}))


def _entry(metric: Metric, answer: Value, reason: str | None = None, remarks: Iterable[str] = ()) -> dict[str, Any]:
    """A record's entry: numbers are finite or null, and a null value has its reason; beside others stand remarks."""
    if reason is None and not math.isfinite(answer.value):
        answer, reason = _NOTHING, f"not a finite number: {answer.value}"
    reason = reason or "; ".join(filter(None, [answer.note, *remarks])) or None
    numbers = {key: getattr(answer, key) for key in ("value", "se", "n", "floor")}
    finite = {key: x if x is not None and math.isfinite(x) else None for key, x in numbers.items()}
    return {"better": metric.better, "ideal": metric.ideal, "unit": metric.unit, **finite, "reason": reason}


@torch.no_grad()
def evaluate(
    model: Model,
    images: Images,
    asked: EvaluationSettings,
    *,
    corruption: Corruption,
    seed: int,
    facts: dict[str, float | None],
    watch: Watch = without_progress,
) -> dict[str, dict[str, Any]]:
    """The metrics of a model on the test split, by name: what `bench.runs.store.Metric` says.

    A metric of corrupted images is taken under `corruption` (Gaussian noise of 0.5, where that is Identity) and, as
    `name@level`, under the same kind at each of `asked.noise_levels`. facts: parameters, seconds, samples_per_second,
    gradient_norm_first and gradient_norm_last. watch: shows how far the long loops have come. Leaves the model in
    evaluation mode. Raises InputError for an unknown name.
    """
    metrics, asked = requested(asked), asked.on(images.data.train.x.device)
    model.eval()
    own = denoising_corruption(corruption)
    levels = {f"@{level:g}": type(own)(level=level) for level in asked.noise_levels}  # type: ignore[call-arg]
    answers = Answers(model, images, asked.samples, seed)
    densities = Densities(answers, asked, watch)
    given = {name: partial(_fact, name, value) for name, value in facts.items()}
    entries: dict[str, dict[str, Any]] = {}
    for suffix, kind in {"": own, **levels}.items():
        # Made here and dropped again, so that only one level's images are held at a time.
        noisy = CorruptedImages(images, kind)
        of_images, of_noise = pieces(images), pieces(noisy)
        evidence = given | of_images | pieces(answers) | pieces(densities) | of_noise
        evidence |= pieces(CorruptedAnswers(answers, noisy))
        for name, metric in metrics.items():
            wanted = _wanted(metric)
            noise_key = (type(kind), *sorted(vars(kind).items())) if wanted & _OF_NOISE else ()
            if suffix and not noise_key:
                continue
            shared = images.answers if wanted <= (of_images | of_noise).keys() else {}
            key = (name, *noise_key)
            details: dict[str, Any] = {}
            try:
                if key not in shared:
                    shared[key] = _answer(metric, evidence)
                remarks = dict.fromkeys(note for question, note in model.notes.items() if wanted & ASKS[question])
                entry, details = _entry(metric, shared[key], remarks=remarks), shared[key].details
                if wanted & OF_FEATURES:
                    details = details | images.features_note
            except UnavailableError as reason:
                entry = _entry(metric, _NOTHING, str(reason))
            except AssertionError:  # a model that breaks its contract is not judged
                raise
            except Exception as error:  # one metric's mistake must not cost the others, nor the run
                told = " ".join(f"{type(error).__name__}: {error}".split())
                entry = _entry(metric, _NOTHING, f"{FAILED}{told}")
            entries[name + suffix] = entry | {"settings": settings(metric, asked), "details": details}
    suffixes = ["", *levels]
    return {
        name + suffix: entries[name + suffix] for name in metrics for suffix in suffixes if name + suffix in entries
    }
