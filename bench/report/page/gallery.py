"""What a page shows of one data set's runs, side by side in charts and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.report.page import charts, figures, media
from bench.report.page.album import Album, Figure, Picture
from bench.report.page.charts import LabelledRun
from bench.report.records.run import Run

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
    shapes: Mapping[str, int]  # by the name of their array
    clips: int  # sounds
    strip: int = 10  # images
    interpolation_images: int = 10
    side: int = figures.MAX_SIDE  # pixels of an image


FULL = Sizes(
    {1: 6, 3: 4},
    interpolations=3,
    styles=8,
    manifold=20,
    points=2000,
    steps=150,
    shapes={"target": 4, "output": 4, "samples": 8},
    clips=3,
)
BRIEF = Sizes(
    {1: 4, 3: 3},
    interpolations=1,
    styles=3,
    manifold=10,
    points=500,
    steps=50,
    shapes={"target": 2, "output": 2, "samples": 2},
    clips=1,
)


def _of_waves(sizes: Sizes) -> Sizes:
    """Fewer and larger pictures, with details as fine as a pixel."""
    return replace(
        sizes,
        samples={1: 2},
        interpolations=1,
        styles=3,
        manifold=4,
        strip=4,
        interpolation_images=4,
        side=figures.WAVE_SIDE,
    )


@dataclass(frozen=True)
class Drawing:
    """A chart of many runs, and their numbers in words."""

    picture: Picture
    chart: charts.Chart


@dataclass
class Gallery:
    """What a page shows of one data set's runs."""

    title: str
    has_waves: bool = False
    trade_offs: list[Drawing] = field(default_factory=list)
    noise_levels: list[Drawing] = field(default_factory=list)
    strips: list[Figure] = field(default_factory=list)
    denoised: dict[str, list[Figure]] = field(default_factory=dict)  # by noise
    samples: list[Figure] = field(default_factory=list)
    points: list[Figure] = field(default_factory=list)
    codes: list[Figure] = field(default_factory=list)
    interpolations: list[Figure] = field(default_factory=list)
    styles: list[Figure] = field(default_factory=list)
    arithmetic: list[Figure] = field(default_factory=list)
    shapes: list[Figure] = field(default_factory=list)
    shape_samples: list[Figure] = field(default_factory=list)
    sounds: list[Figure] = field(default_factory=list)
    losses: list[Figure] = field(default_factory=list)


def gallery(album: Album, title: str, runs: Sequence[LabelledRun], sizes: Sizes) -> Gallery:
    made = Gallery(title, has_waves=any(figures.has_waves(labelled.run) for labelled in runs))
    sizes = _of_waves(sizes) if made.has_waves else sizes
    inputs: dict[bytes, int] = {}
    shown: set[bytes] = set()  # shapes and sounds of the data set
    for labelled in runs:
        images = figures.arrays(labelled.run)
        if "points" in images or ("input" in images and _are_points(images["input"])):
            _add_points(album, made, labelled, images, sizes)
        else:
            _add_images(album, made, labelled, images, sizes, inputs)
        _add_codes(album, made, labelled, images, sizes)
        made.shapes += media.outputs(labelled, images, sizes.shapes, shown)
        made.shape_samples += media.samples(labelled, images, sizes.shapes)
        made.sounds += media.sounds(album, title, labelled, images, sizes.clips, shown)
        losses = charts.losses(labelled.run, labelled.label, sizes.steps)
        name = f"{_file(labelled)}-losses"
        pictures = [album.chart(f"{name}-{player}", curve) for player, curve in losses]
        if pictures:
            made.losses.append(Figure(f"{labelled.label}{_diverged(labelled.run)}", labelled.words, tuple(pictures)))
    made.trade_offs = _drawings(album, title, charts.trade_off(runs))
    made.noise_levels = _drawings(album, title, charts.noise_levels(runs))
    return made


def _file(labelled: LabelledRun) -> str:
    return f"{labelled.run.name}-{labelled.run.key}"


def _drawings(album: Album, title: str, found: Iterable[charts.Chart]) -> list[Drawing]:
    return [Drawing(album.chart(f"{title}-{chart.name}", chart.spec), chart) for chart in found]


def _diverged(run: Run) -> str:
    seeds = [f"{r['seed']} {r['status']}" for r in run.records if r["status"] in ("diverged", "failed", "interrupted")]
    return f" (dashed: seed {', '.join(seeds)})" if seeds else ""


def _are_points(images: np.ndarray) -> bool:
    """Whether [n, C, H, W] are points in two or three dimensions, stored as images of one row."""
    return images.shape[1:3] == (1, 1) and images.shape[3] <= 3


def _add_points(
    album: Album, made: Gallery, labelled: LabelledRun, images: Mapping[str, np.ndarray], sizes: Sizes
) -> None:
    """Samples over test points."""
    real = images["points"] if "points" in images else images["input"].reshape(len(images["input"]), -1) / 255
    if "points_sampled" in images:
        sampled = images["points_sampled"]
    elif "samples" in images:
        sampled = images["samples"].reshape(len(images["samples"]), -1) / 255
    else:
        return
    alt = f"samples of {labelled.label} over test points"
    picture = charts.points(real[: sizes.points], sampled[: sizes.points], alt)
    made.points.append(_figure(labelled, album.chart(f"{_file(labelled)}-points", picture)))


def _figure(labelled: LabelledRun, *pictures: Picture, names: tuple[str, ...] = ()) -> Figure:
    return Figure(labelled.label, labelled.words, pictures, names)


