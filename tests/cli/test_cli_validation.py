"""The validation split on the command line: curves, metrics, early stopping, and which weights are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.core import Player
from bench.models.vae import VAE
from bench.runs import store, training

ELBO = "validation/elbo"
MONITOR = (f"budget.monitor={ELBO}", "metrics.names=[elbo]")


def history(record, name):
    """{step: value} of a column."""
    return {int(row["step"]): row[name] for row in store.read_history(record["folder"]) if name in row}


def weights(record):
    return load_file(record["folder"] / store.WEIGHTS)


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_losses_are_in_the_history_and_in_the_record(bench, records):
    assert bench("model=aae", "budget.steps=30").code == 0
    (record,) = records()
    for player in ("autoencoder", "generator", "discriminator"):
        curve = history(record, f"validation/loss/{player}")
        assert list(curve) == [11, 22, 30], "digits have 11 steps an epoch"
        assert record["validation"]["losses"][player] == curve[30]
        assert record["validation"]["late"][f"validation/loss/{player}"] == curve[22]
    assert record["validation"]["late_step"] == 22, "the last end of an epoch before step 27"
    assert {key: record["validation"][key] for key in ("every", "step", "value", "stopped")} == {
        "every": 1, "step": 30, "value": None, "stopped": None,
    }  # fmt: skip


def test_validation_changes_no_weight(bench, records, monkeypatch):
    assert bench("model=vae", "budget.steps=30", "sweep=with").code == 0
    monkeypatch.setattr(training.Validation, "_is_due", lambda *_: False)
    assert bench("model=vae", "budget.steps=30", "sweep=without").code == 0
    (ours,), (theirs,) = records("with"), records("without")
    assert ours["id"] == theirs["id"] and equal(weights(ours), weights(theirs))


def test_a_metric_on_the_validation_split_is_that_of_a_test_split_with_the_same_images(bench, records, arrays):
    rng = np.random.default_rng(1)
    first, second = (rng.integers(0, 256, (24, 8, 8), dtype=np.uint8) for _ in range(2))
    y = np.arange(24) % 4
    names = ["knn_accuracy", "elbo", "denoising_gain_db", "frechet_distance"]
    found = []
    for test, validation in ((first, second), (second, first)):
        chosen = arrays(x_test=test, y_test=y, x_val=validation, y_val=y)
        asked = ",".join([*names, *(f"validation/{name}" for name in names)])
        assert bench("model=vae", *chosen, f"metrics.names=[{asked}]", f"sweep=s{len(found)}").code == 0
        found.append(records(f"s{len(found)}")[0]["metrics"])
    for name in names:
        for ours, theirs in (found, found[::-1]):
            assert ours[f"validation/{name}"]["value"] == theirs[name]["value"], name
            assert ours[name]["value"] is not None or ours[name]["reason"]


def test_the_test_split_stays_untouched_and_metrics_of_it_are_added_later(bench, records):
    line = ("model=vae", "sweep=first")
    assert bench(*line, "metrics.names=[validation/knn_accuracy]").code == 0
    (before,) = records("first")
    assert list(before["metrics"]) == ["validation/knn_accuracy"]
    assert bench(*line, "metrics.names=[knn_accuracy,validation/knn_accuracy]").code == 0
    (after,) = records("first")
    assert set(after["metrics"]) == {"knn_accuracy", "validation/knn_accuracy"}
    assert after["metrics"]["validation/knn_accuracy"] == before["metrics"]["validation/knn_accuracy"]


def test_the_best_weights_are_those_of_a_run_that_ends_there(bench, records):
    """At a learning rate so high that the ELBO gets worse again."""
    line = ("model=vae", "optimizer.lr=0.1", "metrics.names=[elbo]")
    assert bench(*line, "budget.steps=99", "budget.keep=best", MONITOR[0], "sweep=best").code == 0
    (best,) = records("best")
    curve, chosen = history(best, ELBO), best["validation"]["step"]
    assert len(curve) == 9 and curve[chosen] == max(curve.values()) == best["validation"]["value"]
    assert chosen < 99, "another learning rate makes this test say something"
    assert bench(*line, f"budget.steps={chosen}", "sweep=ended").code == 0
    (ended,) = records("ended")
    assert ended["id"] != best["id"] and equal(weights(ended), weights(best))
    assert ended["metrics"]["elbo"] == best["metrics"]["elbo"]


def test_stacked_seeds_stop_when_each_stops_alone(bench, records):
    line = ("model=vae", "budget.steps=99", "optimizer.lr=0.03", "budget.patience=1", *MONITOR, "seeds=[0,1,2]")
    line = (*line, f"metrics.names=[{ELBO}]")
    assert bench(*line, "stack=3", "sweep=stacked").code == 0
    assert bench(*line, "stack=1", "sweep=alone").code == 0
    stacked, alone = records("stacked"), records("alone")
    stops = [record["steps"] for record in alone]
    assert [record["steps"] for record in stacked] == stops and len(set(stops)) > 1
    for record in (*stacked, *alone):
        curve = history(record, ELBO)
        assert record["validation"]["stopped"] == record["steps"] == max(curve) < 99
        losses = history(record, "validation/loss/model")
        assert record["validation"]["losses"]["model"] == losses[record["steps"]], "of its own last step"
        assert record["metrics"][ELBO]["value"] == pytest.approx(curve[record["steps"]], rel=1e-6), "of the last epoch"


def test_a_selection_goes_on_from_a_checkpoint(bench, records, monkeypatch):
    line = ("model=vae", "budget.steps=99", "optimizer.lr=0.1", "budget.keep=best", "budget.patience=3", *MONITOR)
    assert bench(*line, "sweep=whole").code == 0

    def broken(*arguments, **options):
        for report in whole(*arguments, **options):
            yield report
            if report.step == 44:
                raise RuntimeError("the end")

    whole = training.train
    with monkeypatch.context() as patched:
        patched.setattr(training, "train", broken)
        patched.setattr(training.Saver, "is_due", True)
        assert bench(*line, "sweep=resumed").code == 1
    assert "resumed at step 44" in bench(*line, "sweep=resumed").err
    (ours,), (theirs,) = records("resumed"), records("whole")
    assert equal(weights(ours), weights(theirs)) and history(ours, ELBO) == history(theirs, ELBO)
    assert ours["validation"] | {"seconds": 0} == theirs["validation"] | {"seconds": 0}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["budget.keep=best"], ["budget.keep=best", "budget.monitor="]),
        (["budget.patience=2"], ["budget.patience", "budget.monitor="]),
        (["budget.patience=0", *MONITOR], ["budget.patience", "1"]),
        (["budget.keep=first", *MONITOR], ["budget.keep", "best"]),
        ([*MONITOR], ["budget.monitor", "no effect", "budget.keep=best"]),
        (["budget.keep=best", "budget.monitor=elbo"], ["budget.monitor=elbo", "validation/"]),
        (["budget.keep=best", "budget.monitor=validation/elbos"], ["'validation/elbos'", "choose from"]),
        (["budget.keep=best", "budget.monitor=validation/kl"], ["no value of kl is better"]),
        (["budget.keep=best", "budget.monitor=validation/seconds"], ["fact about a run"]),
        (["budget.keep=best", "budget.monitor=validation/loss/x"], ["it has validation/loss/model"]),
        (["metrics.names=[validation/parameters]"], ["fact about a run"]),
        (["metrics.names=[validation/x]"], ["'validation/x'"]),
    ],
)  # fmt: skip
def test_a_wrong_selection_is_one_line(bench, words, expected):
    result = bench("model=vae", *words)
    lines = [line for line in result.err.splitlines() if " seed " not in line]
    assert len(lines) == 1 and all(word in lines[0] for word in expected), result
    assert result.code == 1, result


def test_a_model_that_is_not_trained_has_no_selection(bench, records):
    result = bench("model=pca", "budget.keep=best", *MONITOR)
    assert result.code == 0 and "budget.keep=best has no effect: model=pca does not use it" in result.err
    assert records()[0]["validation"] is None


def test_a_monitor_that_a_model_does_not_have_skips_it(bench, records):
    line = ("model=gan,vae", "budget.keep=best", "budget.monitor=validation/knn_accuracy", "metrics.names=[elbo]")
    assert bench("-m", *line, "budget.steps=12").code == 0
    gan, vae = sorted(records(), key=lambda record: record["choices"]["model"])
    assert (gan["status"], vae["status"]) == ("skipped", "ok")
    assert "budget.monitor=validation/knn_accuracy is n/a" in gan["reason"]


def test_a_stacked_seed_that_diverges_costs_the_others_nothing(bench, records, own_models):
    words = ("model=misbehaving", "model.infinite=[1]", "seeds=[0,1]", "stack=2", "budget.steps=22")
    assert bench(*own_models, *words, f"metrics.names=[{ELBO}]").code == 0
    assert [record["status"] for record in records()] == ["ok", "diverged"]


def test_stacked_seeds_of_which_some_have_stopped_resume(bench, records, monkeypatch):
    line = (
        "model=vae",
        "budget.steps=99",
        "optimizer.lr=0.03",
        "budget.patience=1",
        MONITOR[0],
        "seeds=[0,1,2]",
        "stack=3",
    )
    line = (*line, f"metrics.names=[{ELBO}]")
    assert bench(*line, "sweep=whole").code == 0
    whole = training.train

    def broken(*arguments, **options):
        for report in whole(*arguments, **options):
            yield report
            if report.step == 66:
                raise RuntimeError("the end")

    with monkeypatch.context() as patched:
        patched.setattr(training, "train", broken)
        patched.setattr(training.Saver, "is_due", True)
        assert bench(*line, "sweep=resumed").code == 1
    assert bench(*line, "sweep=resumed").code == 0
    for ours, theirs in zip(records("resumed"), records("whole"), strict=True):
        assert ours["steps"] == theirs["steps"] and equal(weights(ours), weights(theirs))
        assert ours["validation"] | {"seconds": 0} == theirs["validation"] | {"seconds": 0}
    assert {record["steps"] for record in records("whole")} - {77}, "some have stopped before"


def test_a_monitor_that_depends_on_an_evaluation_setting_is_refused(bench):
    result = bench(
        "model=vae", "budget.keep=best", "budget.monitor=validation/frechet_distance", "metrics.names=[elbo]"
    )
    assert result.code == 1 and "depends on metrics.samples" in result.err


def test_a_monitor_that_raises_is_an_error_and_no_skipped_run(bench, records, monkeypatch):
    failed = {"elbo": {"value": None, "reason": "failed: ValueError: a bad shape"}}
    monkeypatch.setattr("bench.runs.validation.evaluate", lambda *_, **__: failed)
    result = bench("model=vae", "budget.keep=best", *MONITOR)
    assert result.code == 1 and "budget.monitor=validation/elbo failed: ValueError: a bad shape" in result.err
    assert [record["status"] for record in records()] in ([], ["failed"])


def test_weights_that_are_averaged_at_the_end_have_no_earlier_value(bench, records, monkeypatch):
    """They cannot be compared with those of an earlier step, and no earlier ones can be kept."""
    monkeypatch.setattr(VAE, "players", (Player("model", average=0.9),))
    assert bench("model=vae", "budget.steps=30").code == 0
    (record,) = records()
    assert record["validation"]["late"] == {} and record["validation"]["late_step"] is None
    assert list(history(record, "validation/loss/model")) == [11, 22, 30]
    kept = bench("-m", "model=vae", "budget.keep=best", *MONITOR, "sweep=kept")
    assert "are averaged at the end of training" in records("kept")[0]["reason"], kept
