"""A cache of folders with arrays: one process builds a folder once, and all processes memory-map its arrays."""

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

MANIFEST = "manifest.json"  # written last: the result of the build, and the stamp of each file


def get_or_build(folder: Path, build: Callable[[Path], Any]) -> Any:
    """The result of `build` for this folder. Builds it only if the folder is missing, damaged or changed.

    build(new folder) writes files there and returns a value that JSON can hold. Only one process builds at a time,
    while others wait. The folder appears only once it is complete. Raises InputError if it cannot be written.
    """
    manifest = _read_manifest(folder)
    if manifest is None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{folder.name}.lock")):
                manifest = _read_manifest(folder) or _build(folder, build)  # another process may have built it
        except OSError as error:
            raise InputError(
                f"cannot write {folder.parent}: {error.strerror or error}; make room or get permission there, "
                "or set paths.cache to another folder"
            ) from error
    return manifest["result"]


def write_rows(file: Path, blocks: Iterable[np.ndarray]) -> int:
    """Concatenates arrays [n, ...] of one type into an .npy file [N, ...] as they come. Returns N, at least 1."""
    count = 0
    with file.open("wb") as output:
        for block in blocks:
            if not count:
                _write_header(output, block, 0)
                start = output.tell()
            output.write(np.ascontiguousarray(block).data)
            count += len(block)
        assert count, "an empty array cannot be mapped"
        output.seek(0)
        _write_header(output, block, count)
        assert output.tell() == start, "numpy leaves room for the number of rows"
        output.flush()
        os.fsync(output.fileno())
    return count


def memory_map(file: Path) -> np.ndarray:
    """The array of an .npy file, read-only; indexing it reads from disk."""
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _write_header(output: Any, block: np.ndarray, count: int) -> None:
    header = {"descr": block.dtype.str, "fortran_order": False, "shape": (count, *block.shape[1:])}
    np.lib.format.write_array_header_1_0(output, header)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """The folder's manifest, or None if it is missing or damaged, or if a file in it is missing or has changed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        is_unchanged = all(_stamp(folder / name) == stamp for name, stamp in manifest["files"].items())
        return manifest if is_unchanged and "result" in manifest else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, truncated, or other JSON
        return None


def _build(folder: Path, build: Callable[[Path], Any]) -> dict[str, Any]:
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left behind by a killed process
    part.mkdir()
    try:
        result = build(part)
        manifest = {"result": result, "files": {file.name: _stamp(file) for file in sorted(part.iterdir())}}
        with (part / MANIFEST).open("w") as output:
            json.dump(manifest, output)
            output.flush()
            os.fsync(output.fileno())
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _stamp(file: Path) -> list[int]:
    """Size and time of the last change. They stay the same when the folder is renamed."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
