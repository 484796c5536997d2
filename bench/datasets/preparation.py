"""Turns a source into a data set: checks, converts, splits and binarises it."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, SkipValidation
from torch import Tensor

from bench.core import Count, InputError
from bench.data import Data, OnDisk, Shapes, Split
from bench.datasets import labels
from bench.datasets.conditions import (
    Vocabulary,
    check_rows,
    check_vocabulary,
    convert_conditions,
    convert_truth,
    unseen_words,
)
from bench.datasets.content import content_warnings, fingerprint, row_hashes
from bench.datasets.ranges import (
    BYTES,
    Range,
    check_finite,
    check_inside,
    check_not_wider,
    check_similar,
    chunks,
    decide,
    extremes,
    grey_levels_of,
    range_warnings,
    split_warnings,
    to_pixels,
)
from bench.datasets.source import MINIMUM, Seed, Source, limited, set_apart
from bench.draws import Draws

Splits = dict[str, Split]
USUAL_LEVELS = 256
MOST_LEVELS = 2**16  # of a pixel: float32 in [0, 1] does not tell many more apart
Levels = Annotated[int, Field(ge=2, le=MOST_LEVELS, strict=True)]


def prepare(
    source: SkipValidation[Source],
    *,
    range: Literal["auto"] | tuple[float, float] = "auto",
    limit: Count | None = None,
    split_seed: Seed = 0,
    validation: Count = 5000,
    binarize: Literal["none", "static", "dynamic"] = "none",
    dequantize: bool = False,
    grey_levels: Levels | None = None,
) -> Data:
    """A checked data set: uint8 from 0 to 255 where that is exact, else float32 in [0, 1]; labels from 0.

    Sources are converted like x, from the same range, but neither binarised nor dequantised. Conditions and truth are
    converted by `convert_conditions` and `convert_truth`.

    range: the stored values of black and white; "auto": see `decide`. limit: the largest number of examples of each
    class, or of each split without labels. validation: the number of training images, at most a tenth, that become the
    validation split, chosen by split_seed, if the source has none; see `set_apart`. binarize="static" draws every pixel
    once from Bernoulli(x), by split_seed, also in the images that judges learn from; the result has no modes, because
    those of the original density do not apply.
    grey_levels: the levels of a pixel, used by dequantize; None: those of the range. The fingerprint identifies the
    data, the split, the modes and, with dequantize, an unusual number of levels. It is computed before binarisation and
    does not depend on other options. Raises InputError for a source that differs from what `Source` describes or cannot
    be trained on, and for options that exclude each other or have no effect.
    """
    _check_options(source, range, split_seed, validation, binarize, dequantize, grey_levels)
    sources = {"train": source.train, "validation": source.validation, "test": source.test}
    splits = {name: split for name, split in sources.items() if split is not None}
    _check_images(splits)
    _check_modes(source, splits["train"].x.shape[1:])
    splits = _converted(splits, source.vocabulary)
    fields = ("x",) if splits["train"].source is None else ("x", "source")
    if limit is not None:
        splits = {name: limited(split, limit) for name, split in splits.items()}
    for name, split in splits.items():
        if len(split.x) < MINIMUM[name]:
            raise InputError(f"x_{name} has {len(split.x)} images: expected at least {MINIMUM[name]}")

    ends, notes = _range(splits, fields, source.range, range)
    levels = grey_levels or grey_levels_of(splits["train"].x, ends)
    for field in fields:
        if not isinstance(getattr(splits["train"], field), OnDisk):
            pixels = to_pixels([getattr(split, field) for split in splits.values()], ends)
            for (name, split), part in zip(splits.items(), pixels, strict=True):
                splits[name] = split._replace(x=part) if field == "x" else split._replace(source=part)
    if dequantize:
        _check_grid(splits, levels)
    splits, classes = _numbered(splits, source.classes)

    if source.validation is None:
        whole = splits["train"]
        size = min(validation, len(whole.x) // 10)
        kept, apart = set_apart(len(whole.x), size, whole.label, whole.group, split_seed)
        splits["train"], splits["validation"] = whole.rows(kept), whole.rows(apart)
    else:
        splits |= {name: splits[name].rows(np.arange(len(splits[name].x))) for name in ("train", "validation")}
    # Indexing gives every split the same memory layout; in another one convolutions round differently.
    splits["test"] = splits["test"].rows(np.arange(len(splits["test"].x)))
    splits = {name: splits[name] for name in sources}
    hashes = {field: {name: row_hashes(getattr(splits[name], field)) for name in splits} for field in fields}
    notes += content_warnings(splits, hashes, classes) + unseen_words(splits, source.vocabulary)
    judging = _judging(source)

    tensors: Splits = {name: split.map(_tensor) for name, split in splits.items()}
    if judging is not None:
        tensors["judging"] = judging.map(_tensor)
    if binarize == "static":
        draws = Draws(split_seed, "binarize")
        tensors = {name: split._replace(x=_binarized(split.x, draws, name)) for name, split in tensors.items()}
    has_modes = source.modes is not None and binarize == "none"
    return Data(
        **tensors,
        shapes=_shapes(splits["train"], classes),
        grey_levels=levels,
        binarize=binarize,
        dequantize=dequantize,
        fingerprint=fingerprint(splits, hashes, _facts(source, splits, classes, levels if dequantize else None)),
        modes=torch.as_tensor(source.modes) if has_modes else None,
        mode_sigma=source.mode_sigma if has_modes else None,
        range=source.stored_range or ends,
        noise=None if source.noise is None else torch.from_numpy(source.noise),
        vocabulary=source.vocabulary,
        warnings=(*source.warnings, *notes),
    )


def _judging(source: Source) -> Split | None:
    """The examples that judges learn from, with only x and truth."""
    if source.judging is None:
        return None
    assert source.judging.x.dtype == np.uint8 and source.range == BYTES
    truth = convert_truth({"judging": source.judging}, source.vocabulary)["judging"]
    return Split(source.judging.x, truth=truth)


def _shapes(split: Split, classes: int) -> Shapes:
    def of(part: Any) -> tuple[int, ...]:
        return tuple(part.shape[1:])

    source = None if split.source is None else of(split.source)
    return Shapes(of(split.x), classes, source, {name: of(part) for name, part in split.conditions.items()})


def _check_options(
    source: Source, range: Any, split_seed: int, validation: int, binarize: str, dequantize: bool, levels: int | None
) -> None:
    default = {name: parameter.default for name, parameter in inspect.signature(prepare).parameters.items()}
    if dequantize and binarize != "none":
        raise InputError(
            f"dataset.dequantize=true and dataset.binarize={binarize} exclude each other: binary pixels have no grey "
            "levels to fill; set only one of them"
        )
    if levels is not None and not dequantize:
        raise InputError(f"dataset.grey_levels={levels} has no effect without dataset.dequantize=true: leave it out")
    if range != "auto" and not -np.inf < range[0] < range[1] < np.inf:
        raise InputError(f"dataset.range={list(range)}: expected two finite numbers, the smaller one first")
    is_on_disk = isinstance(source.train.x, OnDisk) or isinstance(source.train.source, OnDisk)
    known = BYTES if is_on_disk else source.range
    if known is not None and range not in ("auto", known):
        raise InputError(
            f"dataset.range={list(range)}: in this data set {known[0]:g} is black and {known[1]:g} is white; "
            "leave it at auto"
        )
    if source.validation is not None:
        options = {"validation": validation} | ({} if binarize == "static" else {"split_seed": split_seed})
        for name, value in options.items():
            if value != default[name]:
                raise InputError(
                    f"dataset.{name}={value} has no effect: this data set has its own validation images; leave it out"
                )
    if binarize == "static" and isinstance(source.train.x, OnDisk):
        raise InputError(
            "dataset.binarize=static keeps the binarised images in memory, but these images stay on disk: set "
            "dataset.binarize=dynamic"
        )


def _check_images(splits: Splits) -> None:
    for field in ("x", "source"):
        images = {
            f"{field}_{name}": part for name, split in splits.items() if (part := getattr(split, field)) is not None
        }
        assert len({isinstance(part, OnDisk) for part in images.values()}) <= 1, "all splits are on disk, or none"
        for name, part in images.items():
            if not isinstance(part, OnDisk) and part.dtype.kind not in "biuf":
                raise InputError(f"{name} has type {part.dtype}: expected numbers")
            if not 3 <= len(part.shape) <= 5 or 0 in part.shape[1:]:
                raise InputError(
                    f"{name} has shape {tuple(part.shape)}: expected [images, channels, height, width], or waves and "
                    "volumes with one or three sides in place of two"
                )
            first = next(iter(images))
            if part.shape[1:] != images[first].shape[1:]:
                raise InputError(
                    f"{first} has images of shape {tuple(images[first].shape[1:])} and {name} of "
                    f"{tuple(part.shape[1:])} (channels first): they must agree"
                )


def _converted(splits: Splits, vocabulary: Vocabulary) -> Splits:
    """The splits with labels and groups [N], integers or strings, factors [N, F] float32, conditions and truth.

    Raises InputError if some splits have them and others do not, truth excepted.
    """
    for field, name in (("label", "y"), ("factors", "factors"), ("group", "group"), ("source", "source")):
        present = [split for split, part in splits.items() if getattr(part, field) is not None]
        missing = [split for split in splits if split not in present]
        if present and missing:
            raise InputError(
                f"{name}_{present[0]} exists but {name}_{missing[0]} does not: give {name} for all splits, or for none"
            )
    for name, split in splits.items():
        check_rows(split, name)
    given, truth = convert_conditions(splits, vocabulary), convert_truth(splits, vocabulary)
    check_vocabulary(splits, vocabulary)
    converted = {}
    for name, split in splits.items():
        count = len(split.x)
        converted[name] = Split(
            split.x,
            None if split.label is None else labels.flat(f"y_{name}", split.label, count),
            None if split.factors is None else _factors(f"factors_{name}", split.factors, count),
            None if split.group is None else labels.flat(f"group_{name}", split.group, count),
            split.source,
            given[name],
            truth[name],
        )
    widths = {name: split.factors.shape[1] for name, split in converted.items() if split.factors is not None}
    for name, width in widths.items():
        if width != widths["train"]:
            raise InputError(
                f"factors_train has {widths['train']} factors an image and factors_{name} {width}: they must agree"
            )
    return converted


def _factors(name: str, values: Any, count: int) -> np.ndarray:
    factors = np.asarray(values)
    if factors.dtype.kind not in "biuf":
        raise InputError(f"{name} has type {factors.dtype}: expected numbers")
    if factors.ndim != 2 or len(factors) != count or factors.shape[1] == 0:
        raise InputError(f"{name} has shape {factors.shape}, but there are {count} images: expected [images, factors]")
    if not np.isfinite(factors).all():
        raise InputError(f"{name} holds values that are not finite numbers: leave out unknown factors")
    return factors.astype(np.float32)


def _check_modes(source: Source, image: tuple[int, ...]) -> None:
    modes, sigma = source.modes, source.mode_sigma
    if (modes is None) != (sigma is None):
        raise InputError("modes and mode_sigma belong together: give both, or neither")
    if modes is None or sigma is None:
        return
    centres = np.asarray(modes)
    if centres.dtype != np.float32 or centres.shape[1:] != image or len(centres) == 0:
        raise InputError(
            f"modes has type {centres.dtype} and shape {centres.shape}: expected float32 [modes, {str(image)[1:-1]}]"
        )
    if not np.isfinite(centres).all() or not 0 < sigma < np.inf:
        raise InputError(f"modes must be finite, and mode_sigma={sigma} finite and greater than 0")


def _range(
    splits: Splits, fields: tuple[str, ...], known: Range | None, option: Literal["auto"] | Range
) -> tuple[Range, list[str]]:
    """The range of the stored values of all splits, and warnings if it is doubtful. fields: x and, if given, source."""
    stored = {f"{field}_{name}": getattr(split, field) for field in fields for name, split in splits.items()}
    found = {name: extremes(part) for name, part in stored.items() if not isinstance(part, OnDisk)}
    if not found:
        return BYTES, []
    if len(found) < len(stored):
        known = BYTES
    for name, (lowest, highest) in found.items():
        check_finite(name, lowest, highest)
    overall = {name: (float(lowest.min()), float(highest.max())) for name, (lowest, highest) in found.items()}
    training = [name for name in found if name.endswith("_train")]
    if known is not None:
        ends, origin = known, "the range of this data set"
    elif option != "auto":
        ends, origin = option, "the value of dataset.range"
        for name in training:
            check_not_wider(name, stored[name].dtype.kind == "f", *overall[name], ends)
    else:
        lowest = np.min([found[name][0] for name in training], axis=0)
        highest = np.max([found[name][1] for name in training], axis=0)
        is_float = any(stored[name].dtype.kind == "f" for name in training)
        ends, origin = decide(" with ".join(training), is_float, lowest, highest), "the range of the training images"
        for name, (low, high) in overall.items():
            check_similar(name, low, high, ends)
    for name, (lowest, highest) in found.items():
        check_inside(name, lowest, highest, ends, origin)
    low, high = min(overall[name][0] for name in training), max(overall[name][1] for name in training)
    doubts = range_warnings(low, high, ends) if known is None else []
    return (float(ends[0]), float(ends[1])), doubts + split_warnings(overall, ends)


def _check_grid(splits: Splits, grey_levels: int) -> None:
    if grey_levels > MOST_LEVELS:
        raise InputError(
            f"dataset.dequantize=true: the range has {grey_levels} grey levels, but at most {MOST_LEVELS} are "
            "possible: set dataset.grey_levels, or leave it false"
        )
    if grey_levels == USUAL_LEVELS and splits["train"].x.dtype in (np.uint8, torch.uint8):
        return
    rounding = max(1e-3, grey_levels * 2.0**-24)  # of a level: float32 in [0, 1] is exact to 2^-25
    for name, split in splits.items():
        for _, part in chunks(split.x):
            values = np.unique(part).astype(np.float64) / (255 if part.dtype == np.uint8 else 1)
            steps = values * (grey_levels - 1)
            off = np.abs(steps - np.rint(steps)) > rounding
            if off.any():
                raise InputError(
                    f"dataset.dequantize=true needs pixels on {grey_levels} grey levels, but x_{name} holds "
                    f"{values[off][0]:g} of [0, 1]: leave it false for continuous data, or set dataset.grey_levels"
                )


def _numbered(splits: Splits, classes: Any) -> tuple[Splits, int]:
    """The splits with class numbers and group numbers, and the number of classes."""
    classified = {name: split.label for name, split in splits.items() if split.label is not None}
    numbers, count = labels.numbered(classified, classes) if classified else ({}, 0)
    groups = labels.with_one_type({name: split.group for name, split in splits.items() if split.group is not None})
    labels.check_disjoint(groups)
    values = np.unique(np.concatenate(list(groups.values()))) if groups else None
    return {
        name: split._replace(
            label=numbers.get(name), group=None if values is None else np.searchsorted(values, groups[name])
        )
        for name, split in splits.items()
    }, count


def _facts(source: Source, splits: Splits, classes: int, grey_levels: int | None) -> dict[str, object]:
    """What `fingerprint` hashes besides the splits.

    grey_levels: None without dequantisation. Their usual number is left out, so that bytes have the same fingerprint
    with and without dequantisation, and a report shows them as one data set.
    """
    label = splits["train"].label
    implied = 0 if label is None else int(label.max()) + 1
    facts: dict[str, object] = {"classes": classes} if classes != implied else {}
    if source.vocabulary:
        facts["vocabulary"] = {name: [*map(str, words)] for name, words in sorted(source.vocabulary.items())}
    if grey_levels not in (None, USUAL_LEVELS):
        facts["grey levels"] = grey_levels
    if source.noise is not None:
        facts["noise"] = row_hashes(source.noise).tobytes()
    if source.judging is not None:
        facts["judging"] = row_hashes(source.judging.x).tobytes()
    if source.modes is not None and source.mode_sigma is not None:
        facts["modes"] = (source.modes.tobytes(), float(source.mode_sigma))
    return facts


def _tensor(part: np.ndarray | OnDisk) -> Tensor | OnDisk:
    return part if isinstance(part, OnDisk) else torch.from_numpy(np.require(part, requirements=["C", "W"]))


def _binarized(x: Tensor, draws: Draws, name: str) -> Tensor:
    """uint8, 0 or 255, which `Data.observe` converts to exactly 0 and 1."""
    probability = x.float() / 255 if x.dtype == torch.uint8 else x
    return (draws.uniform(name, x.shape) < probability).to(torch.uint8) * 255
