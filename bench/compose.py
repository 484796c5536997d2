"""The configurations of a sweep, as Hydra composes them, but many times faster.

Hydra composes the configuration of each job twice, from some thirty files. Here each choice of options is composed
once, and the values of a job are set in a copy of it. Only dry runs need it: they are to take no time. The tests, which
check thousands of configurations, use it too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from bench.paths import CONF

FLAGS = {"overrides", "multirun", "config_dir"}  # arguments of a plain sweep


class Composed(NamedTuple):
    """What Hydra composes for a choice of options. Hydra's own part is large, and equal in all jobs of a choice."""

    config: DictConfig
    holder: DictConfig  # of Hydra's own part, as HydraConfig holds it

    @classmethod
    def of(cls, whole: DictConfig) -> Composed:
        with flag_override(whole, ["struct", "readonly"], [False, False]):
            whole.hydra.mode = RunMode.MULTIRUN
            holder = OmegaConf.masked_copy(whole, "hydra")
            del whole["hydra"]
        return cls(whole, holder)


class PlannedJob(NamedTuple):
    """A job of a dry run. overrides: its part of the command line."""

    number: int
    config: DictConfig
    overrides: list[str]
    holder: DictConfig

    def use_hydra_config(self) -> None:
        """Makes Hydra's own part that of this job, as in a job that Hydra starts."""
        hydra = self.holder.hydra
        with flag_override(hydra, ["struct", "readonly"], [False, False]):
            hydra.job.num = self.number
            hydra.overrides.task = self.overrides
        hydra._set_parent(self.config)  # Hydra's own part refers to settings of the job
        HydraConfig.instance().cfg = self.holder  # type: ignore[assignment]  # Hydra has one such line too


class Fixed(NamedTuple):
    """What is the same in all jobs of a command, as Hydra composes it, without the sweeps among its words."""

    whole: DictConfig
    words: list[str]
    folders: list[str]
    parser: OverridesParser


@contextmanager
def _fixed(arguments: Sequence[str]) -> Iterator[Fixed | None]:
    """None if Hydra is asked for something else than a run or a sweep, such as help."""
    flags = vars(get_args_parser().parse_args(list(arguments)))
    if {name for name, value in flags.items() if value not in (None, False, [])} - FLAGS:
        yield None
        return
    words, folders = flags["overrides"], [CONF]
    if folder := flags["config_dir"]:
        if not Path(folder).is_dir():  # Hydra would only warn
            raise HydraException(f"--config-dir={folder} is not a folder")
        folders.append(folder)
        words = [f"hydra.searchpath=[file://{Path(folder).absolute()}]", *words]
    with initialize_config_dir(CONF, version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        fixed = [str(one.input_line) for one in parser.parse_overrides(words) if not one.is_sweep_override()]
        whole = compose("config", fixed, return_hydra_config=True)
        with flag_override(whole, ["struct", "readonly"], [False, False]):
            if flags["multirun"]:
                whole.hydra.mode = RunMode.MULTIRUN
        yield Fixed(whole, words, folders, parser)


def whole(arguments: Sequence[str]) -> DictConfig:
    """What Hydra composes for a command line, with Hydra's own part. Raises as `dry_sweep` does."""
    with _fixed(arguments) as fixed:
        return fixed.whole if fixed else compose("config", return_hydra_config=True)


def tuning_trials(arguments: Sequence[str]) -> int | None:
    """The number of trials that a command or its experiment asks for. Raises as `dry_sweep` does."""
    with _fixed(arguments) as fixed:
        trials = fixed and OmegaConf.select(fixed.whole, "tuning.trials")
    return trials if isinstance(trials, int) and trials > 0 else None  # anything else is refused later


def dry_sweep(arguments: Sequence[str]) -> list[PlannedJob] | None:
    """The jobs of a dry run. None if it is no dry run of a plain sweep.

    Raises HydraException and OmegaConfBaseException as Hydra does.
    """
    if not any(word.startswith("dry_run=") for word in arguments):
        return None
    with _fixed(arguments) as fixed:
        if fixed is None or fixed.whole.dry_run is not True or fixed.whole.hydra.mode != RunMode.MULTIRUN:
            return None
        _ = fixed.whole.hydra.run.dir  # raises if the folder of the sweep has no proper name
        defined = [f"{key}={value}" for key, value in (fixed.whole.hydra.sweeper.params or {}).items()]
        words = fixed.parser.parse_overrides([*defined, *fixed.words])
        (jobs,) = BasicSweeper.split_arguments(words, None)
        composed: dict[tuple[str, ...], Composed] = {}
        return [plan_job(fixed.parser, number, job, fixed.folders, composed) for number, job in enumerate(jobs)]


def plan_job(
    parser: OverridesParser,
    number: int,
    words: list[str],
    folders: Sequence[str],
    composed: dict[tuple[str, ...], Composed],
) -> PlannedJob:
    """The job of some overrides, while Hydra is initialised. Raises HydraException and OmegaConfBaseException.

    folders: of configuration; composed: what is composed so far, for each choice of options. It may get another one.
    """
    overrides = parser.parse_overrides(words)
    options = [one for one in overrides if any(Path(folder, one.key_or_group).is_dir() for folder in folders)]
    options += [one for one in overrides if one.key_or_group.startswith("hydra")]
    key = tuple(str(one.input_line) for one in options)
    if key not in composed:
        composed[key] = Composed.of(compose("config", list(key), return_hydra_config=True))
    config = copy.deepcopy(composed[key].config)
    ConfigLoaderImpl._apply_overrides_to_config([one for one in overrides if one not in options], config)
    OmegaConf.set_struct(config, False)
    own = [str(one.input_line) for one in overrides if not one.is_hydra_override()]
    return PlannedJob(number, config, own, composed[key].holder)
