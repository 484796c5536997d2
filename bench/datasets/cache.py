"""Folders of arrays that are built once, whole, by one process, and mapped into memory from then on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from bench.core import InputError

ABOUT = "about.json"  # written last: what build returned, and what its files looked like then


def kept(folder: Path, build: Callable[[Path], Any]) -> Any:
    """What `build` returned when the folder was built, which happens here if it is missing, damaged or was changed.

    build(new folder) writes files there and returns what JSON can hold. One process builds at a time, others wait for
    it; a folder appears only when it is complete. Raises InputError if the folder cannot be written.
    """
    about = _intact(folder)
    if about is None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{folder.name}.lock")):
                about = _intact(folder) or _built(folder, build)  # another process may have built it meanwhile
        except OSError as error:
            raise InputError(
                f"cannot write {folder.parent}: {error.strerror or error}; make room or get permission there, "
                "or set paths.cache to another folder"
            ) from error
    return about["answer"]


def write_rows(file: Path, blocks: Iterable[np.ndarray]) -> int:
    """Writes arrays [n, ...] of one type one below the other into an .npy file [N, ...]; returns N, at least 1."""
    count = 0
    with file.open("wb") as output:
        for block in blocks:
            if not count:
                _header(output, block, 0)
                start = output.tell()
            output.write(np.ascontiguousarray(block).data)
            count += len(block)
        assert count, "an empty array cannot be mapped"
        output.seek(0)
        _header(output, block, count)
        assert output.tell() == start, "numpy leaves room for the number of rows"
        output.flush()
        os.fsync(output.fileno())
    return count


def mapped(file: Path) -> np.ndarray:
    """The array of an .npy file, read from disk where it is indexed. It cannot be written to."""
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _header(output: Any, block: np.ndarray, count: int) -> None:
    about = {"descr": block.dtype.str, "fortran_order": False, "shape": (count, *block.shape[1:])}
    np.lib.format.write_array_header_1_0(output, about)


def _intact(folder: Path) -> dict[str, Any] | None:
    """The folder's ABOUT, or None if it or one of the files that it names is not as it was written."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        unchanged = all(_stamp(folder / name) == stamp for name, stamp in about["files"].items())
        return about if unchanged and "answer" in about else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, torn, or of another kind
        return None


def _built(folder: Path, build: Callable[[Path], Any]) -> dict[str, Any]:
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir()
    try:
        answer = build(part)
        about = {"answer": answer, "files": {file.name: _stamp(file) for file in sorted(part.iterdir())}}
        with (part / ABOUT).open("w") as output:
            json.dump(about, output)
            output.flush()
            os.fsync(output.fileno())
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return about


def _stamp(file: Path) -> list[int]:
    """Size and time of the last change. Renaming a folder leaves both."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
