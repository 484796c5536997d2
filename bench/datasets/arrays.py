"""Your own arrays: an .npz file, or a folder of .npy files, with images and, if there are any, labels."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from bench.core import InputError
from bench.data import Split
from bench.datasets import Source, hold_out

CHANNELS = (1, 3)
# What arrays are called: x_train, train_images, X_val, test_labels, ...; or images and labels alone.
IMAGES = ("x", "images", "imgs", "data")
LABELS = ("y", "labels", "label", "targets", "target")
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
EXPECTED = (
    "x_train and x_test (or train_images, ...), with labels y_train and y_test if there are any; or x and y alone"
)


class Arrays:
    """The arrays of an .npz file or of a folder of .npy files, by name; read only when they are asked for."""

    def __init__(self, path: Path):
        self.path = path
        if path.is_dir():
            self.names = sorted(file.stem for file in path.glob("*.npy"))
        elif not path.is_file():
            raise InputError(f"dataset.path: {path} is not a file, nor a folder of .npy files")
        elif not zipfile.is_zipfile(path):
            raise InputError(
                f"{path} is not an .npz file, or a truncated one: expected what numpy.savez writes, or the folder that "
                f"holds .npy files called {EXPECTED}"
            )
        else:
            with zipfile.ZipFile(path) as archive:
                self.names = sorted(name.removesuffix(".npy") for name in archive.namelist())
        self.read_names: set[str] = set()

    def find(self, words: Iterable[str], parts: Iterable[str] = ()) -> str | None:
        """The array that one of the words names, joined to one of the parts in either order; case does not matter."""
        wanted = {f"{first}_{second}" for w in words for p in parts for first, second in ((w, p), (p, w))} or {*words}
        found = [name for name in self.names if name.lower() in wanted]
        if len(found) > 1:
            raise InputError(
                f"{self.path} has the arrays {' and '.join(found)}, which mean the same: leave one of them"
            )
        return found[0] if found else None

    def read(self, name: str | None) -> np.ndarray | None:
        """The array of that name; None for None."""
        if name is None:
            return None
        self.read_names.add(name)
        try:
            if self.path.is_dir():
                return np.load(self.path / f"{name}.npy", allow_pickle=False)
            with np.load(self.path, allow_pickle=False) as archive:
                return archive[name]
        except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self.path} cannot be read ({name}): {reason}; write plain arrays with numpy.savez"
            ) from error

    @property
    def unread(self) -> tuple[str, ...]:
        """A line that names the arrays that were not read, if there are any."""
        names = [name for name in self.names if name not in self.read_names]
        return (f"{self.path.name} has arrays that were not read: {', '.join(names)}",) if names else ()


def arrays(
    path: str | None = None, groups: str | None = None, channels: Literal["first", "last"] | None = None
) -> Source:
    """Images of an .npz file or of a folder of .npy files, with labels, factors and groups if there are any.

    The arrays have names such as x_train, train_images or X_test; val, valid and validation are the validation images.
    A set without train and test, x and y alone, gives a fixed fifth for testing. x is [N, H, W], [N, C, H, W],
    [N, H, W, C] or [N, side * side], C being 1 or 3; channels: where they are, if the shape fits both. groups: the
    array of that name, or with train, test and val in its name, holds each example's group. Raises InputError for a
    file that is missing, truncated, corrupt or pickled, and for arrays that are not there or of another kind.
    """
    if path is None:
        raise InputError(f"dataset.path is not set: expected an .npz file, or a folder of .npy files, with {EXPECTED}")
    found = Arrays(Path(path).expanduser())
    parts = {part: name for part, words in PARTS.items() if (name := found.find(IMAGES, words))}
    whole = found.find(IMAGES)
    if whole and parts:
        raise InputError(
            f"{found.path} has {whole}, a set that is not split, and {' and '.join(parts.values())}: leave one of them"
        )
    if whole:
        split = _split(found, whole, (), groups, channels)
        return hold_out(split)._replace(warnings=found.unread)
    for part in ("train", "test"):
        if part not in parts:
            there = ", ".join(found.names) or "none"
            raise InputError(f"{found.path} has no array x_{part}: expected {EXPECTED}; there are {there}")
    splits = {part: _split(found, name, PARTS[part], groups, channels) for part, name in parts.items()}
    return Source(splits["train"], splits["test"], splits.get("validation"), warnings=found.unread)


def _split(
    found: Arrays, images: str, parts: tuple[str, ...], groups: str | None, channels: Literal["first", "last"] | None
) -> Split:
    x = found.read(images)
    assert x is not None
    group = None if groups is None else found.find([groups.lower()], parts)
    if groups is not None and group is None:
        expected = f"{groups}_{parts[0]}" if parts else groups
        raise InputError(
            f"dataset.groups={groups}: {found.path} has no array {expected}; there are {', '.join(found.names)}"
        )
    label, factors = found.read(found.find(LABELS, parts)), found.read(found.find(["factors"], parts))
    if images == "imgs" and "latents_values" in found.names:  # dSprites: the second of its factors is the shape
        known = found.read("latents_values")
        assert known is not None
        label, factors = known[:, 1], known[:, np.ptp(known, axis=0) > 0]
    return Split(_layout(f"{found.path}: {images}", x, channels), label, factors, found.read(group))


def _layout(name: str, x: np.ndarray, channels: Literal["first", "last"] | None) -> np.ndarray:
    """[N, C, H, W]."""
    if channels is not None and x.ndim != 4:
        raise InputError(f"dataset.channels={channels} has no effect: {name} has shape {x.shape}; leave it out")
    if x.ndim == 2 and (side := math.isqrt(x.shape[1])) ** 2 == x.shape[1]:
        return x.reshape(len(x), 1, side, side)
    if x.ndim == 3:
        return x[:, np.newaxis]
    if x.ndim == 4:
        fits = {where: x.shape[axis] in CHANNELS for where, axis in (("first", 1), ("last", 3))}
        if channels is None and all(fits.values()) and max(x.shape[1:]) > 1:
            raise InputError(
                f"{name} has shape {x.shape}, whose channels may be first or last: set dataset.channels=first or last"
            )
        if channels is not None and any(fits.values()) and not fits[channels]:
            raise InputError(f"dataset.channels={channels}: {name} has shape {x.shape}; expected 1 or 3 channels there")
        if fits["first"] and channels != "last":
            return x
        if fits["last"]:
            return x.transpose(0, 3, 1, 2)
    raise InputError(
        f"{name} has shape {x.shape}; expected [N, H, W], [N, C, H, W] or [N, H, W, C] with C 1 or 3, "
        "or [N, D] with a square D"
    )
