"""The cache of decoded pictures: each folder is built once, completely, and then read from disk."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core import InputError
from bench.data import OnDisk
from bench.datasets import cache, decoding, images, load, prepare
from bench.datasets.cache import get_or_build, memory_map, write_rows
from bench.draws import Draws
from bench.engine.train import Budget
from tests.conftest import job_of, stack_of, trained

TARGET = {"_target_": "bench.datasets.images.images", "size": 8}


def file_sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir())}


# --- a cached folder


def build(folder: Path) -> dict[str, int]:
    write_rows(folder / "x.npy", [np.arange(6).reshape(3, 2), np.arange(4).reshape(2, 2)])
    return {"answer": 42}


def fail_to_build(folder: Path) -> None:
    raise AssertionError("it is cached already")


def test_a_folder_is_built_once(tmp_path):
    folder = tmp_path / "new" / "folder"
    assert get_or_build(folder, build) == {"answer": 42} == get_or_build(folder, fail_to_build)
    x = memory_map(folder / "x.npy")
    assert isinstance(x, np.memmap) and not x.flags.writeable
    np.testing.assert_array_equal(x, [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]])


@pytest.mark.parametrize("count", [9, 10, 123_456])
def test_numpy_reads_the_rows_that_were_written(tmp_path, count):
    blocks = [np.full((count // 3, 1), i, np.uint8) for i in range(3)]
    assert write_rows(tmp_path / "x.npy", blocks) == count // 3 * 3
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), np.concatenate(blocks))


def truncate(folder: Path) -> None:
    file = folder / "x.npy"
    file.write_bytes(file.read_bytes()[:-1])


def alter_a_byte(folder: Path) -> None:
    with (folder / "x.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x07")


def delete_a_file(folder: Path) -> None:
    (folder / "x.npy").unlink()


def truncate_manifest(folder: Path) -> None:
    (folder / cache.MANIFEST).write_text((folder / cache.MANIFEST).read_text()[:-9])


def replace_manifest(folder: Path) -> None:
    (folder / cache.MANIFEST).write_text("[1, 2]")


def delete_manifest(folder: Path) -> None:
    (folder / cache.MANIFEST).unlink()


@pytest.mark.parametrize(
    "damage", [truncate, alter_a_byte, delete_a_file, truncate_manifest, replace_manifest, delete_manifest]
)
def test_a_damaged_folder_is_built_again(tmp_path, damage):
    get_or_build(tmp_path / "folder", build)
    undamaged = file_sizes(tmp_path / "folder")
    damage(tmp_path / "folder")
    get_or_build(tmp_path / "folder", build)
    assert file_sizes(tmp_path / "folder") == undamaged
    assert get_or_build(tmp_path / "folder", fail_to_build) == {"answer": 42}
    np.testing.assert_array_equal(memory_map(tmp_path / "folder" / "x.npy")[-1], [2, 3])


def test_a_build_that_failed_or_was_killed_leaves_no_folder(tmp_path):
    def build_and_fail(folder: Path) -> None:
        build(folder)
        raise InputError("no such picture")

    with pytest.raises(InputError, match="no such picture"):
        get_or_build(tmp_path / "folder", build_and_fail)
    assert not [entry for entry in tmp_path.iterdir() if entry.is_dir()]
    (tmp_path / "folder.part").mkdir()
    (tmp_path / "folder.part" / "stray.npy").touch()  # left behind by a killed process
    get_or_build(tmp_path / "folder", build)
    assert file_sizes(tmp_path / "folder").keys() == {cache.MANIFEST, "x.npy"}


def test_one_thread_builds_and_the_others_wait(tmp_path):
    builds = []

    def build_slowly(folder: Path) -> dict[str, int]:
        builds.append(1)
        time.sleep(0.2)
        return build(folder)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: get_or_build(tmp_path / "folder", build_slowly), range(4)))
    assert results == [{"answer": 42}] * 4 and len(builds) == 1


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle|Python object"):
        memory_map(tmp_path / "x.npy")


def test_an_unwritable_cache_is_named_in_the_error(picture_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file.*: Not a directory; .* set paths\.cache"):
        load(TARGET | {"root": str(picture_folder)}, cache=tmp_path / "file")


# --- cached pictures


@pytest.fixture
def decoded_files(monkeypatch) -> list[str]:
    """The files that were decoded."""
    files: list[str] = []
    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda file, pixel_format: files.append(file) or decode(file, pixel_format))
    return files


def read(folder: Path, cache: Path, **options):
    return images.images(str(folder), **{"size": 8} | options, cache=cache)


def test_pictures_are_decoded_and_hashed_once(picture_folder, tmp_path, decoded_files, monkeypatch):
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    first = prepare(read(picture_folder, tmp_path / "cache"))
    assert len(decoded_files) == 84
    monkeypatch.setattr(decoding, "row_hashes", fail_to_build)
    again = prepare(read(picture_folder, tmp_path / "cache"))
    assert len(decoded_files) == 84 and again.fingerprint == first.fingerprint
    assert torch.equal(again.test.x[:], first.test.x[:]) and again.warnings == first.warnings


def test_options_that_leave_the_files_unchanged_decode_nothing_again(picture_folder, tmp_path, decoded_files):
    for options in ({}, {"split_seed": 3}, {"validation": 2}, {"limit": 100}, {"groups": r"/(\d+)\."}):
        load(TARGET | {"root": str(picture_folder / "train")} | options, cache=tmp_path / "cache")
    assert len(decoded_files) == 60


def add_a_picture(folder: Path) -> None:
    shutil.copy(folder / "train" / "a" / "000.png", folder / "train" / "a" / "020.png")


def delete_a_picture(folder: Path) -> None:
    (folder / "train" / "a" / "000.png").unlink()


@pytest.mark.parametrize("change", [add_a_picture, delete_a_picture])
def test_a_changed_folder_is_read_again(picture_folder, tmp_path, change):
    before = prepare(read(picture_folder, tmp_path / "cache"))
    change(picture_folder)
    after = prepare(read(picture_folder, tmp_path / "cache"))
    assert after.fingerprint != before.fingerprint
    assert after.fingerprint == prepare(read(picture_folder, tmp_path / "another")).fingerprint


def test_a_file_with_other_pixels_but_the_same_name_size_and_time_is_read_again(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def save_pictures(red: int) -> None:
        for i in range(12):
            Image.new("RGB", (4, 4), (red, 0, i)).save(folder / f"{i:02}.bmp")
            os.utime(folder / f"{i:02}.bmp", (1, 1))

    for red in (200, 250):
        save_pictures(red)
        assert read(folder, tmp_path / "cache").train.x[0, 0, 0, 0] == red


@pytest.mark.parametrize(
    "options",
    [{"size": 6}, {"size": (8, 6)}, {"channels": 1}, {"background": "white"}, {"range": (0, 250)}, {"limit": 3}],
)
def test_options_that_change_pixels_have_separate_caches(picture_folder, tmp_path, options):
    for file in (picture_folder / "test").rglob("*.png"):
        Image.new("RGBA", (9, 9), (240, 0, 0, 220)).save(file)
    read(picture_folder, tmp_path / "cache")
    source, fresh = (read(picture_folder, tmp_path / name, **options) for name in ("cache", "another"))
    np.testing.assert_array_equal(source.test.x, fresh.test.x)
    assert len([entry for entry in (tmp_path / "cache" / "images").iterdir() if entry.is_dir()]) == 2


def test_two_folders_with_files_of_the_same_names_and_times_have_separate_caches(tmp_path):
    for name, red in (("one", 200), ("two", 250)):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.new("RGB", (4, 4), (red, 0, i)).save(tmp_path / name / f"{i}.bmp")
            os.utime(tmp_path / name / f"{i}.bmp", (1, 1))
    assert [read(tmp_path / name, tmp_path / "cache").train.x[0, 0, 0, 0] for name in ("one", "two")] == [200, 250]


def test_the_fingerprint_depends_on_neither_the_folder_nor_the_cache(picture_folder, tmp_path, monkeypatch):
    options = TARGET | {"root": str(picture_folder)}
    fingerprints = [load(options).fingerprint, load(options, cache=tmp_path / "cache").fingerprint]
    shutil.copytree(picture_folder, tmp_path / "copy")
    fingerprints.append(load(options | {"root": str(tmp_path / "copy")}, cache=tmp_path / "cache").fingerprint)
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    fingerprints.append(
        load(options | {"root": str(tmp_path / "copy"), "name": "another"}, cache=tmp_path / "cache").fingerprint
    )
    assert len(set(fingerprints)) == 1


def test_the_cache_is_not_an_option_of_a_data_set(picture_folder):
    with pytest.raises(InputError, match=r"dataset\.cache is not an option: set paths\.cache"):
        load(TARGET | {"root": str(picture_folder), "cache": "here"})


# --- bigger than memory


def test_training_from_disk_gives_the_same_losses_as_from_memory(picture_folder, tmp_path, monkeypatch):
    job = job_of("model=vae", "network.hidden=16")
    losses = []
    for in_memory in (images.IN_MEMORY, 0):
        monkeypatch.setattr(images, "IN_MEMORY", in_memory)
        data = prepare(read(picture_folder, tmp_path / "cache"))
        assert isinstance(data.train.x, OnDisk) == (in_memory == 0)
        rows = trained(job, stack_of(job, (0, 1), data.shapes), data, Budget(epochs=2, batch_size=16))
        losses.append([[row["loss/model"] for row in seed] for seed in rows])
    assert losses[0] == losses[1]


def test_pca_also_fits_images_on_disk(picture_folder, tmp_path, monkeypatch):
    job = job_of("model=pca", "model.latent_dim=1")
    means = []
    for in_memory in (images.IN_MEMORY, 0):
        monkeypatch.setattr(images, "IN_MEMORY", in_memory)
        data = prepare(read(picture_folder, tmp_path / "cache"))
        model = stack_of(job, shapes=data.shapes).model
        model.fit(data, Draws(0))
        means.append(model.mean)
    assert torch.equal(*means)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_large_folder_is_decoded_and_read_in_little_memory(tmp_path, monkeypatch):
    """This process never holds all of the 200 MB of pixels in memory, mapped or not."""
    monkeypatch.setattr(images, "IN_MEMORY", 2**20)
    side, count = 1024, 64
    for i in range(count):
        Image.new("RGB", (side, side), (255, 4 * i, 0)).save(tmp_path / f"{i:02}.png", compress_level=1)

    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    is_over, peak, before = threading.Event(), [0], resident()

    def watch() -> None:
        while not is_over.wait(0.005):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        data = prepare(read(tmp_path, tmp_path / "cache", size=side))
        green = [
            rows[:, 1, 0, 0].clone() for split in (data.train, data.validation, data.test) for rows in split.x.split(4)
        ]
    finally:
        is_over.set()
        watcher.join()
    assert sorted(torch.cat(green).tolist()) == [4 * i for i in range(count)]
    assert file_sizes(next((tmp_path / "cache" / "images").glob("*/")))["x.npy"] > 200e6
    assert peak[0] - before < 150e6
