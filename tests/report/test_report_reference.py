"""The committed tables are what bench-report makes of the committed records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .test_report_page import command

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
PRESETS = {"report": "vae_vs_aae_vs_gan", "claims": "claims"}  # by the folder that each writes
TABLES = sorted(REFERENCE.glob("*/*/table.md"))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.relative_to(REFERENCE).as_posix())
def test_committed_tables_are_those_of_the_committed_records(table, tmp_path):
    sweep, folder = table.parent.parent, table.parent.name
    shutil.copytree(sweep, tmp_path / sweep.name, ignore=shutil.ignore_patterns("table.*", "claims.csv"))
    done = command(f"sweep={sweep.name}", f"report={PRESETS[folder]}", "figures=false", f"paths.results={tmp_path}")
    assert done.returncode == 0, done.stderr
    for path in table.parent.iterdir():
        assert (tmp_path / sweep.name / folder / path.name).read_text() == path.read_text(), path.name


def test_there_are_committed_records_without_weights():
    assert TABLES and list(REFERENCE.rglob("record.json"))
    assert not [*REFERENCE.rglob("*.safetensors"), *REFERENCE.rglob("*.npz")]
