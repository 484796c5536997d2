"""Waves and volumes: every metric has a finite value or a reason, and none that is for images has a value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.core import SkipError
from bench.data import KINDS, Data
from bench.draws import Draws
from bench.evaluation.judges.networks import Classifier, pooled
from bench.evaluation.judges.training import shifted, softened
from bench.evaluation.pictures import pictures
from bench.metrics import discover
from bench.parts.corruptions import Gaussian
from bench.runs.config import check_combination
from tests.conftest import data_of, job_of, stack_of
from tests.evaluation.test_degenerate import ALL
from tests.evaluation.test_evaluate import images_of, measure

pytestmark = pytest.mark.usefixtures("short_pilot")

SHAPES = {1: (1, 24), 2: (1, 8, 6), 3: (1, 6, 5, 8)}
sides = pytest.mark.parametrize("sides", SHAPES, ids=KINDS.get)


def examples(sides: int) -> Data:
    """Two classes, dark and bright in the first half."""
    label, shape = torch.arange(60) % 2, SHAPES[sides]
    x = Draws(0).uniform(f"kinds {sides}", (60, *shape)) / 2
    x[label == 1, :, : shape[1] // 2] += 0.5
    return replace(data_of(x, label), fingerprint=f"kinds {sides}")


@sides
@pytest.mark.parametrize("name", ["vae", "gan", "pca", "mean"])
def test_every_metric_has_a_finite_value_or_a_reason(sides, name):
    data = examples(sides)
    model = stack_of(job_of(f"model={name}", "network=strided", "network.hidden=4"), shapes=data.shapes).unstack()[0]
    if not model.players:
        model.fit(data, Draws(0))
    entries = measure(model, data, ALL, samples=40)
    reasons = {key: str(entry["reason"]) for key, entry in entries.items() if entry["value"] is None}
    assert not [reason for reason in reasons.values() if reason.startswith("failed")]
    for key, metric in discover().items():
        if key in ALL and sides not in metric.sides:
            assert reasons[key] == f"this metric is for {_meant(metric)}, and these are {KINDS[sides]}"


def _meant(metric) -> str:
    return " and ".join(KINDS[number] for number in sorted(metric.sides))


@sides
@pytest.mark.parametrize("name", ["vae", "gan"])
def test_pictures_are_images_of_every_kind(sides, name):
    data = examples(sides)
    job = job_of(f"model={name}", "network=mlp", "model.latent_dim=2")
    model = stack_of(job, shapes=data.shapes).unstack()[0]
    arrays = pictures(model, images_of(data), corruption=Gaussian(0.1), seed=0)
    assert {"input", "samples", "manifold"} <= arrays.keys()
    assert ("arithmetic" in arrays) == (name == "vae") and ("voxels/output" in arrays) == (name == "vae" and sides == 3)
    assert ("voxels/samples" in arrays) == (sides == 3)
    for key in arrays.keys() - {"codes", "labels", "manifold_codes", "values/arithmetic"}:
        if key.startswith("voxels/"):
            continue
        lead = 2 if key in ("manifold", "interpolation_latent", "interpolation_pixel", "arithmetic") else 1
        assert arrays[key].dtype == np.uint8 and arrays[key].ndim == lead + 3, key
        assert arrays[key].shape[lead] in (1, 3) and np.ptp(arrays[key]) > 0, key


@sides
def test_the_features_classifier_tells_classes_apart(sides):
    data = examples(sides)
    entries = measure(stack_of(job_of("model=vae", "network=mlp"), shapes=data.shapes).unstack()[0], data, ALL)
    assert entries["frechet_distance"]["details"]["features_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((1, 28, 28), 49),
        ((3, 64, 64), 64),
        ((1, 4096), 64),
        ((1, 16000), 63),
        ((1, 16, 16, 16), 64),
        ((1, 32, 32, 32), 64),
    ],
)
def test_classifiers_have_about_as_many_positions_for_each_kind(shape, last):
    network = Classifier(shape, 3)
    assert network.hidden[7].in_features == 64 * last
    assert network(torch.rand(2, *shape)).shape == (2, 3)


@sides
def test_examples_are_averaged_down(sides):
    size = {1: 8192, 2: 128, 3: 32}[sides]
    x = torch.rand(2, 1, *[size] * sides)
    small = pooled(x)
    assert small.shape[2:] == (size // 2,) * sides
    torch.testing.assert_close(small.mean(), x.mean())


@sides
def test_augmentation_shifts_and_blurs_along_every_side(sides):
    """A spot in the middle moves by at most one pixel; all neighbours are reached; its mass is kept."""
    x = torch.zeros(500, 1, *[9] * sides)
    x[(slice(None), 0, *[4] * sides)] = 1.0
    moved = shifted(x, torch.Generator().manual_seed(0))
    assert (moved.flatten(1).sum(1) == 1).all()
    assert len(moved.flatten(1).argmax(1).unique()) == 3**sides
    blurred = softened(x, torch.Generator().manual_seed(0))
    assert (blurred.mean((0, 1)) > 0.005).sum() == 3**sides


@pytest.mark.parametrize("name", ["bicubic", "enlarged"])
@pytest.mark.parametrize("sides", [1, 3])
def test_models_of_images_refuse_other_examples(name, sides):
    with pytest.raises(SkipError, match="is for images"):
        check_combination(
            job_of(f"model={name}", "dataset=tiny_faces"),
            examples(sides).shapes._replace(source=SHAPES[sides]),
        )
