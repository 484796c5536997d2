"""scikit-learn's bundled handwritten digits: 1,797 images of 8x8 pixels and 17 grey levels; nothing is downloaded."""

from __future__ import annotations

import numpy as np

from bench.datasets import Source, hold_out


def digits() -> Source:
    """x: [N, 1, 8, 8] float32, sixteenths; a fixed fifth of them is the test set.

    Source: the UCI ML repository's "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), its test part.
    """
    from sklearn.datasets import load_digits  # slow to import, and `bench --help` gets by without

    bundle = load_digits()
    x = (bundle.images / 16).astype(np.float32)[:, np.newaxis]
    return hold_out(x, bundle.target, grey_levels=17)
