"""Splits, binarisation, dequantisation and the fingerprint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core import InputError
from bench.data import OnDisk
from bench.datasets import Source, Split, hold_out, load, prepare, row_hashes
from bench.draws import Draws
from tests.datasets.sources import BYTES, FACTORS, GREY, LABELS, rows, source

KNOWN = {"factors_train": FACTORS[:300], "factors_test": FACTORS[300:]}
MODES = {"modes": GREY[:7], "mode_sigma": 0.1}
OWN = {"x_train": BYTES[:270], "y_train": LABELS[:270], "x_validation": BYTES[270:300], "y_validation": LABELS[270:300]}


def test_train_and_validation_are_disjoint_and_complete():
    data = prepare(source(), validation=25)
    train, validation = rows(data.train.x), rows(data.validation.x)
    assert (len(train), len(validation)) == (275, 25)
    assert sorted(train + validation) == sorted(rows(GREY[:300]))
    np.testing.assert_array_equal(data.test.x, GREY[300:])


def test_labels_stay_with_their_images():
    label_of = dict(zip(rows(GREY), LABELS, strict=True))
    data = prepare(source())
    for split in (data.train, data.validation, data.test):
        assert [label_of[row] for row in rows(split.x)] == split.label.tolist()


@pytest.mark.parametrize(("validation", "size"), [(5000, 30), (30, 30), (7, 7)])
def test_validation_is_at_most_a_tenth(validation, size):
    assert len(prepare(source(), validation=validation).validation.x) == size


def test_validation_is_stratified():
    data = prepare(source(y=np.tile(np.repeat([0, 1, 2], [10, 30, 60]), 4)))
    assert data.validation.label.bincount().tolist() == [3, 9, 18]


@pytest.mark.parametrize("classes", [31, 60], ids=["more classes than validation images", "at most five of a class"])
def test_every_class_keeps_a_training_image(classes):
    labels = np.arange(400) % classes
    data = prepare(source(y=labels))
    assert len(data.validation.x) == 30 and data.train.label.unique().numel() == classes


def test_the_only_image_of_a_class_is_used_for_training():
    labels = np.r_[np.repeat([0, 1], [99, 200]), 2, np.repeat([0, 1], 50)]
    for seed in range(10):
        data = prepare(source(y=labels), split_seed=seed)
        assert data.validation.label.bincount().tolist() == [10, 20]
    held_out = hold_out(Split(GREY[:300], labels[:300]))
    assert np.bincount(held_out.test.label).tolist() == [20, 40]


def test_classes_of_one_image_each_cannot_be_split():
    with pytest.raises(InputError, match="30 classes in 30 images, too few of each to hold out 6"):
        hold_out(Split(GREY[:30], np.arange(30)))


def test_without_labels_there_are_no_classes():
    data = prepare(source(y=None))
    assert data.shapes.classes == 0 and data.train.label is data.validation.label is data.test.label is None


def test_hold_out_takes_the_same_stratified_fifth_each_time():
    one, two = (hold_out(Split(GREY, LABELS, FACTORS)) for _ in range(2))
    np.testing.assert_array_equal(one.test.x, two.test.x)
    assert np.bincount(one.test.label).tolist() == [8, 16, 24, 32]
    assert sorted(rows(one.train.x) + rows(one.test.x)) == sorted(rows(GREY))
    with pytest.raises(InputError, match="11 images in all: expected at least 12"):
        hold_out(Split(GREY[:11]))


def test_own_validation_images_are_used_unchanged():
    data = prepare(source(BYTES, **OWN))
    np.testing.assert_array_equal(data.train.x, BYTES[:270])
    np.testing.assert_array_equal(data.validation.x, BYTES[270:300])
    np.testing.assert_array_equal(data.validation.label, LABELS[270:300])


@pytest.mark.parametrize("option", [{"validation": 7}, {"split_seed": 1}])
def test_split_options_are_refused_with_own_validation_images(option):
    ((name, value),) = option.items()
    with pytest.raises(InputError, match=rf"dataset\.{name}={value} has no effect: .* its own validation images"):
        prepare(source(BYTES, **OWN), **option)
    one, two = (prepare(source(BYTES, **OWN), split_seed=seed, binarize="static") for seed in (0, 1))
    assert not torch.equal(one.test.x, two.test.x)


# --- limit


def test_limit_keeps_the_first_images_of_each_class_in_each_split():
    data = prepare(source(BYTES, **OWN), limit=5)
    for split, rest in [(data.train, slice(270)), (data.validation, slice(270, 300)), (data.test, slice(300, None))]:
        first = np.sort(np.concatenate([np.flatnonzero(LABELS[rest] == label)[:5] for label in range(4)]))
        np.testing.assert_array_equal(split.x, BYTES[rest][first])
        np.testing.assert_array_equal(split.label, LABELS[rest][first])


def test_limit_keeps_the_first_images_of_a_split_without_labels():
    data = prepare(source(y=None), limit=50)
    assert sorted(rows(data.train.x) + rows(data.validation.x)) == sorted(rows(GREY[:50]))
    np.testing.assert_array_equal(data.test.x, GREY[300:350])


# --- known factors and modes


def test_factors_stay_with_their_images():
    factors_of = dict(zip(rows(GREY), rows(FACTORS), strict=True))
    for data in (prepare(source(**KNOWN)), prepare(hold_out(Split(GREY, LABELS, FACTORS)), split_seed=3)):
        for split in (data.train, data.validation, data.test):
            assert [factors_of[row] for row in rows(split.x)] == rows(split.factors)
    assert prepare(source()).train.factors is None


def test_binarised_data_keep_their_factors_but_not_their_modes():
    plain, static, dynamic = (prepare(source(**KNOWN, **MODES), binarize=how) for how in ("none", "static", "dynamic"))
    np.testing.assert_array_equal(plain.modes, MODES["modes"])
    assert plain.mode_sigma == 0.1
    for data in (static, dynamic):
        assert torch.equal(data.train.factors, plain.train.factors)
        assert data.modes is data.mode_sigma is None


# --- binarisation and dequantisation


@pytest.mark.parametrize("x", [GREY, BYTES], ids=["float32", "uint8"])
def test_static_binarisation_gives_zeros_and_ones_with_the_pixels_mean(x):
    data = prepare(source(x), binarize="static")
    plain = prepare(source(x))
    for name in ("train", "validation", "test"):
        seen = data.observe(getattr(data, name).x, draws=None)
        grey = plain.observe(getattr(plain, name).x, draws=None).double()
        assert set(seen.unique().tolist()) == {0.0, 1.0}
        error = (grey * (1 - grey)).sum().sqrt() / grey.numel()  # of the mean of independent Bernoulli pixels
        assert abs(seen.double().mean() - grey.mean()) < 4 * error


def test_static_binarisation_keeps_black_and_white():
    x = np.where(BYTES > 127, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(prepare(source(x), binarize="static").test.x, x[300:])


def test_static_binarisation_depends_on_the_split_seed_and_differs_between_splits():
    half = source(np.tile(np.float32([[0.5, 0.5001]]), (400, 1, 1, 10)), y=None, range=(0, 1))
    half.train.x[0] = 0.5  # not all images may be the same
    one, again, other = (prepare(half, split_seed=seed, binarize="static") for seed in (0, 0, 1))
    assert torch.equal(one.test.x, again.test.x) and torch.equal(one.train.x, again.train.x)
    assert not torch.equal(one.test.x, other.test.x)
    assert not torch.equal(one.test.x[:30], one.validation.x) and not torch.equal(one.test.x, one.train.x[:100])


def test_dynamic_binarisation_depends_only_on_the_draws():
    data = prepare(source(BYTES), binarize="dynamic")
    np.testing.assert_array_equal(data.test.x, BYTES[300:])
    one, again, other = (data.observe(data.test.x, Draws(0, step)) for step in (1, 1, 2))
    assert set(one.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(one, again) and not torch.equal(one, other)


SIXTEENTHS = np.round(GREY * 16)


@pytest.mark.parametrize(
    ("x", "options", "levels"),
    [
        (BYTES, {}, 256),
        (BYTES.astype(np.float64) / 255, {}, 256),
        (SIXTEENTHS, {"range": (0, 16)}, 17),
        (SIXTEENTHS / 16, {"grey_levels": 17}, 17),
        (BYTES // 128, {}, 2),
    ],
    ids=["bytes", "fractions of bytes", "range", "grey_levels", "binary"],
)
def test_dequantised_values_fill_the_grey_levels_of_the_range(x, options, levels):
    data = prepare(source(x), dequantize=True, **options)
    assert data.grey_levels == levels
    level = torch.from_numpy(np.rint(x[300:] / x.max() * (levels - 1)))
    within = data.observe(data.test.x, Draws(0)).double() * levels - level
    assert -1e-4 < within.min() < 0.01 and 0.99 < within.max() < 1 + 1e-4
    assert abs(within.mean() - 0.5) < 4 * (1 / 12 / within.numel()) ** 0.5


def test_continuous_images_cannot_be_dequantised():
    with pytest.raises(InputError, match=r"dequantize=true needs pixels on 256 grey levels, but x_train holds 0\.\d"):
        prepare(source(), dequantize=True)


@pytest.mark.parametrize(
    ("x", "levels"),
    [(BYTES, 2), (np.where(BYTES > 99, 1, 0.3), 3), (SIXTEENTHS / 16, 16), (BYTES, 255), (BYTES, 65535), (GREY, 65536)],
)
def test_pixels_between_grey_levels_are_refused(x, levels):
    with pytest.raises(InputError, match=rf"dequantize=true needs pixels on {levels} grey levels, but x_train holds"):
        prepare(source(x), dequantize=True, grey_levels=levels)


@pytest.mark.parametrize("x", [BYTES.astype(np.uint16) * 257, 65535 - BYTES.astype(np.int64) * 200])
def test_16_bits_can_be_dequantised(x):
    data = prepare(source(x), range=(0, 65535), dequantize=True)
    assert data.grey_levels == 65536
    seen = data.observe(data.test.x, Draws(0)).double() * 65536
    assert (seen - torch.from_numpy(x[300:].astype(float))).sub(0.5).abs().max() < 0.51


@pytest.mark.parametrize("levels", [1, 0, 65537])
def test_an_impossible_number_of_grey_levels_is_refused(npz_file, levels):
    options = {"_target_": "bench.datasets.arrays.arrays", "path": str(npz_file), "dequantize": True}
    with pytest.raises(InputError, match=rf"dataset\.grey_levels={levels}: .*(2|65536)"):
        load(options | {"grey_levels": levels})


def test_a_range_of_too_many_grey_levels_is_refused():
    with pytest.raises(InputError, match=r"dequantize=true: the range has 100001 grey levels, but at most 65536 are"):
        prepare(source(BYTES.astype(int) * 390), range=(0, 100_000), dequantize=True)


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_binary_pixels_cannot_be_dequantised(binarize):
    with pytest.raises(InputError, match=rf"dequantize=true and dataset\.binarize={binarize} exclude each other"):
        prepare(source(), binarize=binarize, dequantize=True)


def test_grey_levels_without_dequantisation_are_refused():
    with pytest.raises(InputError, match=r"dataset\.grey_levels=17 has no effect without dataset\.dequantize=true"):
        prepare(source(), grey_levels=17)


# --- examples for judges


def test_examples_for_judges_have_x_and_truth_and_are_fingerprinted():
    judging = Split(BYTES[:7], LABELS[:7], conditions={"known": FACTORS[:7]}, truth={"colour": np.arange(7)})
    kept = prepare(source(BYTES, range=(0, 255), judging=judging))
    assert torch.equal(kept.judging.x, torch.from_numpy(BYTES[:7])) and kept.judging.label is None
    assert kept.judging.truth["colour"].dtype == torch.int64 and not kept.judging.conditions
    none, other = (
        prepare(source(BYTES, range=(0, 255), judging=part)) for part in (None, judging._replace(x=BYTES[1:8]))
    )
    assert none.judging is None and len({data.fingerprint for data in (none, kept, other)}) == 3


def test_examples_for_judges_are_binarised_like_those_that_judges_are_tested_on():
    judging = Split(BYTES[:200], truth={"colour": np.arange(200)})
    plain = prepare(source(BYTES, range=(0, 255)), binarize="static")
    data, again, other = (
        prepare(source(BYTES, range=(0, 255), judging=judging), binarize="static", split_seed=seed)
        for seed in (0, 0, 1)
    )
    x, share = data.judging.x, torch.from_numpy(BYTES[:200]) / 255
    assert set(x.unique().tolist()) == {0, 255} and (x / 255 - share).mean().abs() < 0.02
    assert x[share == 1].min() == 255 and x[share == 0].max() == 0
    assert torch.equal(x, again.judging.x) and not torch.equal(x, other.judging.x)
    assert torch.equal(data.train.x, plain.train.x) and torch.equal(data.test.x, plain.test.x)
    grey = prepare(source(BYTES, range=(0, 255), judging=judging), binarize="dynamic").judging.x
    assert torch.equal(grey, torch.from_numpy(BYTES[:200])), "drawn each time that a judge reads them"


# --- the fingerprint


def print_of(*arguments, **changes) -> str:
    return prepare(source(*arguments, **changes)).fingerprint


def test_the_fingerprint_does_not_depend_on_binarisation_or_dequantisation():
    options = ({}, {"binarize": "static"}, {"dequantize": True})
    assert len({prepare(source(BYTES), **extra).fingerprint for extra in options}) == 1


def test_the_fingerprint_changes_with_the_grey_levels_that_dequantisation_fills():
    masks = BYTES // 128
    zero_one, full = (prepare(source(x), dequantize=True) for x in (masks, masks * 255))
    assert (zero_one.grey_levels, full.grey_levels) == (2, 256) and torch.equal(zero_one.train.x, full.train.x)
    assert zero_one.fingerprint != full.fingerprint
    same = prepare(source(masks * 255), dequantize=True, grey_levels=2)
    assert same.fingerprint == zero_one.fingerprint
    assert print_of(masks) == print_of(masks * 255)


def test_the_fingerprint_changes_with_the_number_of_classes():
    declared = [prepare(source(BYTES, classes=range(n))) for n in (4, 5, 6)]
    assert [data.shapes.classes for data in declared] == [4, 5, 6]
    assert len({data.fingerprint for data in declared}) == 3 and declared[0].fingerprint == print_of(BYTES)


def test_the_fingerprint_changes_with_the_modes():
    prints = [print_of(**MODES | change) for change in ({}, {"mode_sigma": 0.2}, {"modes": GREY[1:8]})]
    assert len({print_of(), *prints}) == 4 and print_of(**MODES) == prints[0]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("field", ["x", "label", "factors", "group"])
def test_the_fingerprint_changes_with_one_value_of_any_split(split, field):
    groups = {f"group_{name}": np.arange(n) + shift for name, n, shift in [("test", 100, 0), ("validation", 30, 100)]}
    factors = {f"factors_{name}": FACTORS[:n] for name, n in [("train", 270), ("validation", 30), ("test", 100)]}
    whole = source(BYTES, **OWN, **factors, **groups, group_train=np.arange(270) % 200 + 130)
    part = getattr(getattr(whole, split), field).copy()
    part.flat[7] = part.flat[8] if part.flat[7] != part.flat[8] else part.flat[9]
    changed = whole._replace(**{split: getattr(whole, split)._replace(**{field: part})})
    assert prepare(changed).fingerprint != prepare(whole).fingerprint


def test_the_fingerprint_changes_with_the_shape_and_with_the_presence_of_labels():
    tall = BYTES.reshape(400, 1, 4, 5)
    assert len({print_of(BYTES), print_of(tall), print_of(BYTES, y=None)}) == 3


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (BYTES.astype(np.int64), LABELS.astype(np.uint8)),
        (BYTES / np.float32(255), LABELS.astype(float)),
        (BYTES / np.float64(255), LABELS[:, None]),
        ((BYTES / np.float32(127.5) - 1).astype(np.float32), LABELS + 1),
        (BYTES.astype(">u2"), np.eye(4)[LABELS]),
        (np.asfortranarray(BYTES), np.array(list("abcd"))[LABELS]),
    ],
    ids=["int64", "float32", "float64", "[-1, 1]", "big-endian", "Fortran"],
)
def test_the_fingerprint_does_not_depend_on_the_storage_format(x, y):
    assert print_of(x, y) == print_of(BYTES)


# --- images that stay on disk


@pytest.fixture
def on_disk(tmp_path) -> Source:
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, BYTES.shape)
    file[:] = BYTES
    file.flush()
    x = OnDisk(np.load(tmp_path / "x.npy", mmap_mode="r"))
    return source(x=x, x_train=x.rows(slice(300)), x_test=x.rows(slice(300, None)))


def test_images_on_disk_are_split_and_read_like_those_in_memory(on_disk):
    disk, memory = prepare(on_disk, split_seed=3), prepare(source(BYTES), split_seed=3)
    assert (disk.fingerprint, disk.shapes, disk.warnings) == (memory.fingerprint, memory.shapes, memory.warnings)
    for name in ("train", "validation", "test"):
        lazy, tensor = getattr(disk, name).x, getattr(memory, name).x
        assert isinstance(lazy, OnDisk) and lazy.shape == tensor.shape and lazy.dtype == tensor.dtype
        assert torch.equal(lazy[:], tensor) and torch.equal(torch.cat(list(lazy.split(7))), tensor)
        index = torch.tensor([[3, 1, 1], [0, 9, 2]])
        assert torch.equal(disk.observe(lazy, None), memory.observe(tensor, None)) and torch.equal(lazy[3], tensor[3])
        assert torch.equal(lazy[index], tensor[index]) and torch.equal(lazy.cpu()[4:6], tensor[4:6])


def test_stored_hashes_of_images_on_disk_are_used(on_disk):
    hashes = row_hashes(BYTES)
    train = OnDisk(BYTES, hashes, np.arange(300))
    assert prepare(on_disk._replace(train=Split(train, LABELS[:300]))).fingerprint == prepare(on_disk).fingerprint
    train = OnDisk(np.zeros_like(BYTES), hashes, np.arange(300))
    assert prepare(on_disk._replace(train=Split(train, LABELS[:300]))).fingerprint == prepare(on_disk).fingerprint


def test_images_on_disk_can_only_be_binarised_dynamically(on_disk):
    assert prepare(on_disk, binarize="dynamic").binarize == "dynamic"
    with pytest.raises(InputError, match=r"stay on disk: set dataset\.binarize=dynamic"):
        prepare(on_disk, binarize="static")


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": GREY[:300].astype(complex)}, "x_train has type complex128: expected numbers"),
        ({"x_train": GREY[:300, 0]}, r"x_train has images of shape \(5, 4\) and x_test of \(1, 5, 4\)"),
        ({"x_train": GREY[:300, 0, 0]}, r"x_train has shape \(300, 4\)"),
        ({"x_train": GREY[:300, :0]}, r"x_train has shape \(300, 0, 5, 4\)"),
        ({"x_test": GREY[300:, :, :4]}, r"x_train has images of shape \(1, 5, 4\) and x_test of \(1, 4, 4\)"),
        ({"x_train": GREY[:9], "y_train": LABELS[:9]}, "x_train has 9 images: expected at least 10"),
        ({"x_test": GREY[:1], "y_test": LABELS[:1]}, "x_test has 1 images: expected at least 2"),
        ({"x_validation": GREY[:5]}, "y_train exists but y_validation does not"),
        ({"y_test": None}, "y_train exists but y_test does not: give y for all splits, or for none"),
        ({"y_train": None}, "y_test exists but y_train does not"),
        (KNOWN | {"factors_test": None}, "factors_train exists but factors_test does not"),
        (KNOWN | {"factors_train": FACTORS}, r"factors_train has shape \(400, 3\), but there are 300 images"),
        (KNOWN | {"factors_test": FACTORS[300:, 0]}, r"factors_test has shape \(100,\), but there are 100 images"),
        (KNOWN | {"factors_test": FACTORS[300:, :2]}, "factors_train has 3 factors an image and factors_test 2"),
        (
            KNOWN | {"factors_train": FACTORS[:300] * np.float32(np.inf)},
            "factors_train holds values that are not finite",
        ),
        (KNOWN | {"factors_train": FACTORS[:300].astype(str)}, "factors_train has type <U"),
        (MODES | {"mode_sigma": None}, "modes and mode_sigma belong together"),
        (MODES | {"modes": GREY[:7, 0]}, r"modes has type float32 and shape \(7, 5, 4\): .* \[modes, 1, 5, 4\]"),
        (MODES | {"modes": GREY[:7] * np.float32(np.nan)}, "modes must be finite"),
        (MODES | {"mode_sigma": 0.0}, r"mode_sigma=0\.0 finite and greater than 0"),
    ],
)
def test_wrong_data_are_refused_and_the_array_is_named(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(source(**changes))
    assert "\n" not in str(caught.value)
