"""Checks and converts conditions and truth. Models may read conditions; only metrics and judges see truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.core import InputError
from bench.data import Batch, Split, one_hot_axis
from bench.datasets.bounds import check_memory
from bench.datasets.labels import listed

Arrays = dict[str, np.ndarray]
Vocabulary = Mapping[str, Sequence[str]]

# Names that conditions and truth may not have: models and metrics use them for something else, or they are parameters
# of the methods of a trained model, which takes conditions as keyword arguments.
RESERVED = {*Split._fields, *Batch._fields, "noise", "self", "seed", "n", "z"}
NUMBERS = "biuf"  # kinds of numpy types


def convert_conditions(splits: dict[str, Split], vocabulary: Vocabulary) -> dict[str, Arrays]:
    """The conditions of each split, [N, ...] bool, uint8 or float32. [N] becomes [N, 1].

    Raises InputError if splits differ in names, types or shapes, and for values that a model cannot read: text, numbers
    that are not finite, and rows with a vocabulary that are not one-hot.
    """
    names = list(splits["train"].conditions)
    for split, part in splits.items():
        if missing := sorted({*names} ^ {*part.conditions}):
            here, other = ("train", split) if missing[0] in names else (split, "train")
            raise InputError(
                f"conditions_{here} has {missing[0]} but conditions_{other} does not: give each condition for all "
                "splits, or for none"
            )
    for name in names:
        check_name(f"conditions_train/{name}", name)
    found = {
        split: {name: _condition(f"conditions_{split}/{name}", part.conditions[name]) for name in names}
        for split, part in splits.items()
    }
    for name in names:
        _check_alike("conditions", name, found)
        train = found["train"][name]
        if train.dtype == np.uint8 and len(train) and train.max() <= 1:
            raise InputError(
                f"conditions_train/{name} holds only 0 and 1 as uint8, but models see uint8 divided by 255: store "
                "booleans, or floats"
            )
        if name in vocabulary:
            for split, arrays in found.items():
                _check_one_hot(f"conditions_{split}/{name}", arrays[name], len(vocabulary[name]))
    return found


def convert_truth(splits: dict[str, Split], vocabulary: Vocabulary) -> dict[str, Arrays]:
    """The truth of each split, [N, ...] bool, uint8, int64 or float32. A split may lack truth that others have.

    Raises InputError for values that are not numbers, for shapes that differ between splits, for classes that are not
    in the vocabulary, and for negative ones.
    """
    found = {
        split: {name: _truth(f"truth_{split}/{name}", value) for name, value in part.truth.items()}
        for split, part in splits.items()
    }
    for name in dict.fromkeys(name for arrays in found.values() for name in arrays):
        having = {split: arrays for split, arrays in found.items() if name in arrays}
        check_name(f"truth_{next(iter(having))}/{name}", name)
        _check_alike("truth", name, having)
        words = len(vocabulary.get(name, ()))
        for split, arrays in having.items():
            value = arrays[name]
            if value.dtype != np.int64 or not len(value):
                continue
            low, high = value.min(), value.max()
            if words and not 0 <= low <= high < words:
                raise InputError(
                    f"truth_{split}/{name} has values from {low} to {high}: expected 0 to {words - 1}, the numbers of "
                    f"its {words} words in the vocabulary"
                )
            if low < 0 and value.ndim in (1, 3):  # judges take these for classes
                raise InputError(
                    f"truth_{split}/{name} has values from {low} to {high}: expected class numbers from 0; store other "
                    "numbers as floats"
                )
    return found


def unseen_words(splits: dict[str, Split], vocabulary: Vocabulary) -> list[str]:
    """A warning for each condition with words that test examples have and no training example has."""
    lines = []
    for name in vocabulary.keys() & splits["train"].conditions.keys():
        parts = {split: splits[split].conditions[name] for split in ("train", "test")}
        axis = one_hot_axis(parts["train"].shape, len(vocabulary[name]))
        train, test = (np.moveaxis(part, axis, -1).reshape(-1, part.shape[axis]).any(0) for part in parts.values())
        if len(unseen := np.flatnonzero(test & ~train)):
            words = listed(np.array([str(word) for word in vocabulary[name]])[unseen])
            lines.append(f"no training example has the {name} of some test examples: {words}")
    return sorted(lines)


def encode_words(splits: dict[str, Split]) -> tuple[dict[str, Split], dict[str, list[str]]]:
    """The splits with text as numbers (in conditions one-hot bool [N, ..., V], in truth int64), and the words by name.

    The words are those of all splits, sorted. "" is padding: a row that is all false, or -1 in truth. Raises InputError
    for a condition whose texts are all different.
    """
    texts: dict[str, list[np.ndarray]] = {}
    _check_words_shared([split.conditions for split in splits.values()])
    for split in splits.values():
        for name, array in (*split.conditions.items(), *split.truth.items()):
            if array.dtype.kind == "U":
                texts.setdefault(name, []).append(array.ravel())
    words = {name: np.setdiff1d(np.concatenate(parts), [""]) for name, parts in texts.items()}

    def encoded(arrays: Mapping[str, np.ndarray], is_truth: bool) -> Arrays:
        numbers = {
            name: np.where(array == "", -1, np.searchsorted(words[name], array))
            for name, array in arrays.items()
            if array.dtype.kind == "U"
        }
        if is_truth:
            return {**arrays, **numbers}
        for name, n in numbers.items():
            what = f"the condition {name}, as {len(words[name])} classes of {n.size} words,"
            check_memory(what, n.size * len(words[name]), "store numbers, or fewer words")
        one_hot = {name: n[..., np.newaxis] == np.arange(len(words[name])) for name, n in numbers.items()}
        return {**arrays, **one_hot}

    return {
        name: split._replace(conditions=encoded(split.conditions, False), truth=encoded(split.truth, True))
        for name, split in splits.items()
    }, {name: known.tolist() for name, known in words.items()}


def _check_words_shared(parts: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Raises InputError for a condition whose texts are all different, which would have a class for each example."""
    for name in dict.fromkeys(name for part in parts for name in part):
        arrays = [part[name].ravel() for part in parts if name in part and part[name].dtype.kind == "U"]
        found = np.concatenate(arrays) if arrays else np.array([])
        if len(found) > 1 and len(np.unique(found)) == len(found):
            raise InputError(
                f"the condition {name} has {len(found)} texts that are all different, such as {found[0]}: expected "
                "numbers, or words that several examples share; remove this array"
            )


