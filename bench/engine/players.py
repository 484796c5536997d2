"""What trains the parameters of a player: its optimizer, and the average of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.engine.seeds import Stack
from bench.engine.state import State, part_of

MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


class PlayerOptimizer:
    """The parameters of a player, K leaf tensors each, and one optimizer for all of them."""

    def __init__(self, stack: Stack, names: list[str], make: MakeOptimizer):
        self.leaves = [stack.views(name) for name in names]
        self.optimizer = make([leaf for leaves in self.leaves for leaf in leaves])
        self.base_rate: float = self.optimizer.param_groups[0]["lr"]

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def scale_rate(self, factor: float) -> None:
        """Sets the learning rate to `factor` times the configured one."""
        self.optimizer.param_groups[0]["lr"] = factor * self.base_rate

    def state(self, k: int) -> State:
        """What the optimizer remembers of the k-th seed, such as the moments of each parameter."""
        moments = [self.optimizer.state.get(leaves[k], {}) for leaves in self.leaves]
        return {f"{i}/{name}": value for i, found in enumerate(moments) for name, value in found.items()}

    def load(self, states: Sequence[State]) -> None:
        """Sets the optimizer to the states of all seeds."""
        moments = [part_of(state, str(i)) for i in range(len(self.leaves)) for state in states]
        groups = self.optimizer.state_dict()["param_groups"]
        found = {i: values for i, values in enumerate(moments) if values}
        self.optimizer.load_state_dict({"state": found, "param_groups": groups})

    def step(self, gradients: list[Tensor], gate: Tensor | None) -> None:
        """One step for the seeds whose gate is open. gradients: [K, ...] each; gate: [K] bool, None if all are open."""
        gates = [True] * len(self.leaves[0]) if gate is None else gate.tolist()
        for leaves, gradient in zip(self.leaves, gradients, strict=True):
            # vmap can return gradients with permuted strides, which fused optimizers misread as contiguous.
            for leaf, seed_gradient, is_open in zip(leaves, gradient.contiguous(), gates, strict=True):
                leaf.grad = seed_gradient if is_open else None
        self.optimizer.step()
        # Frees the gradients: the next step reuses this memory while it is still in the cache.
        self.optimizer.zero_grad()


class Average:
    """An exponential moving average of the parameters of a player, [K, ...] each.

    The decay starts at 0 and grows to its value, so that the initial weights are soon forgotten.
    """

    def __init__(self, stack: Stack, names: list[str], decay: float):
        self.stack = stack
        self.parameters = [stack.parameters[name].detach() for name in names]  # views of the leaves
        self.averages = [parameter.clone() for parameter in self.parameters]
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Adds the parameters after a step to the averages."""
        decay = min(self.decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self.averages, self.parameters, 1 - decay)
        self.steps += 1

    @torch.no_grad()
    def apply(self) -> None:
        """Replaces the parameters by their averages."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            parameter.copy_(average)

    def state(self, k: int) -> State:
        """The averages of the k-th seed."""
        averages = {str(i): self.stack.of_seed(k, average) for i, average in enumerate(self.averages)}
        return {"steps": self.steps, **averages}

    def load(self, states: Sequence[State]) -> None:
        """Sets the averages to the states of all seeds."""
        self.steps = states[0]["steps"]
        for k, state in enumerate(states):
            for i, average in enumerate(self.averages):
                self.stack.of_seed(k, average).copy_(state[str(i)])
