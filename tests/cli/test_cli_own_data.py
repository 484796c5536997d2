"""Data of one's own from the command line: read right, or refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

X = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
Y = np.arange(60) % 3
PERSON = np.array(["ada", "bob", "cyd", "dan", "eve"])[np.arange(60) % 5]


@pytest.fixture
def read(bench, elsewhere):
    """What a dry run says of arrays, which are written to cells.npz."""

    def run(*options: str, **content: np.ndarray):
        np.savez("cells.npz", **content)
        return bench("dataset=arrays", "dataset.path=cells.npz", "dry_run=true", "model=ae", *options)

    return run


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ({"images": X // 128, "labels": Y}, []),
        ({"x": X // 16, "y": Y}, ["dataset.range=[0,15]"]),
        ({"x": X[..., None].repeat(3, 3) / 255.0, "y": np.eye(3)[Y]}, ["dataset.limit=10"]),
        ({"x": X, "y": Y, "person": PERSON}, ["dataset.groups=person", "dataset.name=cells"]),
        ({"train_images": X, "val_images": X[:9], "test_images": X[:20]}, []),
        ({"x": X[:, :3, :, None].repeat(3, 3)}, ["dataset.channels=last"]),
        ({"x": X // 16}, ["dataset.range=[0,15]", "dataset.dequantize=true", "dataset.grey_levels=16"]),
    ],
)
def test_it_is_read(read, content, options):
    said = read(*options, **content)
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ({"x": X // 16}, [], ["values from 0", "to 15", "dataset.range=[0,15]"]),
        ({"x": X}, ["dataset.range=[0,100]"], ["not in [0, 100]", "dataset.range"]),
        ({"x": X}, ["dataset.range=bright"], ["dataset.range=bright", "'auto'"]),
        ({"x": X}, ["dataset.grey_levels=17"], ["dataset.grey_levels=17 has no effect", "dataset.dequantize=true"]),
        (
            {"x": X, "y": Y},
            ["dataset.groups=person"],
            ["dataset.groups=person", "cells.npz has no array person", "x, y"],
        ),
        ({"x": X[:, :3, :, None].repeat(3, 3)}, [], ["channels may be first or last", "dataset.channels"]),
        ({"x_train": X, "x_test": X, "y_train": Y, "y_test": Y + 1}, [], ["20 labels that are not in y_train: 3"]),
        (
            {"x_train": X, "x_val": X[:9], "x_test": X},
            ["dataset.validation=7"],
            ["dataset.validation=7 has no effect", "its own validation images"],
        ),
        ({"bilder": X}, [], ["cells.npz has no array x_train", "found bilder"]),
    ],
)
def test_it_is_refused_in_one_line(read, content, options, words):
    said = read(*options, **content)
    assert said.code == 1
    (line,) = said.err.splitlines()
    for word in words:
        assert word in line
