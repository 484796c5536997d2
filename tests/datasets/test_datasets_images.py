"""The pictures that are read from a folder, and their splits, classes and groups."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.folders import suffixes
from bench.datasets.images import images

TARGET = {"_target_": "bench.datasets.images.images"}


def save_pictures(folder: Path, count: int, red: int = 200, name: str = "{:03}.png") -> None:
    """Saves pictures whose green value is their index."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (red, i, 0)).save(folder / name.format(i))


def split_sizes(source) -> dict[str, int]:
    splits = {"train": source.train, "validation": source.validation, "test": source.test}
    return {name: len(split.x) for name, split in splits.items() if split is not None}


def test_train_and_test_folders(picture_folder):
    source = images(str(picture_folder), size=4)
    assert source.train.x.shape == (60, 3, 4, 4) and source.test.x.shape == (24, 3, 4, 4)
    assert source.train.x.dtype == np.uint8 and source.validation is None and source.warnings == ()
    assert np.bincount(source.test.label).tolist() == [8, 8, 8]
    for x, y, *_ in (source.train, source.test):
        np.testing.assert_array_equal(x[:, 0], np.broadcast_to(80 * (y + 1)[:, None, None], x[:, 0].shape))
        assert not x[:, 2].any()


def test_the_first_test_pictures_have_several_classes(picture_folder):
    assert len(set(images(str(picture_folder), size=4).test.label[:8].tolist())) > 1


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation", "dev"])
@pytest.mark.parametrize("classes", [("",), ("a", "b")])
def test_a_validation_folder_is_the_validation_split(tmp_path, name, classes):
    for part, count, red in [("train", 20, 100), (name, 6, 150), ("test", 4, 200)]:
        for subfolder in classes:
            save_pictures(tmp_path / part / subfolder, count, red)
    source = images(str(tmp_path), size=4)
    n = len(classes)
    assert split_sizes(source) == {"train": 20 * n, "validation": 6 * n, "test": 4 * n}
    assert [set(split.x[:, 0].ravel()) for split in (source.train, source.validation, source.test)] == [
        {100}, {150}, {200},
    ]  # fmt: skip
    assert (source.train.label is None) == (n == 1) and source.warnings == ()
    data = prepare(source)
    assert data.shapes.classes == (0 if n == 1 else n) and len(data.validation.x) == 6 * n


@pytest.mark.parametrize("classes", [("",), ("a", "b")])
def test_without_a_test_folder_a_fifth_of_train_becomes_the_test_set_with_a_warning(tmp_path, classes):
    for part, count, red in [("train", 20, 100), ("val", 10, 200)]:
        for subfolder in classes:
            save_pictures(tmp_path / part / subfolder, count, red)
    source = images(str(tmp_path), size=4)
    n = len(classes)
    assert split_sizes(source) == {"train": 16 * n, "validation": 10 * n, "test": 4 * n}
    assert {*source.train.x[:, 0].ravel(), *source.test.x[:, 0].ravel()} == {100}
    assert prepare(source).shapes.classes == (0 if n == 1 else n)
    assert source.warnings == ("there is no test/ folder: a fifth of train/ became the test set",)
    assert source.warnings[0] in prepare(source).warnings


def test_a_single_train_folder_is_not_a_class(tmp_path):
    save_pictures(tmp_path / "train", 15)
    source = images(str(tmp_path), size=4)
    assert split_sizes(source) == {"train": 12, "test": 3} and source.train.label is None
    assert source.warnings == ("there is no test/ folder: a fifth of train/ became the test set",)


def test_train_can_be_a_class_among_others(tmp_path):
    for name in ("plane", "ship", "train"):
        save_pictures(tmp_path / name, 10)
    source = images(str(tmp_path), size=4)
    assert split_sizes(source) == {"train": 24, "test": 6} and source.warnings == ()
    assert np.bincount(source.train.label).tolist() == [8, 8, 8]


def test_without_split_folders_a_fifth_is_held_out(picture_folder):
    source = images(str(picture_folder / "train"), size=4)
    assert split_sizes(source) == {"train": 48, "test": 12} and source.warnings == ()
    assert np.bincount(source.test.label).tolist() == [4, 4, 4]
    np.testing.assert_array_equal(source.test.x[:, 0, 0, 0], 80 * (source.test.label + 1))


def test_a_flat_folder_has_no_labels(picture_folder):
    source = images(str(picture_folder / "train" / "b"), size=4)
    assert split_sizes(source) == {"train": 16, "test": 4}
    assert prepare(source).shapes[:2] == ((3, 4, 4), 0)


