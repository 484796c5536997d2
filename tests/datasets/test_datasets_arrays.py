from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.arrays import arrays
from tests.datasets.conftest import CLASSES, TEST, TRAIN, pixels, saved


def renamed(content: dict[str, np.ndarray], images: str, labels: str) -> dict[str, np.ndarray]:
    """The content under other names: {} in images and labels stands for the split."""
    names = {"x": images, "y": labels}
    return {names[name[0]].format(name[2:]): array for name, array in content.items()}


# --- names


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x_{}", "y_{}"), ("X_{}", "Y_{}"), ("{}_images", "{}_labels"), ("{}_x", "{}_y"), ("images_{}", "targets_{}")],
    ids=["keras", "capitals", "medmnist", "reversed", "words"],
)
@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_arrays_under_all_common_names_give_the_same_data(tmp_path, npz_arrays, images, labels, kind):
    expected = prepare(arrays(saved(tmp_path, npz_arrays)))
    content = renamed(npz_arrays, images, labels)
    if kind == "npz":
        np.savez_compressed(tmp_path / "b.npz", **content)
    else:
        (tmp_path / "b.npz").mkdir()
        for name, array in content.items():
            np.save(tmp_path / "b.npz" / f"{name}.npy", array)
    data = prepare(arrays(str(tmp_path / "b.npz")))
    assert data.fingerprint == expected.fingerprint and data.warnings == ()
    np.testing.assert_array_equal(data.test.label, npz_arrays["y_test"])


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev"])
@pytest.mark.parametrize(("images", "labels"), [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
def test_own_validation_images_are_used(tmp_path, npz_arrays, word, images, labels):
    own = {f"x_{word}": pixels(9, 6, 4, seed=2), f"y_{word}": np.arange(9) % CLASSES}
    data = prepare(arrays(saved(tmp_path, renamed(npz_arrays | own, images, labels))))
    assert len(data.train.x) == TRAIN
    np.testing.assert_array_equal(data.validation.x[:, 0], own[f"x_{word}"])
    assert data.validation.label.tolist() == own[f"y_{word}"].tolist()


def test_medmnist_is_read_as_published(tmp_path):
    content = {}
    for seed, (part, count) in enumerate([("train", 30), ("val", 6), ("test", 9)]):
        content[f"{part}_images"] = pixels(count, 28, 28, 3, seed=seed)
        content[f"{part}_labels"] = (np.arange(count) % 3).astype(np.uint8)[:, np.newaxis]
    data = prepare(arrays(saved(tmp_path, content)))
    assert data.shapes[:2] == ((3, 28, 28), 3) and [len(s.x) for s in (data.train, data.validation, data.test)] == [
        30,
        6,
        9,
    ]
    np.testing.assert_array_equal(data.train.x, content["train_images"].transpose(0, 3, 1, 2))


@pytest.mark.parametrize(("images", "labels"), [("x", "y"), ("X", "y"), ("images", "labels"), ("data", "target")])
@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_a_fifth_is_held_out_if_there_is_no_test_split(tmp_path, images, labels, kind):
    x, y = pixels(60, 6, 4), np.array(["a", "b"] * 30)
    if kind == "npy":
        np.save(tmp_path / f"{images}.npy", x)
        np.save(tmp_path / f"{labels}.npy", y)
    source = arrays(saved(tmp_path, {images: x, labels: y}) if kind == "npz" else str(tmp_path))
    assert (len(source.train.x), len(source.test.x)) == (48, 12)
    assert sorted(source.test.label) == ["a"] * 6 + ["b"] * 6
    label_of = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
    assert [label_of[row.tobytes()] for row in source.test.x] == source.test.label.tolist()


def test_dsprites_has_full_contrast_and_its_factors(tmp_path):
    rng = np.random.default_rng(0)
    latents = np.column_stack([np.ones(90), 1 + np.arange(90) % 3, rng.random((90, 2))])
    content = {"imgs": rng.integers(0, 2, (90, 8, 8), dtype=np.uint8), "latents_values": latents}
    content["latents_classes"] = np.zeros((90, 4), int)
    np.savez(tmp_path / "a.npz", metadata=np.array({"author": "a pickle"}, dtype=object), **content)
    data = prepare(arrays(str(tmp_path / "a.npz")))
    assert (
        data.shapes[:2] == ((1, 8, 8), 3) and data.range == (0, 1) and set(data.train.x.unique().tolist()) == {0, 255}
    )
    assert data.train.factors.shape == (65, 3)
    assert (data.train.factors[:, 0] - 1).tolist() == data.train.label.tolist()
    assert data.warnings == ("a.npz has arrays that were not read: latents_classes, metadata",)


def test_factors_are_read(tmp_path, npz_arrays):
    known = {"factors_train": np.random.default_rng(0).random((TRAIN, 2)), "factors_test": np.ones((TEST, 2))}
    data = prepare(arrays(saved(tmp_path, npz_arrays | known)))
    assert data.train.factors.shape == (54, 2) and (data.test.factors == 1).all()


def test_labels_are_optional_and_unread_arrays_are_named(tmp_path, npz_arrays):
    content = {name: array for name, array in npz_arrays.items() if name.startswith("x")}
    assert prepare(arrays(saved(tmp_path, content))).shapes[:2] == ((1, 6, 4), 0)
    data = prepare(arrays(saved(tmp_path, content | {"speaker_train": np.zeros(60), "notes": np.zeros(3)})))
    assert data.warnings == ("a.npz has arrays that were not read: notes, speaker_train",)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_floats_of_any_width_are_read(tmp_path, npz_arrays, dtype):
    floats = {name: (npz_arrays[name] / 255).astype(dtype) for name in ("x_train", "x_test")}
    data = prepare(arrays(saved(tmp_path, floats)))
    np.testing.assert_allclose(data.observe(data.test.x, None)[:, 0], floats["x_test"].astype(float), atol=1e-6)


@pytest.mark.parametrize("name", ["y", "labels", "Target", "factors"])
def test_labels_that_are_not_split_are_refused_beside_images_that_are(tmp_path, npz_arrays, name):
    content = {key: array for key, array in npz_arrays.items() if key.startswith("x")}
    with pytest.raises(InputError, match=rf"has {name}, which is not split, .* into {name}_train and {name}_test, or "):
        arrays(saved(tmp_path, content | {name: np.zeros((TRAIN + TEST, 1))}))
    source = arrays(saved(tmp_path, npz_arrays | {"labels": np.array(["cat", "dog"]), "target": np.zeros(1)}))
    assert source.warnings == ("a.npz has arrays that were not read: labels, target",)


@pytest.mark.parametrize("name", ["y", "factors"])
def test_split_labels_are_refused_beside_images_that_are_not(tmp_path, npz_arrays, name):
    content = {
        "x": pixels(TRAIN + TEST, 6, 4),
        f"{name}_train": np.zeros((TRAIN, 1)),
        f"{name}_test": np.zeros((TEST, 1)),
    }
    with pytest.raises(InputError, match=f"has {name}_train and {name}_test, but x is not split: split it in the same"):
        arrays(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.random.default_rng(0).integers(0, 2, (60, 14)), "its rows are not one-hot"),
        (np.linspace(0, 1, 60), "not whole numbers"),
    ],
    ids=["multi-label", "continuous"],
)
def test_labels_that_are_no_classes_can_be_left_out(tmp_path, labels, message):
    path = saved(tmp_path, {"x": pixels(60, 6, 4), "y": labels})
    with pytest.raises(InputError, match=rf"{message}.* or leave the labels out .*dataset\.labels=false"):
        arrays(path)
    data = prepare(arrays(path, labels=False))
    assert data.shapes[:2] == ((1, 6, 4), 0) and data.warnings == ("a.npz has arrays that were not read: y",)


