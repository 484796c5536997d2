"""What is never pooled, whatever ids say: other data, schemas, evaluations and classifiers."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bench.core import InputError
from bench.report import export, write

from .conftest import labels, measured, report

FOLDER = {"fingerprint": "aaaaaaaa01", "train": 90, "validation": 10, "test": 20, "image": [1, 8, 8], "classes": 0}
GROWN = FOLDER | {"fingerprint": "bbbbbbbb02", "train": 95}


# Data


def two_folders(results, id="f00d", **given):
    """One configuration, and so one id in schema 2, on two data sets behind dataset.path."""
    for i, (sweep, data) in enumerate([("first", FOLDER), ("second", GROWN)]):
        for seed in (0, 1):
            results.run("ae", seed, sweep, {"knn_accuracy": 0.5 + 0.4 * i + seed / 100}, data=data, id=id, **given)


def test_two_data_sets_of_one_id_are_not_seeds_of_one_run(results):
    two_folders(results)
    tables, text = report(results, "first", "second")
    assert [table.title for table in tables] == ["digits (images aaaaaaaa)", "digits (images bbbbbbbb)"]
    assert [table.rows[0].cells[0].values for table in tables] == [{0: 0.5, 1: 0.51}, {0: 0.9, 1: 0.91}]
    assert all(table.axes == ("model",) for table in tables), "the title names the data set, and no row does"
    assert text.count("Several data sets have the name digits") == 2, "once for each"
    assert "90 training" in text and "95 training" in text


def test_two_data_sets_of_one_name_are_two_columns(results):
    two_folders(results)
    ((table,), _) = report(results, "first", "second", columns="dataset")
    assert [column.pivot for column in table.columns] == ["digits (images aaaaaaaa)", "digits (images bbbbbbbb)"]
    assert [cell.estimate.mean for cell in table.rows[0].cells] == pytest.approx([0.505, 0.905])


def test_two_data_sets_of_one_name_are_selected_by_name_or_by_label(results):
    two_folders(results)
    for dataset, count in (("digits", 2), ("digits (images bbbbbbbb)", 1)):
        assert len(report(results, "first", "second", only={"dataset": dataset})[0]) == count


def test_options_that_make_no_axis_do_not_hide_that_the_data_differ(results):
    """A model each, on parts of the data: then the size of the part is no axis, as nothing else is equal."""
    folders = {}
    for model, limit, data in (("vae", 100, FOLDER), ("vae", 200, GROWN), ("ae", 200, GROWN), ("gan", 100, FOLDER)):
        folder = results.run(model, metrics={"knn_accuracy": 0.9}, settings={"dataset.limit": limit}, data=data)
        folders[model, limit] = folder.parent.name
    tables, _ = report(results)
    assert [table.title for table in tables] == ["digits, limit=100", "digits, limit=200"]
    tables, _ = report(results, only={"model": ["ae", "gan"]})
    apart = ["digits (images bbbbbbbb)", "digits (images aaaaaaaa)"]
    assert [table.title for table in tables] == apart
    out = io.StringIO()
    printed = {folders["ae", 200], folders["gan", 100]}
    write(results.path, ["first"], Console(file=out), printed=printed, figures=False)
    assert all(title in out.getvalue() for title in apart)


def test_averages_do_not_pool_two_data_sets(results):
    two_folders(results)
    two_folders(results, "beef", choices={"noise": "gaussian"}, settings={"noise.level": 0.5})
    tables, _ = report(results, "first", "second", average="noise")
    assert [len(table.rows) for table in tables] == [1, 1]


def test_runs_of_one_id_have_pictures_of_their_own(results):
    for sweep, data in (("first", FOLDER), ("second", GROWN)):
        results.pictures(results.run("ae", 0, sweep, data=data, id="f00d"), latents=3)
    made = write(results.path, ["first", "second"], printed=())
    assert len(list((made.folder / "pictures").glob("ae-*-samples.png"))) == 2


def test_six_own_data_sets_are_ranked_over(results):
    """Of one name, as in schema 2, and with names of their own, as in schema 3."""
    for schema in (2, 3):
        for i in range(6):
            for model, value in (("ae", 1.0), ("vae", 2.0), ("aae", 3.0)):
                choices = {"dataset": f"cells{i}" if schema == 3 else "arrays"}
                data = FOLDER | {"fingerprint": f"{i}{schema}3456789"}
                given = {"choices": choices, "schema": schema, "id": f"{model}-{i}", "data": data}
                results.run(model, 0, f"schema{schema}", {"reconstruction_mse": value}, **given)
        for columns in (None, "dataset"):
            _, text = report(results, f"schema{schema}", ranks="reconstruction_mse", columns=columns)
            (best,) = [line for line in text.split("Ranks in")[1].splitlines() if line.startswith("| ae ")]
            assert "6 data sets" in best and "**1.00**" in best


def own_data(results, name, *models, data=FOLDER, metrics=("knn_accuracy", "elbo"), **given):
    """Runs on arrays of that name, the first model being the best."""
    key = results.KEY | {"dataset": name}
    for i, model in enumerate(models):
        numbers = dict.fromkeys(metrics, 0.9 - i / 10)
        given |= {"choices": given.get("choices", {}) | {"dataset": name}, "likelihood_key": key, "schema": 3}
        results.run(model, metrics=numbers, data=data, **given)


def test_two_data_sets_have_tables_of_their_own(results):
    own_data(results, "cells", "ae", data=FOLDER | {"range": [0, 16]})
    own_data(results, "leaves", "ae", data=GROWN)
    tables, _ = report(results)
    assert [table.title for table in tables] == ["cells", "leaves"]
    assert all("elbo: Bernoulli on grey pixels, not normalised (nats an image)." in table.notes for table in tables)
    assert "images of 1 × 8 × 8, stored from 0 to 16 and scaled to 0 to 1; metrics" in tables[0].caption
    assert [table.title for table in report(results, only={"dataset": "leaves"})[0]] == ["leaves"]
    with pytest.raises(InputError, match="there are cells, leaves"):
        report(results, only={"dataset": "arrays"})


def test_the_same_data_under_two_names_are_one_data_set(results):
    own_data(results, "a", "vae", "ae")
    own_data(results, "cells", "vae", "aae", "iwae")
    tables, text = report(results, improvement="elbo")
    assert [table.dataset for table in tables] == ["cells"], "the name of the run that was started last"
    assert text.count("cells is also called a: the images are the same.") == 1
    assert all(table.axes == ("model", "id") for table in tables), "the two runs of vae differ in nothing else"
    tables, text = report(results, only={"model": ["ae", "iwae"]}, improvement="elbo")
    assert [labels(table) for table in tables] == [[("ae",), ("iwae",)]]
    assert "not ranked" not in text
    assert [[cell.best for cell in row.cells] for row in tables[0].rows] == [[True, True], [False, False]]


def test_a_data_set_is_selected_by_any_of_its_names(results):
    own_data(results, "a", "vae")
    own_data(results, "cells", "iwae")
    own_data(results, "leaves", "ae", data=GROWN)
    for name in ("a", "cells"):
        assert labels(report(results, only={"dataset": name})[0][0]) == [("vae",), ("iwae",)]
    with pytest.raises(InputError, match="there are cells, leaves"):
        report(results, only={"dataset": "arrays"})


def test_names_that_two_data_sets_share_are_told_apart(results):
    own_data(results, "a", "vae")
    own_data(results, "cells", "ae")
    own_data(results, "cells", "vae", data=GROWN)
    tables, text = report(results)
    assert [table.dataset for table in tables] == ["cells (images aaaaaaaa)", "cells (images bbbbbbbb)"]
    assert "cells (images aaaaaaaa) is also called a: the images are the same." in text


def test_a_run_without_data_belongs_to_the_only_data_of_its_name(results):
    own_data(results, "a", "vae")
    own_data(results, "cells", "ae")
    results.run("iwae", status="failed", reason="no memory", data=None, choices={"dataset": "a"}, likelihood_key=None)
    tables, _ = report(results)
    assert labels(tables[0]) == [("vae",), ("ae",), ("iwae",)]


def test_an_average_over_noise_takes_runs_on_the_same_data_under_two_names(results):
    own_data(results, "a", "vae")
    own_data(results, "cells", "vae", choices={"noise": "gaussian"})
    tables, text = report(results, average="noise")
    assert [len(table.rows) for table in tables] == [1] and "cells is also called a" in text


@pytest.mark.parametrize(("option", "one", "other"), [("binarize", "none", "static"), ("dequantize", False, True)])
def test_images_that_models_see_differently_are_not_ranked_together(results, option, one, other):
    """Even where no two runs differ in that option alone."""
    for model, value, number in (("vae", one, 0.9), ("ae", other, 0.8)):
        given = {"choices": {"dataset": "cells"}, "settings": {f"dataset.{option}": value}}
        results.run(model, metrics={"reconstruction_mse": number}, **given)
    tables, _ = report(results)
    assert [table.title for table in tables] == [f"cells, {option}={str(value).lower()}" for value in (one, other)]
    ((table,), _) = report(results, columns=f"dataset.{option}")
    assert not any(cell.best for row in table.rows for cell in row.cells), "each is alone in its column"


def test_options_without_effect_on_the_data_are_rows_and_not_data_sets(results):
    for limit in (500, 1000):
        own_data(results, "cells", "vae", "ae", settings={"dataset.limit": limit})
    tables, _ = report(results)
    assert [table.dataset for table in tables] == ["cells"]
    assert tables[0].axes == ("model", "dataset.limit") and len(tables[0].rows) == 4
    tables, text = report(results, columns="dataset.limit", ranks="elbo")
    assert [column.pivot for column in tables[0].columns] == ["500", "1000"] * 2 and "Refused: 1 data sets" in text


@pytest.mark.parametrize(
    ("shape", "examples", "parts", "example"),
    [
        ([1, 64], "waves", "values", "a wave"),
        ([3, 8, 8], "images", "grey pixels", "an image"),
        ([1, 4, 4, 4], "volumes", "voxels", "a volume"),
    ],
)
def test_texts_name_examples_by_their_shape(results, shape, examples, parts, example):
    own_data(results, "cells", "ae", data=FOLDER | {"image": shape})
    tables, _ = report(results)
    assert f"20 test {examples} of" in tables[0].caption and tables[0].caption.endswith(f"test {examples}.")
    assert f"elbo: Bernoulli on {parts}, not normalised (nats {example})." in tables[0].notes
    (alone,) = report(results, metrics=["elbo"])[0]
    assert alone.title == f"cells: Bernoulli on {parts}, not normalised (nats {example})"


def test_older_records_have_no_range_and_no_name(results):
    results.run("ae", metrics={"knn_accuracy": 0.9}, data=FOLDER)
    ((table,), _) = report(results)
    assert table.title == "digits"
    assert table.caption.startswith("90 training, 10 validation and 20 test images of 1 × 8 × 8; metrics")


def test_warnings_about_the_data_appear_once_below_its_tables(results):
    data_warning, own_warning = "12 test images are duplicates", "trained on a 16-bit device"
    for model in ("ae", "vae"):
        for seed in (0, 1):
            warnings = [data_warning, *([own_warning] if model == "vae" else [])]
            results.run(model, seed, metrics={"knn_accuracy": 0.9, "elbo": -1.0}, warnings=warnings)
    results.run("aae", status="failed", reason="no memory", data=None, likelihood_key=None)
    tables, text = report(results)
    assert len(tables) == 1 and text.count(data_warning) == 1 and tables[0].notes[0] == f"{data_warning}."
    assert [row.footnotes for row in tables[0].rows] == [(), (1,), (2,)]
    assert tables[0].footnotes[0] == own_warning


def test_a_run_that_ended_before_it_saw_data_belongs_to_the_only_data_there_are(results):
    results.run("ae", 0, metrics={"knn_accuracy": 0.5}, data=FOLDER, id="f00d")
    results.run("ae", 1, status="failed", reason="no memory", data=None, id="f00d")
    ((table,), text) = report(results)
    assert table.rows[0].seeds == "1 of 2" and "seed 1: failed: no memory" in text
    results.run("ae", 0, "second", {"knn_accuracy": 0.9}, data=GROWN, id="f00d")
    tables, _ = report(results, "first", "second")
    assert sorted((table.title, table.rows[0].seeds) for table in tables) == [
        ("digits", "0 of 1"),
        ("digits (images aaaaaaaa)", "1"),
        ("digits (images bbbbbbbb)", "1"),
    ]


# Schema and evaluation


def test_records_of_two_schemas_are_two_rows(results):
    for schema, value in ((2, 0.5), (3, 0.9)):
        results.run("ae", schema, metrics={"knn_accuracy": value}, schema=schema, id="f00d")
    ((table,), text) = report(results)
    assert table.axes == ("schema",) and labels(table) == [("2",), ("3",)]
    assert [row.cells[0].values for row in table.rows] == [{2: 0.5}, {3: 0.9}]
    assert "records have the schemas 2 and 3" in text


def test_a_schema_is_an_axis_only_where_nothing_else_differs(results):
    """A key that came with schema 3 is no difference between data sets either."""
    results.run("ae", metrics={"knn_accuracy": 0.5}, schema=2)
    results.run("vae", metrics={"knn_accuracy": 0.5}, schema=3, settings={"dataset.range": "auto"})
    ((table,), _) = report(results)
    assert table.title == "digits" and labels(table) == [("ae",), ("vae",)]


def test_the_report_does_not_depend_on_where_code_lies(results):
    tables = []
    for sweep, module in (("first", "bench.likelihoods"), ("second", "bench.parts.likelihoods")):
        for model in ("ae", "vae"):
            settings = {"likelihood._target_": f"{module}.Bernoulli", "dataset._target_": f"{module}.digits"}
            results.run(model, 0, sweep, {"knn_accuracy": 0.9, "elbo": -1.0}, settings=settings)
        tables.append(report(results, sweep)[1])
    assert tables[0] == tables[1]
    both, _ = report(results, "first", "second")
    assert both[0].axes == ("model", "id"), "two ids are two runs, even if nothing in their settings differs"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"settings": {"samples": 500}}, {"settings": {"samples": 2000}}, ("samples 500", "samples 2000")),
        (
            measured(0.1),
            measured(0.1, accuracy=0.9935),
            ("feature classifier c0ffee (accuracy 0.994)", "feature classifier c0ffee (accuracy 0.9935)"),
        ),
        (
            measured(0.1, samples=500),
            measured(0.1, "beef", 0.994, samples=500),
            ("feature classifier c0ffee (accuracy 0.994)", "feature classifier beef (accuracy 0.994)"),
        ),
        ({"settings": {"samples": 500}}, {"settings": {"samples": 500, "k": 5}}, ("k none", "k 5")),
    ],
)
def test_seeds_that_were_evaluated_differently_are_two_rows(results, one, other, expected):
    for seed, (entry, value) in enumerate([(one, 1.0), (one, 2.0), (other, 3.0)]):
        results.run("ae", seed, metrics={"frechet_distance": entry | {"value": value}, "knn_accuracy": 0.9})
    ((table,), text) = report(results)
    assert table.axes == ("evaluation",) and labels(table) == [(expected[0],), (expected[1],)]
    assert [row.cells[-1].values for row in table.rows] == [{0: 1.0, 1: 2.0}, {2: 3.0}]
    assert "Seeds that were evaluated differently are separate rows" in text


def test_one_seed_that_two_sweeps_evaluated_differently_is_two_rows(results):
    for sweep, samples in (("first", 500), ("second", 2000)):
        entry = {"value": samples / 1000, "settings": {"samples": samples}}
        results.run("ae", 0, sweep, {"frechet_distance": entry})
    ((table,), _) = report(results, "first", "second")
    assert [row.cells[0].estimate.mean for row in table.rows] == [0.5, 2.0]


def test_metrics_that_only_some_seeds_have_are_no_other_evaluation(results):
    results.run("ae", 0, metrics={"knn_accuracy": 0.9, "frechet_distance": measured(1.0)})
    results.run("ae", 1, metrics={"knn_accuracy": 0.9, "frechet_distance": "out of memory"})
    results.run("ae", 2, metrics={"knn_accuracy": 0.9})
    ((table,), _) = report(results)
    assert table.rows[0].seeds == "3"


def test_an_average_takes_no_mean_of_two_evaluations(results):
    for noise, accuracy in (("none", 0.994), ("gaussian", 0.9935)):
        results.run("ae", metrics={"frechet_distance": measured(1.0, accuracy=accuracy)}, choices={"noise": noise})
    ((table,), text) = report(results, average="noise")
    assert table.rows[0].cells[0].text == "n/a" and "different settings or feature classifiers" in text


def test_an_average_over_some_of_the_values_says_so(results):
    for model, noises in (("ae", ("none", "gaussian")), ("vae", ("none",)), ("gan", (None,))):
        for noise in noises:
            results.run(model, metrics={"sharpness_samples": 0.5}, choices={"noise": noise})
    ((table,), _) = report(results, average="noise")
    assert table.footnotes == ["averaged over noise=none only"]
    assert [row.footnotes for row in table.rows] == [(), (1,), ()]


def test_an_average_over_some_of_the_levels_says_so(results):
    for model, levels in (("ae", (0.1, 0.5)), ("vae", (0.5,))):
        for level in levels:
            given = {"choices": {"noise": "gaussian"}, "settings": {"noise.level": level}}
            results.run(model, metrics={"sharpness_samples": 0.5}, **given)
    ((table,), _) = report(results, average="noise")
    assert table.footnotes == ["averaged over noise.level=0.5 only"] and labels(table) == [("ae",), ("vae",)]


# Sweeps in one file


def test_an_exported_sweep_makes_the_same_tables(results):
    for model in ("ae", "vae"):
        for seed in (0, 1):
            results.run(model, seed, metrics={"knn_accuracy": 0.9 + seed / 7, "elbo": -1 / 3})
    _, text = report(results)
    path, count = export(results.path, ["first"], results.path / "committed" / "first")
    assert count == 4 and [p.name for p in path.parent.iterdir()] == ["records.jsonl"]
    write(results.path / "committed", ["first"], Console(file=io.StringIO()), figures=False)
    assert (path.parent / "report" / "table.md").read_text() == text


def test_only_some_runs_are_exported(results):
    two_folders(results)
    results.run("vae", metrics={"knn_accuracy": 0.9})
    path, count = export(results.path, ["first", "second"], results.path / "ae.jsonl", only={"model": "ae"})
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert count == 4 and sorted((r["data"]["fingerprint"], r["seed"]) for r in found) == [
        ("aaaaaaaa01", 0), ("aaaaaaaa01", 1), ("bbbbbbbb02", 0), ("bbbbbbbb02", 1),
    ]  # fmt: skip
    (results.path / "joined").mkdir()
    path.rename(results.path / "joined" / "records.jsonl")
    assert len(report(results, "joined")[0]) == 2, "two records of one id and seed are both there"
