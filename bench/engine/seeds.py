"""Stacks K seeds of a model and runs a function over all of them at once. One seed alone takes the plain path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bench.core import Losses, Model, Player
from bench.data import Batch
from bench.draws import Draws


class _Call(nn.Module):
    """Lets functional_call reach any function of a model."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, function: Callable, *args: Any) -> Any:
        return function(self.model, *args)


class Stack:
    """K seeds of one model, their parameters stacked [K, ...] and trained side by side.

    Randomness is keyed by each seed, so a seed sees the same data, noise and starting weights alone or stacked; the
    numbers agree to rounding, and a seed that becomes NaN leaves the others bit-identical.
    """

    def __init__(self, models: Sequence[Model], seeds: Sequence[int], device: torch.device | str = "cpu"):
        self.model, self.models, self.seeds = models[0].to(device), models, list(seeds)
        self.device = torch.device(device)
        self.plain = len(models) == 1
        self._call = _Call(self.model)
        if self.plain:
            self.parameters = dict(self._call.named_parameters())
            self.buffers = dict(self._call.named_buffers())
        else:
            self.parameters, self.buffers = stack_module_state([_Call(model.to(device)) for model in models])
        self._seeds = torch.tensor(self.seeds)

    def names_of(self, player: Player) -> list[str]:
        """The parameters a player owns. Raises ValueError where a prefix names nothing."""
        names = []
        for prefix in player.owns:
            path = f"model.{prefix}" if prefix else "model"
            if path not in dict(self._call.named_modules()):
                raise ValueError(f"player {player.name!r} owns {prefix!r}, and the model has no such submodule")
            names += [n for n in self.parameters if n.startswith(path + ".") and n not in names]
        if not names:
            raise ValueError(f"player {player.name!r} owns no parameter: {player.owns}")
        return names

    def views(self, name: str) -> list[Tensor]:
        """A parameter as K leaves that share its memory: what optimizers hold, so each seed has its own moments."""
        parameter = self.parameters[name]
        return [parameter] if self.plain else [parameter.detach()[k].requires_grad_() for k in range(len(self.seeds))]

    def map(self, function: Callable, key: tuple[object, ...], *args: Tensor | None) -> Any:
        """function(model, draws, *args) for every seed; args and what comes back have a leading dimension of K.

        What comes back is a tensor, or tuples and dictionaries of tensors.
        """
        if self.plain:
            draws = Draws(self.seeds[0], *key, device=self.device)
            return _leading(function(self.model, draws, *(a if a is None else a[0] for a in args)))

        def one(parameters: dict, buffers: dict, seed: Tensor, *args: Tensor | None) -> Any:
            draws = Draws(seed, *key, device=self.device)
            return functional_call(self._call, (parameters, buffers), (function, draws, *args))

        in_dims = (0, 0, 0, *(a if a is None else 0 for a in args))
        return vmap(one, in_dims, randomness="error")(self.parameters, self.buffers, self._seeds, *args)

    def losses(self, batch: Batch, key: tuple[object, ...], turn: tuple[str, ...]) -> Losses:
        """The model's losses for a batch whose fields are [K, B, ...]; every scalar comes back as [K]."""
        return self.map(lambda model, draws, *fields: model.losses(Batch(*fields), draws, turn), key, *batch)

    def gradients(self, losses: Losses, owned: dict[str, list[str]]) -> dict[str, list[Tensor]]:
        """{player: one gradient [K, ...] a name it owns}, of each player's own loss, from one forward pass."""
        gradients: dict[str, list[Tensor]] = {}
        for player, names in owned.items():
            parameters = [self.parameters[name] for name in names]
            loss = losses.players[player].sum()  # seeds do not meet in a loss, so the sum keeps their gradients apart
            found = torch.autograd.grad(loss, parameters, retain_graph=len(gradients) < len(owned) - 1)
            gradients[player] = [gradient[None] for gradient in found] if self.plain else list(found)
        return gradients

    def set_mode(self, live: Sequence[Player]) -> None:
        """Training mode for what a live player owns; the rest is frozen, its normalisation statistics too."""
        self.model.eval()
        for player in live:
            for prefix in player.owns:
                self.model.get_submodule(prefix).train()

    def unstack(self) -> list[Model]:
        """Each seed's model with its own weights, in evaluation mode."""
        if not self.plain:
            for k, model in enumerate(self.models):
                state = {**self.parameters, **self.buffers}
                _Call(model).load_state_dict({name: value[k] for name, value in state.items()})
        return [model.eval() for model in self.models]


def _leading(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value[None]
    if isinstance(value, dict):
        return {name: _leading(item) for name, item in value.items()}
    items = [_leading(item) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
