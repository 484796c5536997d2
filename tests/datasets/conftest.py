"""Small data sets of every kind, in the layout that the real ones have."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

TRAIN, TEST, CLASSES = 60, 24, 3


def pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path) -> Path:
    """Four gzipped IDX files: 60 and 24 images of 7x5 in 3 classes."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for seed, (part, count) in enumerate([("train", TRAIN), ("t10k", TEST)]):
        labels = (np.arange(count) % CLASSES).astype(np.uint8)
        for name, array in [("images-idx3", pixels(count, 7, 5, seed=seed)), ("labels-idx1", labels)]:
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return folder


@pytest.fixture
def picture_folder(tmp_path) -> Path:
    """train/ and test/ with the classes a, b, c: 20 and 8 pictures of 12x8 each, whose red is 80, 160, 240."""
    folder = tmp_path / "pictures"
    for part, count in [("train", TRAIN // CLASSES), ("test", TEST // CLASSES)]:
        for label, name in enumerate("abc"):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (12, 8), (80 * (label + 1), i, 0)).save(folder / part / name / f"{i:03}.png")
    return folder


@pytest.fixture
def npz_arrays() -> dict[str, np.ndarray]:
    return {
        "x_train": pixels(TRAIN, 6, 4),
        "y_train": np.arange(TRAIN) % CLASSES,
        "x_test": pixels(TEST, 6, 4, seed=1),
        "y_test": np.arange(TEST) % CLASSES,
    }


@pytest.fixture
def fake_openml(monkeypatch) -> SimpleNamespace:
    """The table that OpenML returns for every name: 84 images of 6x6 in the classes a, b, c. Tests may change it."""
    table = SimpleNamespace(
        data=pixels(TRAIN + TEST, 36).astype(np.float64),
        target=np.array(["c", "a", "b"] * ((TRAIN + TEST) // CLASSES), dtype=object),
    )
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda name, **_: table)
    return table


@pytest.fixture
def npz_file(tmp_path, npz_arrays) -> Path:
    file = tmp_path / "arrays.npz"
    np.savez(file, **npz_arrays)
    return file


@pytest.fixture
def palette_folder(tmp_path) -> Path:
    """15 pictures of 12x8 of random colours in two subfolders, and palettes.tsv as design sites publish it."""
    rng = np.random.default_rng(0)
    folder, lines = tmp_path / "designs", ["uid\turl\tmedia_path\tcolor_palette"]
    for i in range(15):
        place = folder / ("a" if i % 2 else "b") / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).save(place)
        palette = "{#E1E8ED,#AEB0C8,#204060,#C03028,#109030,#F0D000}"
        lines.append(f"{i}\thttps://example.org/shots/{i}\tmedia/{i}.png?size=big\t{palette}")
    (folder / "palettes.tsv").write_text("\n".join(lines) + "\n")
    return folder


def _draw_captioned(folder, has_boxes: bool, has_classes: bool):
    """The layout of StackGAN with drawn pictures: a red square of 20 pixels on blue, inside its bounding box."""
    rng = np.random.default_rng(0)
    place = folder / "CUB_200_2011" if has_boxes else folder
    names, boxes, number = [], [], 0
    for part, count in {"train": 12, "test": 3}.items():
        keys = [f"{i % 3 + (100 if part == 'test' else 1):03d}.Kind/Bird_{part}_{i}" for i in range(count)]
        (folder / part).mkdir(parents=True)
        for key in keys:
            number += 1
            left, top = int(rng.integers(20, 60)), int(rng.integers(20, 40))
            picture = np.full((90, 120, 3), (0, 0, 255), np.uint8)
            picture[top : top + 20, left : left + 20] = (255, 0, 0)
            for file in (place / "images" / f"{key}.jpg", folder / "text" / f"{key}.txt"):
                file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / "images" / f"{key}.jpg", quality=95, subsampling=0)
            (folder / "text" / f"{key}.txt").write_text("a red square\na square on blue\n")
            names.append(f"{number} {key}.jpg")
            boxes.append(f"{number} {left:.1f} {top:.1f} 20.0 20.0")
        embeddings = [rng.normal(size=(2, 8)).astype(np.float32) for _ in keys]
        classes = [int(key[:3]) for key in keys]
        values = {"filenames": keys, "char-CNN-RNN-embeddings": embeddings, "class_info": classes}
        for name, value in values.items():
            if name != "class_info" or has_classes:
                (folder / part / f"{name}.pickle").write_bytes(pickle.dumps(value, protocol=2))
    if has_boxes:
        (place / "images.txt").write_text("\n".join(names) + "\n")
        (place / "bounding_boxes.txt").write_text("\n".join(boxes) + "\n")


