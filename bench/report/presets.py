"""The presets of reports: those of conf/report, and a user's own in the same folder of a --config-dir."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.errors import InputError
from bench.paths import CONF

DEFAULT = "vae_vs_aae_vs_gan"


def read_yaml(path: Path) -> dict[str, Any]:
    """The values of a YAML file. Raises InputError if it cannot be read."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # the type depends on what is wrong with the file
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} has no keys with values")
    return {str(key): value for key, value in content.items()}


def default() -> dict[str, Any]:
    """Every option of a report, with its default."""
    return copy.deepcopy(_default())


@cache
def _default() -> dict[str, Any]:
    return read_yaml(Path(CONF, "report", f"{DEFAULT}.yaml"))


def presets(config_dir: Path | None = None) -> dict[str, dict[str, Any]]:
    """All presets by name. Raises InputError for a preset that cannot be read, or that has the name of another."""
    paths = sorted(Path(CONF, "report").glob("*.yaml"))
    own = sorted((config_dir / "report").glob("*.yaml")) if config_dir else []
    names = {path.stem for path in paths}
    for path in own:
        if path.stem in names:
            raise InputError(f"{path} has the name of a preset of latentbench: rename it")
    return {path.stem: read_yaml(path) for path in (*paths, *own)}
