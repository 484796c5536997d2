"""Images with embedded captions, in the layout of StackGAN: CUB-200-2011 and COCO with char-CNN-RNN embeddings."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import PIL
from PIL import Image
from pydantic import Field

from bench.core import Count, InputError
from bench.data import Split
from bench.datasets import Source
from bench.datasets.cache import get_or_build, memory_map, write_rows
from bench.datasets.decoding import opened_picture
from bench.datasets.unpickling import unpickle

VERSION = 2  # of the converted arrays: increase it whenever reading changes
EMBEDDINGS = "char-CNN-RNN-embeddings.pickle"
CUB = "CUB_200_2011"  # the folder of CUB's pictures and bounding boxes; other data sets have their pictures in images/
SPLITS = ("train", "test")
REACH = 0.75  # from the centre of a bounding box to the edges of the crop, in units of the box's longer side
BLOCK = 256  # pictures decoded at once
LAYOUT = f"expected train/ and test/ with filenames.pickle and {EMBEDDINGS}, and text/, beside {CUB}/ or images/"


def captions(
    root: str | None = None,
    name: str | None = None,
    size: Annotated[int, Field(ge=8, strict=True)] = 64,
    limit: Count | None = None,
    cache: Path | None = None,
) -> Source:
    """x: [N, 3, size, size] uint8; condition: "caption", [N, captions, 1, 1024] float32, embeddings instead of words.

    root: a folder in the layout of StackGAN (Zhang, Xu et al. 2017); None: $BENCH_DATA/<name>. No code in its pickles
    is run. If there are bounding boxes, as for CUB, a picture is cropped around the centre of its box. If there is a
    class_info.pickle, the group of an image is its class, so no class of CUB is in both splits. limit: only the first
    images of each split. cache: the folder for the converted arrays. Raises InputError, which names the file, if one is
    missing, damaged or hostile, or does not fit the others.
    """
    shared = os.environ.get("BENCH_DATA")
    if root is None and not (shared and name):
        raise InputError(f"dataset.root is not set: {LAYOUT}")
    folder = Path(root).expanduser() if root is not None else Path(str(shared), str(name))
    for part in SPLITS:
        if not (folder / part).is_dir():
            raise InputError(f"{folder / part} is not a folder: {LAYOUT}; set dataset.root")
    keys = {part: _keys(folder, part) for part in SPLITS}
    if twice := [key for key, count in Counter(keys["train"] + keys["test"]).items() if count > 1]:
        raise InputError(
            f"filenames.pickle in {folder} names {twice[0]} twice: expected each picture once, in one split"
        )
    pictures = {part: [_picture(folder, key) for key in keys[part][:limit]] for part in SPLITS}

    def read(place: Path) -> Source:
        get_or_build(place, lambda new: _convert(folder, keys, pictures, size, new))
        splits = {}
        for part in SPLITS:
            arrays = {name: np.array(memory_map(place / f"{part}_{name}.npy")) for name in ("x", "caption")}
            group = place / f"{part}_group.npy"
            splits[part] = Split(
                arrays["x"],
                group=np.array(memory_map(group)) if group.exists() else None,
                conditions={"caption": arrays["caption"]},
            )
        return Source(splits["train"], splits["test"], range=(0, 255))

    if cache is None:
        with TemporaryDirectory() as temporary:
            return read(Path(temporary) / "captions")
    return read(cache / "captions" / _cache_key(folder, keys, pictures, size))


def _stored(file: Path) -> Any:
    """The lists and arrays in a pickle. Raises InputError for anything else."""
    try:
        return unpickle(file)
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing: {LAYOUT}") from error
    except UnpicklingError as error:
        raise InputError(f"{file} is not a pickle of lists and arrays: {error}; get it again") from error


def _keys(folder: Path, part: str) -> list[str]:
    """The names of a split's examples: paths of pictures without suffix."""
    file = folder / part / "filenames.pickle"
    keys = _stored(file)
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):
        raise InputError(f"{file} does not hold a list of file names: {LAYOUT}")
    if outside := [key for key in keys if os.path.isabs(key) or ".." in Path(key).parts]:
        raise InputError(f"{file} names {outside[0]}, which is outside the folder")
    return keys


def _picture(folder: Path, key: str) -> Path:
    """The picture of an example. Raises InputError if its picture or its captions are missing."""
    place = folder / CUB if (folder / CUB).is_dir() else folder
    picture, text = place / "images" / f"{key}.jpg", folder / "text" / f"{key}.txt"
    if not text.is_file():
        raise InputError(f"{text} is missing: expected the captions of {picture}, one a line")
    if not picture.is_file():
        raise InputError(f"{text} has captions, but its picture is missing: expected {picture}")
    return picture


