"""Computes the metrics of a model from evidence."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from bench.core import Corruption, InputError, Model, UnavailableError
from bench.evaluation.conventions import VALIDATION, is_on_validation, loss, metric_of
from bench.evaluation.evidence import (
    SOURCES,
    Answers,
    CorruptedAnswers,
    CorruptedImages,
    Critics,
    Densities,
    Images,
    Stages,
    Translations,
    Traversals,
    denoising_corruption,
    evidence_in,
    evidence_of,
    permuted,
)
from bench.evaluation.evidence.decorator import Evidence
from bench.evaluation.progress import Progress, no_progress
from bench.evaluation.settings import EvaluationSettings
from bench.metrics import Metric, Value, check_sides, discover, own_metric, summarise

PERMUTED = "permuted"  # the suffix of metrics of outputs with the conditions of another example
FAILED = "failed: "  # the start of the reason of a metric that raised
NOT_FINITE = "not a finite number"  # the start of the reason of a metric without a finite value
FACTS = ("parameters", "seconds", "samples_per_second", "gradient_norm_first", "gradient_norm_last")  # of a run

_NO_VALUE = Value(math.nan)
_DECLARED = {name: evidence for kind in SOURCES for name, evidence in evidence_in(kind).items()}
_OF_NOISE = evidence_in(CorruptedImages).keys() | evidence_in(CorruptedAnswers).keys()
_OF_TRANSLATIONS = evidence_in(Translations).keys()
_OF_ANSWERS = evidence_in(Answers).keys() | evidence_in(Densities).keys() | evidence_in(Traversals).keys()
_OF_ANSWERS |= evidence_in(Critics).keys()


def _fact(name: str, value: float | None) -> float:
    if value is None:
        raise UnavailableError(f"{name} was not measured")
    return value


@cache
def _requests(metric: Metric) -> Set[str]:
    """The names of a metric's parameters, in their order, which decides which reason is given first."""
    return inspect.signature(metric).parameters.keys()


def _declared(metric: Metric) -> list[Evidence[Any]]:
    """The evidence that a metric requests. The facts of a run are not among it."""
    return [_DECLARED[name] for name in _requests(metric) if name in _DECLARED]


def _uses_features(metric: Metric) -> bool:
    return any(evidence.features for evidence in _declared(metric))


def _uses_judges(metric: Metric) -> bool:
    return any(evidence.judged for evidence in _declared(metric))


def requested(settings: EvaluationSettings) -> dict[str, Metric]:
    """The metrics that the settings name, by these names. Raises InputError for an unknown one, before any training."""
    if settings.names is None:
        return discover()
    return {name: known_metric("metrics.names", name) for name in settings.names}


def known_metric(key: str, name: str) -> Metric:
    """A metric by its name, also on the validation split. Raises InputError for an unknown one, with the key."""
    metric = discover().get(metric_of(name)) or _own(key, name)
    if is_on_validation(name) and not _declared(metric):
        raise InputError(f"{key}: {metric_of(name)} is a fact about a run, which is the same on every split")
    return metric


def known_names() -> list[str]:
    """The names of all metrics of this package."""
    return list(discover())


def loss_of(key: str, name: str) -> Callable[[float], float]:
    """A function that is lower for better values of a metric. Raises InputError if no value is better than another."""
    metric = known_metric(key, name)
    if metric.better is None:
        raise InputError(f"{key}={name}: no value of {metric_of(name)} is better than another")
    return partial(loss, better=metric.better, ideal=metric.ideal)


def _own(key: str, name: str) -> Metric:
    if "." not in metric_of(name):
        raise InputError(
            f"{key}: there is no metric {name!r}; choose from {', '.join(sorted(discover()))}, or name your own with "
            "its module, as in my_metrics.contrast"
        )
    try:
        metric = own_metric(metric_of(name))
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    if unknown := [parameter for parameter in _requests(metric) if parameter not in (*_DECLARED, *FACTS)]:
        raise InputError(
            f"{key}: {name} has the parameter {unknown[0]}, but there is no evidence of this name; there is "
            f"{', '.join(sorted(_DECLARED))}, and of a run {', '.join(FACTS)}"
        )
    return metric


def _own_details(metric: Metric) -> dict[str, str]:
    """What tells whether numbers of a user's own metric can be compared: its code, and what must be equal."""
    if metric.code is None:
        return {}
    asks = {part for evidence in _declared(metric) for part in evidence.asks}
    equal = {"likelihood": "likelihood" in asks, "noise": bool(_requests(metric) & _OF_NOISE)}
    within = ", ".join(name for name, is_needed in equal.items() if is_needed)
    return {"code": metric.code} | ({"compared_within": within} if within else {})


