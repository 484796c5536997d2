"""What a model makes at every value of a one-hot condition, and what judges read from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.core import UnavailableError
from bench.data import Data, Shapes, Split
from bench.evaluation.evidence import Answers, Traversals
from tests.evaluation.known_models import IdentityAutoencoder, Untrained
from tests.evaluation.test_evaluate import images_of, measure

N, AGES = 300, 3


def portraits() -> Data:
    """Images of one shade. The upper half shows the age, 0, 1 or 2, as 0.2, 0.4 or 0.6, the lower half the gender.

    Conditions: both, one-hot, and the number of the image.
    """
    generator = torch.Generator().manual_seed(0)
    age, gender = torch.arange(N) % AGES, torch.arange(N) // AGES % 2
    x = 0.01 * torch.rand(N, 1, 8, 8, generator=generator)
    x[:, :, :4] += (0.2 + 0.2 * age).view(-1, 1, 1, 1)
    x[:, :, 4:] += (0.2 + 0.4 * gender).view(-1, 1, 1, 1)
    conditions = {
        "age": torch.eye(AGES, dtype=torch.bool)[age],
        "gender": torch.eye(2, dtype=torch.bool)[gender],
        "number": torch.arange(N)[:, None] / N,
    }
    truth = {"age": age.float(), "gender": gender}
    split = Split((255 * x).byte(), conditions=conditions, truth=truth)
    shapes = Shapes((1, 8, 8), conditions={name: tuple(part.shape[1:]) for name, part in conditions.items()})
    vocabulary = {"age": ("young", "adult", "old"), "gender": ("male", "female")}
    return Data(split, split, split, shapes, 256, "none", False, "portraits", vocabulary=vocabulary)


class Ageing(Untrained):
    """Paints the age that it is given, and keeps the lower half of the input. reach: of the change of age."""

    def __init__(self, reach: float = 1.0):
        super().__init__()
        self.reach = reach

    def translate(self, batch, draws):
        age = 1 + self.reach * (batch.conditions["age"] @ torch.tensor([-1.0, 0.0, 1.0]))
        made = batch.input.clone()
        made[:, :, :4] = (0.2 + 0.2 * age).view(-1, 1, 1, 1)
        return made


def test_every_value_of_each_one_hot_condition_in_turn():
    images = images_of(portraits())
    found = Traversals(Answers(Ageing(), images, samples=2, seed=0)).traversals
    assert set(found) == {"age", "gender"} and found["gender"].shape == (N, 2, 1, 8, 8)
    assert found["age"].shape == (N, AGES, 1, 8, 8)
    for k in range(AGES):
        torch.testing.assert_close(found["age"][:, k, 0, 0, 0], torch.full((N,), 0.2 + 0.2 * k))
        assert torch.equal(found["age"][:, k, :, 4:], images.x[images.subset][:, :, 4:])
    own = images.test.conditions["age"].argmax(1)[images.subset]  # another condition changes nothing here
    torch.testing.assert_close(found["gender"][:, 1, 0, 0, 0], 0.2 + 0.2 * own)


def test_chunks_do_not_change_traversals(monkeypatch):
    whole = Traversals(Answers(Ageing(), images_of(portraits()), samples=2, seed=0)).traversals["age"]
    monkeypatch.setattr("bench.evaluation.evidence.answers.CHUNK", 7)
    parts = Traversals(Answers(Ageing(), images_of(portraits()), samples=2, seed=0)).traversals["age"]
    assert torch.equal(whole, parts)


def test_a_condition_that_the_data_lack_is_named():
    with pytest.raises(UnavailableError, match="no pose in the one-hot conditions of the data set"):
        Traversals(Answers(Ageing(), images_of(portraits()), samples=2, seed=0)).traversals["pose"]


@pytest.mark.parametrize(("reach", "slope"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_judges_read_the_age_that_a_model_paints(reach, slope):
    entries = measure(Ageing(reach), portraits(), ["age_correlation", "age_slope", "age_error", "identity_kept"])
    assert entries["age_slope"]["value"] == pytest.approx(slope, abs=0.1)
    assert entries["age_correlation"]["value"] == pytest.approx(float(reach > 0), abs=0.05)
    assert entries["age_correlation"]["floor"] > 0.95 and "judges" in entries["age_correlation"]["details"]
    assert entries["age_error"]["value"] == pytest.approx(2 / 3 * (1 - reach), abs=0.1)
    assert entries["identity_kept"]["value"] > 0.95


def test_a_model_without_the_condition_ignores_it():
    entries = measure(IdentityAutoencoder(), portraits(), ["age_correlation", "age_slope", "aged_psnr"])
    assert entries["age_correlation"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert entries["age_slope"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert entries["aged_psnr"]["reason"] == "there is no aged in the truth of the data set"


def test_data_without_the_condition_are_not_judged():
    data = portraits()
    bare = replace(data, **{part: getattr(data, part)._replace(conditions={}) for part in ("train", "test")})
    entries = measure(IdentityAutoencoder(), bare, ["age_correlation", "age_probe_accuracy"])
    assert {entry["reason"] for entry in entries.values()} == {"there is no age in the conditions of the data set"}
