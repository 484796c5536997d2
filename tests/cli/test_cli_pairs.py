"""A translation task of a user's own, without code: folders of pairs, and a table of conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_digits(root: str) -> None:
    """scikit-learn's digits as targets of 8 px, and their means over 2 x 2 px as sources of 4 px."""
    x = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    for part, pictures in (("train", x[:500]), ("test", x[1600:])):
        for half, side in (("source", 4), ("target", 8)):
            folder = Path(root, part, half)
            folder.mkdir(parents=True)
            for i, picture in enumerate(pictures):
                Image.fromarray(picture).resize((side, side), Image.Resampling.BOX).save(folder / f"{i:04}.png")


def test_a_model_that_enlarges_own_pairs_beats_bicubic_interpolation(bench, records):
    write_digits("digits")
    data = ["dataset=images", "dataset.root=digits", "dataset.channels=1", "dataset.size=8", "dataset.source_size=4"]
    for model in (["model=enlarged", "model.width=16", "model.depth=3", "budget.steps=150"], ["model=bicubic"]):
        result = bench(*model, *data)
        assert result.code == 0, result.err
    psnr = {r["choices"]["model"]: r["metrics"]["psnr"]["value"] for r in records()}
    assert psnr["bicubic"] > 10 and psnr["enlarged"] > psnr["bicubic"] + 1, psnr
