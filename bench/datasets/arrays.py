"""Arrays of one's own: an .npz file with x_train, y_train, x_test and y_test."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from bench.core import InputError
from bench.data import Split
from bench.datasets import Source

CHANNELS = (1, 3)


def arrays(path: str | None = None) -> Source:
    """Images and labels of an .npz; both y are optional, and `grey_levels` matters to dequantisation only.

    x is uint8, or float in [0, 1], of shape [N, H, W], [N, C, H, W], [N, H, W, C] or [N, side * side]. With four axes
    the second is the channels if it is 1 or 3, else the last is, if that is 1 or 3. Raises InputError for a file that
    is missing, truncated, corrupt or pickled, and for arrays that are not there or of another kind.
    """
    if path is None:
        raise InputError(
            "dataset.path is not set: expected an .npz file with x_train, x_test and, if any, y_train, y_test"
        )
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"dataset.path: {file} is not a file")
    if not zipfile.is_zipfile(file):
        raise InputError(f"{file} is not an .npz file, or a truncated one: expected what numpy.savez writes")
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in ("x_train", "y_train", "x_test", "y_test") if name in archive}
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} cannot be read: {reason}; write plain arrays with numpy.savez") from error
    for name in ("x_train", "x_test"):
        if name not in found:
            raise InputError(f"{file} has no array {name}: expected x_train, x_test and, if any, y_train, y_test")
    x_train, x_test = (_images(file, name, found[name]) for name in ("x_train", "x_test"))
    return Source(Split(x_train, found.get("y_train")), Split(x_test, found.get("y_test")))


def _images(file: Path, name: str, x: np.ndarray) -> np.ndarray:
    """[N, C, H, W], uint8 or float32."""
    if x.dtype.kind == "f":
        x = x.astype(np.float32)
    if x.ndim == 2:
        side = math.isqrt(x.shape[1])
        if side**2 == x.shape[1]:
            return x.reshape(len(x), 1, side, side)
    if x.ndim == 3:
        return x[:, np.newaxis]
    if x.ndim == 4 and x.shape[1] in CHANNELS:
        return x
    if x.ndim == 4 and x.shape[3] in CHANNELS:
        return x.transpose(0, 3, 1, 2)
    raise InputError(
        f"{file}: {name} has shape {x.shape}; expected [N, H, W], [N, C, H, W] or [N, H, W, C] with C 1 or 3, "
        "or [N, D] with a square D"
    )
