"""Axes that are averaged over, because it was asked, and output."""

from __future__ import annotations

import io
from statistics import fmean

import pytest
from rich.console import Console

from bench.core import InputError
from bench.report import write
from bench.report.statistics.estimates import estimate


def report(results, **options):
    out = io.StringIO()
    made = write(results.path, ["first"], Console(file=out, width=200), figures=False, **options)
    return made, out.getvalue()


def two_noises(results, values, model="ae"):
    """values: {noise: [knn_accuracy of each seed]}."""
    for noise, numbers in values.items():
        for seed, value in enumerate(numbers):
            results.run(model, seed, metrics={"knn_accuracy": value}, choices={"noise": noise})


def test_a_seeds_number_is_its_mean_over_the_axis(results):
    values = {"none": [0.9, 0.8, 0.7], "gaussian": [0.5, 0.7, 0.6]}
    two_noises(results, values)
    two_noises(results, {"none": [0.1, 0.2], "gaussian": [0.3, 0.4]}, "vae")
    made, output = report(results, average="noise")
    rows = made.tables[0].rows
    assert made.tables[0].axes == ("model",) and [row.labels for row in rows] == [("ae",), ("vae",)]
    assert rows[0].cells[0].estimate == estimate([fmean(pair) for pair in zip(*values.values(), strict=True)])
    assert rows[1].cells[0].values == pytest.approx({0: 0.2, 1: 0.3})
    assert "mean over noise (none, gaussian)" in output
    unasked, output = report(results)
    assert len(unasked.tables[0].rows) == 4 and "its mean over" not in output


def test_only_seeds_that_all_have_count(results):
    two_noises(results, {"none": [0.9, 0.8, 0.7], "gaussian": [0.5]})
    made, _ = report(results, average=["noise"])
    (row,) = made.tables[0].rows
    assert row.cells[0].values == pytest.approx({0: 0.7})


def test_without_a_common_seed_there_is_no_number(results):
    results.run("ae", 0, metrics={"knn_accuracy": 0.5})
    results.run("ae", 1, metrics={"knn_accuracy": 0.7}, choices={"noise": "gaussian"})
    made, output = report(results, average="noise")
    assert made.tables[0].rows[0].cells[0].estimate is None and "have no seed in common" in output


def test_a_setting_is_an_axis_too_and_others_stay_rows(results):
    for beta, value in ((1.0, 0.5), (4.0, 0.7)):
        for model in ("vae", "cvae"):
            results.run(model, metrics={"knn_accuracy": value}, settings={"model.beta": beta})
    made, output = report(results, average="model.beta")
    assert [(row.labels, row.cells[0].estimate.mean) for row in made.tables[0].rows] == [
        (("vae",), pytest.approx(0.6)),
        (("cvae",), pytest.approx(0.6)),
    ]
    assert "model.beta (1, 4)" in output


def test_what_one_of_them_lacks_is_not_averaged(results):
    results.run("ae", metrics={"knn_accuracy": 0.5, "elbo": "no density"})
    results.run("ae", metrics={"knn_accuracy": "no labels", "elbo": "no density"}, choices={"noise": "gaussian"})
    _, output = report(results, average="noise")
    assert "n/a for some of the averaged runs: no labels" in output
    results.run("vae", metrics={"knn_accuracy": 0.5})
    results.run("vae", status="failed", reason="broke", choices={"noise": "gaussian"})
    _, output = report(results, average="noise")
    assert "failed: broke" in output


def test_an_unknown_axis_is_one_line(results):
    results.run("ae", metrics={"knn_accuracy": 0.5})
    with pytest.raises(InputError, match="average=nois is not known"):
        report(results, average="nois")
