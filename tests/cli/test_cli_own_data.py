"""A user's own data on the command line: read correctly, or refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

X = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
Y = np.arange(60) % 3
PERSON = np.array(["ada", "bob", "cyd", "dan", "eve"])[np.arange(60) % 5]


@pytest.fixture
def read(bench, elsewhere):
    """Writes arrays to cells.npz and returns the result of a dry run."""

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
def test_valid_data_are_read(read, content, options):
    result = read(*options, **content)
    assert result.code == 0, result.err


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
def test_invalid_data_are_refused_in_one_line(read, content, options, words):
    result = read(*options, **content)
    assert result.code == 1
    (line,) = result.err.splitlines()
    for word in words:
        assert word in line
