"""A trained model in the user's hands, with sources and conditions."""

from __future__ import annotations

import inspect

import pytest
import torch

from bench.core import InputError, Model
from bench.datasets.conditions import check_name
from bench.parts.likelihoods import PointObservation
from bench.parts.priors import Normal
from bench.runs.trained import Trained

DATA = {"image": [3, 4, 4], "classes": 0, "source": [3, 2, 2], "conditions": {"shade": [1]}}


class Shading(Model):
    """Answers with the shade and the mean of the source, and with noise of the draws in the last channel."""

    def translate(self, batch, draws):
        made = batch.x + batch.conditions["shade"].view(-1, 1, 1, 1) + batch.input.mean((1, 2, 3)).view(-1, 1, 1, 1)
        return torch.cat([made[:, :2], draws.uniform("noise", made[:, :1].shape)], 1)


def test_it_translates_under_conditions():
    source, shade = torch.rand(5, 3, 2, 2), torch.rand(5, 1)
    trained = Trained(Shading(), {"data": DATA})
    made = trained.translate(source, shade=shade)
    assert made.shape == (5, 3, 4, 4)
    expected = (shade[:, 0] + source.mean((1, 2, 3))).view(5, 1, 1, 1).expand(5, 2, 4, 4)
    torch.testing.assert_close(made[:, :2], expected)
    assert torch.equal(made, trained.translate(source, shade=shade))
    assert not torch.equal(made, trained.translate(source, seed=1, shade=shade))


def test_missing_conditions_are_named():
    with pytest.raises(InputError, match="^this model was trained with conditions: pass shade$"):
        Trained(Shading(), {"data": DATA}).translate(torch.rand(5, 3, 2, 2))


class Aged(Model):
    """A code decodes to itself times the age."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.prior = Normal()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def decode(self, z, batch=None):
        return PointObservation((self.scale * z * batch.conditions["age"]).view(-1, 1, 1, 2))


AGED = {"image": [1, 1, 2], "classes": 0, "conditions": {"age": [1], "gender": [2]}}


def test_it_decodes_and_samples_under_the_conditions_that_the_decoder_reads():
    trained, z, age = Trained(Aged(), {"data": AGED}), torch.rand(5, 2), torch.rand(5, 1)
    torch.testing.assert_close(trained.decode(z, age=age), (z * age).view(5, 1, 1, 2))
    codes = trained.sample(5, seed=3, age=torch.ones(5, 1))
    assert codes.std() > 0.1 and not torch.equal(codes, trained.sample(5, seed=4, age=torch.ones(5, 1)))
    torch.testing.assert_close(trained.sample(5, seed=3, age=age), codes * age.view(5, 1, 1, 1))


def test_conditions_that_the_decoder_reads_are_asked_for():
    trained = Trained(Aged(), {"data": AGED})
    for ask in (lambda: trained.decode(torch.rand(5, 2)), lambda: trained.sample(5)):
        with pytest.raises(InputError, match="^this model was trained with conditions: pass age, gender$"):
            ask()


def test_a_decoder_that_reads_no_conditions_needs_none():
    class Plain(Aged):
        def decode(self, z, batch=None):
            return PointObservation(z.view(-1, 1, 1, 2))

    assert Trained(Plain(), {"data": AGED}).decode(torch.rand(5, 2)).shape == (5, 1, 1, 2)


@pytest.mark.parametrize("method", [Trained.decode, Trained.sample, Trained.translate])
def test_no_condition_has_the_name_of_another_argument(method):
    others = inspect.signature(method).parameters.keys() - {"conditions"}
    for name in others:
        with pytest.raises(InputError, match="that name has another meaning; give it another name, such as given_"):
            check_name(f"conditions_train/{name}", name)
