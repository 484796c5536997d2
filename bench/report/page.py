"""One self-contained HTML page: the tables, and the models side by side in charts and pictures."""

from __future__ import annotations

import base64
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup

from bench.report import charts, figures, notes, svg
from bench.report.charts import Named
from bench.report.formats import template
from bench.report.runs import Run, ordered
from bench.report.tables import Layout, Row, Table, by_data

SHOWN = 10  # test images a strip shows
CLASSES = 20  # labels, up to which each is named above its column


@dataclass(frozen=True)
class Sizes:
    """How much of each run is shown: samples to a side (by channels), pairs of images, styles, cells of a manifold to
    a side, codes or points of a scatter, and points of a loss curve."""

    side: Mapping[int, int]  # colours compress badly
    pairs: int
    styles: int
    cells: int
    points: int
    steps: int


FULL = Sizes({1: 6, 3: 4}, pairs=3, styles=8, cells=20, points=2000, steps=150)
BRIEF = Sizes({1: 4, 3: 3}, pairs=1, styles=3, cells=10, points=500, steps=50)
MANY = 100  # runs, over which a page shows less of each
FOLDED = 60  # figures of a section, over which they are opened by a click


@dataclass(frozen=True)
class Picture:
    """Either a PNG of width x height, as base64, or SVG."""

    alt: str
    file: str
    png: str = ""
    svg: Markup = Markup()
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Figure:
    """What belongs together, of one run; names stand above the columns of its picture."""

    label: str
    words: str
    pictures: tuple[Picture, ...]
    names: tuple[str, ...] = ()
    given: bool = False  # what the models are shown, not what they make of it


@dataclass(frozen=True)
class Drawing:
    """A chart of many runs."""

    picture: Picture
    caption: str


@dataclass
class Gallery:
    """The charts and pictures of one data set's runs; legend: of `levels`, the runs and their marks."""

    title: str
    trade_offs: list[Drawing] = field(default_factory=list)
    levels: list[Drawing] = field(default_factory=list)
    legend: list[tuple[Named, Markup]] = field(default_factory=list)
    strips: list[Figure] = field(default_factory=list)
    denoised: dict[str, list[Figure]] = field(default_factory=dict)  # by noise
    samples: list[Figure] = field(default_factory=list)
    clouds: list[Figure] = field(default_factory=list)
    codes: list[Figure] = field(default_factory=list)
    between: list[Figure] = field(default_factory=list)
    styles: list[Figure] = field(default_factory=list)
    losses: list[Figure] = field(default_factory=list)


