"""Contract of every data set in conf/dataset."""

from __future__ import annotations

import inspect
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bench.core import InputError
from bench.data import Data
from bench.datasets import load, prepare

FILES = sorted((Path(__file__).resolve().parents[2] / "conf" / "dataset").glob("*.yaml"))
GENERIC = {f"bench.datasets.{name}" for name in ("images.images", "arrays.arrays", "openml.openml")}
STORED = (torch.uint8, torch.int16, torch.float32)
COMMON = {name: p.default for name, p in inspect.signature(prepare).parameters.items() if name != "source"}


# Where each source finds small data: for its option, a fixture and what follows in the path.
PLACES = {
    "bench.datasets.idx.idx": {"root": "idx_folder"},
    "bench.datasets.images.images": {"root": "picture_folder"},
    "bench.datasets.unaligned_images.unaligned_images": {"root": "picture_folder"},
    "bench.datasets.arrays.arrays": {"path": "npz_file"},
    "bench.datasets.utkface.utkface": {"root": "face_folder"},
    "bench.datasets.palettes.palette_pictures": {"root": "palette_folder"},
    "bench.datasets.ccp.ccp": {"root": "ccp_folder"},
    "bench.datasets.ccp.chictopia": {"root": "chictopia_folder"},
    "bench.datasets.captions.captions": {"root": "coco"},
    "bench.datasets.voxels.packed": {"root": "packed_folder"},
    "bench.datasets.voxels.binvox": {"root": "binvox_folder"},
    "bench.datasets.voxels.meshes": {"root": "mesh_folder"},
    "bench.datasets.voxels.shapenets": {"root": "mat_folder"},
    "bench.datasets.noisy_speech.noisy_speech": {"root": "sounds/digits", "noise_root": "sounds/noises"},
    "bench.datasets.voicebank.voicebank": {"root": "sounds/pairs"},
}
SMALL: dict[str, dict[str, Any]] = {
    "bench.datasets.unaligned_images.unaligned_images": {"size": 12, "source_size": 8},
    "bench.datasets.openml.openml": {"name": "fake"},
    "bench.datasets.sprites.sprites": {"examples": 60},
    "bench.datasets.utkface.utkface": {"bins": [5, 30]},
    "bench.datasets.designs.designs": {"size": 16, "examples": 80},
    "bench.datasets.palettes.palette_pictures": {"size": 8, "shifts": 1},
    "bench.datasets.faces.tiny_faces": {"examples": 80},
    "bench.datasets.faces.unaligned_faces": {"size": 32, "examples": 80},
    "bench.datasets.faces.aging_faces": {"examples": 80},
    "bench.datasets.birds.birds": {"examples": 60},
    "bench.datasets.dolls.dolls": {"examples": 80},
    "bench.datasets.ccp.ccp": {"size": (24, 16)},
    "bench.datasets.ccp.chictopia": {"size": (24, 16)},
    "bench.datasets.captions.captions": {"size": 16},
    "bench.datasets.shapes.shapes": {"examples": 80},
    "bench.datasets.voxels.packed": {"size": 8, "quarter_turns": {"chair": 1}},
    "bench.datasets.voxels.binvox": {"size": 8},
    "bench.datasets.voxels.meshes": {"size": 16},
    "bench.datasets.voxels.shapenets": {"size": 16},
    "bench.datasets.noisy_speech.noisy_speech": {"rate": 2000, "seconds": 1.0, "window": 256},
    "bench.datasets.voicebank.voicebank": {"rate": 2000, "window": 256},
}


@pytest.fixture
def options(request, fake_openml) -> dict:
    """The options of a YAML, with small data of its type."""
    options = yaml.safe_load(request.param.read_text())
    target = options["_target_"]
    if target not in PLACES.keys() | SMALL.keys() and ({"root", "path"} & options.keys()):
        pytest.skip(f"{request.param.name} reads files, and there are no small ones for {target}")
    places = {}
    for option, place in PLACES.get(target, {}).items():
        fixture, _, rest = place.partition("/")
        places[option] = str(request.getfixturevalue(fixture) / rest)
    return options | places | SMALL.get(target, {})


every_file = pytest.mark.parametrize("options", FILES, ids=lambda file: file.stem, indirect=True)


def test_the_data_sets_of_the_readme_exist():
    assert {file.stem for file in FILES} >= {
        "digits",
        "mnist",
        "fashion_mnist",
        "images",
        "arrays",
        "openml",
        "sprites",
    }


@every_file
def test_a_yaml_lists_every_option_and_has_the_common_defaults(options):
    source = inspect.signature(pkgutil.resolve_name(options["_target_"])).parameters
    assert options.keys() | {"name"} == {"_target_", "name", "provides", *source, *COMMON} - {"cache"}
    assert {name: options[name] for name in COMMON} == COMMON


@every_file
def test_a_data_set_provides_what_its_yaml_lists(options):
    provides = load(options).shapes.provides
    if options["_target_"] in GENERIC:  # examples come with what the files have
        assert options["provides"] == [] and provides == ("label",)
    else:
        assert options["provides"] == [*provides]


