"""A data set: a function that returns a Source. Its parameters are the options in conf/dataset/rings.yaml."""

from __future__ import annotations

import numpy as np

from bench.core import Count
from bench.data import Split
from bench.datasets import Seed, Source, hold_out

SIDE = 12  # pixels


def rings(examples: Count = 1000, data_seed: Seed = 0) -> Source:
    """x: [N, 1, 12, 12] uint8, one ring each; label: 0 for small rings, 1 for large ones; a fifth is the test set."""
    rng = np.random.default_rng(data_seed)
    centre = rng.uniform(4, SIDE - 5, (2, examples, 1, 1))
    radius = rng.uniform(2, 5, (examples, 1, 1))
    row, column = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(row - centre[0], column - centre[1]) - radius
    x = (255 * np.exp(-(distance**2))).astype(np.uint8)
    label = (radius[:, 0, 0] > 3.5).astype(np.int64)
    return hold_out(Split(x[:, np.newaxis], label))
