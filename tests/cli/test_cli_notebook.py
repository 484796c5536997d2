"""The example notebook runs as it is committed."""

from __future__ import annotations

import os
import re

import nbformat
from nbclient import NotebookClient

from .conftest import ROOT

NOTEBOOK = ROOT / "examples" / "compare.ipynb"


def kinds(cell) -> list[str]:
    """What a cell shows, such as a stream or a picture."""
    return sorted({one.get("name") or min(one.data) for one in cell.get("outputs", ())})


def shown(cell, stream: str) -> str:
    return "".join(one.text for one in cell.outputs if one.get("name") == stream)


def test_the_notebook_compares_models_on_own_data(elsewhere, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    committed = nbformat.read(NOTEBOOK, as_version=4)
    run = NotebookClient(
        nbformat.from_dict(committed), timeout=300, resources={"metadata": {"path": str(elsewhere)}}
    ).execute()
    cells = {cell.source.split("\n")[0]: cell for cell in run.cells if cell.cell_type == "code"}
    progress = shown(cells["frame = bench.sweep("], "stderr")
    assert "vae-bernoulli-own-none seed 4: ok" in progress, "the cell shows the progress of the process"
    agreement = next(cell for cell in run.cells if "assert table.loc[metric]" in cell.source)
    lines = re.findall(r"(\w+): p = ([\d.e+-]+), bold: (.+)", shown(agreement, "stdout"))
    assert {name for name, _, _ in lines} == {"reconstruction_mse", "knn_accuracy"}
    assert all((", " in bold) == (float(p) >= 0.05) for _, p, bold in lines)
    assert [kinds(cell) for cell in run.cells] == [kinds(cell) for cell in committed.cells], "outputs are committed"
    assert kinds(run.cells[-1]) == ["image/png"]
    assert {path.name for path in elsewhere.iterdir()} == {"own.npz", "results"}
