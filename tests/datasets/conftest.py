"""Small data sets of every kind, in the layout that the real ones have."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.datasets.sounds import write_digits, write_noises, write_pairs

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


# --- voxels: two classes, 12 and 3 shapes of each for training and testing


def solids(count: int, side: int = 16, seed: int = 0) -> np.ndarray:
    """Random voxels [count, side, side, side], no two alike."""
    return np.random.default_rng(seed).random((count, side, side, side)) < 0.3


def packbits(file: Path, voxels: np.ndarray) -> None:
    np.savez(file, bits=np.packbits(voxels.reshape(len(voxels), -1), axis=1), shape=np.array(voxels.shape))


def binvox_bytes(voxels: np.ndarray) -> bytes:
    """A binvox file of voxels [x, z, y] bool: runs of at most 255."""
    flat = voxels.ravel().astype(np.uint8)
    starts = np.flatnonzero(np.diff(flat, prepend=2))
    runs = []
    for start, end in zip(starts, [*starts[1:], len(flat)], strict=True):
        runs += [(flat[start], min(255, end - at)) for at in range(start, end, 255)]
    sides = " ".join(map(str, voxels.shape))
    return f"#binvox 1\ndim {sides}\ntranslate 0 0 0\nscale 1\ndata\n".encode() + np.array(runs, np.uint8).tobytes()


def off_text(width: float, depth: float, height: float, head: str = "OFF\n") -> str:
    """A box [x, y, z] as an .off file. head: the first line, which some files of ModelNet lack the end of."""
    corners = np.array([(x, y, z) for x in (0, width) for y in (0, depth) for z in (0, height)])
    sides = ["0 1 3 2", "4 6 7 5", "0 4 5 1", "2 3 7 6", "0 2 6 4", "1 5 7 3"]
    lines = [" ".join(map(str, corner)) for corner in corners] + [f"4 {side}" for side in sides]
    return f"{head}8 6 0\n" + "\n".join(lines) + "\n"


@pytest.fixture
def packed_folder(tmp_path) -> Path:
    folder = tmp_path / "packed"
    folder.mkdir()
    packbits(folder / "chair16_packbits.npz", solids(15))
    packbits(folder / "night_stand.npz", solids(15, seed=1))
    return folder


@pytest.fixture
def binvox_folder(tmp_path) -> Path:
    """ShapeNet's layout, without splits."""
    for label, seed in (("02691156", 0), ("03001627", 1)):
        for i, voxels in enumerate(solids(15, seed=seed)):
            file = tmp_path / "binvox" / label / f"model{i}" / "model.binvox"
            file.parent.mkdir(parents=True)
            file.write_bytes(binvox_bytes(voxels))
    return tmp_path / "binvox"


@pytest.fixture
def mesh_folder(tmp_path) -> Path:
    """ModelNet's layout with boxes: tall ones and flat ones, none like another."""
    for label in ("tower", "plate"):
        for i in range(15):
            file = tmp_path / "meshes" / label / ("train" if i < 12 else "test") / f"{label}_{i:04}.off"
            file.parent.mkdir(parents=True, exist_ok=True)
            row, column = divmod(i, 4)
            sides = (4 + 2 * row, 4 + 2 * column, 16) if label == "tower" else (16, 6 + 2 * row, 2 + 2 * column)
            file.write_text(off_text(*sides, head="OFF" if i == 1 else "OFF\n"))
    return tmp_path / "meshes"


@pytest.fixture
def mat_folder(tmp_path) -> Path:
    """The layout of 3DShapeNets: two rotations of each object."""
    for label, seed in (("chair", 0), ("night_stand", 1)):
        for i, voxels in enumerate(solids(15, 30, seed=seed)):
            folder = tmp_path / "volumetric_data" / label / "30" / ("train" if i < 12 else "test")
            folder.mkdir(parents=True, exist_ok=True)
            for turn in (1, 2):
                turned = np.rot90(voxels, turn, axes=(0, 1)).astype(np.uint8)
                savemat(folder / f"{label}_{i:04}_{turn}.mat", {"instance": turned})
    return tmp_path / "volumetric_data"


@pytest.fixture(scope="session")
def sounds(tmp_path_factory) -> Path:
    """Folders of digits, noises, and pairs of clean and noisy speech."""
    folder = tmp_path_factory.mktemp("sounds")
    write_digits(folder / "digits")
    write_noises(folder / "noises")
    write_pairs(folder / "pairs")
    return folder


def saved(folder: Path, content: dict[str, np.ndarray]) -> str:
    np.savez(folder / "a.npz", **content)
    return str(folder / "a.npz")
