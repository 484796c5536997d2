"""The console entry: runs the job or the sweep, then prints the report, even if a job failed."""

from __future__ import annotations

import argparse
import functools
import io
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.compose import PlannedJob, dry_sweep
from bench.errors import InputError
from bench.paths import CONF
from bench.runs import lease
from bench.runs.command import Command, begin, command
from bench.runs.isolated import end_when, perform, perform_isolated, siblings
from bench.runs.launcher import BASIC, Launcher
from bench.runs.names import check_path, check_text
from bench.runs.output import close_output, say, write_line
from bench.runs.record import FAILURES
from bench.runs.signals import Interrupted, Signals, handled, pass_on
from bench.runs.store import IDENTITY, NOT_IDENTITY, check_sweep

PATHS = {"paths": ("results", "cache"), "dataset": ("root", "noise_root", "path")}  # the settings that are paths
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # which Hydra creates


def folder_name(sweep: object) -> str:
    """The name of a sweep, checked before Hydra creates its folder."""
    return check_sweep(check_text("sweep", sweep))


def results_folder(path: object, start: str, dry_run: object) -> str:
    """The folder of all sweeps, checked before Hydra creates it: in a dry run a temporary one.

    It is absolute: jobs on other machines may start in another folder than the command, which is `start`.
    """
    results = Path(start, Path(check_path("paths.results", path)).expanduser())
    return str(Command.current().folder if dry_run is True else results)


@functools.cache  # Hydra asks for it in each job
def requirements() -> str:
    """The help's list of what data sets provide and models require, one line for each option that has any."""
    lines = []
    for group, key in (("dataset", "provides"), ("model", "requires")):
        for path in sorted(Path(CONF, group).glob("*.yaml")):
            options: Any = OmegaConf.load(path)
            if names := options.get(key):
                lines.append(f"  {f'{group}={path.stem}':30} {key} {', '.join(names)}")
    return "\n".join(lines)


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("results_folder", results_folder, replace=True)
OmegaConf.register_new_resolver("requirements", requirements, replace=True)


class Variables(metaclass=Singleton):
    """Environment variables of the command. Hydra hands its singletons to all jobs, on other machines too."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}


@hydra.main(config_path=CONF, config_name="config", version_base="1.3")
def job(config: DictConfig) -> None:
    """Runs one job. An error is recorded as its outcome, so that the rest of a sweep continues."""
    os.environ.update(Variables().values)
    hydra_config = HydraConfig.get()
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    number, current = hydra_config.job.num if in_sweep else 0, Command.current()
    launcher = Launcher.of(hydra_config.launcher) if in_sweep else Launcher(BASIC)
    if launcher.name == BASIC:
        carry_out(config, number, current, None)
        return
    process = current.process
    if launcher.is_local:
        end_when(lambda: lease.is_gone(process), siblings())
    try:
        with handled() as signals, launcher.turn(current):
            signals.is_patient = process["pid"] != os.getpid()
            carry_out(config, number, current, launcher)
    except Interrupted as interruption:
        pass_on(interruption)
        raise


def carry_out(config: DictConfig, number: int, current: Command, launcher: Launcher | None) -> None:
    """Runs a job here, or in a process of its own under a launcher and with isolate=true, and adds its outcome."""
    if not current.is_to_run(number):
        return
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        values = values_of(config)
        if (launcher or values.get("isolate")) and not values.get("dry_run"):
            perform_isolated(values, number, in_sweep, launcher)
        else:
            perform(values, number, in_sweep)
    except Exception as error:
        current.add(number, {"error": line_of(error), "dry_run": bool(config.get("dry_run"))})
    outcome = current.outcomes()[number]
    has_failed = "error" in outcome or any(status in FAILURES for status in outcome["seeds"].values())
    if has_failed and config.get("stop_on_failure") is True:
        current.stop()


def values_of(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration of a job, with the chosen options and the overrides. Raises InputError.

    Code that the user's own YAML names is allowed, and relative paths start at the folder of the command.
    """
    hydra_config = HydraConfig.get()
    values: Any = OmegaConf.to_container(config, resolve=True)
    if added := {"choices", "overrides"} & values.keys():
        raise InputError(f"{min(added)} cannot be set: choose an option by its group, as in model=vae")
    overrides = list(hydra_config.overrides.task)
    swept = {name.lstrip("+") for name in hydra_config.sweeper.get("params") or {}}
    # The command line's own experiment= replaces a sweep over experiments.
    if ignored := sorted(swept - ({word.lstrip("+").partition("=")[0] for word in overrides} - {"experiment"})):
        raise InputError(
            f"this experiment sweeps {', '.join(ignored)}, but this command would run only one job of the sweep: "
            "add -m, and name several experiments as experiment=a,b"
        )
    values |= {"choices": dict(hydra_config.runtime.choices), "overrides": overrides}
    if isinstance(values.get("allow"), list):  # anything else is refused later
        sources = [source.path for source in hydra_config.runtime.config_sources if source.schema == "file"]
        values["allow"] += code_named_in([Path(source) for source in sources if source != CONF])
    start = Path(hydra_config.runtime.cwd)
    if Path.cwd() != start:  # under hydra.job.chdir=true
        for group, keys in PATHS.items():
            paths = values[group] if isinstance(values.get(group), dict) else {}  # anything else is refused later
            for key in [key for key in keys if paths.get(key) is not None]:
                paths[key] = str(start / Path(check_path(f"{group}.{key}", paths[key])).expanduser())
    return values


