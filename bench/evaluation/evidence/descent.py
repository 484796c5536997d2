"""Evidence on steps of gradient descent: whether they lower the model's own loss as much as the gradient predicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.core import Model, UnavailableError
from bench.data import Batch
from bench.draws import Draws
from bench.evaluation.evidence.images import Images

IMAGES = 1000  # test images for the loss
BATCH = 250  # images in a batch, at most; as in training, the loss is the mean over batches
# The predicted decreases of the two steps, over |L|: the loss may be negative, since it may be a density's.
SMALL, LARGE = 1e-4, 1.0


class Step(NamedTuple):
    """A step from weights w to w - size g, where g is the gradient of the loss L at w.

    predicted: size |g|^2; actual: the decrease of L. All 0-dim, in double precision.
    """

    size: Tensor
    predicted: Tensor
    actual: Tensor


def batches(images: Images, device: torch.device) -> list[Batch]:
    """The first test examples in batches of nearly equal size, in double precision and without corruption."""
    rows = images.order("test")[:IMAGES]

    def double(part: Tensor) -> Tensor:
        return part.double() if part.is_floating_point() else part

    def batch(part: Tensor) -> Batch:
        at_end = images.test.rows(part)._replace(example=part, step=torch.tensor(0), progress=torch.tensor(1.0))
        return at_end.map(double).to(device)

    return [batch(part) for part in rows.tensor_split(math.ceil(len(rows) / BATCH))]


@contextmanager
def _double_precision() -> Iterator[None]:
    """Makes float64 the default, so that draws and constants of losses have the dtype of the weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _weights(model: Model) -> list[nn.Parameter]:
    """The parameters of a model's only player. Raises UnavailableError if there are more players, or no parameters."""
    if len(model.players) > 1:
        raise UnavailableError("several players descend different losses")
    modules = [model.get_submodule(prefix) for player in model.players for prefix in player.owns]
    if not (owned := list(dict.fromkeys(weight for module in modules for weight in module.parameters()))):
        raise UnavailableError("nothing is trained by gradients")
    return owned


@torch.no_grad()
def steps(model: Model, parts: Sequence[Batch], seed: int, shares: Sequence[float] = (SMALL, LARGE)) -> list[Step]:
    """One step of plain gradient descent from the model's weights for each share of |L| as its predicted decrease.

    L is the mean loss of `parts`, in evaluation mode and with the same draws each time. The model is not changed.
    Raises UnavailableError if the model does not have exactly one player, or no parameters.
    """
    model = deepcopy(model).double().eval()
    weights = _weights(model)
    (player,), n = model.players, sum(len(part.x) for part in parts)

    def losses() -> Iterator[Tensor]:
        for i, part in enumerate(parts):
            draws = Draws(seed, "evaluate", "descent", i, device=part.x.device)
            yield model.losses(part, draws, (player.name,)).players[player.name] * (len(part.x) / n)

    with _double_precision():
        start, gradient = [weight.clone() for weight in weights], [torch.zeros_like(weight) for weight in weights]
        loss = torch.zeros(())
        with torch.enable_grad():
            for part in losses():
                loss = loss + part.detach()
                found = torch.autograd.grad(part, weights, allow_unused=True, materialize_grads=True)
                gradient = [a + b for a, b in zip(gradient, found, strict=True)]
        squared = torch.stack([g.square().sum() for g in gradient]).sum()
        taken = []
        for share in shares:
            predicted = share * loss.abs()
            size = predicted / squared
            for weight, w, g in zip(weights, start, gradient, strict=True):
                weight.copy_(w - size * g)
            taken.append(Step(size, predicted, loss - torch.stack(list(losses())).sum()))
    return taken
