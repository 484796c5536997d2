"""The console entry: runs the job or the sweep, then prints the report, even if a job failed."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.paths import CONF
from bench.runs import lease
from bench.runs.command import Command, begin, command
from bench.runs.isolated import end_when, perform, perform_isolated, siblings
from bench.runs.launcher import BASIC, Launcher
from bench.runs.output import say, write_line
from bench.runs.record import FAILURES
from bench.runs.signals import Interrupted, handled, pass_on
from bench.runs.store import ELSEWHERE, IDENTITY

PATHS = {"paths": ("results", "cache"), "dataset": ("root", "path")}  # the settings that are paths
# Keys that do not identify a run: jobs that differ in them alone are one run, so a sweep over them makes no sense.
NOT_SWEPT = (
    "metrics", "tracking", "stack", "device", "rerun", "dry_run", "allow",
    "checkpoint", "limit", "lease", "stop_on_failure", "isolate", "attempts",
)  # fmt: skip
# What to do about runs that did not end well, by status.
ADVICE = {
    "failed": "failed, for the reasons above: the same command tries again",
    "out_of_memory": "ran out of memory: make room, or make batches or networks smaller; the same command tries again",
    "timeout": "took longer than limit.minutes: the same command continues with a higher limit",
    "crashed": "took their process down: rerun=true tries again",
    ELSEWHERE: "held by another process: repeat this command when it has ended",
}
CONTINUED = "the same command continues (jobs in the queue of Slurm go on meanwhile)"


def folder_name(sweep: object) -> str:
    """The name of a sweep, checked before Hydra creates its folder."""
    from bench.runs.store import check_sweep

    return check_sweep(str(sweep))


def absolute(folder: str, path: object) -> str:
    """A path that starts at a folder, unless it is absolute."""
    return str(Path(folder, Path(str(path)).expanduser()))


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
OmegaConf.register_new_resolver("absolute", absolute, replace=True)
OmegaConf.register_new_resolver("requirements", requirements, replace=True)


class Variables(metaclass=Singleton):
    """Environment variables of the command. Hydra hands its singletons to all jobs, on other machines too."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}


@hydra.main(config_path=CONF, config_name="config", version_base="1.3")
def job(config: DictConfig) -> None:
    """Runs one job. An InputError is recorded as its outcome, so that the rest of a sweep continues."""
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
        if (launcher or values["isolate"]) and not values["dry_run"]:
            with handled():
                perform_isolated(values, number, in_sweep, launcher.threads(os.environ) if launcher else None)
        else:
            perform(values, number, in_sweep)
    except ValueError as error:  # InputError is one; importing it would import torch, which another process does
        current.add(number, {"error": str(error), "dry_run": config.dry_run})
    outcome = current.outcomes()[number]
    has_failed = "error" in outcome or any(status in FAILURES for status in outcome["seeds"].values())
    if has_failed and config.stop_on_failure:
        current.stop()