def code_named_in(folders: Sequence[Path]) -> list[str]:
    """Every `_target_` in the options of configuration folders, and every metric from outside latentbench."""
    keys = [*((group, "_target_") for group in IDENTITY), ("metrics", "names"), ("experiment", "metrics.names")]
    names: list[Any] = []
    for group, key in keys:
        paths = sorted(path for folder in folders for path in (folder / group).rglob("*.yaml") if path.is_file())
        for option in [option for option in map(OmegaConf.load, paths) if isinstance(option, DictConfig)]:
            found = OmegaConf.select(option, key, throw_on_resolution_failure=False)
            names += found if isinstance(found, ListConfig) else [found]
    return sorted({name for name in names if isinstance(name, str) and "." in name})


def commands(arguments: list[str]) -> list[list[str]]:
    """The arguments of one Hydra run for each experiment of experiment=a,b or experiment=glob(claims/*).

    Hydra itself would ignore the sweeps that they define. Raises HydraException for wrong arguments, for an unknown
    experiment, and for a sweep over a key that does not tell runs apart.
    """
    check_flags(arguments)
    parser = OverridesParser.create()
    for word in [word for word in arguments if "=" in word and not word.startswith("-")]:
        try:
            override = parser.parse_override(word)
        except (HydraException, RecursionError) as error:
            example = "'dataset.path=\"ä b.npz\"'"
            if isinstance(error, RecursionError):
                raise HydraException(f"{word}: the value is nested too deeply") from error
            raise HydraException(f"{word}: {error}; quote a value with special characters, as in {example}") from error
        name = word.lstrip("+").partition("=")[0]
        if name in (*IDENTITY, "metrics", "tracking") and override.value() is None:
            raise HydraException(f"{word}: choose an option of {name}; bench --help lists them")
        if name in FOLDERS and not override.is_sweep_override():
            check_path(name, override.value())
        if name.split(".")[0] in NOT_IDENTITY and override.is_sweep_override():
            raise HydraException(
                f"{word}: {name} does not tell runs apart, so it cannot be swept: run one command for each value, with "
                "its own sweep= if you want to keep both"
            )
    word = next((word for word in reversed(arguments) if word.startswith("experiment=")), "experiment=null")
    override = parser.parse_override(word)
    if not override.is_sweep_override():
        return [arguments]
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--config-dir", "-cd")
    folders = [CONF, flags.parse_known_args(arguments)[0].config_dir]
    options = {name for folder in folders if folder for name in experiments(Path(folder, "experiment"))}
    value = override.value()
    named = value.filter(sorted(options)) if isinstance(value, Glob) else override.sweep_string_iterator()
    names = list(dict.fromkeys(map(str, named)))
    if not names or not options.issuperset(names):
        raise HydraException(f"{word}: there is no such experiment; there are only {', '.join(sorted(options))}")
    others = [word for word in arguments if not word.startswith("experiment=")]
    return [[*others, f"experiment={name}"] for name in names]


def check_flags(arguments: list[str]) -> None:
    """Raises HydraException for flags that Hydra would refuse in several lines."""
    with redirect_stderr(io.StringIO()) as refused:
        try:
            get_args_parser().parse_args(arguments)
        except SystemExit as ended:
            if ended.code:
                reason = refused.getvalue().strip().splitlines()[-1].rpartition("error: ")[2]
                raise HydraException(f"{reason}; see bench --help") from None
            raise


def experiments(folder: Path) -> list[str]:
    """The options of a folder and its subfolders, except those with _, which others inherit from."""
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    return [path.as_posix() for path in paths if not path.name.startswith("_")]


