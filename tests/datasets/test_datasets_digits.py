from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from bench.datasets import prepare
from bench.datasets.digits import digits


def test_it_holds_every_digit_once_in_seventeen_grey_levels():
    source = digits()
    assert source.x_train.shape == (1438, 1, 8, 8) and source.x_test.shape == (359, 1, 8, 8)
    assert source.x_train.dtype == np.float32 and source.grey_levels == 17
    together = np.concatenate([source.x_train, source.x_test]).reshape(-1, 64) * 16
    assert sorted(map(tuple, together)) == sorted(map(tuple, load_digits().data))


def test_the_test_set_is_stratified():
    y = digits().y_test
    whole = np.bincount(load_digits().target)
    assert np.all(np.abs(np.bincount(y) - whole / 5) < 1)


def test_the_fingerprint_that_finished_runs_have_on_record_stays():
    assert prepare(digits()).fingerprint == "ff6014f71b766e63"


def test_it_can_be_dequantised():
    assert prepare(digits(), dequantize=True).dequantize
