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
from bench.datasets.idx import idx, read_idx

IMAGES = "train-images-idx3-ubyte.gz"


def read(folder: Path):
    return idx("mnist", "mnist_784", root=str(folder))


def rewrite(file: Path, change) -> None:
    file.write_bytes(gzip.compress(change(gzip.decompress(file.read_bytes()))))


def test_the_bytes_are_read_as_written(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    header = bytes([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2])
    (tmp_path / "a").write_bytes(header + bytes(range(24)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a", 3), array)


def test_shapes_and_labels(idx_folder):
    source = read(idx_folder)
    assert source.x_train.shape == (60, 1, 7, 5) and source.x_test.shape == (24, 1, 7, 5)
    assert source.y_train.tolist() == [0, 1, 2] * 20 and source.grey_levels == 256


def test_plain_files_are_the_same_as_gzipped_ones(idx_folder):
    zipped = prepare(read(idx_folder)).fingerprint
    for file in list(idx_folder.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert prepare(read(idx_folder)).fingerprint == zipped


def test_without_a_root_it_is_found_below_bench_data(idx_folder, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(idx_folder.parent))
    np.testing.assert_array_equal(idx("idx", "mnist_784").x_test, read(idx_folder).x_test)
    with pytest.raises(InputError, match=r"^\$BENCH_DATA/mnist: .*mnist is not a folder; set dataset\.root"):
        idx("mnist", "mnist_784")


def test_without_either_it_is_fetched(monkeypatch):
    data = np.zeros((60_003, 784))
    data[60_000:] = 255
    target = np.array(["7"] * 60_000 + ["1"] * 3, dtype=object)

    def fetch_openml(name, **_):
        assert name == "mnist_784"
        return SimpleNamespace(data=data, target=target)

    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    source = idx("mnist", "mnist_784")
    assert source.x_train.shape == (60_000, 1, 28, 28) and source.x_train.dtype == np.uint8
    assert source.x_test.shape == (3, 1, 28, 28) and source.x_test.min() == 255 and source.y_test.tolist() == [1, 1, 1]


def test_a_fetched_set_without_labels_is_refused(monkeypatch):
    monkeypatch.delenv("BENCH_DATA", raising=False)
    table = SimpleNamespace(data=np.zeros((20, 784)), target=None)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda name, **_: table)
    with pytest.raises(InputError, match=r"^dataset\.openml=mnist_784: that set has no labels"):
        idx("mnist", "mnist_784")


def test_when_it_cannot_be_fetched_it_says_what_to_set(monkeypatch):
    def fetch_openml(name, **_):
        raise URLError("no route\nto host")

    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    with pytest.raises(InputError, match=r"^mnist cannot be fetched .*no route to host.*: set dataset\.root to"):
        idx("mnist", "mnist_784")


def test_a_root_that_is_not_there():
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
def test_a_wrong_content_is_refused(idx_folder, change, message):
    rewrite(idx_folder / IMAGES, change)
    with pytest.raises(InputError, match=rf"{IMAGES} .*{message}"):
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


def test_unequal_counts_name_both_files(idx_folder):
    rewrite(idx_folder / "t10k-labels-idx1-ubyte.gz", lambda raw: raw[:7] + bytes([23]) + raw[8:-1])
    with pytest.raises(InputError, match=r"t10k-images.* has 24 images, but .*t10k-labels.* has 23 labels"):
        read(idx_folder)


def test_real_mnist():
    if not os.environ.get("BENCH_DATA"):
        pytest.skip("BENCH_DATA is not set: the counts and mean of the real MNIST files are not checked")
    data = prepare(idx("mnist", "mnist_784"))
    assert [len(split.x) for split in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    assert data.shapes == ((1, 28, 28), 10)
    assert data.test.label.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (data.train.label.bincount() + data.validation.label.bincount()).tolist() == counts
    total = sum(int(split.x.sum()) for split in (data.train, data.validation))
    assert total / (60_000 * 784 * 255) == pytest.approx(0.1307, abs=5e-5)
