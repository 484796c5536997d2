"""The options of the configuration groups: YAML files in the package, and in the user's --config-dir."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.paths import CONF

OTHERS = ("hydra", "report")  # folders with no options of `bench`
KEYS = re.compile(r"^(provides|requires|claim):(?! \[\]| null)", re.MULTILINE)
SENTENCE = re.compile(r".+?(?:[.:?](?= [A-Z\"(]|$)|$)")


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """The folders with options for a command line. The user's own comes last."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--config-dir", "-cd", nargs="?")
    own = flags.parse_known_args(arguments)[0].config_dir
    return [Path(CONF), *([Path(own).expanduser()] if own else [])]


def groups(folders: Sequence[Path]) -> list[str]:
    """The names of all groups."""
    found = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    return sorted(found.difference(OTHERS))


def options(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """The files of a group by option, as claims/blur, without those with _, which others inherit from."""
    found = {}
    for folder in folders:
        for path in sorted(Path(folder, group).rglob("*.yaml")):
            if not path.name.startswith("_"):
                found[path.relative_to(folder / group).with_suffix("").as_posix()] = path
    return dict(sorted(found.items(), key=lambda item: (item[0].count("/"), item[0])))


def summary(path: Path) -> str:
    """What an option is: the first sentence at the top of its file, and what it provides or requires.

    A claim is what its file says.
    """
    text = path.read_text()
    values: Any = OmegaConf.load(path) if KEYS.search(text) else {}
    says = OmegaConf.select(values, "claim.says") if values else None
    sentence = str(says or _first_sentence(text)).rstrip(".:")
    needs = [f"{key.capitalize()} {', '.join(values[key])}." for key in ("provides", "requires") if values.get(key)]
    return " ".join([*([sentence + "." * (not sentence.endswith("?"))] if sentence else []), *needs])


def _first_sentence(text: str) -> str:
    """Of the comment at the top. A comment that is indented, such as a command, ends it."""
    words: list[str] = []
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not re.match(r"# \S", line):
            break
        words.append(line.removeprefix("# ").strip())
    found = SENTENCE.match(" ".join(words))
    return found[0] if found else ""
