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

from bench.errors import InputError
from bench.paths import CONF
from bench.report import export, write
from bench.runs.names import check_path, check_text, check_texts
from bench.runs.output import close_output, printable, write_line


def _store() -> None:
    """Registers the configuration and its presets, and nothing else of the folder.

    With the whole folder, Hydra would take metrics=[...] for a choice from the group metrics of `bench`.
    """
    store = ConfigStore.instance()
    store.store("bench_report", OmegaConf.load(Path(CONF) / "bench_report.yaml"))
    for preset in (Path(CONF) / "report").glob("*.yaml"):
        store.store(preset.stem, OmegaConf.load(preset), group="report", package="_global_")


@hydra.main(config_path=None, config_name="bench_report", version_base="1.3")
def _report(config: DictConfig) -> None:
    options = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    try:
        check_texts(options)
        sweep, paths, target = options.pop("sweep"), options.pop("paths"), options.pop("export")
        place = paths.get("results") if isinstance(paths, dict) else paths
        results = Path(check_path("paths.results", place)).expanduser()
        sweeps = [check_text("sweep", name) for name in (sweep if isinstance(sweep, list) and sweep else [sweep])]
        if target is not None:
            path, count = export(results, sweeps, Path(check_path("export", target)).expanduser(), options["only"])
            write_line(f"{count:,} record{'' if count == 1 else 's'} written to {path}")
            return
        report = write(results, sweeps, **options)
    except InputError as error:
        sys.exit(printable(f"bench-report: {error}"))
    write_line(f"\nwritten to {report.folder}: {', '.join(report.files)}")


def command() -> None:
    """Prints and writes the report. An error that a user can mend is one line on stderr with exit code 1."""
    _store()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors here, which Hydra would print over several lines
    try:
        _report()
        close_output()
    except (HydraException, OmegaConfBaseException) as error:
        first = printable(str(error).strip().splitlines()[0].strip())
        sys.exit(f"bench-report: {first} See bench-report --help.")
