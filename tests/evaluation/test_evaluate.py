"""Evidence and metrics of models with results in closed form."""

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
from bench.evaluation.judges import features_of, training
from bench.evaluation.settings import EvaluationSettings
from bench.metrics import discover
from bench.parts.corruptions import Gaussian, Identity, Masking
from bench.parts.priors import petals
from bench.runs.record import Metric
from tests.conftest import CACHE
from tests.evaluation.known_models import (
    SIGMA,
    Conditional,
    Generator,
    IdentityAutoencoder,
    LinearGaussian,
    OneSampleKL,
    digits,
)

pytestmark = pytest.mark.usefixtures("short_pilot")

ALL = sorted(discover())
FACTS = {"parameters": 12, "seconds": 1.5, "samples_per_second": 800.0}
FACTS |= {"gradient_norm_first": 0.5, "gradient_norm_last": 2.0}
SMALL = {"iw_images": 30, "iw_samples": 20, "ais_images": 4, "ais_chains": 2, "ais_temperatures": 10}
# Metrics that need something that these models or data lack.
NOT_AVAILABLE = {"component_accuracy", "high_quality_samples", "mode_coverage", "class_consistency", "fid"}
NOT_AVAILABLE |= {"first_order_ratio", "first_order_ratio_large", "output_signal", "cross_entropy_gap"}
NOT_AVAILABLE |= {"judged_error", "judged_correlation", "judged_miou", "conditional_diversity"}
OF_TASKS = {f"bench.metrics.{file}" for file in ("ages", "alignment", "colour", "maps")}
NOT_AVAILABLE |= {name for name, metric in discover().items() if metric.__module__ in OF_TASKS}
NOT_AVAILABLE |= {name for name, metric in discover().items() if 2 not in metric.sides}
NOT_AVAILABLE |= {"critic_svm_accuracy", "untrained_critic_svm_accuracy"}
NOT_AVAILABLE |= {"mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"}


def measure(model, data, names=ALL, *, levels=(), corruption=None, samples=200, seed=0, facts=FACTS):
    settings = EvaluationSettings(list(names), list(levels), samples, **SMALL)
    return evaluate(model, images_of(data), settings, corruption=corruption or Identity(), seed=seed, facts=facts)


def images_of(data):
    return bench.evaluation.evidence.images_of(data, CACHE)


def test_every_metric_has_a_finite_value_or_a_reason():
    for model in (LinearGaussian(), IdentityAutoencoder(), Generator(), Conditional()):
        entries = measure(model, digits(), levels=[0.1, 0.5])
        noisy = ("denoising_gain_db", "denoising_gain_db_filter", "denoising_psnr", "denoising_ssim", "latent_drift")
        assert set(entries) == set(ALL) | {f"{name}@{level}" for name in noisy for level in (0.1, 0.5)}
        for name, entry in entries.items():
            assert entry.keys() == Metric.__annotations__.keys(), name
            assert entry["value"] is not None or entry["reason"], name
            assert entry["value"] is None or isinstance(entry["value"], float) and math.isfinite(entry["value"]), name
        json.dumps(entries, allow_nan=False)


def test_the_elbo_of_the_exact_posterior_is_the_evidence_if_both_terms_use_one_code():
    # log p(x|z) - log q(z|x) + log p(z) = log p(x) for every z, if both terms use the same z.
    model, data = LinearGaussian(), digits()
    model.prior = OneSampleKL()
    entry = measure(model, data, ["elbo"])["elbo"]
    evidence = model.log_evidence(data.test.x)
    assert entry["value"] == pytest.approx(evidence.mean().item(), abs=1e-3)
    assert entry["se"] == pytest.approx(evidence.std().item() / len(evidence) ** 0.5, rel=1e-3)
    assert entry["n"] == len(evidence)


def test_the_elbo_and_its_parts_in_expectation():
    model, data = LinearGaussian(), digits()
    x = data.test.x.flatten(1)
    q = model.encode(Batch(data.test.x, data.test.x))
    variance = q.log_variance.exp()
    kl = 0.5 * (q.mean**2 + variance - q.log_variance - 1).sum(1).mean().item()
    decoded_variance = (variance * model.w.square().sum(0)).sum(1)
    error = ((x - q.mean @ model.w.T).square().sum(1) + decoded_variance).mean().item()
    nll = 0.5 * error / SIGMA**2 + 64 * math.log(SIGMA * math.sqrt(2 * math.pi))
    runs = [measure(model, data, ["elbo", "kl", "reconstruction_nll"], seed=seed) for seed in range(10)]
    assert [run["kl"]["value"] for run in runs] == pytest.approx([kl] * 10, rel=1e-5)
    assert np.mean([run["reconstruction_nll"]["value"] for run in runs]) == pytest.approx(nll, abs=0.1)
    assert np.mean([run["elbo"]["value"] for run in runs]) == pytest.approx(-nll - kl, abs=0.1)
    assert len({run["elbo"]["value"] for run in runs}) == 10
    assert runs[0] == measure(model, data, ["elbo", "kl", "reconstruction_nll"], seed=0)


