"""The state of a training in progress, on disk: a run that was stopped goes on from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.engine.state import State
from bench.runs.environment import version
from bench.runs.files import checksum, replace_files
from bench.runs.store import CHECKPOINT

SET_ASIDE = "checkpoint.unusable"
SCHEMA = 2


class UnusableError(Exception):
    """A checkpoint cannot be used; the message says why."""


@dataclass(frozen=True)
class Key:
    """What must be equal for training to go on. steps: of the whole training."""

    id: str
    seed: int
    steps: int
    schema: int = SCHEMA
    version: str | None = version()
    torch: str = torch.__version__


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint after `step` steps. seeds: those that were trained together; history: rows of the epochs so far."""

    step: int
    seeds: list[int]
    history: list[dict[str, float]]
    state: State


def write(entries: Sequence[tuple[Path, Key, Checkpoint]], check: Callable[[], None] | None = None) -> None:
    """Writes the checkpoints of seeds that are trained together into their folders. Raises OSError.

    Each is one file, so that no interruption leaves half of one: safetensors, with the values of JSON in its header.
    check: see `files.replace_files`.
    """
    files = []
    for folder, key, one in entries:
        # Tied weights share memory, which safetensors refuses: each name gets its own copy.
        tensors = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in one.state.items()
            if isinstance(value, Tensor)
        }
        values = {name: value for name, value in one.state.items() if name not in tensors}
        content = {"step": one.step, "seeds": one.seeds, "history": one.history, "values": values}
        text = json.dumps(asdict(key) | content)
        data = save(tensors, {"content": text, "checksum": _checksum(text, tensors)})
        files.append((folder / CHECKPOINT, lambda file, data=data: file.write(data)))
    replace_files(files, check=check)


def position(folder: Path, key: Key) -> tuple[int, list[int]]:
    """The step of a checkpoint, and the seeds that were trained together, from its header alone.

    Raises UnusableError, and FileNotFoundError if there is none.
    """
    content, _, _ = _content(folder, key)
    return content["step"], content["seeds"]


def read(folder: Path, key: Key) -> Checkpoint:
    """The checkpoint of a seed. Raises UnusableError, and FileNotFoundError if there is none."""
    content, text, digest = _content(folder, key)
    try:
        with safe_open(folder / CHECKPOINT, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UnusableError(f"it is damaged ({error})") from error
    if _checksum(text, tensors) != digest:
        raise UnusableError("it is damaged: its checksum does not match")
    return Checkpoint(content["step"], content["seeds"], content["history"], content["values"] | tensors)


def set_aside(folder: Path) -> Path:
    """Renames a checkpoint, so that it is not read again. Returns its new path."""
    return (folder / CHECKPOINT).replace(folder / SET_ASIDE)


def remove(folder: Path) -> None:
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _content(folder: Path, key: Key) -> tuple[dict[str, Any], str, str]:
    """The JSON of a checkpoint, its text and its checksum, if it belongs to what is to be trained."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        text, digest = metadata["content"], metadata["checksum"]
        content = json.loads(text)
        different = [name for name, value in asdict(key).items() if content.get(name) != value]
    except (SafetensorError, OSError, KeyError, ValueError, AttributeError) as error:
        raise UnusableError(f"it is damaged ({str(error).splitlines()[0]})") from error
    if different:
        name = different[0]
        raise UnusableError(f"its {name} is {content.get(name)}, and that of this training is {asdict(key)[name]}")
    return content, text, digest


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    def parts() -> Any:
        yield text.encode()
        for name in sorted(tensors):
            value = tensors[name]
            yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
            yield value.contiguous().view(-1).view(torch.uint8).numpy().data if value.numel() else b""

    return checksum(parts())
