"""How a number of a record was measured: numbers that were measured in two ways are never pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# How a number was measured: settings such as the number of samples, the feature classifier, the judges and, of a
# user's own metric, its code, by name.
Evaluation = tuple[tuple[str, Any], ...]
CLASSIFIER = "feature classifier"
JUDGES = "judges"
WITHIN = "compared_within"  # what must be equal to rank a user's own metric; the package knows it of its own


def evaluation_of(entry: Mapping[str, Any]) -> Evaluation:
    """How a metric's entry in a record was measured.

    A classifier is identified by its hash and its accuracy, as records of schema 2 have one hash for classifiers that
    were trained on different machines.
    """
    details = entry.get("details", {})
    used = dict(entry.get("settings", {}))
    if "features" in details:
        accuracy = details.get("features_accuracy")
        used[CLASSIFIER] = details["features"] + ("" if accuracy is None else f" (accuracy {accuracy})")
    if "judges" in details:
        used[JUDGES] = details["judges"]
    used |= {key: details[key] for key in ("code", WITHIN) if key in details}
    return tuple(sorted(used.items()))


def describe_evaluations(groups: Sequence[Mapping[str, Evaluation]]) -> list[str]:
    """How each group was evaluated, as far as groups differ, as "samples 500"; "" for a single group.

    groups: the evaluations of each, by metric. Groups that measured a metric in two ways have different texts.
    """
    found: dict[str, list[dict[str, Any]]] = {}  # by setting: the values of each group, by metric
    for i, group in enumerate(groups):
        for metric, evaluation in group.items():
            for name, value in evaluation:
                found.setdefault(name, [{} for _ in groups])[i][metric] = value
    texts: list[list[str]] = [[] for _ in groups]
    for name, by_group in found.items():
        metrics = dict.fromkeys(metric for values in by_group for metric in values)
        differing = [
            metric
            for metric in metrics
            if len({v.get(metric) for v, group in zip(by_group, groups, strict=True) if metric in group}) > 1
        ]
        for text, values, group in zip(texts, by_group, groups, strict=True):
            used = {metric: values.get(metric, "none") for metric in differing if metric in group}
            if len(set(used.values())) == 1:
                text.append(f"{name} {next(iter(used.values()))}")
            else:
                text += [f"{name} of {metric} {value}" for metric, value in used.items()]
    return [", ".join(text) for text in texts]
