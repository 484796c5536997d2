"""Evidence of models whose answers can be worked out, and the metrics made of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

import bench.evaluation.evidence
import bench.metrics.neighbours
from bench.core import InputError
from bench.data import Batch, Split
from bench.evaluation import judges
from bench.evaluation.evaluate import evaluate, missing, settings_of
from bench.evaluation.evidence import Images
from bench.evaluation.judges import features_of
from bench.evaluation.settings import EvaluationSettings
from bench.metrics import discover
from bench.parts.corruptions import Gaussian, Identity, Masking
from bench.parts.priors import petals
from bench.runs.record import Metric
from tests.conftest import CACHE
from tests.evaluation.answering import SIGMA, Coder, Conditional, Generator, KLAtOneCode, LinearGaussian, digits

pytestmark = pytest.mark.usefixtures("short_pilot")

ALL = sorted(discover())
FACTS = {"parameters": 12, "seconds": 1.5, "samples_per_second": 800.0}
FACTS |= {"gradient_norm_first": 0.5, "gradient_norm_last": 2.0}
# Metrics that need what these models or data do not have.
SMALL = {"iw_images": 30, "iw_samples": 20, "ais_images": 4, "ais_chains": 2, "ais_temperatures": 10}
NOT_AVAILABLE = {"component_accuracy", "high_quality_samples", "mode_coverage", "class_consistency", "fid"}
NOT_AVAILABLE |= {"first_order_ratio", "first_order_ratio_large", "output_signal", "cross_entropy_gap"}
NOT_AVAILABLE |= {"mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"}


def measured(model, data, names=ALL, *, levels=(), corruption=None, samples=200, seed=0, facts=FACTS):
    settings = EvaluationSettings(list(names), list(levels), samples, **SMALL)
    return evaluate(model, images_of(data), settings, corruption=corruption or Identity(), seed=seed, facts=facts)


def images_of(data):
    return bench.evaluation.evidence.images_of(data, CACHE)


def test_everything_is_finite_or_has_its_reason():
    for model in (LinearGaussian(), Coder(), Generator(), Conditional()):
        entries = measured(model, digits(), levels=[0.1, 0.5])
        noisy = ("denoising_gain_db", "denoising_gain_db_filter", "denoising_psnr", "denoising_ssim", "latent_drift")
        assert set(entries) == set(ALL) | {f"{name}@{level}" for name in noisy for level in (0.1, 0.5)}
        for name, entry in entries.items():
            assert entry.keys() == Metric.__annotations__.keys(), name
            assert entry["value"] is not None or entry["reason"], name
            assert entry["value"] is None or isinstance(entry["value"], float) and math.isfinite(entry["value"]), name
        json.dumps(entries, allow_nan=False)


def test_with_the_exact_posterior_and_its_own_code_elbo_is_the_evidence():
    # log p(x|z) - log q(z|x) + log p(z) = log p(x) at every z, if both terms are taken at the same one.
    model, data = LinearGaussian(), digits()
    model.prior = KLAtOneCode()
    entry = measured(model, data, ["elbo"])["elbo"]
    evidence = model.log_evidence(data.test.x)
    assert entry["value"] == pytest.approx(evidence.mean().item(), abs=1e-3)
    assert entry["se"] == pytest.approx(evidence.std().item() / len(evidence) ** 0.5, rel=1e-3)
    assert entry["n"] == len(evidence)


def test_elbo_in_expectation_and_its_parts():
    model, data = LinearGaussian(), digits()
    x = data.test.x.flatten(1)
    q = model.encode(Batch(data.test.x, data.test.x))
    variance = q.log_variance.exp()
    kl = 0.5 * (q.mean**2 + variance - q.log_variance - 1).sum(1).mean().item()
    spread = (variance * model.w.square().sum(0)).sum(1)
    error = ((x - q.mean @ model.w.T).square().sum(1) + spread).mean().item()
    nll = 0.5 * error / SIGMA**2 + 64 * math.log(SIGMA * math.sqrt(2 * math.pi))
    runs = [measured(model, data, ["elbo", "kl", "reconstruction_nll"], seed=seed) for seed in range(10)]
    assert [run["kl"]["value"] for run in runs] == pytest.approx([kl] * 10, rel=1e-5)
    assert np.mean([run["reconstruction_nll"]["value"] for run in runs]) == pytest.approx(nll, abs=0.1)
    assert np.mean([run["elbo"]["value"] for run in runs]) == pytest.approx(-nll - kl, abs=0.1)
    assert len({run["elbo"]["value"] for run in runs}) == 10
    assert runs[0] == measured(model, data, ["elbo", "kl", "reconstruction_nll"], seed=0)


def test_reconstructions_are_of_the_posterior_mean():
    model, data = LinearGaussian(), digits()
    mean = model.encode(Batch(data.test.x, data.test.x)).mean
    expected = (model.decode(mean).mean - data.test.x).square().mean().item()
    assert measured(model, data, ["reconstruction_mse"])["reconstruction_mse"]["value"] == pytest.approx(expected)


def test_knn_is_scikit_learns_on_posterior_means():
    model, data = LinearGaussian(), digits()
    train, test = (model.encode(Batch(split.x, split.x)).mean.numpy() for split in (data.train, data.test))
    theirs = KNeighborsClassifier(5).fit(train, data.train.label).score(test, data.test.label)
    assert measured(model, data, ["knn_accuracy"])["knn_accuracy"]["value"] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("data", [digits(), digits("dynamic"), digits(dequantize=True)], ids=["", "binary", "dequant"])
@pytest.mark.parametrize("chunk", [1, 7])
def test_the_size_of_a_chunk_changes_nothing(monkeypatch, data, chunk):
    annealing = {"log_likelihood_ais", "log_likelihood_ais_shared", "bdmc_gap", "bdmc_gap_shared", "ais_minus_iw"}
    names = [name for name in ALL if "ssim" not in name and name not in annealing]  # these: below, in float64
    few = {split: Split(*(part[:40] for part in getattr(data, split)[:2])) for split in ("train", "validation", "test")}
    data = replace(data, **few)
    whole = measured(LinearGaussian(), data, names, samples=40)
    monkeypatch.setattr(bench.evaluation.evidence.answers, "CHUNK", chunk)
    not_available = NOT_AVAILABLE | (set() if data.dequantize else {"bits_per_dim"})
    for name, entry in measured(LinearGaussian(), data, names, samples=40).items():
        assert (entry["value"] is None) == (name in not_available), (name, entry["reason"])
        assert name in not_available or entry["value"] == pytest.approx(whole[name]["value"], rel=1e-5), name


def test_a_draw_that_is_not_one_an_example_is_refused():
    class Shared(LinearGaussian):
        def sample(self, n, draws, label=None):
            return super().sample(n, draws) + draws.normal("shared", (1, 1, 8, 8))

    with pytest.raises(AssertionError, match="shared"):
        measured(Shared(), digits(), ["sharpness_samples"])


def test_dynamic_images_are_the_same_for_all_models_and_seeds_but_codes_are_not():
    data = digits("dynamic")
    seen = []

    class Watched(LinearGaussian):
        def encode(self, batch):
            seen.append(batch.x)
            return super().encode(batch)

    first, second = (measured(Watched(), data, ["reconstruction_mse", "elbo"], seed=seed) for seed in (0, 1))
    assert seen[0].unique().tolist() == [0.0, 1.0]
    assert all(torch.equal(seen[0], x) for x in seen)
    assert first["reconstruction_mse"] == second["reconstruction_mse"]
    assert first["elbo"] != second["elbo"]


def test_models_are_read_in_evaluation_mode_and_without_gradients():
    class Moody(LinearGaussian):
        def encode(self, batch):
            assert not self.training and not torch.is_grad_enabled()
            return super().encode(batch)

    measured(Moody().train(), digits(), ["elbo"])


def test_reasons_of_models_that_cannot_answer():
    coder, generator = measured(Coder(), digits()), measured(Generator(), digits())
    assert "no prior" in coder["elbo"]["reason"] and "no prior" in coder["kl"]["reason"]
    assert "no prior" in coder["sharpness_samples"]["reason"]
    assert coder["reconstruction_nll"]["value"] == pytest.approx(32 * math.log(2 * math.pi))
    assert "reproduced exactly" in coder["psnr"]["reason"]
    assert generator["sharpness_samples"]["value"] > 0
    for name in ("elbo", "kl", "reconstruction_nll", "reconstruction_mse", "knn_accuracy", "denoising_gain_db"):
        assert generator[name]["value"] is None and "no encoder" in generator[name]["reason"], name
    assert generator["knn_accuracy_pixels"]["value"] > 0.9


def test_a_deterministic_posterior_has_its_own_reason():
    class WithPrior(Coder):
        prior = KLAtOneCode()

    entries = measured(WithPrior(), digits(), ["elbo", "kl", "reconstruction_mse"])
    assert "deterministic" in entries["elbo"]["reason"] and "deterministic" in entries["kl"]["reason"]
    assert entries["reconstruction_mse"]["value"] == 0.0


def test_missing_labels_and_facts_are_reasons():
    data = digits(labels=False)
    entries = measured(LinearGaussian(), data, facts=FACTS | {"samples_per_second": None})
    for name in ("knn_accuracy", "knn_accuracy_pixels"):
        assert entries[name]["value"] is None and "no labels" in entries[name]["reason"]
    assert "not measured" in entries["samples_per_second"]["reason"]
    assert (entries["parameters"]["value"], entries["seconds"]["value"]) == (12.0, 1.5)


def test_a_conditional_model_reads_the_labels():
    data = digits()
    entries = measured(Conditional(), data, samples=1000)  # more than there are test labels
    flat = data.test.label.view(-1, 1, 1, 1) / 10
    assert entries["knn_accuracy"]["value"] == 1.0
    assert entries["reconstruction_mse"]["value"] == pytest.approx((flat - data.test.x).square().mean().item())
    assert entries["sharpness_samples"]["value"] == pytest.approx(0.0, abs=1e-10)


def test_gains_are_at_the_runs_level_and_at_others_and_without_noise_at_a_half():
    model, data, names = LinearGaussian(), digits(), ["denoising_gain_db", "denoising_gain_db_filter"]
    none = measured(model, data, names, levels=[0.5, 1.0])
    assert none["denoising_gain_db"] == none["denoising_gain_db@0.5"]
    assert none["denoising_gain_db_filter"] == none["denoising_gain_db_filter@0.5"]
    assert none["denoising_gain_db@1"]["value"] > none["denoising_gain_db"]["value"]
    gaussian = measured(model, data, names, levels=[0.5], corruption=Gaussian(1.0))
    assert gaussian["denoising_gain_db"] == none["denoising_gain_db@1"]
    masking = measured(model, data, names, levels=[0.5], corruption=Masking(0.25))
    assert masking["denoising_gain_db@0.5"] != none["denoising_gain_db@0.5"]
    assert masking["denoising_gain_db_filter@0.5"] != none["denoising_gain_db_filter@0.5"]


def test_a_copy_gains_nothing_and_no_noise_has_no_gain():
    entries = measured(Coder(), digits(), ["denoising_gain_db"], levels=[0.0], corruption=Gaussian(0.3))
    assert entries["denoising_gain_db"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert entries["denoising_gain_db@0"]["value"] is None
    assert "changes no test image" in entries["denoising_gain_db@0"]["reason"]


def test_what_follows_from_the_data_is_computed_once_for_all_seeds_and_models(monkeypatch):
    fits = []

    class Counted(NearestNeighbors):
        def fit(self, x):
            fits.append(x.shape)
            return super().fit(x)

    monkeypatch.setattr(bench.metrics.neighbours, "NearestNeighbors", Counted)
    data, names = digits(), ["knn_accuracy", "knn_accuracy_1", "knn_accuracy_pixels", "latent_drift"]
    for seed in (0, 1):
        measured(LinearGaussian(), data, names, levels=[0.1], seed=seed)
    measured(Coder(), data, ["knn_accuracy_pixels"])
    assert fits.count((1000, 64)) == fits.count((200, 64)) == 1 and fits.count((1200, 3)) == 2
    measured(Coder(), digits(), ["knn_accuracy_pixels"])  # other data
    assert fits.count((1000, 64)) == fits.count((200, 64)) == 2


def test_an_unknown_metric_is_one_clear_line():
    with pytest.raises(InputError) as error:
        measured(LinearGaussian(), digits(), ["elbow"])
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in ("'elbow'", "elbo", "ssim"))


def test_a_model_that_answers_nan_has_no_value():
    model = LinearGaussian()
    model.w.fill_(math.nan)
    for name, entry in measured(model, digits(), samples=20).items():
        of_data = {"knn_accuracy_pixels", "interpolation_gap_pixels", "denoising_gain_db_filter", "bits_per_dim"}
        of_data |= {
            "shift_over_damage_pixels",
            "relative_contrast_pixels",
            "relative_contrast_prior",
            "mmd_to_prior_normal",
        }
        if name not in {*FACTS, *of_data, *NOT_AVAILABLE, "gradient_ratio"}:
            assert entry["value"] is None and "not a finite number" in entry["reason"], name


# --- evidence on codes, the prior and what is made of it


def test_posterior_codes_are_draws_and_prior_codes_those_of_samples():
    model, data = LinearGaussian(), digits()
    answers = bench.evaluation.evidence.Answers(model, images_of(data), samples=300, seed=4)
    q = model.encode(Batch(data.test.x, data.test.x))
    deviation = (answers.posterior_codes - q.mean) / (q.log_variance / 2).exp()
    assert deviation.shape == (397, 3) and abs(deviation.std() - 1) < 0.1 and abs(deviation.mean()) < 0.1
    assert answers.prior_codes.shape == (2 * 397, 3)
    torch.testing.assert_close(answers.samples, model.decode(answers.sampled_codes).mean)
    torch.testing.assert_close(answers.decoded, answers.samples)
    torch.testing.assert_close(answers.reencoded, model.encode(Batch(answers.samples, answers.samples)).mean)


def test_the_jacobian_is_that_of_the_posterior_mean():
    """Of a linear encoder w / m it is the same at every image."""
    model, data = LinearGaussian(), digits()
    answers = bench.evaluation.evidence.Answers(model, images_of(data), samples=10, seed=0)
    expected = (model.w / (model.w.square().sum(0) + SIGMA**2)).square().sum()
    torch.testing.assert_close(answers.jacobian, expected.expand(397))


def test_codes_of_noisy_images_drift():
    names = ["latent_drift", "jacobian_norm"]
    entries = measured(LinearGaussian(), digits(), names, levels=[0.0, 0.1, 1.0], corruption=Gaussian(0.1))
    drift = [entries[f"latent_drift@{level}"]["value"] for level in ("0", "0.1", "1")]
    assert drift[0] == 0 and drift[2] == pytest.approx(10 * drift[1], rel=1e-4)
    # White noise of sigma moves a linear code by sigma |J|_F, root mean square. Of 397 images, where one direction may
    # outweigh the others, the standard error is at most 1 / sqrt(2 397) = 3.5 %: within four of them.
    assert drift[1] == pytest.approx(0.1 * entries["jacobian_norm"]["value"], rel=0.14)


def test_modes_are_those_of_the_data():
    data = replace(digits(), modes=digits().test.x[:4], mode_sigma=0.01)
    model = LinearGaussian()
    found = measured(model, data, ["mode_coverage", "high_quality_samples"])
    assert [found[name]["value"] for name in found] == [0.0, 0.0]
    assert "not known" in measured(model, digits(), ["mode_coverage"])["mode_coverage"]["reason"]


def test_only_a_label_informed_model_has_components_of_its_own():
    class Informed(LinearGaussian):
        samples_by_label = True

        def __init__(self):
            super().__init__(2)
            self.prior = petals()

    data = digits()
    own = measured(Informed(), data, ["component_accuracy"])["component_accuracy"]
    codes = Informed().encode(Batch(data.test.x, data.test.x)).mean
    expected = (petals().component(codes) == data.test.label).float().mean().item()
    assert own["value"] == pytest.approx(expected) and own["n"] == 397
    for model in (LinearGaussian(), Conditional(), Coder(), Generator()):
        assert "component" in measured(model, data, ["component_accuracy"])["component_accuracy"]["reason"]


# --- notes beside numbers


def test_notes_stand_beside_what_they_are_about_and_join_others():
    class Noted(LinearGaussian):
        notes = {"encode": "told", "decode": "blurred"}

    found = measured(Noted(), digits(), ["knn_accuracy", "elbo", "kl", "log_likelihood_ais", "parzen"])
    assert found["knn_accuracy"]["reason"] == found["kl"]["reason"] == "told"
    assert found["elbo"]["reason"] == "told; blurred"
    assert found["log_likelihood_ais"]["reason"].endswith("around the decoder's mean; blurred")
    assert "told" not in found["parzen"]["reason"]


# --- what is missing from a record


def hashed(monkeypatch, hash: str | None):
    """The cache holds a classifier with this hash, or none."""
    monkeypatch.setattr(Images, "cached_features", lambda self: hash)


def entries_of(*names: str, features: str | None = None, **settings) -> dict:
    """A record's entries, as far as `missing` reads them."""
    known, given = discover(), EvaluationSettings([], [], **settings)
    details = {name: {"features": features, "features_accuracy": 0.99} if features else {} for name in names}
    return {
        name: {"reason": None, "settings": settings_of(known[name], given), "details": details[name]} for name in names
    }


