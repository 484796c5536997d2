import csv
import io
import json
import re
import shutil
import subprocess

import pandas as pd
import pytest
from rich.console import Console

from bench.core import InputError
from bench.report import write
from bench.report.tables import formats, terminal

from .conftest import headings


def report(results, sweeps=("first",), **options):
    console = Console(file=io.StringIO(), width=options.pop("width", 200))
    made = write(results.path, list(sweeps), console, figures=False, **options)
    return made, console.file.getvalue()


def cell(table, row, metric):
    (found,) = [r for r in table.rows if row in r.labels]
    return found.cells[[c.metric for c in table.columns].index(metric)]


@pytest.mark.parametrize(
    ("metric", "values", "winner"),
    [
        ("reconstruction_mse", {"ae": 0.01, "vae": 0.02, "gan": 0.03}, "ae"),
        ("knn_accuracy", {"ae": 0.90, "vae": 0.97, "gan": 0.91}, "vae"),
        ("sharpness_samples", {"ae": 0.4, "vae": 1.9, "gan": 0.8}, "gan"),
    ],
)
def test_bold_is_on_the_best_row(results, metric, values, winner):
    for model, value in values.items():
        results.run(model, metrics={metric: value})
    (table,) = report(results)[0].tables
    assert [row.labels[0] for row in table.rows if row.cells[0].best] == [winner]
    lines = [line for line in (results.path / "first/report/table.md").read_text().splitlines() if "**" in line]
    assert len(lines) == 1 and winner in lines[0]


def test_outputs_with_permuted_conditions_are_not_ranked(results):
    for model, value in {"identity": 20.0, "palettenet": 27.0}.items():
        entry = {"value": value, "better": "lower"}
        results.run(model, metrics={"ciede2000": entry, "ciede2000@permuted": entry})
    (table,) = report(results, metrics=["ciede2000", "ciede2000@permuted"])[0].tables
    assert [cell(table, "identity", name).best for name in ("ciede2000", "ciede2000@permuted")] == [True, False]
    assert [(column.metric, column.better) for column in table.columns][-1] == ("ciede2000@permuted", None)


def test_likelihoods_stand_in_blocks_and_the_rest_side_by_side(results):
    for likelihood, key, elbo in (
        ("bernoulli", results.KEY, -100.0),
        ("gaussian", results.KEY | {"measure": "density"}, -700.0),
    ):
        for i, model in enumerate(("vae", "aae")):
            metrics = {"elbo": elbo - i, "knn_accuracy": 0.9 + i / 100 + (likelihood == "gaussian") / 20}
            results.run(model, metrics=metrics, likelihood_key=key, choices={"likelihood": likelihood})
    made, printed = report(results)
    general, *blocks = made.tables
    assert [c.metric for c in general.columns] == ["knn_accuracy"] and len(general.rows) == 4
    assert [row.labels for row in general.rows if row.cells[0].best] == [("aae", "gaussian")]
    assert [[row.labels[1] for row in block.rows] for block in blocks] == [["bernoulli"] * 2, ["gaussian"] * 2]
    for block in blocks:
        assert [row.labels[0] for row in block.rows if row.cells[0].best] == ["vae"]
        assert "not normalised have different units" in block.caption
    assert "Bernoulli on grey pixels, not normalised" in printed and "density of grey pixels" in printed


@pytest.mark.parametrize("changed", [{"conditional": True}, {"dequantize": True}, {"binarize": "static"}])
def test_every_part_of_the_key_parts_blocks(results, changed):
    results.run("vae", metrics={"elbo": -1.0})
    results.run("cvae", metrics={"elbo": -2.0}, likelihood_key=results.KEY | changed)
    tables = report(results)[0].tables
    assert [len(table.rows) for table in tables] == [1, 1]
    assert len({table.title for table in tables}) == 2


def test_data_sets_are_not_ranked_together(results):
    for dataset, values in {"digits": (0.9, 0.8), "mnist": (0.97, 0.98)}.items():
        for model, value in zip(("ae", "vae"), values, strict=True):
            results.run(model, metrics={"knn_accuracy": value}, choices={"dataset": dataset})
    tables = report(results)[0].tables
    assert [[r.labels[0] for r in t.rows if r.cells[0].best] for t in tables] == [["ae"], ["vae"]]
    (side,) = report(results, columns="dataset")[0].tables
    assert [[cell.best for cell in row.cells] for row in side.rows] == [[True, False], [False, True]]


