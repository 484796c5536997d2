"""Every conf/experiment runs, two steps of it, on small networks; what it sweeps is what it says."""

from __future__ import annotations

import os
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bench.paths import CONF
from bench.report.claims import claims, evaluate
from bench.report.runs import load

FOLDER = Path(CONF, "experiment")
EXPERIMENTS = sorted(str(p.relative_to(FOLDER).with_suffix("")) for p in FOLDER.rglob("[!_]*.yaml"))
SHARED = os.environ.get("BENCH_DATA")  # before a test's own surroundings hide it


def test_there_are_experiments():
    assert {"digits_first_look", "mnist_table", "mnist_all_models", "colour_images"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_every_model_trains_and_reports_on_colour_pictures(bench, records, tmp_path, network):
    """Of 13x13 pixels, so that no side halves evenly."""
    draw = np.random.default_rng(0)
    for label in range(10):
        (folder := tmp_path / "pictures" / str(label)).mkdir(parents=True)
        for i in range(8):
            pixels = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    where = (f"dataset.root={tmp_path / 'pictures'}", "dataset.size=13", "network.hidden=4")
    said = bench("experiment=colour_images", f"network={network}", *where, "model.latent_dim=2", "metrics=standard")
    assert said.code == 0, said.err
    found = {record["choices"]["model"]: record for record in records("colour_images")}
    assert found.keys() == {path.stem for path in Path(CONF, "model").glob("*.yaml")}
    for model, record in found.items():
        assert record["status"] == "ok" and record["data"]["image"] == [3, 13, 13], model
        answered = {name for name, metric in record["metrics"].items() if metric["value"] is not None}
        assert answered & {"reconstruction_mse", "sharpness_samples"}, model
    assert all(model in said.out for model in found)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs_two_steps(bench, records, name):
    """On the bundled digits, whatever its own data set: the models and what is swept are what is tried."""
    sweep = name.replace("/", "-")
    said = bench(f"experiment={name}", "dataset=digits", "seeds=[0]", "device=cpu", f"sweep={sweep}")
    assert said.code == 0, said.err
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    swept = written["hydra"]["sweeper"]["params"]
    swept = {axis: [yaml.safe_load(value) for value in str(values).split(",")] for axis, values in swept.items()}
    own = {"network.hidden", "budget.steps", "budget.epochs"}  # which the test sets: those of an experiment are one
    axes = [axis for axis in swept if axis not in own]
    asked = set(product(*(swept[axis] for axis in axes)))
    assert len(asked) == prod(len(swept[axis]) for axis in axes)
    # A model that does not use a group has null there: it stands for every option of it.
    told = [tuple(value_of(record, axis) for axis in axes) for record in records(sweep)]
    for job in asked:
        assert any(all(a == b or b is None for a, b in zip(job, run, strict=True)) for run in told), job
    assert {record["status"] for record in records(sweep)} <= {"ok", "skipped"}
    assert f"{len(told)} runs: " in said.out.splitlines()[-1]
    if "claim" in written:
        verdicts = evaluate(load(Path("results"), [sweep]), claims([Path(name).stem]))
        assert {v.outcome for v in verdicts} == {"not decided at 1 seed, fewer than 5"}, [v.remarks for v in verdicts]


def value_of(record: dict, axis: str) -> object:
    """A choice, or a value by its path; None where the run has none."""
    group, _, key = axis.partition(".")
    return (record["config"][group] or {}).get(key) if key else record["choices"][group]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_finds_its_own_data(bench, monkeypatch, name):
    text = (FOLDER / f"{name}.yaml").read_text()
    if name.startswith("claims/"):
        text += (FOLDER / "claims/_small_mnist.yaml").read_text()
    if "dataset: digits" not in text and "/dataset" in text:
        if not SHARED:
            pytest.skip(f"BENCH_DATA is not set: the data of experiment={name} are not looked at")
        monkeypatch.setenv("BENCH_DATA", SHARED)
    where = [f"dataset.root={SHARED}/cifar10"] if "/dataset: images" in text else []
    said = bench(f"experiment={name}", *where, "seeds=[0]", "dry_run=true", "device=cpu")
    assert said.code == 0, said.err
    assert "to do" in said.out.splitlines()[-1]
