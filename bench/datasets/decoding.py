"""A picture file becomes pixels: upright, opaque, 8 bits deep, cropped and resized."""

from __future__ import annotations

import os
import struct
import zlib
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
from bench.datasets.ranges import Range

MODES = {1: "L", 3: "RGB"}  # by the number of channels
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
BLOCK = 2**26  # bytes of decoded pictures that wait to be written


class Form(NamedTuple):
    """What pictures are made into.

    range: the stored values that become black and white; None: 0 and the largest value that a file of the kind can hold.
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
        with Image.open(file) as picture:
            white = _white(picture)
            ImageOps.exif_transpose(picture, in_place=True)
            is_deep = picture.mode[0] in "IF"
            shallow, lowest, highest = (_from_deep if is_deep else _from_bytes)(file, picture, white, form.range)
            flat, is_transparent = _opaque(shallow, form.background)
            if not is_deep and form.range is None:
                ends = np.array(flat.getextrema())  # of each channel, after what is behind it was added
                lowest, highest = int(ends.min()), int(ends.max())
            fitted = ImageOps.fit(flat.convert(MODES[form.channels]), (form.width, form.height))
    except InputError:
        raise
    except DAMAGE as error:
        return " ".join(str(error).replace(file, "").split()) or type(error).__name__
    pixels = np.asarray(fitted).reshape(form.height, form.width, form.channels).transpose(2, 0, 1)
    return Decoded(pixels, white or highest, lowest, highest, is_transparent)


def decode_all(root: str, files: list[str], form: Form, folder: Path) -> dict[str, Any]:
    """Writes x.npy [N, C, H, W] uint8 and hashes.npy [N] uint64, `row_hashes` of it, into a folder.

    Returns damaged: numbers of the files that are not among the N; reason: what is wrong with the first of them;
    transparent: how many of the N are so in part; ends: [white, lowest, highest] of the stored values for each depth.
    """
    hashes: list[np.ndarray] = []
    damaged: dict[int, str] = {}
    ends: dict[float, tuple[float, float]] = {}
    transparent = 0
    at_once = max(1, BLOCK // (form.channels * form.height * form.width))

    def blocks() -> Iterator[np.ndarray]:
        nonlocal transparent
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets go of the interpreter while it decodes
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
            raise InputError(f"none of {len(files)} pictures can be decoded; the first is {root}{files[0]}: {damaged[0]}")

    write_rows(folder / "x.npy", blocks())
    write_rows(folder / "hashes.npy", hashes)
    return {
        "damaged": list(damaged),
        "reason": next(iter(damaged.values()), None),
        "transparent": transparent,
        "ends": [[white, *pair] for white, pair in sorted(ends.items())],
    }


def _white(picture: Image.Image) -> float | None:
    """The largest value that a file of this kind can hold; None where its values can mean anything."""
    if picture.mode == "F":
        return 1
    if picture.mode == "I":  # 32 bits, of which these formats use 16
        return 65535 if picture.format in ("PNG", "PPM") else None
    if picture.mode.startswith("I;16"):
        if picture.format in ("FITS", "MCIDAS"):  # signed, or instrument counts
            return None
        is_12_bit = picture.format == "TIFF" and picture.tag_v2.get(258) == (12,)  # type: ignore[attr-defined]
        return 4095 if is_12_bit else 65535
    return 255


def _from_deep(file: str, picture: Image.Image, white: float | None, ends: Range | None) -> Any:
    """A picture of one channel, 16 or 32 bits deep, in 8 bits; the lowest and the highest stored value."""
    values = np.asarray(picture, np.float64)
    if white and picture.format == "TIFF" and picture.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
        values = white - values  # white is stored as 0, which Pillow heeds in 8 bits only
    lowest, highest = float(values.min()), float(values.max())
    if ends is None and white is None:
        raise InputError(
            f"{file} has values from {lowest:g} to {highest:g} of {'32' if picture.mode == 'I' else '16'} bits, whose black "
            f"and white are not known: set dataset.range=[low,high]"
        )
    low, high = ends or (0, white)
    _check_inside(file, lowest, highest, low, high)
    levels = Image.fromarray(np.rint((values - low) * (255 / (high - low))).astype(np.uint8))
    if (key := picture.info.get("transparency")) is not None:
        levels = Image.merge("LA", (levels, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))))
    return levels, lowest, highest


def _from_bytes(file: str, picture: Image.Image, white: float | None, ends: Range | None) -> Any:
    """A picture of 8 bits or 1 bit as L, RGB or RGBA; the lowest and the highest stored value, if there are ends."""
    key = picture.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in key)  # of 16 bits a channel, which were cut to 8
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
    elif picture.mode == "1":
        return picture.convert("L"), 0, 1
    elif picture.mode != "L":
        picture = picture.convert("RGB")
    if ends is None:
        return picture, 0, 255
    low, high = ends
    colours = picture.convert("RGB") if picture.mode == "RGBA" else picture
    extremes = np.array(colours.getextrema())
    _check_inside(file, lowest := int(extremes.min()), highest := int(extremes.max()), low, high)
    table = np.rint(np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255)).astype(int).tolist()
    tables = table * len(colours.getbands()) + (list(range(256)) if picture.mode == "RGBA" else [])
    return picture.point(tables), lowest, highest


def _check_inside(file: str, lowest: float, highest: float, low: float, high: float) -> None:
    if not low <= lowest <= highest <= high:
        raise InputError(
            f"{file} has values from {lowest:g} to {highest:g}, which are not in [{low:g}, {high:g}]: set "
            "dataset.range=[low,high] to what black and white are in all pictures"
        )


def _opaque(picture: Image.Image, background: tuple[int, ...]) -> tuple[Image.Image, bool]:
    """The picture in front of a colour, as L or RGB; whether the colour shows."""
    if picture.mode not in ("LA", "RGBA"):
        return picture, False
    behind = Image.new("RGBA", picture.size, (*background, 255))
    is_transparent = picture.getchannel("A").getextrema()[0] < 255
    return Image.alpha_composite(behind, picture.convert("RGBA")).convert("RGB"), is_transparent
