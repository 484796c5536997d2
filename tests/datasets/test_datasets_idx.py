from __future__ import annotations

import gzip
import os
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from bench.core import InputError
from bench.datasets import prepare
from bench.datasets.arrays import arrays
from bench.datasets.idx import idx, read_idx
from tests.datasets.conftest import idx_bytes, pixels

IMAGES = "train-images-idx3-ubyte.gz"


def read(folder: Path):
    return idx("mnist", "mnist_784", root=str(folder))


def rewrite(file: Path, change) -> None:
    file.write_bytes(gzip.compress(change(gzip.decompress(file.read_bytes()))))


def test_read_idx_returns_the_written_bytes(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    header = bytes([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2])
    (tmp_path / "a").write_bytes(header + bytes(range(24)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a", 3), array)


def test_shapes_and_labels_are_read(idx_folder):
    source = read(idx_folder)
    assert source.train.x.shape == (60, 1, 7, 5) and source.test.x.shape == (24, 1, 7, 5)
    assert source.train.label.tolist() == [0, 1, 2] * 20 and prepare(source).grey_levels == 256


def test_plain_and_gzipped_files_give_the_same_data(idx_folder):
    zipped = prepare(read(idx_folder)).fingerprint
    for file in list(idx_folder.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert prepare(read(idx_folder)).fingerprint == zipped


def rename_all(folder: Path, name) -> None:
    for file in list(folder.iterdir()):
        file.rename(folder / name(file.name))


@pytest.mark.parametrize(
    "name",
    [
        lambda name: name.replace("-idx", ".idx"),
        lambda name: f"emnist-letters-{name}".replace("t10k", "test"),
        lambda name: f"qmnist_{name}",
        lambda name: name.upper(),
    ],
    ids=["a dot before idx", "EMNIST", "another prefix", "capitals"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_files_under_all_common_names_give_the_same_data(idx_folder, name, zipped):
    expected = prepare(read(idx_folder)).fingerprint
    if not zipped:
        for file in list(idx_folder.iterdir()):
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
            file.unlink()
    rename_all(idx_folder, name)
    assert prepare(read(idx_folder)).fingerprint == expected


def test_a_plain_file_is_preferred_to_its_gz(idx_folder):
    (idx_folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(24, 2, np.uint8)))
    assert read(idx_folder).test.label.tolist() == [2] * 24


def test_a_prefix_selects_one_of_two_data_sets_in_a_folder(idx_folder, tmp_path):
    expected = prepare(read(idx_folder)).fingerprint
    rename_all(idx_folder, "emnist-letters-{}".format)
    for part, count in (("train", 30), ("test", 9)):
        (idx_folder / f"emnist-digits-{part}-images-idx3-ubyte").write_bytes(idx_bytes(pixels(count, 3, 3)))
        (idx_folder / f"emnist-digits-{part}-labels-idx1-ubyte").write_bytes(
            idx_bytes((np.arange(count) % 3 + 1).astype(np.uint8))
        )
    names = r"emnist-digits-train-images-idx3-ubyte and emnist-letters-train-images-idx3-ubyte\.gz"
    with pytest.raises(InputError, match=rf"has 2 files of train images, {names}: set dataset\.prefix"):
        read(idx_folder)
    assert prepare(idx("m", "m", str(idx_folder), "emnist-letters")).fingerprint == expected
    assert idx("m", "m", str(idx_folder), "emnist-digits-").train.x.shape == (30, 1, 3, 3)


def test_labels_that_start_at_one_become_classes_from_zero(idx_folder):
    for part, count in (("train", 60), ("t10k", 24)):
        labels = (np.arange(count) % 26 + 1).astype(np.uint8)
        (idx_folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    data = prepare(read(idx_folder))
    assert data.shapes.classes == 26 and data.test.label.tolist() == list(range(24))


def test_binary_images_have_full_contrast(idx_folder):
    for part, count in (("train", 60), ("t10k", 24)):
        images = pixels(count, 7, 5) // 128
        (idx_folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    data = prepare(read(idx_folder))
    assert data.range == (0, 1) and set(data.train.x.unique().tolist()) == {0, 255}


def test_the_same_content_from_arrays_has_the_same_fingerprint(idx_folder, tmp_path):
    source = read(idx_folder)
    content = {"x_train": source.train.x[:, 0] / 255, "y_train": source.train.label[:, np.newaxis]}
    content |= {"test_images": source.test.x / 255, "test_labels": np.eye(3)[source.test.label]}
    np.savez(tmp_path / "a.npz", **content)
    assert prepare(arrays(str(tmp_path / "a.npz"))).fingerprint == prepare(source).fingerprint


def test_a_prefix_without_a_folder_is_refused(monkeypatch):
    monkeypatch.delenv("BENCH_DATA", raising=False)
    with pytest.raises(InputError, match=r"dataset\.prefix=emnist has no effect without a folder"):
        idx("mnist", "mnist_784", prefix="emnist")


def test_without_a_root_it_is_read_from_bench_data(idx_folder, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(idx_folder.parent))
    np.testing.assert_array_equal(idx("idx", "mnist_784").test.x, read(idx_folder).test.x)
    with pytest.raises(InputError, match=r"^\$BENCH_DATA/mnist: .*mnist is not a folder; set dataset\.root"):
        idx("mnist", "mnist_784")


def test_without_root_and_bench_data_it_is_fetched_from_openml(monkeypatch):
    data = np.zeros((60_003, 784))
    data[60_000:] = 255
    target = np.array(["7"] * 60_000 + ["1"] * 3, dtype=object)

    def fetch_openml(name, **_):
        assert name == "mnist_784"
        return SimpleNamespace(data=data, target=target)

    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    source = idx("mnist", "mnist_784")
    assert source.train.x.shape == (60_000, 1, 28, 28)
    assert (
        source.test.x.shape == (3, 1, 28, 28) and source.test.x.min() == 255 and source.test.label.tolist() == ["1"] * 3
    )


def test_a_fetched_set_without_labels_is_refused(monkeypatch):
    monkeypatch.delenv("BENCH_DATA", raising=False)
    table = SimpleNamespace(data=np.zeros((20, 784)), target=None)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda name, **_: table)
    with pytest.raises(InputError, match=r"^dataset\.openml=mnist_784: it has no labels"):
        idx("mnist", "mnist_784")


def test_a_failed_fetch_advises_what_to_set(monkeypatch):
    def fetch_openml(name, **_):
        raise URLError("no route\nto host")

    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    with pytest.raises(InputError, match=r"^mnist cannot be fetched .*no route to host.*: set dataset\.root to"):
        idx("mnist", "mnist_784")


def test_a_missing_root_is_refused():
    with pytest.raises(InputError, match=r"^dataset\.root: nowhere is not a folder"):
        read(Path("nowhere"))


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_a_missing_file_is_named(idx_folder, name):
    (idx_folder / f"{name}.gz").unlink()
    with pytest.raises(InputError, match=rf"has no file {name} or {name}\.gz"):
        read(idx_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-1], r"holds 2099 bytes, but its header says \(60, 7, 5\), that is 2100"),
        (lambda raw: raw + b"\0", "holds 2101 bytes"),
        (lambda raw: raw[:10], "is not an IDX file"),
        (lambda raw: b"", "begins with nothing, expected 00000803"),
        (lambda raw: b"\0\0\x08\x01" + raw[4:], "begins with 00000801, expected 00000803"),
        (lambda raw: b"\0\0\x0d\x03" + raw[4:], "begins with 00000d03"),
        (lambda raw: raw[:4] + b"\xff\xff\xff\xff" + raw[8:], r"header says \(4294967295, 7, 5\)"),
    ],
)
def test_wrong_content_is_refused(idx_folder, change, message):
    rewrite(idx_folder / IMAGES, change)
    with pytest.raises(InputError, match=rf"{IMAGES},? .*{message}"):
        read(idx_folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:200] + bytes([raw[200] ^ 255]) + raw[201:],
        lambda raw: gzip.decompress(raw),
        lambda raw: b"<html>",
    ],
    ids=["truncated", "a byte changed", "not gzip", "a web page"],
)
def test_a_damaged_gzip_file_is_refused(idx_folder, change):
    file = idx_folder / IMAGES
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(InputError, match=rf"{IMAGES} cannot be read: .*; get the file again") as caught:
        read(idx_folder)
    assert "\n" not in str(caught.value)


def test_an_error_about_unequal_counts_names_both_files(idx_folder):
    rewrite(idx_folder / "t10k-labels-idx1-ubyte.gz", lambda raw: raw[:7] + bytes([23]) + raw[8:-1])
    with pytest.raises(InputError, match=r"t10k-images.* has 24 images, but .*t10k-labels.* has 23 labels"):
        read(idx_folder)


def test_real_mnist_has_the_known_counts_and_mean():
    if not os.environ.get("BENCH_DATA"):
        pytest.skip("BENCH_DATA is not set: the counts and mean of the real MNIST files are not checked")
    data = prepare(idx("mnist", "mnist_784"))
    assert [len(split.x) for split in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    assert data.shapes[:2] == ((1, 28, 28), 10)
    assert data.test.label.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (data.train.label.bincount() + data.validation.label.bincount()).tolist() == counts
    total = sum(int(split.x.sum()) for split in (data.train, data.validation))
    assert total / (60_000 * 784 * 255) == pytest.approx(0.1307, abs=5e-5)
