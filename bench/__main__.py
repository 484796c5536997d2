"""The console entry: runs the job or the sweep, then prints the report, even if a job failed."""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench import __version__
from bench.arguments import commands
from bench.completion import answer
from bench.compose import PlannedJob, dry_sweep, speed_up_hydra
from bench.errors import InputError
from bench.evaluation.conventions import metric_of
from bench.help import FLAGS, text
from bench.paths import CONF
from bench.runs import lease
from bench.runs.command import REPLY, Command, begin, command, reply
from bench.runs.isolated import end_when, perform, perform_isolated, siblings
from bench.runs.launcher import BASIC, Launcher
from bench.runs.names import check_path, check_text
from bench.runs.output import close_output, say, write_line
from bench.runs.record import FAILURES
from bench.runs.signals import Interrupted, Signals, handled, pass_on
from bench.runs.status import planned_jobs
from bench.runs.store import IDENTITY, check_sweep
from bench.runs.watch import watch
from bench.suggestions import with_suggestion
from bench.trials import candidates, is_trial

PATHS = {"paths": ("results", "cache"), "dataset": ("root", "noise_root", "path")}  # the settings that are paths


def folder_name(sweep: object) -> str:
    """The name of a sweep, checked before Hydra creates its folder."""
    return check_sweep(check_text("sweep", sweep))


def results_folder(path: object, start: str, dry_run: object) -> str:
    """The folder of all sweeps, checked before Hydra creates it: in a dry run a temporary one.

    It is absolute: jobs on other machines may start in another folder than the command, which is `start`.
    """
    results = Path(start, Path(check_path("paths.results", path)).expanduser())
    return str(Command.current().folder if dry_run is True else results)


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("results_folder", results_folder, replace=True)


