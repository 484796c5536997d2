"""Small sources for the tests of `prepare`."""

from __future__ import annotations

import numpy as np

from bench.datasets import Source, Split

RNG = np.random.default_rng(0)
GREY = RNG.random((400, 1, 5, 4)).astype(np.float32)
BYTES = RNG.integers(0, 256, (400, 1, 5, 4), dtype=np.uint8)
LABELS = RNG.permutation(np.repeat(np.arange(4), [40, 80, 120, 160]))
FACTORS = RNG.random((400, 3)).astype(np.float32)
FIELDS = {"x": "x", "y": "label", "factors": "factors", "group": "group"} | {
    name: name for name in ("source", "conditions", "truth")
}


def source(x=GREY, y=LABELS, **changes) -> Source:
    """300 training and 100 test images. x_train, y_test, group_validation, ... replace a part or add one."""
    parts = {"x_train": x[:300], "x_test": x[300:]}
    if y is not None:
        parts |= {"y_train": y[:300], "y_test": y[300:]}
    parts |= changes
    splits = {}
    for split in ("train", "validation", "test"):
        fields = {field: parts.pop(f"{name}_{split}") for name, field in FIELDS.items() if f"{name}_{split}" in parts}
        splits[split] = Split(**fields) if "x" in fields else None
    return Source(**splits, **parts)


def rows(x) -> list[bytes]:
    return [row.tobytes() for row in np.asarray(x)]