def test_other_images_under_the_same_name_are_another_table(results):
    results.run("ae", metrics={"knn_accuracy": 0.9})
    data = {"fingerprint": "another", "train": 1, "validation": 1, "test": 1, "image": [1, 8, 8], "classes": 10}
    results.run("vae", metrics={"knn_accuracy": 0.8}, data=data)
    assert len(report(results)[0].tables) == 2


@pytest.mark.parametrize("status", ["diverged", "failed", "interrupted", "skipped"])
def test_how_a_run_ended_stands_in_the_table(results, status):
    results.run("ae", metrics={"knn_accuracy": 0.9, "elbo": -1.0})
    results.run("vae", status=status, reason=f"because of {status}", data=None, likelihood_key=None)
    made, printed = report(results)
    found = cell(made.tables[0], "vae", "knn_accuracy")
    assert (found.status, found.text) == (status, status) and found.footnotes
    folder = results.path / "first/report"
    for text in (printed, *((folder / name).read_text() for name in ("table.md", "table.tex", "table.csv"))):
        assert f"{status}: because of {status}" in text


def test_a_failed_run_is_shown_where_only_likelihoods_were_asked_for(results):
    results.run("ae", metrics={"elbo": -1.0})
    results.run("vae", status="failed", traceback="Traceback\nRuntimeError: out of memory", likelihood_key=None)
    _, printed = report(results, metrics="elbo")
    assert "failed: RuntimeError: out of memory" in printed


def test_a_sweep_that_failed_altogether_still_has_a_table(results):
    results.run("ae", status="failed", reason="no memory", data=None, likelihood_key=None)
    assert "no memory" in report(results)[1]


def test_what_a_model_cannot_answer_is_not_available_and_says_why(results):
    results.run("gan", metrics={"knn_accuracy": "GAN has no encoder"})
    results.run("vae", metrics={"knn_accuracy": 0.9})
    made, printed = report(results)
    assert cell(made.tables[0], "gan", "knn_accuracy").text == "n/a"
    assert "n/a [1]" in printed and "[1] GAN has no encoder" in printed


def test_a_metric_that_was_not_evaluated_says_so(results):
    results.run("gan", metrics={})
    results.run("vae", metrics={"knn_accuracy": 0.9})
    assert "knn_accuracy was not evaluated" in report(results)[1]


def test_seeds_are_pooled_and_counted(results):
    for seed, value in enumerate([0.90, 0.92, 0.94]):
        results.run("ae", seed, metrics={"knn_accuracy": value})
        results.run("vae", seed, metrics={"knn_accuracy": value} if seed else None, status="ok" if seed else "diverged")
    made, printed = report(results)
    rows = {row.labels[0]: row for row in made.tables[0].rows}
    assert rows["ae"].cells[0].estimate.n == 3 and rows["ae"].seeds == "3"
    assert rows["vae"].cells[0].estimate.n == 2 and rows["vae"].seeds == "2 of 3"
    assert "Seeds are unequal" in printed and "seeds 1, 2" in printed
    assert "Descriptive: fewer than 5 seeds" in printed and "seed 0: diverged" in printed


def test_a_value_missing_for_one_seed_shows_its_own_number_of_seeds(results):
    results.run("ae", 0, metrics={"knn_accuracy": 0.9})
    results.run("ae", 1, metrics={"knn_accuracy": "not a finite number: inf"})
    made, printed = report(results)
    assert made.tables[0].rows[0].cells[0].text == "0.9000 (n=1)"
    assert "seed 1: not a finite number: inf" in printed


def test_settings_that_differ_are_rows_and_are_sorted_as_numbers(results):
    for beta in (10, 4, 1):
        results.run("vae", metrics={"knn_accuracy": 0.9}, settings={"model.beta": beta})
    (table,) = report(results)[0].tables
    assert table.axes == ("model.beta",) and [row.labels for row in table.rows] == [("1",), ("4",), ("10",)]


