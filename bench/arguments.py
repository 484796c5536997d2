"""A command line as the arguments of each run of Hydra that it stands for."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

from bench.compose import tuning_trials
from bench.options import config_folders, options
from bench.runs.names import check_path
from bench.runs.store import IDENTITY, NOT_IDENTITY

FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # which Hydra creates


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
        return stages(arguments)
    known = sorted(options("experiment", config_folders(arguments)))
    value = override.value()
    named = value.filter(known) if isinstance(value, Glob) else override.sweep_string_iterator()
    names = list(dict.fromkeys(map(str, named)))
    if not names or not set(known).issuperset(names):
        raise HydraException(f"{word}: there is no such experiment; there are only {', '.join(known)}")
    others = [word for word in arguments if not word.startswith("experiment=")]
    return [stage for name in names for stage in stages([*others, f"experiment={name}"])]


def stages(arguments: list[str]) -> list[list[str]]:
    """The arguments of each Hydra run of a command or an experiment.

    With tuning.trials: first the trials, then the default settings and the best ones of the trials.
    """
    keys = [word.lstrip("+~").partition("=")[0] for word in arguments]
    if "trial" in keys or not any(key.startswith(("tuning", "experiment")) for key in keys):
        return [arguments]
    trials = tuning_trials(arguments)
    if trials is None:
        return [arguments]
    if sweeper := next((word for word in arguments if word.startswith("hydra/sweeper=")), None):
        raise HydraException(
            f"{sweeper} and tuning.trials={trials} exclude each other: each chooses the settings to try"
        )
    multirun = [] if {"-m", "--multirun"} & {*arguments} else ["--multirun"]
    # After another override: those that an option separates are not recognised.
    at = 1 + next(i for i, word in enumerate(arguments) if "=" in word and not word.startswith("-"))
    return [
        [*multirun, *arguments[:at], word, *arguments[at:]] for word in (f"trial=range({trials})", "trial=default,best")
    ]


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
