"""Every conf/experiment runs, two steps of it, on small networks; what it sweeps is what it says."""

from __future__ import annotations

import os
from itertools import product
from math import prod
from pathlib import Path

import pytest
import yaml

from bench.paths import CONF

EXPERIMENTS = sorted(path.stem for path in Path(CONF, "experiment").glob("*.yaml"))
SHARED = os.environ.get("BENCH_DATA")  # before a test's own surroundings hide it


def test_there_are_experiments():
    assert {"digits_first_look", "mnist_table"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs_two_steps(bench, records, name):
    """On the bundled digits, whatever its own data set: the models and what is swept are what is tried."""
    said = bench(f"experiment={name}", "dataset=digits", "seeds=[0]", "device=cpu", f"sweep={name}")
    assert said.code == 0, said.err
    swept = yaml.safe_load(Path(CONF, "experiment", f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    groups = [group for group in swept if "." not in group]
    assert all(group in ("model", "likelihood", "noise", "prior", "network", "optimizer") for group in groups)
    asked = set(product(*(swept[group].split(",") for group in groups)))
    assert len(asked) == prod(len(swept[group].split(",")) for group in groups)
    # A model that does not use a group has null there: it stands for every option of it.
    told = [tuple(record["choices"][group] for group in groups) for record in records(name)]
    for job in asked:
        assert any(all(a == b or b is None for a, b in zip(job, run, strict=True)) for run in told), job
    assert {record["status"] for record in records(name)} <= {"ok", "skipped"}
    assert f"{len(told)} runs: " in said.out.splitlines()[-1]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_finds_its_own_data(bench, monkeypatch, name):
    if "dataset: digits" not in (text := Path(CONF, "experiment", f"{name}.yaml").read_text()) and "/dataset" in text:
        if not SHARED:
            pytest.skip(f"BENCH_DATA is not set: the data of experiment={name} are not looked at")
        monkeypatch.setenv("BENCH_DATA", SHARED)
    said = bench(f"experiment={name}", "seeds=[0]", "dry_run=true", "device=cpu")
    assert said.code == 0, said.err
    assert "to do" in said.out.splitlines()[-1]
