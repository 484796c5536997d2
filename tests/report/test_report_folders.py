"""Where a report is written: a selection never replaces the sweep's own report, and nothing of an old one stays."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.report import write

OPTIONS = [
    ({"only": {"likelihood": "bernoulli"}}, "report-only-likelihood-bernoulli"),
    ({"only": {"model": ["ae", "vae"]}}, "report-only-model-ae-vae"),
    ({"metrics": ["knn_accuracy", "elbo"]}, "report-metrics-knn_accuracy-elbo"),
    ({"rows": "model"}, "report-rows-model"),
    ({"columns": ["likelihood"]}, "report-columns-likelihood"),
    ({"average": "likelihood"}, "report-average-likelihood"),
    ({"compare": ["ae", "vae"]}, "report-compare-ae-vae"),
    ({"headline": ["elbo"]}, "report-headline-elbo"),
    ({"claims": "all", "tables": False}, "report-tables-false-claims-all"),
    ({"groups": {"codes": ["knn_accuracy"]}}, "report-groups"),
    ({"metrics": ["knn_accuracy"], "folder": "mine"}, "mine"),
    ({"metrics": ["knn_accuracy"], "folder": "report"}, "report"),
    ({"title": "Mine", "references": False, "figures": True}, "report"),
]


@pytest.fixture
def sweep(results):
    for model in ("ae", "vae"):
        results.pictures(results.run(model, metrics={"knn_accuracy": 0.5 + len(model) / 10, "elbo": -1.0}))
    return results


def made(results, *sweeps, figures=False, **options):
    return write(
        results.path, list(sweeps or ("first",)), Console(file=io.StringIO()), **{"figures": figures} | options
    )


@pytest.mark.parametrize(("options", "folder"), OPTIONS)
def test_a_selection_has_a_folder_of_its_own(sweep, options, folder):
    own = made(sweep)
    before = {path.name: path.read_bytes() for path in own.folder.iterdir()}
    found = made(sweep, **options)
    assert found.folder == sweep.path / "first" / folder
    assert {path.name for path in found.folder.iterdir() if path.is_file()} == {*found.files}
    if folder != "report":
        assert {path.name: path.read_bytes() for path in own.folder.iterdir()} == before


def test_several_sweeps_have_a_folder_of_their_own(sweep):
    sweep.run("aae", sweep="second", metrics={"knn_accuracy": 0.9})
    assert made(sweep, "first", "second").folder == sweep.path / "first" / "report-with-second"


def test_a_long_selection_has_a_short_folder(sweep):
    sweep.run("gan", metrics={f"metric_{i}": 1.0 for i in range(40)})
    names = [f"metric_{i}" for i in range(40)]
    folders = {made(sweep, metrics=names[:n]).folder.name for n in (38, 39, 40)}
    assert len(folders) == 3, "different selections have different folders"
    assert all(len(name) <= 80 and name.startswith("report-metrics-metric_0-") for name in folders)


def test_a_selection_by_a_hostile_text_stays_in_the_sweep(sweep):
    name = "../../x/ y"
    sweep.run("vae", metrics={"knn_accuracy": 0.1}, settings={"model.kind": name})
    folder = made(sweep, only={"model.kind": name}).folder
    assert folder.parent == sweep.path / "first" and folder.name == "report-only-model.kind-.._.._x_y"


def test_no_page_or_picture_of_an_earlier_report_stays(sweep):
    found = made(sweep, figures=True)
    own = found.folder / "notes.txt"
    own.write_text("mine")
    assert (found.folder / "index.html").is_file() and any((found.folder / "pictures").iterdir())
    assert (found.folder / "answer.png").is_file()
    made(sweep)
    names = {path.name for path in found.folder.iterdir()}
    assert names == {"table.md", "table.tex", "table.csv", "seeds.csv", "notes.txt"}
    assert "answer.png" not in (found.folder / "table.md").read_text()


def test_a_file_of_the_user_among_the_pictures_stays(sweep):
    found = made(sweep, figures=True)
    (found.folder / "pictures" / "notes.txt").write_text("mine")
    made(sweep)
    assert [path.name for path in (found.folder / "pictures").iterdir()] == ["notes.txt"]


def test_no_table_of_an_earlier_report_stays(sweep):
    folder = made(sweep, folder="x", compare=["ae", "vae"]).folder
    assert (folder / "compare.csv").is_file()
    made(sweep, folder="x", tables=False, claims="all")
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.tex", "claims.csv"}


def test_a_page_without_images_says_so(sweep, results):
    assert "tables and charts only" not in (made(sweep, figures=True).folder / "index.html").read_text()
    results.run("ae", sweep="other", metrics={"knn_accuracy": 0.5})
    page = (made(results, "other", figures=True).folder / "index.html").read_text()
    assert page.count("so this page has tables and charts only") == 1
