from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core import InputError
from bench.datasets import prepare
from bench.datasets.faces import draw
from bench.datasets.misalignment import misaligned
from bench.datasets.unaligned_images import unaligned_images


@pytest.fixture
def face_folder(tmp_path) -> Path:
    """20 drawn faces of 48x48 pixels."""
    faces = draw(np.random.default_rng(0).random((20, 22)), np.linspace(0, 1, 20), 48)
    for number, face in enumerate(faces):
        Image.fromarray(face.transpose(1, 2, 0)).save(tmp_path / f"{number:02}.png")
    return tmp_path


def test_a_picture_is_cropped_and_its_source_is_that_misaligned(face_folder):
    source = unaligned_images(str(face_folder), size=24, source_size=24, crop=0.5)
    assert [len(split.x) for split in (source.train, source.test)] == [16, 4] and source.range == (0, 255)
    upright = [
        np.asarray(Image.open(face_folder / f"{i:02}.png")).transpose(2, 0, 1)[:, 12:36, 12:36] for i in range(20)
    ]
    for split in (source.train, source.test):
        assert all(any(np.array_equal(x, face) for face in upright) for x in split.x)
        placement, middle = split.conditions["placement"], (..., slice(7, 17), slice(7, 17))
        moved = misaligned(split.x, placement, 24)
        error = np.abs(split.source.astype(float) - moved)[middle].mean()
        assert error < 3 < np.abs(split.source.astype(float) - split.x)[middle].mean()
    np.testing.assert_allclose(source.test.truth["rotation"], np.rad2deg(placement[:, 0]))
    assert not source.train.truth and source.train.label is None


def test_it_is_prepared_like_drawn_faces(face_folder):
    data = prepare(unaligned_images(str(face_folder), size=16, source_size=8))
    assert data.shapes.x == (3, 16, 16) and data.shapes.source == (3, 8, 8)
    assert data.shapes.provides == ("source", "placement")


def test_the_misalignment_depends_on_the_data_seed(face_folder):
    one, again, other = (
        unaligned_images(str(face_folder), size=16, source_size=8, data_seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.train.source, again.train.source)
    assert not np.array_equal(one.train.source, other.train.source)
    np.testing.assert_array_equal(one.train.x, other.train.x)


def test_a_warning_names_what_is_not_read(face_folder):
    assert unaligned_images(str(face_folder), size=16).warnings == ()
    files = sorted(face_folder.glob("*.png"))
    (face_folder / "conditions.csv").write_text("\n".join(["file,hair", *(f"{file.name},red" for file in files)]))
    (warning,) = unaligned_images(str(face_folder), size=16).warnings
    assert warning == f"only the pictures of {face_folder} were read, not its conditions.csv"
    (face_folder / "target").mkdir()
    (face_folder / "source").mkdir()
    for file in files:
        shutil.copy(file, face_folder / "source")
        file.rename(face_folder / "target" / file.name)
    (warning,) = unaligned_images(str(face_folder), size=16).warnings
    assert warning.endswith("were read, not its source/ and conditions.csv")
    (face_folder / "conditions.csv").unlink()
    for old, new in (("source", "women"), ("target", "men")):
        (face_folder / old).rename(face_folder / new)
    assert any(line.endswith("not its class folders") for line in unaligned_images(str(face_folder), size=16).warnings)


def test_a_missing_folder_is_one_line():
    with pytest.raises(InputError, match=r"dataset\.root is not set"):
        unaligned_images()


@pytest.mark.skipif("BENCH_DATA" not in os.environ, reason="BENCH_DATA is not set: it needs the folder utkface in it")
def test_photographs_of_faces():
    source = unaligned_images(os.path.join(os.environ["BENCH_DATA"], "utkface"))
    assert source.train.x.shape[1:] == (3, 64, 64) and source.train.source.shape[1:] == (3, 16, 16)
    assert len(source.train.x) + len(source.test.x) > 1000
