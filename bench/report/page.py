"""One self-contained HTML page: the tables, and the runs side by side in charts and pictures."""

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
from bench.report.charts import LabelledRun
from bench.report.formats import template
from bench.report.runs import RECORD_AXES, Run, sort_runs
from bench.report.tables import Layout, Row, Table, group_by_dataset

STRIP_IMAGES = 10
MAX_NAME = 200  # bytes of the name of a picture's file, without its suffix; file systems end at 255
MAX_CLASS_NAMES = 20  # labels that are named above their columns


@dataclass(frozen=True)
class Sizes:
    """How much of each run is shown."""

    samples: Mapping[int, int]  # along a side, by channels: colours compress badly
    interpolations: int
    styles: int
    manifold: int  # cells along a side
    points: int  # of a scatter chart
    steps: int  # points of a loss curve


FULL = Sizes({1: 6, 3: 4}, interpolations=3, styles=8, manifold=20, points=2000, steps=150)
BRIEF = Sizes({1: 4, 3: 3}, interpolations=1, styles=3, manifold=10, points=500, steps=50)
MAX_FULL = 100  # runs that are shown in full; of more, the page shows less of each
MAX_OPEN = 60  # figures of a section that are open; more are opened by a click


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


@dataclass(frozen=True)
class Drawing:
    """A chart of many runs."""

    picture: Picture
    caption: str


@dataclass
class Gallery:
    """The charts and pictures of one data set's runs; legend: of the charts against noise."""

    title: str
    trade_offs: list[Drawing] = field(default_factory=list)
    noise_levels: list[Drawing] = field(default_factory=list)
    legend: list[tuple[LabelledRun, Markup]] = field(default_factory=list)
    strips: list[Figure] = field(default_factory=list)
    denoised: dict[str, list[Figure]] = field(default_factory=dict)  # by noise
    samples: list[Figure] = field(default_factory=list)
    points: list[Figure] = field(default_factory=list)
    codes: list[Figure] = field(default_factory=list)
    interpolations: list[Figure] = field(default_factory=list)
    styles: list[Figure] = field(default_factory=list)
    losses: list[Figure] = field(default_factory=list)


class _Album:
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


def filter_words(labels: Iterable[tuple[str, str]], dataset: str) -> str:
    """The words by which a filter finds a run: of its data set, and of its labels along axes, also as axis=word."""
    found = _split(dataset)
    for axis, label in labels:
        for word in _split(label):
            found += [word, *(f"{name}={word}".lower() for name in (axis, axis.rpartition(".")[2]) if name)]
    return " ".join(dict.fromkeys(found))


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[\s·,()\[\]]+", text.lower()) if word]


