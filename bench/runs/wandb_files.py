"""The folders of offline runs of Weights & Biases: results/<sweep>/wandb/offline-run-<time>-<id>/run-<id>.wandb."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

# A .wandb file is a log in the format of LevelDB: blocks with records, a record in one or several chunks.
FILE_HEADER, CHUNK_HEADER = 7, 7  # bytes
BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def last_step(folder: Path, id: str) -> int | None:
    """The last step in the offline logs of a run; None if there is none. folder: of the sweep.

    A process that was killed has lost what W&B had not yet written, up to 15 seconds: only the files themselves tell.
    """
    steps = [step for path in _logs(folder, id) for step in _steps(path)]
    return max(steps, default=None)


def supersede(folder: Path, id: str, kept: Path) -> None:
    """Marks the offline logs of a run as uploaded, except the one in the folder `kept`, which replaces them."""
    for path in _logs(folder, id):
        if path.parent != kept:
            path.with_name(f"{path.name}.synced").touch()


def _logs(folder: Path, id: str) -> list[Path]:
    return sorted(folder.glob(f"wandb/offline-run-*-{id}*/run-{id}.wandb"))


def _steps(path: Path) -> Iterator[int]:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    for data in _records(path.read_bytes()):
        record = Record.FromString(data)
        if record.HasField("history"):
            yield record.history.step.num


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a log, up to a torn end."""
    position, record = FILE_HEADER, b""
    while True:
        if BLOCK - position % BLOCK < CHUNK_HEADER:  # the end of a block is filled with zeros
            position += BLOCK - position % BLOCK
        header = content[position : position + CHUNK_HEADER]
        if len(header) < CHUNK_HEADER:
            return
        _, length, kind = struct.unpack("<IHB", header)
        position += CHUNK_HEADER
        chunk = content[position : position + length]
        if len(chunk) < length or kind not in (FULL, FIRST, MIDDLE, LAST):
            return
        position += length
        record = chunk if kind in (FULL, FIRST) else record + chunk
        if kind in (FULL, LAST):
            yield record