def test_reconstructions_decode_the_posterior_mean():
    model, data = LinearGaussian(), digits()
    mean = model.encode(Batch(data.test.x, data.test.x)).mean
    expected = (model.decode(mean).mean - data.test.x).square().mean().item()
    assert measure(model, data, ["reconstruction_mse"])["reconstruction_mse"]["value"] == pytest.approx(expected)


def test_knn_equals_scikit_learn_on_posterior_means():
    model, data = LinearGaussian(), digits()
    train, test = (model.encode(Batch(split.x, split.x)).mean.numpy() for split in (data.train, data.test))
    expected = KNeighborsClassifier(5).fit(train, data.train.label).score(test, data.test.label)
    assert measure(model, data, ["knn_accuracy"])["knn_accuracy"]["value"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("data", [digits(), digits("dynamic"), digits(dequantize=True)], ids=["", "binary", "dequant"])
@pytest.mark.parametrize("chunk", [1, 7])
def test_the_chunk_size_changes_nothing(monkeypatch, data, chunk):
    annealing = {"log_likelihood_ais", "log_likelihood_ais_shared", "bdmc_gap", "bdmc_gap_shared", "ais_minus_iw"}
    names = [name for name in ALL if "ssim" not in name and name not in annealing]  # annealing is tested in float64
    small = {
        split: Split(*(part[:40] for part in getattr(data, split)[:2])) for split in ("train", "validation", "test")
    }
    data = replace(data, **small, fingerprint="40 digits")
    whole = measure(LinearGaussian(), data, names, samples=40)
    monkeypatch.setattr(bench.evaluation.evidence.answers, "CHUNK", chunk)
    not_available = NOT_AVAILABLE | (set() if data.dequantize else {"bits_per_dim"})
    if data.binarize == "dynamic":  # a classifier that was trained on so few digits reads half of them
        not_available |= {"judged_accuracy", "class_coverage", "class_entropy"}
    for name, entry in measure(LinearGaussian(), data, names, samples=40).items():
        assert (entry["value"] is None) == (name in not_available), (name, entry["reason"])
        assert name in not_available or entry["value"] == pytest.approx(whole[name]["value"], rel=1e-5), name


def test_a_draw_without_one_row_per_example_is_refused():
    class Shared(LinearGaussian):
        def sample(self, n, draws, label=None):
            return super().sample(n, draws) + draws.normal("shared", (1, 1, 8, 8))

    with pytest.raises(AssertionError, match="shared"):
        measure(Shared(), digits(), ["sharpness_samples"])


def test_dynamic_images_are_the_same_for_all_models_and_seeds_but_codes_are_not():
    data = digits("dynamic")
    inputs = []

    class Recorded(LinearGaussian):
        def encode(self, batch):
            inputs.append(batch.x)
            return super().encode(batch)

    first, second = (measure(Recorded(), data, ["reconstruction_mse", "elbo"], seed=seed) for seed in (0, 1))
    assert inputs[0].unique().tolist() == [0.0, 1.0]
    assert all(torch.equal(inputs[0], x) for x in inputs)
    assert first["reconstruction_mse"] == second["reconstruction_mse"]
    assert first["elbo"] != second["elbo"]


def test_models_run_in_evaluation_mode_and_without_gradients():
    class Checked(LinearGaussian):
        def encode(self, batch):
            assert not self.training and not torch.is_grad_enabled()
            return super().encode(batch)

    measure(Checked().train(), digits(), ["elbo"])


def test_reasons_of_models_without_a_prior_or_an_encoder():
    autoencoder, generator = measure(IdentityAutoencoder(), digits()), measure(Generator(), digits())
    assert "no prior" in autoencoder["elbo"]["reason"] and "no prior" in autoencoder["kl"]["reason"]
    assert "no prior" in autoencoder["sharpness_samples"]["reason"]
    assert autoencoder["reconstruction_nll"]["value"] == pytest.approx(32 * math.log(2 * math.pi))
    assert "reproduced exactly" in autoencoder["psnr"]["reason"]
    assert generator["sharpness_samples"]["value"] > 0
    for name in ("elbo", "kl", "reconstruction_nll", "reconstruction_mse", "knn_accuracy", "denoising_gain_db"):
        assert generator[name]["value"] is None and "no encoder" in generator[name]["reason"], name
    assert generator["knn_accuracy_pixels"]["value"] > 0.9


def test_a_deterministic_posterior_has_its_own_reason():
    class WithPrior(IdentityAutoencoder):
        prior = OneSampleKL()

    entries = measure(WithPrior(), digits(), ["elbo", "kl", "reconstruction_mse"])
    assert "deterministic" in entries["elbo"]["reason"] and "deterministic" in entries["kl"]["reason"]
    assert entries["reconstruction_mse"]["value"] == 0.0


def test_missing_labels_and_facts_give_reasons():
    data = digits(labels=False)
    entries = measure(LinearGaussian(), data, facts=FACTS | {"samples_per_second": None})
    for name in ("knn_accuracy", "knn_accuracy_pixels"):
        assert entries[name]["value"] is None and "no labels" in entries[name]["reason"]
    assert "not measure" in entries["samples_per_second"]["reason"]
    assert (entries["parameters"]["value"], entries["seconds"]["value"]) == (12.0, 1.5)


def test_a_conditional_model_gets_the_labels():
    data = digits()
    entries = measure(Conditional(), data, samples=1000)  # more than the number of test labels
    constant = data.test.label.view(-1, 1, 1, 1) / 10
    assert entries["knn_accuracy"]["value"] == 1.0
    assert entries["reconstruction_mse"]["value"] == pytest.approx((constant - data.test.x).square().mean().item())
    assert entries["sharpness_samples"]["value"] == pytest.approx(0.0, abs=1e-10)


def test_gains_use_the_noise_of_the_run_and_the_given_levels_and_without_noise_one_half():
    model, data, names = LinearGaussian(), digits(), ["denoising_gain_db", "denoising_gain_db_filter"]
    no_noise = measure(model, data, names, levels=[0.5, 1.0])
    assert no_noise["denoising_gain_db"] == no_noise["denoising_gain_db@0.5"]
    assert no_noise["denoising_gain_db_filter"] == no_noise["denoising_gain_db_filter@0.5"]
    assert no_noise["denoising_gain_db@1"]["value"] > no_noise["denoising_gain_db"]["value"]
    gaussian = measure(model, data, names, levels=[0.5], corruption=Gaussian(1.0))
    assert gaussian["denoising_gain_db"] == no_noise["denoising_gain_db@1"]
    masking = measure(model, data, names, levels=[0.5], corruption=Masking(0.25))
    assert masking["denoising_gain_db@0.5"] != no_noise["denoising_gain_db@0.5"]
    assert masking["denoising_gain_db_filter@0.5"] != no_noise["denoising_gain_db_filter@0.5"]


def test_the_identity_gains_nothing_and_a_level_of_0_has_no_gain():
    entries = measure(IdentityAutoencoder(), digits(), ["denoising_gain_db"], levels=[0.0], corruption=Gaussian(0.3))
    assert entries["denoising_gain_db"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert entries["denoising_gain_db@0"]["value"] is None
    assert "changes no test image" in entries["denoising_gain_db@0"]["reason"]


def test_results_that_depend_only_on_the_data_are_computed_once_for_all_seeds_and_models(monkeypatch):
    fitted_shapes = []

    class Recorded(NearestNeighbors):
        def fit(self, x):
            fitted_shapes.append(x.shape)
            return super().fit(x)

    monkeypatch.setattr(bench.metrics.neighbours, "NearestNeighbors", Recorded)
    data, names = digits(), ["knn_accuracy", "knn_accuracy_1", "knn_accuracy_pixels", "latent_drift"]
    for seed in (0, 1):
        measure(LinearGaussian(), data, names, levels=[0.1], seed=seed)
    measure(IdentityAutoencoder(), data, ["knn_accuracy_pixels"])
    assert (
        fitted_shapes.count((1000, 64)) == fitted_shapes.count((200, 64)) == 1 and fitted_shapes.count((1200, 3)) == 2
    )
    measure(IdentityAutoencoder(), digits(), ["knn_accuracy_pixels"])  # other data
    assert fitted_shapes.count((1000, 64)) == fitted_shapes.count((200, 64)) == 2


def test_an_unknown_metric_is_refused_in_one_line():
    with pytest.raises(InputError) as error:
        measure(LinearGaussian(), digits(), ["elbow"])
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in ("'elbow'", "elbo", "ssim"))


def test_a_model_that_returns_nan_has_no_values():
    model = LinearGaussian()
    model.w.fill_(math.nan)
    for name, entry in measure(model, digits(), samples=20).items():
        from_data = {"knn_accuracy_pixels", "interpolation_gap_pixels", "denoising_gain_db_filter", "bits_per_dim"}
        from_data |= {
            "shift_over_damage_pixels",
            "relative_contrast_pixels",
            "relative_contrast_prior",
            "mmd_to_prior_normal",
        }
        if name not in {*FACTS, *from_data, *NOT_AVAILABLE, "gradient_ratio"}:
            assert entry["value"] is None and "not a finite number" in entry["reason"], name


# --- evidence from codes and from the prior


def test_posterior_codes_are_drawn_and_samples_are_decoded_from_sampled_codes():
    model, data = LinearGaussian(), digits()
    answers = bench.evaluation.evidence.Answers(model, images_of(data), samples=300, seed=4)
    q = model.encode(Batch(data.test.x, data.test.x))
    deviation = (answers.posterior_codes - q.mean) / (q.log_variance / 2).exp()
    assert deviation.shape == (397, 3) and abs(deviation.std() - 1) < 0.1 and abs(deviation.mean()) < 0.1
    assert answers.prior_codes.shape == (2 * 397, 3)
    torch.testing.assert_close(answers.samples, model.decode(answers.sampled_codes).mean)
    torch.testing.assert_close(answers.decoded, answers.samples)
    torch.testing.assert_close(answers.reencoded, model.encode(Batch(answers.samples, answers.samples)).mean)


def test_the_jacobian_of_the_posterior_mean_in_closed_form():
    """The Jacobian of a linear encoder w / m is the same at every image."""
    model, data = LinearGaussian(), digits()
    answers = bench.evaluation.evidence.Answers(model, images_of(data), samples=10, seed=0)
    expected = (model.w / (model.w.square().sum(0) + SIGMA**2)).square().sum()
    torch.testing.assert_close(answers.jacobian, expected.expand(397))


def test_the_drift_of_codes_is_proportional_to_the_noise():
    names = ["latent_drift", "jacobian_norm"]
    entries = measure(LinearGaussian(), digits(), names, levels=[0.0, 0.1, 1.0], corruption=Gaussian(0.1))
    drift = [entries[f"latent_drift@{level}"]["value"] for level in ("0", "0.1", "1")]
    assert drift[0] is None and drift[2] == pytest.approx(10 * drift[1], rel=1e-4)
    # White noise of sigma moves a linear code by sigma |J|_F, root mean square. For 397 images the standard error is at
    # most 1 / sqrt(2 397) = 3.5 %, if one direction dominates. The tolerance is four of them.
    assert drift[1] == pytest.approx(0.1 * entries["jacobian_norm"]["value"], rel=0.14)


def test_mode_metrics_use_the_modes_of_the_data():
    data = replace(digits(), modes=digits().test.x[:4], mode_sigma=0.01)
    model = LinearGaussian()
    entries = measure(model, data, ["mode_coverage", "high_quality_samples"])
    assert [entries[name]["value"] for name in entries] == [0.0, 0.0]
    assert "not known" in measure(model, digits(), ["mode_coverage"])["mode_coverage"]["reason"]


def test_only_a_label_informed_model_has_a_component_accuracy():
    class LabelInformed(LinearGaussian):
        samples_by_label = True

        def __init__(self):
            super().__init__(2)
            self.prior = petals()

    data = digits()
    entry = measure(LabelInformed(), data, ["component_accuracy"])["component_accuracy"]
    codes = LabelInformed().encode(Batch(data.test.x, data.test.x)).mean
    expected = (petals().component(codes) == data.test.label).float().mean().item()
    assert entry["value"] == pytest.approx(expected) and entry["n"] == 397
    for model in (LinearGaussian(), Conditional(), IdentityAutoencoder(), Generator()):
        assert "component" in measure(model, data, ["component_accuracy"])["component_accuracy"]["reason"]


# --- notes


def test_notes_of_a_model_are_added_to_the_reasons_of_the_metrics_they_concern():
    class Noted(LinearGaussian):
        notes = {"encode": "sees labels", "decode": "blurred"}

    entries = measure(Noted(), digits(), ["knn_accuracy", "elbo", "kl", "log_likelihood_ais", "parzen"])
    assert entries["knn_accuracy"]["reason"] == entries["kl"]["reason"] == "sees labels"
    assert entries["elbo"]["reason"] == "sees labels; blurred"
    assert entries["log_likelihood_ais"]["reason"].endswith("around the decoder's mean; blurred")
    assert "sees labels" not in entries["parzen"]["reason"]


# --- entries that are missing from a record


def set_cached_hash(monkeypatch, hash: str | None):
    """Pretends that the cache holds a classifier with this hash, or none."""
    monkeypatch.setattr(Images, "cached_features", lambda self: hash)


def entries_of(*names: str, features: str | None = None, **options) -> dict:
    """The parts of a record's entries that `missing` reads."""
    metrics, settings = discover(), EvaluationSettings([], [], **options)
    details = {name: {"features": features, "features_accuracy": 0.99} if features else {} for name in names}
    return {
        name: {"reason": None, "settings": settings_of(metrics[name], settings), "details": details[name]}
        for name in names
    }


FEATURE_METRICS = ("frechet_distance", "precision", "class_coverage")


@pytest.mark.parametrize("cached", [None, "a"])
def test_nothing_is_missing_from_a_complete_record(cached, monkeypatch):
    set_cached_hash(monkeypatch, cached)
    entries = entries_of(*FEATURE_METRICS, features="a") | entries_of("psnr")
    assert missing(entries, EvaluationSettings([*FEATURE_METRICS, "psnr"], []), images_of(digits())) == []
    fewer = EvaluationSettings(["precision"], [], samples=500)
    assert missing(entries, fewer, images_of(digits())) == []
    more = EvaluationSettings(["psnr", "ssim"], [])
    assert missing(entries, more, images_of(digits())) == ["ssim"], "ssim needs no features and so no classifier"


def test_a_record_never_mixes_two_classifiers(monkeypatch):
    """All values from the features of another classifier are computed again, also those that are not requested."""
    entries = entries_of(*FEATURE_METRICS, features="a") | entries_of("psnr")
    requested = EvaluationSettings(["psnr", "recall"], [])
    set_cached_hash(monkeypatch, "a")
    assert missing(entries, requested, images_of(digits())) == ["recall"]
    set_cached_hash(monkeypatch, "b")
    assert set(missing(entries, requested, images_of(digits()))) == {"recall", *FEATURE_METRICS}
    assert set(missing(entries, EvaluationSettings(["psnr"], []), images_of(digits()))) == set(FEATURE_METRICS)
    set_cached_hash(monkeypatch, None)  # a new one will be trained, and it may differ
    assert set(missing(entries, requested, images_of(digits()))) == {"recall", *FEATURE_METRICS}
    entries["precision"]["settings"]["samples"] = 10  # too few
    assert set(missing(entries, EvaluationSettings(["precision"], []), images_of(digits()))) == set(FEATURE_METRICS)


def test_entries_name_their_classifier_and_another_one_replaces_them(tmp_path, monkeypatch):
    data, names = digits(), ["frechet_distance", "recall", "psnr", "precision"]
    settings = EvaluationSettings(names, [], 20)

    def evaluate_with(cache: str, names: list[str]) -> dict:
        images = Images(data, tmp_path / cache)
        return evaluate(
            LinearGaussian(), images, replace(settings, names=names), corruption=Identity(), seed=0, facts=FACTS
        )

    monkeypatch.setattr(judges, "_loaded_files", {})
    monkeypatch.setattr(training, "EPOCHS", 1)
    record = evaluate_with("one", names[:3])
    monkeypatch.setattr(training, "EPOCHS", 2)  # as if another machine had trained it
    features_of(data, tmp_path / "two")
    again = missing(record, settings, Images(data, tmp_path / "two"))
    assert set(again) == {"frechet_distance", "recall", "precision"}
    record |= evaluate_with("two", again)
    hashes = {entry["details"].get("features") for entry in record.values()}
    assert hashes == {None, features_of(data, tmp_path / "two").hash}
    assert missing(record, settings, Images(data, tmp_path / "two")) == []


# --- subsets and blocks of a split


def test_select_gives_rows_of_the_whole_split():
    data = digits("dynamic")
    whole = torch.cat([block.x for block in images_of(data).blocks("train")])
    rows = torch.tensor([1199, 0, 5, 1000, 999, 0])
    assert images_of(data).select("train", rows).x.equal(whole[rows])


def test_pixel_neighbours_need_only_one_block_of_the_training_set_at_a_time(monkeypatch):
    """The result equals that of the whole training set at once."""
    data = replace(digits(), train=Split(torch.rand(3500, 1, 8, 8), torch.arange(3500) % 10))
    block_sizes, original_fit = [], NearestNeighbors.fit

    def fit(self, x):
        block_sizes.append(len(x))
        return original_fit(self, x)

    monkeypatch.setattr(NearestNeighbors, "fit", fit)
    neighbours = Images(data, CACHE).pixel_neighbours
    assert block_sizes == [1000, 1000, 1000, 500]
    assert neighbours.equal(bench.metrics.neighbours.nearest(data.train.x, data.test.x, 5))
