"""Decoded pictures are kept on disk, built once and whole, and read from there."""

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
from bench.datasets.cache import kept, mapped, write_rows
from bench.draws import Draws
from bench.engine.train import Budget
from tests.conftest import job_of, stack_of, trained

TARGET = {"_target_": "bench.datasets.images.images", "size": 8}


def count_of(place: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(place.iterdir())}


# --- a folder that is kept


def build(folder: Path) -> dict[str, int]:
    write_rows(folder / "x.npy", [np.arange(6).reshape(3, 2), np.arange(4).reshape(2, 2)])
    return {"answer": 42}


def never(folder: Path) -> None:
    raise AssertionError("it is there already")


def test_what_was_built_is_there_from_then_on(tmp_path):
    assert kept(tmp_path / "new" / "folder", build) == {"answer": 42} == kept(tmp_path / "new" / "folder", never)
    x = mapped(tmp_path / "new" / "folder" / "x.npy")
    assert isinstance(x, np.memmap) and not x.flags.writeable
    np.testing.assert_array_equal(x, [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]])


@pytest.mark.parametrize("count", [9, 10, 123_456])
def test_rows_are_written_as_numpy_reads_them(tmp_path, count):
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


def lose_a_file(folder: Path) -> None:
    (folder / "x.npy").unlink()


def tear(folder: Path) -> None:
    (folder / cache.ABOUT).write_text((folder / cache.ABOUT).read_text()[:-9])


def another_kind(folder: Path) -> None:
    (folder / cache.ABOUT).write_text("[1, 2]")


def forget(folder: Path) -> None:
    (folder / cache.ABOUT).unlink()


@pytest.mark.parametrize("damage", [truncate, alter_a_byte, lose_a_file, tear, another_kind, forget])
def test_what_was_damaged_is_built_again(tmp_path, damage):
    kept(tmp_path / "folder", build)
    sound = count_of(tmp_path / "folder")
    damage(tmp_path / "folder")
    kept(tmp_path / "folder", build)
    assert count_of(tmp_path / "folder") == sound and kept(tmp_path / "folder", never) == {"answer": 42}
    np.testing.assert_array_equal(mapped(tmp_path / "folder" / "x.npy")[-1], [2, 3])


def test_what_failed_or_was_killed_half_way_leaves_nothing_to_be_read(tmp_path):
    def fails(folder: Path) -> None:
        build(folder)
        raise InputError("no such picture")

    with pytest.raises(InputError, match="no such picture"):
        kept(tmp_path / "folder", fails)
    assert not [entry for entry in tmp_path.iterdir() if entry.is_dir()]
    (tmp_path / "folder.part").mkdir()
    (tmp_path / "folder.part" / "stray.npy").touch()  # of a process that was killed
    kept(tmp_path / "folder", build)
    assert count_of(tmp_path / "folder").keys() == {cache.ABOUT, "x.npy"}


def test_one_of_many_builds_and_the_others_wait(tmp_path):
    built = []

    def slowly(folder: Path) -> dict[str, int]:
        built.append(1)
        time.sleep(0.2)
        return build(folder)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: kept(tmp_path / "folder", slowly), range(4)))
    assert answers == [{"answer": 42}] * 4 and len(built) == 1


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle|Python object"):
        mapped(tmp_path / "x.npy")


def test_a_cache_that_cannot_be_written_is_named(picture_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file.*: Not a directory; .* set paths\.cache"):
        load(TARGET | {"root": str(picture_folder)}, cache=tmp_path / "file")


# --- pictures in it


@pytest.fixture
def decodings(monkeypatch) -> list[str]:
    """The files that were decoded."""
    seen: list[str] = []
    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda file, form: seen.append(file) or decode(file, form))
    return seen


def read(folder: Path, place: Path, **options):
    return images.images(str(folder), **{"size": 8} | options, cache=place)


def test_pictures_are_decoded_and_hashed_once(picture_folder, tmp_path, decodings, monkeypatch):
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    first = prepare(read(picture_folder, tmp_path / "cache"))
    assert len(decodings) == 84
    monkeypatch.setattr(decoding, "row_hashes", never)
    again = prepare(read(picture_folder, tmp_path / "cache"))
    assert len(decodings) == 84 and again.fingerprint == first.fingerprint
    assert torch.equal(again.test.x[:], first.test.x[:]) and again.warnings == first.warnings


def test_another_split_seed_or_limit_of_all_decodes_nothing(picture_folder, tmp_path, decodings):
    for options in ({}, {"split_seed": 3}, {"validation": 2}, {"limit": 100}, {"groups": r"/(\d+)\."}):
        load(TARGET | {"root": str(picture_folder / "train")} | options, cache=tmp_path / "cache")
    assert len(decodings) == 60


def grow(folder: Path) -> None:
    shutil.copy(folder / "train" / "a" / "000.png", folder / "train" / "a" / "020.png")


def shrink(folder: Path) -> None:
    (folder / "train" / "a" / "000.png").unlink()