@pytest.fixture
def cub(tmp_path):
    _draw_captioned(tmp_path / "cub", has_boxes=True, has_classes=True)
    return tmp_path / "cub"


@pytest.fixture
def coco(tmp_path):
    _draw_captioned(tmp_path / "coco", has_boxes=False, has_classes=False)
    return tmp_path / "coco"


FACE_AGES = (1, 5, 6, 30, 31, 116)


def face_name(age: int, gender: int, race: int, number: int) -> str:
    """The name of a file of UTKFace."""
    return f"{age}_{gender}_{race}_2017011617452{number:04}.jpg.chip.jpg"


@pytest.fixture
def face_folder(tmp_path):
    """60 discs in the layout of the published set; the brightness of each is twice the age."""
    folder = tmp_path / "faces"
    folder.mkdir()
    y, x = np.mgrid[:20, :20] - 9.5
    for number in range(60):
        age = FACE_AGES[number % len(FACE_AGES)]
        disc = np.where(np.hypot(x, y) < 8, 2 * age, number % 3).astype(np.uint8)
        Image.fromarray(np.stack([disc] * 3, -1)).save(folder / face_name(age, number % 2, number % 5, number), "jpeg")
    return folder


# --- photos of people with label maps

CLOTHES = ["null", "hair", "skin", "t-shirt", "jeans", "bag", "shoes"]
PHOTO = (96, 64)  # of the pictures: exactly twice those that the tests of ccp.py ask for


def dressed_person() -> np.ndarray:
    """Labels [96, 64]: hair, a face, a t-shirt with bare arms and a bag beside it, jeans, bare ankles, shoes."""
    labels = np.zeros(PHOTO, np.uint8)
    bands = {"hair": (8, 12), "skin": (12, 20), "t-shirt": (20, 48), "jeans": (48, 80), "shoes": (84, 88)}
    for name, (top, bottom) in bands.items():
        labels[top:bottom, 24:40] = CLOTHES.index(name)
    labels[24:44, 16:24] = labels[80:84, 24:40] = CLOTHES.index("skin")
    labels[40:56, 44:56] = CLOTHES.index("bag")
    return labels


def write_photos(folder: Path, picture: str, labels: dict[str, np.ndarray], count: int = 12) -> None:
    for number in range(count):
        photo = pixels(1, *PHOTO, 3, seed=number)[0]
        for name, array in {picture: photo, **labels}.items():
            file = folder / name.format(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file)


@pytest.fixture
def ccp_folder(tmp_path) -> Path:
    """A folder in the layout of Clothing Co-Parsing."""
    folder = tmp_path / "ccp"
    write_photos(folder, "photos/{:04}.jpg", {"labels/{:04}.png": dressed_person()})
    (folder / "labels.txt").write_text("\n".join(CLOTHES) + "\n")
    return folder


@pytest.fixture
def chictopia_folder(tmp_path) -> Path:
    """A flat folder in the layout of classner/generating_people."""
    labels = np.choose(dressed_person(), [0, 2, 11, 4, 6, 16, 9]).astype(np.uint8)
    body = np.uint8(dressed_person() > 0) * 3
    folder = tmp_path / "chictopia"
    write_photos(folder, "{:04}_image.png", {"{:04}_labels.png": labels, "{:04}_bodysegments.png": body})
    return folder
