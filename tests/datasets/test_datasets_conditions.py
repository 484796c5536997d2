"""Sources, conditions and truth: how `prepare` checks, converts, splits and fingerprints them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core import InputError
from bench.data import OnDisk
from bench.datasets import Source, Split, hold_out, prepare, row_hashes
from tests.datasets.sources import BYTES, GREY, LABELS, rows, source

RNG = np.random.default_rng(1)
SMALL = RNG.integers(0, 256, (400, 3, 3, 2), dtype=np.uint8)  # sources, of another size than BYTES
AGE = RNG.uniform(20, 90, 400)
HAIR = np.eye(3, dtype=bool)[RNG.integers(3, size=400)]
POSE = np.eye(4, dtype=bool)[RNG.integers(4, size=(400, 5, 4))].transpose(0, 3, 1, 2)  # [400, 4, 5, 4], a map
WORDS = np.eye(6, dtype=bool)[RNG.integers(6, size=(400, 2, 3))]  # [400, 2, 3, 6], captions
WORDS[::2, :, 2] = False  # padding
VOCABULARY = {"hair": ["black", "blond", "red"], "pose": list("abcd"), "caption": list("uvwxyz")}
CONDITIONS = {"age": AGE, "hair": HAIR, "pose": POSE, "caption": WORDS}
TRUTH = {"person": np.arange(400) % 7, "grey": BYTES[:, 0, 0, 0].astype(np.float64)}
SPLITS = {"train": slice(300), "test": slice(300, None)}


def paired(x=BYTES, pairs=SMALL, conditions=CONDITIONS, truth=TRUTH, vocabulary=VOCABULARY, **changes) -> Source:
    """300 training and 100 test examples with a source, conditions and truth."""
    parts = {f"source_{name}": pairs[index] for name, index in SPLITS.items()}
    for field, arrays in (("conditions", conditions), ("truth", truth)):
        parts |= {f"{field}_{name}": {k: v[index] for k, v in arrays.items()} for name, index in SPLITS.items()}
    return source(x, **parts | {"vocabulary": vocabulary} | changes)


def changed(field: str, split: str = "train", arrays=CONDITIONS, **replaced) -> dict:
    """The changes that replace the arrays of one field in one split; None removes an array."""
    parts = {name: value[SPLITS[split]] for name, value in arrays.items()} | replaced
    return {f"{field}_{split}": {name: value for name, value in parts.items() if value is not None}}


def test_all_fields_stay_with_their_example_in_every_split():
    data = prepare(paired(), split_seed=5)
    number = {row: i for i, row in enumerate(rows(BYTES))}
    for split in (data.train, data.validation, data.test):
        order = [number[row] for row in rows(split.x)]
        assert rows(split.source) == rows(SMALL[order])
        np.testing.assert_array_equal(split.conditions["age"], AGE[order, None].astype(np.float32))
        np.testing.assert_array_equal(split.conditions["hair"], HAIR[order])
        np.testing.assert_array_equal(split.conditions["pose"], POSE[order])
        np.testing.assert_array_equal(split.truth["person"], TRUTH["person"][order])
    assert [len(split.x) for split in (data.train, data.validation, data.test)] == [270, 30, 100]


def test_the_shapes_name_what_examples_come_with():
    data = prepare(paired())
    assert data.shapes.source == (3, 3, 2) and data.shapes.input == (3, 3, 2) and data.shapes.x == (1, 5, 4)
    assert data.shapes.conditions == {"age": (1,), "hair": (3,), "pose": (4, 5, 4), "caption": (2, 3, 6)}
    assert data.shapes.provides == ("label", "source", "age", "hair", "pose", "caption")
    assert data.vocabulary == VOCABULARY


def test_groups_and_limits_apply_to_everything():
    groups = {"group_train": np.arange(300) // 10, "group_test": np.arange(100, 200)}
    data = prepare(paired(**groups), limit=6)
    assert len(data.test.x) == 24 == len(data.test.source) == len(data.test.truth["person"])
    assert len(data.train.x) + len(data.validation.x) == 24
    assert np.intersect1d(data.train.group, data.validation.group).size == 0
    for split in (data.train, data.validation):
        number = {row: i for i, row in enumerate(rows(BYTES))}
        np.testing.assert_array_equal(split.group, [number[row] // 10 for row in rows(split.x)])


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(AGE, torch.float32), (AGE.astype(int), torch.float32), (AGE.astype(np.float16), torch.float32),
     (AGE.astype(np.uint8), torch.uint8), (AGE > 50, torch.bool), (AGE.astype(">f4"), torch.float32)],
    ids=["float64", "int64", "float16", "uint8", "bool", "big-endian"],
)  # fmt: skip
def test_conditions_are_bytes_booleans_or_floats(stored, expected):
    data = prepare(paired(conditions={"age": stored}, vocabulary={}))
    age = data.test.conditions["age"]
    assert age.dtype == expected and age.shape == (100, 1)
    np.testing.assert_array_equal(age[:, 0], stored[300:].astype(np.float32))
    seen = data.read(data.test.rows(slice(3)), None).conditions["age"]
    scale = 255 if expected == torch.uint8 else 1
    np.testing.assert_allclose(seen[:, 0], stored[300:303].astype(np.float32) / scale, rtol=1e-6)


def test_truth_is_kept_as_whole_numbers_floats_or_bytes():
    faces = RNG.integers(0, 256, (100, 3, 1, 5, 4), dtype=np.uint8)
    data = prepare(paired(**changed("truth", "test", TRUTH, faces=faces, old=AGE[300:] > 50)))
    assert {name: part.dtype for name, part in data.test.truth.items()} == {
        "person": torch.int64, "grey": torch.float32, "faces": torch.uint8, "old": torch.bool
    }  # fmt: skip
    assert data.test.truth["faces"].shape == faces.shape
    assert [*data.train.truth] == [*data.validation.truth] == ["person", "grey"]


# --- sources


def test_sources_are_stored_like_images_and_share_their_range():
    signed = (SMALL / 127.5 - 1).astype(np.float32)
    data = prepare(paired(BYTES / 127.5 - 1, signed))
    assert data.range == (-1, 1) and data.train.source.dtype == torch.uint8
    assert data.fingerprint == prepare(paired()).fingerprint
    mixed = prepare(paired(GREY, SMALL.astype(np.float32) / 255))
    assert (mixed.train.x.dtype, mixed.train.source.dtype) == (torch.float32, torch.uint8)
    dim = prepare(paired(BYTES // 4, SMALL))  # dark images alone would have no known range
    assert dim.range == (0, 255)
    given = prepare(paired(BYTES.astype(int) * 10, SMALL.astype(int) * 10), range=(0, 2550))
    assert given.fingerprint == prepare(paired()).fingerprint


def test_sources_are_neither_binarised_nor_dequantised():
    plain = prepare(paired())
    for options in ({"binarize": "static"}, {"binarize": "dynamic"}, {"dequantize": True}):
        data = prepare(paired(), **options)
        assert torch.equal(data.test.source, plain.test.source) and data.fingerprint == plain.fingerprint
    assert set(prepare(paired(), binarize="static").test.x.unique().tolist()) == {0, 255}


def test_sources_on_disk_are_read_like_those_in_memory():
    hashes = row_hashes(SMALL)
    disk = {f"source_{name}": OnDisk(SMALL, hashes, np.arange(400)[index]) for name, index in SPLITS.items()}
    one, other = prepare(paired(**disk)), prepare(paired())
    assert isinstance(one.train.source, OnDisk) and one.fingerprint == other.fingerprint
    assert torch.equal(one.train.source[:], other.train.source) and one.shapes == other.shapes
    batch = one.read(one.train.rows(slice(2)), None)
    assert torch.equal(batch.input, other.train.source[:2].float() / 255)


# --- the fingerprint


def test_the_fingerprint_of_data_without_sources_conditions_and_truth_is_fixed():
    assert prepare(source(BYTES)).fingerprint == "7f105ce9289d7ef8"
    assert prepare(source(GREY, y=None)).fingerprint == "3a5703fff20067d5"


def test_the_fingerprint_changes_with_every_value_name_type_and_word():
    other = SMALL.copy()
    other[7, 0, 0, 0] ^= 1
    turned = HAIR.copy()
    turned[8] = turned[8][[1, 2, 0]]
    named = {"years" if name == "age" else name: value for name, value in CONDITIONS.items()}
    versions = [
        paired(),
        paired(pairs=other),
        paired(pairs=SMALL.reshape(400, 3, 2, 3)),
        paired(conditions=CONDITIONS | {"hair": turned}),
        paired(conditions=CONDITIONS | {"age": AGE.astype(np.uint8)}),
        paired(conditions=CONDITIONS | {"age": AGE.astype(np.uint8).astype(float)}),
        paired(conditions=named),
        paired(truth=TRUTH | {"person": TRUTH["person"][::-1]}),
        paired(truth={}),
        paired(vocabulary=VOCABULARY | {"hair": ["black", "red", "blond"]}),
        paired(vocabulary={}),
        source(BYTES),
    ]
    assert len({prepare(version).fingerprint for version in versions}) == len(versions)


# --- warnings


def own_validation(**changes) -> Source:
    """Without warnings: 270, 30 and 100 examples, each with a different image and source."""
    parts = {"train": slice(270), "validation": slice(270, 300), "test": slice(300, 400)}
    known = {f"{field}_{name}": a[i] for name, i in parts.items() for field, a in [("x", BYTES), ("source", SMALL)]}
    return source(y=None, **known | changes)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, None),
        ({"source_test": SMALL[170:270]}, "100 of 100 test sources are also training sources"),
        ({"source_validation": SMALL[240:270]}, "30 of 30 validation sources are also training sources"),
        ({"source_test": SMALL[[*range(301, 400), 299]]}, "1 of 100 test sources are also validation sources"),
        ({"source_test": np.r_[SMALL[300:398], SMALL[:2] * 0 + [[[[9]]], [[[8]]]]].astype(np.uint8)},
         "2 of 100 test sources are constant"),
        ({"source_test": SMALL[[300, *range(300, 399)]], "x_test": BYTES[[300, *range(300, 399)]]},
         "1 of 100 test pairs repeat another test pair"),
        ({"x_test": BYTES[[300, *range(300, 399)]]}, None),  # one image of two sources
        ({"source_test": SMALL[300:] // 9}, "the brightest test source pixel is 28, but the brightest training source "
         "pixel is 255: check that source_test and source_train are stored in the same range"),
    ],
    ids=["nothing", "in train", "validation in train", "in validation", "constant", "repeated", "one image", "dark"],
)  # fmt: skip
def test_sources_that_make_metrics_doubtful_are_warned_about(changes, line):
    assert list(prepare(own_validation(**changes)).warnings) == ([line] if line else [])


def without(word: int, arrays: np.ndarray) -> np.ndarray:
    """One-hot arrays [..., V] with the next word in place of this one."""
    arrays = arrays.copy()
    arrays[..., (word + 1) % arrays.shape[-1]] |= arrays[..., word]
    arrays[..., word] = False
    return arrays


@pytest.mark.parametrize(
    ("seen", "lines"),
    [
        ({"hair": without(2, HAIR[:300])}, ["no training example has the hair of some test examples: red"]),
        ({"caption": without(5, without(4, WORDS[:300]))},
         ["no training example has the caption of some test examples: y, z"]),
        ({"pose": without(0, POSE[:300].swapaxes(1, 3)).swapaxes(1, 3)},
         ["no training example has the pose of some test examples: a"]),
        ({}, []),
    ],
    ids=["class", "words", "map", "none"],
)  # fmt: skip
def test_words_that_only_test_examples_have_are_warned_about(seen, lines):
    found = prepare(paired(**changed("conditions", **seen))).warnings
    assert [line for line in found if "no training example" in line] == lines


# --- what is refused


def one_value(array: np.ndarray, value: object) -> np.ndarray:
    array = array.copy()
    array[3] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_test": SMALL[300:399]}, r"source_test has shape \(99, 3, 3, 2\), but there are 100 images"),
        ({"source_train": None}, "source_test exists but source_train does not: give source for all splits"),
        ({"source_test": SMALL[300:, :, :2]}, r"source_train has images of shape \(3, 3, 2\) and source_test of"),
        ({"source_train": SMALL[:300, 0]}, r"source_train has images of shape \(3, 2\) and source_test of \(3, 3, 2\)"),
        ({"source_train": SMALL[:300, 0, 0]}, r"source_train has shape \(300, 2\): expected \["),
        ({"source_train": one_value(SMALL[:300].astype(float), np.nan)}, "source_train has 1 images with values that"),
        ({"source_train": SMALL[:300] / 255, "source_test": SMALL[300:] / 255},
         r"source_train has values from 0 to 1, but the training images have the range \[0, 255\]"),
        (changed("conditions", age=AGE[:299]), r"conditions_train/age has shape \(299,\), but there are 300 images"),
        (changed("conditions", age=None), "conditions_test has age but conditions_train does not"),
        (changed("conditions", "test", hair=None), "conditions_train has hair but conditions_test does not"),
        (changed("conditions", age=one_value(AGE[:300], np.inf)),
         "conditions_train/age has 1 rows with values that are not finite numbers, the first of them row 3"),
        (changed("conditions", "test", age=one_value(AGE[300:], 1e300)), "conditions_test/age has 1 rows"),
        (changed("conditions", age=AGE[:300].astype(str)), "conditions_train/age has type <U.*: expected numbers"),
        (changed("conditions", "test", age=AGE[300:, None].repeat(2, 1)),
         r"conditions_train/age has rows of type float32 and shape \(1,\), but conditions_test/age has rows of type"),
        (changed("conditions", "test", hair=HAIR[300:].astype(float)), "conditions_test/hair has rows of type float32"),
        ({"conditions": CONDITIONS | {"hair": HAIR.astype(np.uint8)}, "vocabulary": {}},
         "conditions_train/hair holds only 0 and 1 as uint8, but models see uint8 divided by 255: store booleans"),
        ({"conditions": {"label": AGE}}, "conditions_train/label: that name has another meaning; .*given_label"),
        ({"conditions": {"input": AGE}}, "conditions_train/input: that name has another meaning"),
        ({"conditions": {"eye colour": AGE}}, "conditions_train/eye colour: use letters, digits and _; .* eye_colour"),
        ({"vocabulary": VOCABULARY | {"hair": ["black", "red"]}},
         r"conditions_train/hair has type bool and shape \(300, 3\), and 2 words .* \[N, ..., 2\], or \[N, 2, H, W\]"),
        ({"vocabulary": {"age": ["old"]}}, "conditions_train/age has type float32"),
        (changed("conditions", "test", hair=one_value(HAIR[300:], True)),
         "conditions_test/hair is true for several words at once: expected one-hot rows"),
        ({"vocabulary": {"hat": ["top"]}}, "words for hat: .*one of age, caption, grey, hair, person, pose"),
        (changed("truth", arrays=TRUTH, person=np.arange(299)), r"truth_train/person has shape \(299,\), but there"),
        (changed("truth", "test", TRUTH, grey=AGE[300:].astype(str)), "truth_test/grey has type <U"),
        (changed("truth", "test", TRUTH, person=np.arange(200).reshape(100, 2)),
         r"truth_train/person has rows of type int64 and shape \(\), but truth_test/person has"),
        (changed("truth", arrays=TRUTH, person=np.arange(300) - 1),
         "truth_train/person has values from -1 to 298: expected class numbers from 0; store other numbers as floats"),
        ({f"{field}_{name}": part[:0] for name in ("train", "test") for field, part in (("x", BYTES), ("source", SMALL),
          ("y", LABELS))} | {"conditions": {"age": AGE[:0].astype(np.uint8), "size": AGE[:0]},
          "truth": {"person": TRUTH["person"][:0]}, "vocabulary": {}}, "x_train has 0 images"),
        ({"vocabulary": {"person": list("abcdef")}}, "truth_train/person has values from 0 to 6: expected 0 to 5"),
    ],
)  # fmt: skip
def test_wrong_parts_are_refused_and_the_split_and_the_array_are_named(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(paired(**changes))
    assert "\n" not in str(caught.value)


def test_held_out_examples_keep_everything():
    whole = Split(BYTES, LABELS, source=SMALL, conditions={"age": AGE}, truth=TRUTH)
    held_out = hold_out(whole)
    number = {row: i for i, row in enumerate(rows(BYTES))}
    for split in (held_out.train, held_out.test):
        order = [number[row] for row in rows(split.x)]
        np.testing.assert_array_equal(split.conditions["age"], AGE[order])
        np.testing.assert_array_equal(split.truth["person"], TRUTH["person"][order])
        assert rows(split.source) == rows(SMALL[order])
    with pytest.raises(InputError, match=r"conditions/age has shape \(399,\), but there are 400 images"):
        hold_out(whole._replace(conditions={"age": AGE[:399]}))


def test_a_range_that_is_not_known_is_asked_for_with_both_arrays():
    with pytest.raises(
        InputError, match=r"x_train with source_train has values from 0 .* to 2550 .* Set dataset\.range="
    ):
        prepare(paired(BYTES.astype(int) * 10, SMALL))
