"""scikit-learn's bundled handwritten digits: 1,797 images of 8x8 pixels and 17 grey levels; nothing is downloaded."""

from __future__ import annotations

import numpy as np

from bench.data import Split
from bench.datasets import Source, hold_out


def digits() -> Source:
    """x: [N, 1, 8, 8] uint8, from 0 to 16; a fixed fifth of them is the test set.

    Source: the UCI ML repository's "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), its test part.
    """
    from sklearn.datasets import load_digits  # slow to import, and not needed by `bench --help`

    bundle = load_digits()
    x = bundle.images.astype(np.uint8)[:, np.newaxis]
    return hold_out(Split(x, bundle.target), range=(0, 16))
