"""Pairs of pictures by file name, and conditions from conditions.csv."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core import InputError
from bench.data import OnDisk
from bench.datasets import decoding, images, load, prepare

TARGET = {"_target_": "bench.datasets.images.images", "size": 8, "source_size": 4}
COUNTS = {"train": 20, "test": 6}


def save(file: Path, red: int, number: int, side: tuple[int, int] = (8, 8)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", side, (red, number, 0)).save(file)


def save_pairs(folder: Path, count: int, start: int = 0, subfolder: str = "") -> None:
    """Pairs whose green value is their number; sources of 4 px are red 150, targets of 8 px red 200."""
    for i in range(start, start + count):
        save(folder / "source" / subfolder / f"{i:03}.png", 150, i, (4, 4))
        save(folder / "target" / subfolder / f"{i:03}.bmp", 200, i)


def write_table(folder: Path, numbers: range, header: str = "file,age,hair", suffix: str = ".png") -> None:
    rows = [f"{i:03}{suffix},{i + 0.5},{['red', 'black', 'blond'][i % 3]}" for i in reversed(numbers)]
    (folder / "conditions.csv").write_text("\n".join([header, *rows, ""]))


@pytest.fixture
def pairs(tmp_path) -> Path:
    """train/ with the pairs 0 to 19 and test/ with the pairs 20 to 25, each with a table of conditions."""
    root, start = tmp_path / "pairs", 0
    for part, count in COUNTS.items():
        save_pairs(root / part, count, start)
        write_table(root / part, range(start, start + count))
        start += count
    return root


def read(root: Path, **options):
    return images.images(str(root), **{"size": 8, "source_size": 4} | options)


# --- pairs


def test_sources_and_targets_are_paired_by_name_whatever_their_suffixes(pairs):
    source = read(pairs)
    assert source.warnings == () and source.classes is None and source.validation is None
    assert source.train.x.shape == (20, 3, 8, 8) and source.train.source.shape == (20, 3, 4, 4)
    for split in (source.train, source.test):
        assert set(split.x[:, 0].ravel()) == {200} and set(split.source[:, 0].ravel()) == {150}
        np.testing.assert_array_equal(split.x[:, 1, 0, 0], split.source[:, 1, 0, 0])
    assert sorted(source.test.x[:, 1, 0, 0]) == list(range(20, 26))
    assert prepare(source).shapes.provides == ("source", "age", "hair")


def test_sources_have_the_size_of_targets_unless_another_is_set(pairs):
    assert read(pairs, source_size=None).train.source.shape == (20, 3, 8, 8)
    assert read(pairs, size=(8, 12), source_size=(2, 3)).train.source.shape == (20, 3, 2, 3)


@pytest.mark.parametrize("name", ["val", "Validation"])
def test_a_validation_folder_has_pairs_too(pairs, name):
    save_pairs(pairs / name, 3, 50)
    write_table(pairs / name, range(50, 53))
    data = prepare(read(pairs))
    assert sorted(data.validation.x[:, 1, 0, 0].tolist()) == sorted(data.validation.source[:, 1, 0, 0].tolist()) == [
        50, 51, 52,
    ]  # fmt: skip


def test_a_fifth_of_pairs_without_split_folders_is_held_out(tmp_path):
    save_pairs(tmp_path, 20)
    source = read(tmp_path)
    assert (len(source.train.x), len(source.test.x)) == (16, 4)
    np.testing.assert_array_equal(source.test.x[:, 1, 0, 0], source.test.source[:, 1, 0, 0])


def test_pairs_in_subfolders_are_matched_by_path(tmp_path):
    for start, subfolder in [(0, "a"), (100, "b")]:
        save_pairs(tmp_path, 10, start, subfolder)
        for half in ("source", "target"):
            for file in sorted((tmp_path / half / subfolder).iterdir()):
                file.rename(file.with_stem(f"{int(file.stem) % 100}"))
    source = read(tmp_path)
    np.testing.assert_array_equal(source.train.x[:, 1, 0, 0], source.train.source[:, 1, 0, 0])
    assert len(source.train.x) == 16 and source.train.label is None


def test_a_damaged_picture_removes_its_pair(pairs):
    (pairs / "train" / "source" / "003.png").write_bytes(b"no picture")
    (pairs / "test" / "target" / "021.bmp").write_bytes(b"no picture")
    source = read(pairs)
    assert 3 not in source.train.x[:, 1] and 21 not in source.test.source[:, 1]
    assert (len(source.train.x), len(source.test.source)) == (19, 5)
    assert source.train.conditions["age"][:, 0].tolist() == [i + 0.5 for i in range(20) if i != 3]
    assert len(source.warnings) == 1 and source.warnings[0].startswith("2 of 52 files were not read: 2 damaged (first")


def test_groups_and_the_limit_apply_to_pairs(pairs):
    source = read(pairs, limit=12, groups=r"/(\d+)\d\.")
    assert (
        len(source.train.x) == 12 == len(source.train.source)
        and source.train.group.tolist() == ["00"] * 10 + ["01"] * 2
    )
    assert source.vocabulary["hair"] == ["black", "blond", "red"]


def test_other_files_and_folders_are_named(pairs):
    save(pairs / "train" / "masks" / "000.png", 1, 1)
    (pairs / "train" / "source" / "notes.txt").touch()
    assert read(pairs).warnings == (
        "train/masks/ is not source/ or target/ and was not read: 1 files",
        "1 of 53 files were not read: 1 .txt",
    )


def test_masks_of_0_and_1_have_full_contrast_as_sources(tmp_path):
    for i in range(12):
        save(tmp_path / "target" / f"{i}.png", 200, i)
        mask = np.zeros((8, 8), np.uint8)
        mask[:, i % 7 :] = 1
        (tmp_path / "source").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "source" / f"{i}.png")
    source = read(tmp_path, source_size=8)
    assert set(source.train.source.ravel()) == {0, 255} and source.stored_range == (0, 255)


def test_pairs_are_decoded_once_and_may_stay_on_disk(pairs, tmp_path, monkeypatch):
    options = TARGET | {"root": str(pairs)}
    plain = load(options)
    decoded = []
    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda file, **given: decoded.append(file) or decode(file, **given))
    monkeypatch.setattr(images, "IN_MEMORY", 3000)  # sources take 20 * 48 bytes, targets 26 * 192
    first = load(options, cache=tmp_path / "cache")
    again = load(options | {"name": "again"}, cache=tmp_path / "cache")
    assert len(decoded) == 52 and first is not again
    assert isinstance(again.train.x, OnDisk) and isinstance(again.train.source, torch.Tensor)
    assert plain.fingerprint == first.fingerprint == again.fingerprint
    batch = again.read(again.test.rows(slice(3)), None)
    assert torch.equal(batch.x[:, 1, 0, 0], batch.input[:, 1, 0, 0])
    save(pairs / "train" / "source" / "000.png", 151, 0, (4, 4))
    assert load(options, cache=tmp_path / "cache").fingerprint != plain.fingerprint
    assert len(decoded) == 52 + 26  # sources only


# --- conditions.csv


def test_columns_are_numbers_or_classes(pairs):
    with (pairs / "train" / "conditions.csv").open("a") as table:
        table.write("\n  \n , ,\n")  # lines without content
    data = prepare(read(pairs))
    assert data.vocabulary == {"hair": ["black", "blond", "red"]}
    for split in (data.train, data.validation, data.test):
        number = split.x[:, 1, 0, 0].float()
        assert split.conditions["age"].dtype == torch.float32 and split.conditions["hair"].dtype == torch.bool
        assert torch.equal(split.conditions["age"], number[:, None] + 0.5)
        assert torch.equal(split.conditions["hair"].int().argmax(1), torch.tensor([2, 0, 1])[number.long() % 3])


@pytest.mark.parametrize("suffix", ["", ".png", ".bmp", ".JPG"])
def test_a_table_names_pictures_with_or_without_a_suffix(pairs, suffix):
    expected = prepare(read(pairs)).fingerprint
    write_table(pairs / "train", range(20), suffix=suffix)
    assert prepare(read(pairs)).fingerprint == expected


def test_one_table_for_all_splits_has_paths_from_the_root(pairs):
    expected = prepare(read(pairs)).fingerprint
    lines = ["\ufeffpicture,age,hair"]
    for part in COUNTS:
        table = pairs / part / "conditions.csv"
        lines += [f"{part}/{line}" for line in table.read_text().splitlines()[1:]]
        table.unlink()
    (pairs / "conditions.csv").write_text("\r\n".join(lines), encoding="utf-8")
    source = read(pairs)
    assert prepare(source).fingerprint == expected and source.warnings == ()


def test_pictures_in_class_folders_have_conditions_too(picture_folder):
    lines = [f"{file.relative_to(picture_folder)},{file.stem}" for file in sorted(picture_folder.rglob("*.png"))]
    (picture_folder / "conditions.csv").write_text("\n".join(["file,number", *lines]))
    data = load(TARGET | {"root": str(picture_folder), "source_size": None})
    assert data.shapes.provides == ("label", "number") and "not read" not in str(data.warnings)
    for split in (data.train, data.validation, data.test):
        assert torch.equal(split.conditions["number"][:, 0], split.x[:, 1, 0, 0].float())


def test_a_changed_table_is_read_again(pairs):
    before = load(TARGET | {"root": str(pairs)})
    write_table(pairs / "test", range(20, 26), "file,years,hair")
    write_table(pairs / "train", range(20), "file,years,hair")
    assert load(TARGET | {"root": str(pairs)}).shapes.conditions == {"years": (1,), "hair": (3,)} != before.shapes


# --- what is refused


def change_table(old: str, new: str, part: str = "train"):
    def change(root: Path) -> None:
        table = root / part / "conditions.csv"
        assert old in table.read_text()
        table.write_text(table.read_text().replace(old, new))

    return change


def both(*changes):
    return lambda root: [change(root) for change in changes]


def remove(*places: str):
    def change(root: Path) -> None:
        for place in places:
            path = root / place
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def add(place: str, side: tuple[int, int] = (8, 8)):
    return lambda root: save(root / place, 1, 1, side)


def write(text: str):
    return lambda root: (root / "train" / "conditions.csv").write_text(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("train/target/004.bmp"), r"train/source/004\.png has no target of this name in train/target/ \(1 of"),
        (remove("test/source/021.png"), r"test/target/021\.bmp has no source of this name in test/source/ \(1 of 6"),
        (remove("test/source"), r"test/ holds target/ but no source/: pairs of pictures need both"),
        (both(remove("test"), add("test/021.png"), add("test/022.png")),
         r"source/ and target/ are in train/ but not in test/"),
        (add("train/source/004.jpg"), r"train/source/004\.png and .*004\.jpg differ only in their suffix|004\.jpg and"),
        (add("train/target/004.bmp", (12, 8)),
         r"train/source/004\.png has 4 x 4 pixels and train/target/004\.bmp 12 x 8 \(1 of 26 pairs differ in aspect"),
        (both(add("train/source/004.png", (12, 16)), add("train/target/004.bmp", (16, 12))),
         r"train/source/004\.png has 12 x 16 pixels and train/target/004\.bmp 16 x 12 \(1 of 26"),
        (remove("train/source", "train/target"), "train/ holds no pictures"),
        (change_table("004.png,", "400.png,"), r"train/conditions\.csv has no row for train/target/004\.bmp \(1 of 20"),
        (both(change_table("004.png,4.5,black\n", ""), remove("train/source/004.png", "train/target/004.bmp"),
              change_table("005.png,5.5,blond\n", "005.png,5.5,blond\n099.png,1,red\n")),
         r"train/conditions\.csv, line 17 \(099\.png\): there is no such picture \(1 rows"),
        (change_table("004.png,4.5,", "004.png,,"), r"line 17 \(004\.png\): age is empty"),
        (change_table("004.png,4.5,black", "004.png,4.5, "), r"line 17 \(004\.png\): hair is empty"),
        (change_table("004.png,4.5,", "004.png,nan,"), r"line 17 \(004\.png\): age is nan; expect"),
        (change_table("004.png,4.5,", "004.png,1e99,"), r"line 17 \(004\.png\): age is 1e99; expected a finite number"),
        (change_table("004.png,4.5,", "004.png,old,"),
         r"line 17 \(004\.png\): age is old, but .*test/conditions\.csv, line 7 \(020\.png\) has 20\.5: expected n"),
        (change_table("004.png,4.5,", "004.png,"), r"line 17 \(004\.png\) has 1 values for 2 columns: age, hair"),
        (change_table("004.png,4.5,", "005.png,4.5,"), r"line 17 \(005\.png\) repeats the picture of .*line 16 \(005"),
        (change_table("file,age,", "file,label,"), r"conditions\.csv: the column label: that name has another meaning"),
        (change_table("file,age,", "file,eye colour,"), r"the column eye colour: use letters, digits and _"),
        (change_table("file,age,", "file,,"), r"train/conditions\.csv: column 2 has no name: name it in"),
        (change_table("file,age,", "file,hair,"), r"conditions\.csv has two columns hair"),
        (change_table("file,age,", "file,years,"), r"must have the same columns: only one has age"),
        (remove("test/conditions.csv"), r"test/ has no conditions\.csv, but there is train/conditions\.csv"),
        (lambda root: shutil.copy(root / "train" / "conditions.csv", root), "holds conditions.csv and test/"),
        (write(""), r"train/conditions\.csv has 0 rows and 0 columns of conditions: expected the file name"),
        (write("file;age\n000.png;1\n"), r"train/conditions\.csv has 1 rows and 0 columns of conditions"),
        (write('file,age\n"000.png,1\n'), r"train/conditions\.csv cannot be read as comma-separated UTF-8"),
        (lambda root: (root / "train" / "conditions.csv").write_bytes(b"file,hair\n000.png,\xff\n"), "cannot be read"),
    ],
)  # fmt: skip
def test_wrong_pairs_and_tables_are_refused_in_a_line_that_names_the_file(pairs, change, message):
    change(pairs)
    with pytest.raises(InputError, match=message) as caught:
        read(pairs)
    assert "\n" not in str(caught.value)


def test_a_column_of_names_is_not_a_class(pairs):
    for part, numbers in (("train", range(20)), ("test", range(20, 26))):
        lines = ["file,name", *(f"{i:03},person {i}" for i in numbers)]
        (pairs / part / "conditions.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"line 2 \(020\): name is person 20, and every row has another value"):
        read(pairs)


def test_names_with_an_underscore_are_no_numbers(pairs):
    for part, numbers in (("train", range(20)), ("test", range(20, 26))):
        lines = ["file,room", *(f"{i:03},{1 + i % 2}_0" for i in numbers)]
        (pairs / part / "conditions.csv").write_text("\n".join(lines))
    assert read(pairs).vocabulary == {"room": ["1_0", "2_0"]}


def test_sizes_that_crop_a_pair_differently_are_refused(pairs, picture_folder):
    with pytest.raises(
        InputError, match=r"source_size=\[4,4\] and dataset\.size=\[8,16\] have different aspect ratios"
    ):
        read(pairs, size=(8, 16))
    with pytest.raises(
        InputError, match=r"dataset\.source_size has no effect: .*pictures/ holds no source/ and target/"
    ):
        read(picture_folder)


def test_aspect_ratios_may_differ_by_rounding(tmp_path):
    for i in range(12):
        save(tmp_path / "source" / f"{i}.png", 150, i, (5, 3))
        save(tmp_path / "target" / f"{i}.png", 200, i, (20, 13))
    assert len(read(tmp_path).train.x) == 10
    save(tmp_path / "target" / "3.png", 200, 3, (20, 16))
    with pytest.raises(InputError, match=r"source/3\.png has 5 x 3 pixels and target/3\.png 20 x 16"):
        read(tmp_path)
