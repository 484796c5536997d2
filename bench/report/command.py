"""The command line of bench-report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.errors import InputError
from bench.paths import CONF
from bench.report import export, presets, write
from bench.runs.names import check_path, check_text, check_texts
from bench.runs.output import close_output, printable, write_line


@contextmanager
def _stored(config_dir: Path | None) -> Iterator[None]:
    """Registers the configuration and its presets with Hydra, and nothing else of the folders.

    With a whole folder, Hydra would take metrics=[...] for a choice from the group metrics of `bench`.
    """
    # A preset may leave out options: they have their defaults.
    base = presets.read_yaml(Path(CONF, "bench_report.yaml")) | presets.default()
    known = presets.presets(config_dir)
    store = ConfigStore.instance()
    others = store.repo
    try:
        store.repo = {name: node for name, node in others.items() if name != "report"}
        store.store("bench_report", OmegaConf.create(base))
        for name, preset in known.items():
            store.store(name, OmegaConf.create(preset), group="report", package="_global_")
        yield
    finally:
        store.repo = others  # another command of this process may have other presets


def _take_config_dir() -> Path | None:
    """The folder that the command line names with --config-dir, which it loses. Raises InputError."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    flags.add_argument("--config-dir", "-cd")
    try:
        found, sys.argv[1:] = flags.parse_known_args(sys.argv[1:])
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see bench-report --help") from error
    if found.config_dir is None:
        return None
    folder = Path(check_path("--config-dir", found.config_dir)).expanduser()
    if not folder.is_dir():
        raise InputError(f"--config-dir={folder} is not a folder: expected one with report/ or experiment/claims/")
    return folder


def _report(config: DictConfig, config_dir: Path | None) -> None:
    """Carries out the command. Raises InputError."""
    options = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    check_texts(options)
    sweep, paths, target = options.pop("sweep"), options.pop("paths"), options.pop("export")
    place = paths.get("results") if isinstance(paths, dict) else paths
    results = Path(check_path("paths.results", place)).expanduser()
    sweeps = [check_text("sweep", name) for name in (sweep if isinstance(sweep, list) and sweep else [sweep])]
    if target is not None:
        path, count = export(results, sweeps, Path(check_path("export", target)).expanduser(), options["only"])
        write_line(f"{count:,} record{'' if count == 1 else 's'} written to {path}")
        return
    report = write(results, sweeps, config_dir=config_dir, **options)
    write_line(f"\nwritten to {report.folder}: {', '.join(report.files)}\n{report.entry}")


def _line(error: InputError) -> str:
    return printable(f"bench-report: {error}")


def command() -> None:
    """Prints and writes the report. An error that a user can mend is one line on stderr with exit code 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors here, which Hydra would print over several lines
    try:
        config_dir = _take_config_dir()

        @hydra.main(config_path=None, config_name="bench_report", version_base="1.3")
        def report(config: DictConfig) -> None:
            try:
                _report(config, config_dir)
            except InputError as error:  # Hydra would print more than its line
                sys.exit(_line(error))

        with _stored(config_dir):
            report()
        close_output()
    except InputError as error:
        sys.exit(_line(error))
    except (HydraException, OmegaConfBaseException) as error:
        first = printable(str(error).strip().splitlines()[0].strip())
        sys.exit(f"bench-report: {first} See bench-report --help.")
