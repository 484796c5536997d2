"""What a user may have meant by a name that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from bench.paths import CONF

OPTION = re.compile(r"Could not find '(\w+)/([^']+)'")
KEY = re.compile(r"Could not override '([^'@]+)'|(?:Key|key) '([^']+)' is not in struct")


def with_suggestion(message: str, arguments: Sequence[str]) -> str:
    """A message of Hydra about an unknown option or key, with the one that is spelled most like it.

    arguments: of the command, whose options decide which keys there are.
    """
    if found := OPTION.search(message):
        group, name = found.groups()
        folder = Path(CONF, group)
        meant = _closest(name, [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")])
        return message if meant is None else f"{message}; did you mean {group}={meant}?"
    if found := KEY.search(message):
        meant = _closest(found[1] or found[2], list(_keys(OmegaConf.to_container(_config(arguments)))))
        return message if meant is None else f"{message}; did you mean {meant}?"
    return message


def _closest(name: str, known: Sequence[str]) -> str | None:
    return next(iter(get_close_matches(name, known, n=1)), None)


def _config(arguments: Sequence[str]) -> DictConfig:
    """The configuration with the options of a command line, without its values."""
    options = [word for word in arguments if Path(CONF, word.partition("=")[0]).is_dir() and "," not in word]
    GlobalHydra.instance().clear()  # the command has failed
    with initialize_config_dir(CONF, version_base="1.3"):
        try:
            return compose("config", options)
        except Exception:  # an option is wrong too
            return compose("config")


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    """The keys of a container, dotted."""
    for key, value in config.items() if isinstance(config, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")
