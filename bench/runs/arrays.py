"""Arrays of users as tensors for a model, and its answers in the form in which they were given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.core import InputError
from bench.data import as_floats
from bench.datasets.ranges import to_pixels

FAR = 5.0  # from 1/2: floats that lie farther away are in another range, even with noise on them


class Form(NamedTuple):
    """How something was given. Answers have the same form."""

    is_numpy: bool
    is_single: bool

    def of(self, answer: Tensor) -> Any:
        """An answer [N, ...]: without the first axis for a single example, and as a NumPy array if one was given."""
        answer = answer[0] if self.is_single else answer
        return answer.cpu().numpy() if self.is_numpy else answer


def form(name: str, value: Any, shape: Sequence[int]) -> tuple[Tensor, Form]:
    """[N, *shape], and the form: examples [N, *shape] or a single one, in a tensor, an array or a list.

    Raises InputError for other shapes and for what is not numbers.
    """
    array = value if isinstance(value, Tensor) else np.asarray(value)
    if not isinstance(array, Tensor):
        if array.dtype.kind not in "biuf":
            raise InputError(f"{name} has type {array.dtype}: expected numbers")
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # torch has few operations for them
            array = array.astype(np.int64)
        array = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))  # not reversed by negative strides
    is_single = tuple(array.shape) == tuple(shape)
    if not is_single and (array.ndim != len(shape) + 1 or tuple(array.shape[1:]) != tuple(shape)):
        one = f"[{', '.join(map(str, shape))}]"
        order = ", channels first" if len(shape) > 1 else ""
        raise InputError(
            f"{name} has shape {tuple(array.shape)}: expected [N{''.join(f', {n}' for n in shape)}]{order}, or {one} "
            "for a single one"
        )
    return array[None] if is_single else array, Form(not isinstance(value, Tensor), is_single)


def images(name: str, x: Tensor, ends: tuple[float, float]) -> Tensor:
    """Images as a model sees them, in [0, 1]. Floats are so already; noise may leave the range.

    Integers are values as the data of the run are stored, and are converted in the same way. ends: the stored values of
    black and white. Raises InputError for values outside of the range.
    """
    if x.dtype == torch.bool:
        return as_floats(x)
    low, high = (float(end) for end in (x.min(), x.max())) if x.numel() else (0.0, 0.0)
    if not x.dtype.is_floating_point:
        if low < ends[0] or high > ends[1]:
            raise InputError(
                f"{name} has integers from {low:g} to {high:g}: expected them from {ends[0]:g} to {ends[1]:g}, as the "
                "data of this run are stored, or floats from 0 to 1"
            )
        return as_floats(torch.from_numpy(to_pixels([x.cpu().numpy()], ends)[0])).to(x.device)
    if not max(abs(low - 0.5), abs(high - 0.5)) <= FAR:  # nor if they are not finite
        raise InputError(
            f"{name} has floats from {low:g} to {high:g}: expected 0 for black and 1 for white, or integers from "
            f"{ends[0]:g} to {ends[1]:g}, as the data of this run are stored"
        )
    return x.to(torch.get_default_dtype())


def labels(label: Any, count: int, classes: int) -> Tensor:
    """Class numbers [N] int64 of so many examples. Raises InputError for another number, or no class numbers."""
    found = torch.as_tensor(label).reshape(-1) if np.ndim(label) < 2 else torch.as_tensor(label)
    if tuple(found.shape) != (count,) or found.dtype.is_floating_point or found.is_complex():
        raise InputError(f"label has shape {np.shape(label)} and type {found.dtype}: expected {count} class numbers")
    if count and not (found.min() >= 0 and found.max() < classes):
        raise InputError(f"label goes from {int(found.min())} to {int(found.max())}: expected 0 to {classes - 1}")
    return found.long()