def _first(file: Path, count: int, total: int) -> Any:
    """The first `count` values of a pickle that has one for each of the `total` names in filenames.pickle beside it."""
    values = _stored(file)
    if not isinstance(values, list | np.ndarray) or len(values) != total:
        held = f"{len(values)} values" if isinstance(values, list | np.ndarray) else f"a {type(values).__name__}"
        raise InputError(f"{file} holds {held}: expected a list for the {total} names in filenames.pickle beside it")
    return values[:count]


def _embeddings(file: Path, count: int, total: int) -> np.ndarray:
    """[count, captions, 1, features] float32."""
    try:
        values = np.asarray(_first(file, count, total), dtype=np.float32)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} does not hold numbers [images, captions, features]: {error}") from error
    if values.ndim != 3 or not np.isfinite(values).all():
        raise InputError(
            f"{file} has shape {values.shape}: expected finite numbers [images, captions, features] of {count} images"
        )
    return values[:, :, np.newaxis]


def _groups(file: Path, count: int, total: int) -> np.ndarray:
    """[count] int64."""
    values = _first(file, count, total)
    if not all(isinstance(value, int | np.integer) for value in values):
        raise InputError(f"{file} does not hold the class number of each of {total} images")
    return np.array(values, np.int64)


def _boxes(folder: Path, keys: list[str]) -> dict[str, tuple[float, ...]]:
    """The bounding box (left, top, width, height) of each picture of CUB in pixels, by key; empty for other data."""
    if not (folder / CUB).is_dir():
        return {}
    file = folder / CUB / "bounding_boxes.txt"
    names, boxes = _rows(folder / CUB / "images.txt"), _rows(file)
    try:
        key_of = {number: name.removesuffix(".jpg") for number, name in names}
        box_of = {key_of[number]: tuple(map(float, box)) for number, *box in boxes}
    except (KeyError, ValueError) as error:
        raise InputError(f"{file} does not fit images.txt beside it: {error}") from error
    for key in keys:
        box = box_of.get(key, ())
        if len(box) != 4 or not all(map(math.isfinite, box)):
            raise InputError(f"{file} has the box {box} for {key}.jpg: expected left, top, width and height in pixels")
    return box_of


def _rows(file: Path) -> list[list[str]]:
    try:
        return [line.split() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error


def _convert(
    folder: Path, keys: dict[str, list[str]], pictures: dict[str, list[Path]], size: int, new: Path
) -> dict[str, int]:
    """Writes the arrays of both splits into the folder `new`. Returns the number of examples of each."""
    used = {part: keys[part][: len(pictures[part])] for part in SPLITS}
    boxes = _boxes(folder, used["train"] + used["test"])
    for part in SPLITS:
        count, total = len(used[part]), len(keys[part])
        write_rows(new / f"{part}_caption.npy", [_embeddings(folder / part / EMBEDDINGS, count, total)])
        if (file := folder / part / "class_info.pickle").exists():
            write_rows(new / f"{part}_group.npy", [_groups(file, count, total)])

        def blocks(part: str = part) -> Iterator[np.ndarray]:
            for start in range(0, len(used[part]), BLOCK):
                rows = slice(start, start + BLOCK)
                examples = zip(pictures[part][rows], used[part][rows], strict=True)
                yield np.stack([_pixels(picture, boxes.get(key), size) for picture, key in examples])

        write_rows(new / f"{part}_x.npy", blocks())
    return {part: len(used[part]) for part in SPLITS}


def _pixels(file: Path, box: tuple[float, ...] | None, size: int) -> np.ndarray:
    """A picture [3, size, size] uint8, cropped around the middle of its box as far as it reaches (bicubic)."""
    try:
        with opened_picture(file) as opened:
            picture = opened.convert("RGB")
    except InputError:
        raise
    except Exception as error:  # the type depends on the kind of damage
        raise InputError(f"{file} cannot be decoded: {' '.join(str(error).split())}; get it again") from error
    if box is not None:
        left, top, width, height = box
        reach, x, y = int(REACH * max(width, height)), int(left + width / 2), int(top + height / 2)
        edges = (max(0, x - reach), max(0, y - reach), min(picture.width, x + reach), min(picture.height, y + reach))
        if edges[0] >= edges[2] or edges[1] >= edges[3]:
            raise InputError(f"{file} is {picture.width} x {picture.height}, and its bounding box {box} lies outside")
        picture = picture.crop(edges)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def _cache_key(folder: Path, keys: dict[str, list[str]], pictures: dict[str, list[Path]], size: int) -> str:
    """A hash of all that decides the arrays and is known without reading pictures."""
    files = [folder / part / name for part in SPLITS for name in (EMBEDDINGS, "class_info.pickle")]
    files += [folder / CUB / name for name in ("images.txt", "bounding_boxes.txt")]
    files += [picture for part in SPLITS for picture in pictures[part]]
    stamps = [[str(file), *_stamp(file)] for file in files if file.exists()]
    text = json.dumps([VERSION, PIL.__version__, str(folder.resolve()), size, keys, stamps])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
