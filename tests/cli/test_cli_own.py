"""A user's own metrics, claims, data sets and presets of reports, from outside the package."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from bench.__main__ import main

from ..report.conftest import run_command
from .conftest import importing_from

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "own"
SMALL = ["dataset.examples=100", "network.hidden=16", "budget.steps=2", "metrics.samples=20", "seeds=[0]"]
SMALL += ["tracking=none", "device=cpu"]

METRICS = """
from pathlib import Path

from bench.metrics import metric

Path("imported").touch()


@metric(better="lower")
def error(x, x_mean):
    return {factor} * (x - x_mean).flatten(1).abs().mean(1)


@metric(better="higher")
def psnr(x):
    return 1.0


@metric(better="higher")
def unknown_evidence(x, codes):
    return 1.0


def unmarked(x):
    return 1.0
"""


@pytest.fixture
def own(elsewhere, monkeypatch) -> Path:
    """Starts in a user's folder, whose modules are imported anew."""
    folder = elsewhere / "own"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with importing_from(folder):
        yield folder


def write_metrics(folder: Path, factor: int = 1) -> None:
    (folder / "own_metrics.py").write_text(METRICS.replace("{factor}", str(factor)))
    sys.modules.pop("own_metrics", None)


# --- the examples


def documented_commands() -> list[list[str]]:
    """The commands of the README of the examples, without what stands beside them."""
    lines = [line.strip() for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("    ")]
    return [shlex.split(line.partition("  ")[0]) for line in lines]


def test_the_examples_do_what_their_readme_says(own, monkeypatch, capsys):
    shutil.copytree(EXAMPLES, own, dirs_exist_ok=True)
    commands = documented_commands()
    assert [command[0] for command in commands] == ["bench"] * 3 + ["bench-report"] * 2
    for name, *arguments in commands:
        if name == "bench-report":
            assert (done := run_command(*arguments)).code == 0, done.stderr
            continue
        monkeypatch.setattr(sys, "argv", ["bench", *arguments, *SMALL])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, capsys.readouterr().err
    reports = own / "results" / "rings" / "report-claims-ring_codes"
    with (reports / "claims.csv").open() as file:
        (verdict,) = csv.DictReader(file)
    assert verdict["verdict"].startswith("not decided at 1 seed") and verdict["claim"] == "ring_codes"
    text = (own / "results" / "rings" / "mine" / "table.md").read_text()
    assert text.startswith("# Rings") and "my_metrics.brightness_error ↓ |" in text and "knn_accuracy" not in text


def test_the_examples_have_one_of_each():
    found = {path.parent.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.yaml")}
    assert found == {"conf/dataset", "conf/metrics", "conf/experiment/claims", "conf/report"}
    texts = [path.read_text() for path in EXAMPLES.rglob("*.yaml")]
    named = [line for text in texts for line in re.findall(r"^# +(bench(?:-report)? .*)$", text, re.MULTILINE)]
    assert sorted(map(shlex.split, named)) == sorted(documented_commands()), "their comments have the same commands"
    claim = yaml.safe_load((EXAMPLES / "conf/experiment/claims/ring_codes.yaml").read_text())
    assert len(claim["seeds"]) >= 5, "with fewer nothing is decided"


# --- metrics


def test_an_own_metric_is_added_to_a_finished_run_also_in_another_process(bench, own, records):
    write_metrics(own)
    assert bench("metrics.names=[psnr]").code == 0
    named = bench("metrics.names=[own_metrics.error]", "allow=[own_metrics]", "isolate=true")
    assert named.code == 0 and "steps" not in named.err, named.err
    assert "own_metrics.error ↓" in named.out and "psnr ↑" in named.out
    (record,) = [yaml.safe_load(path.read_text()) for path in own.glob("results/*/*/seed-0/record.json")]
    entry = record["metrics"]["own_metrics.error"]
    assert entry["value"] > 0 and entry["se"] > 0 and entry["better"] == "lower" and set(entry["details"]) == {"code"}
    assert record["metrics"]["psnr"]["details"] == {}


def test_an_own_metric_is_computed_again_if_its_file_changed(bench, own):
    def value() -> float:
        done = bench("metrics.names=[own_metrics.error]", "allow=[own_metrics]")
        assert done.code == 0, done.err
        (path,) = own.glob("results/*/*/seed-0/record.json")
        written.append(path.stat().st_mtime_ns)
        return yaml.safe_load(path.read_text())["metrics"]["own_metrics.error"]["value"]

    written: list[int] = []
    write_metrics(own)
    first = value()
    assert value() == first and written[0] == written[1], "it is not computed again"
    write_metrics(own, factor=2)
    assert value() == pytest.approx(2 * first)


def test_what_is_not_allowed_is_not_imported(bench, own):
    write_metrics(own)
    refused = bench("metrics.names=[own_metrics.error]")
    assert refused.code == 1 and len(refused.err.splitlines()) == 1 and not (own / "imported").exists()
    assert "metrics.names='own_metrics.error'" in refused.err and "allow=[own_metrics]" in refused.err


@pytest.mark.parametrize("group", ["metrics", "experiment"])
def test_the_yaml_of_a_config_dir_allows_the_metrics_that_it_names(bench, own, group):
    write_metrics(own)
    (own / "conf" / group).mkdir(parents=True)
    text = {
        "metrics": "defaults: [fast, _self_]\nnames: [own_metrics.error]\n",
        "experiment": "# @package _global_\nmetrics: {names: [own_metrics.error]}\n",
    }
    (own / "conf" / group / "mine.yaml").write_text(text[group])
    done = bench("--config-dir", "conf", f"{group}=mine")
    assert done.code == 0 and "own_metrics.error ↓" in done.out, done.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_metrics.psnr", "own_metrics.psnr has the name of a metric of latentbench: choose psnr, or rename"),
        ("own_metrics.unmarked", "own_metrics.unmarked is not a metric: mark the function with bench.metrics.metric"),
        ("own_metrics.unknown_evidence", "own_metrics.unknown_evidence has the parameter codes, but there is no"),
        ("own_metrics.nothing", "cannot be imported: module 'own_metrics' has no attribute 'nothing'"),
        ("own_metrics.Path", "is not a class or function that its package defines"),
        ("error", "there is no metric 'error'; choose from active_units"),
    ],
)
def test_a_name_that_is_no_metric_is_one_line(bench, own, name, message):
    write_metrics(own)
    refused = bench(f"metrics.names=[{name}]", "allow=[own_metrics]")
    assert refused.code == 1 and len(refused.err.splitlines()) == 1 and message in refused.err
    assert not (own / "results").exists() or not [*own.glob("results/*/*/seed-0")]