class Variables(metaclass=Singleton):
    """Environment variables of the command. Hydra hands its singletons to all jobs, on other machines too."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}


@hydra.main(config_path=CONF, config_name="config", version_base="1.3")
def job(config: DictConfig) -> float | None:
    """Runs one job. An error is recorded as its outcome, so that the rest of a sweep continues.

    Returns the mean over seeds of `objective`, for a sweeper that optimises it. None, as for seeds that diverged, makes
    a trial of Optuna a failed one, which its samplers leave out.
    """
    os.environ.update(Variables().values)
    hydra_config = HydraConfig.get()
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    number, current = hydra_config.job.num if in_sweep else 0, Command.current()
    launcher = Launcher.of(hydra_config.launcher) if in_sweep else Launcher(BASIC)
    if launcher.name == BASIC:
        carry_out(config, number, current, None)
        return current.objective(number)
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
    return current.objective(number)


def carry_out(config: DictConfig, number: int, current: Command, launcher: Launcher | None) -> None:
    """Runs a job here, or in a process of its own under a launcher and with isolate=true, and adds its outcome."""
    if not current.is_to_run(number):
        return
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        values = values_of(config)
        if current.planned is None and not values.get("dry_run"):
            plan_command(values, current, in_sweep)
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


def plan_command(values: dict[str, Any], current: Command, in_sweep: bool) -> None:
    """Notes how much there is to do, from the values of a job."""
    hydra_config, seeds = HydraConfig.get(), values.get("seeds")
    if not isinstance(seeds, list) or isinstance(values.get("trial"), int):  # a trial has one seed
        seeds = [0]
    results = Path(hydra_config.runtime.cwd, Path(str(values["paths"]["results"])).expanduser())
    with suppress(OSError):  # progress is not worth a run
        jobs = planned_jobs(Path(hydra_config.sweep.dir)) if in_sweep else 1
        current.plan(jobs, len(seeds), results / str(values["sweep"]))


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
    direction = hydra_config.sweeper.get("direction")  # of a sweeper that optimises
    if isinstance(direction := getattr(direction, "name", direction), str):
        values["direction"] = direction
    if is_trial(config.get("trial")):
        fixed = [key for word in overrides if "." in (key := word.lstrip("+").partition("=")[0])]
        values["candidates"] = candidates(config, fixed, IDENTITY)
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
    keys = [*((group, "_target_") for group in IDENTITY), ("metrics", "names"), ("budget", "monitor")]
    keys += [("experiment", key) for key in ("metrics.names", "objective", "tuning.objective", "budget.monitor")]
    names: list[Any] = []
    for group, key in keys:
        paths = sorted(path for folder in folders for path in (folder / group).rglob("*.yaml") if path.is_file())
        for option in [option for option in map(OmegaConf.load, paths) if isinstance(option, DictConfig)]:
            found = OmegaConf.select(option, key, throw_on_resolution_failure=False)
            names += found if isinstance(found, ListConfig) else [found]
    return sorted({metric_of(name) for name in names if isinstance(name, str) and "." in name})


def main() -> None:
    """`bench`. Exit code: 0 if all is done, 1 for wrong input or a failed run, 130 or 143 when interrupted.

    For `bench.run` it writes a reply instead of the report and the last lines, and ends when its parent has ended.
    """
    if "--version" in sys.argv:
        write_line(f"latentbench {__version__}")
        sys.exit(0)
    if (words := answer(sys.argv[1:])) is not None:
        write_line(words)
        sys.exit(0)
    speed_up_hydra()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors, which are printed once, below
    sys.path.append(os.getcwd())  # the user's own model may be in this folder
    file, parent = os.environ.pop(REPLY, None), os.getppid()  # no job inherits the variable
    if file:
        end_when(lambda: os.getppid() != parent)
    with handled() as signals, command() as folder:
        code, outcomes, errors = run_commands(folder, signals)
        if file:
            reply(Path(file), outcomes, errors)
            for line in errors if code else ():
                say(f"bench: {line}")
            close_output()
            sys.exit(code)
        entries: list[Path] = []
        try:
            code = code or report(outcomes, errors, entries)
        except KeyboardInterrupt as raised:
            code = code or exit_code(raised)
            errors.append("interrupted before the report: bench-report makes it")
    for line in dict.fromkeys(errors):
        say(f"bench: {line}")
    for path in entries:  # last of all, to be found
        write_line(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
    close_output()
    sys.exit(code or int(bool(errors)))


def run_commands(folder: Path, signals: Signals) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Runs the jobs of each experiment. Returns an exit code if it was interrupted, the outcomes, and errors."""
    started: list[Command] = []
    errors: list[str] = []
    code = 0
    since = time.time()
    try:
        parts = commands(sys.argv[1:])
        if {*sys.argv[1:]}.intersection(FLAGS):
            write_line(text(sys.argv[1:]))
            return 0, [], []
        for number, arguments in enumerate(parts):
            part = f"part {number + 1} of {len(parts)}" if len(parts) > 1 else ""
            started.append(begin(folder / f"{number:06}", since, part))
            signals.before_interruption = started[-1].interrupt
            Variables().values = {name: value for name, value in os.environ.items() if name.startswith("BENCH_")}
            sys.argv[1:] = arguments
            launcher, sweeper = (plugin_of(arguments, kind) for kind in ("launcher", "sweeper"))
            if sweeper and not any(word.startswith(("objective=", "experiment=")) for word in arguments):
                errors.append(f"hydra/sweeper={sweeper} needs a metric to optimise, as in objective=validation/elbo")
                break
            try:
                if (planned := dry_sweep(arguments)) is not None:
                    plan_jobs(planned, started[-1])
                    continue
                run_jobs(started[-1], launcher)
                while started[-1].next_round():
                    run_jobs(started[-1], launcher)
            except (HydraException, OmegaConfBaseException) as raised:  # of one experiment: the others continue
                errors.append(with_suggestion(one_line(raised), arguments))
            except Exception as raised:
                plugin = launcher or sweeper
                if not plugin and isinstance(raised, OSError):
                    raise
                started[-1].keep()
                # A launcher has lost a job, or could not start any; a sweeper has not received a value.
                reported = f"{plugin} reports {reason(raised)}; the same command continues"
                errors.append(reported if plugin else line_of(raised))
            if started[-1].is_stopped:
                errors.append("stopped at the first failure (stop_on_failure=true)")
                break
    except KeyboardInterrupt as raised:
        for one in started[-1:]:
            one.keep()
        code = exit_code(raised)
        errors.append("interrupted: finished work is kept, and the same command continues from there")
    except (HydraException, OmegaConfBaseException) as raised:  # an unknown option is an OSError too
        errors.append(with_suggestion(one_line(raised), sys.argv[1:]))
    except BrokenPipeError:  # nobody reads the help any more, as after `| head`
        pass
    except OSError as raised:
        errors.append(f"{one_line(raised)}: make room or get permission there, or set paths.results to another folder")
    except Exception as raised:
        errors.append(line_of(raised))
    return code, [outcome for one in started for outcome in one.outcomes().values()], errors


def run_jobs(current: Command, launcher: str) -> None:
    """Runs the jobs of a command. Those of a parallel launcher leave it to this process to show their progress."""
    # Ray copies the lines of its jobs into this terminal.
    with nullcontext() if launcher in ("", "basic") else watch(current, draws=launcher != "ray"):
        job()


def plugin_of(arguments: Iterable[str], kind: str) -> str:
    """The option of hydra/launcher or hydra/sweeper on a command line; "" for that of Hydra itself."""
    return "".join(word.partition("=")[2] for word in arguments if f"hydra/{kind}=" in word)


def plan_jobs(jobs: list[PlannedJob], current: Command) -> None:
    """Plans the jobs of a dry run."""
    for planned in jobs:
        planned.use_hydra_config()
        carry_out(planned.config, planned.number, current, None)


def exit_code(interruption: KeyboardInterrupt) -> int:
    return interruption.code if isinstance(interruption, Interrupted) else 130


def report(outcomes: list[dict[str, Any]], errors: list[str], entries: list[Path]) -> int:
    """Prints warnings, then the plan of a dry run or the report. Returns an exit code.

    Adds to the errors, and to entries the file to open of each report.
    """
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
            entries += show(jobs)
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
    message = re.sub(r"\s+", " ", str(error)).removeprefix("In 'config': ")
    message = re.sub(r"^.* raised while resolving interpolation: | (full_key|Config search path): .*$", "", message)
    return re.sub(r"To append to your config use \S+", "There is no such key; bench --cfg job shows all", message)


if __name__ == "__main__":
    from bench.__main__ import main as imported  # the workers of a launcher import what they are sent, from there

    imported()
