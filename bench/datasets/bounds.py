"""Files are measured before they are read: what a file of a few bytes claims to hold may be more than the memory."""

from __future__ import annotations

import math
import os
import stat
import struct
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from bench.core import InputError

ALWAYS_READ = 2**28  # bytes, however well they were compressed
LONGEST_HEADER = 10_000  # bytes, numpy's own limit, which it checks too late
MOST_COMPRESSED = 180  # times: drawings of one shape, as in dSprites, reach 120, and zeros 230 to 1030


@cache
def machine_memory() -> int:
    """The memory that this process may use at most, in bytes: that of the machine, or of its container."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for place in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroups 2 and 1
        try:
            found.append(int(Path("/sys/fs/cgroup", place).read_text()))
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
    return min(found)


def readable(size: int) -> str:
    """A number of bytes for a message, as in "3.7 GiB"."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(max(size.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{size / 1024**power:.3g} {units[power]}"


def check_memory(what: str, size: int, advice: str) -> None:
    """Raises InputError for something that takes more bytes than the machine has."""
    if size > machine_memory():
        limit = readable(machine_memory())
        raise InputError(f"{what} takes {readable(size)} of memory, and this machine has {limit}: {advice}")


def check_content(what: str, size: int, stored: int) -> None:
    """Raises InputError for a content of `size` bytes that is too large to be read from a file of `stored` bytes."""
    check_memory(what, size, "store less in it")
    if size > max(ALWAYS_READ, MOST_COMPRESSED * stored):
        raise InputError(
            f"{what} takes {readable(size)} of memory, {size // max(stored, 1):,} times its size in the file, as in a "
            "file made to exhaust it: if it is meant, store it without compression"
        )


def check_regular(file: str | Path) -> None:
    """Raises InputError unless it is a file with a content: reading a pipe or a device may never end."""
    try:
        mode = os.stat(file).st_mode
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise InputError(f"{file} is not a file with a content, but a {_kind(mode)}: remove it")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def read_array(file: IO[bytes], what: str, length: int, stored: int) -> np.ndarray:
    """The array of an .npy file of `length` bytes, which are `stored` bytes on disk. what: its name, for messages.

    Nothing is read before its header fits. Raises ValueError for a damaged file and for pickled objects, InputError for
    an array that is too large.
    """
    try:
        shape, kind = _header(file)
    except Exception as error:  # the type depends on the kind of damage
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if kind.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"its header says that its shape is {shape}")
    size, held = math.prod(shape) * kind.itemsize, length - file.tell()
    if size != held:
        raise ValueError(
            f"it holds {held} bytes, but its header says {shape} of type {kind}, that is {size}: it is truncated or "
            "corrupt"
        )
    check_content(what, size, stored)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the type that the header of an .npy file names."""
    version = np.lib.format.read_magic(file)
    length, start = "<H" if version == (1, 0) else "<I", file.tell()
    if (found := struct.unpack(length, file.read(struct.calcsize(length)))[0]) > LONGEST_HEADER:
        raise ValueError(f"its header has {found} bytes")
    file.seek(start)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind
