"""Shared by the tests: jobs from command lines, small data, batches and short training runs."""

from __future__ import annotations

import copy
import gc
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from bench.compose import Composed, plan_job, speed_up_hydra
from bench.data import Batch, Data, Shapes, Split, as_floats
from bench.datasets import load
from bench.draws import Draws
from bench.engine.seeds import Stack
from bench.engine.train import Budget, phases_of, train
from bench.paths import CONF
from bench.runs.config import Job, build, check, corruption, data_sets_with, optimizers, schedule

# The networks are so small that threads would only wait for each other, much longer on a busy machine.
torch.set_num_threads(1)
speed_up_hydra()


def folder_in_memory() -> Path | None:
    """A file system in memory that has room for the files of tests and starts programs."""
    if not (folder := Path("/dev/shm")).is_dir():
        return None
    disk = os.statvfs(folder)
    return folder if disk.f_bavail * disk.f_frsize >= 4 * 2**30 and not disk.f_flag & os.ST_NOEXEC else None


# Tests make and remove many thousand files, and to remove one from a disk can take a millisecond.
TEMPORARY = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder_in_memory() or tempfile.gettempdir()))
# Feature classifiers of this test run, shared by its processes: those of xdist inherit the variables of the first.
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
CACHE = Path(os.environ["BENCH_CACHE"]) if IS_WORKER else Path(TEMPORARY, f"latentbench-{os.getpid()}")
os.environ["BENCH_CACHE"] = str(CACHE)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keeps the garbage collector from the many thousand objects of pytest, which are never garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not IS_WORKER:
        shutil.rmtree(CACHE, ignore_errors=True)


SHAPES = Shapes((1, 8, 8), classes=10)

# All models in conf/model, and small sizes of their codes and of the networks.
MODELS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path(CONF, "model").glob("*.yaml"))}
LATENTS = {name: min(4, options["latent_dim"]) for name, options in MODELS.items() if "latent_dim" in options}
NETWORKS = {"mlp": 16, "conv": 4, "resnet": 4}
# Models that would be slow to test at their usual size, and the options that make them small.
SMALL = {
    "clothnet": ("model.width=4", "model.style_dim=4"),
    "enlarged": ("model.width=4", "model.depth=2"),
    "nearest_neighbour": ("model.examples=30",),
    "palettenet": ("model.width=4", "model.critic_width=4"),
    "palettenet_roles": ("model.width=4",),
    "segan": ("model.widths=[4,8,8]", "model.critic_widths=[4,8]", "model.kernel=5"),
    "segan_gate": ("model.widths=[4,4]",),
    "stackgan": ("model.caption_dim=8", "model.condition_dim=8", "model.noise_dim=4"),
    "stackgan_published": ("model.caption_dim=8", "model.condition_dim=8", "model.noise_dim=4"),
    "tdae": ("model.width=4", "model.iterations=2"),
}


@cache
def composed(*options: str) -> Composed:
    """What Hydra composes for a choice of options, which takes 60 ms."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return Composed.of(compose("config", list(options), return_hydra_config=True))


@cache
def option_of(group: str, option: str) -> DictConfig:
    """The values of an option: those of its file, which Hydra composes only if it builds on others."""
    path = Path(CONF, group, f"{option}.yaml")
    values = OmegaConf.load(path) if path.is_file() else {"defaults": []}
    return composed(f"{group}={option}").config[group] if "defaults" in values else values


@cache
def joined(*options: str) -> Composed:
    """The same from what Hydra composes for the model and for each other option alone: these do not change the rest."""
    if any(word.startswith("experiment=") for word in options):
        return composed(*options)
    whole = copy.deepcopy(composed(*(word for word in options if word.startswith("model="))))
    for word in options:
        group, _, option = word.partition("=")
        if group != "model":
            whole.config[group] = option_of(group, option)
            whole.holder.hydra.runtime.choices[group] = option
    return whole


@cache
def config_of(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of a command line."""
    options = tuple(word for word in overrides if Path(CONF, word.partition("=")[0]).is_dir())
    job = plan_job(OverridesParser.create(), 0, list(overrides), [CONF], {options: joined(*options)})
    job.use_hydra_config()
    choices = HydraConfig.get().runtime.choices
    return OmegaConf.to_container(job.config, resolve=True) | {"choices": dict(choices)}


@cache
def job_of(*overrides: str) -> Job:
    """The checked job of a command line."""
    return check(config_of(*overrides))


def data_of(x: Tensor, label: Tensor | None = None) -> Data:
    """A data set whose train, validation and test images are all x [N, C, H, W]."""
    split = Split(x, label)
    shapes = Shapes(tuple(x.shape[1:]), 0 if label is None else 10)
    return Data(split, split, split, shapes, grey_levels=256, binarize="none", dequantize=False, fingerprint="")


# Data of the kind that a model is made for, where others provide what it requires too.
OWN_DATA = dict.fromkeys(("bicubic", "nearest_neighbour", "enlarged", "tdae"), "tiny_faces")
OWN_DATA |= {"voxel_vae_gan": "shapes"}
# Small images: nearly all of a test's time is that of their pixels.
SIDES = {
    "aging_faces": ("size=16",),
    "birds": ("size=16",),
    "designs": ("size=16",),
    "dolls": ("size=[24,16]",),
    "shapes": ("source_size=16",),
    "tiny_faces": ("size=16", "source_size=8"),
}
OF_WAVES = ("segan", "segan_gate", "wiener")  # models whose data sets all need files: they get `small_waves`


