"""Named random draws: each depends on its seed, its key and its name, and on nothing else."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator_seed(seed: int, key: str) -> int:
    """The seed of a torch.Generator: 63 bits of a hash of seed and key (a CPU generator uses 32 of them)."""
    digest = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _generate(seed: int, kind: str, shape: tuple[int, ...], key: str, device: torch.device) -> Tensor:
    """Random numbers that depend on (seed, key) alone. kind: randn or rand."""
    generator = torch.Generator(device).manual_seed(generator_seed(seed, key))
    return getattr(torch, kind)(shape, generator=generator, device=device)


class _Generate(torch.autograd.Function):
    """`_generate` for a tensor seed. Under vmap each of the K seeds generates its own slice."""

    @staticmethod
    def forward(seed: Tensor, kind: str, shape: tuple[int, ...], key: str, device: torch.device) -> Tensor:
        return _generate(int(seed.item()), kind, shape, key, device)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx, grad):
        return None, None, None, None, None

    @staticmethod
    def jvp(ctx, *tangents):
        return None

    @staticmethod
    def vmap(info, in_dims, seed, *args):
        if in_dims[0] is None:
            return _Generate.apply(seed, *args), None
        return torch.stack([_Generate.apply(s, *args) for s in seed]), 0


class Draws:
    """Random numbers keyed by (seed, key, name): the same alone or stacked, and in any order of the calls.

    seed: an integer or, under vmap, a 0-dim int64 tensor on the CPU. Raises ValueError if a name is used twice.
    """

    def __init__(self, seed: int | Tensor, *key: object, device: torch.device | str = "cpu"):
        self._seed = seed
        self._key = "/".join(map(str, key))
        self._device = torch.device(device)
        self._used: set[str] = set()

    def within(self, scope: str) -> Draws:
        """The same draws with every name prefixed, for a network that is called more than once in a turn."""
        inner = Draws(self._seed, self._key, scope, device=self._device)
        inner._used = self._used
        return inner

    def _draw(self, kind: str, name: str, shape: tuple[int, ...]) -> Tensor:
        key = f"{self._key}/{name}"
        if key in self._used:
            raise ValueError(f"the draw {name!r} was used twice in one turn: give each draw a unique name")
        self._used.add(key)
        if isinstance(self._seed, Tensor):
            return _Generate.apply(self._seed, kind, tuple(shape), key, self._device)
        return _generate(self._seed, kind, tuple(shape), key, self._device)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Samples of N(0, 1), float."""
        return self._draw("randn", name, shape)

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Samples of the uniform distribution on [0, 1), float."""
        return self._draw("rand", name, shape)


class RowDraws(Draws):
    """The draws for `rows` out of `total` examples.

    Numbers are generated for all examples and then sliced, so the results do not depend on the size of a chunk.
    """

    def __init__(self, seed: int | Tensor, *key: object, rows: slice, total: int, device: torch.device):
        super().__init__(seed, *key, device=device)
        self._rows, self._total = rows, total

    def within(self, scope: str) -> Draws:
        inner = RowDraws(self._seed, self._key, scope, rows=self._rows, total=self._total, device=self._device)
        inner._used = self._used
        return inner

    def _draw(self, kind: str, name: str, shape: tuple[int, ...]) -> Tensor:
        assert shape[0] == len(range(self._total)[self._rows]), f"{name!r} needs one row per example, not {shape}"
        return super()._draw(kind, name, (self._total, *shape[1:]))[self._rows]
