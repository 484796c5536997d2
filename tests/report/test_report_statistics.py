import math

import numpy as np
import pytest
from scipy import stats

from bench.report.statistics.estimates import Estimate, decimals, estimate, format_estimate, format_number
from bench.report.statistics.significance import best_group, best_means, holm, paired_t_test, probability_of_improvement
from bench.report.tables.answers import difference_text


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.1, 0.4, 0.35], [3.0, -1.0, 2.5, 8.0, 0.0]])
def test_the_interval_is_students(values):
    made = estimate(values)
    low, high = stats.t.interval(0.95, len(values) - 1, stats.tmean(values), stats.sem(values))
    assert (made.low, made.high) == pytest.approx((low, high), rel=1e-9)
    assert made.n == len(values)


def test_the_interval_of_two_values_in_closed_form():
    # With one degree of freedom t is Cauchy: its 97.5 % quantile is tan(0.475 pi); the standard error is 1/2.
    assert estimate([0.0, 1.0]).half_width == pytest.approx(math.tan(0.475 * math.pi) / 2)


def test_one_value_has_no_interval():
    assert estimate([3.5]) == Estimate(3.5, None, 1)
    assert (estimate([3.5]).low, estimate([3.5]).high) == (None, None)


@pytest.mark.parametrize(
    ("better", "ideal", "winner"), [("lower", 0.0, "a"), ("higher", None, "c"), ("closest", 1.0, "b")]
)
def test_the_best_mean(better, ideal, winner):
    assert best_means({"a": 0.2, "b": 1.1, "c": 1.9}, better, ideal) == {winner}


def test_what_is_not_ranked_has_no_best():
    assert best_means({"a": 1.0, "b": 2.0}, None) == set()
    assert best_means({"a": 1.0}, "lower") == set()
    assert best_means({"a": 1.0, "b": 1.0}, "lower") == set()
    assert best_means({"a": 1.0, "b": 2.0, "c": 1.0}, "lower") == {"a", "c"}


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (Estimate(-100.53, 0.42, 3), "-100.53 ± 0.42"),
        (Estimate(0.01234, None, 1), "0.0123"),
        (Estimate(20563.2, 936.4, 3), "20,563 ± 936"),
        (Estimate(123456.0, 0.0, 3), "123,456 ± 0"),
        (Estimate(0.0000012, None, 1), "1.2e-06"),
    ],
)
def test_numbers_are_shown_with_the_digits_they_have(made, shown):
    assert format_estimate(made, decimals([made])) == shown


def test_a_small_number_is_never_shown_as_zero():
    assert format_number(0.004, 2) == "4.0e-03"
    assert format_number(0.0, 2) == "0.00"


def test_a_small_difference_and_its_interval_have_the_same_decimals():
    assert difference_text(Estimate(-0.00012, 0.00016, 5)) == "-0.00012 (-0.00028 to 0.00004)"
    assert difference_text(Estimate(0.031, 0.0084, 5)) == "+0.0310 (0.0226 to 0.0394)"
    assert difference_text(Estimate(0.5, None, 1)) == "+0.5000"


# --- comparisons

DRAWN = np.random.default_rng(0).normal(size=(4, 12))


def by_seed(values, first=0):
    return dict(enumerate(map(float, values), first))


@pytest.mark.parametrize("n", [4, 5, 7, 8, 12])
def test_the_interquartile_mean_is_scipys_trimmed_mean(n):
    assert estimate(DRAWN[0, :n]).iqm == pytest.approx(stats.trim_mean(DRAWN[0, :n], 0.25))
    assert estimate(DRAWN[0, :3]).iqm is None


def test_the_paired_test_is_scipys_on_common_seeds():
    a, b = DRAWN[0], DRAWN[0] + 0.3 * DRAWN[1] + 0.2
    assert paired_t_test(by_seed(a), by_seed(b)) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    # Seeds that only one of them has do not count, whatever their values.
    shifted = by_seed(b[4:], 4) | {99: 1e6}
    assert paired_t_test(by_seed(a), shifted) == pytest.approx(stats.ttest_rel(a[4:], b[4:]).pvalue, rel=1e-9)
    assert paired_t_test(by_seed(a), by_seed(a)) == 1.0
    assert paired_t_test({0: 1.0, 1: 2.0}, {0: 2.0, 1: 3.0}) == 0.0


def test_holms_correction_of_an_example_by_hand():
    """Sorted 0.005 0.01 0.03 0.04 times 4 3 2 1 are 0.02 0.03 0.06 0.04, and none below one before it."""
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_bold_is_the_best_and_what_cannot_be_told_from_it():
    base, noise = DRAWN[0], 0.1 * (DRAWN[1] - DRAWN[1].mean())
    values = {"best": by_seed(base), "level": by_seed(base + 0.01 + noise), "worse": by_seed(base + 1 + noise)}
    assert best_group(values, "lower") == {"best", "level"}
    negated = {key: {s: -v for s, v in found.items()} for key, found in values.items()}
    assert best_group(negated, "higher") == {"best", "level"}
    assert best_group(values, None) == set()
    four = {key: dict(list(found.items())[:4]) for key, found in values.items()}
    assert len(best_group(four, "lower")) == 1  # too few seeds to test
    assert best_group(values | {"other seeds": by_seed(base + 2, 100)}, "lower") == {"best"}


def test_closest_compares_distances_to_the_ideal():
    off = 0.05 * np.abs(DRAWN[0]) + 0.1
    sides = np.where(np.arange(12) % 2, 1.0, -1.0)
    values = {"near": by_seed(1 + 0.9 * off), "both sides": by_seed(1 + 3 * off * sides)}
    # Means of both are near 1, and the second's is nearer: its runs are not.
    assert best_group(values, "closest", 1.0) != {"near", "both sides"}


def test_without_a_correction_chance_would_be_bold_less_often():
    """Of twenty rows that are all alike, the uncorrected test tells some from the best; Holm's none of them."""
    drawn = np.random.default_rng(3).normal(size=(20, 8))
    values = {i: by_seed(row) for i, row in enumerate(drawn)}
    (first,) = best_means({i: row.mean() for i, row in enumerate(drawn)}, "lower")
    raw = [paired_t_test(values[i], values[first]) for i in values if i != first]
    assert min(raw) < 0.05 and best_group(values, "lower") == set(values)


def test_the_probability_of_improvement_is_mann_whitneys():
    a, b = np.round(DRAWN[0], 1), np.round(DRAWN[1, :9] + 0.3, 1)  # with ties
    share = stats.mannwhitneyu(a, b).statistic / (12 * 9)
    assert probability_of_improvement(a, b, "higher") == pytest.approx(share)
    assert probability_of_improvement(a, b, "lower") == pytest.approx(1 - share)
    assert probability_of_improvement(a, a, "lower") == 0.5
    assert probability_of_improvement([0.9, 1.2], [3.0], "closest", 1.0) == 1.0
