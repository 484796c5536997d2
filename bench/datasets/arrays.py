"""Your own arrays: an .npz file, or a folder of .npy files, with images, labels, sources and conditions."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from bench.core import InputError
from bench.data import Split
from bench.datasets import Source, hold_out
from bench.datasets.bounds import check_regular, read_array
from bench.datasets.conditions import encode_words
from bench.datasets.folders import SPLITS
from bench.datasets.layouts import Layout, Position, Shape, Sides
from bench.datasets.ranges import SOUND

# The names of arrays: x_train, train_images, X_val, test_labels, ...; without a split in the name: images, labels.
IMAGES = ("x", "images", "imgs", "data")
LABELS = ("y", "labels", "label", "targets", "target")
FACTORS = ("factors",)
SOURCES = ("source", "sources")
FOLDERS = ("conditions", "truth")  # of arrays with their own names: conditions_train/age, truth_test/age
PARTS = {part: tuple(word for word in SPLITS if SPLITS[word] == part) for part in ("train", "validation", "test")}
MOST_NAMED = 20  # arrays in a message
EXPECTED = (
    "x_train and x_test (or train_images, ...), with labels y_train and y_test if there are any; or x and y alone"
)


class Arrays:
    """The arrays of an .npz file or of a folder of .npy files, by name. Each is read only when it is needed."""

    def __init__(self, path: Path):
        self.path = path
        if path.is_dir():
            found = (*path.glob("*.npy"), *path.glob("*/*.npy"))
            self.names = sorted(file.relative_to(path).with_suffix("").as_posix() for file in found)
        elif not path.is_file():
            raise InputError(f"dataset.path: {path} is not a file, nor a folder of .npy files")
        elif not zipfile.is_zipfile(path):
            raise InputError(
                f"{path} is not an .npz file, or it is truncated: expected a file from numpy.savez, or a folder of "
                f".npy files named {EXPECTED}"
            )
        else:
            try:
                with zipfile.ZipFile(path) as archive:
                    self.names = sorted(name.removesuffix(".npy") for name in archive.namelist())
            except Exception as error:  # the type depends on the kind of damage
                raise self._error(error, "its list of arrays") from error
        self.read_names: set[str] = set()

    def find(self, words: Iterable[str], parts: Iterable[str] = ()) -> str | None:
        """The name of an array: one of the words, joined with one of the parts in either order; None if there is none.

        Case does not matter. Raises InputError if there are several.
        """
        wanted = _joined(words, parts)
        found = [name for name in self.names if name.lower() in wanted]
        if len(found) > 1:
            raise InputError(
                f"{self.path} has the arrays {' and '.join(found)}, which mean the same: keep only one of them"
            )
        return found[0] if found else None

    def inside(self, folder: str, parts: Iterable[str] = ()) -> dict[str, str]:
        """The names of the arrays in a folder, such as conditions_train, by the part after the slash."""
        wanted = _joined([folder], parts)
        found: dict[str, str] = {}
        for name in self.names:
            place, _, own = name.partition("/")
            if own and place.lower() in wanted and (other := found.setdefault(own, name)) != name:
                raise InputError(
                    f"{self.path} has the arrays {other} and {name}, which mean the same: keep only one of them"
                )
        return found

    def first_inside(self, folder: str, parts: Iterable[str]) -> str | None:
        """The name of the first array in a folder; None if the folder has none."""
        return next(iter(self.inside(folder, parts).values()), None)

    def read(self, name: str | None) -> np.ndarray | None:
        """The array of that name; None for None."""
        return None if name is None else self.read_known(name)

    def read_known(self, name: str) -> np.ndarray:
        """The array of that name. Raises InputError if it is damaged, pickled or too large."""
        self.read_names.add(name)
        what = f"{self.path}: {name}"
        try:
            if self.path.is_dir():
                check_regular(place := self.path / f"{name}.npy")
                size = place.stat().st_size
                with place.open("rb") as file:
                    return read_array(file, what, size, size)
            with zipfile.ZipFile(self.path) as archive:
                members = archive.NameToInfo
                member = members.get(f"{name}.npy") or members[name]
                with archive.open(member) as file:
                    return read_array(file, what, member.file_size, member.compress_size)
        except InputError:
            raise
        except Exception as error:  # the type depends on the kind of damage
            raise self._error(error, name) from error

    def _error(self, error: Exception, what: str) -> InputError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return InputError(f"{self.path} cannot be read ({what}): {reason}; write plain arrays with numpy.savez")

    def any(self, words: tuple[str, ...]) -> bool:
        """Whether there is an array of one of these names, split or not."""
        return any(self.find(words, parts) for parts in ((), *PARTS.values()))

    @property
    def unread(self) -> tuple[str, ...]:
        """A line that names the arrays that were not read, if there are any."""
        names = [name for name in self.names if name not in self.read_names]
        return (f"{self.path.name} has arrays that were not read: {_listed(names)}",) if names else ()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (", ".join(names[:MOST_NAMED]) or "none") + more


def _joined(words: Iterable[str], parts: Iterable[str]) -> set[str]:
    """Each of the words joined with each of the parts, in either order. Without parts, the words themselves."""
    return {f"{one}_{other}" for w in words for p in parts for one, other in ((w, p), (p, w))} or {*words}


def arrays(
    path: str | None = None,
    groups: str | None = None,
    labels: bool = True,
    image: Shape = None,
    channels: Position = None,
    sides: Sides = None,
) -> Source:
    """Images from an .npz file or a folder of .npy files, and the other fields of `Split` that it contains.

    The arrays have names such as x_train, train_images or X_test; val, valid, validation and dev name the validation
    split. If x and y are not split, a fixed fifth is held out for testing. x has a layout of `Layout`, and so have
    source_train, ... The arrays conditions_train/<name> and truth_test/<name> hold numbers, or text for `encode_words`.
    Waves of int16 keep their type, with silence at 1/2.
    groups: the name of the array with the group of each example, to which train, val and test are added if the images
    are split. labels: whether to read the labels. image, channels, sides: see `Layout`. Raises InputError for a file
    that is missing, truncated, corrupt or pickled, and for missing or unsuitable arrays.
    """
    if path is None:
        raise InputError(f"dataset.path is not set: expected an .npz file, or a folder of .npy files, with {EXPECTED}")
    layout = Layout(image, channels, sides)
    stored = Arrays(Path(path).expanduser())
    parts = {part: name for part, words in PARTS.items() if (name := stored.find(IMAGES, words))}
    whole = stored.find(IMAGES)
    if whole and parts:
        raise InputError(
            f"{stored.path} has {whole}, which is not split, and also {' and '.join(parts.values())}: keep only one of "
            "the two"
        )
    for part in () if whole else ("train", "test"):
        if part not in parts:
            raise InputError(f"{stored.path} has no array x_{part}: expected {EXPECTED}; found {_listed(stored.names)}")
    label_names = LABELS if labels else ()
    if not labels and not stored.any((*LABELS, "latents_values")):
        raise InputError(f"dataset.labels=false has no effect: {stored.path} has no labels; leave it out")
    for names in (label_names, FACTORS, SOURCES):
        way_out = ", or set dataset.labels=false" if names == LABELS else ", or remove it"
        _check_split_alike(stored, whole, parts, partial(stored.find, names), way_out)
    for folder in FOLDERS:
        _check_split_alike(stored, whole, parts, partial(stored.first_inside, folder), ", or remove it")

    def split(images: str, words: tuple[str, ...]) -> Split:
        return _split(stored, images, words, label_names, groups, layout)

    found = {"": whole} if whole else parts
    splits, vocabulary = encode_words({part: split(name, PARTS.get(part, ())) for part, name in found.items()})
    is_sound = all(split.x.ndim == 3 and split.x.dtype == np.int16 for split in splits.values())
    ends, unread = SOUND if is_sound else None, stored.unread
    if whole:
        return hold_out(splits[""], str(stored.path), range=ends, vocabulary=vocabulary, warnings=unread)
    own = splits.get("validation")
    return Source(splits["train"], splits["test"], own, range=ends, vocabulary=vocabulary, warnings=unread)


def _check_split_alike(
    stored: Arrays, whole: str | None, parts: dict[str, str], find: Callable[[Iterable[str]], str | None], way_out: str
) -> None:
    """Raises InputError if only the images are split, or only the arrays that belong to them.

    find: returns the name of the array for the words of a part or, without words, of the array that is not split.
    """
    found = {part: name for part, words in PARTS.items() if (name := find(words))}
    if whole and found and not find(()):
        raise InputError(
            f"{stored.path} has {' and '.join(found.values())}, but {whole} is not split: split it in the same way, or "
            "join them into one array"
        )
    if parts and not found and (together := find(())):
        folder, slash, own = together.partition("/")
        raise InputError(
            f"{stored.path} has {together}, which is not split, but the images are ({' and '.join(parts.values())}): "
            f"split it into {' and '.join(f'{folder}_{PARTS[part][0]}{slash}{own}' for part in parts)}{way_out}"
        )


def _split(
    stored: Arrays,
    images: str,
    words: tuple[str, ...],
    label_names: tuple[str, ...],
    groups: str | None,
    layout: Layout,
) -> Split:
    x = stored.read(images)
    assert x is not None
    group = None if groups is None else stored.find([groups.lower()], words)
    if groups is not None and group is None:
        expected = f"{groups}_{words[0]}" if words else groups
        raise InputError(
            f"dataset.groups={groups}: {stored.path} has no array {expected}; found {_listed(stored.names)}"
        )
    label, factors = stored.read(stored.find(label_names, words)), stored.read(stored.find(FACTORS, words))
    if images == "imgs" and "latents_values" in stored.names:  # dSprites: its second factor is the shape
        latents = stored.read("latents_values")
        assert latents is not None
        label, factors = (latents[:, 1] if label_names else None), latents[:, np.ptp(latents, axis=0) > 0]
    conditions, truth = (
        {own: array for own, name in stored.inside(folder, words).items() if (array := stored.read(name)) is not None}
        for folder in FOLDERS
    )
    if (source := stored.read(source_name := stored.find(SOURCES, words))) is not None:
        source = layout.of_source(f"{stored.path}: {source_name}", source, x)
    others = Split(x, label, factors, stored.read(group), source, conditions, truth)
    known = (label, factors, others.group, source, *conditions.values(), *truth.values())
    counts = {len(part) for part in known if part is not None and part.ndim}
    return others._replace(x=layout.of(f"{stored.path}: {images}", x, counts))
