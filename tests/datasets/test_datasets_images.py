from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core import InputError
from bench.datasets import prepare
from bench.datasets.images import images


def test_train_and_test_folders(picture_folder):
    source = images(str(picture_folder), size=4)
    assert source.x_train.shape == (60, 3, 4, 4) and source.x_test.shape == (24, 3, 4, 4)
    assert source.x_train.dtype == np.uint8
    assert np.bincount(source.y_test).tolist() == [8, 8, 8]
    for x, y in [(source.x_train, source.y_train), (source.x_test, source.y_test)]:
        np.testing.assert_array_equal(x[:, 0], np.broadcast_to(40 * (y + 1)[:, None, None], x[:, 0].shape))
        assert not x[:, 2].any()


def test_the_first_test_pictures_are_of_several_classes(picture_folder):
    assert len(set(images(str(picture_folder), size=4).y_test[:8].tolist())) > 1


def test_class_folders_alone_hold_out_a_fifth(picture_folder):
    source = images(str(picture_folder / "train"), size=4)
    assert (len(source.x_train), len(source.x_test)) == (48, 12)
    assert np.bincount(source.y_test).tolist() == [4, 4, 4]
    np.testing.assert_array_equal(source.x_test[:, 0, 0, 0], 40 * (source.y_test + 1))


def test_a_flat_folder_has_no_labels(picture_folder):
    source = images(str(picture_folder / "train" / "a"), size=4)
    assert (len(source.x_train), len(source.x_test)) == (16, 4)
    assert prepare(source).shapes == ((3, 4, 4), 0)


def test_limit_is_the_first_of_each_class_by_name(picture_folder):
    source = images(str(picture_folder), size=4, limit=5)
    assert np.bincount(source.y_train).tolist() == [5, 5, 5] and np.bincount(source.y_test).tolist() == [5, 5, 5]
    assert source.x_train[:, 1, 0, 0].tolist() == [0, 1, 2, 3, 4] * 3


def test_a_picture_of_the_right_size_keeps_its_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (15, 6, 6, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i:02}.png")
    source = images(str(tmp_path), size=6)
    read = sorted(row.tobytes() for x in (source.x_train, source.x_test) for row in x)
    assert read == sorted(row.tobytes() for row in pixels.transpose(0, 3, 1, 2))


def test_a_wide_picture_is_cropped_around_its_centre(tmp_path):
    pixels = np.zeros((4, 12), np.uint8)
    pixels[:, 4:8] = 200
    for i in range(12):
        Image.fromarray(pixels if i % 2 else pixels.T.copy()).save(tmp_path / f"{i:02}.png")
    x = images(str(tmp_path), size=4, channels=1).x_train
    assert x.shape[1:] == (1, 4, 4) and (x == 200).all()


def test_the_orientation_that_a_camera_notes_is_followed(tmp_path):
    pixels = np.zeros((6, 6), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half a circle
    for i in range(12):
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png", exif=exif)
    x = images(str(tmp_path), size=6, channels=1).x_train[0, 0]
    assert (x[-1] == 255).all() and not x[:-1].any()


def test_other_formats_and_modes_and_files_that_are_no_pictures(tmp_path):
    for i, (mode, suffix) in enumerate(
        [("RGB", "jpg"), ("L", "png"), ("P", "gif"), ("RGB", "BMP"), ("RGBA", "webp")] * 3
    ):
        Image.new(mode, (5, 9), 0).save(tmp_path / f"{i:02}.{suffix}")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._00.jpg").write_text("what macOS leaves behind")
    source = images(str(tmp_path), size=3)
    assert len(source.x_train) + len(source.x_test) == 15


# --- what is refused


def test_a_root_that_is_not_set_or_not_there(picture_folder):
    with pytest.raises(InputError, match=r"^dataset\.root is not set"):
        images()
    for root in ("nowhere", str(picture_folder / "train" / "a" / "000.png")):
        with pytest.raises(InputError, match=rf"^dataset\.root: {root} is not a folder"):
            images(root)


def empty_class(folder: Path) -> None:
    (folder / "train" / "d").mkdir()


def empty_root(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def only_train(folder: Path) -> None:
    shutil.rmtree(folder / "test")


def class_missing(folder: Path) -> None:
    shutil.rmtree(folder / "test" / "b")


def loose_picture(folder: Path) -> None:
    shutil.copy(folder / "train" / "a" / "000.png", folder / "train" / "loose.png")


def truncated(folder: Path) -> None:
    file = folder / "test" / "c" / "004.png"
    file.write_bytes(file.read_bytes()[:-30])


def not_a_picture(folder: Path) -> None:
    (folder / "train" / "b" / "010.jpg").write_text("no picture")


def deep(folder: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(folder / "train" / "b" / "011.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty_class, r"d holds no pictures: expected class folders"),
        (empty_root, r"pictures holds no pictures: expected class folders"),
        (only_train, r"train holds no pictures: .* under both train/ and test/"),
        (class_missing, r"must hold the same classes; only one of them has: b"),
        (loose_picture, r"train holds folders and loose pictures \(loose\.png\)"),
        (truncated, r"c.004\.png cannot be read as a picture"),
        (not_a_picture, r"b.010\.jpg cannot be read as a picture"),
        (deep, r"b.011\.png has more than 8 bits a channel"),
    ],
)
def test_a_damaged_folder_is_refused_and_the_place_named(picture_folder, damage, message):
    damage(picture_folder)
    with pytest.raises(InputError, match=message) as caught:
        images(str(picture_folder), size=4)
    assert "\n" not in str(caught.value)


def test_real_pictures():
    if not os.environ.get("BENCH_DATA"):
        pytest.skip("BENCH_DATA is not set: the image folder cifar10 is not read")
    data = prepare(images(str(Path(os.environ["BENCH_DATA"], "cifar10")), limit=50))
    assert [len(split.x) for split in (data.train, data.validation, data.test)] == [450, 50, 500]
    assert data.shapes == ((3, 32, 32), 10)
