"""What is never ranked or compared: numbers of two classifiers, by other judges, and of two likelihoods."""

from __future__ import annotations

import pytest

from bench.report.records.load import load
from bench.report.verdicts.claims import Claim, Comparison, evaluate

from .conftest import labels, measured, report


def two_classifiers(results, values, seed=0, **given):
    """values: by model, the Frechet distance and the accuracy of the classifier it was measured with."""
    for model, (value, accuracy) in values.items():
        results.run(model, seed, metrics={"frechet_distance": measured(value, accuracy=accuracy)}, **given)


def test_numbers_of_two_classifiers_are_not_ranked_together(results):
    two_classifiers(results, {"vae": (3.0, 0.994), "aae": (2.0, 0.994), "gan": (1.0, 0.9935)})
    ((table,), text) = report(results, improvement="frechet_distance")
    assert [row.labels[0] for row in table.rows if row.cells[0].best] == ["aae"]
    note = "frechet_distance was measured with feature classifier c0ffee (accuracy 0.9935) in gan, and with feature "
    assert f"{note}classifier c0ffee (accuracy 0.994) in all other rows. Only rows" in text
    (line,) = [line for line in text.split("probability of improvement")[1].splitlines() if line.startswith("| gan")]
    assert [cell.strip() for cell in line.split("|")[3:-1]] == ["not ranked", "not ranked", ""]


def judged(value, judges="c0ffee, beef", real=0.9, floor=0.25):
    details = {"body": value, "body_real": real, "body_floor": floor, "judges": judges}
    return {"judged_accuracy": {"value": value, "better": "higher", "details": details}}


def test_numbers_by_other_judges_are_not_ranked_together_and_what_they_read_is_noted(results):
    for model, value, judges in (("vae", 0.5, "c0ffee"), ("aae", 0.4, "c0ffee"), ("gan", 0.9, "beef")):
        results.run(model, metrics=judged(value, judges, real=0.95 if judges == "beef" else 0.9))
    ((table,), text) = report(results, metrics=["judged_accuracy"])
    assert [row.labels[0] for row in table.rows if row.cells[0].best] == ["vae"]
    assert (
        "judged_accuracy was measured with judges beef in gan, and with judges c0ffee in all other rows. Only" in text
    )
    meaning = "How well judges predict from real test images (in brackets: the best prediction without an image)"
    assert f"{meaning}: judged_accuracy body 0.9 (0.25) or 0.95 (0.25)." in text


def test_ranks_over_data_sets_refuse_two_classifiers(results):
    for i in range(6):
        last = 0.9935 if i == 5 else 0.994
        values = {"vae": (3.0, 0.994), "aae": (2.0, 0.994), "gan": (1.0, last)}
        two_classifiers(results, values, choices={"dataset": f"set{i}"})
    _, text = report(results, ranks="frechet_distance")
    assert "Refused: on set5, rows have different feature classifiers in frechet_distance." in text


def test_likelihoods_of_two_kinds_are_neither_ranked_nor_improved_upon(results):
    for i in range(6):
        for likelihood, measure in (("bernoulli", "unnormalised"), ("gaussian", "density"), ("laplace", "density")):
            key = results.KEY | {"measure": measure, "dataset": f"set{i}"}
            choices = {"likelihood": likelihood, "dataset": f"set{i}"}
            results.run("vae", metrics={"elbo": -1.0}, likelihood_key=key, choices=choices)
    _, text = report(results, ranks="elbo", improvement="elbo")
    assert "Refused: on set0, rows have different likelihoods in elbo." in text
    (line,) = [line for line in text.split("set0: prob")[1].split("##")[0].splitlines() if line.startswith("| gauss")]
    assert [cell.strip() for cell in line.split("|")[3:-1]] == ["not ranked", "", "0.50"]


def verdicts(results, **test):
    runs = {"vae": {"model": "vae"}, "gan": {"model": "gan"}}
    claim = Claim(says="Something", runs=runs, tests=(Comparison(of="gan", expected="below", **test),))
    return evaluate(load(results.path, ["first"]), {"one": claim})


@pytest.mark.parametrize("metric", [None, "interpolation_gap"])
@pytest.mark.parametrize(("accuracy", "outcome"), [(0.994, "holds"), (0.9935, "n/a")])
def test_claims_refuse_two_classifiers(results, metric, accuracy, outcome):
    for seed in range(6):
        noise = seed / 100
        results.run("gan", seed, metrics={"frechet_distance": measured(1.0 - noise)})
        name = metric or "frechet_distance"
        settings = {"samples": 9} if metric else {}  # two metrics need not have these in common
        results.run("vae", seed, metrics={name: measured(2.0 + noise, accuracy=accuracy, **settings)})
    (found,) = verdicts(results, metric="frechet_distance", against="vae", against_metric=metric)
    assert found.outcome == outcome
    assert (outcome == "n/a") == any("different feature classifiers" in remark for remark in found.remarks)


def test_claims_refuse_two_classifiers_of_one_run(results):
    for seed in range(6):
        metrics = {"frechet_distance": measured(1.0), "interpolation_gap": measured(2.0, accuracy=0.9935)}
        results.run("gan", seed, metrics=metrics)
    (found,) = verdicts(results, metric="frechet_distance", against_metric="interpolation_gap")
    assert found.outcome == "n/a" and "different feature classifiers" in found.remarks[-1]


def test_labels_of_close_numbers_differ(results):
    for i, lr in enumerate((0.1234567, 0.12345678)):
        results.run("ae", metrics={"knn_accuracy": 0.5 + i / 10}, settings={"optimizer.lr": lr})
    ((table,), _) = report(results)
    assert labels(table) == [("0.1234567",), ("0.12345678",)]
