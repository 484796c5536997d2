"""Photos of people with label maps of their clothing: Clothing Co-Parsing, and the layout of ClothNet's own data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bench.core import Count, InputError
from bench.data import Split
from bench.datasets import Source, hold_out
from bench.datasets.decoding import opened_picture
from bench.datasets.dolls import CLOTHING, one_hot_map

# The labels of Clothing Co-Parsing (Yang et al. 2014) in each class of CLOTHING. `_skin` divides bare skin by height.
# Other labels, such as bag, are background.
CCP_LABELS = {
    "hair": "hair hat",
    "face": "glasses sunglasses earrings",
    "top": "blazer blouse bodysuit bra cape cardigan coat dress hoodie intimate jacket jumper necklace romper scarf "
    "shirt suit sweater sweatshirt swimwear t-shirt tie top vest",
    "bottom": "belt jeans leggings panties pants shorts skirt",
    "arms": "bracelet gloves ring watch",
    "legs": "socks stockings tights",
    "shoes": "boots clogs flats heels loafers pumps sandals shoes sneakers wedges",
}
CCP_SKIN = "skin"
CCP_PARTS = ("background", "head", "body", "feet")
FACE_TO, LEGS_FROM = 0.2, 0.55  # of a person's height, from the top: skin above is face, below legs, between arms

# The classes of Lassner et al. 2017, numbers as in their files.
CHICTOPIA_LABELS = {
    "hair": (1, 2),  # and hat
    "face": (3, 11, 18, 19, 20, 21),  # sunglasses, face, lips, nose, eyes
    "top": (4, 7, 17),  # upper clothes, dress, scarf
    "bottom": (5, 6, 8),  # skirt, trousers, belt
    "shoes": (9, 10),
    "legs": (12, 13),
    "arms": (14, 15),
}

Size = tuple[Count, Count]
SIZE = (48, 32)


def ccp(root: str | None = None, size: Size = SIZE) -> Source:
    """x: [N, 3, *size] uint8, photos of people, from `root` or $BENCH_DATA/ccp; a fixed fifth is the test set.

    The folder holds photos/NNNN.jpg, labels/NNNN.png (each pixel a line number of labels.txt, from 0) and labels.txt.
    Condition and truth `sketch`: the labels in the classes of CLOTHING. The data have no poses. Condition and truth
    `pose`: the sketch without the difference between clothing and skin, in the classes of CCP_PARTS. Raises
    InputError, which names the file, for a picture without labels, labels without a picture, pairs of unequal size, and
    unknown labels.
    """
    folder = _folder(root, "ccp", "photos/, labels/ and labels.txt")
    table = folder / "labels.txt"
    if not table.is_file():
        raise InputError(f"{table} is missing: expected the names of the labels, one a line")
    try:
        names = [line.strip() for line in table.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{table} cannot be read as UTF-8: {error}; save it so") from error
    classes = {label: CLOTHING.index(name) for name, labels in CCP_LABELS.items() for label in labels.split()}
    if classes.keys().isdisjoint(names):
        raise InputError(f"{table} names no clothing: expected one label a line, such as hair, t-shirt and jeans")
    numbers = np.array([classes.get(name, 0) for name in names])
    skin = names.index(CCP_SKIN) if CCP_SKIN in names else -1

    def sketch(labels: np.ndarray) -> np.ndarray:
        return np.where(labels == skin, _skin(labels != 0), numbers[labels])

    part_of = [CCP_PARTS.index(part) for part in ("background", "head", "head", *["body"] * 4, "feet")]
    photos = _pictures(folder / "photos", ".jpg")
    pairs = [(photo, folder / "labels" / f"{photo.stem}.png") for photo in photos]
    if alone := sorted({*(folder / "labels").glob("*.png")} - {labels for _, labels in pairs}):
        raise InputError(f"{alone[0]} has no photo: expected {folder / 'photos' / f'{alone[0].stem}.jpg'}")
    x, maps = _read(pairs, size, len(names), sketch)
    return _source(folder, x, maps, np.array(part_of)[maps], CCP_PARTS)


def chictopia(root: str | None = None, size: Size = SIZE) -> Source:
    """x: [N, 3, *size] uint8, photos in the layout of classner/generating_people (Lassner et al. 2017).

    root or $BENCH_DATA/chictopia: a folder with NNNN_image.png, NNNN_labels.png (22 classes) and
    NNNN_bodysegments.png (parts of the body, from 0 for none). Condition and truth `sketch`: the labels in the classes
    of CLOTHING; `pose`: the parts of the body. A fixed fifth is the test set. Raises InputError like `ccp`.
    """
    folder = _folder(root, "chictopia", "NNNN_image.png, NNNN_labels.png and NNNN_bodysegments.png")
    numbers = np.zeros(22, int)
    for name, labels in CHICTOPIA_LABELS.items():
        numbers[list(labels)] = CLOTHING.index(name)
    photos = _pictures(folder, "_image.png")
    stems = [str(photo).removesuffix("image.png") for photo in photos]

    def paired(ending: str) -> list[tuple[Path, Path]]:
        return [(photo, Path(stem + ending)) for photo, stem in zip(photos, stems, strict=True)]

    x, maps = _read(paired("labels.png"), size, len(numbers), lambda labels: numbers[labels])
    _, parts = _read(paired("bodysegments.png"), size, 256, lambda labels: labels)
    names = ("background", *(f"part {number}" for number in range(1, int(parts.max()) + 1)))
    return _source(folder, x, maps, parts, names)


def _source(folder: Path, x: np.ndarray, sketch: np.ndarray, pose: np.ndarray, parts: Sequence[str]) -> Source:
    conditions = {"pose": one_hot_map(pose, len(parts)), "sketch": one_hot_map(sketch, len(CLOTHING))}
    whole = Split(x, conditions=conditions, truth={"sketch": sketch, "pose": pose})
    return hold_out(whole, str(folder), range=(0, 255), vocabulary={"sketch": CLOTHING, "pose": parts})


def _folder(root: str | None, name: str, content: str) -> Path:
    shared = os.environ.get("BENCH_DATA")
    if root is None and not shared:
        raise InputError(f"dataset.root is not set: expected the folder with {content}")
    folder = Path(root).expanduser() if root is not None else Path(str(shared), name)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; set dataset.root to the folder with {content}")
    return folder


def _pictures(folder: Path, ending: str) -> list[Path]:
    found = sorted(file for file in folder.glob(f"*{ending}"))
    if not found:
        raise InputError(f"{folder} has no picture *{ending}: set dataset.root to the folder of the data set")
    return found


def _read(
    pairs: list[tuple[Path, Path]], size: Size, count: int, classes: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [N, 3, *size] uint8 and maps [N, *size] int64, cropped around the centre and resized.

    count: of labels; classes: maps labels [H, W] to classes. Each pixel of a map gets the class of most of its area.
    """
    pictures, maps = [], []
    for photo, label_file in pairs:
        if not label_file.is_file():
            raise InputError(f"{photo} has no labels: expected {label_file}")
        picture, labels = _opened(photo).convert("RGB"), np.asarray(_opened(label_file))
        if labels.ndim != 2 or labels.shape[::-1] != picture.size or labels.dtype.kind not in "iu":
            raise InputError(
                f"{label_file} has the shape {labels.shape} of type {labels.dtype} and {photo} {picture.size[::-1]} "
                "(height, width): they must agree, with one whole number a pixel"
            )
        if wrong := [label for label in (labels.min(), labels.max()) if not 0 <= label < count]:
            raise InputError(f"{label_file} has the label {wrong[0]}: expected numbers from 0 to {count - 1}")
        box = _crop(picture.size, size)
        pictures.append(np.asarray(picture.resize(size[::-1], Image.Resampling.BOX, box)).transpose(2, 0, 1))
        wanted = classes(labels)
        masks = (Image.fromarray(np.uint8(255 * (wanted == value))) for value in range(wanted.max() + 1))
        shares = [np.asarray(mask.resize(size[::-1], Image.Resampling.BOX, box)) for mask in masks]
        maps.append(np.argmax(shares, 0))
    return np.stack(pictures), np.stack(maps)


def _opened(file: Path) -> Image.Image:
    try:
        with opened_picture(file) as picture:
            picture.load()
            return picture
    except InputError:
        raise
    except Exception as error:  # the type depends on the kind of damage
        reason = " ".join(str(error).split())
        raise InputError(f"{file} cannot be read as a picture: {reason}; get it again, or remove it") from error


def _crop(given: tuple[int, int], size: Size) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom) in `given` (width, height) with the aspect ratio of size."""
    width, height = given
    scale = min(width / size[1], height / size[0])
    left, top = (width - scale * size[1]) / 2, (height - scale * size[0]) / 2
    return left, top, width - left, height - top


def _skin(person: np.ndarray) -> np.ndarray:
    """The class of skin in each row [H, 1] of a person [H, W] bool: face at the top, then arms, legs at the bottom."""
    rows = np.flatnonzero(person.any(1))
    top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, 1)
    share = (np.arange(len(person)) - top) / (bottom - top)
    names = np.where(share < FACE_TO, "face", np.where(share < LEGS_FROM, "arms", "legs"))
    return np.array([CLOTHING.index(name) for name in names])[:, np.newaxis]
