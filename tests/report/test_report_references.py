"""Published numbers beside ours."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from bench.metrics import discover
from bench.paths import CONF
from bench.report import write
from bench.report.tables.references import references
from tests.conftest import config_of


def report(results, **options):
    made = write(results.path, ["first"], Console(file=io.StringIO()), figures=False, **options)
    return (made.folder / "table.md").read_text()


def vae(results, seeds=(0,), **settings):
    for seed in seeds:
        folder = results.run(
            "vae",
            seed,
            metrics={"log_likelihood_iw": -87.0 - seed},
            choices={"dataset": "mnist"},
            settings={"dataset.binarize": "dynamic", "network.hidden": 200} | settings,
        )
    return folder


def test_published_numbers_stand_beside_ours_with_what_differs(results):
    vae(results, (0, 1), **{"model.latent_dim": 50, "model.samples": 5})
    output = report(results)
    (row,) = [line for line in output.splitlines() if "-86.5" in line]  # of k = 5, with the digits that ours have
    assert "Burda et al. 2016" in row and "-87.5 ± 6.4" in row and "-1.0" in row
    assert "budget.epochs: 3280, here 20" in row and "budget.batch_size: 20, here 128" in row
    assert "model.latent_dim" not in row and "network.hidden" not in row and "dataset.binarize" not in row
    assert "Published numbers" not in report(results, references=False)


def test_others_have_none(results):
    results.run("ae", metrics={"knn_accuracy": 0.9}, choices={"dataset": "mnist"})
    results.run("vae", metrics={"log_likelihood_iw": "not normalised"}, choices={"dataset": "mnist"})
    results.run("vae", metrics={"log_likelihood_iw": -80.0})  # of the digits
    assert "Published numbers" not in report(results)


def test_where_nothing_differs_it_says_none(results):
    reference = references()[0]
    dotted = {key: value for key, value in reference["setting"].items() if "." in key}
    folder = vae(results, **dotted)
    record = yaml.safe_load((folder / "record.json").read_text())
    sizes = {key: value for key, value in reference["setting"].items() if "." not in key}
    record["metrics"]["log_likelihood_iw"]["settings"] = sizes
    (folder / "record.json").write_text(json.dumps(record))
    (row,) = [line for line in report(results).splitlines() if "-86.76" in line]
    assert "none of those known" in [cell.strip() for cell in row.split("|")]


@pytest.mark.parametrize("reference", references(), ids=lambda r: f"{r['model']}-{r['metric']}-{r['value']}")
def test_every_reference_names_what_there_is(reference):
    assert Path(CONF, "model", f"{reference['model']}.yaml").is_file()
    assert reference["metric"] in discover() and reference["read"] in ("scan", "seen", "quoted") and reference["source"]
    config = config_of(f"model={reference['model']}", f"dataset={reference['dataset']}")
    for key in reference["setting"]:
        group, _, setting = key.rpartition(".")
        assert setting in config[group or "metrics"], key
