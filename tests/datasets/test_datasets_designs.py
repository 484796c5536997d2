from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv

from bench.datasets import prepare
from bench.datasets.designs import PALETTES, ROLES, designs, draw, recoloured, source_palettes
from bench.parts.colours import ciede2000, rgb_to_lab

SMALL = designs(size=16, examples=150)


def lab(pictures: np.ndarray) -> torch.Tensor:
    return rgb_to_lab(torch.from_numpy(pictures / 255))


def test_there_are_as_many_examples_as_asked_for_with_three_kinds_of_palettes_in_the_test():
    data = prepare(SMALL)
    assert (len(data.train.x), len(data.validation.x), len(data.test.x)) == (108, 12, 30)
    assert data.shapes == ((3, 16, 16), 0, (3, 16, 16), {"palette": (len(ROLES), 3)})
    assert data.vocabulary["subset"] == PALETTES and data.test.truth["subset"].bincount().tolist() == [10, 10, 10]
    assert data.test.conditions["palette"].dtype == torch.float32


def test_a_seed_decides_everything():
    again, other = designs(size=16, examples=150), designs(size=16, examples=150, data_seed=1)
    for one, same, different in zip(SMALL.train[:1], again.train[:1], other.train[:1], strict=True):
        assert (one == same).all() and (one != different).any()
    assert (SMALL.test.conditions["palette"] == again.test.conditions["palette"]).all()


def test_an_image_has_the_lightness_of_its_source_but_not_its_colours():
    for split in (SMALL.train, SMALL.test):
        assert (lab(split.x)[:, 0] - lab(split.source)[:, 0]).abs().max() < 1  # rounded to 8 bits
        assert ciede2000(lab(split.x), lab(split.source)).mean() > 20


def test_recolouring_with_its_own_colours_changes_nothing():
    source = SMALL.train.source[:20]
    assert np.abs(recoloured(source, source / 255).astype(int) - source).max() <= 1


def test_the_shares_of_the_roles_sum_to_one_and_each_role_has_a_part():
    share, light = draw(np.random.default_rng(0), 200, 24)
    np.testing.assert_allclose(share.sum(1), 1)
    assert (share >= 0).all() and (share.mean((0, 2, 3)) > 0.03).all()
    assert light.min() > 0.2 and light.max() < 1.4


def test_the_background_runs_in_any_direction():
    share, _ = draw(np.random.default_rng(0), 1000, 16)
    near = share[:, 0].mean(0)
    edges = np.array([near[0].mean(), near[-1].mean(), near[:, 0].mean(), near[:, -1].mean()])
    assert np.ptp(edges) < 0.1


def test_roles_differ_in_light_where_they_share_a_colour():
    """With one colour for all, the light alone shows a design."""
    _, light = draw(np.random.default_rng(0), 50, 32)
    assert light.std((1, 2)).min() > 0.05


def test_three_fifths_of_the_sources_have_fewer_colours_than_roles():
    palettes = source_palettes(np.random.default_rng(0), 4000)
    distinct = np.array([len(np.unique(palette, axis=0)) for palette in palettes])
    assert np.mean(distinct < len(ROLES)) == pytest.approx(0.6, abs=0.03)
    assert set(distinct) == {3, 4, 5, 6}


def test_a_source_may_have_several_targets_which_stay_in_one_split():
    data = prepare(designs(size=16, examples=150, palettes=4))
    assert len(data.train.x) + len(data.validation.x) == 120
    source, palette = data.train.source.flatten(1), data.train.conditions["palette"].flatten(1)
    distinct = len(source.unique(dim=0))
    assert distinct == len(source) / 4 and len(palette.unique(dim=0)) == len(palette)
    both = torch.cat([source.unique(dim=0), data.validation.source.flatten(1).unique(dim=0)])
    assert len(both.unique(dim=0)) == 30


def test_palettes_of_one_hue_have_similar_hues():
    test = designs(size=16, examples=600).test
    turn = np.exp(2j * np.pi * rgb_to_hsv(test.conditions["palette"])[..., 0])
    alike = [np.abs(turn[test.truth["subset"] == k].mean(1)).mean() for k in range(3)]  # 1: all hues are the same
    assert alike[2] > 0.75 and max(alike[:2]) < 0.65
