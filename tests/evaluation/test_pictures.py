"""The arrays of pictures for a report, for models with results in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from bench.data import Batch, Data, Shapes, Split
from bench.evaluation.pictures import _bytes, _thumbnails, pictures
from bench.parts.corruptions import Gaussian, Identity
from bench.parts.likelihoods import BernoulliObservation, GaussianObservation
from bench.parts.posteriors import Deterministic
from bench.parts.priors import Normal
from tests.evaluation.known_models import Conditional, Generator, IdentityAutoencoder, LinearGaussian, Untrained, digits
from tests.evaluation.test_evaluate import images_of, measure


def test_pictures_of_a_model_with_two_latents():
    model, data = LinearGaussian(2), digits()
    arrays = pictures(model, images_of(data), corruption=Identity(), seed=0)
    rows = {"input", "corrupted", "reconstruction", "denoised"}
    grids = {"samples": (64,), "manifold": (20, 20), "interpolation_latent": (8, 10), "interpolation_pixel": (8, 10)}
    grids["arithmetic"] = (8, 4)
    others = {"codes", "labels", "thumbnails", "manifold_codes", "values/arithmetic"}
    assert arrays.keys() == rows | grids.keys() | others
    for name, shape in {**dict.fromkeys(rows, (16,)), **grids}.items():
        assert arrays[name].shape == (*shape, 1, 8, 8) and arrays[name].dtype == np.uint8, name
    assert np.array_equal(arrays["input"], (data.test.x[:16] * 255).round().byte().numpy())
    codes = model.encode(Batch(data.test.x, data.test.x)).mean
    assert arrays["codes"].dtype == np.float32 and np.allclose(arrays["codes"], codes, atol=1e-5)
    assert np.array_equal(arrays["labels"], data.test.label)
    assert np.array_equal(arrays["thumbnails"], _bytes(data.test.x[:2000]))
    quantiles = norm.ppf((np.arange(20) + 0.5) / 20)
    np.testing.assert_allclose(arrays["manifold_codes"], np.stack([quantiles] * 2, 1), atol=0.04)
    corner = torch.tensor(norm.ppf([[0.975, 0.025]])).float()  # the upper right corner
    # A quantile of 100,000 draws has a standard error of 0.0085: up to one grey level, by the largest weights.
    shown, expected = (a.astype(int) for a in (arrays["manifold"][0, -1], _bytes(model.decode(corner).mean)[0]))
    assert abs(shown - expected).max() <= 5 and expected.max() > 100


def test_thumbnails_of_large_images_are_reduced_and_of_other_codes_there_are_none():
    data = digits()
    large = data.test.x.repeat_interleave(8, 2).repeat_interleave(4, 3)
    thumbnails = _thumbnails(Batch(large, large), 7)
    assert thumbnails.shape == (len(data.test.x), 1, 32, 16)
    expected = data.test.x.repeat_interleave(4, 2).repeat_interleave(2, 3)
    assert np.array_equal(thumbnails, _bytes(expected))
    assert "thumbnails" not in pictures(LinearGaussian(3), images_of(data), corruption=Identity(), seed=0)


def test_interpolations_start_and_end_at_test_images():
    arrays = pictures(IdentityAutoencoder(), images_of(digits()), corruption=Gaussian(0.2), seed=0)
    for name in ("interpolation_latent", "interpolation_pixel"):
        assert np.array_equal(arrays[name][:, 0], arrays["input"][:8])
        assert np.array_equal(arrays[name][:, -1], arrays["input"][1:9])
    assert np.array_equal(arrays["denoised"], arrays["corrupted"])  # the identity
    assert np.array_equal(arrays["reconstruction"], arrays["input"])
    assert "samples" not in arrays and "manifold" not in arrays and "class_style" not in arrays


def test_pictures_of_models_without_an_encoder_or_labels():
    assert pictures(Generator(), images_of(digits()), corruption=Identity(), seed=0).keys() == {
        "input",
        "corrupted",
        "samples",
        "interpolation_pixel",
    }
    assert "labels" not in pictures(LinearGaussian(), images_of(digits(labels=False)), corruption=Identity(), seed=0)


def test_pictures_of_a_conditional_model_show_each_class():
    arrays = pictures(Conditional(), images_of(digits()), corruption=Identity(), seed=0)
    assert arrays["class_style"].shape == (8, 10, 1, 8, 8)
    expected = np.round(np.arange(10) / 10 * 255)
    assert np.allclose(arrays["class_style"], expected.reshape(1, 10, 1, 1, 1), atol=1)
    ends = arrays["interpolation_latent"][:, [0, 4, 5, 9], 0, 0, 0] / 25.5
    label = digits().test.label.numpy()
    assert np.allclose(ends, np.stack([label[:8], label[:8], label[1:9], label[1:9]], 1), atol=0.05)


def test_codes_are_moved_from_one_class_to_another():
    data = digits()
    made = pictures(IdentityAutoencoder(), images_of(data), corruption=Identity(), seed=0)
    zero, one = (data.test.x[data.test.label == label] for label in (0, 1))
    way = one.mean(0) - zero.mean(0)
    columns = [zero[:8], zero[:8], zero[:8] + way / 2, zero[:8] + way]
    assert made["arithmetic"].shape == (8, 4, 1, 8, 8)
    # Where a value lies between two grey levels, rounding decides.
    assert abs(made["arithmetic"].astype(int) - _bytes(torch.stack(columns, 1)).astype(int)).max() <= 1
    assert made["values/arithmetic"].tolist() == ["example", "decoded", "halfway", "moved"]


@pytest.mark.parametrize("model", [IdentityAutoencoder(), Conditional()], ids=["one class", "reads labels"])
def test_codes_are_moved_only_with_two_classes_and_without_labels(model):
    data = digits()
    if not model.conditional:
        data = replace(data, test=data.test.rows(data.test.label != 1))
    made = pictures(model, images_of(data), corruption=Identity(), seed=0)
    assert "interpolation_latent" in made and not {"arithmetic", "values/arithmetic"} & made.keys()


def test_few_examples_of_a_class_give_few_rows():
    data = digits()
    rows = torch.cat([(data.test.label == label).nonzero().flatten()[:count] for label, count in ((0, 3), (1, 1))])
    made = pictures(
        IdentityAutoencoder(), images_of(replace(data, test=data.test.rows(rows))), corruption=Identity(), seed=0
    )
    assert made["arithmetic"].shape == (3, 4, 1, 8, 8)


class Hollow(Untrained):
    """Reconstructs shapes, and samples one of 6 voxels; reads and makes volumes [2, 3, 4, 5]."""

    latent_dim, prior = 1, Normal()

    def encode(self, batch):
        return Deterministic(batch.input.flatten(1))

    def decode(self, z, batch=None):
        return GaussianObservation(1 - z.view(-1, 2, 3, 4, 5), torch.tensor(0.0))

    def sample(self, n, draws, label=None):
        return (torch.arange(60).view(3, 4, 5) < 6).float().expand(n, 2, 3, 4, 5)


def test_volumes_are_packed_for_the_page():
    x = torch.rand(20, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    data = Data(*[Split(x)] * 3, Shapes((2, 3, 4, 5)), 256, "none", False, "volumes")
    made = pictures(Hollow(), images_of(data), corruption=Identity(), seed=0)
    assert made["voxels/sides"].tolist() == [3, 4, 5]

    def unpacked(name):
        return np.unpackbits(made[f"voxels/{name}"], axis=1)[:, :60].reshape(-1, 3, 4, 5)

    mean = x[:4].mean(1).numpy()
    assert np.array_equal(unpacked("target"), mean > 0.5) and np.array_equal(unpacked("output"), mean < 0.5)
    assert np.array_equal(unpacked("samples"), np.broadcast_to((np.arange(60) < 6).reshape(3, 4, 5), (8, 3, 4, 5)))
    assert made["input"].shape[1:] == (3, 64, 64), "the pictures that do not turn stay"
    without = pictures(Untrained(), images_of(data), corruption=Identity(), seed=0)
    assert {name for name in without if name.startswith("voxels/")} == {"voxels/sides", "voxels/target"}


class Dyed(Untrained):
    """Images as grey as their age."""

    def translate(self, batch, draws):
        grey = batch.conditions["age"] @ torch.tensor([0.0, 0.4, 1.0])
        return grey.view(-1, 1, 1, 1).expand_as(batch.x)


@pytest.mark.parametrize("names", [("young", "adult", "old"), ()])
def test_pictures_show_each_value_of_a_condition(names):
    age = torch.eye(3, dtype=torch.bool)[torch.arange(40) % 3]
    split = digits().test.rows(slice(40))._replace(conditions={"age": age, "unused": age})
    shapes = digits().shapes._replace(conditions={"age": (3,), "unused": (3,)})
    data = replace(digits(), test=split, shapes=shapes, vocabulary={"age": names} if names else {})
    arrays = pictures(Dyed(), images_of(data), corruption=Identity(), seed=0)
    assert arrays["traversal/age"].shape == (8, 3, 1, 8, 8)
    assert (arrays["traversal/age"] == np.array([0, 102, 255]).reshape(1, 3, 1, 1, 1)).all()
    assert arrays["values/age"].tolist() == [*(names or "012")]
    assert not {"traversal/unused", "values/unused"} & arrays.keys()


def test_small_test_sets_give_fewer_pictures():
    data = digits()
    data = replace(data, test=Split(data.test.x[:3], data.test.label[:3]))
    arrays = pictures(Conditional(), images_of(data), corruption=Identity(), seed=0)
    assert len(arrays["input"]) == 3 and len(arrays["samples"]) == 64 and len(arrays["class_style"]) == 3
    assert arrays["interpolation_latent"].shape == (8, 10, 1, 8, 8)


def test_pictures_show_the_binary_images_that_metrics_use():
    class BinaryIdentity(IdentityAutoencoder):
        def decode(self, z, batch=None):
            return BernoulliObservation(1000 * (z.view(-1, 1, 8, 8) - 0.5))

    data = digits("dynamic")
    arrays = pictures(BinaryIdentity(), images_of(data), corruption=Identity(), seed=3)
    assert set(np.unique(arrays["input"])) == {0, 255}
    assert np.array_equal(arrays["reconstruction"], arrays["input"])
    entries = measure(BinaryIdentity(), data, ["reconstruction_mse"])
    assert entries["reconstruction_mse"]["value"] == pytest.approx(0.0, abs=1e-12)


class PointGenerator(Generator):
    """Samples points in the unit square and has no encoder."""

    def sample(self, n, draws, label=None):
        return draws.uniform("points", (n, 1, 1, 2))


def test_two_dimensional_data_give_points_instead_of_pictures():
    x = torch.rand(2500, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    data = Data(*[Split(x)] * 3, Shapes((1, 1, 2)), 256, "none", False, "points")
    arrays = pictures(PointGenerator(), images_of(data), corruption=Identity(), seed=0)
    assert arrays["points"].dtype == np.float32 and np.array_equal(arrays["points"], x[:2000, 0, 0])
    sampled = arrays["points_sampled"]
    assert sampled.shape == (2000, 2) and sampled.dtype == np.float32 and abs(sampled.mean() - 0.5) < 0.02
    assert "points_sampled" not in pictures(Untrained(), images_of(data), corruption=Identity(), seed=0)
    assert "points" not in pictures(Generator(), images_of(digits()), corruption=Identity(), seed=0)
