"""Evidence that follows from the data alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import Corruption, UnavailableError
from bench.data import Data, Split
from bench.draws import Draws
from bench.evaluation.judges import Features, features_of
from bench.metrics import Value
from bench.metrics.neighbours import distance_to_nearest, nearest
from bench.parts.corruptions import Blocks

BLOCK = 1000  # images that Data.observe sees at once: part of what is drawn, so it stays as it is
SUBSET = 2000  # test images that are compared with one another, all with all
PIXEL_NEIGHBOURS = 5
SHIFT = 2  # pixels
DAMAGE = 0.25  # of an image's area


class Images:
    """What follows from the data alone: computed once, and shared by all models and seeds.

    cache: the folder that the features' classifier is kept in.
    """

    def __init__(self, data: Data, cache: Path):
        self.data, self.cache = data, cache
        self.answers: dict[tuple[object, ...], Value] = {}  # of metrics that ask for nothing else

    def blocks(self, split: str) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The split's images as a model sees them, with their labels, a block at a time."""
        part: Split = getattr(self.data, split)
        x, label = part.x, part.label
        for start in range(0, len(x), BLOCK):
            rows = slice(start, start + BLOCK)
            observed = self.data.observe(x[rows].cpu(), Draws(0, split, "observe", start))
            yield observed, None if label is None else label[rows].cpu()

    def order(self, split: str) -> Tensor:
        """The split's rows in a random order, the same for all models: what takes only some images takes the first."""
        return Draws(0, split, "rows").uniform("order", (len(getattr(self.data, split).x),)).argsort()

    def as_data(self, images: Tensor, name: str) -> Tensor:
        """Mean images [n, C, H, W] binarised as the data are: a grey mean is no example of binary data."""
        if self.data.binarize == "none":
            return images
        return (Draws(0, "as_data").uniform(name, images.shape) < images).to(images.dtype)

    def _all(self, split: str) -> Tensor:
        return torch.cat([x for x, _ in self.blocks(split)])

    def _known(self, split: str, what: str) -> Tensor:
        known = getattr(getattr(self.data, split), what)
        if known is None:
            raise UnavailableError("the data set has no labels" if what == "label" else "its factors are not known")
        return known.cpu()

    @cached_property
    def x(self) -> Tensor:
        return self._all("test")

    # Not kept: for a large training set this is the largest array of all, and one metric asks for it, once.
    @property
    def train_x(self) -> Tensor:
        return self._all("train")

    @property
    def validation_x(self) -> Tensor:
        return self._all("validation")

    @property
    def train_label(self) -> Tensor:
        return self._known("train", "label")

    @property
    def test_label(self) -> Tensor:
        return self._known("test", "label")

    @property
    def train_factors(self) -> Tensor:
        return self._known("train", "factors")

    @property
    def test_factors(self) -> Tensor:
        return self._known("test", "factors")

    @property
    def subset(self) -> Tensor:
        """The rows of the test images that are compared with one another, [<= SUBSET]."""
        return self.order("test")[:SUBSET]

    @property
    def subset_x(self) -> Tensor:
        return self.x[self.subset]

    @cached_property
    def subset_shifted(self) -> Tensor:
        """`subset_x`, each shifted by SHIFT pixels up, down, left or right, which is drawn; what moves in is 0."""
        x, way = self.subset_x, (4 * Draws(0, "test", "shift").uniform("way", (len(self.subset),))).long()
        height, width = x.shape[2:]
        if min(height, width) <= 2 * SHIFT:
            raise UnavailableError(f"images of fewer than {2 * SHIFT + 1} pixels a side have no room to be shifted in")
        padded = F.pad(x, [SHIFT] * 4)
        corners = ((0, SHIFT), (2 * SHIFT, SHIFT), (SHIFT, 0), (SHIFT, 2 * SHIFT))
        shifted = torch.stack([padded[:, :, top : top + height, left : left + width] for top, left in corners])
        return shifted[way, torch.arange(len(x))]

    @cached_property
    def subset_damaged(self) -> Tensor:
        """`subset_x`, in each of which a rectangle of DAMAGE of the area is 0, anywhere."""
        return Blocks(DAMAGE)(self.subset_x, Draws(0, "test", "damage"))

    @property
    def modes(self) -> Tensor:
        """The centres of the true density's modes, [M, C, H, W]."""
        if self.data.modes is None:
            raise UnavailableError("the modes of this data set are not known")
        return self.data.modes.cpu()

    @property
    def mode_sigma(self) -> float:
        """The standard deviation of each mode, in each dimension."""
        assert self.data.mode_sigma is not None, "modes have a width"
        return self.data.mode_sigma

    @property
    def pixel_neighbours(self) -> Tensor:
        """The training images nearest to each test image, [N, PIXEL_NEIGHBOURS] rows, nearest first."""
        return nearest(self.train_x, self.x, PIXEL_NEIGHBOURS)

    # --- in the features of a classifier

    @cached_property
    def _features(self) -> Features:
        return features_of(self.data, self.cache)

    @property
    def features_note(self) -> dict[str, float | str]:
        """Whose features: what a record says of the classifier."""
        return {"features": self._features.hash, "features_accuracy": self._features.accuracy}

    def seen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, F] and classes [n] of images. Images that are not finite look like none."""
        if not images.isfinite().all():
            raise UnavailableError("not a finite number: some pixels")
        return self._features(images)

    @cached_property
    def test_features(self) -> Tensor:
        return self.seen(self.x)[0]

    @cached_property
    def train_features(self) -> Tensor:
        """Of the training images, in a random order: [M, F]."""
        return torch.cat([self.seen(x)[0] for x, _ in self.blocks("train")])[self.order("train")]

    def to_train(self, features: Tensor) -> Tensor:
        """Distances of features [n, F] to the nearest of the training images, [n]."""
        return distance_to_nearest(self.train_features, features)

    @cached_property
    def test_to_train(self) -> Tensor:
        return self.to_train(self.test_features)

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """The rows of test images whose midpoints are looked at, [P] and [P]."""
        half = len(self.subset) // 2
        return self.subset[:half], self.subset[half : 2 * half]

    @cached_property
    def pixel_midpoint_to_train(self) -> Tensor:
        left, right = self.pairs
        midpoints = torch.lerp(self.x[left], self.x[right], 0.5)
        return self.to_train(self.seen(self.as_data(midpoints, "pixel_midpoints"))[0])


class CorruptedImages:
    """The images under a corruption: the same noise for all models and seeds."""

    def __init__(self, images: Images, corruption: Corruption):
        self._images, self._corruption = images, corruption

    @cached_property
    def x_corrupted(self) -> Tensor:
        return self._corruption(self._images.x, Draws(0, "test", "corrupt"))

    @property
    def validation_x_corrupted(self) -> Tensor:
        return self._corruption(self._images.validation_x, Draws(0, "validation", "corrupt"))


@lru_cache(maxsize=4)
def images_of(data: Data, cache: Path) -> Images:
    return Images(data, cache)
