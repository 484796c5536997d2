"""Metrics of age in closed form: four faces in three groups that stand for the ages 0, 1 and 3."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import summarise
from bench.metrics.ages import (
    age_correlation,
    age_error,
    age_leak_db,
    age_probe_accuracy,
    age_slope,
    aged_psnr,
    identity_kept,
)
from bench.metrics.judged import Judgement

WANTED, FACES = torch.tensor([0.0, 1.0, 3.0]), 4
GROUP = torch.tensor([0, 1, 2, 2])
TRAIN = {
    "train_conditions": {"age": torch.eye(3, dtype=torch.bool)[torch.tensor([0, 0, 1, 2])]},
    "train_truth": {"age": torch.tensor([-0.5, 0.5, 1.0, 3.0])},
    "vocabulary": {"age": ("young", "adult", "old")},
}
TRUE_AGE = WANTED[GROUP][:, None]
CONDITIONS, SUBSET = {"age": torch.eye(3)[GROUP]}, torch.arange(FACES)


def judged(ages: Tensor, **others: Judgement) -> dict[str, dict[str, Judgement]]:
    """ages: [FACES, 3], read from translations; the judge reads the ages of real faces without an error."""
    return {"age": {"age": Judgement(ages[..., None], TRUE_AGE, TRUE_AGE.mean(0).expand(FACES, 1), TRUE_AGE), **others}}


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.0), (0.5, 2.0), (-1.0, 0.0)])
def test_ages_that_are_a_linear_function_of_the_requested_ages(scale, shift):
    ages = judged((scale * WANTED + shift).expand(FACES, 3))
    correlation, error = age_correlation(ages, **TRAIN), age_error(ages, **TRAIN)
    assert correlation.value == pytest.approx(1.0 if scale > 0 else -1.0) and correlation.floor == pytest.approx(1.0)
    torch.testing.assert_close(age_slope(ages, **TRAIN), torch.full((FACES,), scale, dtype=torch.float64))
    assert error.value == pytest.approx((scale * WANTED + shift - WANTED).abs().mean().item()) and error.floor == 0


def test_a_model_that_ignores_the_age_has_no_correlation():
    copied = judged(TRUE_AGE.expand(FACES, 3))
    assert age_correlation(copied, **TRAIN).value == pytest.approx(0.0, abs=1e-6)
    assert summarise(age_slope(copied, **TRAIN)).value == pytest.approx(0.0, abs=1e-6)


def test_a_judge_that_cannot_read_ages_is_not_used():
    weak = judged(WANTED.expand(FACES, 3))["age"]["age"]._replace(real=TRUE_AGE.flip(0))
    with pytest.raises(UnavailableError, match="age has a score of"):
        age_correlation({"age": {"age": weak}}, **TRAIN)


@pytest.mark.parametrize("metric", [age_correlation, age_slope, age_error])
def test_a_group_without_training_faces_has_no_age(metric):
    groups = TRAIN["train_conditions"]["age"] & torch.tensor([True, True, False])
    train = TRAIN | {"train_conditions": {"age": groups}}
    with pytest.raises(UnavailableError, match="^no training example is in an age group that is asked for: old$"):
        metric(judged(WANTED.expand(FACES, 3)), **train)
    with pytest.raises(UnavailableError, match="asked for: 2$"):
        metric(judged(WANTED.expand(FACES, 3)), **train | {"vocabulary": {}})


@pytest.mark.parametrize("traversals", [{}, {"gender": {}}, {"age": {}}])
def test_data_without_ages_have_no_correlation(traversals):
    with pytest.raises(UnavailableError, match="no age as both a one-hot condition and a number"):
        age_correlation(traversals, **TRAIN)


def faces() -> tuple[Tensor, dict[str, Tensor]]:
    """x [4, 1, 2, 2], and the true faces at each age: the grey level is 20 times the group above that of the face."""
    start = torch.tensor([10.0, 30.0, 50.0, 90.0])
    aged = (start[:, None] + 20 * torch.arange(3))[..., None, None, None].expand(FACES, 3, 1, 2, 2)
    return aged[SUBSET, GROUP] / 255, {"aged": aged.byte()}


def level(difference: float) -> float:
    return -20 * torch.tensor(difference / 255).log10().item()


def test_aged_psnr_is_over_other_ages_and_its_floor_copies():
    x, truth = faces()
    made = {"age": (truth["aged"].float() + 5) / 255}
    made["age"][SUBSET, GROUP] = 0.0  # the own age does not count
    value = aged_psnr(made, truth, CONDITIONS, SUBSET, x)
    near, far = level(20), level(40)
    assert value.value == pytest.approx(level(5), rel=1e-5)
    assert value.floor == pytest.approx((near + 3 * (near + far) / 2) / 4, rel=1e-5)


def test_the_leak_is_the_advantage_of_the_reconstruction_in_psnr():
    x, truth = faces()
    made = {"age": (truth["aged"].float() + 10) / 255}
    torch.testing.assert_close(age_leak_db(made, truth, CONDITIONS, SUBSET, x), torch.zeros(FACES), atol=1e-4, rtol=0)
    made["age"][SUBSET, GROUP] = x + 1 / 255
    expected = torch.full((FACES,), level(1) - level(10))
    torch.testing.assert_close(age_leak_db(made, truth, CONDITIONS, SUBSET, x), expected, atol=1e-3, rtol=0)


def test_a_subset_selects_the_truth_of_its_faces():
    x, truth = faces()
    rows = torch.tensor([2, 0])
    made = {"age": (truth["aged"][rows].float() + 5) / 255}
    assert aged_psnr(made, truth, CONDITIONS, rows, x).value == pytest.approx(level(5), rel=1e-5)


def test_faces_that_are_reproduced_exactly_have_no_psnr():
    x, truth = faces()
    with pytest.raises(UnavailableError, match="8 faces are reproduced exactly"):
        aged_psnr({"age": truth["aged"].float() / 255}, truth, CONDITIONS, SUBSET, x)


def test_a_probe_finds_the_age_in_a_code_and_chance_in_noise():
    generator = torch.Generator().manual_seed(0)
    group = {part: torch.eye(3)[torch.arange(900) % 3] for part in ("train", "test")}
    noise = {part: torch.randn(900, 4, generator=generator) for part in group}
    conditions = {"age": group["train"].bool()}, {"age": group["test"]}
    blind = age_probe_accuracy(noise["train"], conditions[0], noise["test"], conditions[1])
    codes = {part: torch.cat([noise[part], 9 * group[part]], 1) for part in group}
    seeing = age_probe_accuracy(codes["train"], conditions[0], codes["test"], conditions[1])
    assert seeing.value == 1.0 and seeing.floor == pytest.approx(1 / 3)
    assert abs(blind.value - 1 / 3) < 5 * (2 / 9 / 900) ** 0.5


def test_identity_is_read_at_other_ages():
    """A judge that reads genders without an error reads the wrong one at the last age, and weak judges do not count."""
    gender = torch.tensor([0, 1, 0, 1])
    answer = gender[:, None].repeat(1, 3)
    answer[:, 2] = 1 - gender
    kept = Judgement(answer, gender, torch.zeros(FACES, dtype=torch.long), gender)
    weak = kept._replace(real=1 - gender)
    ages = WANTED.expand(FACES, 3)
    value = identity_kept(judged(ages, gender=kept, race=weak), CONDITIONS, SUBSET)
    assert value.value == pytest.approx((0.5 + 0.5 + 1 + 1) / 4) and value.floor == 1.0
    with pytest.raises(UnavailableError, match="only the age"):
        identity_kept(judged(ages, race=weak), CONDITIONS, SUBSET)