def main() -> None:
    """`bench`. Exit code: 0 if all is done, 1 for wrong input or a failed run, 130 or 143 when interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors, which are printed once, below
    sys.path.append(os.getcwd())  # the user's own model may be in this folder
    with handled() as signals, command() as folder:
        code, outcomes, errors = run_commands(folder, signals)
        try:
            code = code or report(outcomes, errors)
        except KeyboardInterrupt as raised:
            code = code or exit_code(raised)
            errors.append("interrupted: there is no report, bench-report makes it")
    for line in dict.fromkeys(errors):
        say(f"bench: {line}")
    close_output()
    sys.exit(code or int(bool(errors)))


def run_commands(folder: Path, signals: Signals) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Runs the jobs of each experiment. Returns an exit code if it was interrupted, the outcomes, and errors."""
    started: list[Command] = []
    errors: list[str] = []
    code = 0
    since = time.time()
    try:
        for number, arguments in enumerate(commands(sys.argv[1:])):
            started.append(begin(folder / f"{number:06}", since))
            signals.before_interruption = started[-1].interrupt
            Variables().values = {name: value for name, value in os.environ.items() if name.startswith("BENCH_")}
            sys.argv[1:] = arguments
            launcher = "".join(word.partition("=")[2] for word in arguments if "hydra/launcher=" in word)
            try:
                if (planned := dry_sweep(arguments)) is not None:
                    plan_jobs(planned, started[-1])
                    continue
                job()
                while started[-1].next_round():
                    job()
            except (HydraException, OmegaConfBaseException) as raised:  # of one experiment: the others continue
                errors.append(one_line(raised))
            except Exception as raised:
                if not launcher and isinstance(raised, OSError):
                    raise
                started[-1].keep()
                # A launcher has lost a job, or could not start any.
                reported = f"{launcher} reports {reason(raised)}; the same command continues"
                errors.append(reported if launcher else line_of(raised))
            if started[-1].is_stopped:
                errors.append("stopped at the first failure (stop_on_failure=true)")
                break
    except KeyboardInterrupt as raised:
        for one in started[-1:]:
            one.keep()
        code = exit_code(raised)
        errors.append("interrupted: finished work is kept, and the same command continues from there")
    except OSError as raised:
        errors.append(f"{one_line(raised)}: make room or get permission there, or set paths.results to another folder")
    except Exception as raised:
        errors.append(line_of(raised))
    return code, [outcome for one in started for outcome in one.outcomes().values()], errors


def plan_jobs(jobs: list[PlannedJob], current: Command) -> None:
    """Plans the jobs of a dry run."""
    for planned in jobs:
        planned.use_hydra_config()
        carry_out(planned.config, planned.number, current, None)


def exit_code(interruption: KeyboardInterrupt) -> int:
    return interruption.code if isinstance(interruption, Interrupted) else 130


def report(outcomes: list[dict[str, Any]], errors: list[str]) -> int:
    """Prints warnings, then the plan of a dry run or the report. Returns an exit code; adds to the errors."""
    wrong = list(dict.fromkeys(outcome["error"] for outcome in outcomes if "error" in outcome))
    for line in [*dict.fromkeys(line for outcome in outcomes for line in outcome.get("warnings", ())), *wrong]:
        say(f"bench: {line}")
    jobs = [outcome for outcome in outcomes if "seeds" in outcome]
    if jobs:
        from bench.report.summary import plan, show, unfinished  # --help does not need it

        if jobs[0]["dry_run"]:
            write_line(plan(jobs))
            return int(bool(wrong))
        try:
            show(jobs)
        except (ValueError, OSError) as raised:  # InputError is a ValueError; only the report failed
            if not errors:
                errors.append(f"no report: {one_line(raised)}")
        errors[:0] = unfinished(jobs)
    return int(bool(wrong))


def reason(error: Exception) -> str:
    """What a launcher says about a lost job, in one line. The cause stands at the end of a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    causes = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Interrupted)\b", line)]
    return f"{type(error).__name__}: {(causes or lines[:1])[-1][:300].rstrip('.')}"


def line_of(error: Exception) -> str:
    """An error in one line: of the user's input as it is, any other with its place in the code."""
    if isinstance(error, RecursionError):
        return "a value is nested too deeply"
    raised_in = {*Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts} if error.__traceback__ else set()
    if isinstance(error, HydraException | OmegaConfBaseException) or raised_in & {"hydra", "omegaconf", "antlr4"}:
        return one_line(error)
    from bench.runs.facts import unexpected  # it imports torch, which --help does not need

    return str(error) if isinstance(error, InputError) else unexpected(error)


def one_line(error: BaseException) -> str:
    """An error of the configuration or the file system, without line breaks and without what Hydra adds."""
    message = re.sub(r"\s+", " ", str(error))
    message = re.sub(r"^.* raised while resolving interpolation: | (full_key|Config search path): .*$", "", message)
    return re.sub(r"To append to your config use \S+", "There is no such key; bench --cfg job shows all", message)


if __name__ == "__main__":
    from bench.__main__ import main as imported  # the workers of a launcher import what they are sent, from there

    imported()
