"""The committed tables are what the command beside them makes of the committed records."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from .conftest import run_command

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
RECORDS = "records.jsonl"
SEEDS = "seeds.csv"  # not committed: it repeats the records
# By data set, a metric that tells whether an output has its condition.
FOLLOWED = {"designs": "ciede2000", "birds": "judged_accuracy", "dolls": "pose_miou", "aging_faces": "psnr"}


def documented_command(readme: Path) -> list[str]:
    """The arguments of the one line that calls bench-report on the committed records."""
    (line,) = [line for line in readme.read_text().splitlines() if line.startswith("    bench-report ")]
    arguments = shlex.split(line)[1:]
    arguments.remove("paths.results=results/reference")
    return arguments


def test_committed_tables_are_those_of_the_committed_records(tmp_path):
    sweeps = [path.parent for path in REFERENCE.glob(f"*/{RECORDS}")]
    for sweep in sweeps:
        (tmp_path / sweep.name).mkdir()
        shutil.copy(sweep / RECORDS, tmp_path / sweep.name)
    made = set()
    for sweep in sweeps:
        done = run_command(*documented_command(sweep / "README.md"), f"paths.results={tmp_path}")
        assert done.code == 0, done.stderr
        for path in (tmp_path / sweep.name).glob("*/*"):
            if path.name == SEEDS:
                continue
            committed = REFERENCE / path.relative_to(tmp_path)
            assert committed.read_text() == path.read_text(), committed
            made.add(committed)
    assert made == {path for sweep in sweeps for path in sweep.glob("*/*") if path.name != SEEDS} and made


def test_every_committed_sweep_has_its_records_in_one_file():
    tables = {path.parent.parent for path in REFERENCE.glob("*/*/table.md")}
    assert tables == {path.parent for path in REFERENCE.glob(f"*/{RECORDS}")}
    assert not [*REFERENCE.rglob("record.json"), *REFERENCE.rglob("*.safetensors"), *REFERENCE.rglob("*.npz")]


def test_committed_models_follow_their_conditions():
    """With the conditions of other examples, all trained models have worse outputs, unless they read no true ones."""
    lines = [line for path in REFERENCE.glob(f"*/{RECORDS}") for line in path.read_text().splitlines()]
    judged = set()
    for record in map(json.loads, lines):
        name, settings = FOLLOWED.get(record["choices"]["dataset"]), record["config"]["model"]
        if name is None or not record["steps"] or record["status"] == "diverged":
            continue
        if settings.get("sketch") == "latent":  # its outputs do not change at all
            assert f"{name}@permuted" not in record["metrics"]
            continue
        own, permuted = (record["metrics"][key] for key in (name, f"{name}@permuted"))
        gain = permuted["value"] - own["value"] if own["better"] == "lower" else own["value"] - permuted["value"]
        is_blind = settings.get("mismatched")
        assert abs(gain) < 0.02 if is_blind else gain > 0.1, (record["name"], record["seed"], own, permuted)
        judged.add(record["choices"]["dataset"])
    assert judged == FOLLOWED.keys()