def values_of(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration of a job, with the chosen options and the overrides. Raises InputError.

    Every `_target_` in the user's own YAML is allowed, and relative paths start at the folder of the command.
    """
    hydra_config = HydraConfig.get()
    values: Any = OmegaConf.to_container(config, resolve=True)
    if added := {"choices", "overrides"} & values.keys():
        raise refused(f"{min(added)} cannot be set: choose an option by its group, as in model=vae")
    overrides = list(hydra_config.overrides.task)
    swept = {name.lstrip("+") for name in hydra_config.sweeper.get("params") or {}}
    # The command line's own experiment= replaces a sweep over experiments.
    if ignored := sorted(swept - ({word.lstrip("+").partition("=")[0] for word in overrides} - {"experiment"})):
        raise refused(
            f"this experiment sweeps {', '.join(ignored)}, but this command would run only one job of the sweep: "
            "add -m, and name several experiments as experiment=a,b"
        )
    values |= {"choices": dict(hydra_config.runtime.choices), "overrides": overrides}
    if isinstance(values["allow"], list):  # anything else is refused later
        sources = [source.path for source in hydra_config.runtime.config_sources if source.schema == "file"]
        values["allow"] += targets_of(Path(source) for source in sources if source != CONF)
    start = Path(hydra_config.runtime.cwd)
    if Path.cwd() != start:  # under hydra.job.chdir=true
        for group, keys in PATHS.items():
            for key in [key for key in keys if values[group].get(key)]:
                values[group][key] = absolute(str(start), values[group][key])
    return values


def refused(message: str) -> ValueError:
    """An InputError. Its module imports torch, which a process that waits for another one does not need."""
    from bench.core import InputError

    return InputError(message)


def targets_of(folders: Iterable[Path]) -> list[str]:
    """Every `_target_` in the options of the groups in configuration folders."""
    paths = (path for folder in folders for group in IDENTITY for path in sorted((folder / group).rglob("*.yaml")))
    options = [OmegaConf.load(path) for path in paths if path.is_file()]
    targets = [option.get("_target_") for option in options if isinstance(option, DictConfig)]
    return sorted({str(target) for target in targets if target})


def commands(arguments: list[str]) -> list[list[str]]:
    """The arguments of one Hydra run for each experiment of experiment=a,b or experiment=glob(claims/*).

    Hydra itself would ignore the sweeps that they define. Raises HydraException for an unknown experiment, and for a
    sweep over a key that does not tell runs apart.
    """
    parser = OverridesParser.create()
    for word in [word for word in arguments if "=" in word and not word.startswith("-")]:
        try:
            override = parser.parse_override(word)
        except HydraException as error:
            example = "'dataset.path=\"ä b.npz\"'"
            raise HydraException(f"{word}: {error}; quote a value with special characters, as in {example}") from error
        name = word.lstrip("+").partition("=")[0]
        if name in IDENTITY and override.value() is None:
            raise HydraException(f"{word}: choose an option of {name}; bench --help lists them")
        if name.split(".")[0] in NOT_SWEPT and override.is_sweep_override():
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


def experiments(folder: Path) -> list[str]:
    """The options of a folder and its subfolders, except those with _, which others inherit from."""
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    return [path.as_posix() for path in paths if not path.name.startswith("_")]


def main() -> None:
    """`bench`. Exit code: 0 if all is done, 1 for wrong input or a failed run, 130 or 143 when interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors, which are printed once, below
    sys.path.append(os.getcwd())  # the user's own model may be in this folder
    errors: list[str] = []
    code = 0
    outcomes: list[dict[str, Any]] = []
    is_launched = False
    with handled(), command() as folder:
        started: list[Command] = []
        try:
            for number, arguments in enumerate(commands(sys.argv[1:])):
                started.append(begin(folder / f"{number:06}"))
                Variables().values = {name: value for name, value in os.environ.items() if name.startswith("BENCH_")}
                sys.argv[1:] = arguments
                is_launched = any(word.lstrip("+").startswith("hydra/launcher=") for word in arguments)
                try:
                    job()
                    while started[-1].next_round():
                        job()
                except (HydraException, OmegaConfBaseException) as raised:  # of one experiment: the others continue
                    errors.append(one_line(raised))
                except Exception as raised:  # of a launcher: it has lost a job, or could not start any
                    if not is_launched:
                        raise
                    started[-1].keep()
                    errors.append(f"the launcher reports {reason(raised)}; {CONTINUED}")
        except KeyboardInterrupt as raised:
            if is_launched:
                started[-1].keep()
            code = raised.code if isinstance(raised, Interrupted) else 130
            errors.append("interrupted: finished work is kept, and the same command continues from there")
        except HydraException as raised:
            errors.append(one_line(raised))
        except OSError as raised:
            advice = "make room or get permission there, or set paths.results to another folder"
            errors.append(f"{one_line(raised)}: {advice}")
        outcomes = [outcome for one in started for outcome in one.outcomes().values()]
        if any(one.is_stopped for one in started):
            errors.append("stopped at the first failure (stop_on_failure=true)")
    for line in dict.fromkeys(line for outcome in outcomes for line in outcome.get("warnings", ())):
        say(f"bench: {line}")
    for line in dict.fromkeys(outcome["error"] for outcome in outcomes if "error" in outcome):
        say(f"bench: {line}")
        code = code or 1
    jobs = [outcome for outcome in outcomes if "seeds" in outcome]
    if jobs and jobs[0]["dry_run"]:
        write_line(plan(jobs))
    elif jobs:
        try:
            show(jobs)
        except BrokenPipeError:  # the reader has seen enough, as `head` does
            pass
        except (ValueError, OSError) as raised:  # InputError is a ValueError; only the report failed
            errors = errors or [f"no report: {one_line(raised)}"]
        errors = [*unfinished(jobs), *errors]
    for line in dict.fromkeys(errors):
        say(f"bench: {line}")
    close_output()
    sys.exit(code or int(bool(errors)))


def reason(error: Exception) -> str:
    """What a launcher says about a lost job, in one line. The cause stands at the end of a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    causes = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Interrupted)\b", line)]
    return f"{type(error).__name__}: {(causes or lines[:1])[-1][:300].rstrip('.')}"


def close_output() -> None:
    """Drops what nobody can read any more, so that Python does not fail with it at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show(jobs: list[dict[str, Any]]) -> None:
    """Writes the report of each sweep, prints the rows of this command, and last the number of runs by status."""
    from bench import report

    for results, sweep in dict.fromkeys((outcome["results"], outcome["sweep"]) for outcome in jobs):
        runs = {outcome["run"] for outcome in jobs if (outcome["results"], outcome["sweep"]) == (results, sweep)}
        report.write(Path(results), [sweep], printed=runs)
    write_line(total(jobs))


def plan(jobs: list[dict[str, Any]]) -> str:
    """The result of a dry run: a line for each run, and the sum."""
    runs = {(outcome["sweep"], outcome["run"]): outcome for outcome in jobs}.values()  # two jobs may share a run
    lines = []
    for outcome in runs:
        reason = f" ({outcome['reason']})" if outcome["reason"] else ""
        lines.append(f"{outcome['run']}: {counted(outcome['seeds'])}{reason}")
    about = timedelta(seconds=round(sum(outcome["seconds"] for outcome in runs)))
    summary = f"{number(len(jobs), 'job')}, {total(jobs)}; training takes about {about}, one after the other"
    return "\n".join([*lines, summary])


def statuses(jobs: list[dict[str, Any]]) -> dict[tuple[str, ...], str]:
    """The status of each (sweep, run, seed). Of two jobs that share a run, each may leave seeds to the other."""
    entries = [((job["sweep"], job["run"], seed), status) for job in jobs for seed, status in job["seeds"].items()]
    return dict(sorted(entries, key=lambda entry: entry[1] != ELSEWHERE))


def total(jobs: list[dict[str, Any]]) -> str:
    """The number of runs, by status."""
    runs = statuses(jobs)
    return f"{number(len(runs), 'run')}: {counted(runs)}"


def unfinished(jobs: list[dict[str, Any]]) -> list[str]:
    """A line for each kind of work that the command did not finish."""
    counts = Counter(statuses(jobs).values())
    failed = {
        f"{name} of {outcome['run']} seed {seed}"
        for outcome in jobs
        for seed, names in outcome["failed_metrics"].items()
        for name in names
    }
    lines = [f"{number(counts[status], 'run')} {text}" for status, text in ADVICE.items() if counts[status]]
    if failed:
        few = ", ".join(sorted(failed)[:3]) + (", ..." if len(failed) > 3 else "")
        lines.append(f"{number(len(failed), 'metric')} failed ({few}), see above: the same command tries again")
    return lines


def number(count: int, noun: str) -> str:
    """As "1 run" or "2 runs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def counted(statuses: dict[Any, str]) -> str:
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses.values()).most_common())


def one_line(error: BaseException) -> str:
    """An error of the configuration or the file system, without line breaks and without what Hydra adds."""
    message = re.sub(r"\s+", " ", str(error))
    message = re.sub(r"^.* raised while resolving interpolation: | (full_key|Config search path): .*$", "", message)
    return re.sub(r"To append to your config use \S+", "There is no such key; bench --cfg job shows all", message)


if __name__ == "__main__":
    from bench.__main__ import main as imported  # the workers of a launcher import what they are sent, from there

    imported()
