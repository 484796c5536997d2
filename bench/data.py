"""The data of a model: the shape of a data set, its splits, and a batch."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.draws import Draws

A = TypeVar("A")
B = TypeVar("B")


class Shapes(NamedTuple):
    """The shape of a data set. image: (channels, height, width); classes: their number, 0 without labels."""

    image: tuple[int, int, int]
    classes: int = 0


class Split(NamedTuple, Generic[A]):
    """The examples of a split: numpy arrays in a `Source`, tensors in `Data`.

    x: [N, C, H, W], in `Data` uint8 (0 to 255) or float32 in [0, 1]. The other fields are None if they are unknown.
    label: [N], in `Data` int64 class numbers from 0; factors: [N, F] float32, which each image was generated from;
    group: [N], in `Data` int64, the speaker, object or person that an example belongs to.
    """

    x: A
    label: A | None = None
    factors: A | None = None
    group: A | None = None

    def map(self, function: Callable[[A], B]) -> Split[B]:
        """Applies the function to every array."""
        return Split(function(self.x), *(None if part is None else function(part) for part in self[1:]))

    def rows(self, index: Any) -> Split[A]:
        """The examples at index: a slice, numbers or a mask. Images on disk stay there."""

        def taken(part: Any) -> Any:
            return part.rows(index) if isinstance(part, OnDisk) else part[index]

        return self.map(taken)


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
    fingerprint: str  # a hash of every pixel, label, factor and group
    modes: Tensor | None = None  # [M, C, H, W] float32 on the CPU: the centres of the true density's modes, if known
    mode_sigma: float | None = None  # their standard deviation, the same in each dimension
    range: tuple[float, float] = (0, 255)  # the stored values of black and white, which a model sees as 0 and 1
    warnings: tuple[str, ...] = ()  # a line each: what was not read, and properties that make metrics doubtful

    def observe(self, x: Tensor | OnDisk, draws: Draws) -> Tensor:
        """Stored images [B, C, H, W] as a model sees them: float in [0, 1]."""
        x = x[:] if isinstance(x, OnDisk) else x
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        if self.binarize == "dynamic":
            return (draws.uniform("binarize", x.shape) < x).to(x.dtype)
        if self.dequantize:
            step = draws.uniform("dequantize", x.shape)
            return (x * (self.grey_levels - 1) + step) / self.grey_levels
        return x


class Batch(NamedTuple):
    """x: [B, C, H, W] in [0, 1], the target; input: x corrupted, what an encoder reads; label: [B] int64; conditions.

    In training also example: [B] int64, indices of training examples; step: 0-dim int64, the number of steps before.
    """

    x: Tensor
    input: Tensor
    label: Tensor | None = None
    conditions: Tensor | None = None
    example: Tensor | None = None
    step: Tensor | None = None
