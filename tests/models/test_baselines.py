"""Baselines of translation, and super-resolution, which starts at one of them."""

from __future__ import annotations

import pytest
import torch

from bench.core import SkipError
from bench.data import Data, Shapes, Split
from bench.draws import Draws
from bench.engine.train import Budget
from bench.models.baselines import Bicubic, Identity, Mean, NearestNeighbour
from bench.models.enlarged import Enlarged
from tests.conftest import data_for, small_data, small_job, stack_of, trained


def pairs(n: int = 30) -> Data:
    """Sources of half the size of the images, and a condition."""
    generator = torch.manual_seed(0)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    source = torch.randint(0, 256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)
    split = Split(x, source=source, conditions={"palette": torch.rand(n, 6, 3, generator=generator)})
    return Data(split, split, split, Shapes((3, 8, 8), 0, (3, 4, 4), {"palette": (6, 3)}), 256, "none", False, "pairs")


def batch(data: Data):
    return data.read(data.test, Draws(0))


def test_identity_copies_sources_of_the_same_size_only():
    given = batch(small_data())
    assert torch.equal(Identity(small_data().shapes).translate(given, Draws(0)), given.input)
    with pytest.raises(SkipError, match=r"\(3, 4, 4\) and images \(3, 8, 8\) differ in shape"):
        Identity(pairs().shapes)


def test_bicubic_interpolation_keeps_constants_and_lines():
    model = Bicubic(pairs().shapes)
    ramp = torch.linspace(0.2, 0.8, 4).expand(1, 3, 4, 4)
    given = batch(pairs())
    made = model.translate(given._replace(input=ramp), Draws(0))
    torch.testing.assert_close(made[0, 0, 0, 2:6], torch.tensor([0.35, 0.45, 0.55, 0.65]), atol=0.01, rtol=0)
    assert made.shape == (1, 3, 8, 8)
    assert model.translate(given, Draws(0)).max() <= 1
    with pytest.raises(SkipError, match="differ in channels"):
        Bicubic(Shapes((3, 8, 8), 0, (1, 4, 4)))


def test_the_mean_is_that_of_the_training_images():
    data = pairs()
    model = Mean(data.shapes)
    model.fit(data, Draws(0))
    made = model.translate(batch(data), Draws(0))
    torch.testing.assert_close(made[7], data.train.x.float().mean(0) / 255)


def test_the_nearest_neighbour_of_a_training_example_is_that_example():
    data = pairs()
    model = NearestNeighbour(data.shapes, examples=30)
    model.fit(data, Draws(0))
    assert torch.equal(model.translate(batch(data), Draws(0)), batch(data).x)
    few = NearestNeighbour(data.shapes, examples=100)  # more than there are
    few.fit(data, Draws(0))
    assert torch.equal(few.translate(batch(data), Draws(0)), batch(data).x)


def test_without_sources_neighbours_are_nearest_in_conditions():
    data = pairs()
    split = data.test._replace(source=None)
    data = Data(split, split, split, data.shapes._replace(source=None), 256, "none", False, "conditions")
    model = NearestNeighbour(data.shapes, examples=30)
    model.fit(data, Draws(0))
    given = batch(data)
    other = given._replace(input=torch.rand_like(given.x))
    assert torch.equal(model.translate(other, Draws(0)), given.x)


def test_the_nearest_target_does_not_depend_on_what_models_read():
    data = pairs()
    model = NearestNeighbour(data.shapes, by="target", examples=30)
    model.fit(data, Draws(0))
    given = batch(data)
    other = given._replace(input=torch.rand_like(given.input), x=(given.x + 1 / 255).clamp(max=1))
    assert torch.equal(model.translate(other, Draws(0)), given.x)


def test_super_resolution_starts_at_bicubic_interpolation_and_learns():
    data = data_for("enlarged", 80)
    given, job = batch(data), small_job("enlarged")
    bicubic = Bicubic(data.shapes).translate(given, Draws(0))
    assert torch.equal(Enlarged(data.shapes).translate(given, Draws(0)), bicubic)
    stack = stack_of(job, shapes=data.shapes)
    rows = trained(job, stack, data, Budget(steps=60, batch_size=16))
    last = rows[-1][0]["loss/model"]
    assert last < 0.98 * (given.x - bicubic).square().flatten(1).sum(1).mean()


@pytest.mark.parametrize("added", [-2.0, 0.25, 2.0])
def test_super_resolution_is_clipped_in_translations_but_not_in_the_loss(added):
    data = pairs()
    given, model = batch(data), Enlarged(data.shapes)
    with torch.no_grad():
        model.network[-1].bias.fill_(added)
    unclipped = Bicubic(data.shapes).translate(given, Draws(0)) + added
    torch.testing.assert_close(model.translate(given, Draws(0)), unclipped.clamp(0, 1))
    loss = model.losses(given, Draws(0), ("model",)).players["model"]
    torch.testing.assert_close(loss, (given.x - unclipped).square().flatten(1).sum(1).mean())


def test_super_resolution_needs_sources_with_the_channels_of_the_images():
    with pytest.raises(SkipError, match="differ in channels"):
        Enlarged(Shapes((3, 8, 8), 0, (1, 4, 4)))
