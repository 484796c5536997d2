"""Claims: what decides them, and how their verdicts are message."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import yaml
from rich.console import Console
from scipy import stats

from bench.core import InputError
from bench.report import write
from bench.report.records.load import load
from bench.report.statistics.significance import holm, one_sided_t_tests
from bench.report.verdicts import claims
from bench.report.verdicts.claims import Claim, Comparison, decisive, evaluate

SEEDS = range(10)


def claim(**test) -> dict[str, Claim]:
    runs = {"vae": {"model": "vae"}, "ae": {"model": "ae"}}
    return {"one": Claim(says="Something", runs=runs, tests=(Comparison(**test),))}


def filled(results, metric="reconstruction_mse", **values):
    """values: by model, of one metric, a number a seed."""
    for model, numbers in values.items():
        for seed, value in enumerate(numbers):
            results.run(model, seed, metrics={metric: value})
    return load(results.path, ["first"])


def verdict(runs, selected):
    (found,) = evaluate(runs, selected)
    return found


def noisy(mean, spread=0.1, n=10, seed=0):
    return list(mean + spread * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize("bound", [-0.3, 0.0, 0.1])
def test_one_sided_is_scipys(bound):
    values = noisy(0.05)
    expected = [stats.ttest_1samp(values, bound, alternative=a).pvalue for a in ("greater", "less")]
    assert one_sided_t_tests(values, bound) == pytest.approx(expected)


def test_of_equal_values_p_is_0_or_1():
    assert one_sided_t_tests([2.0, 2.0], 1.0) == (0.0, 1.0) and one_sided_t_tests([1.0, 1.0], 1.0) == (1.0, 1.0)


def test_a_difference_is_a_paired_test(results):
    a, b = noisy(1.0), noisy(0.6, seed=1)
    runs = filled(results, vae=a, ae=b)
    found = verdict(runs, claim(metric="reconstruction_mse", of="ae", against="vae", expected="below"))
    assert found.outcome == "holds" and found.effect.mean == pytest.approx(np.mean(b) - np.mean(a))
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue) and found.p_corrected == found.p
    difference = np.subtract(b, a)
    assert found.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1))
    contrary = verdict(runs, claim(metric="reconstruction_mse", of="ae", against="vae", expected="above"))
    assert contrary.outcome == "does not hold" and contrary.p == found.p


def test_what_chance_explains_is_not_decided(results):
    runs = filled(results, vae=noisy(1.0), ae=noisy(1.0, seed=1))
    found = verdict(runs, claim(metric="reconstruction_mse", of="ae", against="vae", expected="below"))
    assert found.outcome == "not decided at 10 seeds" and found.p > 0.05


def test_a_ratio_is_tested_on_logarithms(results):
    a, b = noisy(1.0), noisy(0.6, seed=1)
    runs = filled(results, vae=a, ae=b)
    selected = claim(metric="reconstruction_mse", of="ae", against="vae", scale="ratio", expected="below", bound=0.9)
    found = verdict(runs, selected)
    logs = np.log(b) - np.log(a)
    assert np.exp(found.effect.mean) == pytest.approx(stats.gmean(b) / stats.gmean(a))
    assert found.p == pytest.approx(stats.ttest_1samp(logs, np.log(0.9)).pvalue)


def test_a_ratio_of_numbers_below_0_is_na(results):
    runs = filled(results, vae=noisy(1.0), ae=[-0.1, *noisy(1.0, n=9)])
    found = verdict(runs, claim(metric="reconstruction_mse", of="ae", against="vae", scale="ratio", expected="below"))
    assert found.outcome == "n/a" and "not above 0" in found.remarks[-1] and found.p is None


def test_a_distance_is_to_the_ideal(results):
    """1.2 on one seed and 0.8 on the next are 0.2 from 1, whatever their mean is."""
    runs = filled(results, "sharpness_samples", vae=[0.5] * 10, ae=[0.8, 1.2] * 5)
    found = verdict(runs, claim(metric="sharpness_samples", of="ae", against="vae", scale="distance", expected="below"))
    assert found.outcome == "holds" and found.effect.mean == pytest.approx(-0.3)


@pytest.mark.parametrize(
    ("mean", "text"),
    [(0.0, "holds"), (0.5, "does not hold"), (-0.5, "does not hold"), (0.2, "not decided at 10 seeds")],
)
def test_within_is_an_equivalence_test(results, mean, text):
    values = noisy(1 + mean, 0.05)
    values = list(np.array(values) - np.mean(values) + 1 + mean)
    runs = filled(results, vae=values, ae=noisy(0.0))
    found = verdict(runs, claim(metric="reconstruction_mse", of="vae", against=1.0, expected="within", bound=0.2))
    assert found.outcome == text
    if mean == 0:
        upper = stats.ttest_1samp(values, 1.2, alternative="less").pvalue
        lower = stats.ttest_1samp(values, 0.8, alternative="greater").pvalue
        assert found.p == pytest.approx(2 * max(upper, lower))


def test_two_metrics_of_one_run(results):
    for seed in SEEDS:
        results.run("ae", seed, metrics={"reconstruction_mse": 1.0 + seed / 100, "kl": 2.0})
    found = verdict(
        load(results.path, ["first"]),
        claim(metric="reconstruction_mse", of="ae", against_metric="kl", expected="below"),
    )
    assert found.outcome == "holds" and found.effect.mean == pytest.approx(-0.955)


def test_few_seeds_decide_nothing(results):
    runs = filled(results, vae=[1.0, 1.01, 1.02, 1.03], ae=[0.5, 0.51, 0.52, 0.53])
    found = verdict(runs, claim(metric="reconstruction_mse", of="ae", against="vae", expected="below"))
    assert found.outcome == "not decided at 4 seeds, fewer than 5" and found.p_corrected < 1e-3


def test_only_common_seeds_count_and_how_others_ended_is_reported(results):
    for seed in SEEDS:
        results.run("vae", seed, metrics={"reconstruction_mse": 1.0 + seed / 100})
        if seed:
            results.run("ae", seed, metrics={"reconstruction_mse": 0.5 + seed / 90})
    results.run("ae", 0, status="diverged", reason="a loss was not finite")
    found = verdict(
        load(results.path, ["first"]), claim(metric="reconstruction_mse", of="ae", against="vae", expected="below")
    )
    assert found.effect.n == 9 and found.outcome == "holds"
    ours, theirs = found.remarks
    assert ours.endswith("of ae-bernoulli-digits-none without seed 0: seed 0: diverged: a loss was not finite")
    assert theirs == "reconstruction_mse of vae-bernoulli-digits-none without seed 0: the other run lacks it"


def test_what_is_missing_says_why(results):
    selected = claim(metric="kl", of="ae", against="vae", expected="below")
    runs = filled(results, vae=noisy(1.0))
    found = verdict(runs, selected)
    assert found.outcome == "not run" and "no run has model=ae: bench experiment=claims/one" in found.remarks
    for seed in SEEDS:
        results.run("ae", seed, metrics={"kl": "an autoencoder has no prior"})
    found = verdict(load(results.path, ["first"]), selected)
    assert found.outcome == "n/a" and found.remarks == ("kl is n/a: an autoencoder has no prior",)


def test_a_name_that_two_runs_have_is_unclear(results):
    for likelihood in ("bernoulli", "gaussian"):
        for seed in SEEDS:
            results.run("ae", seed, metrics={"reconstruction_mse": 1.0}, choices={"likelihood": likelihood})
    found = verdict(
        load(results.path, ["first"]), claim(metric="reconstruction_mse", of="ae", against=0.5, expected="above")
    )
    assert found.outcome == "unclear" and found.remarks == ("2 runs have model=ae, and differ in likelihood",)


def test_seeds_without_a_number_are_reported_with_the_reason(results):
    for seed in SEEDS:
        results.run("vae", seed, metrics={"kl": 1.0 + seed / 100})
        results.run("ae", seed, metrics={"kl": "it was in no mood" if seed < 4 else 0.5 + seed / 90})
    found = verdict(load(results.path, ["first"]), claim(metric="kl", of="ae", against="vae", expected="below"))
    assert found.effect.n == 6
    assert "kl of ae-bernoulli-digits-none without seeds 0, 1, 2, 3: kl is n/a: it was in no mood" in found.remarks


@pytest.mark.parametrize(
    ("metric", "given"),
    [
        ("elbo", {"likelihood_key": {"measure": "density"}}),
        ("denoising_gain_db", {"choices": {"noise": "masking"}}),
        ("reconstruction_mse", {"data": {"fingerprint": "of other images"}}),
    ],
)
def test_what_no_table_ranks_is_not_compared(results, metric, given):
    for seed in SEEDS:
        results.run("vae", seed, metrics={metric: 1.0 + seed / 100})
        results.run("ae", seed, metrics={metric: 0.5}, **given)
    found = verdict(load(results.path, ["first"]), claim(metric=metric, of="ae", against="vae", expected="below"))
    assert found.outcome == "n/a" and found.p is None and f"{metric}: ae minus vae below 0: " in found.remarks[-1]


def test_a_metric_without_an_ideal_has_no_distance(results):
    runs = filled(results, "elbo", vae=noisy(1.0), ae=noisy(2.0))
    found = verdict(runs, claim(metric="elbo", of="ae", against="vae", scale="distance", expected="below"))
    assert found.outcome == "n/a" and "no ideal" in found.remarks[-1]


def test_a_constant_is_called_one(results):
    runs = filled(results, vae=[0.4] * 10)
    found = verdict(runs, claim(metric="reconstruction_mse", of="vae", against=0.5, expected="below"))
    assert found.p == 0 and "the same on every seed" in found.remarks[-1] and found.effect_size is None


def test_claims_of_which_no_run_is_there_are_named_below(results):
    filled(results, vae=noisy(1.0))
    made = write(results.path, ["first"], Console(file=io.StringIO()), tables=False, claims="all", figures=False)
    of_claims, compared = made.tables
    assert of_claims.notes[-1].startswith("Not run: any_prior, blur,") and made.files[-1] == "claims.csv"
    assert len(of_claims.rows) < len(claims.claims()) and all(row.cells[0].text != "not run" for row in compared.rows)
    with pytest.raises(InputError, match="leave out average"):
        write(results.path, ["first"], Console(file=io.StringIO()), claims="all", average="noise")


def test_unequal_budgets_are_reported(results):
    for seed in SEEDS:
        results.run("vae", seed, metrics={"reconstruction_mse": 1.0 + seed})
        results.run("ae", seed, metrics={"reconstruction_mse": 0.5}, settings={"budget.epochs": 40})
    found = verdict(
        load(results.path, ["first"]), claim(metric="reconstruction_mse", of="ae", against="vae", expected="below")
    )
    assert "budget.epochs is 40 and 20" in found.remarks[0]


def test_p_values_are_corrected_over_all_comparisons_and_one_decides(results):
    runs = filled(results, vae=noisy(1.0), ae=noisy(0.9, seed=1))
    tests = [
        Comparison(metric="reconstruction_mse", of="ae", against=against, expected="below") for against in ("vae", 1.0)
    ]
    selected = {"one": Claim(says="A", runs={"vae": {"model": "vae"}, "ae": {"model": "ae"}}, tests=tuple(tests))}
    found = evaluate(runs, selected)
    corrected = holm({i: v.p for i, v in enumerate(found)})
    assert [v.p_corrected for v in found] == [corrected[i] for i in range(2)]
    assert decisive(found).p_corrected == max(v.p_corrected for v in found)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"expected": "below"}, "compared with nothing"),
        ({"expected": "within", "against": "vae"}, "within a bound above 0: give one"),
        ({"expected": "below", "against": "nobody"}, "nobody is not among runs"),
        ({"expected": "below", "against": "vae", "scale": "ratio", "bound": 0.0}, "a ratio is above 0"),
        ({"expected": "within", "against": "vae", "scale": "ratio", "bound": 0.9}, "a bound above 1: give one"),
        ({"expected": "within", "against": "vae", "bound": -0.4}, "a bound above 0: give one"),
        ({"expected": "within", "against": "vae", "scale": "distance", "bound": 0.4}, "without a bound"),
        ({"expected": "below", "against": 0.3, "scale": "ratio"}, "no scale but difference"),
        ({"expected": "below", "against": 0.3, "against_metric": "elbo"}, "no other metric"),
        ({"expected": "below", "against": float("nan")}, "finite number"),
        ({"expected": "beneath", "against": "vae"}, "'above', 'below' or 'within'"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(tmp_path, monkeypatch, wrong, message):
    written = {"says": "A", "runs": {"vae": {"model": "vae"}}, "tests": [{"metric": "kl", "of": "vae"} | wrong]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"claim": written}))
    monkeypatch.setattr(claims, "FOLDER", tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        claims.claims()
    assert "mine.yaml: claim" in str(raised.value) and "\n" not in str(raised.value)


def test_every_committed_claim_reads_and_says_something_else():
    found = claims.claims()
    assert len(found) >= 16 and len({one.says for one in found.values()}) == len(found)
    with pytest.raises(InputError, match="claims=nope is not known: choose all, or one of any_prior, blur"):
        claims.claims(["nope"])


def test_verdicts_in_every_format(results):
    """Of two committed claims one holds and one does not; the numbers are those of the comparison that decides."""
    for seed in SEEDS:
        for activation, ratio in (("sigmoid", 1e-9), ("relu", 0.5)):
            results.run(
                "ae", seed, metrics={"gradient_ratio": ratio * (1 + seed / 100)},
                settings={"network.activation": activation, "network.depth": 8},
            )  # fmt: skip
        for model, accuracy in (("vae", 0.7), ("pca", 0.4)):
            results.run(model, seed, metrics={"knn_accuracy": accuracy + seed / 1000})
    out = io.StringIO()
    made = write(
        results.path,
        ["first"],
        Console(file=out, width=250),
        tables=False,
        claims=["vanishing_gradients", "two_latents"],
    )
    (row,) = [line for line in (made.folder / "table.md").read_text().splitlines() if "| Two latents" in line]
    assert [cell.strip() for cell in row.split("|")[2:4]] == [
        "10",
        "does not hold",
    ] and "0.7045 (0.7023 to 0.7067)" in row
    (row,) = [line for line in (made.folder / "table.md").read_text().splitlines() if "| Sigmoid nets" in line]
    assert "**holds**" in row
    assert (
        "1 hold, 1 do not, 0 are open" in out.getvalue() and "does not hold" in (made.folder / "table.tex").read_text()
    )
    with (made.folder / "claims.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["verdict"] for line in lines] == ["holds", "holds", "holds", "does not hold"]
    assert lines[3]["seeds"] == "0 1 2 3 4 5 6 7 8 9" and float(lines[3]["effect"]) == pytest.approx(-0.1955)
    page = (made.folder / "index.html").read_text()
    assert "does not hold" in page and page.count("data:image/png;base64") >= 2
