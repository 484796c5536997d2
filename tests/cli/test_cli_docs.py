"""The documented Python runs, and so do the documented model and metric from outside the package."""

from __future__ import annotations

import re
import shutil
from typing import Any

import numpy as np
import pytest
import yaml

import bench as package
from bench import calls

from ..command_lines import jobs_of
from ..documentation import DOCS, PAGES, ROOT, blocks, name_of
from .conftest import importing_from

RUN = "results/first/vae-bernoulli-mnist-none-0123456789"  # the folder that the documentation loads


@pytest.fixture
def outside(elsewhere):
    """A user's folder, from which modules are imported."""
    with importing_from(elsewhere):
        yield elsewhere


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_is_python(page):
    for block in blocks(page, "python"):
        compile(block, name_of(page), "exec")


def test_documented_python_runs(bench, elsewhere, monkeypatch):
    """On small runs of the digits. Calls of `bench.run` and `bench.sweep` are checked, and answered with these runs."""
    names = "metrics.names=[knn_accuracy,elbo]"
    assert bench("-m", "model=ae,vae", "sweep=first", "seeds=[0,1]", names, "dataset.limit=20").code == 0
    (trained,) = elsewhere.glob("results/first/vae-*")
    shutil.copytree(trained, elsewhere / "loaded" / RUN.rpartition("/")[2])
    assert bench("model=gan", "sweep=second", names).code == 0
    called = []

    def call(overrides: tuple[str, ...], settings: dict[str, Any], is_sweep: bool) -> Any:
        assert jobs_of([*["-m"] * is_sweep, *calls.words(overrides, settings, is_sweep)])
        called.append(is_sweep)
        return package.results(elsewhere / "results" / "first")

    monkeypatch.setattr(calls, "call", call)
    for page in (ROOT / "README.md", DOCS / "python.md"):
        x = np.random.default_rng(0).integers(0, 16, (5, 1, 8, 8), dtype=np.uint8)
        namespace: dict[str, Any] = {"x": x}
        for block in blocks(page, "python"):
            exec(block.replace(RUN, str(elsewhere / "loaded" / RUN.rpartition("/")[2])), namespace)
        assert namespace["codes"].shape == (5, 16) and namespace["samples"].shape == (64, 1, 8, 8)
        assert {"model", "seed"} <= {*namespace["results"].columns}
    assert called == [True, False, True]


def test_the_documented_model_and_metric_run(bench, outside, records):
    page = DOCS / "extending.md"
    model, metric = blocks(page, "python")
    (outside / "sparse.py").write_text(model)
    (outside / "my_metrics.py").write_text(metric)
    description = blocks(page, "yaml")[0]
    folder = outside / re.match(r"# (\S+)", description)[1]
    folder.parent.mkdir(parents=True)
    folder.write_text(description)
    assert yaml.safe_load(description)["_target_"] == "sparse.SparseAutoencoder"
    own = "metrics.names=[reconstruction_mse,my_metrics.mean_error]"
    result = bench("--config-dir", "my_conf", "model=sparse", own, "allow=[my_metrics]")
    assert result.code == 0, result.err
    (record,) = records("default")
    assert record["status"] == "ok" and record["metrics"]["my_metrics.mean_error"]["value"] > 0
    claim = yaml.safe_load(blocks(page, "yaml")[1])["claim"]
    assert {*claim} == {"says", "runs", "tests"}
