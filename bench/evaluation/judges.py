"""Features of images to judge samples in: those of a small classifier of the data set, trained here once."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import InputError, UnavailableError
from bench.data import Data
from bench.draws import Draws, generator_seed

# What decides the weights beside the data, and part of the hash: changed whenever anything that is trained changes.
RECIPE = "1: two convolutions, 64 features, AdamW on one cycle"

WIDTH = 64  # features
SIDE = 64  # pixels: larger images are averaged down to at most this
EXAMPLES = 300_000  # seen in training at most: 30 s of one core for MNIST
EPOCHS = 40  # at most, so that a small data set takes a second
BATCH = 128
LEARNING_RATE = 3e-3  # at the top of the cycle
SHIFTED_FROM = 8  # pixels a side: smaller images, and points, lose too much with an edge
CHUNK = 250  # images at once in evaluation; part of what is drawn where test images are binarised, so it stays

_known: dict[Path, Features] = {}  # in this process, by their file


class Classifier(nn.Module):
    """x [B, C, H, W] in [0, 1], of any size -> logits [B, classes]."""

    def __init__(self, image: tuple[int, int, int], classes: int):
        super().__init__()
        height, width = pooled(torch.empty(1, *image, device="meta")).shape[2:]
        # So that large images cost what small ones do.
        down, right = 2 if height <= 32 else 4, 2 if width <= 32 else 4
        outputs = 64 * ceil(height / (2 * down)) * ceil(width / (2 * right))
        self.hidden = nn.Sequential(
            nn.Conv2d(image[0], 32, (2 * down + 1, 2 * right + 1), (down, right), padding=(down, right)),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(outputs, WIDTH),
            nn.BatchNorm1d(WIDTH),  # so that every feature counts alike in a distance
            nn.ReLU(),
        )
        self.last = nn.Linear(WIDTH, classes)
        self.float()

    def features(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, WIDTH]."""
        return self.hidden(pooled(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


@dataclass(frozen=True)
class Features:
    """The penultimate layer of a classifier, and what a record says of it."""

    hash: str  # of the data and the recipe
    accuracy: float  # on the test images
    classes: int
    network: Classifier

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] in [0, 1], anywhere -> features [N, 64] float32 and classes [N] int64, on the CPU."""
        with _one_thread():
            features = torch.cat([self.network.features(part.cpu().float()) for part in x.split(CHUNK)])
            return features, self.network.last(features).argmax(1)


def features_of(data: Data, cache: Path) -> Features:
    """The features of a data set: trained where the folder `cache` does not hold them yet, and kept there.

    The same data give the same weights to the bit, on the CPU wherever the data lie, whatever else is random, and
    jobs side by side train them once. Raises UnavailableError for data without two classes, and InputError where the
    folder cannot be written.
    """
    if data.train.label is None or data.test.label is None:
        raise UnavailableError("the data set has no labels to train the features' classifier on")
    if data.shapes.classes < 2:
        raise UnavailableError("the data set has one class, and the features' classifier tells at least two apart")
    path = cache.resolve() / f"{_hash(data)}.safetensors"
    if path not in _known:
        _known[path] = _loaded(path, data) or _built(path, data)
    return _known[path]


def pooled(x: Tensor) -> Tensor:
    """Images [B, C, H, W] averaged down to at most SIDE pixels a side."""
    kernel = [ceil(side / SIDE) for side in x.shape[2:]]
    return x if kernel == [1, 1] else F.avg_pool2d(x, kernel, ceil_mode=True)


def _hash(data: Data) -> str:
    text = f"{data.fingerprint}/{data.binarize}/{data.grey_levels if data.dequantize else False}/{RECIPE}"
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def _loaded(path: Path, data: Data) -> Features | None:
    """What the file holds; None where there is none, or a torn one."""
    if not path.is_file():
        return None
    network = _untrained(data)
    try:
        with safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in network.state_dict()})
            accuracy = float(file.metadata()["accuracy"])
    except (SafetensorError, RuntimeError, KeyError, TypeError):  # torn, or of another network, or without its notes
        return None
    return Features(path.stem, accuracy, data.shapes.classes, network.eval())


def _built(path: Path, data: Data) -> Features:
    """Trained and written whole, unless another process has just done so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            found = _loaded(path, data)
            if found is None:
                found = _trained(path.stem, data)
                temporary = path.with_suffix(".part")
                temporary.write_bytes(save(found.network.state_dict(), {"accuracy": repr(found.accuracy)}))
                os.replace(temporary, path)
            return found
    except OSError as error:
        raise InputError(
            f"cannot write {path.parent}: {error.strerror or error}; make room or get permission there, "
            "or set paths.cache to another folder"
        ) from error


def _untrained(data: Data) -> Classifier:
    """The same initial weights always."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator_seed(0, "features"))
        return Classifier(data.shapes.image, data.shapes.classes)


def _trained(hash: str, data: Data) -> Features:
    print("training the features' classifier of this data set, once (up to a minute)", file=sys.stderr, flush=True)
    with _one_thread():
        network = _fitted(data)
        return Features(hash, _accuracy(network, data), data.shapes.classes, network)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The number of threads is part of how sums are rounded, and of more a net this small would only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.enable_grad()
def _fitted(data: Data) -> Classifier:
    """The classifier after a cycle of training (Smith & Topin 2019), in evaluation mode."""
    assert data.train.label is not None
    network, x, label = _untrained(data), data.train.x.cpu(), data.train.label.cpu()
    size = min(BATCH, max(2, len(x) // 8))  # of a small set less, or an epoch would be too few steps
    steps = min(EXAMPLES, EPOCHS * len(x)) // size
    generator = torch.Generator().manual_seed(generator_seed(0, "features/batches"))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step, rows in enumerate(islice(_batches(len(x), size, generator), steps)):
        batch = pooled(data.observe(x[rows], Draws(0, "features", "train", step)).float())
        loss = F.cross_entropy(network(_shifted(batch, generator)), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices [size] of n images without end, shuffled anew each time there are too few left."""
    while True:
        yield from torch.randperm(n, generator=generator)[: n // size * size].view(-1, size)


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image [C, H, W] of x moved by up to one pixel in both directions, its edge drawn out."""
    if min(x.shape[2:]) < SHIFTED_FROM:
        return x
    windows = F.pad(x, (1, 1, 1, 1), mode="replicate").unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
    down, right = torch.randint(3, (2, len(x)), generator=generator)
    return windows[torch.arange(len(x)), :, down, right]  # of [B, C, 3, 3, H, W]


@torch.no_grad()
def _accuracy(network: Classifier, data: Data) -> float:
    """The share of the test images that it tells right."""
    assert data.test.label is not None
    right = 0
    for start in range(0, len(data.test.x), CHUNK):
        rows = slice(start, start + CHUNK)
        x = data.observe(data.test.x[rows].cpu(), Draws(0, "features", "test", start)).float()
        right += int((network(x).argmax(1) == data.test.label[rows].cpu()).sum())
    return right / len(data.test.x)
