"""Python values as words of a command line: Hydra reads them as equal values of the same type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core import InputError
from bench.runs.words import text, words

PARSER = OverridesParser.create()
TEXTS = st.text("ab1.'\"\\,= {}[]():$#-+\t\né%@?|/*~&", max_size=8) | st.sampled_from(
    ["null", "True", "nan", "-inf", "1e3", "2024", "0x1", "${a}", "choice(a,b)", "a,b", "a=b", " a "]
)
SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | TEXTS
KEYS = st.sampled_from(["from", "to", "lr", "a_b"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


def plain(value):
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def parsed(word: str):
    override = PARSER.parse_override(word)
    assert not override.is_sweep_override()
    return plain(override._value)


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_a_value_comes_back_equal_and_of_the_same_type(value):
    assert repr(parsed(f"key={text('key', value)}")) == repr(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (np.int32(3), 3),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        (torch.tensor([1.5]), [1.5]),
        (range(2), [0, 1]),
        (Path("a b/c,d.npz"), "a b/c,d.npz"),
    ],
)
def test_arrays_ranges_and_paths(value, expected):
    assert repr(parsed(f"key={text('key', value)}")) == repr(expected)


def test_usual_options_stay_readable():
    assert text("", "vae_gan") == "vae_gan" and text("", "hybrids/caae") == "hybrids/caae"
    assert text("", {"from": 0, "to": 1, "over": 0.2}) == "{from:0,to:1,over:0.2}"


def test_overrides_come_first_and_dictionaries_set_values_of_a_group():
    made = words(
        ("model=vae", "--config-dir", "-my conf"),
        {"seeds": [0, 1], "optimizer": {"lr": 1e-3}, "model": {"optimizers": {"critic": {"lr": 0.1}}}, "allow": []},
        is_sweep=False,
    )
    assert made == [
        "model=vae", "--config-dir", "-my conf",
        "seeds=[0,1]", "optimizer.lr=0.001", "model.optimizers={critic:{lr:0.1}}", "allow=[]",
    ]  # fmt: skip


def test_a_tuple_sweeps():
    made = words(
        (), {"model": ("ae", "vae"), "network": {"hidden": (8, 16)}, "dataset.path": ("a,b", "c")}, is_sweep=True
    )
    assert made == ["model=ae,vae", "network.hidden=8,16", "dataset.path='a,b',c"]
    assert [PARSER.parse_override(word).is_sweep_override() for word in made] == [True] * 3


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        ((1,), {}, "1 is not an override"),
        (("--help",), {}, "--help is a flag of the command line"),
        (("-m",), {}, "-m is a flag"),
        ((), {"model": ["ae", "vae"]}, r"model=\['ae', 'vae'\]: a list is one value; a tuple sweeps"),
        ((), {"model": ("ae", "vae")}, r"model=\('ae', 'vae'\): a tuple holds the values of a sweep: use bench.sweep"),
        ((), {"model": object()}, "model is a object: expected a number, a text"),
        ((), {"model": {"beta": {1: 2}}}, "model.beta has the key 1"),
        ((), {"a b": 1}, "'a b' is not the name of a setting"),
        ((), {"dry_run": True}, "dry_run prints a plan and has no results"),
        (("dry_run=true",), {}, "dry_run prints a plan and has no results"),
    ],
)
def test_what_has_no_form_on_a_command_line_is_refused(overrides, settings, message):
    with pytest.raises(InputError, match=f"^{message}"):
        words(overrides, settings, is_sweep=False)


def test_a_sweep_over_nothing_is_refused():
    with pytest.raises(InputError, match=r"^model=\(\): expected at least one value"):
        words((), {"model": ()}, is_sweep=True)
