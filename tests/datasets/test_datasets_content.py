"""Warnings about a data set: one line each, with counts."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core import InputError
from bench.datasets import prepare, row_hashes
from tests.datasets.sources import BYTES, GREY, LABELS, source


def replaced(changes: dict[int, np.ndarray | float]) -> np.ndarray:
    x = BYTES.copy()
    for row, value in changes.items():
        x[row] = value
    return x


OWN = {"x_train": BYTES[:270], "y_train": LABELS[:270], "y_validation": LABELS[270:300]}


@pytest.mark.parametrize(
    ("whole", "lines"),
    [
        (source(BYTES), []),
        (source(BYTES, y=None), []),
        (source(replaced({301: BYTES[300], 302: BYTES[300]})), ["2 of 100 test images repeat another test image"]),
        (source(replaced({305: BYTES[7], 306: BYTES[8]}), **OWN, x_validation=BYTES[270:300]), [
            "2 of 100 test images are also training images"
        ]),
        (source(BYTES, **OWN, x_validation=replaced({271: BYTES[9]})[270:300]), [
            "1 of 30 validation images are also training images"
        ]),
        (source(replaced({307: BYTES[271]}), **OWN, x_validation=BYTES[270:300]), [
            "1 of 100 test images are also validation images"
        ]),
        (source(replaced({310: 3, 311: 9})), ["2 of 100 test images are constant"]),
        (source(BYTES, y=np.zeros(400, int)), [
            "all labels are the same: metrics that compare classes are meaningless"
        ]),
        (source(BYTES, y=np.r_[0, 2, np.ones(398, int)]), ["2 of 3 classes have one training image each"]),
        (source(BYTES, y=None, x_test=BYTES[300:304]), [
            "there are only 4 different test images: precision, coverage and similar metrics need more than 5"
        ]),
        (source(BYTES, y=None, x_test=BYTES[[300, 301] * 50]), [
            "98 of 100 test images repeat another test image",
            "there are only 2 different test images: precision, coverage and similar metrics need more than 5",
        ]),
        (source(BYTES, warnings=("one file was not read",)), ["one file was not read"]),
    ],
    ids=["nothing", "nothing without labels", "repeated", "in train", "validation in train", "in validation",
         "constant", "one class", "classes of one", "few", "few different", "warnings of the source"],
)  # fmt: skip
def test_properties_that_make_metrics_doubtful_are_warned_about(whole, lines):
    assert list(prepare(whole).warnings) == lines


def test_images_of_one_pixel_are_not_reported_as_constant():
    assert prepare(source(GREY[:, :, :1, :1])).warnings == ()


def test_identical_training_images_are_refused():
    with pytest.raises(InputError, match="all training images are the same: there is nothing to learn"):
        prepare(source(BYTES, x_train=BYTES[[3] * 300]))
    for value in (0, 7, 255):
        with pytest.raises(InputError, match=f"x_train holds the value {value} only: there is nothing to learn"):
            prepare(source(BYTES, x_train=np.full_like(BYTES[:300], value)))


def test_row_hashes_do_not_depend_on_the_memory_layout():
    hashes = row_hashes(BYTES)
    assert len(set(hashes)) == 400
    np.testing.assert_array_equal(row_hashes(BYTES[::-2]), hashes[::-2])
    np.testing.assert_array_equal(row_hashes(np.asfortranarray(BYTES)), hashes)