@pytest.mark.parametrize("change", [grow, shrink])
def test_a_folder_that_changed_is_read_again(picture_folder, tmp_path, change):
    before = prepare(read(picture_folder, tmp_path / "cache"))
    change(picture_folder)
    after = prepare(read(picture_folder, tmp_path / "cache"))
    assert after.fingerprint != before.fingerprint
    assert after.fingerprint == prepare(read(picture_folder, tmp_path / "another")).fingerprint


def test_other_pixels_in_a_file_of_the_same_name_size_and_time_are_read(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def draw(red: int) -> None:
        for i in range(12):
            Image.new("RGB", (4, 4), (red, 0, i)).save(folder / f"{i:02}.bmp")
            os.utime(folder / f"{i:02}.bmp", (1, 1))

    for red in (200, 250):
        draw(red)
        assert read(folder, tmp_path / "cache").train.x[0, 0, 0, 0] == red


@pytest.mark.parametrize(
    "options",
    [{"size": 6}, {"size": (8, 6)}, {"channels": 1}, {"background": "white"}, {"range": (0, 250)}, {"limit": 3}],
)
def test_options_that_change_pixels_are_kept_apart(picture_folder, tmp_path, options):
    for file in (picture_folder / "test").rglob("*.png"):
        Image.new("RGBA", (9, 9), (240, 0, 0, 220)).save(file)
    read(picture_folder, tmp_path / "cache")
    source, fresh = (read(picture_folder, tmp_path / place, **options) for place in ("cache", "another"))
    np.testing.assert_array_equal(source.test.x, fresh.test.x)
    assert len([entry for entry in (tmp_path / "cache" / "images").iterdir() if entry.is_dir()]) == 2


def test_two_folders_with_files_of_the_same_names_and_times_are_kept_apart(tmp_path):
    for name, red in (("one", 200), ("two", 250)):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.new("RGB", (4, 4), (red, 0, i)).save(tmp_path / name / f"{i}.bmp")
            os.utime(tmp_path / name / f"{i}.bmp", (1, 1))
    assert [read(tmp_path / name, tmp_path / "cache").train.x[0, 0, 0, 0] for name in ("one", "two")] == [200, 250]


def test_the_same_pictures_elsewhere_and_with_or_without_a_cache_have_one_fingerprint(
    picture_folder, tmp_path, monkeypatch
):
    options = TARGET | {"root": str(picture_folder)}
    prints = [load(options).fingerprint, load(options, cache=tmp_path / "cache").fingerprint]
    shutil.copytree(picture_folder, tmp_path / "copy")
    prints.append(load(options | {"root": str(tmp_path / "copy")}, cache=tmp_path / "cache").fingerprint)
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    prints.append(
        load(options | {"root": str(tmp_path / "copy"), "name": "another"}, cache=tmp_path / "cache").fingerprint
    )
    assert len(set(prints)) == 1


def test_the_cache_is_no_option_of_a_data_set(picture_folder):
    with pytest.raises(InputError, match=r"dataset\.cache is not an option: set paths\.cache"):
        load(TARGET | {"root": str(picture_folder), "cache": "here"})


# --- bigger than memory


def test_training_from_disk_has_the_losses_of_training_from_memory(picture_folder, tmp_path, monkeypatch):
    job = job_of("model=vae", "network.hidden=16")
    losses = []
    for most in (images.IN_MEMORY, 0):
        monkeypatch.setattr(images, "IN_MEMORY", most)
        data = prepare(read(picture_folder, tmp_path / "cache"))
        assert isinstance(data.train.x, OnDisk) == (most == 0)
        rows = trained(job, stack_of(job, (0, 1), data.shapes), data, Budget(epochs=2, batch_size=16))
        losses.append([[row["loss/model"] for row in seed] for seed in rows])
    assert losses[0] == losses[1]


def test_pca_is_fitted_to_images_on_disk_too(picture_folder, tmp_path, monkeypatch):
    job = job_of("model=pca", "model.latent_dim=1")
    means = []
    for most in (images.IN_MEMORY, 0):
        monkeypatch.setattr(images, "IN_MEMORY", most)
        data = prepare(read(picture_folder, tmp_path / "cache"))
        model = stack_of(job, shapes=data.shapes).model
        model.fit(data, Draws(0))
        means.append(model.mean)
    assert torch.equal(*means)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_large_folder_is_decoded_and_read_in_little_memory(tmp_path, monkeypatch):
    """200 MB of pixels, of which at most a part is in this process at any time, mapped or not."""
    monkeypatch.setattr(images, "IN_MEMORY", 2**20)
    side, count = 1024, 64
    for i in range(count):
        Image.new("RGB", (side, side), (255, 4 * i, 0)).save(tmp_path / f"{i:02}.png", compress_level=1)

    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    is_over, most, before = threading.Event(), [0], resident()

    def watch() -> None:
        while not is_over.wait(0.005):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        data = prepare(read(tmp_path, tmp_path / "cache", size=side))
        seen = [
            rows[:, 1, 0, 0].clone() for split in (data.train, data.validation, data.test) for rows in split.x.split(4)
        ]
    finally:
        is_over.set()
        watcher.join()
    assert sorted(torch.cat(seen).tolist()) == [4 * i for i in range(count)]
    assert count_of(next((tmp_path / "cache" / "images").glob("*/")))["x.npy"] > 200e6
    assert most[0] - before < 150e6
