"""The pictures of a run in Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import wandb
    from PIL.Image import Image

GRID_COLUMNS = 10

# The pictures in W&B, each with the arrays of images.npz, [n, C, H, W] uint8, whose rows alternate in it. Targets,
# conditions and stages have pictures of their own, because their sizes may differ.
GRIDS = {"reconstructions": ("input", "reconstruction"), "samples": ("samples",)}
ALONE = ("target", "conditions/", "stage/")


def pictures(images: Mapping[str, np.ndarray]) -> dict[str, wandb.Image]:
    """The grids of the arrays of images.npz, by name."""
    import wandb

    grids = {name: [images[row] for row in rows] for name, rows in GRIDS.items() if all(row in images for row in rows)}
    if len({row.shape for row in grids.get("reconstructions", ())}) > 1:
        grids |= {"input": [images["input"]], "reconstructions": [images["reconstruction"]]}
    grids |= {name: [rows] for name, rows in images.items() if name.startswith(ALONE) and rows.dtype.kind != "U"}
    return {name: wandb.Image(grid(rows)) for name, rows in grids.items()}


def grid(rows: Sequence[np.ndarray], columns: int = GRID_COLUMNS) -> Image:
    """Images in a grid. The lines of several arrays alternate, so that images of one index stand above each other.

    rows: arrays [n, C, H, W] of one shape, uint8, C = 1 or 3. The last line is padded with black.
    """
    import numpy as np
    from PIL import Image

    n, channels, height, width = rows[0].shape
    lines = -(-n // columns)
    tiles = np.zeros((len(rows), lines * columns, channels, height, width), np.uint8)
    tiles[:, :n] = np.stack(list(rows))
    tiles = tiles.reshape(len(rows), lines, columns, channels, height, width)
    # [array, line, column, C, H, W] -> [line, array, H, column, W, C]
    picture = tiles.transpose(1, 0, 4, 2, 5, 3).reshape(lines * len(rows) * height, columns * width, channels)
    return Image.fromarray(picture.squeeze(2) if channels == 1 else picture)