def _add_images(
    album: Album,
    made: Gallery,
    labelled: LabelledRun,
    images: Mapping[str, np.ndarray],
    sizes: Sizes,
    inputs: dict[bytes, int],
) -> None:
    """inputs: the test images that are shown above strips already, and their number."""
    file, label = _file(labelled), labelled.label

    def add(what: str, alt: str, png: bytes) -> Picture:
        return album.png(f"{file}-{what}", f"{alt} {label}", png, is_lossy=not made.has_waves)

    if "reconstruction" in images:
        for name, values in figures.given(images):
            shown = values[: sizes.strip]
            if shown.tobytes() not in inputs:
                inputs[shown.tobytes()] = number = len(inputs) + 1
                made.strips.append(_given(album, name, shown, f"input-{made.title}-{number}", sizes.side))
        for stage, made_there in figures.stages(images):
            png = figures.strip(made_there[: sizes.strip], sizes.side)
            picture = add(f"stage-{stage}", f"{stage} by", png)
            made.strips.append(Figure(f"{label}: {stage}", labelled.words, (picture,)))
        png = figures.strip(images["reconstruction"][: sizes.strip], sizes.side)
        made.strips.append(_figure(labelled, add("reconstruction", "reconstructions by", png)))
    if "denoised" in images:
        noise = figures.noise_of(labelled.run)
        if noise not in made.denoised:
            png = figures.strip(images["corrupted"][: sizes.strip], sizes.side)
            picture = album.png(f"corrupted-{made.title}-{noise}", f"noisy test images, {noise}", png)
            made.denoised[noise] = [Figure("noisy test images", "", (picture,), is_input=True)]
        png = figures.strip(images["denoised"][: sizes.strip], sizes.side)
        made.denoised[noise].append(_figure(labelled, add("denoised", "noisy images denoised by", png)))
    if "samples" in images:
        samples = images["samples"]
        png = figures.square(samples, sizes.samples[samples.shape[1]], sizes.side)
        made.samples.append(_figure(labelled, add("samples", "samples of", png)))
    if "interpolation_latent" in images:
        rows = zip(images["interpolation_latent"][: sizes.interpolations], images["interpolation_pixel"], strict=False)
        shown = _spread(images["interpolation_latent"].shape[1], sizes.interpolation_images)
        pairs = [figures.grid(np.stack(pair)[:, shown], sizes.side) for pair in rows]
        alt = "interpolations between two test images, through codes above and through pixels below,"
        made.interpolations.append(
            _figure(labelled, *(add(f"interpolation-{i}", alt, png) for i, png in enumerate(pairs, 1)))
        )
    if "class_style" in images:
        styles = images["class_style"][: sizes.styles]
        names = tuple(map(str, range(styles.shape[1]))) if styles.shape[1] <= MAX_CLASS_NAMES else ()
        picture = add("class_style", "one code a row, one label a column, by", figures.grid(styles, sizes.side))
        made.styles.append(_figure(labelled, picture, names=names))
    for name, translated, words in figures.traversals(images):
        alt = f"one test example a row, one value of {name} a column, by"
        picture = add(f"traversal-{name}", alt, figures.grid(translated[: sizes.styles], sizes.side))
        made.styles.append(Figure(f"{label}: {name}", labelled.words, (picture,), names=words))
    if "arithmetic" in images:
        moved = images["arithmetic"][: sizes.styles]
        picture = add(
            "arithmetic", "codes that are moved from one class to another, by", figures.grid(moved, sizes.side)
        )
        made.arithmetic.append(_figure(labelled, picture, names=tuple(images["values/arithmetic"].tolist())))


def _spread(count: int, room: int) -> np.ndarray:
    """Which of `count` images are shown, if there is room for `room`: the first, the last, and those between."""
    return np.linspace(0, count - 1, min(count, room)).round().astype(int)


def _given(album: Album, name: str, values: np.ndarray, file: str, side: int) -> Figure:
    """A strip of inputs, conditions or targets: pictures or texts."""
    if values.dtype.kind == "U":
        return Figure(name, "", (), names=tuple(values.tolist()), is_input=True)
    return Figure(name, "", (album.png(file, name, figures.strip(values, side)),), is_input=True)


def _add_codes(
    album: Album, made: Gallery, labelled: LabelledRun, images: Mapping[str, np.ndarray], sizes: Sizes
) -> None:
    """With two latents: decoded images at a grid of codes, and the codes of test images."""
    pictures = []
    file, label = _file(labelled), labelled.label
    if "manifold" in images and not _are_points(images["manifold"][0]):
        cells = images["manifold"]
        every = max(len(cells) // sizes.manifold, 1)
        alt = f"manifold of {label}: decoded at a grid of codes"
        cells = cells[::every, ::every]
        places = images.get("manifold_codes", np.zeros((0, 2)))[::every]
        picture = figures.grid(cells, sizes.side)
        pictures.append(
            album.png(f"{file}-manifold", alt, picture, cells.shape[:2], json.dumps(places.round(3).tolist()))
        )
    if "codes" in images and images["codes"].shape[1] == 2:
        rows = slice(sizes.points)
        labels = images["labels"][rows] if "labels" in images else None
        chart = charts.codes(images["codes"][rows], labels, f"codes of test images by {label}")
        shown = images["thumbnails"] if "thumbnails" in images else images.get("input", np.zeros(0))
        if chart:
            sheet = album.sheet(shown[rows]) if shown.ndim == 4 and not _are_points(shown) else None
            pictures.append(album.chart(f"{file}-codes", chart, sheet))
    if pictures:
        made.codes.append(_figure(labelled, *pictures))
