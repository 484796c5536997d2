"""The command line of bench-report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.paths import CONF
from bench.report import write


def _store() -> None:
    """Makes known the configuration and its presets, and nothing else of the folder.

    Were it all of the folder, Hydra would take metrics=[...] for a choice from the group metrics of `bench`.
    """
    store = ConfigStore.instance()
    store.store("bench_report", OmegaConf.load(Path(CONF) / "bench_report.yaml"))
    for preset in (Path(CONF) / "report").glob("*.yaml"):
        store.store(preset.stem, OmegaConf.load(preset), group="report", package="_global_")


@hydra.main(config_path=None, config_name="bench_report", version_base="1.3")
def _report(config: DictConfig) -> None:
    options = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    sweep, results = options.pop("sweep"), Path(options.pop("paths")["results"])
    sweeps = [str(s) for s in sweep] if isinstance(sweep, list) else [str(sweep)]
    try:
        made = write(results, sweeps, **options)
    except ValueError as error:
        from bench.core import InputError  # imports torch, which a report without an error does without

        if not isinstance(error, InputError):
            raise
        sys.exit(f"bench-report: {error}")
    print(f"\nwritten to {made.folder}: {', '.join(made.files)}")


def command() -> None:
    """Prints and writes the report; what a user can mend is one line on stderr and exit code 1."""
    _store()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise here what Hydra would print over several lines
    try:
        _report()
    except (HydraException, OmegaConfBaseException) as error:
        told = [line.strip() for line in str(error).splitlines()]
        sys.exit(f"bench-report: {told[0]} See bench-report --help.")