def test_a_weight_that_is_a_ramp_is_one_setting(results):
    for beta in ({"from": 0.0, "to": 1.0, "over": 0.2}, {"from": 0.0, "to": 1 / 3, "over": 1.0}, 4.0):
        results.run("vae", metrics={"knn_accuracy": 0.9}, settings={"model.beta": beta})
    (table,) = report(results)[0].tables
    labels = ["4", "0 to 1 over 0.2", "0 to 0.3333333333333333 over 1"]
    assert table.axes == ("model.beta",) and [row.labels for row in table.rows] == [(label,) for label in labels]
    for chosen in (labels[1], {"from": 0, "to": 1, "over": 0.2}):
        (table,) = report(results, only={"model.beta": chosen})[0].tables
        assert len(table.rows) == 1


def test_columns_pivot_and_no_cell_pools_runs(results):
    for i, likelihood in enumerate(("bernoulli", "gaussian")):
        for noise in ("none", "masking"):
            metrics = {"knn_accuracy": 0.9 + i / 100, "denoising_gain_db": 5.0 + i}
            results.run("vae", metrics=metrics, choices={"likelihood": likelihood, "noise": noise})
    results.run("gan", metrics={"knn_accuracy": 0.5}, choices={"likelihood": None, "noise": None})
    made, printed = report(results, rows="model", columns="likelihood", metrics=["knn_accuracy"])
    (table,) = made.tables
    assert table.axes == ("model", "noise")
    assert [row.labels for row in table.rows] == [("vae", "none"), ("vae", "masking"), ("gan", "-")]
    assert [c.pivot for c in table.columns] == ["bernoulli", "gaussian", "-"]
    assert [c.text for c in table.rows[0].cells] == ["0.9000", "0.9100", "not run"]


def test_denoising_is_ranked_within_one_noise(results):
    for noise, gains in {"masking": (9.0, 8.0), "gaussian": (1.0, 2.0)}.items():
        for model, gain in zip(("ae", "vae"), gains, strict=True):
            results.run(model, metrics={"denoising_gain_db": gain}, choices={"noise": noise})
    made, printed = report(results)
    best = [row.labels for row in made.tables[0].rows if row.cells[0].best]
    assert sorted(best) == [("ae", "masking"), ("vae", "gaussian")]
    assert "each row's own noise (gaussian and masking)" in " ".join(printed.split())


def test_discrepancies_are_ranked_within_one_prior(results):
    """Two latents or sixteen, a normal or a uniform: each has kernels of another width, and a row alone no best."""
    for name, settings, prior, value in (
        ("aae", {}, "normal", 0.2),
        ("vae", {}, "normal", 0.1),
        ("aae", {}, "uniform", 0.3),
        ("aae", {"model.latent_dim": 16}, "normal", 0.01),
    ):
        results.run(name, metrics={"mmd_to_prior": value}, choices={"prior": prior}, settings=settings)
    made, _ = report(results)
    best = {row.labels for row in made.tables[0].rows if row.cells[0].best}
    assert best == {("vae", "normal", "2")}


def test_budgets_that_differ_are_pointed_out(results):
    results.run("ae", metrics={"knn_accuracy": 0.9}, settings={"budget.epochs": 5})
    results.run("vae", metrics={"knn_accuracy": 0.9})
    results.run("pca", metrics={"knn_accuracy": 0.9}, choices={"budget": None})
    assert "Budgets differ between rows: budget.epochs is 20 or 5" in report(results)[1]


def test_times_that_do_not_compare_are_pointed_out(results):
    for seed in (0, 1):
        results.run("vae", seed, metrics={"seconds": 1.2})
    alone = report(results)[1]
    for seed in (0, 1):
        gpu = {"device": "a GPU", "threads": 2}
        results.run("ae", seed, metrics={"seconds": 1.2}, seeds_stacked=[0, 1], hardware=gpu)
    for output in ("share one measured time", "different machines"):
        assert output in report(results)[1] and output not in alone


