"""Sources, conditions and truth in arrays of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.core import InputError
from bench.datasets import prepare
from bench.datasets.arrays import arrays
from tests.datasets.conftest import TEST, TRAIN, pixels

AGE = np.random.default_rng(3).uniform(20, 90, TRAIN + TEST)
HAIR = np.array(["red", "black", "blond"])[np.arange(TRAIN + TEST) % 3]
CAPTIONS = np.array([["a", "bird", ""], ["the", "red", "bird"]])[np.arange(TRAIN + TEST) % 2]
WHOLE = {
    "x": pixels(TRAIN + TEST, 6, 4),
    "source": pixels(TRAIN + TEST, 4, 2, 3, seed=1),
    "conditions/age": AGE,
    "conditions/hair": HAIR,
    "conditions/caption": CAPTIONS,
    "truth/hair": HAIR[::-1],
}


def saved(folder: Path, content: dict[str, np.ndarray]) -> str:
    np.savez(folder / "a.npz", **content)
    return str(folder / "a.npz")


def in_parts(content: dict[str, np.ndarray], form: str = "{}_{}") -> dict[str, np.ndarray]:
    """The arrays in a train and a test part: x_train, conditions_train/age, ..."""
    parts = {}
    for name, array in content.items():
        word, slash, own = name.partition("/")
        parts[form.format(word, "train") + slash + own] = array[:TRAIN]
        parts[form.format(word, "test") + slash + own] = array[TRAIN:]
    return parts


def as_npy(folder: Path, content: dict[str, np.ndarray]) -> str:
    for name, array in content.items():
        (folder / "npy" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / "npy" / f"{name}.npy", array)
    return str(folder / "npy")


@pytest.mark.parametrize("save", [saved, as_npy], ids=["npz", "npy"])
@pytest.mark.parametrize("form", ["{}_{}", "{1}_{0}"], ids=["x_train", "train_x"])
def test_sources_conditions_and_truth_are_read(tmp_path, save, form):
    data = prepare(arrays(save(tmp_path, in_parts(WHOLE, form))))
    assert data.shapes.provides == ("source", "age", "caption", "hair") and data.warnings == ()
    assert data.shapes.source == (3, 4, 2) and data.shapes.conditions == {"age": (1,), "caption": (3, 4), "hair": (3,)}
    assert data.vocabulary == {"hair": ["black", "blond", "red"], "caption": ["a", "bird", "red", "the"]}
    np.testing.assert_array_equal(data.test.source, WHOLE["source"][TRAIN:].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data.test.conditions["age"][:, 0], AGE[TRAIN:].astype(np.float32))
    words = np.array(data.vocabulary["hair"])
    np.testing.assert_array_equal(words[data.test.conditions["hair"].int().argmax(1)], HAIR[TRAIN:])
    np.testing.assert_array_equal(words[data.test.truth["hair"]], HAIR[::-1][TRAIN:])
    caption = data.test.conditions["caption"]
    assert caption[0].any(1).tolist() == [True, True, False] and caption[1].all(1).sum() == 0


def test_conditions_of_arrays_that_are_not_split_are_held_out_with_them(tmp_path):
    data = prepare(arrays(saved(tmp_path, WHOLE)))
    assert len(data.test.x) == (TRAIN + TEST) // 5
    age_of = dict(zip([row.tobytes() for row in WHOLE["x"]], AGE, strict=True))
    for split in (data.train, data.validation, data.test):
        expected = [age_of[row.numpy().tobytes()] for row in split.x[:, 0]]
        np.testing.assert_array_equal(split.conditions["age"][:, 0], np.float32(expected))


def test_sources_are_laid_out_like_images(tmp_path):
    rows = {"x": pixels(60, 75), "source": pixels(60, 75, seed=1)}
    source = arrays(saved(tmp_path, rows), image=(3, 5, 5))
    assert source.train.source.shape == source.train.x.shape == (48, 3, 5, 5)
    last = {"x": pixels(60, 3, 8, 3), "source": pixels(60, 4, 4)}
    source = arrays(saved(tmp_path, last), channels="last")
    assert source.train.x.shape == (48, 3, 3, 8) and source.train.source.shape == (48, 1, 4, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (in_parts(WHOLE) | {"source_test": pixels(TEST - 1, 4, 2, 3)}, r"source_test has shape \(23, 3, 4, 2\), but"),
        (in_parts(WHOLE) | {"source_train": pixels(TRAIN, 18)}, r"a\.npz: source_train has shape \(60, 18\); expected"),
        (in_parts(WHOLE) | {"conditions_test/age": AGE}, r"conditions_test/age has shape \(84,\), but there are 24"),
        (in_parts(WHOLE) | {"conditions_test/hair": AGE[:TEST]}, "conditions_test/hair has rows of type float32"),
        (in_parts(WHOLE) | {"test_conditions/hair": HAIR[:TEST]}, "conditions_test/hair and test_conditions/hair, wh"),
        (in_parts(WHOLE) | {"truth_test/hair": np.where(HAIR == "red", "", HAIR)[:TEST]},
         "truth_test/hair has values from -1 to 1: expected 0 to 2"),
        ({"x": WHOLE["x"][:3]}, r"^there are 3 images in .*a\.npz: expected at least 12$"),
        (in_parts(WHOLE | {"conditions/name": np.array([f"person {i}" for i in range(TRAIN + TEST)])}),
         "^the condition name has 84 texts that are all different, such as person 0: expected numbers, or words"),
        (WHOLE | {"conditions/age": AGE[:80]}, r"conditions/age has shape \(80,\), but there are 84 images"),
        ({"x": WHOLE["x"], **in_parts({"conditions/age": AGE})}, "has conditions_train/age and conditions_test/age, "),
        (in_parts({"x": WHOLE["x"]}) | {"conditions/age": AGE},
         "conditions/age, which is not split, .* into conditions_train/age and conditions_test/age, or remove it"),
        (in_parts({"x": WHOLE["x"]}) | {"source": WHOLE["source"]}, "source, which is not split, .* into source_train"),
        (in_parts({"x": WHOLE["x"]}) | {"conditions_train/age": AGE[:TRAIN]}, "conditions_train has age but"),
    ],
)  # fmt: skip
def test_wrong_sources_and_conditions_are_refused_and_the_array_is_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(arrays(saved(tmp_path, content)))
    assert "\n" not in str(caught.value)
