"""Tuned rows, the table of their trials, and rows that have not converged."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench.report import write
from bench.report.records import frames
from bench.report.records.load import load
from bench.report.statistics import convergence

OBJECTIVE = "validation/knn_accuracy"


def note(trial, values=(), reasons=None, chosen=None, space="own", **settings):
    reasons = list(reasons or [None] * len(values))
    found = {"trial": trial, "objective": OBJECTIVE, "space": space, "settings": settings, "values": list(values)}
    return found | {"reasons": reasons, "chosen": chosen}


def add(results, model, tuning, seeds=(0, 1), lr=0.001, **metrics):
    for seed in seeds:
        entries = {name: value + seed / 1000 for name, value in metrics.items()}
        entries = {f"validation/{name[4:]}" if name.startswith("val_") else name: v for name, v in entries.items()}
        entries = {name: {"value": value, "better": "higher"} for name, value in entries.items()}
        results.run(model, seed, tuning=tuning, schema=4, metrics=entries, settings={"optimizer.lr": lr})


def report(results, **options):
    console = Console(file=io.StringIO(), width=options.pop("width", 200))
    made = write(results.path, ["first"], console, **{"figures": False, **options})
    return made, console.file.getvalue()


@pytest.fixture
def tuned(results):
    """A VAE with three trials, of which the second won, and an AAE with two, one of which diverged."""
    add(results, "vae", note("0", **{"optimizer.lr": 0.01}), [0], lr=0.01, val_knn_accuracy=0.5)
    best = note("best", [0.5, 0.9, 0.7], chosen=1, **{"optimizer.lr": 0.002})
    add(results, "vae", best, lr=0.002, knn_accuracy=0.8, val_knn_accuracy=0.9)
    add(results, "vae", note("default"), knn_accuracy=0.6, val_knn_accuracy=0.65)
    failed = note("best", [0.4, None], [None, "diverged: at step 3"], chosen=0, space="learning rates", lr=0.1)
    add(results, "aae", failed, lr=0.1, knn_accuracy=0.4, val_knn_accuracy=0.4)
    return results


def test_tuned_rows_stand_beside_default_ones_and_trials_are_no_rows(tuned):
    made, _ = report(tuned)
    table = made.tables[0]
    assert table.axes == ("model", "tuning"), "settings in which trials differ are no axes"
    assert [row.labels for row in table.rows] == [("vae", "tuned"), ("vae", "default"), ("aae", "tuned")]
    assert [row.cells[0].text.split(" ")[0] for row in table.rows] == ["0.8005", "0.6005", "0.4005"]


def test_the_table_of_trials(tuned):
    _, text = report(tuned)
    markdown = (tuned.path / "first/report/table.md").read_text()
    (vae,) = [line for line in markdown.splitlines() if line.startswith("| vae") and "0.7000" in line]
    assert [word.strip() for word in vae.strip("|").split("|")] == [
        "vae",
        "2",
        "3",
        "0.9000",
        "0.7000",
        "0.5000",
        "0.9005",
        "0.6505",
    ]
    for words in (
        "vae: trial 1 was the best, optimizer.lr=0.002.",
        "aae: 1 of 2 trials have no value, and are counted all the same: diverged: at step 3.",
        "aae has no tuning space of its own",
        "The numbers of trials differ",
    ):
        assert words in markdown and words in text.replace("\n", " "), words


def test_trials_are_rows_until_the_best_one_is_known(results):
    for number, lr in enumerate((0.1, 0.01)):
        add(results, "vae", note(str(number), **{"optimizer.lr": lr}), [0], lr=lr, val_knn_accuracy=0.5)
    made, _ = report(results)
    assert [row.labels for row in made.tables[0].rows] == [("0",), ("1",)]
    assert [column.metric for column in made.tables[0].columns] == [OBJECTIVE]


def test_a_run_that_is_a_trial_and_the_best_one_is_the_best_one(results):
    add(results, "vae", note("1"), [0], knn_accuracy=0.8)
    add(results, "vae", note("best", [0.1, 0.9], chosen=1), [1], knn_accuracy=0.8)
    (run,) = load(results.path, ["first"])
    assert run.label("tuning") == "tuned" and run.tuning["chosen"] == 1


def test_the_page_shows_every_trial(tuned):
    report(tuned, figures=True)
    page = (tuned.path / "first/report/index.html").read_text()
    assert f"{OBJECTIVE} of every trial" in page


# --- convergence


def run_with(late, after, stopped=None, keep="last", name="validation/loss/model", metrics=None):
    """Stands for a run whose seeds had these values at nine tenths of training and at its end."""
    player = name.removeprefix("validation/loss/")
    records = [
        {
            "steps": 100,
            "validation": {
                "late_step": 90,
                "stopped": stopped,
                "late": {name: a},
                "losses": {player: b} if "loss" in name else {},
            },
            "metrics": {} if "loss" in name else {name: {"value": b}},
        }
        for a, b in zip(late, after, strict=True)
    ]
    return SimpleNamespace(ok=records, value=lambda axis: {"budget.keep": keep}[axis])


def test_a_row_that_still_moved_by_more_than_its_interval_is_marked():
    """The interval of (1, 2, 3) is 2 +- 4.303 / sqrt(3) = +- 2.484."""
    for move, is_marked in ((2.4, False), (-2.4, False), (2.6, True), (-2.6, True)):
        found = convergence.footnotes(run_with([1 - move, 2 - move, 3 - move], [1.0, 2.0, 3.0]), "elbo")
        assert bool(found) == is_marked, move
        if found:
            assert f"not converged: validation/loss/model still changed by {move:+.2g}" in found[0]
            assert "± 2.5" in found[0]


def test_the_headline_metric_counts_where_it_was_measured():
    run = run_with([0.1, 0.2], [0.8, 0.9], name="validation/knn_accuracy")
    assert "validation/knn_accuracy" in convergence.footnotes(run, "knn_accuracy")[0]


@pytest.mark.parametrize(
    "run",
    [
        run_with([0.0, 0.0], [8.0, 9.0], stopped=30),
        run_with([0.0, 0.0], [8.0, 9.0], keep="best"),
        run_with([0.0], [8.0]),
        run_with([0.0, 0.0], [None, 9.0]),
        run_with([0.0, 0.0], [8.0, 8.0]),  # without an interval
        SimpleNamespace(ok=[{"metrics": {}}, {"metrics": {}, "validation": None}], value=lambda axis: None),
    ],
    ids=["stopped early", "best kept", "one seed", "one seed left", "equal seeds", "not measured"],
)
def test_other_rows_are_not_marked(run):
    assert convergence.footnotes(run, "elbo") == []


def test_two_losses_are_not_looked_at():
    run = run_with([0.0, 0.0], [8.0, 9.0])
    for record in run.ok:
        record["validation"]["late"]["validation/loss/critic"] = 1.0
        record["validation"]["losses"]["critic"] = 9.0
    assert convergence.footnotes(run, "elbo") == []


def test_a_marked_row_has_a_footnote(results):
    validation = {"every": 1, "seconds": 0.1, "step": 9, "value": None, "stopped": None, "late_step": 90}
    for seed in range(3):
        moved = validation | {"losses": {"model": 5.0 + seed}, "late": {"validation/loss/model": 50.0 + seed}}
        results.run("vae", seed, validation=moved, schema=4, metrics={"psnr": 20.0 + seed})
    made, _ = report(results)
    assert made.tables[0].rows[0].footnotes == (1,) and made.tables[0].footnotes[0].startswith("not converged: ")


def test_the_tidy_rows_have_the_trials_and_their_settings(tuned):
    found = frames.results([tuned.path / "first"]).wide()
    assert [*found.tuning] == ["0", "tuned", "tuned", "default", "default", "tuned", "tuned"]
    assert [*found["optimizer.lr"]] == [0.01, 0.002, 0.002, 0.001, 0.001, 0.1, 0.1]
