"""Pictures with palettes: a folder, and a table with six colours per picture, as design sites publish them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv, to_rgb
from pydantic import Field

from bench.core import Count, InputError
from bench.data import Split
from bench.datasets.decoding import PixelFormat, decode, parse_colour
from bench.datasets.folders import suffixes, walk
from bench.datasets.source import Seed, Source, hold_out
from bench.parts.colours import rgb_to_lab, with_lightness_of

COLOURS = 6  # of a palette
TABLES = ("palettes.csv", "palettes.tsv")
# The names of the column that says which picture, and of the column of palettes. The first name that is there counts.
COLUMNS = (("file", "filename", "media_path", "url"), ("palette", "color_palette", "colour_palette"))


def palette_pictures(
    root: str | None = None,
    palettes: str | None = None,
    size: Count | tuple[Count, Count] = 32,
    background: str = "black",
    shifts: Annotated[int, Field(ge=1, le=100, strict=True)] = 20,
    data_seed: Seed = 0,
) -> Source:
    """Pairs of one picture in two hues. source, x: [N, 3, height, width] uint8; palette: [N, 6, 3], that of x.

    The hues of source and x are shifted at random, and the palette is shifted like x. The lightness is unchanged (Cho
    et al. 2017). root: the folder of the pictures, with subfolders; palettes: a table with the columns file and
    palette, such as "{#E1E8ED,#AEB0C8,...}", separated by tabs (.tsv) or commas (.csv); None: palettes.csv or
    palettes.tsv in root. A file may be given by its URL; only its name counts. size, background: see `images`; shifts:
    pairs per picture. All pairs of a picture are in one split, and a fifth of the pictures is the test set. Raises
    InputError for a missing or damaged file and for a palette of another length; the message names file and line.
    """
    if root is None or not Path(root).expanduser().is_dir():
        raise InputError(f"dataset.root={root}: expected a folder of pictures with palettes.csv or palettes.tsv")
    folder = Path(root).expanduser()
    table = _table(folder, palettes)
    height, width = (size, size) if isinstance(size, int) else size
    pixel_format = PixelFormat(height, width, 3, parse_colour(background), None)
    pictures, colours = _read(folder, table, pixel_format)

    rng = np.random.default_rng(data_seed)
    there, here = rng.random((2, len(pictures), shifts))
    x, source, palette = (
        np.concatenate([_shifted(picture, turns) for picture, turns in zip(whole, shift, strict=True)])
        for whole, shift in ((pictures, there), (pictures, here), (colours[..., np.newaxis], there))
    )
    conditions = {"palette": np.float32(palette[..., 0].swapaxes(1, 2)) / 255}
    group = np.repeat(np.arange(len(pictures)), shifts)
    whole = Split(x, group=group, source=source, conditions=conditions)
    return hold_out(whole, str(folder), range=(0, 255))


def _table(folder: Path, palettes: str | None) -> Path:
    places = [Path(palettes).expanduser()] if palettes else [folder / name for name in TABLES]
    found = [place for place in places if place.is_file()]
    if len(found) != 1:
        raise InputError(
            f"dataset.palettes: found {len(found)} of {', '.join(map(str, places))}: expected one table with the "
            "columns file and palette"
        )
    return found[0]


def _read(folder: Path, table: Path, pixel_format: PixelFormat) -> tuple[np.ndarray, np.ndarray]:
    """The pictures [M, 3, H, W] uint8 and their palettes [M, 3, 6] uint8, in the order of the table."""
    files = [file for file in walk(f"{folder}/") if Path(file).suffix.lower() in suffixes()]
    names = Counter(Path(file).name for file in files)
    path_of = {Path(file).name: folder / file for file in files}
    pictures, colours = [], []
    line_of: dict[str, str] = {}
    for line, file, palette in _rows(table):
        name = Path(file.partition("?")[0]).name
        if names[name] != 1:
            raise InputError(f"{line}: there are {names[name]} pictures {name!r} below {folder}: expected one")
        if (other := line_of.setdefault(name, line)) != line:  # the copies could be in two splits
            raise InputError(f"{line}: {other} names the picture {name} too: keep one of the two rows")
        decoded = decode(str(path_of[name]), pixel_format)
        if isinstance(decoded, str):
            raise InputError(f"{path_of[name]} cannot be decoded: {decoded}; get it again, or remove its palette")
        pictures.append(decoded.pixels)
        colours.append(_palette(line, palette))
    if len(pictures) < 3:
        raise InputError(
            f"{table} has {len(pictures)} pictures with palettes: expected at least three, for training, validation "
            "and testing"
        )
    return np.stack(pictures), np.stack(colours)


def _rows(table: Path) -> Iterator[tuple[str, str, str]]:
    """The place for messages, the file name and the palette of each row."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as opened:
            rows = csv.DictReader(opened, delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
            found = [next((name for name in known if name in (rows.fieldnames or ())), "") for known in COLUMNS]
            if "" in found:
                raise InputError(f"{table} has the columns {rows.fieldnames}: expected file and palette")
            for row in rows:
                file, palette = (row[name] or "" for name in found)  # None in a row that is too short
                yield f"{table}, line {rows.line_num}", file, palette
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as UTF-8 with one row a line: {error}; save it so") from error


def _palette(line: str, text: str) -> np.ndarray:
    """[3, COLOURS] uint8 from "{#E1E8ED,#AEB0C8,...}". Raises InputError for another text."""
    parts = [part for part in re.split(r"[{}\[\],;\s\"']+", text) if part]
    if len(parts) != COLOURS:
        raise InputError(f"{line}: the palette {text} has {len(parts)} colours: expected {COLOURS}, such as #E1E8ED")
    for part in parts:
        if not re.fullmatch("#[0-9a-fA-F]{6}", part):
            raise InputError(f"{line}: {part} is not a colour: expected six hexadecimal digits, such as #E1E8ED")
    return np.rint(255 * np.array([to_rgb(part) for part in parts]).T).astype(np.uint8)


def _shifted(picture: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """A picture [3, H, W] uint8 with its hue shifted by each of these turns, and its lightness unchanged: uint8."""
    hsv = np.repeat(rgb_to_hsv(np.moveaxis(picture, 0, -1) / 255)[np.newaxis], len(turns), 0)
    hsv[..., 0] = (hsv[..., 0] + turns[:, np.newaxis, np.newaxis]) % 1
    ab = rgb_to_lab(torch.from_numpy(np.moveaxis(hsv_to_rgb(hsv), -1, 1)))[:, 1:]
    rgb = with_lightness_of(torch.from_numpy(picture / 255).expand(len(turns), -1, -1, -1), ab)
    return np.rint(255 * rgb.numpy()).astype(np.uint8)