def test_leaving_out_labels_that_do_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.labels=false has no effect: .*a\.npz has no labels"):
        arrays(saved(tmp_path, {"x": pixels(60, 6, 4)}), labels=False)


# --- groups


def test_groups_are_read_by_name(tmp_path):
    x, person = pixels(60, 6, 4), np.array(["ada", "bob", "cyd", "dan", "eve"])[np.arange(60) % 5]
    data = load({"_target_": "bench.datasets.arrays.arrays", "groups": "Person"} | {
        "path": saved(tmp_path, {"x": x, "person": person})
    })  # fmt: skip
    groups = [set(split.group.tolist()) for split in (data.train, data.validation, data.test)]
    assert sorted(set.union(*groups)) == [0, 1, 2, 3, 4] and sum(map(len, groups)) == 5


@pytest.mark.parametrize("form", ["speaker_{}", "{}_speaker"])
def test_groups_of_split_data_are_read_and_must_not_overlap(tmp_path, npz_arrays, form):
    content = npz_arrays | {form.format("train"): np.arange(TRAIN) % 5, form.format("test"): np.full(TEST, 5)}
    data = prepare(arrays(saved(tmp_path, content), groups="speaker"))
    assert not set(data.train.group.tolist()) & set(data.validation.group.tolist())
    content[form.format("test")] = np.full(TEST, 4)
    with pytest.raises(InputError, match="1 groups are in both train and test"):
        prepare(arrays(saved(tmp_path, content), groups="speaker"))


