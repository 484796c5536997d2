from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core import InputError
from bench.datasets import Source, hold_out, prepare
from bench.draws import Draws

RNG = np.random.default_rng(0)
GREY = RNG.random((400, 1, 5, 4)).astype(np.float32)
BYTES = RNG.integers(0, 256, (400, 1, 5, 4), dtype=np.uint8)
LABELS = np.repeat(np.arange(4), [40, 80, 120, 160])
FACTORS = RNG.random((400, 3)).astype(np.float32)
KNOWN = {"factors_train": FACTORS[:300], "factors_test": FACTORS[300:]}
MODES = {"modes": GREY[:7], "mode_sigma": 0.1}


def source(x=GREY, y=LABELS, **changes) -> Source:
    return (
        Source(x[:300], None, x[300:], None)
        ._replace(**({} if y is None else {"y_train": y[:300], "y_test": y[300:]}))
        ._replace(**changes)
    )


def shuffled(x=GREY, y=LABELS) -> Source:
    order = np.random.default_rng(1).permutation(len(x))
    return source(x[order], y[order])


def rows(x) -> list[bytes]:
    return [row.tobytes() for row in np.asarray(x)]


def test_train_and_validation_are_disjoint_and_together_the_source():
    data = prepare(shuffled(), validation=25)
    train, validation = rows(data.train.x), rows(data.validation.x)
    assert (len(train), len(validation)) == (275, 25)
    assert sorted(train + validation) == sorted(rows(shuffled().x_train))
    np.testing.assert_array_equal(data.test.x, shuffled().x_test)


def test_labels_stay_with_their_images():
    label_of = dict(zip(rows(shuffled().x_train), shuffled().y_train, strict=True))
    data = prepare(shuffled())
    for split in (data.train, data.validation):
        assert [label_of[row] for row in rows(split.x)] == split.label.tolist()


@pytest.mark.parametrize(("validation", "size"), [(5000, 30), (30, 30), (7, 7)])
def test_validation_is_at_most_a_tenth(validation, size):
    assert len(prepare(source(), validation=validation).validation.x) == size


def test_validation_is_stratified():
    data = prepare(source(y=np.tile(np.repeat([0, 1, 2], [10, 30, 60]), 4)))
    assert data.validation.label.bincount().tolist() == [3, 9, 18]


def test_a_class_with_one_member_leaves_the_split_unstratified():
    labels = np.zeros(400, int)
    labels[[5, 350]] = 1
    assert len(prepare(source(y=labels)).validation.x) == 30


def test_without_labels_there_are_no_classes():
    data = prepare(source(y=None))
    assert data.shapes.classes == 0 and data.train.label is data.validation.label is data.test.label is None


def test_classes_count_to_the_highest_label_of_either_split():
    assert prepare(source(y=None, y_train=np.zeros(300, int), y_test=np.full(100, 6))).shapes.classes == 7


def test_tensors_are_taken_as_well_as_arrays():
    tensors = Source(*(torch.from_numpy(part) for part in source()[:4]))
    assert prepare(tensors).fingerprint == prepare(source()).fingerprint


def test_hold_out_takes_the_same_stratified_fifth_each_time():
    one, two = hold_out(GREY, LABELS), hold_out(GREY, LABELS)
    np.testing.assert_array_equal(one.x_test, two.x_test)
    assert np.bincount(one.y_test).tolist() == [8, 16, 24, 32]
    assert sorted(rows(one.x_train) + rows(one.x_test)) == sorted(rows(GREY))
    with pytest.raises(InputError, match="11 images in all: expected at least 12"):
        hold_out(GREY[:11], None)


# --- the known truth


def test_factors_stay_with_their_images():
    factors_of = dict(zip(rows(GREY), rows(FACTORS), strict=True))
    for data in (prepare(source(**KNOWN)), prepare(hold_out(GREY, LABELS, factors=FACTORS), split_seed=3)):
        for split in (data.train, data.validation, data.test):
            assert [factors_of[row] for row in rows(split.x)] == rows(split.factors)
    assert prepare(source()).train.factors is None


