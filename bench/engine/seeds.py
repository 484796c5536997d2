"""Stacks the parameters of K seeds of a model and applies functions to all of them at once, by vmap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bench.core import Losses, Model, Player
from bench.data import Batch
from bench.draws import Draws
from bench.engine.state import State

Argument = Tensor | Mapping[str, Tensor] | None


class _Caller(nn.Module):
    """Lets functional_call apply any function to a model."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, function: Callable, *args: Any) -> Any:
        return function(self.model, *args)


class Stack:
    """K seeds of one model, trained together with their parameters stacked [K, ...]. A single seed needs no vmap.

    Random draws are keyed by the seed, so each seed gets the same data order, noise and initial weights alone or
    stacked. The results agree to rounding. A seed that becomes NaN leaves the others bit-identical.
    """

    def __init__(self, models: Sequence[Model], seeds: Sequence[int], device: torch.device | str = "cpu"):
        self.model, self.models, self.seeds = models[0].to(device), models, list(seeds)
        self.device = torch.device(device)
        self.is_single = len(models) == 1
        self._caller = _Caller(self.model)
        if self.is_single:
            self.parameters = dict(self._caller.named_parameters())
            self.buffers = dict(self._caller.named_buffers())
        else:
            self.parameters, self.buffers = stack_module_state([_Caller(model.to(device)) for model in models])
        self._seeds = torch.tensor(self.seeds)

    def parameter_names(self, player: Player) -> list[str]:
        """The parameters that a player owns. Raises ValueError for an unknown submodule or if there are none."""
        names = []
        for prefix in player.owns:
            path = f"model.{prefix}" if prefix else "model"
            if path not in dict(self._caller.named_modules()):
                raise ValueError(f"player {player.name!r} owns {prefix!r}, but the model has no submodule of this name")
            names += [n for n in self.parameters if n.startswith(path + ".") and n not in names]
        if not names:
            raise ValueError(f"player {player.name!r} owns no parameters: its submodules are {player.owns}")
        return names

    def views(self, name: str) -> list[Tensor]:
        """A parameter as K leaf tensors that share its memory. Optimizers get these, so each seed has its own state."""
        parameter = self.parameters[name]
        if self.is_single:
            return [parameter]
        return [parameter.detach()[k].requires_grad_() for k in range(len(self.seeds))]

    def map(self, function: Callable, key: tuple[object, ...], *args: Argument) -> Any:
        """function(model, draws, *args) for every seed; arguments and results have a leading dimension of K.

        key: the key of the draws. An argument is a tensor, a mapping of tensors, or None. The function returns tensors,
        or tuples and dictionaries of them.
        """
        if self.is_single:
            draws = Draws(self.seeds[0], *key, device=self.device)
            return _add_seed_dimension(function(self.model, draws, *(_first_seed(a) for a in args)))

        def call(parameters: dict, buffers: dict, seed: Tensor, *args: Argument) -> Any:
            draws = Draws(seed, *key, device=self.device)
            return functional_call(self._caller, (parameters, buffers), (function, draws, *args))

        in_dims = (0, 0, 0, *(a if a is None else 0 for a in args))
        return vmap(call, in_dims, randomness="error")(self.parameters, self.buffers, self._seeds, *args)

    def losses(self, batch: Batch, key: tuple[object, ...], turn: tuple[str, ...]) -> Losses:
        """The model's losses for a batch whose fields are [K, B, ...]; every scalar becomes a [K] tensor."""
        return self.map(lambda model, draws, *fields: model.losses(Batch(*fields), draws, turn), key, *batch)

    def gradients(self, losses: Losses, owned: dict[str, list[str]]) -> dict[str, list[Tensor]]:
        """{player: the gradients [K, ...] of its loss} for {player: names of its parameters}, from one forward pass."""
        gradients: dict[str, list[Tensor]] = {}
        for player, names in owned.items():
            parameters = [self.parameters[name] for name in names]
            loss = losses.players[player].sum()  # the loss of a seed depends on no other, so the sum mixes no gradients
            computed = torch.autograd.grad(loss, parameters, retain_graph=len(gradients) < len(owned) - 1)
            gradients[player] = [gradient[None] for gradient in computed] if self.is_single else list(computed)
        return gradients

    def set_mode(self, active: Sequence[Player]) -> None:
        """Training mode for the submodules of active players, evaluation mode for the rest.

        Evaluation mode also freezes the statistics of normalisation layers.
        """
        self.model.eval()
        for player in active:
            for prefix in player.owns:
                self.model.get_submodule(prefix).train()

    def of_seed(self, k: int, value: Tensor) -> Tensor:
        """The part of a stacked parameter, buffer or a tensor of this form that belongs to the k-th seed: a view."""
        return value.detach() if self.is_single else value.detach()[k]

    def state(self, k: int) -> State:
        """Views of the parameters and buffers of the k-th seed."""
        return {name: self.of_seed(k, value) for name, value in {**self.parameters, **self.buffers}.items()}

    def load(self, states: Sequence[State]) -> None:
        """Sets the parameters and buffers to the states of all seeds."""
        for k, state in enumerate(states):
            for name, value in self.state(k).items():
                value.copy_(state[name])

    def unstack(self, states: Mapping[int, State] = MappingProxyType({})) -> list[Model]:
        """Each seed's model with its own weights, in evaluation mode. states: other weights of some seeds, by k."""
        for k, model in enumerate(self.models):
            if k in states or not self.is_single:
                _Caller(model).load_state_dict(states.get(k) or self.state(k))
        return [model.eval() for model in self.models]


def _first_seed(argument: Argument) -> Argument:
    if isinstance(argument, Mapping):
        return {name: value[0] for name, value in argument.items()}
    return argument if argument is None else argument[0]


def _add_seed_dimension(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value[None]
    if isinstance(value, dict):
        return {name: _add_seed_dimension(item) for name, item in value.items()}
    items = [_add_seed_dimension(item) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
