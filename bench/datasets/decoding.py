"""A picture file becomes pixels: upright, opaque, 8 bits deep, cropped and resized."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps

from bench.core import InputError
from bench.datasets.cache import write_rows
from bench.datasets.content import row_hashes
from bench.datasets.ranges import BYTES, Range

MODES = {1: "L", 3: "RGB"}  # by the number of channels
BLOCK = 2**24  # bytes of decoded pictures that wait to be written together


class Form(NamedTuple):
    """What pictures are made into.

    range: the stored values that become black and white; None: 0 and the largest that a file of the kind can hold.
    """

    height: int
    width: int
    channels: int
    background: tuple[int, ...]  # red, green, blue: behind what is transparent
    range: Range | None


class Decoded(NamedTuple):
    pixels: np.ndarray  # [C, H, W] uint8
    white: float  # the largest value that a file of this kind can hold
    lowest: float  # of the stored values
    highest: float
    is_transparent: bool  # in part


def colour(name: str) -> tuple[int, ...]:
    """(red, green, blue) of any name or code that Pillow knows. Raises InputError for others."""
    try:
        found = ImageColor.getrgb(name)
    except ValueError as error:
        raise InputError(f"dataset.background={name}: expected a colour, such as black, white or '#8080ff'") from error
    if len(found) != 3:
        raise InputError(f"dataset.background={name} is transparent itself: expected an opaque colour")
    return found


def decode(file: str, form: Form) -> Decoded | str:
    """A picture's first frame, cropped around its centre and resized (bicubic); or why it cannot be decoded.

    Raises InputError for stored values whose range is not known, and for values outside form.range.
    """
    try:
        with Image.open(file) as opened:
            ImageOps.exif_transpose(opened, in_place=True)
            values, alpha = (_deep if opened.mode[0] in "IF" else _shallow)(opened)
            white = _white(opened)
    except Exception as error:  # what is raised for a damaged file depends on its format and on where the damage is
        return " ".join(str(error).replace(f" {file!r}", "").split()) or type(error).__name__
    lowest, highest = float(values.min()), float(values.max())
    ends = BYTES if opened.mode == "1" else form.range or (None if white is None else (0.0, white))
    if ends is None:
        raise InputError(
            f"{file} has values from {lowest:g} to {highest:g} of more than 8 bits, whose black and white are not "
            "known: set dataset.range=[low,high]"
        )
    low, high = ends
    if not low <= lowest <= highest <= high:
        raise InputError(
            f"{file} has values from {lowest:g} to {highest:g}, which are not in [{low:g}, {high:g}]: set "
            "dataset.range=[low,high] to what black and white are in all pictures"
        )
    if ends != BYTES:
        values = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
    picture = Image.fromarray(values)
    if alpha is not None:
        behind = Image.new("RGB", picture.size, form.background)
        picture = Image.composite(picture.convert("RGB"), behind, Image.fromarray(alpha))
    if white == BYTES[1]:
        extremes = np.array(picture.getextrema())  # of each channel, in front of the background
        lowest, highest = float(extremes.min()), float(extremes.max())
    fitted = ImageOps.fit(picture.convert(MODES[form.channels]), (form.width, form.height))
    pixels = np.asarray(fitted).reshape(form.height, form.width, form.channels).transpose(2, 0, 1)
    return Decoded(pixels, white or highest, lowest, highest, alpha is not None and bool(alpha.min() < 255))


def decode_all(root: str, files: list[str], form: Form, folder: Path) -> dict[str, Any]:
    """Writes x.npy [N, C, H, W] uint8 and hashes.npy [N] uint64, `row_hashes` of it, into a folder.

    Returns damaged: numbers of the files that are not among the N; reason: what is wrong with the first of them;
    transparent: how many of the N are so in part; ends: [white, lowest, highest] of the stored values for each depth.
    """
    hashes: list[np.ndarray] = []
    damaged: dict[int, str] = {}
    ends: dict[float, tuple[float, float]] = {}
    transparent = 0
    threads = os.cpu_count() or 1
    at_once = max(threads, BLOCK // (form.channels * form.height * form.width))

    def blocks() -> Iterator[np.ndarray]:
        nonlocal transparent
        with ThreadPoolExecutor(threads) as pool:  # Pillow lets go of the interpreter while it decodes
            for start in range(0, len(files), at_once):
                paths = (root + file for file in files[start : start + at_once])
                good = []
                for number, found in enumerate(pool.map(partial(decode, form=form), paths), start):
                    if isinstance(found, str):
                        damaged[number] = found
                        continue
                    low, high = ends.get(found.white, (np.inf, -np.inf))
                    ends[found.white] = min(low, found.lowest), max(high, found.highest)
                    transparent += found.is_transparent
                    good.append(found.pixels)
                if good:
                    block = np.stack(good)
                    hashes.append(row_hashes(block))
                    yield block
        if not hashes:
            raise InputError(
                f"none of {len(files)} pictures can be decoded; the first is {root}{files[0]}: {damaged[0]}"
            )

    write_rows(folder / "x.npy", blocks())
    write_rows(folder / "hashes.npy", hashes)
    return {
        "damaged": list(damaged),
        "reason": next(iter(damaged.values()), None),
        "transparent": transparent,
        "ends": [[white, *pair] for white, pair in sorted(ends.items())],
    }


def _shallow(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Values [H, W] or [H, W, 3] and, if there is any transparency, alpha [H, W]; uint8."""
    key: Any = picture.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in key)  # of 16 bits a channel, which were cut to 8
    if picture.has_transparency_data:
        values = np.asarray(picture.convert("RGBA"))
        return values[..., :3], values[..., 3]
    mode = {"1": "L", "L": "L"}.get(picture.mode, "RGB")
    return np.asarray(picture.convert(mode)), None


def _deep(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """The same of one channel of 16 or 32 bits, the values float64."""
    values = np.asarray(picture).astype(np.float64)
    key = picture.info.get("transparency")
    alpha = None if key is None else np.where(values == key, 0, 255).astype(np.uint8)
    white = _white(picture)
    if white and picture.format == "TIFF" and picture.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
        values = white - values  # white is stored as 0, which Pillow heeds in 8 bits only
    return values, alpha


def _white(picture: Image.Image) -> float | None:
    """The largest value that a file of this kind can hold; None where its values can mean anything."""
    if picture.mode == "F":
        return 1
    if picture.mode == "I":  # 32 bits, of which these formats use 16
        return 65535 if picture.format in ("PNG", "PPM") else None
    if picture.mode.startswith("I;16"):
        if picture.format in ("FITS", "MCIDAS"):  # signed, or an instrument's counts
            return None
        is_12_bit = picture.format == "TIFF" and picture.tag_v2.get(258) == (12,)  # type: ignore[attr-defined]
        return 4095 if is_12_bit else 65535
    return 255