@every_file
def test_it_loads_as_data_describes(options):
    data = load(options)
    assert isinstance(data, Data)
    if data.shapes.classes:
        labels = torch.cat([split.label for split in (data.train, data.validation, data.test)])
        assert labels.dtype == torch.int64 and data.shapes.classes == labels.max() + 1 and labels.min() == 0
    assert data.grey_levels >= 2 and (data.binarize, data.dequantize) == ("none", False)
    assert len(data.fingerprint) == 16 and int(data.fingerprint, 16)
    for split in (data.train, data.validation, data.test):
        assert split.x.shape[1:] == data.shapes.x and split.x.dtype in STORED
        assert split.label is None or split.label.shape == split.x.shape[:1]
        assert {name: tuple(part.shape[1:]) for name, part in split.conditions.items()} == data.shapes.conditions
        assert all(len(part) == len(split.x) for part in (*split.conditions.values(), *split.truth.values()))
        if split.source is not None:
            assert split.source.shape[1:] == data.shapes.source and split.source.dtype in STORED
        if split.factors is not None:
            assert split.factors.dtype == torch.float32 and len(split.factors) == len(split.x)
            assert 0 <= split.factors.min() < split.factors.max() <= 1
        seen = data.observe(split.x, draws=None)
        assert seen.dtype == torch.float32 and 0 <= seen.min() < seen.max() <= 1
    assert (data.modes is None) == (data.mode_sigma is None)
    assert data.modes is None or data.modes.shape[1:] == data.shapes.x
    if data.train.group is None:  # whole groups are only about as many
        assert len(data.validation.x) == (len(data.train.x) + len(data.validation.x)) // 10


@every_file
def test_the_split_seed_changes_the_split_but_not_the_test_set(options):
    one, again, other = (
        load(options | {"split_seed": seed, "validation": n}) for seed, n in [(0, 5000), (0, 6000), (1, 5000)]
    )
    assert one is not again and one.fingerprint == again.fingerprint
    assert not torch.equal(one.train.x, other.train.x) and one.fingerprint != other.fingerprint
    assert torch.equal(one.test.x, other.test.x)
    assert one.test.label is None or torch.equal(one.test.label, other.test.label)


@every_file
def test_a_limit_takes_the_first_of_each_class(options):
    whole = load(options)
    # Many windows are of one utterance, and its speaker cannot be split.
    limit = 5 if whole.shapes.classes else 60 if options["_target_"].endswith(("speech", "voicebank")) else 15
    data = load(options | {"limit": limit})
    for split in (data.train, data.test):
        assert len(split.x) >= 2 and (len(split.x) if split.label is None else split.label.bincount().max()) <= limit


def test_a_name_and_what_it_provides_are_options_of_every_data_set():
    options = {"_target_": "bench.datasets.digits.digits"}
    assert load(options | {"name": "cells"}).fingerprint == load(options).fingerprint
    assert load(options | {"provides": ["label"]}) is load(options)


def test_a_changed_file_is_read_again(npz_file, npz_arrays):
    options = {"_target_": "bench.datasets.arrays.arrays", "path": str(npz_file)}
    before = load(options)
    np.savez(npz_file, **npz_arrays | {"x_test": npz_arrays["x_test"][:20], "y_test": npz_arrays["y_test"][:20]})
    assert len(load(options).test.x) == 20 and load(options).fingerprint != before.fingerprint


def test_jobs_with_the_same_options_share_one_load(npz_file):
    options = {"_target_": "bench.datasets.arrays.arrays", "path": str(npz_file)}
    assert load(options) is load(dict(reversed(options.items()))) is not load(options | {"split_seed": 1})


def test_load_moves_all_tensors_to_the_device():
    data = load({"_target_": "bench.datasets.sprites.sprites", "examples": 20}, torch.device("meta"))
    parts = [
        part for split in (data.train, data.validation, data.test) for part in (split.x, split.label, split.factors)
    ]
    assert len(parts) == 9 and {part.device.type for part in parts} == {"meta"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"binarize": "sometimes"}, r"dataset\.binarize=sometimes: .*'none', 'static' or 'dynamic'"),
        ({"dequantize": "perhaps"}, r"dataset\.dequantize=perhaps: "),
        ({"split_seed": -1}, r"dataset\.split_seed=-1: .*greater than or equal to 0"),
        ({"validation": 0}, r"dataset\.validation=0: "),
        ({"limit": 0}, r"dataset\.limit=0: "),
        ({"range": "all"}, r"dataset\.range=all: Input should be 'auto', or Input should be a valid tuple"),
        ({"grey_levels": 9}, r"dataset\.grey_levels=9 has no effect"),
        ({"grey_level": 2}, r"dataset\.grey_level=2: Unexpected keyword"),
        (
            {"_target_": "bench.datasets.arrays.array"},
            r"dataset\._target_=bench.datasets.arrays.array cannot be imported",
        ),
        ({"_target_": "no_such_module.read"}, r"dataset\._target_=no_such_module.read cannot be imported"),
    ],
)
def test_a_wrong_option_is_named(npz_file, change, message):
    with pytest.raises(InputError, match=message) as caught:
        load({"_target_": "bench.datasets.arrays.arrays", "path": str(npz_file)} | change)
    assert "\n" not in str(caught.value)


def test_a_function_that_returns_no_source_is_refused():
    with pytest.raises(InputError, match=r"tempfile\.gettempdir returned str: expected bench\.datasets\.Source"):
        load({"_target_": "tempfile.gettempdir"})
