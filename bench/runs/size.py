"""The size of a model, which is known before it takes memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from bench.core import InputError
from bench.datasets.bounds import machine_memory, readable

MOST_TENSORS = 20_000  # parameters and buffers of a model: each layer has a few, and takes time to build
# Parts of the messages of torch's errors when the memory of the machine does not suffice, or numbers overflow.
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
TOO_LARGE = ("Overflow when unpacking", "Storage size calculation overflowed", "numel: integer multiplication overflow")
ADVICE = "make its networks smaller"


@contextmanager
def limited_size() -> Iterator[None]:
    """Raises InputError if a model that is built here has too many layers, or does not fit into memory for training.

    A module registers a parameter as soon as its memory is reserved, before anything is written there.
    """
    tensors = size = 0

    def count(module: torch.nn.Module, name: str, value: Any) -> None:
        nonlocal tensors, size
        if value is None:
            return
        tensors, size = tensors + 1, size + value.numel() * value.element_size()
        if tensors > MOST_TENSORS:
            raise InputError(f"the model has more than {MOST_TENSORS:,} parameters and buffers: {ADVICE}")
        if 2 * size > machine_memory():
            raise InputError(
                f"the model takes at least {readable(2 * size)} of memory with its gradients, and this machine has "
                f"{readable(machine_memory())}: {ADVICE}"
            )

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
        if not is_memory_error(error) and not any(text in str(error) for text in TOO_LARGE):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"the model is too large to be built ({reason}): {ADVICE}") from error
    finally:
        for hook in hooks:
            hook.remove()


def is_memory_error(error: BaseException) -> bool:
    """Whether the memory of the machine or of its GPU did not suffice."""
    of_machine = isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    return of_machine or isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
