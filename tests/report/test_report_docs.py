"""The documented commands of bench-report and bench-status work, and the documented tables are the committed ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from bench.runs.status import lines, status_of

from ..documentation import DOCS, PAGES, ROOT, commands, name_of, tables
from .conftest import run_command

REFERENCE = ROOT / "results" / "reference"
DOCUMENTED = {
    program: {tuple(command): name_of(page) for page in PAGES for command in commands(page, program)}
    for program in ("bench-report", "bench-status")
}


@pytest.fixture
def sweeps(results, monkeypatch, tmp_path) -> None:
    """Small sweeps with the names of the documentation, and the folders of a user; commands start beside them."""
    for sweep in ("default", "first", "second"):
        for model, noise in (("vae", "none"), ("aae", "none"), ("ae", "none"), ("ae", "gaussian")):
            for seed in (0, 1):
                metrics = {"elbo": -80.0 - seed, "knn_accuracy": 0.9 + 0.01 * seed}
                results.run(model, seed, sweep, metrics, choices={"noise": noise})
    for sweep in ("mine", "rings"):
        for latents in (1, 8):
            for seed in (0, 1):
                metrics = {"my_metrics.brightness_error": 0.1 / latents + seed, "reconstruction_mse": 0.1}
                results.run("ae", seed, sweep, metrics, settings={"model.latent_dim": latents})
    records = (REFERENCE / "claims" / "records.jsonl").read_text().splitlines(keepends=True)
    (results.path / "claims").mkdir()
    one_seed = "".join(line for line in records if json.loads(line)["seed"] == 0)
    (results.path / "claims" / "records.jsonl").write_text(one_seed)
    for name in ("conf", "my_conf"):
        shutil.copytree(ROOT / "examples" / "own" / "conf", tmp_path / name)
    own = tmp_path / "my_conf"
    (own / "experiment" / "claims" / "ring_codes.yaml").rename(own / "experiment" / "claims" / "mine.yaml")
    preset = own / "report" / "mine.yaml"
    preset.write_text(preset.read_text().replace("ring_codes", "mine") + "\nsweep: mine\n")
    monkeypatch.chdir(tmp_path)


def test_documented_reports_are_written(sweeps):
    assert len(DOCUMENTED["bench-report"]) > 8
    for command, page in DOCUMENTED["bench-report"].items():
        if "--help" not in command:
            done = run_command(*command, "figures=false")
            assert done.code == 0, f"{page}: bench-report {' '.join(command)}: {done.stderr}"
            assert "written to" in done.stdout


def test_documented_states_are_shown(sweeps):
    assert DOCUMENTED["bench-status"]
    for (word,) in DOCUMENTED["bench-status"]:
        key, _, sweep = word.partition("=")
        assert key == "sweep" and lines(status_of(Path("results"), sweep))[0].startswith("done: 8 (8 ok)")


# --- tables


def committed(monkeypatch, tmp_path, sweep: str, *options: str, table: str) -> list[list[str]]:
    """A table that bench-report makes of a committed sweep, without footnotes."""
    shutil.copytree(REFERENCE / sweep, tmp_path / "results" / sweep)
    monkeypatch.chdir(tmp_path)
    done = run_command(f"sweep={sweep}", *options, "folder=report", "figures=false")
    assert done.code == 0, done.stderr
    (found,) = [rows for rows in tables_of(tmp_path / "results" / sweep / table) if len(rows) > 5]
    return found


def tables_of(path: Path) -> list[list[list[str]]]:
    return [[[re.sub(r" \[\d+\]$", "", cell) for cell in row] for row in rows] for rows in tables(path)]


def test_the_table_of_the_first_page_is_committed(monkeypatch, tmp_path):
    (shown,) = [rows for rows in tables(ROOT / "README.md") if rows[0][0] == "model"]
    metrics = "reconstruction_mse,knn_accuracy,sharpness_samples,frechet_distance"
    models = ", ".join(row[0] for row in shown[1:])
    only = f"only={{model: [{models}], likelihood: bernoulli}}"
    rows = committed(monkeypatch, tmp_path, "mnist_main_models", only, f"metrics=[{metrics}]", table="report/table.md")
    of = {"MSE": "reconstruction_mse", "kNN on codes": "knn_accuracy", "sharpness of samples": "sharpness_samples"}
    of |= {"Fréchet distance": "frechet_distance"}
    assert [re.sub(r"^(.+?) (?=[↓↑→])", lambda m: f"{of[m[1]]} ", cell) for cell in shown[0][1:]] == rows[0][-4:]
    assert shown[1:] == [[row[0], *row[-4:]] for row in rows[1:]]


def test_the_verdicts_are_committed():
    (shown,) = [rows for rows in tables(DOCS / "claims.md") if rows[0][0] == "claim"]
    found = [rows for rows in tables_of(REFERENCE / "claims" / "claims" / "table.md") if rows[0][0] == "claim"]
    assert shown[1:] == [[row[0], row[2].removesuffix(" at 10 seeds"), row[3], row[5]] for row in found[0][1:]]
