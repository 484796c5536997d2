"""Overrides take effect or are refused: several experiments, settings without effect, folders, the user's own code."""

from __future__ import annotations

import csv
import json
import os

import pytest

import bench as package
from bench.core import InputError

PLAIN = "# @package _global_\nsweep: {sweep}\nhydra:\n  sweeper:\n    params:\n      model: {models}\n"
EXPERIMENTS = {
    "one": PLAIN.format(sweep="one", models="ae"),
    "pair/first": PLAIN.format(sweep="pair", models="ae,vae").replace("hydra:", "hydra:\n  mode: MULTIRUN"),
    "pair/second": PLAIN.format(sweep="pair", models="vae,pca").replace("hydra:", "hydra:\n  mode: MULTIRUN"),
    "pair/_shared": "# @package _global_\nsweep: never\n",
    "vaes": PLAIN.format(sweep="vaes", models="vae"),
    "both": PLAIN.format(sweep="both", models="").replace("model: ", "experiment: one,pair/first"),
}


@pytest.fixture
def own_conf(elsewhere) -> list[str]:
    """Writes a user's folder with experiments, and a model in a subfolder. Returns the arguments that name it."""
    for name, text in EXPERIMENTS.items():
        path = elsewhere / "own_conf" / "experiment" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (elsewhere / "own_conf" / "model" / "sub").mkdir(parents=True)
    written = "_target_: bench.models.autoencoder.Autoencoder\nlatent_dim: 2\nrequires: []\noptimizers: {}\n"
    (elsewhere / "own_conf" / "model" / "sub" / "mine.yaml").write_text(written)
    return ["--config-dir", str(elsewhere / "own_conf")]


def models(entries) -> list[str]:
    return sorted(record["choices"]["model"] for record in entries)


# --- several experiments


@pytest.mark.parametrize("flag", [["-m"], []])
def test_several_experiments_run_the_union_of_their_sweeps(bench, records, flag):
    result = bench(*flag, "experiment=claims/normal_codes,claims/first_order", "dataset=digits", "seeds=[0]")
    assert result.code == 0, result.err
    assert models(records("claims")) == ["ae", "vae"], "the ae is in both, and is trained once"
    assert result.out.splitlines()[-2] == "2 runs: 2 ok"
    assert "mmd_to_normal" in result.out and "first_order_ratio" in result.out


def test_a_glob_selects_experiments_and_each_sweep_gets_its_report(bench, own_conf, records):
    result = bench(*own_conf, "-m", "experiment=glob([pair/*,one])", "model.latent_dim=2,3")
    assert result.code == 0, result.err
    assert models(records("pair")) == ["ae", "ae", "pca", "pca", "vae", "vae"] and models(records("one")) == ["ae"] * 2
    assert os.listdir("results") == ["pair", "one"] or os.listdir("results") == ["one", "pair"]
    for sweep in ("pair", "one"):
        assert os.path.isfile(f"results/{sweep}/report/index.html")
    total, *pages = result.out.splitlines()[-3:]
    assert total == "8 runs: 8 ok"
    assert sorted(pages) == [f"results/{sweep}/report/index.html" for sweep in ("one", "pair")]

    again = bench(*own_conf, "-m", "experiment=pair/first,one", "model.latent_dim=2", "dry_run=true")
    assert again.code == 0 and again.out.splitlines()[-2] == "3 jobs, 3 runs: 3 done"


def test_an_experiment_that_cannot_be_composed_does_not_stop_the_others(bench, own_conf, records):
    result = bench(*own_conf, "-m", "experiment=one,vaes", "model.samples=2")  # an ae has none
    assert result.code == 1 and "model.samples" in result.err
    assert models(records("vaes")) == ["vae"] and result.out.splitlines()[-2] == "1 run: 1 ok"
    assert not os.path.isdir("results/one/report")


@pytest.mark.parametrize(
    ("words", "swept"),
    [
        ("experiment=one", "model"),
        ("experiment=pair/first hydra.mode=RUN", "model"),
        ("-m experiment=both", "experiment"),
    ],
)
def test_a_single_job_of_a_sweep_is_refused_unless_it_is_named(bench, own_conf, elsewhere, words, swept):
    result = bench(*own_conf, *words.split())
    assert result.code == 1 and f"this experiment sweeps {swept}" in result.err and "add -m" in result.err
    assert not list(elsewhere.glob("results/*/*/seed-*"))


def test_a_single_job_of_a_sweep_runs_if_its_values_are_set(bench, own_conf, records):
    assert bench(*own_conf, "experiment=one", "model=vae").code == 0
    assert models(records("one")) == ["vae"]


# --- schedules, and weights that are ramps


def test_a_sweep_of_schedules_and_ramps_has_a_readable_row_for_each(bench, records):
    swept = ("model.beta=4,{from:0,to:1,over:0.2},{from:0,to:4.5,over:0.5}", "schedule=constant,linear")
    result = bench("-m", "model=vae", *swept, "schedule.end_factor=0.5", "metrics.names=[elbo]")
    assert result.code == 0, result.err
    assert "bench: schedule.end_factor=0.5 has no effect: schedule.decay=none does not use it" in result.err
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in result.out.splitlines() if "│" in line]
    betas = ["4", "0 to 1 over 0.2", "0 to 4.5 over 0.5"]
    assert sorted(rows) == sorted([schedule, beta] for schedule in ("constant", "linear") for beta in betas)
    written = [record["config"]["model"]["beta"] for record in records()]
    assert {"from": 0.0, "to": 1.0, "over": 0.2} in written and 4.0 in written