OF_FEATURES = ("frechet_distance", "precision", "class_coverage")


@pytest.mark.parametrize("cached", [None, "a"])
def test_a_record_that_has_everything_misses_nothing(cached, monkeypatch):
    hashed(monkeypatch, cached)
    entries = entries_of(*OF_FEATURES, features="a") | entries_of("psnr")
    assert missing(entries, EvaluationSettings([*OF_FEATURES, "psnr"], []), images_of(digits())) == []
    fewer = EvaluationSettings(["precision"], [], samples=500)
    assert missing(entries, fewer, images_of(digits())) == []
    more = EvaluationSettings(["psnr", "ssim"], [])
    assert missing(entries, more, images_of(digits())) == ["ssim"], "no features, so no classifier is needed"


def test_a_record_never_mixes_two_classifiers(monkeypatch):
    """Numbers in the features of another classifier are computed again, together, also those that are not named."""
    entries = entries_of(*OF_FEATURES, features="a") | entries_of("psnr")
    named = EvaluationSettings(["psnr", "recall"], [])
    hashed(monkeypatch, "a")
    assert missing(entries, named, images_of(digits())) == ["recall"]
    hashed(monkeypatch, "b")
    assert set(missing(entries, named, images_of(digits()))) == {"recall", *OF_FEATURES}
    assert set(missing(entries, EvaluationSettings(["psnr"], []), images_of(digits()))) == set(OF_FEATURES)
    hashed(monkeypatch, None)  # one will be trained, and may be another
    assert set(missing(entries, named, images_of(digits()))) == {"recall", *OF_FEATURES}
    entries["precision"]["settings"]["samples"] = 10  # too few
    assert set(missing(entries, EvaluationSettings(["precision"], []), images_of(digits()))) == set(OF_FEATURES)