def check_vocabulary(splits: dict[str, Split], vocabulary: Vocabulary) -> None:
    """Raises InputError for words that belong to neither a condition nor a truth."""
    names = {name for split in splits.values() for name in (*split.conditions, *split.truth)}
    if unknown := [name for name in vocabulary if name not in names]:
        raise InputError(
            f"the vocabulary has words for {unknown[0]}: expected the name of a condition or of a truth"
            + (f", one of {', '.join(sorted(names))}" if names else ", but the data have neither")
        )


def check_rows(split: Split, name: str = "") -> None:
    """Raises InputError if the source, a condition or a truth does not have a row for each image of the split."""
    part = f"_{name}" if name else ""
    arrays = {} if split.source is None else {f"source{part}": split.source}
    for field in ("conditions", "truth"):
        arrays |= {f"{field}{part}/{key}": value for key, value in getattr(split, field).items()}
    for key, array in arrays.items():
        shape = tuple(np.shape(array))
        if shape[:1] != (len(split.x),):
            raise InputError(f"{key} has shape {shape}, but there are {len(split.x)} images: expected a row for each")


def check_name(where: str, name: str) -> None:
    """Raises InputError for a name of a condition or truth that is not an identifier or is reserved."""
    if not name.isidentifier() or name in RESERVED:
        why = "that name has another meaning" if name in RESERVED else "use letters, digits and _"
        raise InputError(f"{where}: {why}; give it another name, such as {_suggestion(name)}")


def _suggestion(name: str) -> str:
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)
    return plain if plain.isidentifier() and plain not in RESERVED else f"given_{plain}"


def _numbers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in NUMBERS:
        raise InputError(
            f"{name} has type {array.dtype}: expected numbers, or one-hot booleans [..., V] for V classes or words"
        )
    if 0 in array.shape[1:]:
        raise InputError(f"{name} has shape {array.shape}: it holds no values")
    return array


def _condition(name: str, values: Any) -> np.ndarray:
    array = _numbers(name, values)
    array = array if array.dtype in (bool, np.uint8) else _float32(name, array)
    return array[:, np.newaxis] if array.ndim == 1 else array


def _truth(name: str, values: Any) -> np.ndarray:
    array = _numbers(name, values)
    if array.dtype.kind == "f":
        return _float32(name, array)
    return array if array.dtype in (bool, np.uint8) else array.astype(np.int64)


def _float32(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    good = np.isfinite(floats).all(axis=tuple(range(1, floats.ndim)))
    if not good.all():
        raise InputError(
            f"{name} has {np.sum(~good)} rows with values that are not finite numbers, the first of them row "
            f"{np.argmin(good)}: leave these examples out, or give them a value"
        )
    return floats


def _check_alike(field: str, name: str, found: dict[str, Arrays]) -> None:
    """Raises InputError if splits store a condition or truth in different shapes or types."""
    kinds = {split: (arrays[name].dtype, arrays[name].shape[1:]) for split, arrays in found.items()}
    first = next(iter(kinds))
    for split, kind in kinds.items():
        if kind != kinds[first]:
            one, other = (f"rows of type {dtype} and shape {shape}" for dtype, shape in (kinds[first], kind))
            raise InputError(
                f"{field}_{first}/{name} has {one}, but {field}_{split}/{name} has {other}: they must agree"
            )


def _check_one_hot(name: str, array: np.ndarray, words: int) -> None:
    axis = one_hot_axis(array.shape, words)
    if array.dtype != bool or array.shape[axis] != words:
        raise InputError(
            f"{name} has type {array.dtype} and shape {array.shape}, and {words} words in the vocabulary: expected "
            f"booleans [N, ..., {words}], or [N, {words}, H, W]"
        )
    if (array.sum(axis=axis) > 1).any():
        raise InputError(
            f"{name} is true for several words at once: expected one-hot rows, or leave its vocabulary out"
        )
