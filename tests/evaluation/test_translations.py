"""Metrics of translations: at the output, by stage, by subset of the test split, and with other conditions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.core import UnavailableError
from bench.data import Batch, Data, Shapes, Split
from bench.evaluation.evidence import Answers, Stages, Translations, permuted
from bench.evaluation.pictures import pictures, shown
from bench.parts.corruptions import Gaussian, Identity
from tests.conftest import small_job, stack_of
from tests.evaluation.known_models import Conditional, Generator, IdentityAutoencoder, LinearGaussian, Untrained, digits
from tests.evaluation.test_evaluate import images_of, measure

GREY = torch.arange(40) / 100  # each image's shade


def shades() -> Data:
    """Images of one shade, made from black sources of half the size and from the shade, which is a condition."""
    x = GREY.view(-1, 1, 1, 1).expand(-1, 3, 8, 8) + 0.01 * torch.rand(40, 3, 8, 8, generator=torch.manual_seed(0))
    split = Split(x, source=torch.zeros(40, 3, 4, 4), conditions={"shade": GREY[:, None]})
    test = split._replace(truth={"subset": (torch.arange(40) >= 30).long()})
    shapes = Shapes((3, 8, 8), 0, (3, 4, 4), {"shade": (1,)})
    return Data(split, split, test, shapes, 256, "none", False, "shades", vocabulary={"subset": ("dark", "light")})


class Painter(Untrained):
    """Paints the shade on the source, first at half the size, then at the whole size."""

    def stages(self, batch, draws):
        small = batch.input + batch.conditions["shade"].view(-1, 1, 1, 1)
        return {"small": small, "map": small.repeat(1, 2, 1, 1), "whole": F.interpolate(small, (8, 8))}

    def translate(self, batch, draws):
        return self.stages(batch, draws)["whole"]


class Copier(Untrained):
    """Reads no conditions."""

    def translate(self, batch, draws):
        return F.interpolate(batch.input, (8, 8))


class Decorator(IdentityAutoencoder):
    """Decodes a code and the shade; `translate` is the default one."""

    samples_by_translation = True

    def decode(self, z, batch=None):
        return super().decode(z + batch.conditions["shade"])


def shaded_digits() -> Data:
    """Digits without sources, each with a shade as its condition."""
    data = digits()
    shade = torch.arange(len(data.test.x))[:, None] / 1000
    return replace(data, test=data.test._replace(conditions={"shade": shade}))


def answers_of(model, data) -> Answers:
    return Answers(model, images_of(data), samples=10, seed=0)


def error(x, shade) -> float:
    return (x - shade.view(-1, 1, 1, 1)).square().mean().item()


def test_metrics_of_the_output_of_each_stage_and_with_permuted_conditions():
    data = shades()
    entries = measure(Painter(), data, ["reconstruction_mse"])
    assert entries["reconstruction_mse"]["value"] == pytest.approx(error(data.test.x, GREY), rel=1e-4)
    assert entries["reconstruction_mse@small"]["value"] == pytest.approx(error(data.test.x, GREY), rel=1e-4)
    assert entries["reconstruction_mse@map"]["value"] is None
    assert entries["reconstruction_mse@map"]["reason"] == "this stage has 6 channels, and images have 3"
    others = permuted(answers_of(Painter(), data)).conditions["shade"][:, 0]
    assert sorted(others.tolist()) == sorted(GREY.tolist()) and not (others == GREY).any()
    assert entries["reconstruction_mse@permuted"]["value"] == pytest.approx(error(data.test.x, others), rel=1e-4)


def test_a_stage_that_a_model_lacks_is_named():
    entries = measure(Painter(), shades(), ["sketch_accuracy"])
    assert entries["sketch_accuracy"]["reason"] == "there is no sketch in the stages of the model"


def test_metrics_of_each_example_are_repeated_for_the_subsets_that_the_data_name():
    data = shades()
    entries = measure(Painter(), data, ["reconstruction_mse", "sharpness_samples"])
    dark, light = slice(30), slice(30, 40)
    for name, rows in {"dark": dark, "light": light}.items():
        entry = entries[f"reconstruction_mse@{name}"]
        assert entry["value"] == pytest.approx(error(data.test.x[rows], GREY[rows]), rel=1e-4)
        assert entry["n"] == rows.indices(40)[1] - rows.indices(40)[0]
        assert entries[f"reconstruction_mse@small@{name}"]["value"] == pytest.approx(entry["value"], rel=1e-4)
    assert "sharpness_samples@dark" not in entries, "samples are no test examples"


def test_numbers_of_some_examples_in_another_order_and_of_samples_are_not_taken_for_those_of_subsets():
    """Even if there are as many of them as test examples."""
    known = digits()
    number = torch.arange(len(known.test.x)) % 2
    data = replace(known, test=known.test._replace(truth={"subset": number}), vocabulary={"subset": ("even", "odd")})
    entries = measure(
        LinearGaussian(), data, ["jacobian_norm", "reencoding_error", "reconstruction_mse"], samples=len(number)
    )
    assert {entry["n"] for entry in entries.values() if entry["n"]} == {397, 199, 198}
    assert [name for name in entries if "@" in name] == ["reconstruction_mse@even", "reconstruction_mse@odd"]


def test_subsets_without_names_have_numbers():
    data = replace(shades(), vocabulary={})
    entries = measure(Painter(), data, ["reconstruction_mse"])
    assert entries["reconstruction_mse@1"]["n"] == 10 and entries["reconstruction_mse@0"]["n"] == 30


def test_a_model_that_reads_no_conditions_is_not_measured_with_permuted_ones():
    for model in (IdentityAutoencoder(), LinearGaussian(), Conditional(), Generator()):  # the last cannot translate
        assert permuted(answers_of(model, shaded_digits())) is None
    assert permuted(answers_of(Painter(), digits())) is None
    assert permuted(answers_of(Copier(), shades())) is None
    assert not [name for name in measure(IdentityAutoencoder(), digits(), ["psnr"]) if "@" in name]


def test_a_model_that_decodes_a_code_and_conditions_needs_no_translate_of_its_own():
    answers = Answers(Decorator(), images_of(shaded_digits()), samples=40, seed=0)
    assert permuted(answers).conditions["shade"].shape == (397, 1)
    given = answers.images.test.rows(answers.images.order("test")[:40])
    expected = given.x + given.conditions["shade"].roll(1, 0)[:, :, None, None]
    torch.testing.assert_close(answers.samples, expected)
    with pytest.raises(UnavailableError, match="no prior"):
        _ = Answers(IdentityAutoencoder(), images_of(shaded_digits()), samples=4, seed=0).samples


def test_samples_of_a_translator_have_permuted_conditions_of_test_examples():
    samples = Answers(Painter(), images_of(shades()), samples=40, seed=0).samples
    assert samples.shape == (40, 3, 8, 8)
    assert sorted(samples[:, 0, 0, 0].tolist()) == pytest.approx(GREY.tolist())


def test_noise_is_on_the_source():
    entries = measure(Painter(), shades(), ["denoising_psnr", "denoising_gain_db"], levels=[0.0, 0.2])
    assert entries["denoising_psnr@0"]["value"] > 30 > entries["denoising_psnr@0.2"]["value"]
    assert "sources" in entries["denoising_gain_db"]["reason"]


def test_an_encoder_of_sources_reads_no_samples():
    data = shades()
    model = stack_of(small_job("vae", "mlp"), shapes=data.shapes).model.eval()
    entries = measure(model, data)
    assert "sources" in entries["reencoding_error"]["reason"] and entries["elbo"]["value"] is not None
    assert not [name for name, entry in entries.items() if str(entry["reason"]).startswith("failed")]


def test_chunks_do_not_change_the_outputs(monkeypatch):
    data = shades()

    def made():
        answers = Answers(Painter(), images_of(data), samples=4, seed=0)
        return Translations(answers.images, Stages(answers, answers.images.test)).x_mean

    whole = made()
    monkeypatch.setattr("bench.evaluation.evidence.answers.CHUNK", 7)
    assert torch.equal(made(), whole)


def test_pictures_name_inputs_conditions_stages_and_targets():
    data = shades()
    arrays = pictures(Painter(), images_of(data), corruption=Gaussian(0.1), seed=0, count=5)
    assert {"input", "conditions/shade", "stage/small", "stage/map", "reconstruction", "target"} <= arrays.keys()
    assert arrays["input"].shape == (5, 3, 4, 4) and arrays["target"].shape == (5, 3, 8, 8)
    assert arrays["stage/small"].shape == (5, 3, 4, 4) and arrays["reconstruction"].shape == (5, 3, 8, 8)
    assert arrays["conditions/shade"].tolist() == ["0", "0.01", "0.02", "0.03", "0.04"]
    assert "target" not in pictures(IdentityAutoencoder(), images_of(digits()), corruption=Identity(), seed=0, count=5)
    without_noise = pictures(Painter(), images_of(data), corruption=Identity(), seed=0, count=5)
    assert arrays.keys() - without_noise.keys() == {"corrupted", "denoised"}


def test_conditions_are_shown_as_texts_colours_and_maps():
    words = torch.tensor([[[1, 0, 0], [0, 0, 1], [0, 0, 0]], [[0, 1, 0], [0, 0, 0], [0, 0, 0]]]).float()
    values = {
        "sentence": words,
        "caption": torch.stack([words, words.flip(0)], 1),  # two for each example
        "age": torch.eye(3)[:2],
        "palette": torch.tensor([[[1.0, 0, 0], [0, 1, 0]]] * 2),
        "pose": torch.eye(4)[torch.tensor([[[0, 1], [2, 3]]] * 2)].movedim(-1, 1),
        "sketch": torch.eye(4)[torch.arange(16).view(1, 4, 4).repeat(2, 1, 1) % 4].movedim(-1, 1),  # as wide as classes
        "unknown": torch.zeros(2, 5),
    }
    names = {
        "sentence": ("red", "green", "bird"),
        "caption": ("red", "green", "bird"),
        "age": ("young", "old", "older"),
        "sketch": ("ground", "hair", "top", "shoes"),
    }
    found = shown("conditions", values, names)
    assert found["conditions/sentence"].tolist() == ["red bird", "green"] == found["conditions/caption"].tolist()
    assert found["conditions/age"].tolist() == ["young", "old"]
    assert found["conditions/palette"].tolist() == [[[[255, 0]], [[0, 255]], [[0, 0]]]] * 2
    pose = found["conditions/pose"]
    assert (
        pose.shape == (2, 3, 2, 2)
        and not pose[:, :, 0, 0].any()
        and len(np.unique(pose[0].reshape(3, 4), axis=1).T) == 4
    )
    assert found["conditions/sketch"].shape == (2, 3, 4, 4) and not found["conditions/sketch"][..., 0].any()
    assert "conditions/unknown" not in found


def test_a_batch_is_cut_and_joined():
    whole = images_of(shades()).test._replace(step=torch.tensor(3))
    parts = [whole.rows(slice(0, 30)), whole.rows(torch.arange(30, 40))]
    assert parts[1].step == 3 and len(parts[1].x) == 10
    joined = Batch.joined(parts)
    assert torch.equal(joined.x, whole.x) and torch.equal(joined.conditions["shade"], whole.conditions["shade"])
    assert joined.label is None and replace(shades()).shapes.provides == ("source", "shade")
