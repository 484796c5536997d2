from __future__ import annotations

from http.client import IncompleteRead
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.openml import openml


@pytest.mark.parametrize(
    ("columns", "image", "shape"),
    [
        (36, None, (1, 6, 6)),
        (36, (1, 4, 9), (1, 4, 9)),
        (36, (3, 4, 3), (3, 4, 3)),
        (48, None, (3, 4, 4)),
        (1, None, (1, 1, 1)),
        (24, (1, 6, 4), (1, 6, 4)),
    ],
)
def test_rows_become_images_of_the_set_or_deduced_shape(fake_openml, columns, image, shape):
    table = np.random.default_rng(0).integers(0, 256, (20, columns))
    fake_openml.data, fake_openml.target = table.astype(np.float64), None
    source = openml("fake", image=image, test=4)
    assert prepare(source).train.x.dtype == torch.uint8 and source.train.label is source.test.label is None
    np.testing.assert_array_equal(source.train.x, table[:16].reshape(16, *shape))
    np.testing.assert_array_equal(source.test.x, table[16:].reshape(4, *shape))


def test_colour_channels_are_planar(fake_openml):
    fake_openml.data = np.repeat([[10.0, 20.0, 30.0]], 4, axis=1).repeat(84, axis=0)
    assert openml("fake").test.x[0].tolist() == [[[c, c], [c, c]] for c in (10, 20, 30)]


def test_the_name_and_version_are_requested(fake_openml, monkeypatch):
    requests = []
    monkeypatch.setattr(
        "sklearn.datasets.fetch_openml", lambda *args, **more: requests.append((args, more)) or fake_openml
    )
    openml("kmnist", version=3)
    assert requests == [(("kmnist",), {"version": 3, "as_frame": False})]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_whole_numbers_are_read_as_grey_levels_and_values_up_to_one_as_fractions(fake_openml, dtype):
    grey = fake_openml.data
    for data, stored in [
        (grey.astype(dtype), grey),
        (grey / 255, grey),
        ((grey > 100).astype(dtype), 255 * (grey > 100)),
    ]:
        fake_openml.data = data
        np.testing.assert_array_equal(prepare(openml("fake", test=24)).test.x.reshape(24, 36), stored[60:])


def test_grey_levels_of_another_range_need_the_range_option(fake_openml):
    fake_openml.data = np.rint(fake_openml.data / 16)
    with pytest.raises(InputError, match=r"x_train has values from 0 .* to 16 .* Set dataset\.range=\[0,16\]"):
        load({"_target_": "bench.datasets.openml.openml", "name": "sixteen"})
    data = load({"_target_": "bench.datasets.openml.openml", "name": "sixteen", "range": [0, 16]})
    assert data.range == (0, 16) and data.grey_levels == 17
    assert set((data.train.x.unique() * 16).tolist()) == set(range(17))


def test_a_sparse_table_is_made_dense(fake_openml):
    dense = fake_openml.data
    fake_openml.data = csr_matrix(dense)
    np.testing.assert_array_equal(openml("fake", test=24).train.x.reshape(60, 36), dense[:60])


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (np.array(["pear", "apple", "fig", "apple"], dtype=object), [2, 0, 1, 0]),
        (np.array(["10", "9", "-1", "9"], dtype=object), [2, 1, 0, 1]),
        (np.array(["10", "9", "1a", "9"], dtype=object), [0, 2, 1, 2]),
        (np.array([5.0, 3.0, 10.0, 3.0]), [1, 0, 2, 0]),
        (np.array([True, False, True, True]), [1, 0, 1, 1]),
    ],
)
def test_labels_number_the_sorted_classes(fake_openml, target, labels):
    fake_openml.target = np.tile(target, 21)
    data = prepare(openml("fake", test=24))
    assert data.test.label.tolist() == labels * 6


def test_a_continuous_target_is_not_a_label(fake_openml):
    fake_openml.target = np.linspace(0, 1, 84)
    data = prepare(openml("fake"))
    assert data.shapes[:2] == ((1, 6, 6), 0)
    assert data.warnings == ("the target of fake is continuous, so it was not read as a label",)


def test_without_a_test_size_a_fixed_stratified_fifth_is_held_out(fake_openml):
    source = openml("fake")
    assert len(source.train.x) == 68 and np.unique(source.test.label, return_counts=True)[1].min() >= 5
    label_of = {row.tobytes(): label for row, label in zip(fake_openml.data, fake_openml.target, strict=True)}
    labels = [label_of[row.astype(np.float64).tobytes()] for row in source.test.x.reshape(16, 36)]
    assert labels == source.test.label.tolist()


def test_the_image_option_may_be_a_list(fake_openml):
    data = load({"_target_": "bench.datasets.openml.openml", "name": "a", "image": [1, 4, 9]})
    assert data.shapes[:2] == ((1, 4, 9), 3)


# --- what is refused


def test_a_missing_name_is_refused():
    with pytest.raises(InputError, match=r"^dataset\.name is not set: expected the name of an image data set"):
        openml()


@pytest.mark.parametrize("error", [URLError("no\nroute"), IncompleteRead(b""), ValueError("No known set\nkmnist")])
def test_a_failed_fetch_is_one_line(monkeypatch, error):
    def fetch_openml(name, **_):
        raise error

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    with pytest.raises(InputError, match=r"^kmnist cannot be fetched from .*: check dataset\.name and") as caught:
        openml("kmnist")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"data": np.zeros((84, 35))}, {}, r"fake has 35 columns, .*: set dataset\.image=\[channels,height"),
        ({}, {"image": (3, 6, 6)}, r"dataset\.image=\[3, 6, 6\] needs 108 columns, but fake has 36"),
        ({}, {"image": (4, 3, 3)}, r"dataset\.image=\[4, 3, 3\] has 4 channels: expected 1 \(grey\) or 3"),
        ({"data": np.full((84, 36), "red", dtype=object)}, {}, "fake has columns that are not numbers"),
        ({}, {"test": 84}, r"dataset\.test=84: fake has 84 images in all; give fewer"),
        ({"target": np.zeros((84, 2))}, {}, "fake has 2 target columns: expected one"),
        ({"target": np.array(["a", None] * 42, dtype=object)}, {}, "fake has no target in 42 of its rows"),
    ],
)
def test_an_unsuitable_table_is_refused(fake_openml, change, options, message):
    vars(fake_openml).update(change)
    with pytest.raises(InputError, match=f"^{message}") as caught:
        openml("fake", **options)
    assert "\n" not in str(caught.value)
