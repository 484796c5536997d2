"""What a report answers in words and in one picture, and the few metrics that come first."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import stats

from bench.core import InputError
from bench.metrics import discover
from bench.report import presets, write
from bench.report.statistics.effects import effect
from bench.report.statistics.significance import holm
from bench.report.tables.groups import MAX_HEADLINE, question

from .conftest import headings

GROUPS = presets.default()["groups"]
# A metric of each group, of which the first that has a number comes first.
METRICS = [metric for metrics in GROUPS.values() for metric in metrics]
MODELS = ("ae", "vae", "aae", "wae")


def report(results, *sweeps, width=80, figures=False, **options):
    console = Console(file=io.StringIO(), width=width)
    made = write(results.path, list(sweeps or ("first",)), console, figures=figures, **options)
    return made, console.file.getvalue()


def lines(made) -> list[str]:
    return [answer.line for answer in made.answers]


def seeds_of(results, values: dict[str, list[float]], metric: str = "knn_accuracy", **given) -> None:
    for model, numbers in values.items():
        for seed, value in enumerate(numbers):
            results.run(model, seed, metrics={metric: value}, **given)


# Statistics


@pytest.mark.parametrize(("better", "ideal"), [("higher", None), ("lower", None), ("closest", 0.7)])
def test_an_effect_is_that_of_a_paired_t_test(better, ideal):
    draw = np.random.default_rng(0)
    a, b = dict(enumerate(draw.normal(0.8, 0.1, 7))), dict(enumerate(draw.normal(0.75, 0.1, 9), 1))
    common = sorted(a.keys() & b.keys())
    of = abs if better == "closest" else float
    x, y = ([of(values[seed] - (ideal or 0.0)) for seed in common] for values in (a, b))
    found = effect(a, b, better, ideal)
    expected = stats.ttest_rel(x, y)
    low, high = expected.confidence_interval(0.95)
    assert found.difference.n == len(common) == 6
    assert found.difference.mean == pytest.approx(np.mean(x) - np.mean(y))
    assert (found.difference.low, found.difference.high, found.p) == pytest.approx((low, high, expected.pvalue))


def test_an_effect_of_few_seeds_has_no_test_and_of_none_no_number():
    assert effect({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.0}, "higher").p is None
    one = effect({0: 1.0}, {0: 0.5, 1: 3.0}, "higher")
    assert (one.difference.mean, one.difference.low, one.p) == (0.5, None, None)
    assert effect({0: 1.0}, {1: 1.0}, "higher") is None


def test_an_answer_has_the_best_row_the_next_and_the_corrected_test(results):
    draw = np.random.default_rng(1)
    values = {m: list(draw.normal(0.8 - 0.02 * i, 0.01, 6)) for i, m in enumerate(MODELS)}
    seeds_of(results, values)
    made, printed = report(results)
    order = sorted(MODELS, key=lambda m: -np.mean(values[m]))
    tests = {m: stats.ttest_rel(values[order[0]], values[m]) for m in order[1:]}
    p = holm({m: test.pvalue for m, test in tests.items()})[order[1]]
    low, high = tests[order[1]].confidence_interval(0.95)
    (answer,) = made.answers
    found = re.fullmatch(
        r"codes: knn_accuracy ↑ (\w+) ([\d.]+), (\w+) ([\d.]+); "
        r"\+([\d.]+) \((-?[\d.]+) to ([\d.]+)\), p (= |<) ?(\S+), 6 seeds",
        answer.line,
    )
    assert found, answer.line
    assert [found[1], found[3]] == order[:2]
    means = [np.mean(values[m]) for m in order[:2]]
    assert [float(found[2]), float(found[4])] == pytest.approx(means, abs=5e-4)
    numbers = [float(found[i]) for i in (5, 6, 7)]
    assert numbers == pytest.approx([means[0] - means[1], low, high], abs=1e-4)
    assert (p < 0.001) == (found[8] == "<") and (found[8] == "<" or float(found[9]) == pytest.approx(p, rel=0.06))
    assert "Holm-corrected over all rows that the best one is compared with" in " ".join(printed.split())


def test_an_answer_below_five_seeds_is_descriptive(results):
    seeds_of(results, {"ae": [0.8, 0.82], "vae": [0.7, 0.71]})
    ((line,), printed) = (lines(made := report(results)[0]), report(results)[1])
    assert line.endswith(", 2 seeds, descriptive") and " p " not in line
    assert line in printed.replace("\n  ", " ") and made.answers[0].metric == "knn_accuracy"


def test_an_answer_to_which_is_nearest_is_one_of_distances(results):
    seeds_of(results, {"ae": [0.4, 0.5], "vae": [1.3, 1.2]}, "sharpness_samples")
    (line,) = lines(report(results)[0])
    assert (
        line.startswith("sharpness: sharpness_samples → 1 vae 1.25, ae 0.45; -0.3") and "in the distance to 1, " in line
    )


def test_rows_that_may_not_be_ranked_together_have_answers_of_their_own(results):
    for noise, gains in {"masking": (9.0, 8.0), "gaussian": (1.0, 2.0), "blur": (50.0,)}.items():
        for model, gain in zip(("ae", "vae"), gains, strict=False):
            results.run(model, metrics={"denoising_gain_db": gain}, choices={"noise": noise})
    assert lines(report(results)[0]) == [
        "denoising: denoising_gain_db ↑ ae 9.000, vae 8.000; +1.000, 1 seed, descriptive",
        "denoising: denoising_gain_db ↑ vae 2.000, ae 1.000; +1.000, 1 seed, descriptive",
    ], "a single row under blur is not compared"


def test_likelihoods_are_answered_block_by_block(results):
    for likelihood, key, elbo in (("bernoulli", results.KEY, -100.0), ("gaussian", {"measure": "density"}, -700.0)):
        for i, model in enumerate(("vae", "aae")):
            given = {"choices": {"likelihood": likelihood}, "likelihood_key": results.KEY | key}
            results.run(model, metrics={"elbo": elbo - i}, **given)
    found = lines(report(results)[0])
    assert [line.partition(" (nats")[0] for line in found] == [
        "likelihood, Bernoulli on grey pixels, not normalised",
        "likelihood, density of grey pixels",
    ]
    assert all("elbo ↑ vae" in line and "+1.000" in line for line in found)


def test_what_compares_nothing_has_no_answer(results):
    results.run("vae", metrics={"kl": 1.0, "knn_accuracy": 0.9})
    results.run("ae", metrics={"kl": 2.0, "knn_accuracy": "no encoder"})
    made, printed = report(results, figures=True)
    assert made.answers == [] and "answer.png" not in made.files and "The best row" not in printed
    assert "In short" not in (made.folder / "table.md").read_text()


def test_times_of_several_machines_are_not_compared(results):
    for model, device in (("ae", "cpu"), ("vae", "a GPU")):
        entry = {"value": 1.0 + len(model), "better": "lower"}
        results.run(model, metrics={"seconds": entry}, hardware={"cpu": "", "device": device, "threads": 2})
    assert report(results)[0].answers == []


def test_equal_rows_are_called_equal(results):
    seeds_of(results, {"ae": [0.5, 0.5], "vae": [0.5, 0.5]})
    assert lines(report(results)[0]) == ["codes: knn_accuracy ↑ all 2 rows have 0.5000"]


def test_several_data_sets_are_answered_one_by_one(results):
    for dataset in ("digits", "blobs"):
        for model, value in (("ae", 0.5), ("vae", 0.6)):
            results.run(model, metrics={"knn_accuracy": value}, choices={"dataset": dataset})
    made, printed = report(results)
    assert [answer.dataset for answer in made.answers] == ["digits", "blobs"]
    text = (made.folder / "table.md").read_text()
    assert "digits:\n\n- codes: " in text and r"\paragraph{blobs}" in (made.folder / "table.tex").read_text()
    assert re.search(r"\nblobs\n- codes: knn_accuracy", printed)


def test_a_number_in_an_answer_has_the_name_of_its_axis(results):
    for dim in (2, 16):
        results.run("vae", metrics={"knn_accuracy": dim / 20}, settings={"model.latent_dim": dim})
    (line,) = lines(report(results)[0])
    assert line == "codes: knn_accuracy ↑ latent_dim=16 0.8000, latent_dim=2 0.1000; +0.7000, 1 seed, descriptive"


def test_the_answer_is_in_every_format_with_its_picture(results):
    seeds_of(results, {"ae": [0.8, 0.82], "vae": [0.7, 0.71]})
    made, _ = report(results, figures=True)
    assert "answer.png" in made.files
    image = Image.open(made.folder / "answer.png")
    image.verify()
    assert image.width > 200 and image.height > 80
    page, text = (made.folder / "index.html").read_text(), (made.folder / "table.md").read_text()
    assert "![Means of the metrics above, with 95 % intervals](answer.png)" in text
    assert text.index("## In short") < text.index("answer.png") < text.index("## digits")
    assert "- codes: knn_accuracy ↑ ae 0.81" in text and "<b>codes</b>: knn_accuracy ↑ ae 0.81" in page
    assert page.index('id="answer"') < page.index('id="tables"')
    assert r"\item \textbf{codes}: knn\_accuracy $\uparrow$ ae 0.81" in (made.folder / "table.tex").read_text()


# Groups


def test_every_metric_has_one_question():
    """Those of the package are in the groups, or have no column unless they are asked for."""
    assert len(METRICS) == len({*METRICS}) and {*METRICS} <= discover().keys()
    assert {question(name, GROUPS) for name in METRICS} == GROUPS.keys()
    assert question("psnr@0.5", GROUPS) == question("validation/psnr", GROUPS) == "reconstruction"
    assert question("my_metrics.contrast", GROUPS) == "other"


def many(results, models=2, metrics=METRICS[:0], seeds=1):
    for model in range(models):
        for seed in range(seeds):
            numbers = {
                m: {"value": 0.1 + 0.8 * abs(np.sin(model + len(m) + 0.01 * seed)), "better": "higher"} for m in metrics
            }
            results.run(f"model_{model}", seed, metrics=numbers)


# Of each group two, with a number that the second has alone in some.
CHOSEN = [metric for metrics in GROUPS.values() for metric in metrics[:2] if not metric.startswith("bdmc")]


def test_the_first_table_has_one_metric_of_each_question(results):
    many(results, metrics=CHOSEN)
    made, _ = report(results)
    first = [column.metric for table in made.tables for column in table.columns]
    assert len(first) == MAX_HEADLINE
    assert sorted(first) == sorted([metrics[0] for metrics in GROUPS.values()][:MAX_HEADLINE])
    assert {table.group for table in made.tables} == {""}
    for table in made.groups:
        assert {question(column.metric, GROUPS) for column in table.columns} == {table.group}
    grouped = {column.metric for table in made.groups for column in table.columns}
    assert grouped | {*first} == {*CHOSEN}


def test_the_first_metric_with_a_number_stands_for_its_question(results):
    names = ["knn_accuracy", "linear_probe_accuracy", "reconstruction_mse", "psnr", "ssim", "seconds", "parameters"]
    names += ["frechet_distance", "kernel_distance", "sharpness_samples", "sharpness_reconstructions"]
    for model in ("ae", "vae"):
        results.run(model, metrics=dict.fromkeys(names, 0.5) | {"frechet_distance": "no prior", "seconds": "unknown"})
    made, printed = report(results)
    first = [column.metric for table in made.tables for column in table.columns]
    assert first == ["reconstruction_mse", "knn_accuracy", "kernel_distance", "sharpness_samples", "parameters"]
    written = (made.folder / "table.md").read_text().partition("<details>")[0]
    assert "no prior" in written, "the first table says what has no number, and why"
    assert "no prior" not in printed, "the terminal says nothing of metrics that it does not show"


def test_few_metrics_are_all_in_the_first_table(results):
    many(results, metrics=METRICS[:MAX_HEADLINE])
    made, printed = report(results)
    assert made.groups == [] and "more metric" not in printed


def test_own_metrics_are_in_a_group_of_their_own(results):
    many(results, metrics=[*CHOSEN, "own.error", "own.contrast"])
    made, _ = report(results)
    assert [c.metric for t in made.groups if t.group == "other" for c in t.columns] == ["own.error", "own.contrast"]
    made, _ = report(results, groups={"mine": ["own.error"]} | GROUPS)
    assert [c.metric for t in made.tables for c in t.columns].count("own.error") == 1


def test_a_preset_names_the_headline(results):
    many(results, metrics=CHOSEN)
    made, _ = report(results, headline=["psnr", "knn_accuracy"])
    assert [c.metric for t in made.tables for c in t.columns] == ["psnr", "knn_accuracy"]
    with pytest.raises(InputError, match="headline=nothing is not known: these runs record"):
        report(results, headline=["nothing"])
    with pytest.raises(InputError, match="headline has 9 metrics: expected at most 8"):
        report(results, headline=CHOSEN[:9])


def test_chosen_metrics_are_exactly_the_columns(results):
    many(results, metrics=CHOSEN)
    made, _ = report(results, metrics=CHOSEN[3:15])
    shown = [c.metric for t in made.tables for c in t.columns]
    assert sorted(shown) == sorted(CHOSEN[3:15]) and made.groups == []


def test_groups_are_folded_and_have_all_metrics(results):
    many(results, metrics=CHOSEN)
    made, _ = report(results, figures=True)
    text, page = ((made.folder / name).read_text() for name in ("table.md", "index.html"))
    tex = (made.folder / "table.tex").read_text()
    folds = re.findall(r"<details><summary>(\w+): (\d+) metrics?</summary>\n\n(.*?)\n\n</details>", text, re.S)
    assert [name for name, _, _ in folds] == [*dict.fromkeys(table.group for table in made.groups)]
    for name, count, body in folds:
        assert int(count) == len([m for m in GROUPS[name] if m in CHOSEN]) and f"### digits: {name}" in body
        assert f'<details class="group"><summary>{name}: {count} metrics</summary>' in page
        assert rf"\caption{{digits: {name}" in tex
        assert "± is the half-width" not in body, "how to read a table stands below the first one"
    assert text.index("## digits") < text.index("<details>")


# The terminal


def test_a_sweep_of_all_models_fits_a_terminal(results):
    """22 models with 42 metrics and five seeds, some with footnotes, at 80 columns."""
    asked = ("likelihood", "reconstruction", "codes", "samples", "sharpness", "denoising", "cost")
    names = [metric for name in asked for metric in GROUPS[name][:9]]
    assert len(names) == 42
    draw = np.random.default_rng(0)
    for model in range(22):
        for seed in range(5):
            metrics = {m: {"value": abs(draw.normal(10 ** (i % 4))), "better": "lower"} for i, m in enumerate(names)}
            if model % 5 == 0:
                metrics["knn_accuracy"] = "the model has no encoder"
            results.run(f"long_model_{model}", seed, metrics=metrics)
    made, printed = report(results)
    rows = printed.splitlines()
    assert max(map(len, rows[:-1])) <= 80 and "…" not in printed, "only the path in the last line may be longer"
    assert len(rows) < 150 and len(printed) < 10_000
    heads = headings(printed)
    assert heads[0] == "model" and heads[1:] == [c.metric for c in made.tables[0].columns]
    first = {c.metric for t in made.tables for c in t.columns}
    assert rows[-1] == f"{len(names) - len(first)} more metrics: {made.folder / 'table.md'}, table.csv"
    assert all(f"\nlong_model_{model} " in printed for model in range(22))


def test_an_answer_is_broken_between_its_parts(results):
    seeds_of(results, {f"a_rather_long_name_of_a_model_{m}": [0.5 + m / 10 + s / 50 for s in range(5)] for m in (1, 2)})
    _, printed = report(results, width=60)
    part = printed[printed.index("- codes") : printed.index("The best row")]
    assert max(map(len, part.splitlines())) <= 60 and all(line.startswith(("- ", "  ")) for line in part.splitlines())
    assert re.search(r"\(\S+ to \S+\), p [<=] \S+, 5 seeds", part.replace("\n ", "")), part


def test_the_printed_rows_are_those_of_the_command(results):
    for model, value in (("ae", 0.9), ("vae", 0.8), ("aae", 0.7)):
        results.run(model, metrics={"knn_accuracy": value})
    folders = {path.name for path in (results.path / "first").iterdir() if not path.name.startswith("ae-")}
    _, printed = report(results, printed=folders)
    assert "knn_accuracy ↑ vae 0.8000, aae 0.7000" in printed and " ae " not in printed


def test_labels_in_a_narrow_terminal_name_their_numbers(results):
    """Where the labels of a row share lines, none of them can be taken for that of another axis."""
    for model, dim, noise in (("vae", 2, "masking"), ("vae", 16, "masking"), ("vae", 2, "blur"), ("a_gan", 2, None)):
        metrics = dict.fromkeys(["reconstruction_mse", "knn_accuracy", "sharpness_samples"], 0.5)
        given = {"choices": {"noise": noise}, "settings": {"model.latent_dim": dim}}
        results.run(model, metrics=metrics, **given)
    _, printed = report(results, width=60)
    body = printed[printed.index("──") : printed.index("Descriptive")].splitlines()[1:]
    rows = " ".join(line.split("  ")[0].strip() for line in body)
    assert rows == "vae masking latent_dim=2 vae masking latent_dim=16 vae blur latent_dim=2 a_gan - latent_dim=2"
    assert re.search(r"\nmodel +.*\nnoise ", printed), "the axis of the labels that have no name"