@cache
def data_set_for(name: str) -> str | None:
    """A data set without files that provides what a model requires; None for a model that needs images and labels."""
    required = set(MODELS[name]["requires"]) - {"noise"}
    if name in (*OWN_DATA, *OF_WAVES) or not required - {"label"}:
        return OWN_DATA.get(name)
    files = {path.stem: yaml.safe_load(path.read_text()) for path in Path(CONF, "dataset").glob("*.yaml")}
    return next(name for name in sorted(data_sets_with(sorted(required))) if not {"root", "path"} & files[name].keys())


@cache
def _stored(name: str) -> Data:
    data_set = data_set_for(name)
    options = yaml.safe_load(Path(CONF, "dataset", f"{data_set}.yaml").read_text())
    sizes = [f"dataset.{key}=120" for key in ("examples", "train", "test") if key in options]
    sizes += [f"dataset.{side}" for side in SIDES.get(data_set, ())]
    data = load(job_of(f"model={name}", f"dataset={data_set}", *sizes).config["dataset"])
    return every_second_voxel(data) if len(data.shapes.x) == 4 else data


def every_second_voxel(data: Data) -> Data:
    """Volumes of half the side, which is smaller than their data set makes them."""
    splits = (split._replace(x=split.x[..., ::2, ::2, ::2]) for split in (data.train, data.validation, data.test))
    shapes = data.shapes._replace(x=(data.shapes.x[0], *(side // 2 for side in data.shapes.x[1:])))
    return replace(data, **dict(zip(("train", "validation", "test"), splits, strict=True)), shapes=shapes)


def data_for(name: str, examples: int = 40) -> Data:
    """Data for a model: `small_data`, or the first examples of a data set that provides what the model requires."""
    if name in OF_WAVES:
        return small_waves(examples)
    if data_set_for(name) is None:
        return small_data(examples)
    data, dtype = _stored(name), torch.get_default_dtype()
    rows = torch.arange(examples) % len(data.train.x)

    def floats(stored: Tensor) -> Tensor:
        return as_floats(stored).to(dtype) if stored.dtype != torch.int64 else stored

    split = data.train.map(lambda stored: floats(stored[rows]))
    return replace(data, train=split, validation=split, test=split)


def small_data(examples: int = 40, image: tuple[int, ...] = SHAPES.x) -> Data:
    """Random images in [0, 1] with labels, in the default dtype."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(examples, *image, generator=generator, dtype=torch.float64).to(torch.get_default_dtype())
    return data_of(x, torch.arange(examples) % 10)


def small_waves(examples: int = 40) -> Data:
    """Pairs of sines of random pitch, with and without noise, in the default dtype, and recordings of noise."""
    generator = torch.Generator().manual_seed(1)
    pitch, noise = torch.rand(examples, 1, 1, generator=generator), torch.randn(examples, 1, 640, generator=generator)
    x = (0.5 + 0.3 * torch.sin((0.05 + 0.4 * pitch) * torch.arange(640))).to(torch.get_default_dtype())
    data = data_of(x)
    split = data.train._replace(source=x + 0.05 * noise.to(x.dtype))
    shapes = data.shapes._replace(source=data.shapes.x)
    bank = torch.randn(3, 2000, generator=generator)
    return replace(data, train=split, validation=split, test=split, shapes=shapes, noise=bank, fingerprint="waves")


def shapes_for(job: Job) -> Shapes:
    """The shapes of `data_for` the model of a job."""
    name = job.choices["model"]
    if name in OF_WAVES:
        return small_waves().shapes
    return SHAPES if data_set_for(name) is None else _stored(name).shapes


def stack_of(job: Job, seeds: Sequence[int] = (0,), shapes: Shapes | None = None) -> Stack:
    """Untrained models of a job in training mode."""
    shapes = shapes_for(job) if shapes is None else shapes
    stack = Stack([build(job.config, shapes, seed) for seed in seeds], seeds)
    stack.set_mode(stack.model.players)
    return stack


def batch_of(job: Job, data: Data, seeds: int = 1, size: int = 16) -> Batch:
    """The first examples, corrupted as in training and equal for all seeds: fields [seeds, size, ...], step 0."""
    clean = data.read(data.train.rows(slice(size)), Draws(0, "observe"))
    batch = clean._replace(input=corruption(job)(clean.input, Draws(0, "batch")))
    batch = batch._replace(example=torch.arange(size), step=torch.tensor(0), progress=torch.tensor(0.0))
    return batch.map(lambda field: field.expand(seeds, *field.shape))


def trained(job: Job, stack: Stack, data: Data, budget: Budget) -> list[list[dict[str, float]]]:
    """Trains in place. Returns the rows of each epoch, one for each seed."""
    reports = train(stack, data, corruption(job), optimizers(job), budget, schedule(job))
    return [report.row for report in reports if report.row is not None]


def small_job(name: str, network: str = "mlp", norm: str = "none", *overrides: str):
    sizes = (f"network={network}", f"network.hidden={NETWORKS[network]}", f"network.norm={norm}")
    latents = (f"model.latent_dim={LATENTS[name]}",) if name in LATENTS else ()
    data_set = (f"dataset={data_set}",) if (data_set := data_set_for(name)) else ()
    return job_of(f"model={name}", *data_set, *sizes, *latents, *SMALL.get(name, ()), *overrides)


def usual_job(name: str, *overrides: str):
    """A job with the default options of a model, except for a smaller network."""
    data_set = (f"dataset={data_set}",) if (data_set := data_set_for(name)) else ()
    return job_of(f"model={name}", *data_set, "network.hidden=16", *SMALL.get(name, ()), *overrides)


def turns_of(model) -> list[tuple[str, ...]]:
    return [turn for phase in phases_of(model) for turn in phase.turns]


def snapshot(stack) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in stack.parameters.items()}


@pytest.fixture
def float64():
    """Makes float64 the default, so that rounding errors are far below a test's tolerances."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def pytest_terminal_summary(terminalreporter) -> None:
    """Prints what tests have measured."""
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(value)
