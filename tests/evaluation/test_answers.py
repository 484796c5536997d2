"""Evidence from the outputs of models: at the decoder's output, for shifted and damaged images, and normal codes."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import bench.evaluation.evidence.answers
from bench.core import UnavailableError
from bench.evaluation.evidence import Answers, Stages, Translations, images_of
from bench.metrics import discover, summarise
from bench.metrics.learning import output_signal
from bench.metrics.likelihood import cross_entropy_gap, squared_error_gap
from tests.conftest import CACHE, MODELS, OF_WAVES, data_for, data_of, data_set_for, small_data, small_job, stack_of
from tests.evaluation.known_models import Generator, IdentityAutoencoder, LinearGaussian, digits
from tests.evaluation.test_evaluate import measure

NAMES = ["first_order_ratio", "first_order_ratio_large", "output_signal", "squared_error_gap", "cross_entropy_gap"]
NAMES += ["mmd_to_normal", "shift_over_damage", "shift_over_damage_pixels"]
NAMES += ["relative_contrast", "relative_contrast_prior", "relative_contrast_pixels"]


def answers_of(model, data) -> Answers:
    return Answers(model.eval(), images_of(data, CACHE), samples=10, seed=0)


def build(name, *overrides):
    return stack_of(small_job(name, "mlp", "none", *overrides)).model.eval()


def made_by(answers: Answers) -> torch.Tensor:
    return Translations(answers.images, Stages(answers, answers.images.test)).x_mean


def gap(metric, answers: Answers) -> float:
    evidence = {
        "log_likelihood_at_mean": answers.log_likelihood_at_mean,
        "x": answers.images.x,
        "x_mean": made_by(answers),
    }
    return summarise(metric(**evidence)).value


@pytest.mark.parametrize(
    ("image", "size"), [((1, 28, 28), 1000), ((3, 32, 32), 1000), ((3, 128, 128), 62), ((3, 2048, 2048), 1)]
)
def test_chunks_of_large_images_are_small(image, size):
    data = SimpleNamespace(train=SimpleNamespace(x=torch.zeros(1)), shapes=SimpleNamespace(x=image))
    chunks = Answers(LinearGaussian(), SimpleNamespace(data=data), samples=10, seed=0).chunks("codes", 2500)
    assert [rows.stop - rows.start for rows, _ in chunks] == [size] * (2500 // size) + [2500 % size] * (2500 % size > 0)


@torch.no_grad()
def output_signal_of(model, data) -> tuple[float, Answers]:
    answers = answers_of(model, data)
    return output_signal(output_gradient=answers.output_gradient, output_error=answers.output_error).value, answers


# --- at the decoder's output


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
@pytest.mark.parametrize("data", [digits(), digits("dynamic")], ids=["grey", "binary"])
def test_the_output_signal_is_1_if_the_output_is_the_natural_parameter(likelihood, data):
    value, _ = output_signal_of(build("vae", f"likelihood={likelihood}"), data)
    assert value == pytest.approx(1, rel=1e-4 if likelihood == "continuous_bernoulli" else 1e-6)


@pytest.mark.parametrize("sigma", [1.0, 0.5])
def test_the_output_signal_of_a_gaussian_is_the_slope_of_its_mean_activation(sigma):
    model = build("vae", "likelihood=gaussian", f"likelihood.sigma={sigma}")
    value, answers = output_signal_of(model, digits())
    mean, error = made_by(answers), (answers.images.x - made_by(answers)).abs()
    rows = answers.images.subset
    expected = (error * mean * (1 - mean))[rows].sum() / error[rows].sum() / sigma**2
    assert value == pytest.approx(expected.item(), rel=1e-4) and value * sigma**2 < 0.25
    torch.testing.assert_close(answers.output_error, error[rows].flatten(1).sum(1), rtol=1e-4, atol=1e-4)
    identity = build("vae", "likelihood=gaussian", f"likelihood.sigma={sigma}", "likelihood.mean_activation=identity")
    assert output_signal_of(identity, digits())[0] == pytest.approx(1 / sigma**2, rel=1e-5)


def test_the_output_signal_of_a_laplace_and_of_a_decoded_sigma():
    value, answers = output_signal_of(build("ae", "likelihood=laplace"), digits())
    mean, error = made_by(answers), (answers.images.x - made_by(answers)).abs()
    assert value == pytest.approx(((mean * (1 - mean)).sum() / error.sum()).item(), rel=1e-3)
    assert answers.output_gradient.shape == (397,)
    value, _ = output_signal_of(build("ae", "likelihood=gaussian_pixelwise"), digits())
    assert 0 < value < math.inf


def test_each_gap_is_zero_only_for_its_own_likelihood():
    """Up to the rounding of 64 pixels in single precision."""
    for name, own, other in (("gaussian", squared_error_gap, cross_entropy_gap),
                            ("bernoulli", cross_entropy_gap, squared_error_gap)):  # fmt: skip
        answers = answers_of(build("vae", f"likelihood={name}"), digits())
        with torch.no_grad():
            assert gap(own, answers) < 1e-4 and gap(other, answers) > 1
    with torch.no_grad():
        assert gap(cross_entropy_gap, answers_of(build("vae", "likelihood=bernoulli"), digits("dynamic"))) < 1e-4
        model = LinearGaussian()  # sigma = 1/2 around its own mean; see the test of the metric
        answers = answers_of(model, digits())
        error = (answers.images.x - made_by(answers)).square().flatten(1).sum(1)
        expected = (1.5 * error - 64 * math.log(2)).abs().mean().item()
        assert gap(squared_error_gap, answers) == pytest.approx(expected, rel=1e-4)


def test_a_model_that_decodes_without_its_likelihood_has_no_output_signal():
    class Unused(LinearGaussian):
        def __init__(self):
            super().__init__()
            self.likelihood = build("vae").likelihood

    for model, reason in (
        (IdentityAutoencoder(), "no likelihood"),
        (Generator(), "no likelihood"),
        (Unused(), "without its likelihood"),
    ):
        entry = measure(model, digits(), ["output_signal"])["output_signal"]
        assert entry["value"] is None and reason in entry["reason"]


# --- other images, other codes


@pytest.fixture(scope="module")
def constant_images():
    return images_of(data_of(torch.ones(400, 2, 7, 9)), CACHE)


def test_images_are_shifted_by_two_pixels_in_all_four_directions(constant_images):
    shifted = constant_images.subset_shifted
    assert shifted.shape == (400, 2, 7, 9) and shifted[:, 0].equal(shifted[:, 1])
    distinct = shifted.flatten(1).unique(dim=0)
    rows, columns = torch.ones(7, 9), torch.ones(7, 9)
    rows[:2], columns[:, :2] = 0, 0
    expected = torch.stack([rows, rows.flip(0), columns, columns.flip(1)]).repeat(1, 2, 1).flatten(1)
    assert sorted(distinct.tolist()) == sorted(expected.tolist())
    images = images_of(small_data(), CACHE)
    padded = torch.nn.functional.pad(images.subset_x, [2] * 4)
    shifts = torch.stack([padded.roll(step, axis) for step, axis in ((2, 2), (-2, 2), (2, 3), (-2, 3))])[
        ..., 2:-2, 2:-2
    ]
    assert (shifts == images.subset_shifted).flatten(2).all(2).sum(0).eq(1).all()


def test_the_same_quarter_of_each_image_is_damaged_every_time(constant_images):
    damaged_share = (constant_images.subset_damaged == 0).flatten(1).float().mean(1)
    torch.testing.assert_close(damaged_share, torch.full((400,), 4 * 4 / (7 * 9)))  # sides of 7 / 2 and 9 / 2, rounded
    again = images_of(data_of(torch.ones(400, 2, 7, 9)), CACHE)
    assert again.subset_damaged.equal(constant_images.subset_damaged) and again.subset_shifted.equal(
        constant_images.subset_shifted
    )


@pytest.mark.parametrize(("side", "is_available"), [(4, False), (5, True)])
def test_points_and_tiny_images_cannot_be_shifted(side, is_available):
    images = images_of(data_of(torch.rand(10, 1, 9, side)), CACHE)
    if is_available:
        assert images.subset_shifted.shape == (10, 1, 9, 5)
    else:
        with pytest.raises(UnavailableError, match="fewer than 5 pixels"):
            _ = images.subset_shifted


def test_identity_codes_move_like_pixels_and_a_conditional_encoder_gets_the_label():
    entries = measure(IdentityAutoencoder(), digits(), ["shift_over_damage", "shift_over_damage_pixels"])
    assert entries["shift_over_damage"]["value"] == pytest.approx(
        entries["shift_over_damage_pixels"]["value"], rel=1e-6
    )
    assert 1 < entries["shift_over_damage"]["value"] < 3
    answers, data = answers_of(build("cvae"), digits()), digits()
    rows = answers.images.subset
    with torch.no_grad():
        codes = answers.subset_shifted_codes
        batch = bench.core.Batch(answers.images.subset_shifted, answers.images.subset_shifted, data.test.label[rows])
        torch.testing.assert_close(codes, answers.model.encode(batch).mean)
        other = answers.model.encode(batch._replace(label=(batch.label + 1) % 10)).mean
    assert not torch.allclose(codes, other)


def test_normal_codes_are_the_same_for_all_models_with_as_many_latents():
    with torch.no_grad():
        first, second = (answers_of(build("vae", *more), digits()) for more in ((), ("model.beta=2",)))
        codes = first.subset_normal_codes
        assert codes.shape == (2, 397, 4) and codes.equal(second.subset_normal_codes)
        assert not codes[0].equal(codes[1]) and codes.std().item() == pytest.approx(1, abs=0.05)
    entries = measure(IdentityAutoencoder(), digits(), ["mmd_to_normal", "mmd_to_prior"])
    assert entries["mmd_to_normal"]["value"] > 0.1 > abs(entries["mmd_to_normal"]["floor"])
    assert "no prior" in entries["mmd_to_prior"]["reason"]


# --- all of these metrics, for all models


def state_of(model):
    modes = {path: module.training for path, module in model.named_modules()}
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    return modes, hooks, {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_all_models_give_numbers_or_reasons_and_stay_unchanged(name, monkeypatch):
    model = stack_of(small_job(name, "mlp", "batch")).model.eval()
    modes, hooks, before = state_of(model)
    is_of_images = data_set_for(name) is None and name not in OF_WAVES
    data = digits() if is_of_images else replace(data_for(name, 120), fingerprint=name)
    entries = measure(model, data, NAMES)
    known = discover()
    for metric in NAMES:
        entry = entries[metric]
        assert entry["better"] == known[metric].better and not str(entry["reason"]).startswith("failed"), entry[
            "reason"
        ]
        assert (entry["value"] is not None) or entry["reason"], metric
    available = {metric for metric in NAMES if entries[metric]["value"] is not None}
    assert "relative_contrast_pixels" in available
    assert ("shift_over_damage_pixels" in available) == (len(data.shapes.x) == 3)
    if name in ("ae", "vae", "cvae", "iwae", "wae_mmd", "cae"):
        assert available >= set(NAMES) - {"relative_contrast_prior"}
    if name == "gan":
        assert available == {"relative_contrast_prior", "shift_over_damage_pixels", "relative_contrast_pixels"}
    after = state_of(model)
    assert after[:2] == (modes, hooks) and all(value.equal(before[key]) for key, value in after[2].items())
    monkeypatch.setattr(bench.evaluation.evidence.answers, "CHUNK", 7)
    again = measure(model, data, NAMES)
    for metric in available:
        assert again[metric]["value"] == pytest.approx(entries[metric]["value"], rel=1e-4, abs=1e-5), metric
