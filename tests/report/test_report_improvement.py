"""How often one row's run is better than another's."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.core import InputError
from bench.report import write


def report(results, **options):
    out = io.StringIO()
    made = write(results.path, ["first"], Console(file=out, width=200), figures=False, **options)
    return (made.folder / "table.md").read_text(), out.getvalue()


def cells(output, name):
    (line,) = [
        line for line in output.split("probability of improvement")[1].splitlines() if line.startswith(f"| {name}")
    ]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_rows_are_compared_with_one_another_over_all_pairs_of_seeds(results):
    for seed, (ae, vae) in enumerate([(0.1, 0.2), (0.4, 0.3), (0.6, 0.5)]):
        results.run("ae", seed, metrics={"reconstruction_mse": ae})
        results.run("vae", seed, metrics={"reconstruction_mse": vae})
    results.run("gan", metrics={"reconstruction_mse": "no encoder"})
    written, output = report(results, improvement="reconstruction_mse")
    # Lower is better: 0.1 beats all three, 0.4 one, 0.6 none.
    assert cells(written, "ae") == ["ae", "3", "", "0.44"] and cells(written, "vae") == ["vae", "3", "0.56", ""]
    assert "gan" not in written.split("probability of improvement")[1]
    assert "probability of improvement" in output
    assert "probability of improvement" not in report(results)[0]


def test_rows_that_may_not_be_ranked_are_not_compared(results):
    results.run("vae", metrics={"mmd_to_prior": 0.1})
    results.run("vae", metrics={"mmd_to_prior": 0.2}, choices={"prior": "uniform"})
    assert cells(report(results, improvement="mmd_to_prior")[0], "normal")[-1] == "not ranked"


def test_a_metric_that_is_not_there_is_one_line(results):
    results.run("vae", metrics={"kl": 0.1})
    with pytest.raises(InputError, match="elbow"):
        report(results, improvement="elbow")
    assert "probability" not in report(results, improvement="kl")[0]  # of which neither way is better
