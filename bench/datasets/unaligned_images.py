"""A folder of pictures of aligned objects, such as faces, rotated, scaled and shifted by known amounts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from bench.core import Rate
from bench.data import OnDisk, Split
from bench.datasets.images import images
from bench.datasets.misalignment import Rotation, Scale, misaligned, random_placements, truth_of
from bench.datasets.source import Seed, Source

Side = Annotated[int, Field(ge=8, strict=True)]


def unaligned_images(
    root: str | None = None,
    size: Side = 64,
    source_size: Side = 16,
    crop: Annotated[float, Field(gt=0, le=1)] = 0.75,
    rotation: Rotation = 30.0,
    scale: Scale = 0.8,
    shift: Rate = 0.1,
    data_seed: Seed = 0,
    cache: Path | None = None,
) -> Source:
    """x: [N, 3, size, size] uint8, the middle of each picture; the rest as in `bench.datasets.faces.unaligned_faces`.

    crop: the share of a picture's side that x shows; misaligned sources also show what lies around it. data_seed: of
    the misalignment. Splits, cache and errors are those of `images`. Sources, class folders and conditions of the
    pictures are left out, with a warning.
    """
    pictures = images(root, round(size / crop), cache=cache)
    rng = np.random.default_rng(data_seed)

    def unaligned(split: Split) -> Split:
        stored = split.x[:].numpy() if isinstance(split.x, OnDisk) else split.x
        placement = random_placements(len(stored), rng, rotation, scale, shift)
        x = misaligned(stored, np.zeros_like(placement), size, crop)
        return Split(x, source=misaligned(stored, placement, source_size, crop), conditions={"placement": placement})

    train, test = unaligned(pictures.train), unaligned(pictures.test)
    test = test._replace(truth=truth_of(test.conditions["placement"], size))
    validation = pictures.validation and unaligned(pictures.validation)
    known = {
        "source/": pictures.train.source is not None,
        "class folders": pictures.train.label is not None,
        "conditions.csv": bool(pictures.train.conditions),
    }
    unused = " and ".join(name for name, is_there in known.items() if is_there)
    warnings = (f"only the pictures of {root} were read, not its {unused}",) if unused else ()
    return pictures._replace(
        train=train,
        test=test,
        validation=validation,
        classes=None,
        vocabulary={},
        warnings=pictures.warnings + warnings,
    )
