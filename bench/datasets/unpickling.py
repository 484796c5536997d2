"""Reads pickles of lists, strings, numbers and arrays only. Any other pickle could call any function."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets.conditions import NUMBERS


def unpickle(file: Path) -> Any:
    """The lists, strings, numbers and arrays of numbers in a pickle of Python 2 or 3.

    Raises FileNotFoundError, and UnpicklingError with the reason for a damaged file and for anything else in it.
    """
    try:
        with file.open("rb") as opened:
            return _Unpickler(opened, encoding="latin1").load()
    except (FileNotFoundError, pickle.UnpicklingError):
        raise
    except Exception as error:  # damage raises errors of almost any type
        raise pickle.UnpicklingError(" ".join(str(error).split()) or type(error).__name__) from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which was not run")
        return KNOWN[module, name]


class _Type:
    """Stands for numpy.dtype, whose state a pickle may change so that an array's bytes count as memory addresses."""

    def __init__(self, name: str, *_: Any):
        self.dtype = np.dtype(str(name))
        if self.dtype.kind not in NUMBERS:
            raise pickle.UnpicklingError(f"it has an array of type {name}, not of numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array whose type is a `_Type`."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, shape, kind, is_fortran, data = state
        super().__setstate__((1, shape, _dtype(kind), is_fortran, data))


def _dtype(kind: Any) -> np.dtype:
    if not isinstance(kind, _Type):
        raise pickle.UnpicklingError("it has an array without a type")
    return kind.dtype


def _empty(*_: Any) -> np.ndarray:
    """An array whose content follows."""
    return np.empty(0).view(_Array)


def _scalar(kind: Any, data: str | bytes) -> np.generic:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, _dtype(kind), 1)[0]


def _from_buffer(data: bytes, kind: Any, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(data, _dtype(kind)).reshape(shape, order=order)  # type: ignore[call-overload]


def _bytes(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


# The functions that such pickles name, and what is called in their place. The modules are those of numpy 1 and 2.
KNOWN = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): object,
    ("_codecs", "encode"): _bytes,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.multiarray", "_reconstruct"): _empty,
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.multiarray", "scalar"): _scalar,
}
