from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.utkface import GENDERS, RACES, group_names, utkface
from tests.datasets.conftest import face_name


def read(folder, **options):
    return utkface(root=str(folder), size=16, **{"bins": (5, 30), **options})


def test_names_give_the_age_group_and_the_truth(face_folder):
    source = read(face_folder)
    assert source.train.x.shape == (48, 3, 16, 16) and source.test.x.shape == (12, 3, 16, 16)
    assert source.vocabulary == {"age": ["0 to 5", "6 to 30", "over 30"], "gender": GENDERS, "race": RACES}
    for split in (source.train, source.test):
        age, group = split.truth["age"], split.conditions["age"]
        assert group.dtype == bool and age.dtype == np.float32 and set(split.truth) == {"age", "gender", "race"}
        np.testing.assert_array_equal(group.argmax(1), np.where(age <= 5, 0, np.where(age <= 30, 1, 2)))
        np.testing.assert_allclose(split.x[:, :, 8, 8].mean(1), 2 * age, atol=3)  # the picture belongs to the name
    everyone = np.concatenate(
        [split.truth["gender"] + 10 * split.truth["race"] for split in (source.train, source.test)]
    )
    expected = [number % 2 + 10 * (number % 5) for number in range(60)]
    assert sorted(everyone) == sorted(expected) and not source.warnings


def test_gender_may_be_a_condition(face_folder):
    data = prepare(read(face_folder, gender=True))
    assert data.shapes.conditions == {"age": (3,), "gender": (2,)} and data.shapes.provides == ("age", "gender")
    assert torch.equal(data.test.conditions["gender"].int().argmax(1), data.test.truth["gender"])


def test_all_options_of_the_published_groups():
    assert group_names((5, 10, 15, 20, 30, 40, 50, 60, 70)) == [
        *("0 to 5", "6 to 10", "11 to 15", "16 to 20", "21 to 30"),
        *("31 to 40", "41 to 50", "51 to 60", "61 to 70", "over 70"),
    ]


def test_the_folder_is_found_below_bench_data(face_folder, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(face_folder.parent))
    np.testing.assert_array_equal(utkface("faces", size=16, bins=(30,)).test.x, read(face_folder).test.x)


def test_a_cache_gives_the_same_faces(face_folder, tmp_path):
    options = {"_target_": "bench.datasets.utkface.utkface", "root": str(face_folder), "bins": [5, 30]}
    decoded, cached, again = load(options), *(load(options, cache=tmp_path / name) for name in ("cache", "cache/"))
    assert torch.equal(decoded.train.x, cached.train.x) and torch.equal(cached.train.x, again.train.x)
    assert decoded.fingerprint == cached.fingerprint and list((tmp_path / "cache" / "images").iterdir())


def test_files_that_are_not_faces_are_counted(face_folder):
    face = face_folder / face_name(30, 1, 3, 3)
    face.rename(face_folder / "61_1_20170109142408075.jpg.chip.jpg")  # no race
    (face_folder / "notes.txt").write_text("")
    (face_folder / face_name(6, 0, 2, 2)).write_bytes(b"\xff\xd8")
    source = read(face_folder)
    assert len(source.train.x) + len(source.test.x) == 58
    (warning,) = source.warnings
    assert "1 without age, gender and race in the name (first: 61_1_20170109142408075.jpg.chip.jpg)" in warning
    assert "1 .txt" in warning and "1 damaged (first: 6_0_2_" in warning


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda folder: None, {"bins": (30, 5)}, r"dataset\.bins=\[30, 5\]: .*increasing order"),
        (lambda folder: None, {"bins": ()}, r"dataset\.bins=\[\]: "),
        (lambda folder: None, {"bins": (40, 50)}, r"dataset\.bins=\[40, 50\]: no face in .* is 41 to 50 years old"),
        (lambda folder: None, {"root": "nowhere"}, r"dataset\.root: nowhere is not a folder"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], {}, "has no faces: expected pictures with names"),
        (
            lambda folder: (folder / face_name(1, 0, 0, 0)).rename(folder / face_name(117, 0, 0, 0)),
            {},
            r"faces/117_0_0_20170116174520000\.jpg\.chip\.jpg says that the age is 117: expected 0 to 116",
        ),
    ],
)
def test_wrong_input_is_one_line(face_folder, change, options, message):
    change(face_folder)
    with pytest.raises(InputError, match=message) as caught:
        utkface(**{"root": str(face_folder), "bins": (5, 30), **options})
    assert "\n" not in str(caught.value)


def test_without_a_folder_the_message_says_what_to_set(monkeypatch):
    monkeypatch.delenv("BENCH_DATA", raising=False)
    with pytest.raises(InputError, match=r"neither dataset\.root nor BENCH_DATA is set"):
        utkface()
