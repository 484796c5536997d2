"""Evidence of steps down a model's own loss: whether they lower it as its gradient at the start says."""

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

IMAGES = 1000  # test images that the loss is of
BATCH = 250  # of them at most that meet in one batch: as in training, the loss is the mean over batches
# The decreases that are predicted of the two steps, over |L|: of a density the loss itself may be negative.
SMALL, LARGE = 1e-4, 1.0


class Step(NamedTuple):
    """From weights w to w - size g, g the gradient of the loss L at w; decreases of L, predicted being size |g|^2.

    All 0-dim, in double precision.
    """

    size: Tensor
    predicted: Tensor
    actual: Tensor


def batches(images: Images, device: torch.device) -> list[Batch]:
    """Some test images in batches of nearly the same size, in double precision and not corrupted."""
    rows, label = images.order("test")[:IMAGES], images.data.test.label
    parts = []
    for some in rows.tensor_split(math.ceil(len(rows) / BATCH)):
        x = images.x[some].to(device, torch.float64)
        told = None if label is None else label.cpu()[some].to(device)
        parts.append(Batch(x, x, told, example=some.to(device), step=torch.tensor(0, device=device)))
    return parts


@contextmanager
def _double_precision() -> Iterator[None]:
    """Draws and constants of losses in float64 too: else they do not multiply with the weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _weights(model: Model) -> list[nn.Parameter]:
    """What the one player of a model owns. Raises UnavailableError where there are more players, or nothing to own."""
    if len(model.players) > 1:
        raise UnavailableError("several players descend different losses")
    modules = [model.get_submodule(prefix) for player in model.players for prefix in player.owns]
    if not (owned := list(dict.fromkeys(weight for module in modules for weight in module.parameters()))):
        raise UnavailableError("nothing is trained by gradients")
    return owned


@torch.no_grad()
def steps(model: Model, parts: Sequence[Batch], seed: int, shares: Sequence[float] = (SMALL, LARGE)) -> list[Step]:
    """Plain gradient descent from the model's weights, a step whose predicted decrease is each of `shares` of |L|.

    L is the mean loss of `parts`, in evaluation mode and under the same draws each time. The model stays as it is.
    Raises UnavailableError where there is not one player with weights.
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
