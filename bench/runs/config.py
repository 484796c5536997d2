"""What a configuration says, checked before anything is computed; and the parts it names, built."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import partial
from pathlib import Path
from pydoc import locate
from typing import Annotated, Any, Literal, get_type_hints

import torch
from pydantic import Field, TypeAdapter, ValidationError

from bench.core import Corruption, Count, InputError, Level, Model, Rate, SkipError
from bench.data import Shapes
from bench.draws import generator_seed
from bench.engine.train import Budget, MakeOptimizer
from bench.evaluation.settings import EvaluationSettings
from bench.runs.store import IDENTITY, check_sweep

PARTS = ("network", "likelihood", "prior", "adversarial")  # a model's constructor asks for those it uses by name
BESIDES = ("_target_", "optimizers", "requires")  # keys of a model that are not its constructor's

# Checked here, so that the message names the key; what else an optimizer takes, it checks itself.
HYPERPARAMETERS = {"lr": Level, "betas": list[Rate], "momentum": Rate, "alpha": Rate, "weight_decay": Level}

Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]


@dataclass(frozen=True)
class Settings:
    """The values of a job that are in no group."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    stack: Literal["auto"] | Count
    sweep: str
    device: str
    rerun: bool
    dry_run: bool


@dataclass(frozen=True)
class Job:
    """A checked configuration. config and choices are None where the model does not use a group."""

    config: dict[str, Any]
    choices: dict[str, str | None]
    settings: Settings
    device: torch.device
    results: Path
    cache: Path
    metrics: EvaluationSettings
    tracking: dict[str, Any]

    @property
    def name(self) -> str:
        """A readable name: the choices that this model uses, of the groups people compare."""
        shown = (self.choices[group] for group in ("model", "likelihood", "dataset", "noise"))
        return "-".join(choice for choice in shown if choice)

    @property
    def budget(self) -> Budget:
        """None of it where the model is fitted in closed form."""
        return Budget(**self.config["budget"]) if self.config["budget"] else Budget(epochs=0)

    @property
    def stack_size(self) -> int:
        """Seeds trained at once. On a CPU stacking gains too little: jobs side by side gain more."""
        if self.settings.stack == "auto":
            return len(self.settings.seeds) if self.device.type != "cpu" else 1
        return self.settings.stack


def check(config: dict[str, Any]) -> Job:
    """A resolved configuration, checked. Raises InputError, and SkipError for a combination that makes no sense."""
    seeds = config["seeds"] if isinstance(config["seeds"], list) else [config["seeds"]]
    settings = _valid("", Settings, {**{key: config[key] for key in get_type_hints(Settings)}, "seeds": seeds})
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds={seeds} repeats a seed: name each once")
    check_sweep(settings.sweep)
    asked = _valid("metrics", EvaluationSettings, config["metrics"])

    model = _target("model", config["model"])
    taken = inspect.signature(model).parameters
    unused = {group for group in PARTS if group not in taken}
    unused |= set() if model.reads_noise else {"noise"}
    unused |= set() if model.players else {"optimizer", "budget"}
    groups: dict[str, Any] = {group: None if group in unused else dict(config[group]) for group in IDENTITY}
    choices = {group: None if group in unused else config["choices"][group] for group in IDENTITY}
    choices["dataset"] = data_name(config["dataset"], config["choices"]["dataset"])
    if groups["optimizer"] is None:
        groups["model"].pop("optimizers", None)

    for group in (*PARTS, "noise"):
        if groups[group] is not None:
            groups[group] = {"_target_": groups[group]["_target_"], **_options(group, groups[group])}
    groups["model"] |= _options("model", groups["model"])
    if groups["budget"] is not None:
        groups["budget"] = _options("budget", {"_target_": "bench.engine.train.Budget", **config["budget"]})
        if groups["budget"]["steps"] is not None:
            groups["budget"]["epochs"] = None  # steps decide, so epochs do not tell runs apart
    _check_finite("", {"optimizer": groups["optimizer"]} | groups)  # that first: the model takes values over from it
    job = Job(
        groups, choices, settings, _device(settings.device), Path(config["paths"]["results"]),
        Path(config["paths"]["cache"]).expanduser(), asked, config["tracking"],
    )  # fmt: skip
    if groups["noise"] is not None:
        groups["noise"]["level"] = corruption(job).level
    optimizers(job)
    for level in job.metrics.noise_levels:
        corruption(job, level=level)
    return job


def data_name(options: dict[str, Any], choice: str) -> str:
    """What a data set is called: by `dataset.name`, or else by its option.

    An option that is named after its loader (arrays, images) names no data set: then its file or folder does.
    """
    place = options.get("path") or options.get("root")
    is_loader = options["_target_"].rpartition(".")[2] == choice
    if options.get("name") or not (is_loader and place):
        return options.get("name") or choice
    path = Path(place).expanduser().resolve()
    return path.name if path.is_dir() else path.stem


