"""The training of judges: one cycle of learning rates, on one thread, from fixed draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from bench.data import Data, Split
from bench.draws import Draws, generator_seed
from bench.evaluation.judges.networks import Classifier, Segmenter, pooled
from bench.evaluation.judges.targets import Target
from bench.metrics.judged import agreement

EPOCHS = 40  # at most, so that a small data set takes one second
CHUNK = 250  # images evaluated at once; the draws of binarised test images depend on it, so do not change it
SMALL = 8  # pixels a side; smaller images and points are not augmented
NOISE = 0.03  # sigma, at most


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images [B, C, *sides], each shifted by at most one pixel along every side; edge pixels are repeated."""
    if min(x.shape[2:]) < SMALL:
        return x
    ways = torch.randint(3, (x.ndim - 2, len(x)), generator=generator) - 1
    for axis, way in enumerate(ways, start=2):
        moved = torch.stack([_neighbours(x, axis, step) for step in (-1, 0, 1)])
        x = moved[way + 1, torch.arange(len(x))]
    return x


def _neighbours(x: Tensor, axis: int, step: int) -> Tensor:
    """Each pixel's neighbour at a distance of `step` along an axis, the pixel itself at the edge."""
    side = x.shape[axis]
    return x.index_select(axis, (torch.arange(side) + step).clamp(0, side - 1))


def softened(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images [B, C, *sides], each blurred a little, by at most the binomial filter 1 2 1, with faint noise.

    Models' images are often smoother or rougher than real ones. A judge should recognise what they show all the same,
    because sharpness has metrics of its own.
    """
    if min(x.shape[2:]) < SMALL:
        return x
    blurred = x
    for axis in reversed(range(2, x.ndim)):
        before, after = (_neighbours(blurred, axis, step) for step in (-1, 1))
        blurred = (before + 2 * blurred + after) / 4
    blur, sigma = torch.rand(2, len(x), *[1] * (x.ndim - 1), generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    return torch.lerp(x, blurred, blur) + NOISE * sigma * noise


@dataclass(frozen=True)
class Recipe:
    """How a judge is trained. Change `text` whenever its network or training changes.

    text: a part of the cache file's name; key: that of its random draws; examples, pixels: the most over all epochs.
    """

    text: str
    key: str
    network: type[Classifier] | type[Segmenter]
    augment: Callable[[Tensor, torch.Generator], Tensor]
    examples: int
    pixels: int | None = None
    batch: int = 128
    learning_rate: float = 3e-3  # at the top of the cycle


LABEL = Recipe("1: two convolutions, 64 features, AdamW on one cycle", "features", Classifier, shifted, 300_000)
IMAGES = Recipe(
    text="1: the network of labels, softened images",
    key="judges/images",
    network=Classifier,
    augment=softened,
    examples=120_000,
    batch=64,
    learning_rate=6e-3,
)
PIXELS = Recipe(
    text="1: a small LinkNet, softened images",
    key="judges/pixels",
    network=Segmenter,
    augment=softened,
    examples=60_000,
    pixels=40_000_000,
    batch=16,  # each example has many pixels
    learning_rate=1e-2,
)


def untrained(recipe: Recipe, data: Data, targets: Sequence[Target]) -> Classifier | Segmenter:
    """A network with its initial weights, which are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator_seed(0, recipe.key))
        return recipe.network(data.shapes.x, sum(target.outputs for target in targets))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread: rounding depends on the number of threads, and such a small network is not faster with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def parts(raw: Tensor, targets: Sequence[Target]) -> tuple[Tensor, ...]:
    """The outputs [B, outputs, ...] of a network, split by target."""
    return raw.split([target.outputs for target in targets], 1)


def examples_for(recipe: Recipe, data: Data) -> Split:
    """The examples that a judge is trained on, and that its targets belong to."""
    return data.judging or data.train if recipe is not LABEL else data.train


@torch.enable_grad()
def train(recipe: Recipe, data: Data, targets: Sequence[Target]) -> Classifier | Segmenter:
    """A network trained with one cycle of learning rates (Smith & Topin 2019), in evaluation mode."""
    network, x = untrained(recipe, data, targets), examples_for(recipe, data).x.cpu()
    size = min(recipe.batch, max(2, len(x) // 8))  # smaller for few images, so that an epoch has enough steps
    examples = min(recipe.examples, EPOCHS * len(x))
    if recipe.pixels is not None:
        examples = min(examples, recipe.pixels // pooled(torch.empty(1, *x.shape[1:], device="meta"))[0, 0].numel())
    steps = examples // size
    generator = torch.Generator().manual_seed(generator_seed(0, f"{recipe.key}/batches"))
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
    for step, rows in enumerate(islice(_batches(len(x), size, generator), steps)):
        batch = pooled(data.observe(x[rows], Draws(0, recipe.key, "train", step)).float())
        raw = parts(network(recipe.augment(batch, generator)), targets)
        loss = torch.stack([target.loss(part, rows) for part, target in zip(raw, targets, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of row indices [size]: a new permutation of n rows for each epoch."""
    while True:
        yield from torch.randperm(n, generator=generator)[: n // size * size].view(-1, size)


@torch.no_grad()
def score(network: nn.Module, recipe: Recipe, data: Data, targets: Sequence[Target]) -> float:
    """The agreement with the test images' truth, the mean over targets."""
    answers: list[list[Tensor]] = [[] for _ in targets]
    for start in range(0, len(data.test.x), CHUNK):
        x = data.observe(data.test.x[start : start + CHUNK].cpu(), Draws(0, recipe.key, "test", start)).float()
        for answer, target, raw in zip(answers, targets, parts(network(x), targets), strict=True):
            answer.append(target.answer(raw))
    scores = [agreement(torch.cat(a), target.test).mean() for a, target in zip(answers, targets, strict=True)]
    return torch.stack(scores).mean().item()
