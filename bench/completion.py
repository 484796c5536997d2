"""Tab completion: what may follow a command line. Hydra's script asks for it, `bench --shell-completion query=bash`.

Hydra's own answers know neither lists with commas, nor options in subfolders, nor a --config-dir.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.plugins.completion_plugin import CompletionPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.compose import whole
from bench.options import config_folders, groups, options
from bench.paths import CONF

HYDRA = ("hydra/launcher", "hydra/sweeper")  # the groups of Hydra that a command needs
SEPARATORS = {"query=bash": " ", "query=zsh": " ", "query=fish": "\n"}  # between the answers, for each shell


def answer(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> str | None:
    """The answer to a shell, for the line in its variables COMP_LINE and COMP_POINT. None if no shell asks."""
    asked = SEPARATORS.keys() & set(arguments)
    if not asked or not {"-sc", "--shell-completion"} & set(arguments):
        return None
    line = os.fsencode(environment.get("COMP_LINE", ""))
    point = environment.get("COMP_POINT", "")  # in bytes
    line = line[: int(point)] if point.isdigit() else line
    return SEPARATORS[asked.pop()].join(completions(os.fsdecode(line)))


def completions(line: str) -> list[str]:
    """The words that the last one of a command line may become. Empty if the line is wrong, or asks for a file."""
    try:
        words = shlex.split(line)[1:]
        last = words.pop() if words and not line[-1].isspace() else ""
        if words and words[-1] in ("--config-dir", "-cd"):
            return []
        return sorted(_starting_with(last, words))
    except (ValueError, OSError, HydraException, OmegaConfBaseException):  # an open quote, or an option that is wrong
        return []


def _starting_with(word: str, before: Sequence[str]) -> list[str]:
    folders = config_folders(before)
    key, equals, value = word.partition("=")
    known = groups(folders)
    if word.startswith("-"):
        return [flag for flag in get_args_parser()._option_string_actions if flag.startswith(word)]
    if key in known and equals:
        return _listed(word, list(options(key, folders)))
    if key in HYDRA and equals:
        with initialize_config_dir(CONF, version_base="1.3"):
            return _listed(word, GlobalHydra.instance().config_loader().get_group_options(key))
    if value and (found := CompletionPlugin.complete_files(value)) and value[0] in "./":
        return [f"{key}={path}" for path in found]
    names = [f"{name}=" for name in [*known, *HYDRA] if name.startswith(word)]
    return names + _keys(word, _config(before, folders))


def _listed(word: str, names: Sequence[str]) -> list[str]:
    """The options that may stand last in a list, as ae,vae. One that the list has already is not repeated."""
    start, _, last = word.rpartition("," if "," in word else "=")
    taken = set(start.partition("=")[2].split(","))
    start = word[: len(word) - len(last)]
    return [start + name for name in names if name.startswith(last) and name not in taken]


def _config(before: Sequence[str], folders: Sequence[Path]) -> Any:
    """The configuration with the options of a command line. Of a list, all have the keys that can be set: the first."""
    chosen = []
    for word in before:
        group, _, value = word.partition("=")
        first = value.partition(",")[0]
        if group in HYDRA or (group in groups(folders) and first in options(group, folders)):
            chosen.append(f"{group}={first}")
    flags = ["--config-dir", str(folders[1])] if len(folders) > 1 else []
    return whole([*flags, *chosen])


def _keys(word: str, config: Any) -> list[str]:
    """The keys one level below those of a word, or its value."""
    if word.endswith("="):
        value = OmegaConf.select(config, word[:-1])
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return [] if value is None or OmegaConf.is_config(value) else [f"{word}{text}"]
    parents, dot, last = word.rpartition(".")
    node = OmegaConf.select(config, parents) if dot else config
    if not OmegaConf.is_dict(node):
        return []
    found = [key for key in node if str(key).startswith(last) and (word or key != "hydra")]
    return [f"{parents}{dot}{key}" + ("." if OmegaConf.is_dict(node._get_node(key)) else "=") for key in found]
