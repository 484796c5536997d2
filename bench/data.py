"""The data of a model: the shape of a data set, its splits, and a batch."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.draws import Draws

A = TypeVar("A")
B = TypeVar("B")


KINDS = {1: "waves", 2: "images", 3: "volumes"}  # of examples, by their number of sides


class Shapes(NamedTuple):
    """The shapes of an example. x: (channels, *sides) of the target; classes: the number of labels, 0 without labels.

    source: of the image that a model translates into x; None: a model reads x itself. conditions: by name.
    """

    x: tuple[int, ...]
    classes: int = 0
    source: tuple[int, ...] | None = None
    conditions: Mapping[str, tuple[int, ...]] = {}

    @property
    def input(self) -> tuple[int, ...]:
        """The shape of batch.input: that of the source, or of x."""
        return self.source or self.x

    @property
    def provides(self) -> tuple[str, ...]:
        """The names of what examples have besides x: label, source and the conditions."""
        given = {"label": self.classes, "source": self.source}
        return (*(name for name, value in given.items() if value), *self.conditions)


class Split(NamedTuple, Generic[A]):
    """The examples of a split: numpy arrays in a `Source`, tensors in `Data`.

    x: [N, C, *sides], the target: images [N, C, H, W], waves [N, C, T] or volumes [N, C, D, H, W], in `Data` uint8 (0
    to 255), float32 in [0, 1] or int16 (-32768 to 32767, for 0 to 1). The other fields are None or empty if they are
    unknown.
    label: [N], in `Data` int64 class numbers from 0; factors: [N, F] float32, which each image was generated from;
    group: [N], in `Data` int64, the speaker, object or person that an example belongs to;
    source: [N, C, *sides] of any size, stored like x: the image that a model translates into x; None: x itself;
    conditions: [N, ...] each, by name: further inputs that a model may read, of the types that `as_floats` takes;
    truth: [N, ...] each, by name: facts about the examples that only metrics and judges see, of any type.
    """

    x: A
    label: A | None = None
    factors: A | None = None
    group: A | None = None
    source: A | None = None
    conditions: Mapping[str, A] = {}
    truth: Mapping[str, A] = {}

    def map(self, function: Callable[[A], B]) -> Split[B]:
        """Applies the function to every array."""
        return Split(*(_map(function, field) for field in self))

    def rows(self, index: Any) -> Split[A]:
        """The examples at index: a slice, numbers or a mask. Images on disk stay there."""

        def taken(part: Any) -> Any:
            return part.rows(index) if isinstance(part, OnDisk) else part[index]

        return self.map(taken)


def _map(function: Callable[[Any], Any], field: Any) -> Any:
    """Applies the function to an array, or to each array of a mapping. None stays None."""
    if isinstance(field, Mapping):
        return {name: function(part) for name, part in field.items()}
    return None if field is None else function(field)


class OnDisk:
    """Images that stay on disk, [N, C, H, W] uint8: indexing reads rows into a tensor on `device`.

    file: a memory-mapped array [M, C, H, W]; index: [N], the rows of the file that hold these images; None: all.
    hashes: [M] uint64, those of `bench.datasets.row_hashes` for the rows of the file, if they are known.
    """

    dtype = torch.uint8
    READ_AT_ONCE = 64  # images: the system maps up to 2 MB around each

    def __init__(
        self,
        file: np.ndarray,
        hashes: np.ndarray | None = None,
        index: np.ndarray | None = None,
        device: torch.device | str = "cpu",
    ):
        self.file, self._hashes, self.device = file, hashes, torch.device(device)
        self.index = np.arange(len(file)) if index is None else index

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.index), *self.file.shape[1:]))

    @property
    def hashes(self) -> np.ndarray | None:
        """[N] uint64, if they are known."""
        return None if self._hashes is None else self._hashes[self.index]

    def __getitem__(self, rows: Any) -> Tensor:
        index = self.index[rows.cpu().numpy() if isinstance(rows, Tensor) else rows]
        flat, file = index.ravel(), np.asarray(self.file)
        images = np.empty((len(flat), *file.shape[1:]), file.dtype)
        for start in range(0, len(flat), self.READ_AT_ONCE):
            part = slice(start, start + self.READ_AT_ONCE)
            images[part] = file[flat[part]]
            if isinstance(self.file, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):  # Windows has none
                # What was read stays in the system's cache of files, but is no longer counted as this process's memory.
                self.file._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
        return torch.from_numpy(images.reshape(*index.shape, *file.shape[1:])).to(self.device)

    def rows(self, index: Any) -> OnDisk:
        """The images at index, still on disk."""
        return OnDisk(self.file, self._hashes, self.index[index], self.device)

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in order, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device | str) -> OnDisk:
        """The same images, read onto another device."""
        return OnDisk(self.file, self._hashes, self.index, device)

    def cpu(self) -> OnDisk:
        return self.to("cpu")


def as_floats(stored: Tensor | OnDisk) -> Tensor:
    """Stored numbers as a model sees them: uint8 from 0 to 255 as 0 to 1, int16 from -32768 to 32767 as 0 to 1 with 0
    as 1/2, bool as 0 and 1, others as they are."""
    stored = stored[:] if isinstance(stored, OnDisk) else stored
    if stored.dtype == torch.uint8:
        return stored.float() / 255
    if stored.dtype == torch.int16:
        return stored.float() / 65536 + 0.5
    return stored.to(torch.get_default_dtype()) if stored.dtype == torch.bool else stored


def one_hot_axis(shape: Sequence[int], words: int) -> int:
    """The axis of a condition [N, ...] that its words number: 1 of a map [N, V, H, W], the last one of any other."""
    return 1 if len(shape) == 4 and shape[1] == words else len(shape) - 1


@dataclass(frozen=True, eq=False)  # caches compare it by identity
class Data:
    """A data set for training and testing: checked, split, and binarised if binarize is static.

    The images `x` of a split are a tensor, or `OnDisk`, which is indexed like a tensor.
    """

    train: Split
    validation: Split
    test: Split
    shapes: Shapes
    grey_levels: int  # of a pixel, 256 for 8 bits; dequantisation fills the step between two levels
    binarize: str  # none, static (drawn once, already done), dynamic (drawn each time)
    dequantize: bool
    fingerprint: str  # a hash of everything in the splits, and of their modes and vocabulary
    modes: Tensor | None = None  # [M, C, H, W] float32 on the CPU: the centres of the true density's modes, if known
    mode_sigma: float | None = None  # their standard deviation, the same in each dimension
    vocabulary: Mapping[str, Sequence[str]] = field(default_factory=dict)  # words for values of conditions and truth
    range: tuple[float, float] = (0, 255)  # the stored values of black and white, which a model sees as 0 and 1
    warnings: tuple[str, ...] = ()  # a line each: what was not read, and properties that make metrics doubtful
    noise: Tensor | None = None  # [noises, samples]: recordings that noise=recordings adds to x, silence at 0
    judging: Split | None = None  # x and truth of the examples that judges learn from; None: the training images

    def observe(self, x: Tensor | OnDisk, draws: Draws) -> Tensor:
        """Stored images [B, C, *sides] as a model sees them: float in [0, 1]."""
        x = as_floats(x)
        if self.binarize == "dynamic":
            return (draws.uniform("binarize", x.shape) < x).to(x.dtype)
        if self.dequantize:
            step = draws.uniform("dequantize", x.shape)
            return (x * (self.grey_levels - 1) + step) / self.grey_levels
        return x

    def read(self, part: Split, draws: Draws) -> Batch:
        """Stored examples as a model sees them, without corruption."""
        x = self.observe(part.x, draws)
        source = x if part.source is None else as_floats(part.source)
        return Batch(x, source, part.label, {name: as_floats(stored) for name, stored in part.conditions.items()})


class Batch(NamedTuple):
    """x: [B, C, *sides] in [0, 1], the target; input: the corrupted source or, without a source, the corrupted x.

    label: [B] int64; conditions: [B, ...] each, by name. Only in training: example: [B] int64, the indices of the
    training examples; step: 0-dim int64, the number of steps before; progress: 0-dim, the share of the phase that is
    over.
    """

    x: Tensor
    input: Tensor
    label: Tensor | None = None
    conditions: Mapping[str, Tensor] = {}
    example: Tensor | None = None
    step: Tensor | None = None
    progress: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Applies the function to every tensor."""
        return Batch(*(_map(function, field) for field in self))

    def rows(self, index: slice | Tensor) -> Batch:
        """The examples at index."""
        whole = self._replace(step=None, progress=None)
        return whole.map(lambda part: part[index])._replace(step=self.step, progress=self.progress)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return self.map(lambda part: part.to(device))

    @staticmethod
    def joined(batches: Iterable[Batch]) -> Batch:
        """The examples of all batches, without step and progress."""
        x, input, label, conditions, example, _, _ = zip(*batches, strict=True)
        named = {name: torch.cat([part[name] for part in conditions]) for name in conditions[0]}
        return Batch(torch.cat(x), torch.cat(input), _cat(label), named, _cat(example))


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    return None if parts[0] is None else torch.cat(parts)  # type: ignore[arg-type]