def write(
    folder: Path, title: str, sweeps: Sequence[str], runs: Sequence[Run], tables: Sequence[Table], layout: Layout
) -> None:
    """index.html, which fetches nothing from elsewhere, and its pictures as files in pictures/.

    layout: its axes name each run. Texts from records are escaped.
    """
    album = _Album(folder / "pictures")
    sizes = FULL if len(runs) <= MAX_FULL else BRIEF
    axes = (*layout.rows, *layout.columns)
    groups = group_by_dataset(runs, layout)
    labelled = {title: _label(sort_runs(group, axes), axes, title) for title, group in groups.items()}
    galleries = [_gallery(album, title, group, sizes) for title, group in labelled.items()]
    statuses = Counter(r["status"] for run in runs for r in run.records)
    finished = max((r["finished"] or "" for run in runs for r in run.records), default="")
    known = {*RECORD_AXES} | {axis for run in runs for axis in (*run.choices, *run.settings)}
    page = template("page.html.jinja").render(
        title=title,
        sweeps=sweeps,
        runs=[run.words for group in labelled.values() for run in group],
        statuses=statuses,
        finished=finished[:16].replace("T", " "),
        provenance=notes.provenance(runs),
        tables=[(table, _rows(table, known), _choices(table), _pictures(album, table)) for table in tables],
        galleries=galleries,
        brief=sizes is BRIEF,
        max_open=MAX_OPEN,
        css_class=_css_class,
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _label(runs: Sequence[Run], axes: Sequence[str], dataset: str) -> list[LabelledRun]:
    found = []
    for run in runs:
        labels = [(axis, run.label(axis)) for axis in axes if run.value(axis) is not None]
        label = " · ".join(label for _, label in labels) or run.name
        found.append(LabelledRun(run, label, filter_words(labels, dataset)))
    return found


def _rows(table: Table, known: set[str]) -> list[tuple[Row, str]]:
    """Each row and its words: those of its labels and columns; none where rows are not runs, as in tables of claims."""
    if not known & set(table.axes):
        return [(row, "") for row in table.rows]
    pivots = [("", column.pivot) for column in table.columns]
    return [
        (row, filter_words([*zip(table.axes, row.labels, strict=True), *pivots], table.dataset)) for row in table.rows
    ]


def _choices(table: Table) -> list[tuple[int, str, list[str]]]:
    """The axes that a table can be filtered by: place, name and values; none for a table of one or two rows."""
    if len(table.rows) < 3:
        return []
    values = [list(dict.fromkeys(row.labels[i] for row in table.rows)) for i in range(len(table.axes))]
    return [(i, table.axes[i], found) for i, found in enumerate(values) if 1 < len(found) < 30]


def _pictures(album: _Album, table: Table) -> list[Picture]:
    return [album.png(f"{table.title}-{i}", alt, png) for i, (alt, png) in enumerate(table.pictures, 1)]


def _css_class(text: str) -> str:
    """The class of a cell with a short text, as is-does-not-hold."""
    return "is-" + "-".join(re.findall(r"\w+", text.lower())) if 0 < len(text) <= 24 else ""


def _gallery(album: _Album, title: str, runs: Sequence[LabelledRun], sizes: Sizes) -> Gallery:
    made = Gallery(title)
    inputs: dict[bytes, int] = {}
    for named in runs:
        images = figures.arrays(named.run)
        if "points" in images or ("input" in images and _are_points(images["input"])):
            _add_points(album, made, named, images, sizes)
        else:
            _add_images(album, made, named, images, sizes, inputs)
        _add_codes(album, made, named, images, sizes)
        losses = charts.losses(named.run, named.label, sizes.steps)
        name = f"{_file(named)}-losses"
        pictures = [album.svg(f"{name}-{player}", f"loss of {player}", curve) for player, curve in losses]
        if pictures:
            made.losses.append(Figure(f"{named.label}{_diverged(named.run)}", named.words, tuple(pictures)))
    made.trade_offs = _drawings(album, title, charts.trade_off(runs))
    made.noise_levels = _drawings(album, title, charts.noise_levels(runs))
    made.legend = [(named, Markup(key)) for named, key in charts.legend(runs)]
    return made


def _file(named: LabelledRun) -> str:
    return f"{named.run.name}-{named.run.key}"


def _drawings(album: _Album, title: str, found: Iterable[charts.Chart]) -> list[Drawing]:
    return [Drawing(album.svg(f"{title}-{chart.name}", chart.title, chart.svg), chart.caption) for chart in found]


def _diverged(run: Run) -> str:
    seeds = [f"{r['seed']} {r['status']}" for r in run.records if r["status"] in ("diverged", "failed", "interrupted")]
    return f" (dashed: seed {', '.join(seeds)})" if seeds else ""


def _are_points(images: np.ndarray) -> bool:
    """Whether [n, C, H, W] are points in two or three dimensions, stored as images of one row."""
    return images.shape[1:3] == (1, 1) and images.shape[3] <= 3


def _add_points(
    album: _Album, made: Gallery, named: LabelledRun, images: Mapping[str, np.ndarray], sizes: Sizes
) -> None:
    """Samples over test points."""
    real = images["points"] if "points" in images else images["input"].reshape(len(images["input"]), -1) / 255
    if "points_sampled" in images:
        sampled = images["points_sampled"]
    elif "samples" in images:
        sampled = images["samples"].reshape(len(images["samples"]), -1) / 255
    else:
        return
    alt = f"samples of {named.label} over test points"
    picture = charts.points(real[: sizes.points], sampled[: sizes.points], alt)
    made.points.append(_figure(named, album.svg(f"{_file(named)}-points", alt, picture)))


def _figure(named: LabelledRun, *pictures: Picture, names: tuple[str, ...] = ()) -> Figure:
    return Figure(named.label, named.words, pictures, names)


def _add_images(
    album: _Album,
    made: Gallery,
    named: LabelledRun,
    images: Mapping[str, np.ndarray],
    sizes: Sizes,
    inputs: dict[bytes, int],
) -> None:
    """inputs: the test images that are shown above strips already, and their number."""
    file, label = _file(named), named.label

    def add(what: str, alt: str, png: bytes) -> Picture:
        return album.png(f"{file}-{what}", f"{alt} {label}", png)

    if "reconstruction" in images:
        for name, values in figures.given(images):
            shown = values[:STRIP_IMAGES]
            if shown.tobytes() not in inputs:
                inputs[shown.tobytes()] = number = len(inputs) + 1
                made.strips.append(_given(album, name, shown, f"input-{made.title}-{number}"))
        for stage, made_there in figures.stages(images):
            png = figures.strip(made_there[:STRIP_IMAGES])
            picture = add(f"stage-{stage}", f"{stage} by", png)
            made.strips.append(Figure(f"{label}: {stage}", named.words, (picture,)))
        png = figures.strip(images["reconstruction"][:STRIP_IMAGES])
        made.strips.append(_figure(named, add("reconstruction", "reconstructions by", png)))
    if "denoised" in images:
        noise = figures.noise_of(named.run)
        if noise not in made.denoised:
            png = figures.strip(images["corrupted"][:STRIP_IMAGES])
            picture = album.png(f"corrupted-{made.title}-{noise}", f"noisy test images, {noise}", png)
            made.denoised[noise] = [Figure("noisy test images", "", (picture,), is_input=True)]
        png = figures.strip(images["denoised"][:STRIP_IMAGES])
        made.denoised[noise].append(_figure(named, add("denoised", "noisy images denoised by", png)))
    if "samples" in images:
        samples = images["samples"]
        png = figures.square(samples, sizes.samples[samples.shape[1]])
        made.samples.append(_figure(named, add("samples", "samples of", png)))
    if "interpolation_latent" in images:
        rows = zip(images["interpolation_latent"][: sizes.interpolations], images["interpolation_pixel"], strict=False)
        pairs = [figures.grid(np.stack(pair)) for pair in rows]
        alt = "interpolations between two test images, through codes above and through pixels below,"
        made.interpolations.append(
            _figure(named, *(add(f"interpolation-{i}", alt, png) for i, png in enumerate(pairs, 1)))
        )
    if "class_style" in images:
        styles = images["class_style"][: sizes.styles]
        names = tuple(map(str, range(styles.shape[1]))) if styles.shape[1] <= MAX_CLASS_NAMES else ()
        picture = add("class_style", "one code a row, one label a column, by", figures.grid(styles))
        made.styles.append(_figure(named, picture, names=names))
    for name, translated, words in figures.traversals(images):
        alt = f"one test example a row, one value of {name} a column, by"
        picture = add(f"traversal-{name}", alt, figures.grid(translated[: sizes.styles]))
        made.styles.append(Figure(f"{label}: {name}", named.words, (picture,), names=words))


def _given(album: _Album, name: str, values: np.ndarray, file: str) -> Figure:
    """A strip of inputs, conditions or targets: pictures or texts."""
    if values.dtype.kind == "U":
        return Figure(name, "", (), names=tuple(values.tolist()), is_input=True)
    return Figure(name, "", (album.png(file, name, figures.strip(values)),), is_input=True)


def _add_codes(
    album: _Album, made: Gallery, named: LabelledRun, images: Mapping[str, np.ndarray], sizes: Sizes
) -> None:
    """With two latents: decoded images at a grid of codes, and the codes of test images."""
    pictures = []
    file, label = _file(named), named.label
    if "manifold" in images and not _are_points(images["manifold"][0]):
        cells = images["manifold"]
        every = max(len(cells) // sizes.manifold, 1)
        alt = f"manifold of {label}: decoded at a grid of codes"
        pictures.append(album.png(f"{file}-manifold", alt, figures.grid(cells[::every, ::every])))
    if "codes" in images and images["codes"].shape[1] == 2:
        rows = slice(sizes.points)
        labels = images["labels"][rows] if "labels" in images else None
        alt = f"codes of test images by {label}"
        pictures.append(album.svg(f"{file}-codes", alt, charts.codes(images["codes"][rows], labels, alt)))
    if pictures:
        made.codes.append(_figure(named, *pictures))