def test_evaluated_entries_name_their_classifier_and_the_next_one_replaces_them(tmp_path, monkeypatch):
    data, names = digits(), ["frechet_distance", "recall", "psnr", "precision"]
    settings = EvaluationSettings(names, [], 20)

    def evaluated(cache: str, names: list[str]) -> dict:
        given = Images(data, tmp_path / cache)
        return evaluate(
            LinearGaussian(), given, replace(settings, names=names), corruption=Identity(), seed=0, facts=FACTS
        )

    monkeypatch.setattr(judges, "_loaded_files", {})
    monkeypatch.setattr(judges, "EPOCHS", 1)
    record = evaluated("one", names[:3])
    monkeypatch.setattr(judges, "EPOCHS", 2)  # as if another machine trained it
    features_of(data, tmp_path / "two")
    again = missing(record, settings, Images(data, tmp_path / "two"))
    assert set(again) == {"frechet_distance", "recall", "precision"}
    record |= evaluated("two", again)
    hashes = {entry["details"].get("features") for entry in record.values()}
    assert hashes == {None, features_of(data, tmp_path / "two").hash}
    assert missing(record, settings, Images(data, tmp_path / "two")) == []


# --- a part of a split


def test_selected_images_are_those_of_the_whole_split():
    data = digits("dynamic")
    whole = torch.cat([x for x, _ in images_of(data).blocks("train")])
    rows = torch.tensor([1199, 0, 5, 1000, 999, 0])
    assert images_of(data).select("train", rows).equal(whole[rows])


def test_neighbours_in_pixels_hold_one_block_of_the_training_set(monkeypatch):
    """And are those of the whole training set at once."""
    data = replace(digits(), train=Split(torch.rand(3500, 1, 8, 8), torch.arange(3500) % 10))
    largest, nearest = [], NearestNeighbors.fit

    def fit(self, x):
        largest.append(len(x))
        return nearest(self, x)

    monkeypatch.setattr(NearestNeighbors, "fit", fit)
    found = Images(data, CACHE).pixel_neighbours
    assert largest == [1000, 1000, 1000, 500]
    assert found.equal(bench.metrics.neighbours.nearest(data.train.x, data.test.x, 5))