def test_notes_and_warnings_stand_below(results):
    folder = results.run("vae_gan", metrics={"elbo": -1.0}, warnings=["trained on a 16-bit device"])
    path = folder / "record.json"
    path.write_text(path.read_text().replace('"reason": null}', '"reason": "not what it was trained on"}'))
    made, printed = report(results)
    assert "trained on a 16-bit device" in printed and "not what it was trained on" in printed
    assert made.tables[0].rows[0].cells[0].estimate.mean == -1.0


def test_a_run_that_two_sweeps_hold_is_counted_once(results):
    for sweep in ("first", "second"):
        results.run("ae", metrics={"knn_accuracy": 0.9}, sweep=sweep)
    results.run("vae", metrics={"knn_accuracy": 0.8}, sweep="second")
    (table,) = report(results, sweeps=("first", "second"))[0].tables
    assert [(row.labels[0], row.cells[0].estimate.n) for row in table.rows] == [("ae", 1), ("vae", 1)]


def test_printed_are_the_runs_in_these_folders(results):
    """A folder keeps its name where the same data come under another one."""
    for model in ("ae", "vae"):
        run = results.run(model, metrics={"knn_accuracy": 0.9}).parent
        run.rename(run.with_name(f"renamed-{model}"))
    _, output = report(results, printed={"renamed-vae"})
    assert "vae" in output and "ae " not in output.replace("vae ", "")


def test_csv_comes_back(results):
    values = [0.90, 0.92, 0.94]
    for seed, value in enumerate(values):
        results.run("ae", seed, metrics={"knn_accuracy": value, "elbo": 'no "density", q'})
    made, _ = report(results)
    path = results.path / "first/report/table.csv"
    table = pd.read_csv(path).set_index("metric")
    expected = made.tables[0].rows[0].cells[0].estimate
    knn = table.loc["knn_accuracy"]
    assert (knn["mean"], knn["low"], knn["high"], knn["n"]) == (expected.mean, expected.low, expected.high, 3)
    assert (knn["model"], knn["dataset"], knn["status"]) == ("ae", "digits", "ok")
    assert table.loc["elbo", "reason"] == 'no "density", q' and table.loc["elbo", "n"] == 0
    with path.open() as file:
        (elbo,) = [row for row in csv.DictReader(file) if row["metric"] == "elbo"]
    assert elbo["mean"] == "n/a" and "nan" not in path.read_text().lower()


def test_latex_escapes_what_is_special():
    special = r"50% of a_b & c #1 $x$ {y} ~z ^2 \n [1] ± é"
    made = formats.latex(special)
    assert made == (
        r"50\% of a\_b \& c \#1 \$x\$ \{y\} \textasciitilde{}z \textasciicircum{}2 \textbackslash{}n {[}1] $\pm$ e"
    )


def test_latex_tables_balance(results):
    results.run("vae_gan", metrics={"knn_accuracy": 0.9}, warnings=["100% & more_of {it}"])
    results.run("gan", metrics={"knn_accuracy": "no_encoder"})
    for model in ("ae", "vae"):
        results.run(model, metrics={"knn_accuracy": 0.9}, choices={"dataset": "50%_faces"})
    report(results, title="50% _")
    made = (results.path / "first/report/table.tex").read_text()
    assert r"100\% \& more\_of \{it\}" in made and r"vae\_gan\textsuperscript{1}" in made
    assert made.isascii() and "50\\% \\_" in made
    assert made.count("{") - made.count(r"\{") == made.count("}") - made.count(r"\}")
    body = made[made.index(r"\toprule") : made.index(r"\bottomrule")]
    assert {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")} == {2}
    assert made.count(r"\begin{") == made.count(r"\end{") == 5, "a list of answers, and two tables of two environments"
    assert r"\paragraph{50\%\_faces}" in made


def test_latex_compiles(results, tmp_path):
    """Wide tables, which go on in others, and sentences; where there is a LaTeX to try it with."""
    if not (latex := shutil.which("pdflatex")):
        pytest.skip("there is no pdflatex (Debian: texlive-latex-recommended): LaTeX is not compiled")
    metrics = {f"metric_{i}": 0.1 * i for i in range(20)}
    for model in ("ae", "vae"):
        results.run(model, metrics=metrics | {"elbo": "100% of_it is \\n/a & {é}"}, warnings=["→ ± ↑ ↓ × <|>"])
        results.run(model, metrics={"knn_accuracy": 0.9}, choices={"dataset": "50%_faces"})
    made, _ = report(results, claims="all", metrics=["elbo", *metrics])
    text = (made.folder / "table.tex").read_text()
    assert "digits (1 of 3)" in text and "digits (3 of 3)" in text and "not run" in text
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}"
        f"\\input{{{made.folder / 'table.tex'}}}\\end{{document}}"
    )
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "paper.pdf").is_file(), done.stdout[-2000:]


