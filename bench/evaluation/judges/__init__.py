"""Judges: small networks that predict what is known about an image. Each is trained once for each data set.

The label and the truth of the training images are known. There are up to three judges: one of the label, one of the
classes and numbers in the truth, and one of its maps. Samples are compared in the features of the judge of the label
or, if the data have no labels, in those of the judge of classes and numbers.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.core import InputError, UnavailableError
from bench.data import Data
from bench.evaluation.judges import training
from bench.evaluation.judges.networks import Classifier, Segmenter, hash_of
from bench.evaluation.judges.targets import LABEL, Target, label_of, truth_of
from bench.evaluation.judges.training import Recipe, one_thread, parts

_loaded_files: dict[Path, Judge] = {}  # of this process, by cache file


@dataclass(frozen=True)
class Judge:
    """A trained network and what it predicts."""

    hash: str  # of the weights: two machines may train the same recipe to different weights
    score: float  # on the test images: `agreement`, the mean over targets; the accuracy of classes
    network: Classifier | Segmenter
    targets: Sequence[Target]

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] in [0, 1], anywhere -> features [N, 64] float32, on the CPU."""
        assert isinstance(self.network, Classifier)
        with one_thread():
            return torch.cat([self.network.features(part.cpu().float()) for part in x.split(training.CHUNK)])

    @torch.no_grad()
    def of_features(self, features: Tensor) -> dict[str, Tensor]:
        """Features [N, 64] -> the answers, by name."""
        with one_thread():
            return self._answers(self.network.last(features))

    @torch.no_grad()
    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Images [N, C, H, W] in [0, 1], anywhere -> the answers, [N, ...] each, by name, on the CPU."""
        with one_thread():
            answers = [self._answers(self.network(part.cpu().float())) for part in x.split(training.CHUNK)]
        return {target.name: torch.cat([part[target.name] for part in answers]) for target in self.targets}

    def _answers(self, raw: Tensor) -> dict[str, Tensor]:
        split = parts(raw, self.targets)
        return {target.name: target.answer(part) for part, target in zip(split, self.targets, strict=True)}


def all_equal(x: Tensor) -> bool:
    """Whether all images are the same. Reads them in chunks, and rarely more than the first chunk."""
    return all(bool((part == x[:1]).all()) for part in x.split(training.CHUNK))


def _description(targets: Sequence[Target]) -> str:
    names = ", ".join(target.name for target in targets)
    return "the features' classifier" if names == LABEL else f"the judge of {names}"


def _of_features(data: Data) -> tuple[Recipe, Sequence[Target]]:
    """The judge whose features samples are compared in."""
    if data.train.label is None and (targets := truth_of(data)[0]):
        return training.IMAGES, targets
    return training.LABEL, [label_of(data)]


def features_of(data: Data, cache: Path) -> Judge:
    """The judge whose features samples are compared in, from the folder `cache`; see `judge`."""
    return judge(*_of_features(data), data, cache)


def cached_features(data: Data, cache: Path) -> Judge | None:
    """The judge of `features_of` if the folder `cache` holds it. Trains nothing."""
    try:
        return cached(*_of_features(data), data, cache)
    except UnavailableError:
        return None


def _all_targets(data: Data) -> list[tuple[Recipe, Sequence[Target]]]:
    """The recipe and the targets of each judge of a data set. Targets that do not vary are left out."""
    of_images, of_pixels = truth_of(data)
    found: list[tuple[Recipe, Sequence[Target]]] = [(training.IMAGES, of_images), (training.PIXELS, of_pixels)]
    with suppress(UnavailableError):  # no labels, or all of one class
        found.insert(0, (training.LABEL, [label_of(data)]))
    return [(recipe, targets) for recipe, targets in found if targets]


def judges_of(data: Data, cache: Path) -> list[Judge]:
    """All judges of a data set: of its label, of the classes and numbers in its truth, and of the maps; see `judge`."""
    return [judge(recipe, targets, data, cache) for recipe, targets in _all_targets(data)]


def cached_judges(data: Data, cache: Path) -> list[Judge] | None:
    """All judges of a data set if the folder `cache` holds them. Trains nothing."""
    found = [cached(recipe, targets, data, cache) for recipe, targets in _all_targets(data)]
    return None if None in found else [judge for judge in found if judge]


def judge(recipe: Recipe, targets: Sequence[Target], data: Data, cache: Path) -> Judge:
    """The judge of these targets, from the folder `cache`. If it is missing, it is trained and saved there.

    The training depends only on the data, not on the device or on other random numbers. Parallel jobs train it only
    once. Raises UnavailableError for training images that are all the same, and InputError if the folder cannot
    be written.
    """
    if all_equal(data.train.x):
        raise UnavailableError(f"all training images are the same: {_description(targets)} has nothing to learn from")
    if found := cached(recipe, targets, data, cache):
        return found
    path = _path(recipe, targets, data, cache)
    _loaded_files[path] = _trained_once(path, recipe, targets, data)
    return _loaded_files[path]


def cached(recipe: Recipe, targets: Sequence[Target], data: Data, cache: Path) -> Judge | None:
    """The judge of these targets if the folder `cache` holds it. Trains nothing."""
    path = _path(recipe, targets, data, cache)
    if path not in _loaded_files and (found := _load(path, recipe, targets, data)):
        _loaded_files[path] = found
    found = _loaded_files.get(path)
    return found and replace(found, targets=targets)  # these have the truth of the test images; the file has not


def _path(recipe: Recipe, targets: Sequence[Target], data: Data, cache: Path) -> Path:
    """The cache file: its name is a hash of the data, the truth and the recipe."""
    text = f"{data.fingerprint}/{data.binarize}/{data.grey_levels if data.dequantize else False}/{recipe.text}"
    digest = hashlib.blake2b(text.encode(), digest_size=5)
    if recipe is not training.LABEL:  # the fingerprint has the labels
        for target in targets:
            digest.update(f"/{target.name}/{target.outputs}".encode() + target.train.numpy().tobytes())
    return cache.resolve() / f"{digest.hexdigest()}.safetensors"


def _load(path: Path, recipe: Recipe, targets: Sequence[Target], data: Data) -> Judge | None:
    """The judge in a file; None if there is no file, or a damaged one."""
    if not path.is_file():
        return None
    network = training.untrained(recipe, data, targets)
    try:
        with safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in network.state_dict()})
            score = float(file.metadata()["accuracy"])
    except (SafetensorError, RuntimeError, KeyError, TypeError):  # damaged, or the file of another network
        return None
    return Judge(hash_of(network), score, network.eval(), targets)


def _trained_once(path: Path, recipe: Recipe, targets: Sequence[Target], data: Data) -> Judge:
    """Train and save a judge, unless another process has just done so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            found = _load(path, recipe, targets, data)
            if found is None:
                found = _train(recipe, targets, data)
                temporary = path.with_suffix(".part")
                temporary.write_bytes(save(found.network.state_dict(), {"accuracy": repr(found.score)}))
                os.replace(temporary, path)
            return found
    except OSError as error:
        raise InputError(
            f"cannot write {path.parent}: {error.strerror or error}; free some space or get permission there, "
            "or set paths.cache to another folder"
        ) from error


def _train(recipe: Recipe, targets: Sequence[Target], data: Data) -> Judge:
    print(f"training {_description(targets)}, once for this data set (up to a minute)", file=sys.stderr, flush=True)
    with one_thread():
        network = training.train(recipe, data, targets)
        return Judge(hash_of(network), training.score(network, recipe, data, targets), network, targets)
