"""The pictures, sounds and shapes of a page, and the folder with the same pictures and sounds as files."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.report.page import figures, vegalite
from bench.runs.files import write_file

MAX_SHEET = 600_000  # bytes of a sheet; fewer images are shown if they have more
MIN_LOSSY = 8_000  # bytes of a PNG that is worth making smaller
MAX_NAME = 200  # bytes of a file's name, without its suffix; file systems end at 255


@dataclass(frozen=True)
class Picture:
    """A picture of width x height, as base64, or a chart.

    grid: rows and columns of a picture of many images, to point at; places: their codes, [n, 2] as JSON.
    """

    alt: str
    data: str = ""
    format: str = "png"
    chart: vegalite.Spec | None = None
    width: int = 0
    height: int = 0
    grid: tuple[int, int] | None = None
    places: str = ""
    sheet: int | None = None  # of `Album.sheets`: the images that the marks of a chart stand for


@dataclass(frozen=True)
class Sheet:
    """Images [n, C, H, W] as one WebP, as base64, with so many columns; side: H and W in pixels."""

    webp: str
    count: int
    columns: int
    side: tuple[int, int]


@dataclass(frozen=True)
class Sound:
    """A WAV, as base64, and its spectrogram. alt: what it is; name: of the recording."""

    alt: str
    name: str
    wav: str
    spectrogram: Picture


@dataclass(frozen=True)
class Shape:
    """Voxels that voxels.js turns. sides: "D,H,W"; bits: of `bench.evaluation.views.pack_voxels`, as base64."""

    alt: str
    sides: str
    bits: str


@dataclass(frozen=True)
class Figure:
    """What a section shows of one run; names: above the columns of its picture. is_input: what models are given, or
    should make, and not what they make."""

    label: str
    words: str
    pictures: tuple[Picture, ...] = ()
    names: tuple[str, ...] = ()
    is_input: bool = False
    sounds: tuple[Sound, ...] = ()
    shapes: tuple[Shape, ...] = ()


class Album:
    """Writes each picture and sound to a folder, and keeps it for the page."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: set[str] = set()
        self.sheets: list[Sheet] = []
        self._sheet_of: dict[bytes, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def remove_others(self) -> None:
        """Removes the pictures and sounds of earlier reports."""
        for old in self.folder.iterdir():
            if old.name.endswith((".png", ".svg", ".wav", ".vl.json")) and old.name.casefold() not in self.names:
                old.unlink(missing_ok=True)

    def png(
        self,
        name: str,
        alt: str,
        png: bytes,
        grid: tuple[int, int] | None = None,
        places: str = "",
        is_lossy: bool = False,
    ) -> Picture:
        """is_lossy: whether the page may have a WebP instead, if it is smaller; the file is the PNG."""
        self._write(name, ".png", png)
        width, height = struct.unpack(">II", png[16:24])
        smaller = figures.webp(png) if is_lossy and len(png) > MIN_LOSSY else png
        data, format = (smaller, "webp") if len(smaller) < len(png) else (png, "png")
        return Picture(alt, base64.b64encode(data).decode(), format, None, width, height, grid, places)

    def chart(self, name: str, spec: vegalite.Spec, sheet: int | None = None) -> Picture:
        """A chart with its description as alternative text; the file is one of Vega-Lite."""
        whole = json.dumps(vegalite.with_rows(spec), ensure_ascii=False, allow_nan=False)
        self._write(name, ".vl.json", whole.encode())
        return Picture(spec["description"], chart=spec, sheet=sheet)

    def sheet(self, images: np.ndarray) -> int:
        """The number of the sheet with these images, uint8 [n, C, H, W]; equal images share one."""
        key = images.tobytes()
        if key not in self._sheet_of:
            self._sheet_of[key] = len(self.sheets)
            self.sheets.append(_sheet(images))
        return self._sheet_of[key]

    def wav(self, name: str, alt: str, recording: str, samples: np.ndarray, rate: int, spectrogram: bytes) -> Sound:
        """samples: int16 [n]; rate: Hz; spectrogram: a PNG; recording: its name, for readers."""
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.astype("<i2").tobytes())
        picture = self.png(f"{name}-spectrogram", f"spectrogram of {alt}", spectrogram)
        self._write(name, ".wav", content.getvalue())
        return Sound(alt, recording, base64.b64encode(content.getvalue()).decode(), picture)

    def _write(self, name: str, suffix: str, content: bytes) -> None:
        """The name of the file is unique, also where a file system ignores case, short and not hidden."""
        plain = re.sub(r"[^\w.-]+", "_", name)
        stem = re.sub(r"^\.", "_", plain).encode()[:MAX_NAME].decode(errors="ignore")
        file, number = f"{stem}{suffix}", 1
        while file.casefold() in self.names:
            number += 1
            file = f"{stem}-{number}{suffix}"
        self.names.add(file.casefold())
        write_file(self.folder / file, content)


def _sheet(images: np.ndarray) -> Sheet:
    """As many of the first images as fit into MAX_SHEET bytes."""
    while True:
        webp, columns = figures.sheet(images)
        if len(webp) <= MAX_SHEET or len(images) == 1:
            return Sheet(base64.b64encode(webp).decode(), len(images), columns, images.shape[2:4])
        images = images[: len(images) // 2]
