"""latentbench: autoencoders, variational and adversarial ones, and GAN hybrids, compared on equal terms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import FailedRunsError as FailedRunsError
from bench.errors import FailedRunsWarning as FailedRunsWarning
from bench.errors import InputError as InputError

if TYPE_CHECKING:
    from bench.report.records.frames import Results
    from bench.runs.trained import Trained

__version__ = "0.1.0"

# The functions import what they need when they are called: torch and pandas take a second.


def load(folder: str | Path, seed: int | None = None, allow: Sequence[str] = ()) -> Trained:
    """The trained model of a finished run: it encodes, decodes and samples.

    folder: of a run, or of one of its seeds; seed: of a run's folder, by default its first one; allow: the packages of
    your own models and parts, as ["my_package"]. A record is data: a class that it names is imported only from
    latentbench, torch.optim and these. Raises InputError if there is no such run.
    """
    from bench.runs.trained import load_trained

    return load_trained(Path(folder), seed, allow)


def run(*overrides: str, **settings: Any) -> Results:
    """Trains and evaluates one run, as `bench` does, and returns its results, as `bench.results` does.

    bench.run("model=vae", "dataset=digits", seeds=[0, 1], optimizer={"lr": 1e-3})

    overrides: as on the command line, also "--config-dir", "my_conf"; settings: values by name, and dictionaries of
    values by group. The command runs in a process of its own in the current folder, which shows its progress on
    sys.stderr. Finished work is not repeated. Ctrl-C ends it, with its work saved.

    Raises InputError for wrong input, and FailedRunsError if no seed ended well, other than by divergence; if only some
    failed, warns with FailedRunsWarning. Their status and reason are in the results.
    """
    from bench.calls import call

    return call(overrides, settings, is_sweep=False)


def sweep(*overrides: str, **settings: Any) -> Results:
    """Trains and evaluates all combinations of some values, as `bench -m` does, and returns their results.

    bench.sweep("model=ae,vae", model={"latent_dim": (2, 8)}, seeds=[0, 1], sweep="first")

    A tuple holds the values of an axis; a list is one value. Otherwise as `bench.run`.
    """
    from bench.calls import call

    return call(overrides, settings, is_sweep=True)


def results(*folders: str | Path, settings: Literal["differing", "all"] | Sequence[str] = "differing") -> Results:
    """The results in the folders of some sweeps: a DataFrame with a row for each run, seed and metric.

    Its columns: sweep, run, id and seed; the chosen option of each group, "-" if the model does not use it; the
    settings in which runs differ (settings="all": all of them; or a list of names); status, metric, value, se, n, unit,
    better, ideal, reason. Every seed has a row for each metric that any seed has. value is NaN where there is no
    number, and reason says why. `.wide()` has a row for each run and seed, and a column for each metric.

    Raises InputError if a folder is no sweep. Warns of records that cannot be read.
    """
    from bench.report.records.frames import results as read

    return read([Path(folder) for folder in folders], settings)
