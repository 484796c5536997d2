"""One run, a sweep, and the same again: what is trained, kept and printed."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save_file

from bench import __main__ as console
from bench.evaluation.evaluate import evaluations
from bench.metrics import discover
from bench.models.autoencoder import Autoencoder
from bench.models.vae import VAE
from bench.report.summary import total
from bench.runs import run as bench_run
from bench.runs import seed_run, store, training
from bench.runs.record import Metric, Record
from tests.runs.wandb_examples import folders, steps

SWEEP = ["-m", "model=vae,dae", "likelihood=bernoulli,gaussian", "noise=none,gaussian", "seeds=[0,1]", "sweep=first"]


def table(sweep: str = "first") -> list[dict[str, str]]:
    with open(f"results/{sweep}/report/table.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_one_run_writes_a_complete_record_and_prints_its_row(bench, records, elsewhere):
    result = bench("model=vae", "budget.steps=null", "budget.epochs=2")
    assert result.code == 0, result.err
    (record,) = records()
    folder = record.pop("folder")
    assert folder == elsewhere / "results/default" / f"vae-bernoulli-digits-none-{record['id']}" / "seed-0"
    assert set(record) == set(get_type_hints(Record))
    assert set(record["metrics"]["elbo"]) == set(get_type_hints(Metric))
    assert (record["status"], record["reason"], record["steps"], record["seed"]) == ("ok", None, 22, 0)
    weights = load((folder / "weights.safetensors").read_bytes())
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert record["parameters"]["total"] == sum(a.size for name, a in weights.items() if not name.endswith(buffers))
    with open(folder / "history.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["11", "22"]
    with np.load(folder / "images.npz") as images:
        assert images["reconstruction"].shape == images["input"].shape == (16, 1, 8, 8)
        assert images["samples"].shape == (64, 1, 8, 8)
    mse = record["metrics"]["reconstruction_mse"]["value"]
    assert f"{mse:.4f}" in result.out
    assert result.out.splitlines()[-2:] == ["1 run: 1 ok", "results/default/report/index.html"]
    assert (elsewhere / "results/default/report/index.html").is_file()


def test_a_sweep_skips_senseless_combinations_and_is_not_trained_twice(bench, records, files):
    result = bench(*SWEEP)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-2] == "16 runs: 12 ok, 4 skipped"
    first, *_, last = [line for line in result.err.splitlines() if " steps (" in line]
    assert first.endswith(" seed 0: 2 steps (job 1 of 8, seed 1 of 2)")
    assert re.fullmatch(r".* seed 1: 2 steps \(job 8 of 8, seed 2 of 2, about \d+ s left\)", last)
    statuses = {(r["choices"]["model"], r["choices"]["noise"], r["status"]) for r in records("first")}
    assert statuses == {
        ("vae", "none", "ok"),
        ("vae", "gaussian", "ok"),
        ("dae", "none", "skipped"),
        ("dae", "gaussian", "ok"),
    }
    assert all("noise" in r["reason"] for r in records("first") if r["status"] == "skipped")
    rows = table()
    assert len({(r["model"], r["likelihood"], r["noise"]) for r in rows}) == 8
    assert all(word in result.out for word in ("skipped", "learns from noise"))

    weights, lines = files("weights.safetensors"), [r for r in result.out.splitlines() if "│" in r]
    assert len(weights) == 12
    again = bench(*SWEEP)
    assert again.code == 0, again.err
    assert files("weights.safetensors") == weights
    assert table() == rows
    assert [r for r in again.out.splitlines() if "│" in r] == lines
    assert "steps" not in again.err


def test_a_rerun_gives_the_same_weights_to_the_bit(bench, files, records):
    line = ["model=vae_gan", "noise=masking", "seeds=[3]"]
    assert bench(*line).code == 0
    (before,), (first,) = files("weights.safetensors").values(), records()
    assert bench(*line, "rerun=true").code == 0
    (after,), (second,) = files("weights.safetensors").values(), records()
    assert before[0] == after[0] and before[1] < after[1]
    timed = {"seconds", "samples_per_second"}
    assert all(second["metrics"][name] == first["metrics"][name] for name in first["metrics"].keys() - timed)


def test_a_seed_has_the_same_weights_alone_and_among_others(bench, files):
    bench("seeds=[0,1]", "sweep=both")
    bench("seeds=1", "sweep=alone")
    by_folder = {path.split("/results/")[1]: content for path, (content, _) in files("weights.safetensors").items()}
    both, alone = (
        [c for p, c in by_folder.items() if p.startswith(f"{s}/") and "seed-1" in p] for s in ("both", "alone")
    )
    assert both == alone and len(alone) == 1


def test_a_dry_run_prints_the_plan_and_writes_nothing(bench, files, elsewhere):
    assert bench("-m", "model=vae", "seeds=[0]", "sweep=first").code == 0
    before = files("*")
    result = bench(
        "-m", "model=vae,dae,gan", "likelihood=bernoulli,gaussian", "seeds=[0,1]", "sweep=first", "dry_run=true"
    )
    assert result.code == 0, result.err
    assert files("*") == before
    lines = result.out.splitlines()
    assert [line.split(": ")[1] for line in lines if line.startswith("vae-bernoulli")] == ["1 done, 1 to train"]
    assert sum(line.startswith("gan-digits") for line in lines) == 1
    assert lines[-2] == "6 jobs, 10 runs: 9 to train, 1 done"
    assert bench("-m", "model=vae,ae", "sweep=second", "paths.results=other", "dry_run=true").code == 0
    assert not (elsewhere / "results/second").exists() and not (elsewhere / "other").exists()
    assert [path.name for path in (elsewhere / "results/first").glob("[!.]*-*")] == [next(iter(before)).split("/")[-3]]


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "model=vae,ae", "likelihood=gaussian,bernoulli", "model.latent_dim=2,3", "optimizer.lr=0.1"),
        ("-m", "model=vae", "model.beta=1,{from:0,to:1,over:0.2}", "optimizer=adam,sgd", "optimizer.lr=1e-3,0.01"),
        ("experiment=digits_first_look", "model=vae", "seeds=[0,1]"),
        ("-m", "experiment=digits_first_look,gaussian_grid", "model=vae"),
        ("-m", "model=gan,pca", "+dataset.limit=100,200", "~model.requires"),
        ("-m", "model=vae,nothing"),
        ("-m", "model=vae", "model.nothing=1,2"),
        ("-m", "model=vae,ae", "dataset.split_seed=-1,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"),
    ],
)
def test_a_dry_run_is_composed_as_hydra_composes(bench, monkeypatch, words):
    fast = bench(*words, "dry_run=true")
    monkeypatch.setattr(console, "dry_sweep", lambda _: None)
    slow = bench(*words, "dry_run=true")
    without_times = [re.sub(r"takes about .* evaluation \S+", "", result.out) for result in (fast, slow)]
    assert (fast.code, without_times[0], fast.err) == (slow.code, without_times[1], slow.err)
    assert fast.out or fast.err


def test_metrics_are_added_from_the_weights_of_a_finished_run(bench, files, records):
    assert bench("model=vae", "sweep=first").code == 0
    weights, history = files("weights.safetensors"), files("history.csv")
    few = records("first")[0]["metrics"]
    result = bench("model=vae", "sweep=first", "metrics=standard")
    assert result.code == 0 and "steps" not in result.err
    assert files("weights.safetensors") == weights and files("history.csv") == history
    (later,) = records("first")

    assert bench("model=vae", "sweep=at_once", "metrics=standard").code == 0
    (at_once,) = records("at_once")
    assert set(later["metrics"]) == set(at_once["metrics"]) > set(few)
    for name in set(later["metrics"]) - {"seconds", "samples_per_second"}:
        assert later["metrics"][name] == at_once["metrics"][name], name
    table = Path("results/first/report/table.md").read_text()
    assert "ssim" in table and "27 more metrics: results/first/report/index.html, table.csv" in result.out


def test_a_larger_evaluation_setting_recomputes_only_the_metrics_that_depend_on_it(bench, files, records, monkeypatch):
    assert bench("model=vae", "sweep=first").code == 0
    weights, before = files("weights.safetensors"), records("first")[0]["metrics"]
    evaluated = []
    monkeypatch.setattr(
        "bench.runs.seed_run.evaluations", lambda *a, **k: evaluated.append(a[2].names) or evaluations(*a, **k)
    )
    assert bench("model=vae", "sweep=first").code == 0 and evaluated == []
    assert bench("model=vae", "sweep=first", "metrics.samples=60").code == 0 and evaluated == []  # it is based on more
    assert bench("model=vae", "sweep=first", "metrics.samples=600").code == 0
    after = records("first")[0]["metrics"]
    assert evaluated == [["sharpness_samples"]] and after["sharpness_samples"]["settings"] == {"samples": 600}
    assert {k: v for k, v in after.items() if k != "sharpness_samples"} == {
        k: v for k, v in before.items() if k != "sharpness_samples"
    }
    # All metrics, and the settings that they are based on.
    sizes = ["metrics.samples=60", "metrics.iw_images=20", "metrics.iw_samples=10"]
    sizes += ["metrics.ais_images=4", "metrics.ais_chains=2", "metrics.ais_temperatures=5"]
    assert bench("model=vae", "sweep=first", "metrics=full", *sizes).code == 0
    full = records("first")[0]["metrics"]
    assert {name.split("@")[0] for name in full} == set(discover())
    assert {name: full[name] for name in after} == after
    settings = {"ais_images": 4, "ais_chains": 2, "ais_temperatures": 5, "ais_sigma": None}
    assert full["log_likelihood_ais_shared"]["settings"] == settings and full["log_likelihood_ais_shared"]["n"] == 4
    assert full["frechet_distance"]["details"].keys() == {"features", "features_accuracy"}
    assert files("weights.safetensors") == weights
    # Numbers from smaller settings do not replace those of larger ones.
    evaluated.clear()
    sizes[-1] = "metrics.ais_temperatures=6"
    assert bench("model=vae", "sweep=first", "metrics=full", *sizes).code == 0
    again = records("first")[0]["metrics"]
    assert again["log_likelihood_ais_shared"]["settings"] == settings | {"ais_temperatures": 6}
    assert set(evaluated[0]) == {name for name in full if "ais" in name or "bdmc" in name}


def test_a_metric_that_raises_does_not_affect_others_and_is_tried_again(bench, records, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("bench.metrics.reconstruction._psnr", lambda *_: [][0])
        result = bench("model=vae", "sweep=first")
    assert result.code == 1 and "1 metric failed (psnr of vae-bernoulli-digits-none-" in result.err
    before = records("first")[0]
    assert before["status"] == "ok" and before["metrics"]["reconstruction_mse"]["value"] > 0
    assert before["metrics"]["psnr"]["reason"] == "failed: IndexError: list index out of range"
    assert bench("model=vae", "sweep=first").code == 0
    after = records("first")[0]["metrics"]
    assert after["psnr"]["value"] > 0
    assert {k: v for k, v in after.items() if k != "psnr"} == {
        k: v for k, v in before["metrics"].items() if k != "psnr"
    }


def test_metrics_that_cannot_be_added_are_reported_and_the_record_is_kept(bench, records, files):
    """The weights are of another model, as those of an older version may be."""
    assert bench("model=vae", "sweep=first").code == 0
    before = records("first")
    (path,) = files("weights.safetensors")
    save_file({"other": np.zeros(3)}, path)
    result = bench("-m", "model=vae,ae", "sweep=first", "metrics=standard")
    assert result.code == 1 and "seed 0: its metrics: " in result.err and "rerun=true" in result.err
    by_model = {r["choices"]["model"]: r for r in records("first")}
    assert by_model["ae"]["status"] == "ok" and by_model["vae"]["metrics"] == before[0]["metrics"]


def test_stacked_seeds_whose_evaluation_failed_are_not_trained_again(bench, records, files, monkeypatch):
    line = ("model=vae", "seeds=[0,1]", "stack=2")
    monkeypatch.setattr(bench_run, "training_seconds", lambda *_: 100.0)
    monkeypatch.setattr(bench_run, "evaluation_seconds", lambda *_: 30.0)
    plan = bench(*line, "dry_run=true").out
    assert "2 to train" in plan and "training takes about 0:03:20 and evaluation 0:01:00, one after the other" in plan

    def fails(*_, **__):
        raise RuntimeError("no luck")

    with monkeypatch.context() as broken:
        broken.setattr(seed_run, "pictures", fails)
        assert bench(*line).code == 1
    assert [(r["status"], r["reason"]) for r in records()] == [("failed", "RuntimeError: no luck")] * 2
    metrics = [r["metrics"] for r in records()]
    assert all(metrics), "they are kept, though the pictures failed"
    weights = files("weights.safetensors")
    # Another machine, with other versions, may have trained them: the record must keep these.
    for path, (text, _) in files("record.json").items():
        entry = json.loads(text)
        entry["hardware"]["device"], entry["libraries"]["torch"], entry["code"]["commit"] = "a GPU", "2.6", "f00f00f00f"
        Path(path).write_text(json.dumps(entry))
    monkeypatch.setattr(training, "train", fails)
    monkeypatch.setattr(seed_run, "evaluations", fails)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as impatient:
        impatient.setattr(seed_run, "pictures", interrupted)
        assert bench(*line).code == 130
    plan = bench(*line, "dry_run=true").out
    assert "2 to evaluate" in plan and "training takes about 0:00:00 and evaluation 0:01:00" in plan
    assert bench(*line).code == 0
    assert files("weights.safetensors") == weights and [r["seeds_stacked"] for r in records()] == [[0, 1]] * 2
    assert [r["metrics"] for r in records()] == metrics
    trained = {(r["hardware"]["device"], r["libraries"]["torch"], r["code"]["commit"]) for r in records()}
    assert trained == {("a GPU", "2.6", "f00f00f00f")}
    assert all(r["status"] == "ok" and r["seconds"] > 0 and r["gradient_norms"]["first"] > 0 for r in records())


def test_a_run_whose_evaluation_failed_is_evaluated_and_not_trained_again(bench, records, files, monkeypatch):
    """Parameters that are fitted after training are fitted then, and are in the saved weights."""
    line = ("model=ae", "model.ex_post=gmm", "model.latent_dim=2", "metrics=fast")
    fit = Autoencoder.fit_after

    def fails(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(Autoencoder, "fit_after", fails)
    assert bench(*line).code == 1
    assert (records()[0]["status"], records()[0]["reason"]) == ("failed", "RuntimeError: no luck")
    monkeypatch.setattr(Autoencoder, "fit_after", fit)
    monkeypatch.setattr(training, "train", fails)
    assert bench(*line).code == 0
    (record,) = records()
    assert record["status"] == "ok" and record["metrics"]["sharpness_samples"]["value"] is not None
    assert "fitted to the training codes" in record["metrics"]["sharpness_samples"]["reason"]
    assert record["gradient_norms"]["first"] > 0
    (path,) = files("weights.safetensors")
    assert load_file(path)["prior.mean"].any()


def test_the_id_of_a_run_does_not_depend_on_folders_or_unused_settings(bench, records, elsewhere, monkeypatch, arrays):
    def ids(*line: str, sweep: str) -> set[str]:
        assert bench(*line, f"sweep={sweep}").code == 0
        return {r["id"] for r in records(sweep)}

    here = ids(*arrays(), sweep="here")
    (elsewhere / "moved").mkdir()
    os.rename("arrays.npz", "moved/arrays.npz")
    assert ids("dataset=arrays", "dataset.path=moved/arrays.npz", sweep="there") == here

    plain = ids("model=vae", sweep="plain")
    assert ids("model=vae", "network.hidden=16", "stack=2", "seeds=[1]", sweep="unused") == plain
    assert ids("-m", "model=vae", "noise.level=0.3", sweep="unused_in_a_sweep") == plain
    assert ids("model=vae", "adversarial.smoothing=0.1", sweep="adversary") == plain
    assert ids("model=vae", "model.beta=2", sweep="beta") != plain
    assert ids("model=vae", "model.beta=1", sweep="whole_number") == plain
    gan = ids("model=gan", sweep="gan")
    assert ids("model=gan", "likelihood=gaussian", "noise=masking", sweep="gan_too") == gan


def test_two_parallel_jobs_of_one_run_train_it_once(start, records):
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher", reason="no joblib launcher: parallel jobs are not tested"
    )
    words = [
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "network.hidden=16",
        "hydra.job.chdir=true",
        "budget.steps=400",
        "metrics=fast",
        "metrics.names=[parameters]",
    ]
    job = start("-m", "bench", "-m", "model=gan", "likelihood=bernoulli,gaussian", "tracking=none", *words)
    out, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert err.count("gan-digits seed 0: 400 steps") == 1
    assert out.splitlines()[-2] == "1 run: 1 ok"
    assert len(records()) == 1


@pytest.mark.parametrize("turn", (1, -1))
def test_a_seed_that_one_of_two_jobs_finished_counts_as_finished(turn):
    left = [{0: "ok", 1: store.ELSEWHERE}, {0: store.ELSEWHERE, 1: "ok"}][::turn]
    assert total([{"sweep": "first", "run": "gan", "seeds": seeds} for seeds in left]) == "2 runs: 2 ok"
    assert total([{"sweep": "first", "run": "gan", "seeds": {0: store.ELSEWHERE}}]) == f"1 run: 1 {store.ELSEWHERE}"


def test_wandb_is_written_beside_the_records(bench, elsewhere, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = bench("model=vae", "tracking=wandb", "seeds=[0,1]")
    assert result.code == 0, result.err
    assert len(list((elsewhere / "results/default/wandb").glob("offline-run-*"))) == 2


@pytest.mark.parametrize(
    ("moment", "code", "expected"), [("training", 143, ([3, 6], [9])), ("evaluation", 130, ([3, 6, 9], [10]))]
)
def test_an_interrupted_run_goes_on_in_its_own_wandb_run(bench, elsewhere, monkeypatch, moment, code, expected):
    """Epochs of 3 steps. It is interrupted in step 7, or after all 9: then only the pictures are logged, after them."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    losses, calls = VAE.losses, []

    def training(*arguments):
        calls.append(1)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(*arguments)

    def evaluation(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return evaluations(*arguments, **options)

    if moment == "training":
        monkeypatch.setattr(VAE, "losses", training)
    else:
        monkeypatch.setattr(seed_run, "evaluations", evaluation)
    words = ("model=vae", "tracking=wandb", "budget.steps=9", "budget.batch_size=500", "metrics.names=[elbo]")
    assert bench(*words).code == code
    (first,) = folders(elsewhere / "results")
    assert bench(*words).code == 0
    runs = folders(elsewhere / "results")
    assert len(runs) == 2 and runs[0] == first
    assert (steps(runs[0]), steps(runs[1])) == expected
    assert len({path.name for run in runs for path in run.glob("*.wandb")}) == 1
    assert not list(elsewhere.rglob("*.synced"))  # both are to be uploaded


def test_metrics_are_kept_when_the_evaluation_is_interrupted(bench, records, files, monkeypatch):
    """In memory up to the last one, and on the disk every `checkpoint.minutes`."""
    line = ("model=vae", "metrics.names=[elbo,psnr,ssim,knn_accuracy]", "checkpoint.minutes=1e-9")
    on_disk = []

    def interrupted(*arguments, **options):
        for found in evaluations(*arguments, **options):
            yield found
            on_disk.append([list(one["metrics"]) for one in records()])
            if len(found) == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as impatient:
        impatient.setattr(seed_run, "evaluations", interrupted)
        assert bench(*line).code == 130
    assert on_disk == [[["elbo"]], [["elbo", "psnr"]]]
    (record,) = records()
    assert (record["status"], list(record["metrics"])) == ("interrupted", ["elbo", "psnr"])
    history = files("history.csv")
    asked = []

    def noted(*arguments, **options):
        asked.append(arguments[2].names)
        return evaluations(*arguments, **options)

    monkeypatch.setattr(seed_run, "evaluations", noted)
    assert bench(*line).code == 0 and asked == [["ssim", "knn_accuracy"]] and files("history.csv") == history
    assert bench(*line, "sweep=undisturbed").code == 0
    assert records()[0]["metrics"] == records("undisturbed")[0]["metrics"]


def test_metrics_of_factors_are_computed_for_sprites(bench, records):
    names = "metrics.names=[mig,sap,dci_disentanglement,dci_completeness,dci_informativeness]"
    assert bench("model=vae", "dataset=sprites", "dataset.size=16", "dataset.examples=300", names).code == 0
    (entry,) = records()
    for name, metric in entry["metrics"].items():
        assert metric["reason"] is None and metric["value"] < 1, name
