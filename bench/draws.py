"""Randomness is asked for by name: a draw depends on its seed and its key, and on nothing else."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def number(seed: int, key: str) -> int:
    """What a generator is seeded with: 63 bits of a hash of seed and key, of which one on the CPU uses 32."""
    digest = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _drawn(seed: int, kind: str, shape: tuple[int, ...], key: str, device: torch.device) -> Tensor:
    """Random numbers from (seed, key) alone."""
    generator = torch.Generator(device).manual_seed(number(seed, key))
    return getattr(torch, kind)(shape, generator=generator, device=device)


class _Draw(torch.autograd.Function):
    """The same under vmap, where each of the K seeds fills its own slice."""

    @staticmethod
    def forward(seed: Tensor, kind: str, shape: tuple[int, ...], key: str, device: torch.device) -> Tensor:
        return _drawn(int(seed.item()), kind, shape, key, device)

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
    def vmap(info, in_dims, seed, *request):
        if in_dims[0] is None:
            return _Draw.apply(seed, *request), None
        return torch.stack([_Draw.apply(s, *request) for s in seed]), 0


class Draws:
    """Randomness by name, keyed by (seed, key, name): the same numbers alone or stacked, in any order of asking.

    seed is an integer or, under vmap, a 0-dim int64 tensor on the CPU. A name asked for twice is a ValueError.
    """

    def __init__(self, seed: int | Tensor, *key: object, device: torch.device | str = "cpu"):
        self._seed = seed
        self._key = "/".join(map(str, key))
        self._device = torch.device(device)
        self._used: set[str] = set()

    def within(self, scope: str) -> Draws:
        """The same draws, every name prefixed: for a network that is called more than once in a turn."""
        inner = Draws(self._seed, self._key, scope, device=self._device)
        inner._used = self._used
        return inner

    def _draw(self, kind: str, name: str, shape: tuple[int, ...]) -> Tensor:
        key = f"{self._key}/{name}"
        if key in self._used:
            raise ValueError(f"the draw {name!r} was asked for twice in one turn: give each its own name")
        self._used.add(key)
        if isinstance(self._seed, Tensor):
            return _Draw.apply(self._seed, kind, tuple(shape), key, self._device)
        return _drawn(self._seed, kind, tuple(shape), key, self._device)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers."""
        return self._draw("randn", name, shape)

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Uniform numbers in [0, 1)."""
        return self._draw("rand", name, shape)


class RowDraws(Draws):
    """The draws of `rows` out of `total`: drawn whole, then sliced, so that the size of a chunk changes nothing."""

    def __init__(self, seed: int | Tensor, *key: object, rows: slice, total: int, device: torch.device):
        super().__init__(seed, *key, device=device)
        self._rows, self._total = rows, total

    def within(self, scope: str) -> Draws:
        inner = RowDraws(self._seed, self._key, scope, rows=self._rows, total=self._total, device=self._device)
        inner._used = self._used
        return inner

    def _draw(self, kind: str, name: str, shape: tuple[int, ...]) -> Tensor:
        assert shape[0] == len(range(self._total)[self._rows]), f"{name!r} is not one draw an example: {shape}"
        return super()._draw(kind, name, (self._total, *shape[1:]))[self._rows]
