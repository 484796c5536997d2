"""The layouts of stored arrays: images, waves and volumes become [N, C, *sides]."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.arrays import arrays
from bench.draws import Draws
from tests.datasets.conftest import pixels, saved


@pytest.mark.parametrize(
    ("stored", "shape", "order"),
    [
        ((14, 6, 4), (1, 6, 4), None),
        ((14, 36), (1, 6, 6), None),
        ((14, 1, 6, 4), (1, 6, 4), None),
        ((14, 3, 6, 4), (3, 6, 4), None),
        ((14, 1, 1, 1), (1, 1, 1), None),
        ((14, 6, 4, 1), (1, 6, 4), (0, 3, 1, 2)),
        ((14, 6, 4, 3), (3, 6, 4), (0, 3, 1, 2)),
    ],
)
def test_every_layout_is_converted_to_channels_first(tmp_path, stored, shape, order):
    x = np.random.default_rng(0).integers(0, 256, stored, dtype=np.uint8)
    expected = (x.transpose(order) if order else x).reshape(14, *shape)
    np.testing.assert_array_equal(arrays(saved(tmp_path, {"x_train": x, "x_test": x})).train.x, expected)


@pytest.mark.parametrize(
    ("stored", "options", "shape", "source_axis"),
    [
        ((14, 40), {"sides": 1}, (1, 40), None),
        ((14, 2, 40), {"sides": 1, "channels": "first"}, (2, 40), None),
        ((14, 1, 40), {"sides": 1}, (1, 40), None),
        ((14, 40, 3), {"sides": 1}, (3, 40), -1),
        ((14, 40, 2), {"sides": 1, "channels": "last"}, (2, 40), -1),
        ((14, 3, 40), {"sides": 2}, (1, 3, 40), None),
        ((14, 6, 5, 4), {"sides": 3}, (1, 6, 5, 4), None),
        ((14, 3, 5, 4), {"sides": 3}, (1, 3, 5, 4), None),
        ((14, 1, 6, 5, 4), {}, (1, 6, 5, 4), None),
        ((14, 6, 5, 4, 3), {}, (3, 6, 5, 4), -1),
        ((14, 2, 6, 5, 4), {"channels": "first"}, (2, 6, 5, 4), None),
        ((14, 120), {"image": (1, 6, 5, 4)}, (1, 6, 5, 4), None),
        ((14, 80), {"image": (2, 40)}, (2, 40), None),
    ],
)
def test_waves_and_volumes_are_converted_to_channels_first(tmp_path, stored, options, shape, source_axis):
    x = np.random.default_rng(0).integers(0, 256, stored, dtype=np.uint8)
    expected = x.reshape(14, *shape) if source_axis is None else np.moveaxis(x, source_axis, 1)
    found = arrays(saved(tmp_path, {"x_train": x, "x_test": x, "source_train": x, "source_test": x}), **options)
    np.testing.assert_array_equal(found.train.x, expected)
    np.testing.assert_array_equal(found.test.source, expected)
    assert found.train.x.shape == (14, *shape)


@pytest.mark.parametrize(
    ("stored", "options", "message"),
    [
        ((14, 1, 40), {}, r"may be waves \[N, C, T\] or images \[N, H, W\]: set dataset.sides=1 or 2"),
        ((14, 16, 16, 16), {}, r"for volumes dataset.sides=3"),
        ((14, 40), {}, r"for waves set dataset.sides=1"),
        ((14, 2, 40), {"sides": 1}, "channels may be first or last: set dataset.channels"),
        ((14, 2, 6, 5, 4), {}, "channels may be first or last: set dataset.channels"),
        ((14, 6, 4), {"sides": 3}, r"shape \(14, 6, 4\); expected \[N, C, D, H, W\] or .* for 3 sides"),
        (
            (14, 80),
            {"sides": 1, "image": (2, 40)},
            "dataset.sides=1 has no effect: dataset.image=.2, 40. has all sides",
        ),
    ],
)
def test_ambiguous_and_wrong_waves_and_volumes_are_refused(tmp_path, stored, options, message):
    x = np.zeros(stored)
    with pytest.raises(InputError, match=message):
        arrays(saved(tmp_path, {"x_train": x, "x_test": x}), **options)


def test_sound_of_int16_stays_int16_with_silence_at_one_half(tmp_path):
    x = np.random.default_rng(0).integers(-3000, 3000, (20, 1, 64), dtype=np.int16)
    x[:, 0, :4] = 0, -32768, 32767, 16384
    data = prepare(arrays(saved(tmp_path, {"x": x}), sides=1))
    assert data.train.x.dtype == torch.int16
    assert data.read(data.train, Draws(0)).x[:, 0, :4].unique(dim=0).tolist() == [[0.5, 0.0, 65535 / 65536, 0.75]]


@pytest.mark.parametrize("stored", [(8, 3, 8, 3), (8, 3, 4, 1), (8, 1, 1, 3), (8, 1, 6, 1)])
def test_an_ambiguous_layout_needs_the_channels_option(tmp_path, stored):
    x = np.random.default_rng(0).integers(0, 256, stored, dtype=np.uint8)
    path = saved(tmp_path, {"x_train": x, "x_test": x})
    with pytest.raises(
        InputError, match=r"x_train has shape \(8, .* channels may be first or last: set dataset\.chann"
    ):
        arrays(path)
    np.testing.assert_array_equal(arrays(path, channels="first").train.x, x)
    np.testing.assert_array_equal(arrays(path, channels="last").train.x, x.transpose(0, 3, 1, 2))


def test_a_wrong_channels_option_is_refused(tmp_path):
    path = saved(tmp_path, {"x_train": np.zeros((8, 6, 4, 3)), "x_test": np.zeros((8, 6, 4, 3))})
    with pytest.raises(
        InputError, match=r"dataset\.channels=first: .*x_train has shape \(8, 6, 4, 3\); expected 1 or 3"
    ):
        arrays(path, channels="first")
    path = saved(tmp_path, {"x_train": np.zeros((8, 6, 4)), "x_test": np.zeros((8, 6, 4))})
    with pytest.raises(InputError, match=r"dataset\.channels=first has no effect: .*x_train has shape \(8, 6, 4\)"):
        arrays(path, channels="first")


@pytest.mark.parametrize(
    ("stored", "image", "channels", "order"),
    [
        ((14, 24), (1, 6, 4), None, None),
        ((14, 24), (1, 4, 6), None, None),
        ((14, 75), (3, 5, 5), None, None),
        ((14, 75), (3, 5, 5), "first", None),
        ((14, 75), (3, 5, 5), "last", (0, 3, 1, 2)),
        ((14, 6, 4), (1, 6, 4), None, None),
        ((28, 28, 50), (1, 28, 50), None, None),
        ((14, 6, 3), (1, 6, 3), None, None),
        ((14, 6, 4, 3), (3, 6, 4), None, (0, 3, 1, 2)),
        ((14, 3, 6, 3), (3, 6, 3), None, None),
        ((14, 3, 6, 3), (3, 3, 6), None, (0, 3, 1, 2)),
        ((14, 3, 3, 3), (3, 3, 3), "last", (0, 3, 1, 2)),
    ],
)
def test_the_image_option_is_the_shape_of_an_image(tmp_path, stored, image, channels, order):
    x = np.random.default_rng(0).integers(0, 256, stored, dtype=np.uint8)
    expected = x.reshape(-1, *image[1:], image[0]).transpose(order) if order else x.reshape(-1, *image)
    source = arrays(saved(tmp_path, {"x_train": x, "x_test": x}), image=image, channels=channels)
    np.testing.assert_array_equal(source.train.x, expected)


def test_the_image_option_may_be_a_list(tmp_path):
    path = saved(tmp_path, {"x": pixels(60, 75)})
    data = load({"_target_": "bench.datasets.arrays.arrays", "path": path, "image": [3, 5, 5], "channels": "last"})
    assert data.shapes[:2] == ((3, 5, 5), 0)


@pytest.mark.parametrize(
    ("stored", "image", "channels", "message"),
    [
        ((14, 6, 4), (1, 4, 6), None, r"dataset\.image=\[1, 4, 6\]: .*x_train has shape \(14, 6, 4\); expected \[N, 1"),
        ((28, 28, 50), (1, 28, 28), None, r"expected \[N, 1, 28, 28\], \[N, 28, 28, 1\] or \[N, 784\], or \[N, 28"),
        ((14, 24), (1, 6, 4), "last", r"dataset\.channels=last: .* has shape \(14, 24\)"),
        ((14, 3, 6, 4), (3, 6, 4), "last", r"dataset\.channels=last: .* has shape \(14, 3, 6, 4\)"),
        ((14, 3, 3, 3), (3, 3, 3), None, "channels may be first or last: set dataset"),
        ((14, 32), (2, 4, 4), None, r"dataset\.image=\[2, 4, 4\] has 2 channels: expected 1 \(grey\) or 3"),
    ],
)  # fmt: skip
def test_an_image_option_that_does_not_fit_is_refused(tmp_path, stored, image, channels, message):
    path = saved(tmp_path, {"x_train": np.zeros(stored), "x_test": np.zeros(stored)})
    with pytest.raises(InputError, match=message):
        arrays(path, image=image, channels=channels)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ((28, 28, 50), r"28 images or 50: set dataset\.image=\[1,28,50\] if .* 28; if .* 50, store numpy\.m.*x, 2, 0"),
        ((20, 24, 50), r"20 images or 50: set dataset\.image=\[1,24,50\]"),
        ((28, 28, 20), r"28 images or 20"),
        ((28, 28, 1), r"28 images or 1:"),
        ((28, 28, 50, 3), r"28 images or 50: set dataset\.image=\[3,28,50\]"),
        ((16, 100), r"16 images or 100: set dataset\.image=\[1,10,10\] .* numpy\.moveaxis\(x, 1, 0\)"),
        ((28, 28, 3, 50), r"if the last axis counts the images, store numpy\.moveaxis\(x, -1, 0\)"),
        ((28, 28, 3), r"one colour image or 28 grey ones: .* \[N, H, W, 3\], or set dataset\.image=\[1,28,3\] if"),
        ((60, 20, 3), r"one colour image or 60 grey ones"),
        ((60, 20, 4), r"one colour image or 60 grey ones"),
        ((60, 75), r"set dataset\.image=\[3,5,5\] if the rows are colour images, and dataset\.channels=last as well"),
    ],
)  # fmt: skip
def test_images_that_may_be_stored_along_another_axis_are_refused(tmp_path, stored, message):
    path = saved(tmp_path, {"x": np.zeros(stored)})
    with pytest.raises(InputError, match=message) as caught:
        arrays(path)
    assert "\n" not in str(caught.value)


def test_labels_decide_which_axis_counts_the_images(tmp_path):
    x = pixels(20, 20, 50)
    assert arrays(saved(tmp_path, {"x": x, "y": np.arange(20) % 2})).train.x.shape == (16, 1, 20, 50)
    with pytest.raises(InputError, match="20 images or 50"):
        arrays(saved(tmp_path, {"x": x, "y": np.arange(50) % 2}))
    with pytest.raises(InputError, match="30 images or 20"):
        arrays(saved(tmp_path, {"x": pixels(30, 24, 20), "y": np.arange(20) % 2}))


@pytest.mark.parametrize("stored", [(8, 35), (8, 6, 4, 2), (8, 2, 6, 4), (8, 28, 28, 28), (8,), (8, 1, 6, 4, 1, 2)])
def test_an_unknown_layout_is_refused(tmp_path, stored):
    path = saved(tmp_path, {"x_train": np.zeros(stored), "x_test": np.zeros((8, 36))})
    with pytest.raises(InputError, match=r"a\.npz: x_train has shape \(8,.* expected \[N, H, W\]"):
        arrays(path)
