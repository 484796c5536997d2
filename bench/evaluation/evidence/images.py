"""Evidence that depends on the data only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import Corruption, Recorded, UnavailableError
from bench.data import Batch, Data, Split, as_floats
from bench.draws import Draws
from bench.evaluation.evidence.decorator import evidence
from bench.evaluation.judges import Judge, all_equal, cached_features, cached_judges, features_of, judges_of
from bench.evaluation.judges.targets import LABEL, blind, label_of, unread_truth
from bench.metrics import Value
from bench.metrics.checks import check_classes
from bench.metrics.judged import Judgement
from bench.metrics.neighbours import distance_to_nearest, nearest_in_blocks
from bench.parts.corruptions import Blocks

BLOCK = 1000  # images per call of Data.observe; its draws depend on it, so do not change it
SUBSET = 2000  # test images for what compares all pairs
SUBSET_TRUTH = "subset"  # the truth that assigns each test example to a subset of the data
PIXEL_NEIGHBOURS = 5
SHIFT = 2  # pixels
DAMAGE = 0.25  # share of an image's area


class Facts(dict[str, Tensor]):
    """Arrays by name, one row for each test example. Raises UnavailableError for a name that is not there."""

    def __init__(self, kind: str, known: Mapping[str, Tensor], owner: str = "the data set"):
        super().__init__(known)
        self._kind, self._owner = kind, owner

    def __missing__(self, name: str) -> Tensor:
        raise UnavailableError(f"there is no {name} in the {self._kind} of {self._owner}")


class Images:
    """Evidence that depends on the data only: computed once and shared by all models and seeds.

    cache: the folder of judges; whole: the data whose test images tell how good a judge is, `data` by default.
    """

    def __init__(self, data: Data, cache: Path, whole: Data | None = None):
        self.data, self.cache, self._whole = data, cache, whole or data
        self.answers: dict[tuple[object, ...], dict[str, Value]] = {}  # of the metrics that depend on the data only

    def blocks(self, split: str) -> Iterator[Batch]:
        """The examples of a split as a model sees them, BLOCK at a time."""
        whole: Split = getattr(self.data, split)
        for start in range(0, len(whole.x), BLOCK):
            part = whole.rows(slice(start, start + BLOCK)).map(lambda stored: stored.cpu())
            yield self.data.read(part, Draws(0, split, "observe", start))

    def order(self, split: str) -> Tensor:
        """The rows of a split in a random order, the same for all models. A subset is its first rows."""
        return Draws(0, split, "rows").uniform("order", (len(getattr(self.data, split).x),)).argsort()

    @cached_property
    def test(self) -> Batch:
        """The whole test split."""
        return Batch.joined(self.blocks("test"))

    def select(self, split: str, rows: Tensor) -> Batch:
        """The examples of a split at rows, in order. Holds one block at a time."""
        if split == "test":
            return self.test.rows(rows)
        inside = [rows // BLOCK == i for i in range(-(-len(getattr(self.data, split).x) // BLOCK))]
        parts = [block.rows(rows[there] % BLOCK) for block, there in zip(self.blocks(split), inside, strict=True)]
        places = torch.cat([there.nonzero().flatten() for there in inside])
        return Batch.joined(parts).rows(places.argsort())

    @cached_property
    def subsets(self) -> dict[str, Tensor]:
        """The subsets of the test split that the data name or number, [N] bool each."""
        subset = self.data.test.truth.get(SUBSET_TRUTH)
        if subset is None or subset.ndim != 1:
            return {}
        names = self.data.vocabulary.get(SUBSET_TRUTH)
        numbers = subset.unique().tolist() if names is None else range(len(names))
        return {str(names[number] if names else number): subset.cpu() == number for number in numbers}

    def as_data(self, images: Tensor, name: str) -> Tensor:
        """Mean images [n, C, H, W], binarised if the data are: a grey mean image is not an example of binary data."""
        if self.data.binarize == "none":
            return images
        return (Draws(0, "as_data").uniform(name, images.shape) < images).to(images.dtype)

    def _known(self, split: str, field: str) -> Tensor:
        values = getattr(getattr(self.data, split), field)
        if values is None:
            raise UnavailableError("the data set has no labels" if field == "label" else "the factors are not known")
        return values.cpu()

    @evidence()
    def x(self) -> Tensor:
        return self.test.x

    @evidence()
    def input(self) -> Tensor:
        """What a model reads: the sources of the test images or, if there are none, the test images."""
        return self.test.input

    @evidence()
    def validation_x(self) -> Tensor:
        return self.validation.x

    @cached_property
    def validation(self) -> Batch:
        """The whole validation split."""
        return Batch.joined(self.blocks("validation"))

    @cached_property
    def train_subset(self) -> Batch:
        """The first SUBSET training examples in the random order, to compare with test examples."""
        return self.select("train", self.order("train")[:SUBSET])

    @evidence()
    def train_x(self) -> Tensor:
        """Training examples in a random order, the same for all models, [<= SUBSET, C, *sides]."""
        return self.train_subset.x

    @evidence()
    def train_x_label(self) -> Tensor:
        """The labels of `train_x`."""
        self._known("train", "label")
        assert self.train_subset.label is not None
        return self.train_subset.label

    @evidence()
    def conditions(self) -> Facts:
        """The conditions of the test examples, by name."""
        return Facts("conditions", self.test.conditions)

    @evidence()
    def truth(self) -> Facts:
        """Facts about the test examples that no model sees, by name."""
        return Facts("truth", {name: known.cpu() for name, known in self.data.test.truth.items()})

    @evidence()
    def x_again(self) -> Tensor:
        """A second real image for the conditions of each test example, [N, C, H, W]: the truth of this name."""
        return as_floats(self.truth["x_again"])

    @evidence()
    def train_conditions(self) -> Facts:
        """The conditions of the training examples as they are stored, by name."""
        return Facts("conditions", {name: known.cpu() for name, known in self.data.train.conditions.items()})

    @evidence()
    def train_truth(self) -> Facts:
        """Facts about the training examples that no model sees, by name."""
        return Facts("truth", {name: known.cpu() for name, known in self.data.train.truth.items()})

    @evidence()
    def vocabulary(self) -> Mapping[str, Sequence[str]]:
        """The names of the values of conditions and truth, by the name of these."""
        return self.data.vocabulary

    @evidence()
    def train_label(self) -> Tensor:
        return self._known("train", "label")

    @evidence()
    def test_label(self) -> Tensor:
        return self._known("test", "label")

    @evidence()
    def train_factors(self) -> Tensor:
        return self._known("train", "factors")

    @evidence()
    def test_factors(self) -> Tensor:
        return self._known("test", "factors")

    @evidence(subset=True)
    def subset(self) -> Tensor:
        """The rows of the test images that are compared in all pairs, [<= SUBSET]."""
        return self.order("test")[:SUBSET]

    @evidence(subset=True)
    def subset_x(self) -> Tensor:
        return self.x[self.subset]

    @evidence(subset=True, cached=True)
    def subset_shifted(self) -> Tensor:
        """`subset_x`, each image shifted by SHIFT pixels up, down, left or right at random; new pixels are 0."""
        x, way = self.subset_x, (4 * Draws(0, "test", "shift").uniform("way", (len(self.subset),))).long()
        height, width = x.shape[2:]
        if min(height, width) <= 2 * SHIFT:
            raise UnavailableError(f"images of fewer than {2 * SHIFT + 1} pixels a side are too small to shift")
        padded = F.pad(x, [SHIFT] * 4)
        corners = ((0, SHIFT), (2 * SHIFT, SHIFT), (SHIFT, 0), (SHIFT, 2 * SHIFT))
        shifted = torch.stack([padded[:, :, top : top + height, left : left + width] for top, left in corners])
        return shifted[way, torch.arange(len(x))]

    @evidence(subset=True, cached=True)
    def subset_damaged(self) -> Tensor:
        """`subset_x`, each image with a random rectangle of DAMAGE of its area set to 0."""
        return Blocks(DAMAGE)(self.subset_x, Draws(0, "test", "damage"))

    @evidence()
    def modes(self) -> Tensor:
        """The centres of the true density's modes, [M, C, H, W]."""
        if self.data.modes is None:
            raise UnavailableError("the modes of this data set are not known")
        return self.data.modes.cpu()

    @evidence()
    def mode_sigma(self) -> float:
        """The standard deviation of each mode, in each dimension."""
        assert self.data.mode_sigma is not None, "modes have a width"
        return self.data.mode_sigma

    @evidence()
    def pixel_neighbours(self) -> Tensor:
        """The training images nearest to each test image, [N, PIXEL_NEIGHBOURS] rows, nearest first."""
        if all_equal(self.data.train.x):
            raise UnavailableError("all training images are the same: none is nearest")
        return nearest_in_blocks((block.x for block in self.blocks("train")), self.x, PIXEL_NEIGHBOURS)

    # --- features, of the judge of labels or, without labels, of the judge of classes and numbers

    @cached_property
    def _features(self) -> Judge:
        features_of(self._whole, self.cache)
        return features_of(self.data, self.cache)

    def cached_features(self) -> str | None:
        """The hash of the features' classifier if the cache holds one. Trains nothing."""
        found = cached_features(self.data, self.cache)
        return found.hash if found else None

    def features_details(self) -> dict[str, float | str]:
        """What a record says of the features' classifier."""
        found, names = self._features, [target.name for target in self._features.targets]
        if names == [LABEL]:
            return {"features": found.hash, "features_accuracy": found.score}
        return {"features": found.hash, "features_score": found.score, "features_of": ", ".join(names)}

    def features(self, images: Tensor) -> Tensor:
        """Features [n, F] of images. Raises UnavailableError if a pixel is not finite."""
        return self._features.features(_finite(images))

    def classes(self, features: Tensor) -> Tensor:
        """The class [n] that the classifier predicts for features [n, F].

        Raises UnavailableError if there are no labels, or if it predicts those of real images little better than a
        blind answer; see `Judgement.weakness`.
        """
        if self._weakness_of_classes:
            raise UnavailableError(f"label {self._weakness_of_classes}")
        return self._features.of_features(features)[LABEL]

    @cached_property
    def _weakness_of_classes(self) -> str | None:
        predicted = self._features.of_features(self.test_features)
        if LABEL not in predicted:
            raise UnavailableError("the data set has no labels")
        target = label_of(self.data)
        check_classes(target.test, "test images")
        return Judgement(predicted[LABEL], predicted[LABEL], blind(target), target.test).weakness

    @evidence(features=True, cached=True)
    def test_features(self) -> Tensor:
        return self.features(self.x)

    @evidence(features=True, cached=True)
    def train_features(self) -> Tensor:
        """Features of the training images in a random order, [M, F]."""
        return torch.cat([self.features(block.x) for block in self.blocks("train")])[self.order("train")]

    def to_train(self, features: Tensor) -> Tensor:
        """The distance of each of features [n, F] to the nearest training image's, [n]."""
        return distance_to_nearest(self.train_features, features)

    @evidence(features=True, cached=True)
    def test_to_train(self) -> Tensor:
        return self.to_train(self.test_features)

    @evidence(subset=True)
    def pairs(self) -> tuple[Tensor, Tensor]:
        """The rows of the test images whose midpoints are measured, [P] and [P]."""
        if not (half := len(self.subset) // 2):
            raise UnavailableError("a midpoint needs two test images, and there is one")
        return self.subset[:half], self.subset[half : 2 * half]

    @evidence(features=True, subset=True, cached=True)
    def pixel_midpoint_to_train(self) -> Tensor:
        """In features, the distance of the mean of two test images to the nearest training image, [P]."""
        left, right = self.pairs
        midpoints = torch.lerp(self.x[left], self.x[right], 0.5)
        return self.to_train(self.features(self.as_data(midpoints, "pixel_midpoints")))

    # --- predictions of judges

    @cached_property
    def _judges(self) -> list[Judge]:
        judges_of(self._whole, self.cache)
        return judges_of(self.data, self.cache)

    @cached_property
    def _judgements(self) -> dict[str, Judgement]:
        """The judgements of the test images themselves, by name."""
        return {
            target.name: Judgement(answers[target.name], answers[target.name], blind(target), target.test)
            for judge in self._judges
            for answers in [judge(self.x)]
            for target in judge.targets
        } | unread_truth(self.data)

    def cached_judges(self) -> str | None:
        """The hashes of all judges if the cache holds them. Trains nothing."""
        found = cached_judges(self.data, self.cache)
        return None if found is None else _hashes(found)

    def judges_details(self) -> dict[str, float | str]:
        """What a record says of all judges."""
        return {"judges": _hashes(self._judges)}

    def judge(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Judgement]:
        """The judgements, by name, of images [n, C, H, W] that a model makes in place of the test images.

        rows: [n], those of the test images; None: all of them. Raises UnavailableError if a pixel is not finite, or if
        all training images are equal.
        """
        images = self.as_data(_finite(images), "judged")
        answers = {name: answer for judge in self._judges for name, answer in judge(images).items()}
        parts = self._judgements
        if rows is not None:
            parts = {name: part.rows(rows) for name, part in parts.items()}
        return {name: part._replace(answer=answers.get(name, part.answer)) for name, part in parts.items()}


def _finite(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise UnavailableError("not a finite number: some pixels")
    return images


def _hashes(judges: Sequence[Judge]) -> str:
    return ", ".join(judge.hash for judge in judges)


class CorruptedImages:
    """The corrupted inputs of models, with the same noise for all models and seeds."""

    def __init__(self, images: Images, corruption: Corruption):
        self._images, self._corruption = images, corruption

    @cached_property
    def test(self) -> Batch:
        """The test split with corrupted inputs. Raises UnavailableError if the test inputs are noisy already."""
        if isinstance(self._corruption, Recorded):
            raise UnavailableError(
                "noise is part of the test sources: the metrics without noise levels are measured on them"
            )
        input = self._corruption(self._images.input, Draws(0, "test", "corrupt"))
        return self._images.test._replace(input=input)

    def _check_no_source(self) -> None:
        if self._images.data.shapes.source is not None:
            raise UnavailableError("noise corrupts the sources, and these are not noisy versions of the images")

    @evidence()
    def x_corrupted(self) -> Tensor:
        self._check_no_source()
        return self.test.input

    @evidence()
    def validation_x_corrupted(self) -> Tensor:
        self._check_no_source()
        return self._corruption(self._images.validation_x, Draws(0, "validation", "corrupt"))


@lru_cache(maxsize=4)
def images_of(data: Data, cache: Path) -> Images:
    return Images(data, cache)


@lru_cache(maxsize=4)
def validation_images_of(data: Data, cache: Path) -> Images:
    """The same, with the validation split in the place of the test split."""
    return Images(replace(data, test=data.validation), cache, whole=data)
