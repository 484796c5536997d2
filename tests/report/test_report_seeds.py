"""Results in Python and in seeds.csv: every seed and every metric, with a number or the reason why there is none."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest

import bench
from bench.core import InputError

from .conftest import report

COLUMNS = ["metric", "value", "se", "n", "unit", "better", "ideal", "reason"]


def sweep(results) -> None:
    """Two seeds of an ae without an elbo, two of a vae, of which one failed, and a gan that was skipped."""
    for seed in (0, 1):
        results.run("ae", seed, metrics={"knn_accuracy": 0.9 + seed / 100, "elbo": "no prior"})
    results.run("vae", 0, metrics={"knn_accuracy": {"value": 0.8, "se": 0.01, "n": 360, "unit": "%"}, "elbo": -1.5})
    results.run("vae", 1, status="failed", reason="RuntimeError: sorry", metrics={"knn_accuracy": 0.1})
    results.run("gan", 0, status="skipped", reason="no sense", choices={"likelihood": None}, data=None)


@pytest.fixture
def frame(results):
    sweep(results)
    return bench.results(results.path / "first")


def row(frame, model, seed, metric):
    (found,) = frame[(frame.model == model) & (frame.seed == seed) & (frame.metric == metric)].to_dict("records")
    return found


def test_each_seed_has_a_row_for_each_metric(frame):
    assert len(frame) == 5 * 2 and list(frame.columns[-len(COLUMNS) :]) == COLUMNS
    assert not frame.duplicated(["sweep", "run", "seed", "metric"]).any()
    assert list(frame.columns[:8]) == ["sweep", "run", "id", "seed", "model", "likelihood", "dataset", "noise"]
    assert (
        set(frame.sweep) == {"first"}
        and (frame.run == frame.run.str.split("-").str[:-1].str.join("-") + "-" + frame.id).all()
    )


def test_numbers_come_with_what_is_known_of_them(frame):
    found = row(frame, "vae", 0, "knn_accuracy")
    assert (found["value"], found["se"], found["n"], found["unit"]) == (0.8, 0.01, 360, "%")
    assert (found["better"], found["ideal"], found["status"]) == ("higher", 1.0, "ok") and pd.isna(found["reason"])


@pytest.mark.parametrize(
    ("model", "seed", "metric", "status", "reason"),
    [
        ("ae", 1, "elbo", "ok", "no prior"),
        ("vae", 1, "knn_accuracy", "failed", "RuntimeError: sorry"),  # like a table, which takes no number of it
        ("vae", 1, "elbo", "failed", "RuntimeError: sorry"),
        ("gan", 0, "elbo", "skipped", "no sense"),
    ],
)
def test_without_a_number_there_is_nan_and_the_reason(frame, model, seed, metric, status, reason):
    found = row(frame, model, seed, metric)
    assert np.isnan(found["value"]) and (found["status"], found["reason"]) == (status, reason)


def test_a_group_that_a_model_does_not_use_is_a_value_that_grouping_keeps(frame):
    assert row(frame, "gan", 0, "elbo")["likelihood"] == "-"
    assert len(frame.groupby(["model", "likelihood", "adversarial"]).size()) == 3


def test_settings_in_which_runs_differ_are_columns_as_numbers_or_text(results):
    for latents, widths in ((2, [4, 8]), (16, [4])):
        settings = {"model.latent_dim": latents, "network.widths": widths, "budget.steps": None}
        results.run("ae", metrics={"elbo": 1.0}, settings=settings)
    found = bench.results(results.path / "first")
    assert list(found["model.latent_dim"]) == [2, 16] and list(found["network.widths"]) == ["[4,8]", "[4]"]
    assert "budget.epochs" not in found
    every = bench.results(results.path / "first", settings="all")
    assert set(every["budget.epochs"]) == {20} and every["budget.steps"].isna().all()
    one = bench.results(results.path / "first", settings=["budget.epochs"])
    assert "budget.epochs" in one and "model.latent_dim" not in one
    with pytest.raises(InputError, match="^settings=model.beta is not known"):
        bench.results(results.path / "first", settings=["model.beta"])


def test_wide_has_a_row_for_each_seed_and_a_column_for_each_metric(frame):
    wide = frame.wide()
    assert type(wide) is pd.DataFrame and len(wide) == 5 and wide.columns.name is None
    assert list(wide.columns[-3:]) == ["reason", "knn_accuracy", "elbo"]
    found = wide.set_index(["model", "seed"])
    assert found.knn_accuracy["ae", 1] == 0.91 and found.elbo["vae", 0] == -1.5 and np.isnan(found.elbo["ae", 0])
    assert found.reason["vae", 1] == "RuntimeError: sorry" and found.status["gan", 0] == "skipped"
    assert found.reason[["ae"]].isna().all(), "only a seed that did not end well has a reason"


def test_it_is_a_dataframe_in_every_respect(frame):
    ok = frame[frame.status == "ok"].sort_values("value")
    assert isinstance(ok, pd.DataFrame) and len(ok.wide()) == 3
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(frame)).wide(), frame.wide())
    assert frame.groupby("model").value.mean()["ae"] == pytest.approx(0.905)
    with pytest.raises(InputError, match=r"^wide\(\) needs the columns sweep, run, status, reason"):
        frame[["seed", "metric", "value"]].wide()


def test_several_sweeps_and_a_seed_that_both_hold(results):
    results.run("ae", 0, metrics={"elbo": 1.0})
    results.run("ae", 1, "second", metrics={"elbo": 2.0})
    results.run("ae", 0, "second", metrics={"elbo": 3.0})
    found = bench.results(results.path / "first", str(results.path / "second"))
    assert sorted(zip(found.sweep, found.seed, found.value, strict=True)) == [("first", 0, 1.0), ("second", 1, 2.0)]
    assert len(found.wide()) == 2 and found.id.nunique() == 1


def test_a_sweep_in_which_everything_failed_has_a_row_for_each_seed(results):
    results.run("ae", status="failed", reason="sorry")
    found = bench.results(results.path / "first")
    assert len(found) == len(found.wide()) == 1 and found.reason[0] == "sorry" and found.metric.isna().all()


def test_evaluations_that_differ_are_told_apart(results):
    for seed, size in ((0, 100), (1, 200)):
        results.run("ae", seed, metrics={"elbo": {"value": 1.0, "settings": {"samples": size}}})
    found = bench.results(results.path / "first")
    assert found.evaluation.nunique() == 2 and found.evaluation.notna().all()


def test_a_folder_that_is_no_sweep_is_named_with_one_that_is(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seed = results.run("ae", metrics={"elbo": 1.0})
    instead = f"is not the folder of a sweep: give one such as {seed.parents[1]}$"
    for folder, message in (
        ("results", "^results is not the folder of a sweep: give one such as results/first$"),
        (seed.parent, f"^{seed.parent} {instead}"),
        (seed, f"^{seed} {instead}"),
        ("results/none", "^there is no sweep 'none' in results; its sweeps: first$"),
    ):
        with pytest.raises(InputError, match=message):
            bench.results(folder)
    with pytest.raises(InputError, match=r"^expected the folder of a sweep, as in bench.results\('results/first'\)"):
        bench.results()


def test_a_damaged_record_is_left_out_with_a_warning(results):
    sweep(results)
    folder = results.run("ae", 2)
    (folder / "record.json").write_text("{")
    with pytest.warns(UserWarning, match="left out: .*seed-2/record.json is damaged"):
        assert set(bench.results(results.path / "first").seed) == {0, 1}


def test_the_report_writes_the_same_rows(results, frame):
    report(results, metrics=["elbo"])
    path = results.path / "first/report-metrics-elbo/seeds.csv"
    read = pd.read_csv(path).astype({"n": "Int64"})
    pd.testing.assert_frame_equal(read, pd.DataFrame(frame).replace("", np.nan), check_dtype=False)
    assert json.loads(json.dumps(float(read.value.max()))) == frame.value.max()
