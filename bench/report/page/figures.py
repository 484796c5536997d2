"""Pictures of runs, as PNG bytes, from images.npz."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from bench.report.records.run import Run
from bench.runs.output import printable, say

GAP = 1  # pixels between images
GAP_GREY = 110
MIN_SIDE, MAX_SIDE = 24, 64  # pixels of an image in the page; smaller images are enlarged, larger ones reduced
MAX_SHEET_SIDE = 1600  # pixels across a sheet of images
WAVE_SIDE = 160  # of the picture of a wave, whose details are as fine as a pixel


def arrays(run: Run) -> dict[str, np.ndarray]:
    """images.npz of the lowest seed that has one that can be read; empty if none has."""
    for record in run.ok:
        path = record["folder"] / "images.npz"
        if path.is_file():
            try:
                with path.open("rb") as file, np.load(file) as archive:
                    found = {printable(name): _without_controls(archive[name]) for name in archive.files}
                if all(array.ndim for array in found.values()):  # what is no array is read as bytes
                    return found
                raise ValueError("it holds something else than arrays")
            except Exception as error:  # the type depends on the kind of damage
                say(f"bench-report: {path} is left out, it is damaged: {error}")
    return {}


def _without_controls(values: Any) -> np.ndarray:
    """The array; its texts are printable."""
    array = np.asanyarray(values)
    if array.dtype.kind != "U":
        return array
    return np.array([printable(text) for text in array.ravel()], dtype=str).reshape(array.shape)


def given(images: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The inputs, conditions and targets of models, as names with pictures [n, C, H, W] or texts [n].

    Without sources and conditions, a model's target is its input, so the test images are shown once.
    """
    if "target" not in images:
        return [("test images", images["input"])]
    ends = [("input", images["input"]), ("target", images["target"])]
    if np.array_equal(images["input"], images["target"]):
        ends = [("test images", images["input"])]
    return [ends[0], *_named(images, "conditions/"), *ends[1:]]


def stages(images: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The images of a model's earlier stages, as names with pictures [n, C, H, W]."""
    return _named(images, "stage/")


def traversals(images: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray, tuple[str, ...]]]:
    """Outputs at each value of a condition: its name, pictures [n, V, C, H, W], and the names of its values."""
    found = _named(images, "traversal/")
    return [(name, pictures, tuple(images[f"values/{name}"].tolist())) for name, pictures in found]


def has_waves(run: Run) -> bool:
    """Whether its examples are waves, [C, T]."""
    return len((run.first("data") or {}).get("image", ())) == 2


def _named(images: Mapping[str, np.ndarray], prefix: str) -> list[tuple[str, np.ndarray]]:
    return [(name.removeprefix(prefix), array) for name, array in images.items() if name.startswith(prefix)]


def grid(images: np.ndarray, max_side: int = MAX_SIDE) -> bytes:
    """[rows, columns, C, H, W] uint8, with C = 1 or 3, as one picture; max_side: pixels of an image's longer side."""
    side = max(images.shape[3:])
    if (repeat := -(-MIN_SIDE // side)) > 1:
        images = images.repeat(repeat, 3).repeat(repeat, 4)
    rows, columns, channels, height, width = images.shape
    tiles = np.full((rows, columns, channels, height + GAP, width + GAP), GAP_GREY, np.uint8)
    tiles[..., :height, :width] = images
    sheet = tiles.transpose(0, 3, 1, 4, 2).reshape(rows * (height + GAP), columns * (width + GAP), channels)[
        :-GAP, :-GAP
    ]
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    if side > max_side:
        size = (sheet.shape[1] * max_side // side, sheet.shape[0] * max_side // side)
        picture = picture.resize(size, Image.Resampling.BOX)
    return _png(picture)


def strip(images: np.ndarray, max_side: int = MAX_SIDE) -> bytes:
    """[n, C, H, W] uint8 in one row."""
    return grid(images[None], max_side)


def square(images: np.ndarray, side: int, max_side: int = MAX_SIDE) -> bytes:
    """The first side * side of [n, C, H, W] uint8."""
    side = min(side, int(len(images) ** 0.5))
    return grid(images[: side * side].reshape(side, side, *images.shape[1:]), max_side)


def sheet(images: np.ndarray) -> tuple[bytes, int]:
    """[n, C, H, W] uint8 as one WebP without gaps, and its number of columns."""
    count, channels, height, width = images.shape
    columns = min(count, max(MAX_SHEET_SIDE // width, 1))
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, channels, height, width), np.uint8)
    tiles[:count] = images
    whole = tiles.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    whole = whole.reshape(rows * height, columns * width, channels)
    out = io.BytesIO()
    Image.fromarray(whole[..., 0] if channels == 1 else whole).save(out, "WEBP", quality=60)
    return out.getvalue(), columns


def webp(png: bytes) -> bytes:
    """A PNG as a WebP that looks the same."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).save(out, "WEBP", quality=80)
    return out.getvalue()


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=picture.width * picture.height < 200_000)
    return out.getvalue()


def noise_of(run: Run) -> str:
    """The noise that a run was trained with, as "gaussian 0.5"; "none" also for a model that uses no noise."""
    kind, level = run.value("noise") or "none", run.value("noise.level")
    return kind if kind == "none" or level is None else f"{kind} {level:g}"
