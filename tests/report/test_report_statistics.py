import math

import pytest
from scipy import stats

from bench.report.statistics import Estimate, best, decimals, estimate, number, text


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
    assert best({"a": 0.2, "b": 1.1, "c": 1.9}, better, ideal) == {winner}


def test_what_is_not_ranked_has_no_best():
    assert best({"a": 1.0, "b": 2.0}, None) == set()
    assert best({"a": 1.0}, "lower") == set()
    assert best({"a": 1.0, "b": 1.0}, "lower") == set()
    assert best({"a": 1.0, "b": 2.0, "c": 1.0}, "lower") == {"a", "c"}


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
    assert text(made, decimals([made])) == shown


def test_a_small_number_is_never_shown_as_zero():
    assert number(0.004, 2) == "4.0e-03"
    assert number(0.0, 2) == "0.00"
