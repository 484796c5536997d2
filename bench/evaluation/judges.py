"""The features that samples are compared in: those of a small classifier, trained once for each data set."""

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

# Part of the name of the cache file. Change it whenever the architecture or the training changes.
RECIPE = "1: two convolutions, 64 features, AdamW on one cycle"

WIDTH = 64  # features
SIDE = 64  # pixels; larger images are averaged down to at most this
EXAMPLES = 300_000  # at most, over all epochs: 30 s on one core for MNIST
EPOCHS = 40  # at most, so that a small data set takes one second
BATCH = 128
LEARNING_RATE = 3e-3  # at the top of the cycle
SHIFTED_FROM = 8  # pixels a side; smaller images and points would lose too much at an edge
CHUNK = 250  # images evaluated at once; the draws of binarised test images depend on it, so do not change it

_loaded_files: dict[Path, Features] = {}  # of this process, by cache file


class Classifier(nn.Module):
    """x [B, C, H, W] in [0, 1], of any size -> logits [B, classes]."""

    def __init__(self, image: tuple[int, ...], classes: int):
        super().__init__()
        height, width = pooled(torch.empty(1, *image, device="meta")).shape[2:]
        # Larger strides for larger images, so that they cost no more than small ones.
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
            nn.BatchNorm1d(WIDTH),  # so that all features have equal weight in a distance
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
    """The penultimate layer of a classifier. A record keeps its hash and its accuracy."""

    hash: str  # of the weights: two machines may train the same recipe to different weights
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
    """The features for a data set, from the folder `cache`; trained and saved there if they are missing.

    The training depends on the data only: not on the device, nor on other random numbers. Jobs that run side by side
    train once. Raises UnavailableError for training images that are of one class or all the same, and InputError if
    the folder cannot be written.
    """
    label = data.train.label
    if label is None or data.test.label is None:
        raise UnavailableError("the data set has no labels to train the features' classifier on")
    if len(label.unique()) < 2:
        raise UnavailableError("the training images are all of one class, and the features' classifier needs two")
    if all_equal(data.train.x):
        raise UnavailableError("all training images are the same: the features' classifier has nothing to learn from")
    path = _path(data, cache)
    return cached_features(data, cache) or _loaded_files.setdefault(path, _trained_once(path, data))


def cached_features(data: Data, cache: Path) -> Features | None:
    """The features for a data set if the folder `cache` holds them. Trains nothing."""
    path = _path(data, cache)
    if path not in _loaded_files and (found := _load(path, data)):
        _loaded_files[path] = found
    return _loaded_files.get(path)


def pooled(x: Tensor) -> Tensor:
    """Images [B, C, H, W] averaged down to at most SIDE pixels a side."""
    kernel = [ceil(side / SIDE) for side in x.shape[2:]]
    return x if kernel == [1, 1] else F.avg_pool2d(x, kernel, ceil_mode=True)


def all_equal(x: Tensor) -> bool:
    """Whether all images are the same. Reads them in chunks, and rarely more than the first."""
    return all(bool((part == x[:1]).all()) for part in x.split(CHUNK))


def _path(data: Data, cache: Path) -> Path:
    """The cache file: its name is a hash of the data and the recipe."""
    text = f"{data.fingerprint}/{data.binarize}/{data.grey_levels if data.dequantize else False}/{RECIPE}"
    return cache.resolve() / f"{hashlib.blake2b(text.encode(), digest_size=5).hexdigest()}.safetensors"


def hash_of(network: nn.Module) -> str:
    """A hash of all weights and buffers, 10 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=5)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _load(path: Path, data: Data) -> Features | None:
    """The features in a file; None if there is no file, or a damaged one."""
    if not path.is_file():
        return None
    network = _untrained(data)
    try:
        with safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in network.state_dict()})
            accuracy = float(file.metadata()["accuracy"])
    except (SafetensorError, RuntimeError, KeyError, TypeError):  # damaged, or the file of another network
        return None
    return Features(hash_of(network), accuracy, data.shapes.classes, network.eval())


def _trained_once(path: Path, data: Data) -> Features:
    """Train and save the features, unless another process has just done so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            found = _load(path, data)
            if found is None:
                found = _train(data)
                temporary = path.with_suffix(".part")
                temporary.write_bytes(save(found.network.state_dict(), {"accuracy": repr(found.accuracy)}))
                os.replace(temporary, path)
            return found
    except OSError as error:
        raise InputError(
            f"cannot write {path.parent}: {error.strerror or error}; free some space or get permission there, "
            "or set paths.cache to another folder"
        ) from error


def _untrained(data: Data) -> Classifier:
    """A network with its initial weights, which are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator_seed(0, "features"))
        return Classifier(data.shapes.x, data.shapes.classes)


def _train(data: Data) -> Features:
    print("training the features' classifier of this data set, once (up to a minute)", file=sys.stderr, flush=True)
    with _one_thread():
        network = _fit(data)
        return Features(hash_of(network), _accuracy(network, data), data.shapes.classes, network)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Rounding depends on the number of threads, and so small a network is not faster with more of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.enable_grad()
def _fit(data: Data) -> Classifier:
    """The classifier trained with one cycle of learning rates (Smith & Topin 2019), in evaluation mode."""
    assert data.train.label is not None
    network, x, label = _untrained(data), data.train.x.cpu(), data.train.label.cpu()
    size = min(BATCH, max(2, len(x) // 8))  # smaller for few images, so that an epoch has enough steps
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
    """Endless batches of row indices [size]: a new permutation of n rows for each epoch."""
    while True:
        yield from torch.randperm(n, generator=generator)[: n // size * size].view(-1, size)


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W], each shifted by at most one pixel in both directions; edge pixels are repeated."""
    if min(x.shape[2:]) < SHIFTED_FROM:
        return x
    windows = F.pad(x, (1, 1, 1, 1), mode="replicate").unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
    down, right = torch.randint(3, (2, len(x)), generator=generator)
    return windows[torch.arange(len(x)), :, down, right]  # windows: [B, C, 3, 3, H, W]


@torch.no_grad()
def _accuracy(network: Classifier, data: Data) -> float:
    """The share of test images that are classified correctly."""
    assert data.test.label is not None
    correct = 0
    for start in range(0, len(data.test.x), CHUNK):
        rows = slice(start, start + CHUNK)
        x = data.observe(data.test.x[rows].cpu(), Draws(0, "features", "test", start)).float()
        correct += int((network(x).argmax(1) == data.test.label[rows].cpu()).sum())
    return correct / len(data.test.x)
