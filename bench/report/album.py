"""The pictures of a page, and the folder with the same pictures as files."""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from bench.report import svg

MAX_NAME = 200  # bytes of the name of a picture's file, without its suffix; file systems end at 255


@dataclass(frozen=True)
class Picture:
    """A PNG of width x height, as base64, or an SVG."""

    alt: str
    file: str
    png: str = ""
    svg: Markup = Markup()
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Figure:
    """The pictures of one run in a section; names: above the columns of its picture. is_input: what models are given,
    not what they make of it."""

    label: str
    words: str
    pictures: tuple[Picture, ...]
    names: tuple[str, ...] = ()
    is_input: bool = False


class Album:
    """Writes each picture to a folder, which is emptied first, and keeps it for the page."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.png"), *folder.glob("*.svg")):
            old.unlink()

    def png(self, name: str, alt: str, png: bytes) -> Picture:
        file = self._write(name, ".png", png)
        width, height = struct.unpack(">II", png[16:24])
        return Picture(alt, file, png=base64.b64encode(png).decode(), width=width, height=height)

    def svg(self, name: str, alt: str, picture: str) -> Picture:
        file = self._write(name, ".svg", svg.standalone(picture).encode())
        return Picture(alt, file, svg=Markup(picture))

    def _write(self, name: str, suffix: str, content: bytes) -> str:
        """Returns the name of the file: unique, also where a file system ignores case, short and not hidden."""
        plain = re.sub(r"[^\w.-]+", "_", name)
        stem = re.sub(r"^\.", "_", plain).encode()[:MAX_NAME].decode(errors="ignore")
        file, number = f"{stem}{suffix}", 1
        while file.casefold() in self.names:
            number += 1
            file = f"{stem}-{number}{suffix}"
        self.names.add(file.casefold())
        (self.folder / file).write_bytes(content)
        return file
