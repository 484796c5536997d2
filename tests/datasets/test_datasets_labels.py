"""Labels of every type, and groups that are never divided between splits."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core import InputError
from bench.datasets import Split, hold_out, prepare
from tests.datasets.sources import GREY, LABELS, source

NAMES = np.array(["ape", "bee", "cat", "dog"])


@pytest.mark.parametrize(
    "y",
    [
        *(LABELS.astype(dtype) for dtype in (np.uint8, np.int8, np.int16, np.uint64, np.float16, np.float64, ">i4")),
        LABELS[:, np.newaxis],
        LABELS[:, np.newaxis].astype(float),
        LABELS + 1,
        LABELS * 1000 - 7,
        np.eye(4)[LABELS],
        np.eye(4, dtype=bool)[LABELS],
        np.eye(6, dtype=np.uint8)[LABELS],
        NAMES[LABELS],
        NAMES.astype("S")[LABELS],
        NAMES.astype(object)[LABELS],
        np.array(["-1", "8", "9", "10"])[LABELS],
        LABELS.astype(object),
        LABELS.tolist(),
    ],
)
def test_classes_are_numbered_in_the_order_of_their_values(y):
    data = prepare(source(y=np.asarray(y)))
    assert data.shapes.classes == 4 and data.test.label.tolist() == LABELS[300:].tolist()


def test_booleans_are_two_classes():
    data = prepare(source(y=LABELS > 1))
    assert data.shapes.classes == 2 and data.test.label.tolist() == (LABELS[300:] > 1).astype(int).tolist()


def test_strings_that_look_like_equal_numbers_stay_different_classes():
    data = prepare(source(y=np.array(["1", "01", "2", "x"])[LABELS]))
    assert data.shapes.classes == 4


@pytest.mark.parametrize("names", [["1", "2", "3", "x"], [b"1", b"2", b"3", b"\xff"], ["1", "2", "3", "9" * 30]])
def test_a_split_in_which_all_names_look_like_numbers_has_the_same_classes(names):
    y = np.array(names)[LABELS]
    few = y[300:][LABELS[300:] < 3]
    data = prepare(source(y_train=y[:300], x_test=GREY[300:][LABELS[300:] < 3], y_test=few))
    assert data.shapes.classes == 4 and data.test.label.tolist() == LABELS[300:][LABELS[300:] < 3].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": LABELS[:299]}, r"y_train has shape \(299,\), but there are 300 images"),
        ({"y_train": LABELS[:300] + 0.5}, "y_train holds values that are not whole numbers"),
        ({"y_train": np.full(300, np.nan)}, "y_train holds values that are not whole numbers"),
        ({"y_train": np.full(300, 1e300)}, "y_train holds values that are not whole numbers"),
        ({"y_train": np.tile([[1, 0, 1]], (300, 1))}, r"y_train has shape \(300, 3\), and its rows are not one-hot"),
        ({"y_train": np.zeros((300, 3))}, "its rows are not one-hot"),
        ({"y_train": np.zeros((300, 2, 2))}, r"y_train has shape \(300, 2, 2\)"),
        ({"y_train": LABELS[:300].astype(complex)}, "y_train has type complex128"),
        ({"y_train": np.array(["a", None] * 150, dtype=object)}, "y_train mixes NoneType, str: expected one kind"),
        (
            {"y_test": LABELS[300:] + 2},
            r"y_test has \d+ labels that are not in y_train: 4, 5; expected 0, 1, 2, 3: r",
        ),
        (
            {"y_test": NAMES[LABELS[300:]]},
            "100 labels that are not in y_train: ape, bee, cat, dog; expected 0",
        ),
        ({"classes": range(3)}, r"y_train has \d+ labels that are not among the classes: 3; expected 0, 1, 2"),
    ],
)
def test_invalid_labels_are_refused(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(source(**changes))
    assert "\n" not in str(caught.value)


def test_a_validation_label_that_is_not_in_training_is_refused():
    with pytest.raises(InputError, match=r"y_validation has 20 labels that are not in y_train: 9"):
        prepare(source(x_validation=GREY[:20], y_validation=np.full(20, 9)))


def test_many_unknown_labels_are_counted():
    with pytest.raises(InputError, match=r"not in y_train: 300, 301, 302, 303, 304, \.\.\. \(100 in all\)"):
        prepare(source(y_test=np.arange(300, 400)))


def test_declared_classes_need_no_training_image():
    data = prepare(source(classes=range(6)))
    assert data.shapes.classes == 6 and "2 of 6 classes have no training images" in data.warnings


# --- groups


def groups_of(data) -> list[set]:
    return [set(split.group.tolist()) for split in (data.train, data.validation, data.test)]


@pytest.mark.parametrize("people", [3, 6, 40, 150])
@pytest.mark.parametrize("y", [None, LABELS], ids=["unlabelled", "labelled"])
def test_no_group_is_in_two_splits(people, y):
    person = np.random.default_rng(1).permutation(np.arange(400) % people)
    data = prepare(hold_out(Split(GREY, y, group=person)))
    train, validation, test = groups_of(data)
    assert not train & validation and not train & test and not validation & test
    assert train | validation | test == set(range(people))
    person_of = {row.tobytes(): p for row, p in zip(GREY, person, strict=True)}
    for split in (data.train, data.validation, data.test):
        assert [person_of[row.numpy().tobytes()] for row in split.x] == split.group.tolist()


def test_splits_with_many_groups_have_the_usual_sizes():
    person = np.arange(400) // 4
    data = prepare(hold_out(Split(GREY, LABELS, group=person)))
    assert len(data.test.x) == pytest.approx(80, abs=8) and len(data.validation.x) == pytest.approx(32, abs=4)


def test_the_split_seed_decides_the_validation_groups():
    people = np.repeat(np.arange(8), [20, 30, 40, 50, 55, 60, 65, 80])
    whole = hold_out(Split(GREY, group=people))
    validation_groups = {frozenset(groups_of(prepare(whole, split_seed=seed))[1]) for seed in range(8)}
    assert len(validation_groups) > 2
    assert groups_of(prepare(whole, split_seed=3)) == groups_of(prepare(whole, split_seed=3))


def test_groups_may_be_strings_and_train_and_test_keep_all_classes():
    speaker = np.array(["george", "jackson", "lucas", "nicolas", "theo", "yweweler"])[np.arange(400) % 6]
    data = prepare(hold_out(Split(GREY, LABELS, group=speaker)))
    assert sorted(set.union(*groups_of(data))) == list(range(6))
    assert all(split.label.unique().numel() == 4 for split in (data.train, data.test))


def test_groups_that_cannot_be_split_with_all_classes_are_refused():
    with pytest.raises(InputError, match=r"dataset\.groups: every way to hold out groups leaves a class without"):
        hold_out(Split(GREY, LABELS, group=LABELS))
    with pytest.raises(InputError, match=r"dataset\.groups: 400 images of 1 group cannot be split"):
        hold_out(Split(GREY, group=np.zeros(400, int)))


def test_a_group_on_both_sides_of_an_own_split_is_refused():
    people = {"group_train": np.arange(300) % 9, "group_test": np.repeat([7, 8, 9, 10], 25)}
    message = r"dataset\.groups: 2 groups are in both train and test \(66 and 50 examples\): 7, 8; each group must"
    with pytest.raises(InputError, match=message):
        prepare(source(**people))
    people["group_train"] = people["group_train"].astype(str)
    with pytest.raises(InputError, match=message):
        prepare(source(**people))
    with pytest.raises(InputError, match=message):
        prepare(source(**people | {"group_test": np.repeat(["7", "8", "a", "b"], 25)}))
    train, validation, test = groups_of(prepare(source(**people | {"group_test": np.repeat([9, 10], 50)})))
    assert train | validation == set(range(9)) and not train & validation and test == {9, 10}