def test_binarised_data_keep_their_factors_but_not_the_modes_of_the_density_before():
    plain, static, dynamic = (prepare(source(**KNOWN, **MODES), binarize=how) for how in ("none", "static", "dynamic"))
    np.testing.assert_array_equal(plain.modes, MODES["modes"])
    assert plain.mode_sigma == 0.1
    for data in (static, dynamic):
        assert torch.equal(data.train.factors, plain.train.factors)
        assert data.modes is data.mode_sigma is None


# --- binarisation and dequantisation


@pytest.mark.parametrize("x", [GREY, BYTES], ids=["float32", "uint8"])
def test_static_binarisation_is_zero_or_one_with_the_pixels_mean(x):
    data = prepare(shuffled(x), binarize="static")
    plain = prepare(shuffled(x))
    for name in ("train", "validation", "test"):
        seen = data.observe(getattr(data, name).x, draws=None)
        grey = plain.observe(getattr(plain, name).x, draws=None).double()
        assert set(seen.unique().tolist()) == {0.0, 1.0}
        error = (grey * (1 - grey)).sum().sqrt() / grey.numel()  # of the mean of independent Bernoulli pixels
        assert abs(seen.double().mean() - grey.mean()) < 4 * error


def test_static_binarisation_keeps_black_and_white_as_they_are():
    x = np.where(BYTES > 127, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(prepare(source(x), binarize="static").test.x, x[300:])


def test_static_binarisation_is_drawn_once_by_the_split_seed_and_apart_for_each_split():
    half = source(np.full_like(GREY, 0.5), y=None)
    one, again, other = (prepare(half, split_seed=seed, binarize="static") for seed in (0, 0, 1))
    assert torch.equal(one.test.x, again.test.x) and torch.equal(one.train.x, again.train.x)
    assert not torch.equal(one.test.x, other.test.x)
    assert not torch.equal(one.test.x[:30], one.validation.x) and not torch.equal(one.test.x, one.train.x[:100])


def test_dynamic_binarisation_differs_between_draws_and_not_within_one():
    data = prepare(source(BYTES), binarize="dynamic")
    np.testing.assert_array_equal(data.test.x, BYTES[300:])
    one, again, other = (data.observe(data.test.x, Draws(0, step)) for step in (1, 1, 2))
    assert set(one.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize(("x", "grey_levels"), [(BYTES, 256), (np.round(GREY * 16) / 16, 17)], ids=["uint8", "17"])
def test_dequantised_values_fill_their_grey_level(x, grey_levels):
    data = prepare(source(x, grey_levels=grey_levels), dequantize=True)
    level = torch.from_numpy(x[300:]).double() * (1 if x.dtype == np.uint8 else grey_levels - 1)
    within = data.observe(data.test.x, Draws(0)).double() * grey_levels - level
    assert -1e-4 < within.min() < 0.01 and 0.99 < within.max() < 1 + 1e-4
    assert abs(within.mean() - 0.5) < 4 * (1 / 12 / within.numel()) ** 0.5


def test_continuous_images_cannot_be_dequantised():
    with pytest.raises(InputError, match=r"dequantize=true needs pixels on 256 grey levels, but x_train holds 0\.\d"):
        prepare(source(), dequantize=True)


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_binary_pixels_cannot_be_dequantised(binarize):
    with pytest.raises(InputError, match=rf"dequantize=true and dataset\.binarize={binarize} exclude"):
        prepare(source(), binarize=binarize, dequantize=True)


# --- the fingerprint


def test_the_fingerprint_does_not_depend_on_what_is_drawn():
    prints = {
        prepare(source(BYTES), **extra).fingerprint for extra in ({}, {"binarize": "static"}, {"dequantize": True})
    }
    assert len(prints) == 1


@pytest.mark.parametrize("part", ["x_train", "y_train", "x_test", "y_test"])
def test_the_fingerprint_changes_with_one_pixel_or_label(part):
    changed = getattr(source(BYTES), part).copy()
    changed.flat[7] ^= 1
    assert prepare(source(BYTES, **{part: changed})).fingerprint != prepare(source(BYTES)).fingerprint


def test_the_fingerprint_changes_with_the_shape_and_with_labels_alone():
    tall = BYTES.reshape(400, 1, 4, 5)
    assert len({prepare(s).fingerprint for s in (source(BYTES), source(tall), source(BYTES, y=None))}) == 3


def test_the_fingerprint_changes_with_a_factor():
    other = FACTORS[:300].copy()
    other[7, 2] += 1
    known = (source(), source(**KNOWN), source(**KNOWN | {"factors_train": other}))
    assert len({prepare(s).fingerprint for s in known}) == 3


# --- what is refused


def with_value(value: float) -> np.ndarray:
    x = GREY[:300].copy()
    x[17, 0, 2, 3] = value
    return x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": with_value(np.nan)}, r"x_train has 1 images .* image 17 \(from nan to nan\)"),
        ({"x_train": with_value(np.inf)}, r"x_train has 1 images .* image 17 \(from .* to inf\)"),
        ({"x_train": with_value(-0.5)}, r"x_train has 1 images .* image 17 \(from -0.5"),
        ({"x_test": GREY[300:] * 255}, r"x_test has 100 images with values that are not in \[0, 1\].*image 0"),
        ({"x_train": GREY[:300].astype(np.float64)}, "x_train has type float64"),
        ({"x_test": BYTES[300:].astype(np.int64)}, "x_test has type int64"),
        ({"x_train": GREY[:300, 0]}, r"x_train has shape \(300, 5, 4\)"),
        ({"x_train": GREY[:300, :0]}, r"x_train has shape \(300, 0, 5, 4\)"),
        ({"x_test": GREY[300:, :, :4]}, r"x_train has images of shape \(1, 5, 4\) and x_test of \(1, 4, 4\)"),
        ({"x_train": GREY[:9], "y_train": LABELS[:9]}, "x_train has 9 images: expected at least 10"),
        ({"x_test": GREY[:1], "y_test": LABELS[:1]}, "x_test has 1 images: expected at least 2"),
        ({"y_train": LABELS[:299]}, r"y_train has shape \(299,\), but there are 300 images"),
        ({"y_test": LABELS[300:, None]}, r"y_test has shape \(100, 1\), but there are 100 images"),
        ({"y_train": LABELS[:300] * 1.0}, "y_train has type float64"),
        ({"y_train": LABELS[:300] - 1}, "y_train holds labels from -1 to 2"),
        ({"y_test": LABELS[300:] + 300}, "y_test holds labels from 303 to 303"),
        ({"y_test": None}, "y_train is there but y_test is not"),
        ({"y_train": None}, "y_test is there but y_train is not"),
        (KNOWN | {"factors_test": None}, "factors_train is there but factors_test is not: give factors for both"),
        (KNOWN | {"factors_train": FACTORS}, r"factors_train has shape \(400, 3\), but there are 300 images"),
        (KNOWN | {"factors_test": FACTORS[300:, 0]}, r"factors_test has shape \(100,\), but there are 100 images"),
        (KNOWN | {"factors_test": FACTORS[300:, :2]}, "factors_train has 3 factors an image and factors_test 2"),
        (
            KNOWN | {"factors_train": FACTORS[:300] * np.float32(np.inf)},
            "factors_train holds values that are not finite",
        ),
        (KNOWN | {"factors_train": FACTORS[:300].astype(np.float64)}, "factors_train has type float64"),
        (MODES | {"mode_sigma": None}, "modes and mode_sigma belong together"),
        (MODES | {"modes": GREY[:7, 0]}, r"modes has type float32 and shape \(7, 5, 4\): .* \[modes, 1, 5, 4\]"),
        (MODES | {"modes": with_value(np.nan)}, "modes must be finite"),
        (MODES | {"mode_sigma": 0.0}, r"mode_sigma=0\.0 finite and over 0"),
    ],
)
def test_wrong_data_is_refused_and_its_place_named(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(source(**changes))
    assert "\n" not in str(caught.value)