@pytest.mark.parametrize("content", [{}, {"speaker": np.zeros(TRAIN)}])
def test_missing_groups_are_refused(tmp_path, npz_arrays, content):
    with pytest.raises(InputError, match=r"dataset\.groups=speaker: .*a\.npz has no array speaker_train; found "):
        arrays(saved(tmp_path, npz_arrays | content), groups="speaker")


# --- what is refused


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^dataset\.path is not set"):
        arrays()
    with pytest.raises(InputError, match=r"^dataset\.path: nowhere\.npz is not a file, nor a folder"):
        arrays("nowhere.npz")
    with pytest.raises(InputError, match=r"has no array x_train: expected x_train and x_test .*; found none"):
        arrays(str(tmp_path))


@pytest.mark.parametrize("name", ["x_train", "x_test"])
def test_a_missing_array_is_named_with_the_arrays_of_the_file(tmp_path, npz_arrays, name):
    del npz_arrays[name]
    with pytest.raises(InputError, match=rf"a\.npz has no array {name}: expected .*; found x_t.*, y_test, y_train"):
        arrays(saved(tmp_path, npz_arrays))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train_images": pixels(TRAIN, 6, 4)}, "has the arrays train_images and x_train, which mean the same"),
        ({"X_train": pixels(TRAIN, 6, 4)}, "has the arrays X_train and x_train, which mean the same"),
        ({"train_labels": np.zeros(TRAIN)}, "has the arrays train_labels and y_train, which mean the same"),
        (
            {"x_val": pixels(9, 6, 4), "x_valid": pixels(9, 6, 4)},
            "has the arrays x_val and x_valid, which mean the same",
        ),
        ({"images": pixels(TRAIN, 6, 4)}, "has images, which is not split, and also x_train and x_test: keep only one"),
    ],
)
def test_two_arrays_with_the_same_meaning_are_refused(tmp_path, npz_arrays, more, message):
    with pytest.raises(InputError, match=message):
        arrays(saved(tmp_path, npz_arrays | more))


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was run')",)


def test_a_pickled_array_is_refused_without_unpickling(tmp_path, npz_arrays):
    content = npz_arrays | {"y_train": np.array([Bomb()], dtype=object)}
    with pytest.raises(InputError, match=r"a\.npz cannot be read \(y_train\): Object arrays cannot be loaded"):
        arrays(saved(tmp_path, content))
    np.save(tmp_path / "x.npy", np.array([Bomb()], dtype=object))
    with pytest.raises(InputError, match=r"cannot be read \(x\): Object arrays cannot be loaded"):
        arrays(str(tmp_path))


def save_npy(file: Path) -> None:
    with file.open("wb") as out:
        np.save(out, np.zeros(3))


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-50]),
        lambda file: file.write_bytes(pickle.dumps(Bomb())),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("a table, perhaps"),
        save_npy,
    ],
    ids=["truncated", "a pickle", "empty", "text", "npy"],
)
def test_a_file_that_is_not_an_npz_is_refused(npz_file, write):
    write(npz_file)
    with pytest.raises(InputError, match=r"arrays\.npz is not an \.npz file, or it is truncated"):
        arrays(str(npz_file))


def test_a_changed_byte_is_detected(npz_file):
    raw = bytearray(npz_file.read_bytes())
    raw[400] ^= 255
    npz_file.write_bytes(raw)
    with pytest.raises(InputError, match=r"arrays\.npz cannot be read \(x_train\): .*; write plain arrays with numpy"):
        arrays(str(npz_file))


def test_a_truncated_npy_file_is_named(tmp_path):
    np.save(tmp_path / "x.npy", pixels(60, 6, 4))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-50])
    with pytest.raises(InputError, match=r"cannot be read \(x\): "):
        arrays(str(tmp_path))
