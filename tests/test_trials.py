"""Trials of tuning: points of a Sobol sequence, and the settings that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.stats import qmc

from bench.core import InputError
from bench.paths import CONF
from bench.runs.store import IDENTITY
from bench.trials import SEED, _value, candidates, point, sobol, with_settings


def config(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("config", list(overrides))


@pytest.mark.parametrize("dimensions", [1, 2, 5])
@pytest.mark.parametrize("log2", [1, 3, 5])
def test_each_part_of_each_dimension_gets_one_of_the_first_points(dimensions, log2):
    """The first 2^m points of a (0, m, 1)-net: what random points lack (Owen 1998)."""
    points = np.array([sobol(number, dimensions) for number in range(2**log2)])
    for column in points.T:
        assert sorted(np.floor(column * 2**log2)) == list(range(2**log2))


def test_a_point_is_that_of_the_scrambled_sequence_of_scipy():
    expected = qmc.Sobol(3, scramble=True, seed=SEED).random(8)
    assert np.allclose([sobol(number, 3) for number in range(8)], expected, atol=0)


@pytest.mark.parametrize(
    ("dimension", "share", "value"),
    [
        ({"low": 2.0, "high": 4.0}, 0.25, 2.5),
        ({"low": 1e-4, "high": 1e-2, "log": True}, 0.5, 1e-3),
        ({"low": 1e-4, "high": 1e-2, "log": True}, 0.0, 1e-4),
        ({"low": 0.0, "high": 1.0}, 1 / 3, 0.3333),
        ({"low": 1, "high": 4, "integer": True}, 0.0, 1),
        ({"low": 1, "high": 4, "integer": True}, 0.2499, 1),
        ({"low": 1, "high": 4, "integer": True}, 0.25, 2),
        ({"low": 1, "high": 4, "integer": True}, 0.9999, 4),
        ({"low": 1, "high": 7, "integer": True, "log": True}, 0.34, 2),
        ({"low": 1, "high": 7, "integer": True, "log": True}, 0.9999, 7),
        ({"choices": ["a", None, [1, 2]]}, 0.5, None),
        ({"choices": ["a", None, [1, 2]]}, 0.9999, [1, 2]),
    ],
)
def test_a_share_of_a_range_is_a_value(dimension, share, value):
    found = _value("model.beta", dimension, share)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "dimension",
    [
        3, [1, 2], {}, {"low": 1.0}, {"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "log": True}, {"choices": []},
        {"low": 1.0, "high": 3.0, "integer": True}, {"low": "a", "high": 3}, {"low": 1, "high": 2, "step": 1},
        {"choices": [1], "low": 1}, {"low": True, "high": 3}, {"low": 1.0, "high": float("nan")},
        {"low": 1, "high": 2, "log": "yes"},
    ],
)  # fmt: skip
def test_another_range_is_refused_by_name(dimension):
    with pytest.raises(InputError, match=r"tuning\.space\.model\.beta=.*expected"):
        _value("model.beta", dimension, 0.5)


def test_a_trial_has_the_settings_of_its_point():
    of_space = config("model=beta_vae")
    found = point(of_space, 3, fixed=[])
    shares = sobol(3, 2)
    assert found == {
        "optimizer.lr": float(f"{1e-4 * 100 ** shares[0]:.4g}"), "model.beta": float(f"{0.1 * 100 ** shares[1]:.4g}"),
    }  # fmt: skip
    (one,) = candidates(config("model=beta_vae", "trial=3"), [], IDENTITY)
    assert (
        one["groups"]["optimizer"]["lr"] == found["optimizer.lr"]
        and one["groups"]["model"]["beta"] == found["model.beta"]
    )
    assert one["groups"]["model"]["optimizers"]["model"]["lr"] == found["optimizer.lr"], "it refers to optimizer.lr"


def test_a_setting_of_the_command_line_is_not_tuned():
    assert point(config("model=beta_vae"), 3, fixed=["model.beta", "dataset"]) == {
        "optimizer.lr": float(f"{1e-4 * 100 ** sobol(3, 1)[0]:.4g}")
    }
    assert point(config("model=beta_vae"), 3, fixed=["model.beta", "optimizer"]) == {}


def test_a_model_without_a_space_has_its_learning_rates_tuned_by_one_factor():
    of_caae = config("model=caae")
    assert not of_caae.tuning.space, "another model makes this test say something"
    found = point(of_caae, 2, fixed=[])
    factor = 0.1 * 100 ** sobol(2, 1)[0]
    assert found["optimizer.lr"] == float(f"{of_caae.optimizer.lr * factor:.4g}")
    changed, before = with_settings(of_caae, found), of_caae.model.optimizers
    for player, options in changed.model.optimizers.items():
        assert options.lr == pytest.approx(before[player].lr * factor, rel=1e-3), player


def test_the_best_trial_is_one_of_all():
    found = candidates(config("model=vae", "trial=best", "tuning.trials=5"), [], IDENTITY)
    assert [one["settings"] for one in found] == [point(config("model=vae"), number, []) for number in range(5)]
    with pytest.raises(InputError, match=r"tuning\.trials"):
        candidates(config("model=vae", "trial=best"), [], IDENTITY)


@pytest.mark.parametrize(
    "space", [{"model.betta": {"choices": [1]}}, {"model": {"choices": [1]}}, {"x.y": {"choices": [1]}}]
)
def test_an_unknown_setting_is_refused(space):
    of_vae = config("model=vae")
    of_vae.tuning.space = OmegaConf.create(space)
    with pytest.raises(InputError, match=f"tuning.space names {next(iter(space))}"):
        point(of_vae, 0, [])
