"""The range of stored values: detected, set, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core import InputError
from bench.datasets import prepare
from tests.datasets.sources import BYTES, GREY, LABELS, source

DIGITS = BYTES // 16  # from 0 to 15
MASKS = BYTES // 128  # 0 and 1


def seen(x, **options) -> np.ndarray:
    """What a model sees of the test images."""
    data = prepare(source(x), **options)
    return data.observe(data.test.x, draws=None).numpy()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_zeros_and_ones_have_full_contrast(dtype):
    data = prepare(source(MASKS.astype(dtype)))
    assert data.range == (0, 1) and data.train.x.dtype == torch.uint8
    np.testing.assert_array_equal(data.observe(data.test.x, None), MASKS[300:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64, ">u4"])
def test_eight_bits_in_any_type_are_kept_as_bytes(dtype):
    data = prepare(source(BYTES.astype(dtype)))
    assert data.range == (0, 255) and data.test.x.dtype == torch.uint8
    np.testing.assert_array_equal(data.test.x, BYTES[300:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fractions_of_bytes_are_kept_as_bytes_and_other_fractions_unchanged(dtype):
    np.testing.assert_array_equal(prepare(source(BYTES.astype(dtype) / 255)).test.x, BYTES[300:])
    data = prepare(source(GREY.astype(dtype)))
    assert data.range == (0, 1) and data.test.x.dtype == torch.float32
    np.testing.assert_array_equal(data.test.x, GREY[300:])


def test_floats_from_minus_one_to_one_become_fractions():
    data = prepare(source(2 * GREY.astype(np.float64) - 1))
    assert data.range == (-1, 1)
    np.testing.assert_allclose(data.test.x, GREY[300:], atol=1e-7)


def test_values_between_bytes_become_fractions():
    x = 255 * GREY
    data = prepare(source(x))
    assert data.range == (0, 255)
    np.testing.assert_allclose(data.test.x, GREY[300:], atol=1e-6)


@pytest.mark.parametrize(
    ("x", "ends", "expected"),
    [
        (DIGITS, (0, 15), DIGITS / 15),
        (DIGITS, (0, 16), DIGITS / 16),
        (DIGITS, (0, 255), DIGITS / 255),
        (DIGITS.astype(int) - 5, (-5, 10), DIGITS / 15),
        (BYTES.astype(np.uint16) * 256, (0, 65535), BYTES * 256.0 / 65535),
        (GREY, (-1, 1), (GREY + 1) / 2),
        (100 * GREY, (0, 100), GREY),
    ],
)
def test_a_set_range_defines_black_and_white(x, ends, expected):
    np.testing.assert_allclose(seen(x, range=ends), expected[300:], atol=1e-6)
    assert prepare(source(x), range=ends).range == ends


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            DIGITS,
            r"x_train has values from 0 .* to 15 .*dataset\.range=\[0,15\] .* or dataset\.range=\[0,255\] for dark",
        ),
        (DIGITS * 1.0, r"dataset\.range=\[0,15\]"),
        (BYTES.astype(np.uint16) * 256, r"to 65280 .*Set dataset\.range=\[0,65280\] if these are; auto reads 0 and 1"),
        (DIGITS.astype(int) - 1, r"values from -1 .* to 14 "),
        (MASKS.astype(int) * 2 - 1, r"values from -1 .* to 1 "),
        (3 * GREY - 1.5, r"values from -1\.\d+ .* to 1\.\d+ "),
        (1.5 * GREY, r"to 1\.\d+ "),
        (GREY - 0.01, r"values from -0\.0\d+ "),
    ],
    ids=["4 bits", "as floats", "16 bits", "negative", "signs as integers", "standardised", "over 1", "just below 0"],
)
def test_any_other_range_is_refused_with_advice(x, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(source(x))
    assert "\n" not in str(caught.value)


def test_the_image_with_the_outlying_value_is_named():
    x = GREY.copy()
    x[17, 0, 2, 3] = 7
    with pytest.raises(InputError, match=r"to 7 \(image 17\)"):
        prepare(source(x))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("options", [{}, {"range": (0, 1)}])
def test_values_that_are_not_finite_are_refused(value, options):
    x = GREY.copy()
    x[317, 0, 2, 3] = value
    with pytest.raises(InputError, match="x_test has 1 images with values that are not finite .* image 17"):
        prepare(source(x), **options)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_other_splits_must_lie_in_the_range_of_the_training_images(split):
    own = {"x_validation": MASKS[:30], "y_validation": source().train.label[:30]} | {f"x_{split}": BYTES[:30]}
    own |= {f"y_{split}": source().train.label[:30]}
    with pytest.raises(
        InputError, match=rf"x_{split} has 30 images .* not in \[0, 1\], the range of the training images"
    ):
        prepare(source(MASKS, **own))


@pytest.mark.parametrize(("train", "test"), [(BYTES, BYTES / 255), (BYTES, MASKS), (2 * GREY - 1, GREY)])
def test_a_split_stored_in_another_range_is_refused(train, test):
    whole = source(train, x_test=test[300:])
    with pytest.raises(InputError, match=r"x_test has values from 0\S* to \S+, but the training images have the range"):
        prepare(whole)
    assert prepare(whole, range=(float(np.floor(train.min())), float(np.ceil(train.max()))))


def test_dark_test_images_are_read_in_the_range_of_the_training_images():
    data = prepare(source(BYTES, x_test=DIGITS[300:]))
    np.testing.assert_array_equal(data.test.x, DIGITS[300:])


OWN = {"x_validation": BYTES[:30], "y_validation": source().train.label[:30]}


@pytest.mark.parametrize("options", [{}, {"range": (0, 255)}])
@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(
    ("x", "line"),
    [
        (DIGITS, "the brightest {0} pixel is 15, but the brightest training pixel is 255"),
        (240 + DIGITS, "the darkest {0} pixel is 240, but the darkest training pixel is 0"),
        (BYTES // 7, None),
    ],
    ids=["dark", "bright", "dim"],
)
def test_a_split_that_is_much_darker_or_brighter_is_warned_about(split, x, line, options):
    warnings = prepare(source(BYTES, **OWN | {f"x_{split}": x[:30], f"y_{split}": LABELS[:30]}), **options).warnings
    expected = line and f"{line}: check that x_{{0}} and x_train are stored in the same range".format(split)
    assert [text for text in warnings if "same range" in text] == ([expected] if line else [])


def test_a_training_split_that_is_much_darker_than_the_test_split_is_warned_about():
    (line,) = [text for text in prepare(source(GREY / 16, x_test=GREY[300:])).warnings if " test " in text]
    assert line.startswith("the brightest test pixel is 0.99")


def test_values_outside_a_set_range_are_refused():
    with pytest.raises(
        InputError, match=r"x_train has \d+ images .* not in \[0, 14\], the value of dataset\.range; the first"
    ):
        prepare(source(DIGITS), range=(0, 14))


def test_dark_fractions_are_warned_about():
    (line,) = prepare(source(DIGITS / 255)).warnings
    assert line.startswith("the brightest training pixel is 0.0588235 of [0, 1]")
    assert prepare(source(DIGITS / 255), range=(0, 1)).warnings == (line,) and prepare(source()).warnings == ()


@pytest.mark.parametrize(
    ("x", "ends", "line"),
    [
        (DIGITS, (0, 255), "the brightest training pixel is 15 of [0, 255]: set dataset.range if that is white"),
        (DIGITS, (-255, 15), "the darkest training pixel is 0 of [-255, 15]: set dataset.range if that is black"),
        (GREY, (0, 4), "the brightest training pixel is 0.999"),
        (BYTES, (0, 255), None),
        (DIGITS, (0, 30), None),
    ],
)
def test_a_set_range_that_is_half_unused_is_warned_about(x, ends, line):
    warnings = prepare(source(x), range=ends).warnings
    assert (len(warnings) == 1 and warnings[0].startswith(line)) if line else warnings == ()


@pytest.mark.parametrize(
    ("x", "ends", "usual"),
    [
        (GREY, (0, 255), "0,1"),
        (BYTES / 255, (0, 255), "0,1"),
        (MASKS, (0, 255), "0,1"),
        (GREY, (-10, 10), "0,1"),
        (2 * GREY - 1, (-255, 255), "-1,1"),
        (BYTES.astype(np.uint16), (0, 65535), "0,255"),
    ],
)
def test_a_set_range_that_would_remove_the_contrast_is_refused(x, ends, usual):
    message = rf"dataset\.range=\[{ends[0]},{ends[1]}\] would remove the contrast of x_train.*from \S+ to \S+: set "
    with pytest.raises(InputError, match=message + rf"dataset\.range=\[{usual}\], or leave it at auto"):
        prepare(source(x), range=ends)
    assert prepare(source(x), range=tuple(map(int, usual.split(",")))).warnings == ()


@pytest.mark.parametrize("ends", [(1, 0), (0, 0), (0, np.inf), (np.nan, 1)])
def test_a_range_must_be_two_finite_numbers_in_order(ends):
    with pytest.raises(InputError, match=r"dataset\.range=.*expected two finite numbers, the smaller one first"):
        prepare(source(), range=ends)


def test_a_range_other_than_the_known_one_is_refused():
    known = source(GREY, range=(0, 1))
    assert prepare(known, range=(0, 1)).range == (0, 1)
    with pytest.raises(InputError, match=r"dataset\.range=\[0, 255\]: in this data set 0 is black and 1 is white"):
        prepare(known, range=(0, 255))