def settings_of(metric: Metric, settings: EvaluationSettings) -> dict[str, Any]:
    """The settings that the number of a metric depends on."""
    return {key: getattr(settings, key) for evidence in _declared(metric) for key in evidence.sized_by}


def missing(entries: dict[str, dict[str, Any]], settings: EvaluationSettings, images: Images) -> list[str]:
    """The metrics to evaluate before a record's entries hold all that the settings name.

    A metric is missing if it is absent, failed, or was computed with smaller settings or with other code. Metrics in
    the features of a classifier are evaluated together, also those that the settings do not name: otherwise one record
    could mix two classifiers. That happens if the cache holds another classifier than the record, or none when one is
    needed. The same is true of metrics by judges. A user's own metrics that the settings do not name are not imported,
    so they keep their numbers.
    """
    settings = settings.on(images.data.train.x.device)

    def is_there(name: str, metric: Metric) -> bool:
        suffixes = [f"@{level:g}" for level in settings.noise_levels] if _requests(metric) & _OF_NOISE else []
        found = [entries.get(name + suffix) for suffix in ["", *suffixes]]
        needed = settings_of(metric, settings)
        return all(
            entry
            and not str(entry["reason"]).startswith(FAILED)
            and _covers(entry["settings"], needed)
            and entry["details"].get("code") == metric.code
            for entry in found
        )

    asked = requested(settings)
    names = [name for name, metric in asked.items() if not is_there(name, metric)]
    known = discover() | {metric_of(name): metric for name, metric in asked.items()}
    others = {name for name in entries if "." in (own := name.partition("@")[0]) and own not in asked}
    entries = {name: entry for name, entry in entries.items() if name not in others}
    for key, uses, hash_in_cache in (
        ("features", _uses_features, images.cached_features),
        ("judges", _uses_judges, images.cached_judges),
    ):
        recorded = {entry["details"][key] for entry in entries.values() if key in entry["details"]}
        cached = hash_in_cache() if recorded else None
        trains = cached is None and any(uses(known[metric_of(name)]) for name in names)
        if recorded and (trains or (cached is not None and recorded != {cached})):
            both = (*known, *(VALIDATION + name for name in known))
            names += [name for name in both if name in entries.keys() - names and uses(known[metric_of(name)])]
    return names


def _covers(recorded: dict[str, Any], needed: dict[str, Any]) -> bool:
    """Whether a number was computed with at least the sizes that are needed now, and with the same sigma."""
    return needed.keys() <= recorded.keys() and all(
        recorded[key] == value if key == "ais_sigma" else recorded[key] >= value  # a larger size is not given up
        for key, value in needed.items()
    )


def _is_of_test_examples(metric: Metric) -> bool:
    """Whether numbers for each example are those of all test examples in order, not of some of them or of samples."""
    return not any(evidence.subset or evidence.sized_by for evidence in _declared(metric))


def _answers(metric: Metric, evidence: dict[str, Callable[[], Any]], subsets: Mapping[str, Tensor]) -> dict[str, Value]:
    """The metric's value under "", and under "@<subset>" its value for each subset of the test examples."""
    whole = summarise(metric(**{name: evidence[name]() for name in _requests(metric)}))
    values = {"": whole, **{f"@{name}": value for name, value in whole.subsets.items()}}
    if (examples := whole.examples) is not None and _is_of_test_examples(metric):
        of_test = {name: rows for name, rows in subsets.items() if len(rows) == len(examples)}
        values |= {f"@{name}": summarise(examples[rows]) for name, rows in of_test.items()}
    return values


def _entry(metric: Metric, answer: Value, reason: str | None = None, remarks: Iterable[str] = ()) -> dict[str, Any]:
    """A record's entry. Numbers are finite or null; a null value has a reason, a number may have remarks."""
    if reason is None and not math.isfinite(answer.value):
        answer, reason = _NO_VALUE, f"{NOT_FINITE}: {answer.value}"
    reason = reason or "; ".join(filter(None, [answer.note, *remarks])) or None
    numbers = {key: getattr(answer, key) for key in ("value", "se", "n", "floor")}
    finite = {key: x if x is not None and math.isfinite(x) else None for key, x in numbers.items()}
    return {"better": metric.better, "ideal": metric.ideal, "unit": metric.unit, **finite, "reason": reason}


def evaluate(*arguments: Any, **options: Any) -> dict[str, dict[str, Any]]:
    """The result of `evaluations`, which has the same parameters."""
    *_, found = {}, *evaluations(*arguments, **options)
    return found


