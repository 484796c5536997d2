from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from bench.datasets import prepare
from bench.datasets.digits import digits


def test_it_has_every_digit_once_with_seventeen_grey_levels():
    source = digits()
    assert source.train.x.shape == (1438, 1, 8, 8) and source.test.x.shape == (359, 1, 8, 8)
    assert source.train.x.dtype == np.uint8 and source.range == (0, 16) and prepare(source).grey_levels == 17
    together = np.concatenate([source.train.x, source.test.x]).reshape(-1, 64)
    assert sorted(map(tuple, together)) == sorted(map(tuple, load_digits().data))


def test_the_test_set_is_stratified():
    y = digits().test.label
    whole = np.bincount(load_digits().target)
    assert np.all(np.abs(np.bincount(y) - whole / 5) < 1)


def test_the_fingerprint_of_existing_records_does_not_change():
    assert prepare(digits()).fingerprint == "38b8ae6bab832cb5"


def test_a_model_sees_sixteenths():
    data = prepare(digits())
    np.testing.assert_array_equal(data.test.x, digits().test.x.astype(np.float32) / 16)


def test_it_can_be_dequantised():
    assert prepare(digits(), dequantize=True).dequantize
