"""bench-report as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.paths import CONF

from .conftest import run_command


def test_the_command_writes_a_report(results):
    results.run("vae", metrics={"knn_accuracy": 0.9, "elbo": -1.0})
    arguments = ["sweep=first", f"paths.results={results.path}", "metrics=[elbo,knn_accuracy]", "figures=false"]
    done = subprocess.run([sys.executable, "-m", "bench.report", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0.9000" in done.stdout and "-1.000" in done.stdout
    assert {p.name for p in (results.path / "first/report-metrics-elbo-knn_accuracy").iterdir()} == {
        "table.md",
        "table.tex",
        "table.csv",
        "seeds.csv",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=third"], "first"),
        (["sweep=empty"], "'empty' in"),
        (["sweep=damaged"], "record.json is damaged"),
        (["sweep=first", "metrics=elbow"], "metrics=elbow is not known: these runs record elbo"),
        (["sweep=first", "rowz=model"], "rowz"),
        (["sweep=first", "report=nope"], "nope"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(results, arguments, message):
    results.run("vae", metrics={"elbo": -1.0})
    (results.path / "empty").mkdir()
    damaged = results.run("vae", sweep="damaged") / "record.json"
    damaged.write_text(damaged.read_text()[:100])
    done = run_command(f"paths.results={results.path}", *arguments)
    assert done.code == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert message in line


def test_the_command_exports_a_sweep(results):
    for model in ("ae", "vae"):
        results.run(model, metrics={"knn_accuracy": 0.9})
    shared = results.path.parent / "shared"
    done = run_command("sweep=first", f"paths.results={results.path}", f"export={shared / 'first'}", "only={model: ae}")
    assert done == (0, f"1 record written to {shared / 'first' / 'records.jsonl'}\n", "")
    assert not (results.path / "first" / "report").exists()
    done = run_command("sweep=first", f"paths.results={shared}", "figures=false")
    assert done.code == 0 and "0.9000" in done.stdout
    assert done.stdout.splitlines()[-1] == str(shared / "first" / "report" / "table.md")
    (shared / "first" / "records.jsonl").write_text('{"a": 1}\n')
    done = run_command("sweep=first", f"paths.results={shared}")
    assert done.code == 1 and "records.jsonl, line 1, has schema None" in done.stderr


def test_a_report_starts_without_torch(results):
    results.run("vae", metrics={"elbo": -1.0})
    code = (
        "import sys; from pathlib import Path; from bench.report import write;"
        f"write(Path({str(results.path)!r}), ['first']);"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_help_lists_presets_and_nothing_else():
    done = run_command("--help")
    listed = done.stdout.partition("Presets:\n\n")[2].partition("\n\n")[0]
    assert listed == "report: " + ", ".join(sorted(path.stem for path in Path(CONF, "report").glob("*.yaml")))
