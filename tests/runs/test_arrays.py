"""What users give a loaded model, and in which form answers come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bench.core import InputError, Model
from bench.data import as_floats
from bench.datasets.ranges import to_pixels
from bench.parts.likelihoods import PointObservation
from bench.parts.posteriors import Deterministic
from bench.runs.trained import Trained

RANGE = (0.0, 16.0)


class Halves(Model):
    """The code of an image is the mean of its upper and of its lower half, plus its class. A code decodes to both."""

    latent_dim = 2

    def __init__(self, conditional=False):
        super().__init__()
        self.conditional, self.zero = conditional, nn.Parameter(torch.zeros(()))

    def encode(self, batch):
        code = batch.input.reshape(len(batch.input), 2, -1).mean(2)
        return Deterministic(code if batch.label is None else code + batch.label[:, None])

    def decode(self, z, batch=None):
        shade = batch.conditions.get("shade", torch.zeros(len(z), 1))
        return PointObservation((z + shade).reshape(-1, 1, 2, 1).expand(-1, 1, 2, 3) + self.zero)


@pytest.fixture
def trained():
    return of()


def of(conditional=False, **data):
    known = {"image": [1, 2, 3], "classes": 4, "range": list(RANGE), "conditions": {"shade": [1]}}
    return Trained(Halves(conditional), {"data": known | data})


X = np.random.default_rng(0).random((5, 1, 2, 3))


def test_arrays_in_arrays_out_and_tensors_in_tensors_out(trained):
    codes = trained.encode(X)
    assert isinstance(codes, np.ndarray) and codes.dtype == np.float32
    np.testing.assert_allclose(codes, X.reshape(5, 2, 3).mean(2), rtol=1e-6)
    for x in (torch.from_numpy(X), torch.from_numpy(X).half(), torch.from_numpy(X).float()):
        found = trained.encode(x)
        assert isinstance(found, torch.Tensor) and found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), codes, atol=1e-3)
    images = trained.decode(codes)
    assert isinstance(images, np.ndarray) and images.shape == (5, 1, 2, 3)
    assert isinstance(trained.decode(torch.from_numpy(codes)), torch.Tensor)
    np.testing.assert_array_equal(trained.decode(codes.tolist()), images)


def test_a_single_one_in_a_single_one_out(trained):
    codes = trained.encode(X)
    np.testing.assert_array_equal(trained.encode(X[2]), codes[2])
    np.testing.assert_array_equal(trained.encode(X[2:3]), codes[2:3])
    np.testing.assert_array_equal(trained.decode(codes[2]), trained.decode(codes)[2])
    assert trained.decode(torch.from_numpy(codes[2])).shape == (1, 2, 3)
    single = trained.translate(X[0], shade=np.array([0.5]))
    np.testing.assert_allclose(single, trained.translate(X[:1], shade=np.array([[0.5]]))[0])
    np.testing.assert_allclose(single - trained.translate(X[0], shade=[0]), 0.5, rtol=1e-6)


def test_a_view_with_reversed_rows_is_read_as_it_is(trained):
    np.testing.assert_array_equal(trained.encode(X[::-1, :, ::-1]), trained.encode(X[::-1, :, ::-1].copy()))


@pytest.mark.parametrize(
    ("ends", "dtype"),
    [
        ((0.0, 255.0), np.uint8),
        ((0.0, 16.0), np.uint8),
        ((0.0, 1.0), np.int64),
        ((0.0, 65535.0), np.uint16),
        ((-32768.0, 32768.0), np.int16),
        ((-5.0, 5.0), np.int32),
    ],
)
def test_integers_are_converted_like_the_data_of_the_run(ends, dtype):
    top = min(int(ends[1]), np.iinfo(dtype).max)
    stored = np.random.default_rng(0).integers(int(ends[0]), top, (4, 1, 2, 3), dtype, endpoint=True)
    floats = as_floats(torch.from_numpy(to_pixels([stored], ends)[0])).numpy()
    model = of(range=list(ends))
    np.testing.assert_array_equal(model.encode(stored), model.encode(floats))
    np.testing.assert_allclose(floats, (stored - ends[0]) / (ends[1] - ends[0]), atol=1e-6)
    if dtype != np.uint16:
        assert torch.equal(model.encode(torch.from_numpy(stored)), torch.from_numpy(model.encode(stored)))


def test_black_is_0_and_white_is_1_whatever_the_type():
    black, white = np.zeros((1, 2, 3), np.uint8), np.full((1, 2, 3), 255, np.uint8)
    for model in (of(range=[0.0, 255.0]), of(range=None)):  # a record may not know it
        assert model.encode(black).tolist() == [0, 0] and model.encode(white).tolist() == [1, 1]
        assert model.encode(white > 0).tolist() == [1, 1] and model.encode(white / 255).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:, 0], r"x has shape \(5, 2, 3\): expected \[N, 1, 2, 3\], channels first, or \[1, 2, 3\] for a single one"),
        (X[0, 0], r"x has shape \(2, 3\): expected"),
        (X.transpose(0, 2, 3, 1), r"x has shape \(5, 2, 3, 1\): expected"),
        (0.5, r"x has shape \(\): expected"),
        (
            np.full((1, 2, 3), 255, np.uint8),
            "x has integers from 255 to 255: expected them from 0 to 16, as the data of this",
        ),
        (np.full((1, 2, 3), -1), "x has integers from -1 to -1: expected them from 0 to 16"),
        (
            16 * X,
            r"x has floats from [\d.]+ to 15[\d.]*: expected 0 for black and 1 for white, or integers from 0 to 16",
        ),
        (np.full((1, 2, 3), np.nan), "x has floats from nan to nan: expected 0 for black"),
        (np.full((1, 2, 3), "a"), "x has type <U1: expected numbers"),
        (X + 1j, "x has type complex128: expected numbers"),
    ],
)
def test_wrong_images_are_refused_with_what_is_expected(trained, x, message):
    with pytest.raises(InputError, match=f"^{message}"):
        trained.encode(x)


def test_noise_may_leave_the_range(trained):
    noisy = X + np.random.default_rng(1).normal(size=X.shape)
    np.testing.assert_allclose(trained.encode(noisy), noisy.reshape(5, 2, 3).mean(2), rtol=1e-5)


def test_codes_have_the_size_of_the_model(trained):
    with pytest.raises(InputError, match=r"^z has shape \(5, 3\): expected \[N, 2\], or \[2\] for a single one$"):
        trained.decode(np.zeros((5, 3)))


@pytest.mark.parametrize("label", [np.arange(4), torch.arange(4), [0, 1, 2, 3], np.arange(4, dtype=np.uint8)])
def test_labels_of_any_kind(label):
    model = of(conditional=True)
    plain = of().encode(X[:4])
    np.testing.assert_allclose(model.encode(X[:4], label), plain + np.arange(4)[:, None], rtol=1e-6)
    np.testing.assert_allclose(model.encode(X[0], 3), plain[0] + 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "this model is conditional: pass label=, the class of each image$"),
        ([0, 1], r"label has shape \(2,\) and type torch.int64: expected 4 class numbers$"),
        (1, r"label has shape \(\) and type torch.int64: expected 4 class numbers$"),
        (np.zeros(4), r"label has shape \(4,\) and type torch.float64: expected 4 class numbers$"),
        ([0, 1, 2, 4], "label goes from 0 to 4: expected 0 to 3$"),
    ],
)
def test_wrong_labels_are_refused(label, message):
    with pytest.raises(InputError, match=f"^{message}"):
        of(conditional=True).encode(X[:4], label)


def test_conditions_that_the_model_does_not_have_are_refused(trained):
    with pytest.raises(InputError, match="^age is not a condition of this model: it has shade$"):
        trained.decode(np.zeros(2), age=1)
    with pytest.raises(InputError, match="^shade has 2 examples: expected 5$"):
        trained.decode(np.zeros((5, 2)), shade=np.zeros((2, 1)))
