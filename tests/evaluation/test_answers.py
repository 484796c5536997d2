"""Evidence of trained models' answers: at the decoder's output, of shifted and damaged images, of normal codes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

import bench.evaluation.evidence.answers
from bench.core import UnavailableError
from bench.evaluation.evidence import Answers, images_of
from bench.metrics import discover, summarise
from bench.metrics.learning import output_signal
from bench.metrics.likelihood import cross_entropy_gap, squared_error_gap
from tests.conftest import CACHE, MODELS, data_of, small_data, small_job, stack_of
from tests.evaluation.answering import Coder, Generator, LinearGaussian, digits
from tests.evaluation.test_evaluate import measured

NEW = ["first_order_ratio", "first_order_ratio_large", "output_signal", "squared_error_gap", "cross_entropy_gap"]
NEW += ["mmd_to_normal", "shift_over_damage", "shift_over_damage_pixels"]
NEW += ["relative_contrast", "relative_contrast_prior", "relative_contrast_pixels"]


def answers(model, data) -> Answers:
    return Answers(model.eval(), images_of(data, CACHE), samples=10, seed=0)


def built(name, *overrides):
    return stack_of(small_job(name, "mlp", "none", *overrides)).model.eval()


def gap(metric, given: Answers) -> float:
    pieces = {"log_likelihood_at_mean": given.log_likelihood_at_mean, "x": given.images.x, "x_mean": given.x_mean}
    return summarise(metric(**pieces)).value


@pytest.mark.parametrize(
    ("image", "size"), [((1, 28, 28), 1000), ((3, 32, 32), 1000), ((3, 128, 128), 62), ((3, 2048, 2048), 1)]
)
def test_chunks_of_large_images_are_small(image, size):
    data = SimpleNamespace(
        train=SimpleNamespace(x=torch.zeros(1)), test=SimpleNamespace(label=None), shapes=SimpleNamespace(image=image)
    )
    chunks = Answers(LinearGaussian(), SimpleNamespace(data=data), samples=10, seed=0).chunks("codes", 2500)
    assert [rows.stop - rows.start for rows, _ in chunks] == [size] * (2500 // size) + [2500 % size] * (2500 % size > 0)


@torch.no_grad()
def signal(model, data) -> tuple[float, Answers]:
    given = answers(model, data)
    return output_signal(output_gradient=given.output_gradient, output_error=given.output_error).value, given


# --- at the decoder's output


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
@pytest.mark.parametrize("data", [digits(), digits("dynamic")], ids=["grey", "binary"])
def test_the_output_signal_is_1_if_the_output_is_the_natural_parameter(likelihood, data):
    value, _ = signal(built("vae", f"likelihood={likelihood}"), data)
    assert value == pytest.approx(1, rel=1e-4 if likelihood == "continuous_bernoulli" else 1e-6)


@pytest.mark.parametrize("sigma", [1.0, 0.5])
def test_under_a_gaussian_the_output_signal_is_the_slope_of_the_mean(sigma):
    model = built("vae", "likelihood=gaussian", f"likelihood.sigma={sigma}")
    value, given = signal(model, digits())
    mean, error = given.x_mean, (given.images.x - given.x_mean).abs()
    rows = given.images.subset
    expected = (error * mean * (1 - mean))[rows].sum() / error[rows].sum() / sigma**2
    assert value == pytest.approx(expected.item(), rel=1e-4) and value * sigma**2 < 0.25
    torch.testing.assert_close(given.output_error, error[rows].flatten(1).sum(1), rtol=1e-4, atol=1e-4)
    straight = built("vae", "likelihood=gaussian", f"likelihood.sigma={sigma}", "likelihood.mean_activation=identity")
    assert signal(straight, digits())[0] == pytest.approx(1 / sigma**2, rel=1e-5)


def test_the_output_signal_of_a_laplace_is_that_of_the_sign_and_a_decoded_sigma_counts():
    value, given = signal(built("ae", "likelihood=laplace"), digits())
    mean, error = given.x_mean, (given.images.x - given.x_mean).abs()
    assert value == pytest.approx(((mean * (1 - mean)).sum() / error.sum()).item(), rel=1e-3)
    assert given.output_gradient.shape == (397,)
    value, _ = signal(built("ae", "likelihood=gaussian_pixelwise"), digits())
    assert 0 < value < math.inf


def test_the_gaps_tell_which_likelihood_it_is():
    """Rounding aside, of 64 pixels in single precision."""
    for name, of, other in (("gaussian", squared_error_gap, cross_entropy_gap),
                            ("bernoulli", cross_entropy_gap, squared_error_gap)):  # fmt: skip
        given = answers(built("vae", f"likelihood={name}"), digits())
        with torch.no_grad():
            assert gap(of, given) < 1e-4 and gap(other, given) > 1
    with torch.no_grad():
        assert gap(cross_entropy_gap, answers(built("vae", "likelihood=bernoulli"), digits("dynamic"))) < 1e-4
        model = LinearGaussian()  # of sigma = 1/2 around its own mean, see the metric's own test
        given = answers(model, digits())
        error = (given.images.x - given.x_mean).square().flatten(1).sum(1)
        expected = (1.5 * error - 64 * math.log(2)).abs().mean().item()
        assert gap(squared_error_gap, given) == pytest.approx(expected, rel=1e-4)


def test_a_model_that_decodes_without_its_likelihood_has_no_output_signal():
    class Unused(LinearGaussian):
        def __init__(self):
            super().__init__()
            self.likelihood = built("vae").likelihood

    for model, reason in (
        (Coder(), "no likelihood"),
        (Generator(), "no likelihood"),
        (Unused(), "without its likelihood"),
    ):
        found = measured(model, digits(), ["output_signal"])["output_signal"]
        assert found["value"] is None and reason in found["reason"]


# --- other images, other codes


@pytest.fixture(scope="module")
def moved():
    return images_of(data_of(torch.ones(400, 2, 7, 9)), CACHE)


def test_images_are_shifted_by_two_pixels_in_all_four_directions(moved):
    shifted = moved.subset_shifted
    assert shifted.shape == (400, 2, 7, 9) and shifted[:, 0].equal(shifted[:, 1])
    kinds = shifted.flatten(1).unique(dim=0)
    rows, columns = torch.ones(7, 9), torch.ones(7, 9)
    rows[:2], columns[:, :2] = 0, 0
    expected = torch.stack([rows, rows.flip(0), columns, columns.flip(1)]).repeat(1, 2, 1).flatten(1)
    assert sorted(kinds.tolist()) == sorted(expected.tolist())
    inside = images_of(small_data(), CACHE)
    whole = torch.nn.functional.pad(inside.subset_x, [2] * 4)
    ways = torch.stack([whole.roll(step, axis) for step, axis in ((2, 2), (-2, 2), (2, 3), (-2, 3))])[..., 2:-2, 2:-2]
    assert (ways == inside.subset_shifted).flatten(2).all(2).sum(0).eq(1).all()


def test_images_are_damaged_in_a_quarter_of_their_area_and_always_the_same(moved):
    lost = (moved.subset_damaged == 0).flatten(1).float().mean(1)
    torch.testing.assert_close(lost, torch.full((400,), 4 * 4 / (7 * 9)))  # sides of 7 / 2 and 9 / 2, rounded
    again = images_of(data_of(torch.ones(400, 2, 7, 9)), CACHE)
    assert again.subset_damaged.equal(moved.subset_damaged) and again.subset_shifted.equal(moved.subset_shifted)


@pytest.mark.parametrize(("side", "there"), [(4, False), (5, True)])
def test_points_and_tiny_images_cannot_be_shifted(side, there):
    images = images_of(data_of(torch.rand(10, 1, 9, side)), CACHE)
    if there:
        assert images.subset_shifted.shape == (10, 1, 9, 5)
    else:
        with pytest.raises(UnavailableError, match="fewer than 5 pixels"):
            _ = images.subset_shifted


def test_an_identity_code_moves_as_pixels_do_and_a_conditional_model_reads_the_label():
    found = measured(Coder(), digits(), ["shift_over_damage", "shift_over_damage_pixels"])
    assert found["shift_over_damage"]["value"] == pytest.approx(found["shift_over_damage_pixels"]["value"], rel=1e-6)
    assert 1 < found["shift_over_damage"]["value"] < 3
    given, data = answers(built("cvae"), digits()), digits()
    rows = given.images.subset
    with torch.no_grad():
        code = given.subset_shifted_codes
        batch = bench.core.Batch(given.images.subset_shifted, given.images.subset_shifted, data.test.label[rows])
        torch.testing.assert_close(code, given.model.encode(batch).mean)
        other = given.model.encode(batch._replace(label=(batch.label + 1) % 10)).mean
    assert not torch.allclose(code, other)


def test_normal_codes_are_the_same_for_all_models_of_so_many_latents():
    with torch.no_grad():
        first, second = (answers(built("vae", *more), digits()) for more in ((), ("model.beta=2",)))
        codes = first.subset_normal_codes
        assert codes.shape == (2, 397, 4) and codes.equal(second.subset_normal_codes)
        assert not codes[0].equal(codes[1]) and codes.std().item() == pytest.approx(1, abs=0.05)
    found = measured(Coder(), digits(), ["mmd_to_normal", "mmd_to_prior"])
    assert found["mmd_to_normal"]["value"] > 0.1 > abs(found["mmd_to_normal"]["floor"])
    assert "no prior" in found["mmd_to_prior"]["reason"]


# --- all of them, of all models


def untouched(model):
    modes = {path: module.training for path, module in model.named_modules()}
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    return modes, hooks, {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_all_models_have_numbers_or_reasons_and_stay_as_they_are(name, monkeypatch):
    model = stack_of(small_job(name, "mlp", "batch")).model.eval()
    modes, hooks, before = untouched(model)
    found = measured(model, digits(), NEW)
    known = discover()
    for metric in NEW:
        entry = found[metric]
        assert entry["better"] == known[metric].better and not str(entry["reason"]).startswith("failed"), entry[
            "reason"
        ]
        assert (entry["value"] is not None) or entry["reason"], metric
    there = {metric for metric in NEW if found[metric]["value"] is not None}
    assert {"shift_over_damage_pixels", "relative_contrast_pixels"} <= there
    if name in ("ae", "vae", "cvae", "iwae", "wae_mmd", "cae"):
        assert there >= set(NEW) - {"relative_contrast_prior"}
    if name == "gan":
        assert there == {"relative_contrast_prior", "shift_over_damage_pixels", "relative_contrast_pixels"}
    now = untouched(model)
    assert now[:2] == (modes, hooks) and all(value.equal(before[key]) for key, value in now[2].items())
    monkeypatch.setattr(bench.evaluation.evidence.answers, "CHUNK", 7)
    again = measured(model, digits(), NEW)
    for metric in there:
        assert again[metric]["value"] == pytest.approx(found[metric]["value"], rel=1e-4, abs=1e-5), metric
