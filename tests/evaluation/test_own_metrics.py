"""Metrics of a user's own module: what their entries say, and when they are computed again."""

from __future__ import annotations

import sys

import pytest

from bench.core import InputError
from bench.evaluation.evaluate import FACTS, evaluate, missing, requested
from bench.evaluation.evidence import Images, images_of
from bench.evaluation.settings import EvaluationSettings
from bench.metrics import discover
from bench.parts.corruptions import Identity
from tests.conftest import CACHE
from tests.evaluation.known_models import LinearGaussian, digits

MODULE = """
from bench.metrics import metric


@metric(better="lower")
def error(x, x_mean):
    return (x - x_mean).flatten(1).abs().mean(1)


@metric(better="higher")
def fit(log_likelihood):
    return log_likelihood


@metric(better="lower")
def corrupted_error(x, x_corrupted):
    return (x - x_corrupted).flatten(1).abs().mean(1)


@metric(better="lower")
def nothing(x, pairs):
    raise ValueError("no answer")


@metric(better="lower")
def feature_size(test_features):
    return test_features.abs().mean(1)
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_metrics", None)


def measure(names: list[str], levels: list[float]) -> dict:
    settings, facts = EvaluationSettings(names, levels), dict.fromkeys(FACTS)
    return evaluate(LinearGaussian(), images_of(digits(), CACHE), settings, corruption=Identity(), seed=0, facts=facts)


def test_an_entry_names_its_module_its_code_and_what_must_be_equal():
    names = ["own_metrics.error", "own_metrics.fit", "own_metrics.corrupted_error", "reconstruction_nll"]
    entries = measure(names, [0.25])
    assert entries.keys() == {*names, "own_metrics.corrupted_error@0.25"}
    details = {name: entries[name]["details"] for name in entries}
    (code,) = {detail.pop("code") for name, detail in details.items() if "." in name.partition("@")[0]}
    assert len(code) == 8 and details.pop("reconstruction_nll") == {}
    noise = {"compared_within": "noise"}
    assert details == {
        "own_metrics.error": {},
        "own_metrics.fit": {"compared_within": "likelihood"},
        "own_metrics.corrupted_error": noise,
        "own_metrics.corrupted_error@0.25": noise,
    }
    assert entries["own_metrics.fit"]["value"] == pytest.approx(-entries["reconstruction_nll"]["value"])


def test_an_own_metric_is_missing_if_it_failed_or_has_other_code():
    names = ["own_metrics.error", "own_metrics.nothing"]
    entries = measure(names, [])
    settings, images = EvaluationSettings(names, []), images_of(digits(), CACHE)
    assert missing(entries, settings, images) == ["own_metrics.nothing"]
    entries["own_metrics.error"]["details"]["code"] = "c0ffee00"
    assert missing(entries, settings, images) == names


def test_an_own_metric_that_is_not_requested_keeps_its_number(monkeypatch):
    """Also where the cache holds another classifier. Its code is not imported."""
    monkeypatch.setattr(Images, "cached_features", lambda self: "new")
    entries = {"own_metrics.feature_size": entry(features="old", code="c0de"), "psnr": entry(), "recall": entry("new")}
    entries["recall"]["settings"] = {"samples": 10**6}
    images = images_of(digits(), CACHE)
    assert missing(entries, EvaluationSettings(["psnr"], []), images) == [] and "own_metrics" not in sys.modules
    again = missing(entries, EvaluationSettings(["own_metrics.feature_size"], []), images)
    assert again == ["own_metrics.feature_size", "recall"], "one record never mixes two classifiers"


def entry(features: str | None = None, **details: str) -> dict:
    return {"reason": None, "settings": {}, "details": details | ({"features": features} if features else {})}


def test_the_names_of_the_package_are_not_own_names():
    assert not [name for name in discover() if "." in name]
    assert all(metric.code is None for metric in discover().values())
    with pytest.raises(InputError, match="own_metrics.nowhere cannot be imported"):
        requested(EvaluationSettings(["own_metrics.nowhere"], []))