def test_a_model_without_training_has_no_schedule(bench, records):
    result = bench("-m", "model=pca,vae", "schedule=cosine", "model.latent_dim=2")
    assert result.code == 0, result.err
    pca, vae = sorted(records(), key=lambda record: record["choices"]["model"])
    assert pca["config"]["schedule"] is pca["choices"]["schedule"] is None
    assert vae["choices"]["schedule"] == vae["config"]["schedule"]["decay"] == "cosine"


# --- settings without effect


def test_a_sweep_continues_and_names_each_setting_without_effect_once(bench, records):
    result = bench("-m", "model=aae,gan,vae", "optimizer.lr=0.01", "network.norm=batch,none", "noise.level=0.3")
    assert result.code == 0, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("bench: ") and "metrics." not in line]
    assert lines == [
        "bench: noise.level=0.3 has no effect: noise=none does not use it",
        "bench: optimizer.lr=0.01: lr does not reach generator, because model.optimizers sets it there",
        "bench: optimizer.lr=0.01 has no effect: model.optimizers sets lr of discriminator, generator",
        "bench: noise.level=0.3 has no effect: model=gan does not use it",
    ]
    warnings = {record["choices"]["model"]: record["warnings"] for record in records()}
    assert warnings == {"aae": [lines[1].removeprefix("bench: ")], "gan": [], "vae": []}
    assert all("lr" not in r["config"]["optimizer"] for r in records() if r["choices"]["model"] == "gan")


def test_a_setting_may_have_an_effect_on_only_some_jobs_of_a_sweep(bench, records):
    result = bench("-m", "model=gan", "adversarial.balance=margin,every", "adversarial.every=3")
    assert result.code == 0 and "adversarial.balance=margin does not use it" in result.err
    with open("results/default/report/table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["adversarial.balance"] for row in rows} == {"margin", "every"}
    assert not {"adversarial.every", "adversarial.margin", "id"} & rows[0].keys(), "only the balance differs"


# --- folders


@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_results_are_in_the_folder_where_the_command_was_started(bench, records, arrays, elsewhere, flag):
    """With hydra.job.chdir=true each job runs in its own folder."""
    arrays()
    words = ["dataset=arrays", "dataset.path=arrays.npz", "hydra.job.chdir=true", "paths.results=out", "model=ae"]
    result = bench(*flag, *words, "metrics.names=[frechet_distance]", "paths.cache=cache")
    assert result.code == 0, result.err
    (path,) = elsewhere.rglob("record.json")
    assert path.relative_to(elsewhere).parts[:2] == ("out", "default")
    assert (elsewhere / "out/default/report/table.md").is_file() and list((elsewhere / "cache").iterdir())
    result = bench(*words[:2], "model=ae", "paths.results=out", "metrics.names=[frechet_distance]", "paths.cache=cache")
    assert result.code == 0 and "steps" not in result.err, "the same run, with and without chdir"


def test_an_option_in_a_subfolder_has_a_run_folder_and_a_row(bench, own_conf, records, elsewhere):
    result = bench(*own_conf, "-m", "model=sub/mine,ae")
    assert result.code == 0, result.err
    assert models(records()) == ["ae", "sub/mine"]
    folder = next(record["folder"] for record in records() if record["choices"]["model"] == "sub/mine")
    assert folder.relative_to(elsewhere / "results/default").parts[0].startswith("sub_mine-bernoulli-digits-none-")
    assert "│sub/mine" in result.out and result.out.splitlines()[-2] == "2 runs: 2 ok"


# --- the user's own code


def test_own_code_is_allowed_by_its_yaml_or_by_name(bench, own_models, records, elsewhere):
    assert bench(*own_models, "model=misbehaving").code == 0
    named = ["model._target_=own_models.Misbehaving", *(f"+model.{name}=[]" for name in ("infinite", "raises", "slow"))]
    refused = bench(*named, "~model.beta", "~model.samples", "~model.conditional", "~model.latent_dim")
    assert refused.code == 1 and "allow=[own_models]" in refused.err
    allowed = bench(
        *named, "~model.beta", "~model.samples", "~model.conditional", "~model.latent_dim", "allow=[own_models]"
    )
    assert allowed.code == 0, allowed.err
    # Metrics are added from the weights of a record that names it.
    more = bench(*own_models, "model=misbehaving", "metrics=standard")
    assert more.code == 0 and "steps" not in more.err, more.err
    run = next(record["folder"].parent for record in records() if record["choices"]["model"] == "misbehaving")
    with pytest.raises(InputError, match=r"own_models.*allow=\['own_models'\]"):
        package.load(run)
    assert package.load(run, allow=["own_models"]).sample(2).shape == (2, 1, 8, 8)


def test_evaluating_a_record_again_runs_no_code_that_it_names(bench, records, files, monkeypatch):
    assert bench("model=ae").code == 0
    (path,) = files("record.json")
    with open(path) as file:
        record = json.load(file)
    ran: list[str] = []
    monkeypatch.setattr(os, "system", ran.append)
    for group, target in (("model", "os.system"), ("network", "bench.runs.config.os.system")):
        hostile = record | {"config": record["config"] | {group: {"_target_": target, "command": "touch ran"}}}
        with open(path, "w") as file:
            json.dump(hostile, file)
        result = bench("model=ae", "metrics=standard")
        assert result.code == 1 and f"{group}._target_={target!r}" in result.err, result.err
    assert not ran and not os.path.exists("ran")
