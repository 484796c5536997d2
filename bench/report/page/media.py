"""Figures that a reader turns or plays: shapes, and sounds with their spectrograms."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np

from bench.evaluation.views import draw_spectrograms
from bench.report.page import figures
from bench.report.page.album import Album, Figure, Shape, Sound
from bench.report.page.charts import LabelledRun

HEIGHT, WIDTH = 128, 320  # pixels of a spectrogram

Arrays = Mapping[str, np.ndarray]  # images.npz of a run


def outputs(labelled: LabelledRun, images: Arrays, counts: Mapping[str, int], shown: set[bytes]) -> list[Figure]:
    """The shapes that a model makes of test examples, after the true ones, unless `shown` has them already."""
    found = []
    if "voxels/target" in images and _is_new(images["voxels/target"], shown):
        found.append(Figure("truth", "", is_input=True, shapes=_shapes(images, "target", counts, "true shape")))
    if "voxels/output" in images:
        shapes = _shapes(images, "output", counts, f"output of {labelled.label}")
        found.append(Figure(labelled.label, labelled.words, shapes=shapes))
    return found


def samples(labelled: LabelledRun, images: Arrays, counts: Mapping[str, int]) -> list[Figure]:
    """The shapes that a model samples."""
    if "voxels/samples" not in images:
        return []
    return [
        Figure(labelled.label, labelled.words, shapes=_shapes(images, "samples", counts, f"sample of {labelled.label}"))
    ]


def sounds(
    album: Album, title: str, labelled: LabelledRun, images: Arrays, max_clips: int, shown: set[bytes]
) -> list[Figure]:
    """A model's outputs for whole files, after the inputs and the truth, unless `shown` has them already.

    max_clips: of each; title: of the data set.
    """
    if "sound/target" not in images:
        return []
    found = []
    given = {"input": "input", "target": "truth"}
    if np.array_equal(images["sound/input"], images["sound/target"]):
        del given["input"]
    for name, label in given.items():
        if _is_new(images[f"sound/{name}"], shown):
            clips = _sounds(album, f"{name}-{title}-sound", label, images, name, max_clips)
            found.append(Figure(label, "", is_input=True, sounds=clips))
    if "sound/output" in images:
        file = f"{labelled.run.name}-{labelled.run.key}-sound"
        made = _sounds(album, file, f"output of {labelled.label}", images, "output", max_clips)
        found.append(Figure(labelled.label, labelled.words, sounds=made))
    return found


def _is_new(array: np.ndarray, shown: set[bytes]) -> bool:
    """Whether `shown` does not have this content yet; it is added."""
    known = (content := array.tobytes()) in shown
    shown.add(content)
    return not known


def _shapes(images: Arrays, name: str, counts: Mapping[str, int], alt: str) -> tuple[Shape, ...]:
    sides = ",".join(map(str, images["voxels/sides"].tolist()))
    packed = images[f"voxels/{name}"][: counts[name]]
    return tuple(
        Shape(f"{alt}, {number}", sides, base64.b64encode(bits.tobytes()).decode())
        for number, bits in enumerate(packed, 1)
    )


def _sounds(album: Album, file: str, alt: str, images: Arrays, name: str, max_clips: int) -> tuple[Sound, ...]:
    facts = (images[f"sound/{key}"].tolist()[:max_clips] for key in ("samples", "rate", "names"))
    made = []
    for number, (padded, length, rate, recording) in enumerate(zip(images[f"sound/{name}"], *facts, strict=False), 1):
        clip = padded[:length]
        spectrogram = draw_spectrograms(clip[np.newaxis, np.newaxis] / 65536 + 0.5, HEIGHT, WIDTH)
        png = figures.grid(spectrogram[np.newaxis], WIDTH)
        made.append(album.wav(f"{file}-{number}", f"{alt}: {recording}", recording, clip, rate, png))
    return tuple(made)
