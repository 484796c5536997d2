"""One self-contained HTML page: the tables, and the models side by side in pictures."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.report import figures
from bench.report.formats import template
from bench.report.runs import Run, ordered
from bench.report.tables import Layout, Table, by_data

SHOWN = 10  # test images a strip shows
SIDE = {1: 6, 3: 4}  # of a square of samples, by channels: colours compress badly

_EXTRAS = {
    "manifold": "manifold: the decoder at a grid of codes",
    "interpolation_latent": "between two test images, through the codes",
    "class_style": "one code a row, one label a column",
}


@dataclass(frozen=True)
class Picture:
    label: str
    alt: str
    file: str
    data: str  # base64 PNG
    given: bool = False  # what the models are shown, not what they make of it


@dataclass
class Gallery:
    """The pictures of one data set's runs."""

    title: str
    strips: list[Picture] = field(default_factory=list)
    denoised: dict[str, list[Picture]] = field(default_factory=dict)  # by noise
    samples: list[Picture] = field(default_factory=list)
    codes: list[Picture] = field(default_factory=list)
    more: list[Picture] = field(default_factory=list)
    losses: list[Picture] = field(default_factory=list)


class _Album:
    """Writes each picture to a folder, which is emptied first, and keeps it for the page."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()

    def add(self, name: str, label: str, alt: str, png: bytes, given: bool = False) -> Picture:
        file = re.sub(r"[^\w.-]+", "_", name) + ".png"
        (self.folder / file).write_bytes(png)
        return Picture(label, alt, file, base64.b64encode(png).decode(), given)


def galleries(runs: Sequence[Run], layout: Layout, folder: Path) -> list[Gallery]:
    """Pictures of all runs, also written to folder as PNG files."""
    album = _Album(folder)
    axes = (*layout.rows, *layout.columns)
    return [_gallery(album, title, ordered(group, axes), axes) for title, group in by_data(runs, layout).items()]


def _gallery(album: _Album, title: str, runs: Sequence[Run], axes: Sequence[str]) -> Gallery:
    made = Gallery(title)
    seen: list[np.ndarray] = []
    for run in runs:
        label = " · ".join(run.label(a) for a in axes if run.value(a) is not None) or run.name
        file = f"{run.name}-{run.id}"
        images = figures.arrays(run)
        if "reconstruction" in images:
            shown = images["input"][:SHOWN]
            if not figures.same(shown, seen):
                seen.append(shown)
                name = f"input-{title}-{len(seen)}"
                made.strips.append(album.add(name, "test images", "test images", figures.strip(shown), given=True))
            png = figures.strip(images["reconstruction"][:SHOWN])
            made.strips.append(album.add(f"{file}-reconstruction", label, f"reconstructions by {label}", png))
        if "denoised" in images:
            noise = figures.noise_of(run)
            if noise not in made.denoised:
                png = figures.strip(images["corrupted"][:SHOWN])
                name = f"corrupted-{title}-{noise}"
                made.denoised[noise] = [
                    album.add(name, "noisy test images", f"noisy test images, {noise}", png, given=True)
                ]
            png = figures.strip(images["denoised"][:SHOWN])
            made.denoised[noise].append(album.add(f"{file}-denoised", label, f"noisy images denoised by {label}", png))
        if "samples" in images:
            drawn = images["samples"]
            png = figures.square(drawn, SIDE[drawn.shape[1]])
            made.samples.append(album.add(f"{file}-samples", label, f"samples of {label}", png))
        if "codes" in images and images["codes"].shape[1] == 2:
            png = figures.codes(images["codes"], images.get("labels"))
            made.codes.append(album.add(f"{file}-codes", label, f"codes of test images by {label}", png))
        for name, caption in _EXTRAS.items():
            if name in images:
                small = images[name] if name == "manifold" else images[name][:4]
                png = figures.grid(small)
                made.more.append(album.add(f"{file}-{name}", f"{label}: {caption}", f"{caption}, {label}", png))
        if png_or_none := figures.losses(run):
            made.losses.append(album.add(f"{file}-losses", label, f"training losses of {label}", png_or_none))
    return made


def html(title: str, sweeps: Sequence[str], runs: Sequence[Run], tables: Sequence[Table], shown: list[Gallery]) -> str:
    """The page; nothing in it is fetched from elsewhere."""
    statuses = Counter(r["status"] for run in runs for r in run.records)
    finished = max((r["finished"] or "" for run in runs for r in run.records), default="")
    return template("page.html.jinja").render(
        title=title,
        sweeps=sweeps,
        runs=len(runs),
        statuses=statuses,
        finished=finished[:16].replace("T", " "),
        tables=tables,
        galleries=shown,
    )