def test_a_wide_table_goes_on_in_another(results):
    metrics = {f"metric_{i}": float(i) for i in range(20)}
    results.run("ae", metrics=metrics)
    made = (report(results, metrics=[*metrics])[0].folder / "table.tex").read_text()
    heads = re.findall(r"seeds & (.*) \\\\", made)
    assert [head.count("metric") for head in heads] == [7, 7, 6]
    assert [name for head in heads for name in head.split(" & ")] == [f"metric\\_{i}" for i in range(20)]
    assert made.count("Descriptive") == 1, "notes stand below the last"


def test_a_terminal_shows_the_first_rows_of_many(results, monkeypatch):
    monkeypatch.setattr(terminal, "MAX_ROWS", 2)
    for model in ("ae", "vae", "aae"):
        results.run(model, metrics={"knn_accuracy": 0.9})
    _, printed = report(results)
    assert "1 more rows" in printed and "aae" not in printed
    assert "| aae" in (results.path / "first/report/table.md").read_text()


def test_the_terminal_shows_all_columns_however_narrow(results):
    metrics = {"reconstruction_mse": 0.01, "knn_accuracy": 0.9, "sharpness_samples": 0.5, "denoising_gain_db": 9.0}
    results.run("ae", metrics=metrics)
    _, printed = report(results, width=60)
    assert headings(printed) == ["model", *metrics] and "…" not in printed
    assert max(map(len, printed.splitlines())) <= 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "knn"}, "metrics=knn is not known: these runs record knn_accuracy, elbo"),
        ({"rows": "modle"}, "rows=modle is not known: these runs have model, likelihood"),
        ({"columns": ["noise.strength"]}, "columns=noise.strength is not known"),
    ],
)
def test_unknown_names_are_reported_with_the_known_ones(results, options, message):
    results.run("ae", metrics={"knn_accuracy": 0.9, "elbo": -1.0})
    with pytest.raises(InputError, match=message):
        report(results, **options)


def test_numbers_of_different_sizes_are_not_ranked_together(results):
    for name, value, samples in (("vae", 0.9, 2000), ("aae", 0.8, 2000), ("gan", 1.0, 500)):
        folder = results.run(name, metrics={"sharpness_samples": value})
        entry = json.loads((folder / "record.json").read_text())
        entry["metrics"]["sharpness_samples"]["settings"] = {"samples": samples}
        (folder / "record.json").write_text(json.dumps(entry))
    made, output = report(results)
    assert [row.cells[0].best for row in made.tables[0].rows] == [True, False, False]
    assert "was measured with samples 500 in gan, and with samples 2000 in all other rows." in " ".join(output.split())


def test_only_some_runs(results):
    for model, likelihood in (("vae", "bernoulli"), ("vae", "gaussian"), ("aae", "bernoulli"), ("gan", None)):
        results.run(model, metrics={"knn_accuracy": 0.9}, choices={"likelihood": likelihood})

    def models(**only):
        return [row.labels[0] for row in report(results, only=only)[0].tables[0].rows]

    assert models(likelihood="bernoulli") == ["vae", "aae", "gan"], "a GAN has no likelihood to be left out for"
    assert models(model=["aae", "gan"], likelihood="gaussian") == ["gan"]
    with pytest.raises(InputError, match="only=modle is not known"):
        models(modle="vae")
    with pytest.raises(InputError, match="only={model: pca}: no run has this value; there are vae, aae, gan"):
        models(model=["vae", "pca"])
    with pytest.raises(InputError, match="no run has all of them"):
        models(model="aae", likelihood="gaussian")
    with pytest.raises(InputError, match="only=5 is not a mapping"):
        report(results, only=5)
