"""A trained model in the user's hands, with sources and conditions."""

from __future__ import annotations

import pytest
import torch

from bench.core import InputError, Model
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
