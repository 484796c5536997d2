"""Two rows against one another in every metric."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy import stats

from bench.core import InputError
from bench.report import write
from bench.report.statistics.significance import holm

from .conftest import report, run_command

METRICS = {"knn_accuracy": "higher", "reconstruction_mse": "lower", "elbo": "higher", "kl": None}


@pytest.fixture
def values(results) -> dict[str, dict[str, list[float]]]:
    """The numbers of two models and of a third one, by metric, over six seeds."""
    draw = np.random.default_rng(0)
    found = {
        model: {metric: list(draw.normal(1 + shift * (i + 1) / 4, 0.1, 6)) for i, metric in enumerate(METRICS)}
        for model, shift in (("aae", 1), ("vae", 0), ("vae_gan", -1))
    }
    for model, metrics in found.items():
        for seed in range(6):
            results.run(model, seed, metrics={metric: numbers[seed] for metric, numbers in metrics.items()})
    return found


def compared(results, *names: str, **options):
    made, text = report(results, compare=list(names), **options)
    folder = next(path for path in (results.path / "first").iterdir() if path.name.startswith("report-compare"))
    with (folder / "compare.csv").open() as file:
        return {(row["dataset"], row["metric"]): row for row in csv.DictReader(file)}, text


def test_differences_are_paired_and_corrected_over_the_metrics(results, values):
    rows, text = compared(results, "aae", "vae")
    assert {metric for _, metric in rows} == METRICS.keys()
    tests = {m: stats.ttest_rel(values["aae"][m], values["vae"][m]) for m in METRICS}
    corrected = holm({m: tests[m].pvalue for m, better in METRICS.items() if better})
    for metric, test in tests.items():
        row = rows["digits", metric]
        low, high = test.confidence_interval(0.95)
        difference = np.mean(values["aae"][metric]) - np.mean(values["vae"][metric])
        assert [float(row[key]) for key in ("difference", "low", "high")] == pytest.approx([difference, low, high])
        assert float(row["p"]) == pytest.approx(test.pvalue) and row["seeds"] == "6"
        assert (float(row["p_holm"]) if row["p_holm"] else None) == pytest.approx(corrected.get(metric))
        assert (row["a"], row["b"]) == ("aae", "vae")
    assert "## digits: aae against vae" in text and "The difference is aae minus vae on their common seeds" in text


def test_what_may_not_be_ranked_together_is_not_compared(results):
    for likelihood, key in (("bernoulli", {}), ("gaussian", {"measure": "density"})):
        for seed in range(5):
            given = {"choices": {"likelihood": likelihood}, "likelihood_key": results.KEY | key}
            results.run("vae", seed, metrics={"elbo": -1.0 - seed, "knn_accuracy": seed / 9}, **given)
    rows, text = compared(results, "bernoulli", "gaussian")
    elbo, knn = rows["digits", "elbo"], rows["digits", "knn_accuracy"]
    assert (elbo["difference"], elbo["p"], elbo["reason"]) == ("", "", "different likelihoods")
    assert (float(knn["difference"]), knn["p"], knn["reason"]) == (0.0, "1.0", "")
    assert "different likelihoods" in text


def test_few_seeds_and_none_in_common(results):
    for model, seeds in (("ae", (0, 1, 2)), ("vae", (1, 2, 3)), ("aae", (7,))):
        for seed in seeds:
            results.run(model, seed, metrics={"knn_accuracy": seed + len(model)})
    rows, text = compared(results, "ae", "vae")
    row = rows["digits", "knn_accuracy"]
    assert (row["seeds"], row["p"], row["p_holm"], float(row["difference"])) == ("2", "", "", -1.0)
    assert "Descriptive below 5 common seeds" in text
    rows, text = report(results, compare=["ae", "aae"])
    assert "no seed in common" in text


def test_rows_of_several_axes_are_named_by_labels_that_no_other_has(results):
    for model in ("aae", "vae"):
        for dim in (2, 16):
            results.run(model, metrics={"knn_accuracy": dim + len(model)}, settings={"model.latent_dim": dim})
    for names in (("aae 16", "vae 2"), ("aae latent_dim=16", "2 vae")):
        rows, _ = compared(results, *names)
        assert rows["digits", "knn_accuracy"]["a"] == "aae latent_dim=16"
    message = "compare=vae is the name of 2 rows: give one of vae latent_dim=2, vae latent_dim=16"
    with pytest.raises(InputError, match=message):
        report(results, compare=["vae", "aae 2"])


def test_a_whole_label_is_not_part_of_another(results, values):
    assert compared(results, "vae", "vae_gan")[0]["digits", "elbo"]["b"] == "vae_gan"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["aae", "gan"], "compare=gan is no row: there are aae, vae, vae_gan"),
        (["aae"], r"compare=\['aae'\]: expected the names of two rows, such as \[aae, vae\]"),
        (["aae", "aae"], "expected the names of two rows"),
        (["aae", "vae", "vae_gan"], "expected the names of two rows"),
    ],
)
def test_unknown_names_list_the_rows(results, values, names, message):
    with pytest.raises(InputError, match=message):
        report(results, compare=names)
    assert not [*(results.path / "first").glob("report*")], "nothing is written"


def test_the_command_compares(results, values):
    done = run_command("sweep=first", f"paths.results={results.path}", "compare=[aae,vae]", "figures=false")
    assert done.code == 0, done.stderr
    assert "digits: aae against vae" in done.stdout and "compare.csv" in done.stdout
    done = run_command("sweep=first", f"paths.results={results.path}", "compare=[aae,nothing]")
    assert (done.code, done.stderr) == (1, "bench-report: compare=nothing is no row: there are aae, vae, vae_gan\n")


def test_hostile_names_stay_harmless(results):
    hostile = "<b>x|_y_ $z$"
    for model in (hostile, "vae"):
        for seed in range(5):
            results.run("any", seed, metrics={"knn_accuracy": seed + len(model)}, choices={"model": model})
    made, text = report(results, compare=[hostile, "vae"])
    assert "<b>" not in text and r"\$z\$" in text
    folder = write(results.path, ["first"], compare=[hostile, "vae"]).folder
    page, tex = (folder / "index.html").read_text(), (folder / "table.tex").read_text()
    assert "<b>x" not in page and "&lt;b&gt;x" in page and r"\_y\_" in tex
    assert folder.parent == results.path / "first" and "/" not in folder.name.replace("report-", "")
