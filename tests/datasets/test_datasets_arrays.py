from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from bench.core import InputError
from bench.datasets import prepare
from bench.datasets.arrays import arrays


@pytest.mark.parametrize(
    ("given", "shape", "order"),
    [
        ((8, 6, 4), (1, 6, 4), None),
        ((8, 36), (1, 6, 6), None),
        ((8, 1, 6, 4), (1, 6, 4), None),
        ((8, 3, 6, 4), (3, 6, 4), None),
        ((8, 6, 4, 1), (1, 6, 4), (0, 3, 1, 2)),
        ((8, 6, 4, 3), (3, 6, 4), (0, 3, 1, 2)),
        ((8, 3, 4, 3), (3, 4, 3), None),
    ],
)
def test_every_layout_is_brought_to_channels_first(tmp_path, given, shape, order):
    x = np.random.default_rng(0).integers(0, 256, given, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, x_test=x)
    expected = (x.transpose(order) if order else x).reshape(8, *shape)
    np.testing.assert_array_equal(arrays(str(tmp_path / "a.npz")).x_train, expected)


@pytest.mark.parametrize("given", [(8, 35), (8, 6, 4, 2), (8, 2, 6, 4), (8,), (8, 1, 6, 4, 1)])
def test_another_layout_is_refused(tmp_path, given):
    np.savez(tmp_path / "a.npz", x_train=np.zeros(given), x_test=np.zeros((8, 36)))
    with pytest.raises(InputError, match=r"a\.npz: x_train has shape \(8,.* expected \[N, H, W\]"):
        arrays(str(tmp_path / "a.npz"))


def test_labels_are_kept_and_optional(tmp_path, npz_arrays):
    np.savez_compressed(tmp_path / "a.npz", **npz_arrays)
    np.testing.assert_array_equal(arrays(str(tmp_path / "a.npz")).y_test, npz_arrays["y_test"])
    np.savez(tmp_path / "b.npz", x_train=npz_arrays["x_train"], x_test=npz_arrays["x_test"])
    assert prepare(arrays(str(tmp_path / "b.npz"))).shapes == ((1, 6, 4), 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_floats_of_any_width_become_float32(tmp_path, npz_arrays, dtype):
    floats = {name: npz_arrays[name] / 255 for name in ("x_train", "x_test")}
    np.savez(tmp_path / "a.npz", **{name: x.astype(dtype) for name, x in floats.items()})
    data = prepare(arrays(str(tmp_path / "a.npz")))
    np.testing.assert_allclose(data.test.x[:, 0], floats["x_test"], atol=1e-3)


def test_grey_levels_are_passed_on(npz_file):
    assert arrays(str(npz_file), grey_levels=17).grey_levels == 17


# --- what is refused


def test_a_path_that_is_not_set_or_not_there(tmp_path):
    with pytest.raises(InputError, match=r"^dataset\.path is not set"):
        arrays()
    for path in ("nowhere.npz", str(tmp_path)):
        with pytest.raises(InputError, match=rf"^dataset\.path: {path} is not a file"):
            arrays(path)


@pytest.mark.parametrize("name", ["x_train", "x_test"])
def test_a_missing_array_is_named(tmp_path, npz_arrays, name):
    del npz_arrays[name]
    np.savez(tmp_path / "a.npz", **npz_arrays)
    with pytest.raises(InputError, match=rf"a\.npz has no array {name}"):
        arrays(str(tmp_path / "a.npz"))


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was run')",)


def test_a_pickled_array_is_refused_unopened(tmp_path, npz_arrays):
    np.savez(tmp_path / "a.npz", **npz_arrays | {"y_train": np.array([Bomb()], dtype=object)})
    with pytest.raises(InputError, match=r"a\.npz cannot be read: Object arrays cannot be loaded"):
        arrays(str(tmp_path / "a.npz"))


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
def test_what_is_no_npz_is_refused(npz_file, write):
    write(npz_file)
    with pytest.raises(InputError, match=r"arrays\.npz is not an \.npz file, or a truncated one"):
        arrays(str(npz_file))


def test_a_changed_byte_is_noticed(npz_file):
    raw = bytearray(npz_file.read_bytes())
    raw[400] ^= 255
    npz_file.write_bytes(raw)
    with pytest.raises(InputError, match=r"arrays\.npz cannot be read: .*; write plain arrays with numpy\.savez"):
        arrays(str(npz_file))
