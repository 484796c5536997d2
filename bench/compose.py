"""The configurations of a sweep, as Hydra composes them, but many times faster.

Hydra composes the configuration of each job twice, from some thirty files, in 0.1 s each. Here each file is read once,
each choice of options is composed once, and the values of a job are set in a copy of it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from bench.paths import CONF

_compose = ConfigLoaderImpl.load_configuration
_read = ConfigRepository.load_config
_composed: dict[tuple[Any, ...], bytes] = {}  # pickled, which is many times faster to copy
_files_read: dict[tuple[Any, ...], bytes] = {}

FLAGS = {"overrides", "multirun", "config_dir"}  # arguments of a plain sweep


def speed_up_hydra() -> None:
    """Makes Hydra read each file and compose each choice of options once in this process, unless a file changes."""
    ConfigLoaderImpl.load_configuration = _load_configuration  # type: ignore[method-assign]
    ConfigRepository.load_config = _load_config  # type: ignore[method-assign]


def _load_config(self: ConfigRepository, config_path: str) -> ConfigResult | None:
    """What Hydra's own method returns. Configurations that are no files may change at any time, and are not kept."""
    source = self._find_object_source(config_path, ObjectType.CONFIG)
    if source is None or source.scheme() not in ("file", "pkg"):
        return _read(self, config_path)
    key: tuple[Any, ...] = (source.provider, source.path, config_path)
    if source.scheme() == "file":  # not of an installed package
        stat = os.stat(Path(source.path, source._normalize_file_name(config_path)))
        key += (stat.st_mtime_ns, stat.st_size)
    if key not in _files_read:
        _files_read[key] = pickle.dumps(_read(self, config_path))
    result: ConfigResult = pickle.loads(_files_read[key])
    return result


def _load_configuration(
    self: ConfigLoaderImpl,
    config_name: str | None,
    overrides: list[str],
    run_mode: RunMode,
    from_shell: bool = True,
    validate_sweep_overrides: bool = True,
) -> DictConfig:
    """What Hydra's own method returns."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    folders = [str(one.path).removeprefix("file://") for one in self.get_search_path().get_path()]
    options = [one for one in parsed if _is_option(one, folders)]
    is_other = CONF not in folders or any(one.key_or_group == "hydra.searchpath" for one in options)
    if is_other:  # files that are not in these folders, or those of another program such as bench-report
        return _compose(self, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
    if validate_sweep_overrides:
        self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
    words = [str(one.input_line) for one in options]
    key = (config_name, *words, *(file for folder in folders for file in _files(folder)))
    if key not in _composed:
        try:
            composed = _compose(self, config_name, words, RunMode.RUN, from_shell, False)
        except HydraException:  # a choice that is still missing, which the jobs of a sweep may make
            return _compose(self, config_name, overrides, run_mode, from_shell, False)
        _composed[key] = pickle.dumps(composed)
    config: DictConfig = pickle.loads(_composed[key])
    rest = [one for one in parsed if not one.is_sweep_override() and one not in options]
    ConfigLoaderImpl._apply_overrides_to_config(rest, config)
    hydra, task = config.hydra, [one for one in parsed if not one.is_hydra_override()]
    hydra.overrides.hydra = [one.input_line for one in parsed if one.is_hydra_override()]
    hydra.overrides.task = [one.input_line for one in task]
    hydra.runtime.cwd = os.getcwd()
    hydra.job.override_dirname = get_overrides_dirname(task, **hydra.job.config.override_dirname)
    return config


def _is_option(override: Override, folders: Sequence[str]) -> bool:
    """Whether it chooses an option of a group, or belongs to Hydra. Others only change values."""
    if override.is_sweep_override() and not override.is_hydra_override():
        return False
    is_group = any(Path(folder, override.key_or_group).is_dir() for folder in folders)
    return override.key_or_group.startswith("hydra") or (is_group and not isinstance(override.value(), dict))


def _files(folder: str) -> list[tuple[str, int, int]]:
    """The files of configuration in a user's folder, with their time and size. Those of the packages do not change."""
    if folder == CONF or "://" in folder:
        return []
    groups = [Path(folder, group) for group in os.listdir(CONF)]
    paths = [*Path(folder).glob("*.yaml"), *(path for group in groups for path in group.rglob("*.yaml"))]
    return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(paths) if path.is_file()]


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
        loader = GlobalHydra.instance().config_loader()
        parser = OverridesParser.create(config_loader=loader)
        fixed = [str(one.input_line) for one in parser.parse_overrides(words) if not one.is_sweep_override()]
        whole = loader.load_configuration("config", fixed, RunMode.MULTIRUN, from_shell=False)
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
    config: DictConfig = pickle.loads(pickle.dumps(composed[key].config))
    ConfigLoaderImpl._apply_overrides_to_config([one for one in overrides if one not in options], config)
    OmegaConf.set_struct(config, False)
    own = [str(one.input_line) for one in overrides if not one.is_hydra_override()]
    return PlannedJob(number, config, own, composed[key].holder)
