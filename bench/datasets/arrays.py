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
# The names of arrays: x_train, train_images, X_val, test_labels, ...; without a split in the name: images, labels.
IMAGES = ("x", "images", "imgs", "data")
LABELS = ("y", "labels", "label", "targets", "target")
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
EXPECTED = (
    "x_train and x_test (or train_images, ...), with labels y_train and y_test if there are any; or x and y alone"
)


class Arrays:
    """The arrays of an .npz file or of a folder of .npy files, by name. Each is read only when it is needed."""

    def __init__(self, path: Path):
        self.path = path
        if path.is_dir():
            self.names = sorted(file.stem for file in path.glob("*.npy"))
        elif not path.is_file():
            raise InputError(f"dataset.path: {path} is not a file, nor a folder of .npy files")
        elif not zipfile.is_zipfile(path):
            raise InputError(
                f"{path} is not an .npz file, or it is truncated: expected a file from numpy.savez, or a folder of "
                f".npy files named {EXPECTED}"
            )
        else:
            with zipfile.ZipFile(path) as archive:
                self.names = sorted(name.removesuffix(".npy") for name in archive.namelist())
        self.read_names: set[str] = set()

    def find(self, words: Iterable[str], parts: Iterable[str] = ()) -> str | None:
        """The name of an array: one of the words, joined with one of the parts in either order; None if there is none.

        Case does not matter. Raises InputError if there are several.
        """
        wanted = {f"{first}_{second}" for w in words for p in parts for first, second in ((w, p), (p, w))} or {*words}
        found = [name for name in self.names if name.lower() in wanted]
        if len(found) > 1:
            raise InputError(
                f"{self.path} has the arrays {' and '.join(found)}, which mean the same: keep only one of them"
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
    """Images from an .npz file or a folder of .npy files, with labels, factors and groups if there are any.

    The arrays have names such as x_train, train_images or X_test; val, valid and validation name the validation split.
    Of x and y without splits, a fixed fifth is held out for testing. x is [N, H, W], [N, C, H, W], [N, H, W, C] or
    [N, side * side], with C 1 or 3. channels: their position, needed only if the shape fits both. groups: the name of
    the array with the group of each example, to which train, val and test are added if the images are split. Raises
    InputError for a file that is missing, truncated, corrupt or pickled, and for missing or unsuitable arrays.
    """
    if path is None:
        raise InputError(f"dataset.path is not set: expected an .npz file, or a folder of .npy files, with {EXPECTED}")
    stored = Arrays(Path(path).expanduser())
    parts = {part: name for part, words in PARTS.items() if (name := stored.find(IMAGES, words))}
    whole = stored.find(IMAGES)
    if whole and parts:
        raise InputError(
            f"{stored.path} has {whole}, which is not split, and also {' and '.join(parts.values())}: keep only one of "
            "the two"
        )
    if whole:
        split = _split(stored, whole, (), groups, channels)
        return hold_out(split)._replace(warnings=stored.unread)
    for part in ("train", "test"):
        if part not in parts:
            names = ", ".join(stored.names) or "none"
            raise InputError(f"{stored.path} has no array x_{part}: expected {EXPECTED}; found {names}")
    splits = {part: _split(stored, name, PARTS[part], groups, channels) for part, name in parts.items()}
    return Source(splits["train"], splits["test"], splits.get("validation"), warnings=stored.unread)


def _split(
    stored: Arrays, images: str, parts: tuple[str, ...], groups: str | None, channels: Literal["first", "last"] | None
) -> Split:
    x = stored.read(images)
    assert x is not None
    group = None if groups is None else stored.find([groups.lower()], parts)
    if groups is not None and group is None:
        expected = f"{groups}_{parts[0]}" if parts else groups
        raise InputError(
            f"dataset.groups={groups}: {stored.path} has no array {expected}; found {', '.join(stored.names)}"
        )
    label, factors = stored.read(stored.find(LABELS, parts)), stored.read(stored.find(["factors"], parts))
    if images == "imgs" and "latents_values" in stored.names:  # dSprites: its second factor is the shape
        latents = stored.read("latents_values")
        assert latents is not None
        label, factors = latents[:, 1], latents[:, np.ptp(latents, axis=0) > 0]
    return Split(_layout(f"{stored.path}: {images}", x, channels), label, factors, stored.read(group))


def _layout(name: str, x: np.ndarray, channels: Literal["first", "last"] | None) -> np.ndarray:
    """The images as [N, C, H, W]."""
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