@torch.no_grad()
def evaluations(
    model: Model,
    images: Images,
    settings: EvaluationSettings,
    *,
    corruption: Corruption,
    seed: int,
    facts: dict[str, float | None],
    progress: Progress = no_progress,
) -> Iterator[dict[str, dict[str, Any]]]:
    """The metrics of a model on the test split, by name, as `bench.runs.record.Metric` describes them.

    Yields those that are complete, after each further one. The last dictionary has all.

    Metrics of corrupted inputs use `corruption` (Gaussian noise of 0.5 in place of Identity). They are repeated as
    `name@level` with the same kind of noise at each of `settings.noise_levels`. Metrics of a model's outputs for the
    test examples are repeated as `name@stage` for each stage before the last, and as `name@permuted` with the
    conditions of other examples. Metrics with a number for each test example are repeated as `name@subset` for each
    subset of the test split that the data or the metric name. facts: parameters, seconds, samples_per_second,
    gradient_norm_first and gradient_norm_last. Leaves the model in evaluation mode. Raises InputError for an unknown
    metric.

    Names such as validation/knn_accuracy are for the caller: their metric is that of `validation_images_of`.
    """
    metrics, settings = requested(settings), settings.on(images.data.train.x.device)
    model.eval()
    own = denoising_corruption(corruption)
    answers = Answers(model, images, settings.samples, seed)
    densities, traversals = Densities(answers, settings, progress), Traversals(answers)
    of_run = {name: partial(_fact, name, value) for name, value in facts.items()}
    stages = Stages(answers, images.test)
    output = Translations(images, stages)
    # Suffix of the name: corruption, translations, and the evidence that differs from that without suffix.
    variants: dict[str, tuple[Corruption, Translations, Set[str]]] = {"": (own, output, _DECLARED.keys())}
    for level in settings.noise_levels:
        variants[f"@{level:g}"] = type(own)(level=level), output, _OF_NOISE  # type: ignore[call-arg]
    if any(_requests(metric) & _OF_TRANSLATIONS for metric in metrics.values()):
        for stage in stages.on_the_way:
            # A metric that requests all stages is the same for each of them.
            variants[f"@{stage}"] = own, Translations(images, stages, stage), _OF_TRANSLATIONS - {"stages"}
        if (others := permuted(answers)) is not None:
            variants[f"@{PERMUTED}"] = own, Translations(images, Stages(answers, others)), _OF_TRANSLATIONS

    def is_repeated(metric: Metric, suffix: str) -> bool:
        requests, differing = _requests(metric), variants[suffix][2]
        return bool(requests & differing) and not (requests & _OF_TRANSLATIONS and requests & _OF_ANSWERS)

    suffixes = {name: ["", *(s for s in variants if s and is_repeated(metric, s))] for name, metric in metrics.items()}
    entries: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in metrics}
    complete: set[str] = set()
    for suffix, (kind, translations, _) in variants.items():
        # Made here and dropped again, so that only one level's images are held at a time.
        noisy = CorruptedImages(images, kind)
        of_data = evidence_of(images) | evidence_of(noisy)
        of_model = evidence_of(answers) | evidence_of(densities) | evidence_of(CorruptedAnswers(answers, noisy))
        of_model |= evidence_of(translations) | evidence_of(traversals) | evidence_of(Critics(answers))
        for name, metric in metrics.items():
            requests = _requests(metric)
            if suffix not in suffixes[name]:
                continue
            noise_key = (type(kind), *sorted(vars(kind).items())) if requests & _OF_NOISE else ()
            shared = images.answers if requests <= of_data.keys() else {}
            key = (name, *noise_key)
            try:
                check_sides(metric, len(images.data.shapes.x) - 1)
                if key not in shared:
                    shared[key] = _answers(metric, of_run | of_data | of_model, images.subsets)
                asks = {part for evidence in _declared(metric) for part in evidence.asks}
                remarks = dict.fromkeys(note for part, note in model.notes.items() if part in asks)
                details = images.features_details() if _uses_features(metric) else {}
                details |= images.judges_details() if _uses_judges(metric) else {}
                found = {
                    subset: (_entry(metric, value, remarks=remarks), value.details | details)
                    for subset, value in shared[key].items()
                }
            except UnavailableError as reason:
                found = {"": (_entry(metric, _NO_VALUE, str(reason)), {})}
            except AssertionError:  # a model that breaks its contract has no metrics
                raise
            except Exception as error:  # one metric's error must not cost the others, nor the run
                message = " ".join(f"{type(error).__name__}: {error}".split())
                found = {"": (_entry(metric, _NO_VALUE, f"{FAILED}{message}"), {})}
            for subset, (entry, details) in found.items():
                entries[name][name + suffix + subset] = entry | {
                    "settings": settings_of(metric, settings),
                    "details": details | _own_details(metric),
                }
            if suffix == suffixes[name][-1]:
                complete.add(name)
                yield {name: entry for one in metrics if one in complete for name, entry in entries[one].items()}
