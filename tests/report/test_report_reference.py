"""The committed tables are what the command beside them makes of the committed records."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from .test_report_page import command

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
TABLES = sorted(REFERENCE.glob("*/*/table.md"))
MADE = ("table.*", "claims.csv")


def said_command(readme: Path) -> list[str]:
    """The arguments of the one line of it that calls bench-report on the committed records."""
    (line,) = [line for line in readme.read_text().splitlines() if line.startswith("    bench-report ")]
    arguments = shlex.split(line)[1:]
    arguments.remove("paths.results=results/reference")
    return arguments


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    copied = tmp_path_factory.mktemp("results") / "reference"
    shutil.copytree(REFERENCE, copied, ignore=shutil.ignore_patterns(*MADE))
    return copied


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.relative_to(REFERENCE).as_posix())
def test_committed_tables_are_those_of_the_committed_records(table, records):
    sweep, folder = table.parent.parent, table.parent.name
    done = command(*said_command(sweep / "README.md"), f"paths.results={records}")
    assert done.returncode == 0, done.stderr
    for path in table.parent.iterdir():
        assert (records / sweep.name / folder / path.name).read_text() == path.read_text(), path.name


def test_there_are_committed_records_without_weights():
    assert TABLES and list(REFERENCE.rglob("record.json"))
    assert not [*REFERENCE.rglob("*.safetensors"), *REFERENCE.rglob("*.npz")]
