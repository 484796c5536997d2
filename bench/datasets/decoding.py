"""Decodes picture files into pixels: upright, opaque, 8 bits deep, cropped and resized."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps

from bench.core import InputError
from bench.datasets.bounds import check_regular
from bench.datasets.cache import write_rows
from bench.datasets.content import row_hashes
from bench.datasets.ranges import BYTES, Range

MODES = {1: "L", 3: "RGB"}  # by the number of channels
BLOCK = 2**24  # bytes of decoded pictures that are written at once
MOST_PIXELS = 2**26  # of a picture. Pillow's own limit is higher, and only a warning
LARGE = 2**24  # pixels, from which on pictures are decoded one after the other: each takes up to 25 bytes a pixel
_one_large = threading.Lock()


class PixelFormat(NamedTuple):
    """The pixels that pictures are decoded to.

    range: the stored values that become black and white; None: 0 and the largest value that such a file can hold.
    """

    height: int
    width: int
    channels: int
    background: tuple[int, ...]  # red, green, blue: the colour behind transparent pixels
    range: Range | None


class Decoded(NamedTuple):
    pixels: np.ndarray  # [C, H, W] uint8
    white: float  # the largest value that such a file can hold
    lowest: float  # stored value
    highest: float  # stored value
    is_transparent: bool  # whether any pixel is
    size: tuple[int, int]  # height and width, before it was cropped and resized


def parse_colour(name: str) -> tuple[int, ...]:
    """(red, green, blue) of a name or code that Pillow knows. Raises InputError for others."""
    try:
        colour = ImageColor.getrgb(name)
    except ValueError as error:
        raise InputError(f"dataset.background={name}: expected a colour, such as black, white or '#8080ff'") from error
    if len(colour) != 3:
        raise InputError(f"dataset.background={name} is a transparent colour: expected an opaque one")
    return colour


@contextmanager
def opened_picture(file: str | Path) -> Iterator[Image.Image]:
    """An opened picture, not yet decoded. Raises InputError if it is no file or too large, and what Pillow raises."""
    check_regular(file)
    with Image.open(file) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise InputError(
                f"{file} has {picture.width} x {picture.height} pixels: expected at most {MOST_PIXELS:,}; make it "
                "smaller"
            )
        with _one_large if picture.width * picture.height > LARGE else nullcontext():
            yield picture


def decode(file: str, pixel_format: PixelFormat) -> Decoded | str:
    """Returns a picture's first frame, cropped around its centre and resized (bicubic), or why it cannot be decoded.

    Raises InputError for stored values of unknown range, and for values outside pixel_format.range.
    """
    try:
        with opened_picture(file) as opened:
            ImageOps.exif_transpose(opened, in_place=True)
            values, alpha = (_read_deep if opened.mode[0] in "IF" else _read_8_bit)(opened)
            white = _largest_value(opened)
    except Exception as error:  # the type depends on the file's format and on the kind of damage
        reason = str(error).replace(f" {file!r}", "").removeprefix(f"{file} ")
        return " ".join(reason.split()) or type(error).__name__
    lowest, highest = float(values.min()), float(values.max())
    stored_range = BYTES if opened.mode == "1" else pixel_format.range or (None if white is None else (0.0, white))
    if stored_range is None:
        raise InputError(
            f"{file} has values from {lowest:g} to {highest:g} of more than 8 bits, and the values of black and "
            "white are not known: set dataset.range=[low,high]"
        )
    low, high = stored_range
    if not low <= lowest <= highest <= high:
        raise InputError(
            f"{file} has values from {lowest:g} to {highest:g}, which are not in [{low:g}, {high:g}]: set "
            "dataset.range=[low,high] to the values of black and white in all pictures"
        )
    if stored_range != BYTES:
        values = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
    picture = Image.fromarray(values)
    if alpha is not None:
        background = Image.new("RGB", picture.size, pixel_format.background)
        picture = Image.composite(picture.convert("RGB"), background, Image.fromarray(alpha))
    if white == BYTES[1]:
        extremes = np.array(picture.getextrema())  # of each channel, on the background
        lowest, highest = float(extremes.min()), float(extremes.max())
    height, width, channels, *_ = pixel_format
    fitted = ImageOps.fit(picture.convert(MODES[channels]), (width, height))
    pixels = np.asarray(fitted).reshape(height, width, channels).transpose(2, 0, 1)
    return Decoded(
        pixels, white or highest, lowest, highest, alpha is not None and bool(alpha.min() < 255), values.shape[:2]
    )


def decode_all(root: str, files: list[str], pixel_format: PixelFormat, folder: Path) -> dict[str, Any]:
    """Writes x.npy [N, C, H, W] uint8, hashes.npy [N] uint64, its `row_hashes`, and sizes.npy into a folder.

    sizes.npy: [N, 2] int64, the height and width of each picture before it was cropped and resized.

    Returns damaged: the indices of the files that cannot be decoded, which are not among the N; reason: the error of
    the first of them; transparent: the number of partly transparent pictures; extremes: for each bit depth the largest
    value that a file can hold, and the lowest and the highest stored value.
    """
    hashes: list[np.ndarray] = []
    sizes: list[tuple[int, int]] = []
    damaged: dict[int, str] = {}
    extremes: dict[float, tuple[float, float]] = {}
    transparent = 0
    threads = os.cpu_count() or 1
    block_size = max(threads, BLOCK // (pixel_format.channels * pixel_format.height * pixel_format.width))

    def blocks() -> Iterator[np.ndarray]:
        nonlocal transparent
        with ThreadPoolExecutor(threads) as pool:  # Pillow releases the GIL while it decodes
            for start in range(0, len(files), block_size):
                paths = (root + file for file in files[start : start + block_size])
                pixels = []
                for i, decoded in enumerate(pool.map(partial(decode, pixel_format=pixel_format), paths), start):
                    if isinstance(decoded, str):
                        damaged[i] = decoded
                        continue
                    low, high = extremes.get(decoded.white, (np.inf, -np.inf))
                    extremes[decoded.white] = min(low, decoded.lowest), max(high, decoded.highest)
                    transparent += decoded.is_transparent
                    pixels.append(decoded.pixels)
                    sizes.append(decoded.size)
                if pixels:
                    block = np.stack(pixels)
                    hashes.append(row_hashes(block))
                    yield block
        if not hashes:
            raise InputError(
                f"none of {len(files)} pictures can be decoded; the first is {root}{files[0]}: {damaged[0]}"
            )

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of damage and of size, which are reported here
        write_rows(folder / "x.npy", blocks())
    write_rows(folder / "hashes.npy", hashes)
    np.save(folder / "sizes.npy", np.array(sizes, np.int64))
    return {
        "damaged": list(damaged),
        "reason": next(iter(damaged.values()), None),
        "transparent": transparent,
        "extremes": [[white, *pair] for white, pair in sorted(extremes.items())],
    }


def _read_8_bit(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Values [H, W] or [H, W, 3] and alpha [H, W] or, without transparency, None; uint8."""
    transparent: Any = picture.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        # A colour of 16 bits per channel. It is cut to 8, as Pillow cuts the pixels.
        picture.info["transparency"] = tuple(value >> 8 for value in transparent)
    if picture.has_transparency_data:
        values = np.asarray(picture.convert("RGBA"))
        return values[..., :3], values[..., 3]
    mode = {"1": "L", "L": "L"}.get(picture.mode, "RGB")
    return np.asarray(picture.convert(mode)), None


def _read_deep(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Like `_read_8_bit`, for one channel of 16 or 32 bits. The values are float64."""
    values = np.asarray(picture).astype(np.float64)
    transparent = picture.info.get("transparency")
    alpha = None if transparent is None else np.where(values == transparent, 0, 255).astype(np.uint8)
    white = _largest_value(picture)
    if white and picture.format == "TIFF" and picture.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
        values = white - values  # white is stored as 0; Pillow handles this only for 8 bits
    return values, alpha


def _largest_value(picture: Image.Image) -> float | None:
    """The largest value that such a file can hold, or None if it is not known."""
    if picture.mode == "F":
        return 1
    if picture.mode == "I":  # 32 bits; these formats use 16
        return 65535 if picture.format in ("PNG", "PPM") else None
    if picture.mode.startswith("I;16"):
        if picture.format in ("FITS", "MCIDAS"):  # signed, or the counts of an instrument
            return None
        is_12_bit = picture.format == "TIFF" and picture.tag_v2.get(258) == (12,)  # type: ignore[attr-defined]
        return 4095 if is_12_bit else 65535
    return 255
