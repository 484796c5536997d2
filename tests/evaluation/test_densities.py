"""log p(x): the order of its bounds, for models where log p(x) itself is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bench.data import Split
from bench.draws import Draws
from bench.evaluation.evaluate import evaluate
from bench.evaluation.evidence import Answers, Densities
from bench.evaluation.settings import EvaluationSettings
from bench.parts.corruptions import Identity
from bench.parts.likelihoods import Bernoulli, Gaussian, GaussianObservation, PointObservation
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import SwissRoll
from tests.evaluation.known_models import SIGMA, Conditional, Generator, IdentityAutoencoder, LinearGaussian, digits
from tests.evaluation.test_evaluate import FACTS, images_of

NAMES = ["elbo", "log_likelihood_iw", "log_likelihood_ais", "bdmc_gap", "ais_minus_iw", "log_likelihood_ais_shared"]
SIZES = {"iw_images": 60, "iw_samples": 500, "ais_images": 10, "ais_chains": 4, "ais_temperatures": 60}


class InexactEncoder(LinearGaussian):
    """Ten latents and an inexact encoder: its variance is too large and its mean too small."""

    def __init__(self):
        super().__init__(10)
        self.likelihood = Gaussian(SIGMA)

    def encode(self, batch):
        q = super().encode(batch)
        return DiagonalGaussian(0.9 * q.mean, q.log_variance + 0.3)


def simulated(model=None, n=60):
    """Data sampled from the linear-Gaussian model itself, for which its bounds are tight."""
    model, draws = model or InexactEncoder(), Draws(0, "simulated")
    z = draws.normal("z", (3 * n, model.latent_dim))
    x = model.decode(z).sample(draws).split(n)
    return replace(digits(labels=False), **dict(zip(("train", "validation", "test"), map(Split, x), strict=True)))


def measure(model, data, names=NAMES, **sizes):
    settings = EvaluationSettings(list(names), [], **(SIZES | sizes))
    return evaluate(model, images_of(data), settings, corruption=Identity(), seed=0, facts=FACTS)


def densities(model, data, **sizes):
    return Densities(Answers(model, images_of(data), 10, 0), EvaluationSettings([], [], **(SIZES | sizes)))


def test_the_order_of_the_bounds():
    """elbo <= iw(k) <= log p(x) and ais <= log p(x), each up to its error, and iw grows with k."""
    model, data = InexactEncoder(), simulated()
    images = images_of(data)
    exact = model.log_evidence(images.x[images.order("test")])
    entries = measure(model, data, NAMES[:5], ais_images=25, ais_temperatures=300)
    value = {name: entry["value"] for name, entry in entries.items()}
    iw_values = [measure(model, data, NAMES[1:2], iw_samples=k)["log_likelihood_iw"]["value"] for k in (1, 5, 50)]
    ordered = [value["elbo"], *iw_values, value["log_likelihood_iw"], exact.mean().item() + 0.02]
    assert ordered[0] < ordered[2] and ordered[1:] == sorted(ordered[1:])
    # With one sample per image it is the ELBO, up to random error: some tenths of a nat for 60 images.
    assert ordered[1] == pytest.approx(ordered[0], abs=4 * entries["elbo"]["se"])
    # Another test checks that annealing gets closer with more temperatures.
    assert exact[:25].mean() - 1 < value["log_likelihood_ais"] < exact[:25].mean() + 0.02
    # ais_minus_iw compares both on the same images, the first 25.
    iw_of_25 = densities(model, data).importance.log_mean_weight[:25].mean().item()
    assert value["ais_minus_iw"] == pytest.approx(value["log_likelihood_ais"] - iw_of_25, abs=1e-3)
    assert 0 < value["bdmc_gap"] < 2
    counts = [entries[name]["n"] for name in ("log_likelihood_iw", "log_likelihood_ais", "bdmc_gap")]
    assert counts == [60, 25, 5]


def test_importance_sampling_from_the_exact_posterior_is_exact_with_one_sample():
    model, data = LinearGaussian(), simulated(LinearGaussian())
    images = images_of(data)
    exact = model.log_evidence(images.x[images.order("test")]).double()
    one = densities(model, data, iw_samples=1).importance
    torch.testing.assert_close(one.log_mean_weight, exact, atol=1e-3, rtol=0)
    seven = densities(model, data, iw_samples=7).importance  # a number that no chunk size divides
    torch.testing.assert_close(seven.effective_samples, torch.full((60,), 7.0).double(), rtol=1e-3, atol=0)


@pytest.mark.usefixtures("short_pilot")
def test_the_settings_give_the_number_of_samples():
    class Counting(InexactEncoder):
        drawn = 0

        def encode(self, batch):
            q = super().encode(batch)
            outer = self

            class Counted:
                mean = q.mean

                def sample(self, draws):
                    outer.drawn += len(q.mean)
                    return q.sample(draws)

                def log_prob(self, z):
                    return q.log_prob(z)

            return Counted()

    model = Counting()
    densities(model, simulated(), iw_samples=37, iw_images=11).importance  # noqa: B018
    assert model.drawn == 37 * 11


def test_the_shared_sigma_is_estimated_from_validation_images(monkeypatch):
    model, data = InexactEncoder(), simulated()
    estimated = densities(model, data, ais_images=1, ais_chains=1, ais_temperatures=1)
    assert estimated.annealed_shared.sigma == pytest.approx(SIGMA, rel=0.05)
    # With the true sigma as a setting, the shared likelihood is the model's own.
    monkeypatch.setattr("bench.evaluation.annealing.PILOT_TEMPERATURES", 50)
    entries = measure(model, data, ["log_likelihood_ais", "log_likelihood_ais_shared"], ais_sigma=SIGMA)
    own, shared = entries.values()
    assert shared["value"] == pytest.approx(own["value"], abs=1)
    assert shared["details"]["sigma"] == SIGMA and "Gaussian" in shared["reason"] and own["reason"] is None
    wrong = measure(model, data, ["log_likelihood_ais_shared"], ais_sigma=0.2)["log_likelihood_ais_shared"]
    assert wrong["value"] < shared["value"] - 10


class GanLike(LinearGaussian):
    """Like a GAN: images without a likelihood, and no encoder."""

    def encode(self, batch):
        return Generator().encode(batch)

    def decode(self, z, batch=None):
        return PointObservation(super().decode(z).mean)


@pytest.mark.usefixtures("short_pilot")
def test_the_likelihood_of_a_gan_is_the_shared_gaussian():
    entries = measure(GanLike(), simulated(LinearGaussian()))
    assert entries["log_likelihood_ais"]["value"] == entries["log_likelihood_ais_shared"]["value"]
    assert "Gaussian" in entries["log_likelihood_ais"]["reason"]
    for name in ("elbo", "log_likelihood_iw", "ais_minus_iw"):
        assert entries[name]["value"] is None and "no encoder" in entries[name]["reason"], name


@pytest.mark.usefixtures("short_pilot")
def test_reasons_of_models_without_a_normalised_likelihood_a_prior_or_a_density():
    class Unnormalised(InexactEncoder):
        def __init__(self):
            super().__init__()
            self.likelihood = Bernoulli()

    entries = measure(Unnormalised(), digits(), ais_temperatures=5)
    for name in ("log_likelihood_iw", "log_likelihood_ais", "bdmc_gap", "ais_minus_iw"):
        assert "not normalised" in entries[name]["reason"] and entries[name]["value"] is None, name
    assert entries["log_likelihood_ais_shared"]["value"] is not None
    for name in NAMES[1:]:
        assert "no prior" in measure(IdentityAutoencoder(), digits(), [name])[name]["reason"], name

    class Rolled(LinearGaussian):
        def __init__(self):
            super().__init__(2)
            self.prior = SwissRoll()

    for name in NAMES[2:]:
        assert "no density" in measure(Rolled(), digits(), [name])[name]["reason"], name
    assert "no decoder" in measure(Generator(), digits(), NAMES[5:])["log_likelihood_ais_shared"]["reason"]


@pytest.mark.usefixtures("short_pilot")
def test_a_conditional_decoder_gets_the_label_of_each_image():
    """Its images are constant, a tenth of the class, for any code: log p(x|y) is known and needs no annealing."""
    model, data = Conditional(), digits()
    images = images_of(data)
    rows = images.order("test")[:10]
    mean = data.test.label[rows].view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 10
    exact = GaussianObservation(mean, torch.tensor(0.3).log()).log_prob(data.test.x[rows]).mean().item()
    entry = measure(model, data, NAMES[5:], ais_sigma=0.3, ais_temperatures=3)["log_likelihood_ais_shared"]
    assert entry["value"] == pytest.approx(exact, rel=1e-4)


def test_the_chunk_size_changes_nothing_in_float64(monkeypatch, float64, short_pilot):
    """In float32, rounding sometimes decides whether a trajectory is accepted, and then the chains diverge."""
    model, data = InexactEncoder().double(), simulated()
    data = replace(data, **{name: Split(getattr(data, name).x.double()) for name in ("train", "validation", "test")})
    sizes = {"ais_images": 5, "ais_chains": 2, "ais_temperatures": 20, "iw_samples": 5}
    whole = measure(model, data, **sizes)
    monkeypatch.setattr("bench.evaluation.evidence.densities.PIXELS_AT_ONCE", 4 * 64)
    monkeypatch.setattr("bench.evaluation.evidence.answers.CHUNK", 7)
    for name, entry in measure(model, data, **sizes).items():
        assert entry["value"] == pytest.approx(whole[name]["value"], rel=1e-6), name


@pytest.mark.usefixtures("short_pilot")
def test_bits_per_dim_needs_binary_or_dequantised_pixels():
    """Dequantised pixels of 17 levels: a density of 17^D costs 0 bits per pixel, a uniform density log2 17."""

    class Uniform(LinearGaussian):
        """p(x|z) = 1 on [0, 1]^64, and q = p(z)."""

        def encode(self, batch):
            return DiagonalGaussian(torch.zeros(len(batch.x), 3), torch.zeros(len(batch.x), 3))

        def decode(self, z, batch=None):
            class UnitDensity:
                mean = torch.full((len(z), 1, 8, 8), 0.5)

                def log_prob(self, x):
                    return torch.zeros(len(x))

            return UnitDensity()

    entry = measure(Uniform(), digits(dequantize=True), ["bits_per_dim"])["bits_per_dim"]
    assert entry["value"] == pytest.approx(math.log2(17)) and entry["reason"] is None

    class FairCoins(Uniform):
        def __init__(self):
            super().__init__()
            self.likelihood = Bernoulli()

        def decode(self, z, batch=None):
            return self.likelihood(torch.zeros(len(z), 1, 8, 8))

    assert measure(FairCoins(), digits("static"), ["bits_per_dim"])["bits_per_dim"]["value"] == pytest.approx(1)
    for model, data, message in (
        (Uniform(), digits(), "dequantize"),
        (FairCoins(), digits(), "not normalised"),
        (FairCoins(), digits(dequantize=True), "not normalised"),
        (InexactEncoder(), digits("dynamic"), "a density"),
    ):
        entry = measure(model, data, ["bits_per_dim"])["bits_per_dim"]
        assert entry["value"] is None and message in entry["reason"], message


@pytest.mark.usefixtures("short_pilot")
def test_a_sigma_at_its_floor_gives_a_note_on_the_densities():
    class SigmaAtFloor(LinearGaussian):
        def __init__(self, sigma):
            super().__init__()
            self.likelihood = Gaussian(sigma, learned=True, sigma_floor=0.1)

        def decode(self, z, batch=None):
            raw = super().decode(z).mean
            return self.likelihood(raw)

    for sigma, message in ((0.102, "floor"), (0.5, None)):
        entries = measure(SigmaAtFloor(sigma), digits(), ["elbo", "reconstruction_nll", "kl"])
        for name in ("elbo", "reconstruction_nll"):
            reason = entries[name]["reason"]
            assert (reason is None) == (message is None) and (message is None or message in reason), name
        assert entries["kl"]["reason"] is None


@pytest.mark.usefixtures("short_pilot")
def test_progress_is_shown_for_the_long_loops():
    reports = []

    def progress(steps, description):
        reports.append((description, len(steps)))
        return steps

    data = simulated()
    settings = EvaluationSettings(NAMES, [], **(SIZES | {"ais_temperatures": 7}))
    evaluate(InexactEncoder(), images_of(data), settings, corruption=Identity(), seed=0, facts=FACTS, progress=progress)
    assert ("importance sampling", 500) in reports and ("annealed: test images", 7) in reports
