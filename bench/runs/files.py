"""Files that are written completely or not at all, and their checksums."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

Content = Callable[[IO[bytes]], object]  # writes the content of a file
TEMPORARY = ".*.tmp"  # the names of files that are being written


def replace_files(
    files: Sequence[tuple[Path, Content]], remove_first: Path | None = None, check: Callable[[], None] | None = None
) -> None:
    """Writes files completely or not at all, and replaces none before all are written.

    remove_first: a file to remove before the first one is replaced; check: is called before any file of the folders is
    changed, and may raise. Raises OSError.
    """
    temporary = [path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp") for path, _ in files]
    try:
        for name, (_, write) in zip(temporary, files, strict=True):
            with open(name, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        if check:
            check()
        if remove_first:
            remove_first.unlink(missing_ok=True)
        for name, (path, _) in zip(temporary, files, strict=True):
            os.replace(name, path)
    finally:
        for name in temporary:
            name.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Replaces a file by one with this content, in UTF-8, without a moment at which it is incomplete. Raises OSError.

    It may be lost if the machine stops: for what can be made again.
    """
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary(folder: Path) -> None:
    """Removes what a killed writer left. Only the process that holds the folder may do so."""
    for path in folder.glob(TEMPORARY):
        path.unlink(missing_ok=True)


def checksum(parts: Iterable[bytes | memoryview]) -> str:
    """32 hexadecimal characters of BLAKE2b."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def checksum_of(path: Path) -> str:
    """The checksum of a file."""
    with open(path, "rb") as file:
        return checksum(iter(lambda: file.read(1 << 20), b""))
