"""The pictures, sounds and shapes of a page, and the folder with the same pictures and sounds as files."""

from __future__ import annotations

import base64
import io
import re
import struct
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from bench.report.page import svg
from bench.runs.files import write_file

MAX_NAME = 200  # bytes of a file's name, without its suffix; file systems end at 255


@dataclass(frozen=True)
class Picture:
    """A PNG of width x height, as base64, or an SVG."""

    alt: str
    png: str = ""
    svg: Markup = Markup()
    width: int = 0
    height: int = 0


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
        folder.mkdir(parents=True, exist_ok=True)

    def remove_others(self) -> None:
        """Removes the pictures and sounds of earlier reports."""
        for old in self.folder.iterdir():
            if old.suffix in (".png", ".svg", ".wav") and old.name.casefold() not in self.names:
                old.unlink(missing_ok=True)

    def png(self, name: str, alt: str, png: bytes) -> Picture:
        self._write(name, ".png", png)
        width, height = struct.unpack(">II", png[16:24])
        return Picture(alt, png=base64.b64encode(png).decode(), width=width, height=height)

    def svg(self, name: str, alt: str, picture: str) -> Picture:
        self._write(name, ".svg", svg.standalone(picture).encode())
        return Picture(alt, svg=Markup(picture))

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