def check_combination(job: Job, shapes: Shapes) -> Model:
    """A first model, on the CPU. Raises SkipError where it needs what this noise, data set or part does not give."""
    needs, model = job.config["model"].get("requires", ()), job.choices["model"]
    if "label" in needs and not shapes.classes:
        raise SkipError(f"{model} needs labels, and this data set has none: choose a labelled one, or another model")
    built = build(job.config, shapes, seed=0)
    if ("noise" in needs or built.needs_noise) and not job.config["noise"]["level"]:
        raise SkipError(f"{model} learns from noise, and there is none: choose noise=gaussian or another")
    return built


def corruption(job: Job, **changed: float) -> Corruption:
    """The noise that training adds, none for a model that does not read it. changed: another level."""
    options = job.config["noise"] or {"_target_": "bench.parts.corruptions.Identity"}
    return _make("noise", {**options, **changed})


def optimizers(job: Job) -> dict[str, MakeOptimizer]:
    """For each player what makes its optimizer: the group's values, or the model's own for that player.

    What a model says of a value that this optimizer does not have (betas, of SGD) does not count.
    """
    options = job.config["optimizer"]
    if options is None:
        return {}
    target = _locate("optimizer", options)
    own = _valid("model.optimizers", dict[str, dict[str, Any]], job.config["model"].get("optimizers", {}))
    players = [player.name for player in _target("model", job.config["model"]).players]
    if unknown := set(own) - set(players):
        raise InputError(f"model.optimizers names {sorted(unknown)}: the players of this model are {players}")
    if unknown := {key for values in own.values() for key in values} - _optimizer_options():
        raise InputError(f"model.optimizers sets {sorted(unknown)}, which no optimizer of torch has")
    given = {"optimizer": options} | {f"model.optimizers.{player}": values for player, values in own.items()}
    for where, values in given.items():
        for name in [name for name in HYPERPARAMETERS if name in values]:
            _valid(f"{where}.{name}", HYPERPARAMETERS[name], values[name])
    made: dict[str, MakeOptimizer] = {}
    for player in players:
        arguments = {key: own.get(player, {}).get(key, value) for key, value in options.items() if key != "_target_"}
        made[player] = partial(target, **arguments)
        try:
            made[player]([torch.zeros(1, requires_grad=True)])
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer of {player} with {arguments}: {error}") from error
    return made


def _optimizer_options() -> set[str]:
    """Every option of every optimizer in torch: a model may set some that the chosen one lacks, but no others."""
    kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type)]
    return {name for kind in kinds for name in inspect.signature(kind).parameters}


def build(config: dict[str, Any], shapes: Shapes, seed: int) -> Model:
    """The model with the starting weights of a seed: the same for a seed whatever else runs."""
    target = _target("model", config["model"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_seed(seed, "initialisation"))
        parts = {part: _make(part, config[part]) for part in PARTS if config[part] is not None}
        return target(shapes=shapes, **parts, **_options("model", config["model"]))


def _locate(group: str, options: dict[str, Any]) -> Callable[..., Any]:
    found = locate(options["_target_"])
    if not callable(found):
        raise InputError(f"{group}._target_={options['_target_']!r} names nothing that can be imported")
    return found


def _target(group: str, options: dict[str, Any]) -> type[Model]:
    found = _locate(group, options)
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise InputError(f"{group}._target_={options['_target_']!r} is not a bench.core.Model")
    return found


def _options(group: str, options: dict[str, Any]) -> dict[str, Any]:
    """A target's own options, each checked against its annotation."""
    target = _locate(group, options)
    hints = get_type_hints(target.__init__ if isinstance(target, type) else target, include_extras=True)  # type: ignore[misc]
    known = [name for name in inspect.signature(target).parameters if name not in (*PARTS, "shapes")]
    given = {name: value for name, value in options.items() if name not in BESIDES}
    for name in given:
        if name not in known:
            raise InputError(f"{group}.{name} is not an option of {options['_target_']}, which takes {known}")
    return {name: _valid(f"{group}.{name}", hints.get(name, Any), value) for name, value in given.items()}


def _check_finite(where: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_finite(f"{where}.{key}" if where else key, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}={value}: expected a finite number")


def _make(group: str, options: dict[str, Any]) -> Any:
    return _locate(group, options)(**_options(group, options))


def _valid(where: str, annotation: Any, value: Any) -> Any:
    """The value as its annotation has it; where: its key, which a message names. InputError otherwise."""
    fields = get_type_hints(annotation) if is_dataclass(annotation) else None
    if fields and (unknown := sorted(value.keys() - fields.keys())):
        raise InputError(f"{where}.{unknown[0]} is not an option: there are {list(fields)}")
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        first, *others = error.errors()
        # Where it is: a dataclass's field, and indices. The other words are pydantic's, for the members of a union.
        place = [part for i, part in enumerate(first["loc"]) if isinstance(part, int) or (fields and i == 0)]
        key = ".".join(str(part) for part in [where, *place] if part != "")
        told = [first["msg"], *(other["msg"] for other in others if other["input"] is first["input"])]
        raise InputError(f"{key}={first['input']!r}: {', or '.join(dict.fromkeys(told))}") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device={name} is not there ({reason}): use auto, cpu or a device of this machine") from error
    return device
