"""Rows ranked over data sets."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import stats

from bench.report import write
from bench.report.statistics.ranks import Ranks
from bench.report.tables.diagrams import critical_difference

MODELS = ("ae", "vae", "aae", "gan")


def report(results, **options):
    out = io.StringIO()
    made = write(results.path, ["first"], Console(file=out, width=200), figures=False, **options)
    return (made.folder / "table.md").read_text(), out.getvalue()


def on_data_sets(results, values):
    """values: [data set][model] of reconstruction_mse."""
    for i, block in enumerate(values):
        for model, value in zip(MODELS, block, strict=True):
            results.run(model, metrics={"reconstruction_mse": value}, choices={"dataset": f"set{i}"})


def lines(output):
    return [line for line in output.split("Ranks in reconstruction_mse")[1].splitlines() if line.startswith("| ")][1:]


def test_mean_ranks_friedman_and_nemenyi(results):
    values = [[1.0, 2.0, 3.0, 4.0]] * 13 + [[2.0, 1.0, 3.0, 4.0]]
    on_data_sets(results, values)
    written, output = report(results, ranks="reconstruction_mse")
    assert [line.split("|")[1].strip() for line in lines(written)] == ["ae", "vae", "aae", "gan"]
    assert "**1.07**" in lines(written)[0] and "**1.93**" in lines(written)[1] and "3.00" in lines(written)[2]
    assert "**" not in "".join(lines(written)[2:])
    # Demsar 2006, section 3.2.4: four classifiers on 14 data sets have a critical difference of 1.25.
    assert "1.25, of the first" in written and "Ranks in" in output
    p = stats.friedmanchisquare(*zip(*values, strict=True)).pvalue
    assert f"p = {p:.2g}" in written


def test_where_friedman_tells_nothing_apart_nothing_is_bold(results):
    on_data_sets(results, [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]] * 3)
    written, _ = report(results, ranks="reconstruction_mse")
    assert "does not reject" in written and "**" not in "".join(lines(written))


def test_too_few_data_sets_or_rows_are_refused_with_the_reason(results):
    on_data_sets(results, [[1.0, 2.0, 3.0, 4.0]] * 5)
    assert "Refused: 5 data sets are too few" in report(results, ranks="reconstruction_mse")[0]
    on_data_sets(results, [])
    results.run("ae", metrics={"reconstruction_mse": 1.0}, choices={"dataset": "set9"})
    assert "Refused: 1 rows have a number" in report(results, ranks="reconstruction_mse")[0]
    results.run("ae", metrics={"kl": 1.0}, choices={"dataset": "set8"})
    assert "Refused: neither direction is better in kl" in report(results, ranks="kl")[0]


@pytest.mark.parametrize("seeds", [1, 3])
def test_seeds_are_no_blocks(results, seeds):
    for seed in range(seeds):
        for model in MODELS:
            results.run(model, seed, metrics={"reconstruction_mse": 1.0 + seed})
    assert "Refused: 1 data sets" in report(results, ranks="reconstruction_mse")[0]


def test_groups_are_the_largest_in_which_none_are_reported_apart():
    def groups(ranks, critical, friedman=0.001):
        return Ranks({(f"m{i}",): rank for i, rank in enumerate(ranks)}, 8, friedman, critical).groups

    assert groups([1.6, 2.1, 2.9, 3.3, 5.1, 6.0], 1.5) == [(0, 2), (1, 3), (4, 5)]
    assert groups([1.0, 2.0, 3.0], 0.5) == []
    assert groups([3.0, 1.0, 2.0], 5.0) == [(0, 2)]
    assert groups([1.0, 4.0], 0.5, friedman=0.5) == [(0, 1)]


def test_the_diagram_is_drawn_where_there_are_ranks(results):
    on_data_sets(results, [[1.0, 2.0, 3.0, 4.0]] * 6)
    made = write(results.path, ["first"], Console(file=io.StringIO()), ranks="reconstruction_mse")
    page = (made.folder / "index.html").read_text()
    assert "critical-difference diagram of reconstruction_mse" in page
    png = critical_difference(Ranks({("a",): 1.0, ("b",): 2.5, ("c",): 2.5}, 6, 0.01, 1.2))
    image = np.asarray(Image.open(io.BytesIO(png)))
    assert (image[..., 3] > 0).sum() > 500, "something is drawn"