def test_subfolders_of_a_class_are_read_and_circular_links_are_not_followed(tmp_path):
    save_pictures(tmp_path / "a" / "left" / "deep", 5)
    save_pictures(tmp_path / "a" / "right", 6)
    save_pictures(tmp_path / "a", 4)
    save_pictures(tmp_path / "b", 10)
    for name in ("up", "again"):
        (tmp_path / "a" / "right" / name).symlink_to(tmp_path / "a")
    (tmp_path / "a" / "nowhere.txt").symlink_to(tmp_path / "gone")
    source = images(str(tmp_path), size=4)
    assert load(TARGET | {"root": str(tmp_path), "size": 4}).shapes.classes == 2
    assert np.bincount([*source.train.label, *source.test.label]).tolist() == [15, 10]


def test_a_class_folder_may_be_a_link(tmp_path):
    save_pictures(tmp_path / "elsewhere", 10)
    save_pictures(tmp_path / "root" / "b", 10)
    (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere")
    assert sum(split_sizes(images(str(tmp_path / "root"), size=4)).values()) == 20


def test_limit_takes_the_first_pictures_of_each_class_by_name_in_each_split(picture_folder):
    source = images(str(picture_folder), size=4, limit=5)
    assert np.bincount(source.train.label).tolist() == [5, 5, 5] and np.bincount(source.test.label).tolist() == [5] * 3
    assert source.train.x[:, 1, 0, 0].tolist() == [0, 1, 2, 3, 4] * 3


def test_pictures_beyond_the_limit_are_not_read(picture_folder):
    for file in sorted((picture_folder / "train" / "a").iterdir())[5:]:
        file.write_text("no picture")
    assert images(str(picture_folder), size=4, limit=5).warnings == ()


def test_limit_also_applies_to_the_held_out_split(picture_folder):
    data = load(TARGET | {"root": str(picture_folder / "train"), "size": 4, "limit": 4})
    assert [len(split.x) for split in (data.train, data.validation, data.test)] == [11, 1, 12]


# --- files that are not read


def test_unread_files_are_counted_by_suffix_and_the_first_damaged_one_is_named(tmp_path):
    save_pictures(tmp_path / "x", 40)
    for i in range(38):
        (tmp_path / "x" / f"{i}.txt").write_text("a caption")
    for name in ("d.png", "e.png"):
        (tmp_path / "x" / name).write_bytes(b"no picture")
    source = images(str(tmp_path), size=4)
    assert sum(split_sizes(source).values()) == 40
    damaged = "2 damaged (first: x/d.png, cannot identify image file)"
    assert source.warnings == (f"40 of 80 files were not read: 38 .txt, {damaged}",)


def test_labels_match_their_pictures_if_some_are_damaged(tmp_path):
    for i, name in enumerate("ab"):
        save_pictures(tmp_path / name, 20, red=100 + 100 * i)
    for file in ("a/003.png", "b/000.png"):
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:50])
    source = images(str(tmp_path), size=4)
    assert sum(split_sizes(source).values()) == 38 and source.warnings[0].startswith(
        "2 of 40 files were not read: 2 damaged"
    )
    for x, y, *_ in (source.train, source.test):
        np.testing.assert_array_equal(x[:, 0, 0, 0], 100 + 100 * y)


def test_hidden_files_and_macos_archive_folders_are_ignored(picture_folder):
    (picture_folder / "train" / "a" / "._000.png").write_text("macOS metadata")
    (picture_folder / ".DS_Store").write_text("macOS metadata")
    save_pictures(picture_folder / "__MACOSX", 1)
    save_pictures(picture_folder / "train" / "__MACOSX", 1)
    source = images(str(picture_folder), size=4)
    assert split_sizes(source) == {"train": 60, "test": 24} and source.warnings == ()


def test_files_outside_the_split_folders_give_a_warning(picture_folder):
    save_pictures(picture_folder / "unlabelled", 7)
    save_pictures(picture_folder, 2)
    (picture_folder / "labels.csv").touch()
    assert images(str(picture_folder), size=4).warnings == (
        "unlabelled/ is not a split and was not read: 7 files",
        "2 pictures outside test/ and train/ were not read: 000.png, ...",
        "1 of 85 files were not read: 1 .csv",
    )


def test_every_suffix_that_pillow_decodes_is_read(tmp_path):
    assert suffixes() >= {".png", ".jpg", ".jpeg", ".jp2", ".webp", ".tif", ".tga", ".ico", ".qoi", ".avif", ".pbm"}
    assert not suffixes() & {".h5", ".mpg", ".wmf", ".pdf", ".txt", ""}
    for i, suffix in enumerate(["jp2", "JPEG", "tga", "qoi", "pcx", "dds", "ppm", "Bmp", "webp", "gif", "icns", "sgi"]):
        Image.new("RGB", (16, 16), (200, 200, 200)).save(tmp_path / f"{i:02}.{suffix}")
    source = images(str(tmp_path), size=4)
    assert sum(split_sizes(source).values()) == 12 and source.warnings == ()
    assert abs(source.train.x.astype(int) - 200).max() <= 3


# --- groups