class _Album:
    """Writes each picture to a folder, which is emptied first, and keeps it for the page."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.png"), *folder.glob("*.svg")):
            old.unlink()

    def png(self, name: str, alt: str, png: bytes) -> Picture:
        file = self._write(f"{name}.png", png)
        width, height = struct.unpack(">II", png[16:24])
        return Picture(alt, file, png=base64.b64encode(png).decode(), width=width, height=height)

    def svg(self, name: str, alt: str, drawn: str) -> Picture:
        file = self._write(f"{name}.svg", svg.standalone(drawn).encode())
        return Picture(alt, file, svg=Markup(drawn))

    def _write(self, name: str, content: bytes) -> str:
        file = re.sub(r"[^\w.-]+", "_", name)
        (self.folder / file).write_bytes(content)
        return file


def words(labels: Iterable[tuple[str, str]], data: str) -> str:
    """What a filter finds a run by: the words of its data, and those of its labels along axes, also as axis=word."""
    found = _split(data)
    for axis, label in labels:
        for word in _split(label):
            found += [word, *(f"{name}={word}".lower() for name in (axis, axis.rpartition(".")[2]) if name)]
    return " ".join(dict.fromkeys(found))


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[\s·,()\[\]]+", text.lower()) if word]


def write(
    folder: Path, title: str, sweeps: Sequence[str], runs: Sequence[Run], tables: Sequence[Table], layout: Layout
) -> None:
    """index.html, in which nothing is fetched from elsewhere, and its pictures as files in pictures/.

    layout: its axes name each run. What a record says is escaped.
    """
    album = _Album(folder / "pictures")
    sizes = FULL if len(runs) <= MANY else BRIEF
    axes = (*layout.rows, *layout.columns)
    named = {title: _named(ordered(group, axes), axes, title) for title, group in by_data(runs, layout).items()}
    shown = [_gallery(album, title, group, sizes) for title, group in named.items()]
    statuses = Counter(r["status"] for run in runs for r in run.records)
    finished = max((r["finished"] or "" for run in runs for r in run.records), default="")
    known = {"id"} | {axis for run in runs for axis in (*run.choices, *run.settings)}
    page = template("page.html.jinja").render(
        title=title,
        sweeps=sweeps,
        runs=[run.words for group in named.values() for run in group],
        statuses=statuses,
        finished=finished[:16].replace("T", " "),
        made=notes.provenance(runs),
        tables=[(table, _rows(table, known), _choices(table), _pictures(album, table)) for table in tables],
        galleries=shown,
        brief=sizes is BRIEF,
        folded=FOLDED,
        hook=_hook,
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _named(runs: Sequence[Run], axes: Sequence[str], data: str) -> list[Named]:
    found = []
    for run in runs:
        labels = [(axis, run.label(axis)) for axis in axes if run.value(axis) is not None]
        found.append(Named(run, " · ".join(label for _, label in labels) or run.name, words(labels, data)))
    return found


def _rows(table: Table, known: set[str]) -> list[tuple[Row, str]]:
    """Each row and its words: those of its labels and columns; none where rows are no runs, as of claims."""
    if not known & set(table.axes):
        return [(row, "") for row in table.rows]
    pivots = [("", column.pivot) for column in table.columns]
    return [(row, words([*zip(table.axes, row.labels, strict=True), *pivots], table.data)) for row in table.rows]


def _choices(table: Table) -> list[tuple[int, str, list[str]]]:
    """The axes that a table can be filtered by: place, name and values. None of a table that one sees at a glance."""
    if len(table.rows) < 3:
        return []
    values = [list(dict.fromkeys(row.labels[i] for row in table.rows)) for i in range(len(table.axes))]
    return [(i, table.axes[i], found) for i, found in enumerate(values) if 1 < len(found) < 30]


def _pictures(album: _Album, table: Table) -> list[Picture]:
    return [album.png(f"{table.title}-{i}", alt, png) for i, (alt, png) in enumerate(table.pictures, 1)]


def _hook(text: str) -> str:
    """A class for a cell of text: is-does-not-hold. None for a long text."""
    return "is-" + "-".join(re.findall(r"\w+", text.lower())) if 0 < len(text) <= 24 else ""


def _gallery(album: _Album, title: str, runs: Sequence[Named], sizes: Sizes) -> Gallery:
    made = Gallery(title)
    given: dict[bytes, int] = {}
    for named in runs:
        images = figures.arrays(named.run)
        if "points" in images or ("input" in images and _are_points(images["input"])):
            _add_points(album, made, named, images, sizes)
        else:
            _add_images(album, made, named, images, sizes, given)
        _add_codes(album, made, named, images, sizes)
        curves = charts.losses(named.run, named.label, sizes.steps)
        name = f"{_file(named)}-losses"
        pictures = [album.svg(f"{name}-{player}", f"loss of {player}", drawn) for player, drawn in curves]
        if pictures:
            made.losses.append(Figure(f"{named.label}{_diverged(named.run)}", named.words, tuple(pictures)))
    made.trade_offs = _drawings(album, title, charts.trade_off(runs))
    made.levels = _drawings(album, title, charts.levels(runs))
    made.legend = [(named, Markup(key)) for named, key in charts.legend(runs)]
    return made


def _file(named: Named) -> str:
    return f"{named.run.name}-{named.run.id}"


def _drawings(album: _Album, title: str, found: Iterable[charts.Chart]) -> list[Drawing]:
    return [Drawing(album.svg(f"{title}-{chart.name}", chart.title, chart.drawn), chart.caption) for chart in found]


def _diverged(run: Run) -> str:
    seeds = [f"{r['seed']} {r['status']}" for r in run.records if r["status"] in ("diverged", "failed", "interrupted")]
    return f" (dashed: seed {', '.join(seeds)})" if seeds else ""


def _are_points(images: np.ndarray) -> bool:
    """Whether [n, C, H, W] are points of the plane or of space, kept as images of one row."""
    return images.shape[1:3] == (1, 1) and images.shape[3] <= 3


def _add_points(album: _Album, made: Gallery, named: Named, images: Mapping[str, np.ndarray], sizes: Sizes) -> None:
    """Samples over test points."""
    real = images["points"] if "points" in images else images["input"].reshape(len(images["input"]), -1) / 255
    if "points_sampled" in images:
        drawn = images["points_sampled"]
    elif "samples" in images:
        drawn = images["samples"].reshape(len(images["samples"]), -1) / 255
    else:
        return
    alt = f"samples of {named.label} over test points"
    picture = charts.cloud(real[: sizes.points], drawn[: sizes.points], alt)
    made.clouds.append(_figure(named, album.svg(f"{_file(named)}-points", alt, picture)))


def _figure(named: Named, *pictures: Picture, names: tuple[str, ...] = ()) -> Figure:
    return Figure(named.label, named.words, pictures, names)


def _add_images(
    album: _Album,
    made: Gallery,
    named: Named,
    images: Mapping[str, np.ndarray],
    sizes: Sizes,
    given: dict[bytes, int],
) -> None:
    """given: the test images that stand above strips already, and their number."""
    file, label = _file(named), named.label

    def add(what: str, alt: str, png: bytes) -> Picture:
        return album.png(f"{file}-{what}", f"{alt} {label}", png)

    if "reconstruction" in images:
        shown = images["input"][:SHOWN]
        if shown.tobytes() not in given:
            given[shown.tobytes()] = number = len(given) + 1
            picture = album.png(f"input-{made.title}-{number}", "test images", figures.strip(shown))
            made.strips.append(Figure("test images", "", (picture,), given=True))
        png = figures.strip(images["reconstruction"][:SHOWN])
        made.strips.append(_figure(named, add("reconstruction", "reconstructions by", png)))
    if "denoised" in images:
        noise = figures.noise_of(named.run)
        if noise not in made.denoised:
            png = figures.strip(images["corrupted"][:SHOWN])
            picture = album.png(f"corrupted-{made.title}-{noise}", f"noisy test images, {noise}", png)
            made.denoised[noise] = [Figure("noisy test images", "", (picture,), given=True)]
        png = figures.strip(images["denoised"][:SHOWN])
        made.denoised[noise].append(_figure(named, add("denoised", "noisy images denoised by", png)))
    if "samples" in images:
        drawn = images["samples"]
        png = figures.square(drawn, sizes.side[drawn.shape[1]])
        made.samples.append(_figure(named, add("samples", "samples of", png)))
    if "interpolation_latent" in images:
        rows = zip(images["interpolation_latent"][: sizes.pairs], images["interpolation_pixel"], strict=False)
        pairs = [figures.grid(np.stack(pair)) for pair in rows]
        alt = "between two test images, above through the codes, below through the pixels,"
        made.between.append(_figure(named, *(add(f"between-{i}", alt, png) for i, png in enumerate(pairs, 1))))
    if "class_style" in images:
        styles = images["class_style"][: sizes.styles]
        names = tuple(map(str, range(styles.shape[1]))) if styles.shape[1] <= CLASSES else ()
        picture = add("class_style", "one code a row, one label a column, by", figures.grid(styles))
        made.styles.append(_figure(named, picture, names=names))


def _add_codes(album: _Album, made: Gallery, named: Named, images: Mapping[str, np.ndarray], sizes: Sizes) -> None:
    """Of two latents: what codes decode to, where that is images, and the codes of test images."""
    pictures = []
    file, label = _file(named), named.label
    if "manifold" in images and not _are_points(images["manifold"][0]):
        cells = images["manifold"]
        every = max(len(cells) // sizes.cells, 1)
        alt = f"manifold of {label}: decoded at a grid of codes"
        pictures.append(album.png(f"{file}-manifold", alt, figures.grid(cells[::every, ::every])))
    if "codes" in images and images["codes"].shape[1] == 2:
        rows = slice(sizes.points)
        labels = images["labels"][rows] if "labels" in images else None
        alt = f"codes of test images by {label}"
        pictures.append(album.svg(f"{file}-codes", alt, charts.codes(images["codes"][rows], labels, alt)))
    if pictures:
        made.codes.append(_figure(named, *pictures))
