"""Checks the configuration of a job, and builds the model, noise and optimizers that it names."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import torch
from omegaconf import OmegaConf
from pydantic import StrictBool

from bench.core import Corruption, InputError, Level, Model, Rate, Recorded, SkipError
from bench.data import Data, Shapes
from bench.draws import generator_seed
from bench.engine.schedules import CONSTANT, Schedule
from bench.engine.train import Budget, MakeOptimizer
from bench.evaluation.conventions import VALIDATION
from bench.evaluation.evaluate import requested, settings_of
from bench.evaluation.settings import EvaluationSettings
from bench.paths import CONF
from bench.runs import overrides
from bench.runs.names import check_path, check_text, check_texts
from bench.runs.overrides import Effects
from bench.runs.settings import Paths, Settings, TrackingSettings
from bench.runs.size import limited_size
from bench.runs.store import IDENTITY, LOCATION, check_sweep
from bench.runs.targets import PARTS, check_own_metrics, checked, checked_options, locate, make, unused_options

# Checked here, so that the message names the key. The optimizer itself checks its other options.
FLAGS = ("amsgrad", "capturable", "centered", "differentiable", "foreach", "fused", "maximize", "nesterov")
HYPERPARAMETERS: dict[str, Any] = {
    "lr": Level, "betas": list[Rate], "momentum": Rate, "alpha": Rate, "weight_decay": Level,
    **dict.fromkeys(FLAGS, StrictBool | None),
}  # fmt: skip

LONGEST = 50  # letters of an option in the name of a folder: file systems end at 255
PLURAL = {"label": "labels", "source": "sources"}  # how messages name what a model requires

# The keys of a configuration. The console entry adds choices and overrides; claim is for the report.
KEYS = {*IDENTITY, *get_type_hints(Settings), "metrics", "tracking", "paths", "choices", "overrides", "claim"}


@dataclass(frozen=True)
class Job:
    """A checked configuration.

    config and choices have None for a group that the model does not use, and config has no options without effect.
    started: when the command started, as time.time(); ignored: overrides without effect, which the user is shown;
    warnings: overrides that do not reach every player, which the record keeps; tuning: that field of the record.
    """

    config: dict[str, Any]
    choices: dict[str, str | None]
    settings: Settings
    device: torch.device
    results: Path
    cache: Path
    metrics: EvaluationSettings
    tracking: dict[str, Any]
    started: float
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tuning: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """A readable name for folders: the chosen options of the main groups, if the model uses them."""
        shown = (self.choices[group] for group in ("model", "likelihood", "dataset", "noise"))
        return "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", choice).lstrip(".")[:LONGEST] for choice in shown if choice)

    @property
    def budget(self) -> Budget:
        """No training where the model is fitted in closed form."""
        return Budget(**self.config["budget"]) if self.config["budget"] else Budget(epochs=0)

    @property
    def stack_size(self) -> int:
        """The number of seeds trained at once. On a CPU, jobs side by side are faster than stacking."""
        if self.settings.stack == "auto":
            return len(self.settings.seeds) if self.device.type != "cpu" else 1
        return self.settings.stack


def check(config: dict[str, Any], in_sweep: bool = True, started: float | None = None) -> Job:
    """A checked job, from its resolved configuration. Raises InputError.

    started: when the command started, as time.time(); None for now.

    config["overrides"] lists what the command line sets. A setting without effect is an error in a single run, and a
    warning in a sweep, where it may have an effect on other jobs.
    """
    check_texts({key: value for key, value in config.items() if key != "overrides"})
    if unknown := sorted(map(str, config.keys() - KEYS)):
        raise InputError(f"{unknown[0]} is not a key of the configuration: bench --cfg job shows all")
    if missing := sorted({*get_type_hints(Settings), "metrics", "tracking", "paths"} - config.keys()):
        raise InputError(f"{missing[0]} is missing: leave it as it is; bench --cfg job shows all")
    for group in IDENTITY:
        if not isinstance(config.get(group), dict):
            raise InputError(f"{group} has no option: choose one, as in bench {group}=...; bench --help lists them")
    settings = _settings(config)
    places = config["paths"]
    if isinstance(places, dict):
        places = {key: check_path(f"paths.{key}", value) for key, value in places.items()}
    paths = checked("paths", Paths, places)
    metrics = checked("metrics", EvaluationSettings, config["metrics"])
    check_own_metrics(config, settings.allow)
    tracking = checked("tracking", TrackingSettings, config["tracking"])

    model = _model_class(config, settings.allow)
    locate("dataset", config["dataset"], settings.allow)
    effects = Effects(dict.fromkeys(_unused(model), f"model={config['choices']['model']} does not use it"))
    groups: dict[str, Any] = {group: None if group in effects.groups else dict(config[group]) for group in IDENTITY}
    choices = {group: None if group in effects.groups else config["choices"][group] for group in IDENTITY}
    # A path or a name such as 2024 reaches this as a number.
    located = {key: value for key in LOCATION if (value := groups["dataset"].get(key)) is not None}
    groups["dataset"] |= {key: check_path(f"dataset.{key}", value) for key, value in located.items()}
    for group, key in (("model", "requires"), ("dataset", "provides")):
        checked(f"{group}.{key}", list[str], config[group].get(key, []))
    choices["dataset"] = data_name(groups["dataset"], config["choices"]["dataset"])
    effects.unneeded = _unneeded(metrics, tracking)
    _check_options(groups, config["choices"], model, settings.allow, effects)
    _check_optimizers(groups, model, settings.allow, effects)
    _check_finite("", {"optimizer": groups["optimizer"]} | groups)  # optimizer first: players copy values from it

    words = config.get("overrides", ())
    ignored, warnings = overrides.ignored(words, effects, in_sweep), overrides.partial(words, effects)
    results, cache = Path(paths.results).expanduser(), Path(paths.cache).expanduser()
    job = Job(
        groups, choices, settings, _device(settings.device), results, cache, metrics, asdict(tracking),
        time.time() if started is None else started, tuple(ignored), tuple(warnings),
    )  # fmt: skip
    if groups["noise"] is not None:
        groups["noise"]["level"] = corruption(job).level
    for level in job.metrics.noise_levels:
        corruption(job, level=level)
    return job


def data_name(options: dict[str, Any], choice: str) -> str:
    """The name of a data set: `dataset.name`, or else the chosen option.

    If the option has the name of its loader (arrays, images), the name of the file or folder is used instead.
    """
    place = options.get("path") or options.get("root")
    is_loader = options["_target_"].rpartition(".")[2] == choice
    if options.get("name") or not (is_loader and place):
        return options.get("name") or choice
    path = Path(os.path.realpath(Path(place).expanduser()))  # Path.resolve raises for a link to itself
    return path.name if path.is_dir() else path.stem


def check_combination(job: Job, shapes: Shapes) -> Model:
    """Builds a model on the CPU. Raises SkipError if the data or the noise do not provide what it requires."""
    required, model = set(job.config["model"].get("requires", ())), job.choices["model"]
    of_data = sorted(required - {"noise"})
    if missing := [name for name in of_data if name not in shapes.provides]:
        fitting = ", ".join(data_sets_with(of_data)) or "none of those in conf/dataset"
        needs = " and ".join(PLURAL.get(name, name) for name in missing)
        raise SkipError(
            f"{model} needs {needs}, which {job.choices['dataset']} does not provide: choose another model, or a data "
            f"set that does: {fitting}"
        )
    built = build(job.config, shapes, seed=0, allow=job.settings.allow)
    if ("noise" in required or built.needs_noise) and not job.config["noise"]["level"]:
        raise SkipError(f"{model} learns from noise, but there is none: choose noise=gaussian or another noise")
    schedule(job)
    return built


def data_sets_with(names: Sequence[str]) -> list[str]:
    """The options of `dataset` that provide all of these."""
    paths = sorted(Path(CONF, "dataset").glob("*.yaml"))
    options: dict[str, Any] = {path.stem: OmegaConf.load(path) for path in paths}
    return [option for option, values in options.items() if set(names) <= set(values.provides)]


def build(config: dict[str, Any], shapes: Shapes, seed: int, allow: Sequence[str] = ()) -> Model:
    """The model with the initial weights of a seed, which do not depend on other seeds.

    config: of a job or of a record; allow: packages, besides this one, that it may import. Raises InputError.
    """
    target = _model_class(config, allow)
    if missing := [part for part in PARTS if part in inspect.signature(target).parameters and config[part] is None]:
        raise InputError(f"{missing[0]} is null, and {target.__name__} needs one: choose an option of {missing[0]}")
    with torch.random.fork_rng(devices=[]), limited_size():
        torch.manual_seed(generator_seed(seed, "initialisation"))
        parts = {part: make(part, config[part], allow) for part in PARTS if config[part] is not None}
        return target(shapes=shapes, **parts, **checked_options("model", config["model"], target))


def corruption(job: Job, data: Data | None = None, **changes: float) -> Corruption:
    """The noise of training; none for a model that does not use it. changes: another level.

    data: must be given before noise of recordings is used. Raises SkipError if they have no recordings.
    """
    options = job.config["noise"] or {"_target_": "bench.parts.corruptions.Identity"}
    made = make("noise", {**options, **changes}, job.settings.allow)
    if data is None or not isinstance(made, Recorded):
        return made
    if data.noise is None:
        raise SkipError(
            f"noise={job.choices['noise']} adds recordings of the data set, and {job.choices['dataset']} has none: "
            "choose another noise, or dataset=noisy_speech"
        )
    return made.with_recordings(data.noise)


def optimizers(job: Job) -> dict[str, MakeOptimizer]:
    """For each player a function that makes its optimizer, with the options of the optimizer group and its own."""
    options = job.config["optimizer"]
    if options is None:
        return {}
    target = locate("optimizer", options, job.settings.allow)
    shared = {name: value for name, value in options.items() if name != "_target_"}
    return {player: partial(target, **shared | own) for player, own in job.config["model"]["optimizers"].items()}


def schedule(job: Job) -> Schedule:
    """The learning-rate schedule. Raises InputError, and SkipError for one that makes no sense."""
    options = job.config["schedule"]
    return make("schedule", options, job.settings.allow) if options else CONSTANT


def _settings(config: dict[str, Any]) -> Settings:
    seeds = config["seeds"] if isinstance(config["seeds"], list) else [config["seeds"]]
    values = {key: config[key] for key in get_type_hints(Settings)}
    sweep = check_text("sweep", config["sweep"])  # 2024 is a number
    settings = checked("", Settings, values | {"seeds": seeds, "sweep": sweep})
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds={seeds} repeats a seed: name each once")
    check_sweep(settings.sweep)
    return settings


def _model_class(config: dict[str, Any], allow: Sequence[str]) -> type[Model]:
    target = locate("model", config["model"], allow)
    if not (isinstance(target, type) and issubclass(target, Model)):
        raise InputError(f"model._target_={config['model']['_target_']!r} is not a bench.core.Model")
    return target


def _unused(model: type[Model]) -> set[str]:
    """The groups that a model does not use."""
    groups = set(PARTS) - inspect.signature(model).parameters.keys()
    training = set() if model.players else {"optimizer", "schedule", "budget"}
    return groups | (set() if model.reads_noise else {"noise"}) | training


def _unneeded(metrics: EvaluationSettings, tracking: TrackingSettings) -> dict[str, str]:
    """The settings of metrics and tracking that nothing uses, and why. Raises InputError for unknown metrics."""
    used = {name for metric in requested(metrics).values() for name in settings_of(metric, metrics)}
    sizes = get_type_hints(EvaluationSettings).keys() - used - {"names", "noise_levels"}
    unneeded = {f"metrics.{name}": "none of metrics.names uses it" for name in sorted(sizes)}
    if tracking.mode == "disabled":
        names = get_type_hints(TrackingSettings).keys() - {"mode"}
        unneeded |= {f"tracking.{name}": "tracking.mode=disabled does not use it" for name in sorted(names)}
    return unneeded


def _check_options(
    groups: dict[str, Any], choices: dict[str, str], model: type[Model], allow: Sequence[str], effects: Effects
) -> None:
    """Converts the options of each group to their types, and leaves out those without effect."""
    for group in ("model", *PARTS, "noise", "schedule"):
        if (options := groups[group]) is None:
            continue
        target = locate(group, options, allow)
        options |= checked_options(group, options, target)
        if options.get("balance") == "own":
            policy = model.default_balance(**checked_options("model", groups["model"], model))
            options["balance"] = "own" if policy == "margin" else policy  # whether a margin applies depends on the loss
        for name, condition in unused_options(group, options, target).items():
            effects.unused[f"{group}.{name}"] = f"{condition or f'{group}={choices[group]}'} does not use it"
    # Only those of the class itself: a subclass may use settings that its parent does not use.
    unused_by_model = [name for name in vars(model).get("unused_settings", ()) if groups[name.partition(".")[0]]]
    effects.unused |= dict.fromkeys(unused_by_model, f"model={choices['model']} does not use it")
    for setting in effects.unused:
        group, _, name = setting.partition(".")
        groups[group].pop(name, None)

    if groups["budget"] is not None:
        budget = checked("budget", Budget, groups["budget"])
        if budget.selects and budget.monitor is None:
            raise InputError(
                "budget.patience and budget.keep=best go by a value on the validation split: name it as budget.monitor="
                f"{VALIDATION}loss/<player> or {VALIDATION}<metric>"
            )
        groups["budget"] = asdict(budget)
        if not budget.selects:
            del groups["budget"]["monitor"]
            effects.unused["budget.monitor"] = "neither budget.patience nor budget.keep=best uses it"
        if groups["budget"]["steps"] is not None:
            groups["budget"]["epochs"] = None
            effects.unused["budget.epochs"] = f"budget.steps={groups['budget']['steps']} replaces it"


def _check_optimizers(groups: dict[str, Any], model: type[Model], allow: Sequence[str], effects: Effects) -> None:
    """Checks the options of every player's optimizer, and leaves out those without effect.

    model.optimizers keeps for each player the options that this optimizer has and that differ from those of the
    optimizer group; the optimizer group keeps those that some player uses.
    """
    players = [player.name for player in model.players]
    own = _own_options(groups["model"].pop("optimizers", {}), players)
    options = groups["optimizer"]
    if options is None:
        return
    target = locate("optimizer", options, allow)
    if not (isinstance(target, type) and issubclass(target, torch.optim.Optimizer)):
        raise InputError(f"optimizer._target_={options['_target_']!r} is not a torch.optim.Optimizer")
    _check_values("optimizer", options)
    taken = inspect.signature(target).parameters
    for player, values in own.items():
        _check_values(f"model.optimizers.{player}", values)
        missing = values.keys() - taken.keys()
        effects.unused |= {f"model.optimizers.{player}.{name}": f"{target.__name__} has no {name}" for name in missing}

    shared = {name: value for name, value in options.items() if name != "_target_"}
    used = {
        player: {k: v for k, v in own.get(player, {}).items() if k in taken and not (k in shared and shared[k] == v)}
        for player in players
    }
    for player in players:
        try:
            target([torch.zeros(1, requires_grad=True)], **shared | used[player])
        except Exception as error:  # the type depends on the optimizer
            raise InputError(f"optimizer of {player} with {shared | used[player]}: {error}") from error
    for name in shared:
        overridden = [player for player in players if name in used[player]]
        if len(overridden) == len(players):
            effects.unused[f"optimizer.{name}"] = f"model.optimizers sets {name} of {', '.join(players)}"
            del options[name]
        elif overridden:
            reason = f"{name} does not reach {', '.join(overridden)}, because model.optimizers sets it there"
            effects.partial[f"optimizer.{name}"] = reason
    groups["model"]["optimizers"] = used


def _own_options(own: Any, players: list[str]) -> dict[str, dict[str, Any]]:
    """The options of each player in model.optimizers. Raises InputError for an unknown player or option."""
    own = checked("model.optimizers", dict[str, dict[str, Any]], own)
    if unknown := set(own) - set(players):
        raise InputError(f"model.optimizers names {sorted(unknown)}: the players of this model are {players}")
    if unknown := {key for values in own.values() for key in values} - _optimizer_options():
        raise InputError(f"model.optimizers sets {sorted(unknown)}, which no optimizer of torch has")
    return own


def _check_values(where: str, options: dict[str, Any]) -> None:
    for name, annotation in HYPERPARAMETERS.items():
        if name in options:
            checked(f"{where}.{name}", annotation, options[name])


@functools.cache
def _optimizer_options() -> set[str]:
    """Every option of every optimizer in torch. A model may set those that the chosen optimizer does not have."""
    kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type)]
    return {name for kind in kinds for name in inspect.signature(kind).parameters}


def _check_finite(where: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_finite(f"{where}.{key}" if where else key, item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_finite(f"{where}.{index}", item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}={value}: expected a finite number")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which the device meta cannot do
    except Exception as error:  # the type depends on the device
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"device={name} is not available ({reason}): use auto, cpu or another device") from error
    return device