def test_all_pictures_of_a_group_stay_in_one_split(tmp_path):
    for i in range(60):
        save_pictures(tmp_path / "ab"[i % 2], 1, red=200 + i // 4, name=f"{i // 4:02}_{i}.png")
    source = images(str(tmp_path), size=4, groups=r"/(\d+)_")
    data = prepare(source)
    splits = [data.train, data.validation, data.test]
    people = [set((split.x[:, 0, 0, 0] - 200).tolist()) for split in splits]
    assert sum(map(len, people)) == len(set.union(*people)) == 15 and all(people)
    for split in splits:
        assert split.group.tolist() == (split.x[:, 0, 0, 0] - 200).tolist()


def test_a_group_in_two_split_folders_is_refused(tmp_path):
    for part in ("train", "test"):
        for person in range(12):
            save_pictures(tmp_path / part, 1, name=f"{part}{person:02}_x.png")
    with pytest.raises(InputError, match=r"groups: 12 groups are in both train and test"):
        prepare(images(str(tmp_path), size=4, groups=r"(\d+)_"))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (r"(\d+", r"groups=\(\\d\+ is not a regular expression: missing \)"),
        (r"\d+", "has 0 capture groups: expected one"),
        (r"(\d)(\d)", "has 2 capture groups: expected one"),
        (r"^(\d+)_", r"does not match test/a/000\.png: expected a group for each picture"),
    ],
)
def test_an_invalid_regular_expression_for_groups_is_refused(picture_folder, groups, message):
    with pytest.raises(InputError, match=message):
        images(str(picture_folder), size=4, groups=groups)


# --- folders that are refused


def test_a_root_that_is_not_set_or_missing_is_refused(picture_folder):
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


def no_train(folder: Path) -> None:
    (folder / "train").rename(folder / "val")


def class_missing(folder: Path) -> None:
    shutil.rmtree(folder / "test" / "b")


def class_missing_in_validation(folder: Path) -> None:
    shutil.copytree(folder / "test", folder / "val")
    (folder / "val" / "c").rename(folder / "val" / "d")


def labels_in_train_only(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    save_pictures(folder / "test", 5)


def two_validation_folders(folder: Path) -> None:
    for name in ("val", "valid"):
        shutil.copytree(folder / "test", folder / name)


def splits_below_classes(folder: Path) -> None:
    folder.rename(folder.with_name("cells"))
    folder.mkdir()
    folder.with_name("cells").rename(folder / "cells")


def loose_picture(folder: Path) -> None:
    shutil.copy(folder / "train" / "a" / "000.png", folder / "train" / "loose.png")


def many_damaged(folder: Path) -> None:
    for file in sorted((folder / "train" / "b").iterdir())[:9]:
        file.write_bytes(file.read_bytes()[:-30])


def none_readable(folder: Path) -> None:
    for file in folder.rglob("*.png"):
        file.write_text("no picture")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (empty_class, r"train/d/ holds no pictures: expected pictures, class folders of pictures, or source/ and"),
        (empty_root, r"pictures/ holds no pictures: expected pictures, class folders of pictures, or source/ and"),
        (no_train, r"pictures/ holds test/ and val/ but no train/"),
        (class_missing, r"test/ and train/ must hold the same classes: test/ has no b$"),
        (class_missing_in_validation, r"same classes: test/ has no d; train/ has no d; val/ has no c$"),
        (labels_in_train_only, r"class folders are in train/ but not in test/"),
        (two_validation_folders, r"pictures/ holds val/ and valid/, which all mean validation: keep one"),
        (splits_below_classes, r"cells/ holds test/ and train/, which must be directly in dataset\.root"),
        (loose_picture, r"train/ holds folders \(a/\) and loose pictures \(loose\.png\)"),
        (many_damaged, r"9 of 84 pictures in .*pictures/ are damaged; the first is train/b/000\.png: .*truncated"),
        (none_readable, r"none of 84 pictures can be decoded; the first is .*test/a/000\.png: cannot identify"),
    ],
)
def test_an_ambiguous_or_unusable_folder_is_refused_with_its_path(picture_folder, change, message):
    change(picture_folder)
    with pytest.raises(InputError, match=message) as caught:
        images(str(picture_folder), size=4)
    assert "\n" not in str(caught.value)


def test_real_pictures():
    if not os.environ.get("BENCH_DATA"):
        pytest.skip("BENCH_DATA is not set: the image folder cifar10 is not read")
    data = prepare(images(str(Path(os.environ["BENCH_DATA"], "cifar10")), limit=50))
    assert [len(split.x) for split in (data.train, data.validation, data.test)] == [450, 50, 500]
    assert data.shapes[:2] == ((3, 32, 32), 10)


@pytest.mark.parametrize("folder", ["", "train/"])
def test_too_few_pictures_are_refused_and_the_folder_is_named(tmp_path, folder):
    save_pictures(tmp_path / folder, 3)
    with pytest.raises(InputError, match=f"^there are 3 images in {tmp_path}/{folder}: expected at least 12$"):
        images(str(tmp_path))
