"""The text of bench --help: groups, their options and all values, each with its comment."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.compose import whole
from bench.options import config_folders, groups, options, summary
from bench.paths import CONF

FLAGS = ("--help", "-h")
WIDTH = (60, 120)  # columns: the least and the most
NAMES = 22  # columns for the names of options
Keys = tuple[str, ...]
COMMENT = re.compile(r"^( *)([\w.-]+):(?: .*?)?(?:  +# (.*))?$")

HEAD = """\
bench trains and compares autoencoders, VAEs, AAEs and GAN hybrids, and prints
the table."""
EXAMPLES = """\
bench model=vae
    one run
bench -m model=vae,aae likelihood=gaussian,bernoulli 'seeds=[0,1,2]' sweep=first
    a sweep, and its table
bench -m ... dry_run=true
    the planned runs and their approximate duration
bench --cfg job model=aae
    every value of a run
bench -m ... hydra/launcher=joblib hydra.launcher.n_jobs=4
    jobs in parallel; also submitit_local, submitit_slurm and ray
bench-status sweep=first
    what is done, what runs and what is left
bench-report sweep=first rows=model columns=likelihood
    the table again, rearranged
eval "$(bench --shell-completion install=bash)"
    completes options and settings with the tab key, in this bash
"""
ADVICE = """\
A sweep skips a data set that does not provide what a model requires. arrays, images and openml provide what your files
have."""


def text(arguments: Sequence[str]) -> str:
    """The help for a command line, whose options decide which values there are. Raises HydraException as Hydra does."""
    width = min(max(shutil.get_terminal_size().columns, WIDTH[0]), WIDTH[1])
    folders = config_folders(arguments)
    config = whole([word for word in arguments if word not in FLAGS])
    lines = [HEAD, "", "Groups and their options (override as model=aae):"]
    for group in groups(folders):
        lines += ["", group, *_options(group, folders, width)]
    lines += ["", textwrap.fill(ADVICE.replace("\n", " "), width), "", "Values (override as model.latent_dim=32):", ""]
    values: Any = OmegaConf.to_container(config)
    choices = values.pop("hydra")["runtime"]["choices"]
    lines += _values(values, _comments(choices, folders), width)
    return "\n".join([*lines, "", EXAMPLES.rstrip()])


def _options(group: str, folders: Sequence[Path], width: int) -> Iterator[str]:
    """The options of a group, each with its summary."""
    for name, path in options(group, folders).items():
        texts = textwrap.wrap(summary(path), width - NAMES - 3, break_on_hyphens=False)
        first = [] if len(name) > NAMES else texts[:1]
        yield f"  {name:{NAMES}} {''.join(first)}".rstrip()
        yield from (f"{'':{NAMES + 3}}{line}" for line in texts[len(first) :])


def _comments(choices: Mapping[str, Any], folders: Sequence[Path]) -> dict[Keys, str]:
    """The comments of all values, by the keys that lead to them, from the files of the chosen options."""
    found = _comments_of(Path(CONF, "config.yaml"))
    for group, name in choices.items():
        paths = options(group, folders) if name else {}
        for option in (*_inherited(paths, name), name):
            if option in paths:
                found |= {(group, *keys): comment for keys, comment in _comments_of(paths[option]).items()}
    return found


def _inherited(paths: Mapping[str, Path], name: str) -> list[str]:
    """The options of the same group that an option starts from."""
    option: Any = OmegaConf.load(paths[name]) if name in paths else {}
    return [other for other in option.get("defaults", []) if isinstance(other, str)]


def _comments_of(path: Path) -> dict[Keys, str]:
    found: dict[Keys, str] = {}
    keys: list[tuple[int, str]] = []  # each with its indentation
    for line in path.read_text().splitlines():
        if not (match := COMMENT.match(line)):
            continue
        indent = len(match[1])
        keys = [*(one for one in keys if one[0] < indent), (indent, match[2])]
        if match[3]:
            found[tuple(key for _, key in keys)] = match[3]
    return found


def _values(values: Mapping[str, Any], comments: Mapping[Keys, str], width: int, keys: Keys = ()) -> Iterator[str]:
    """Lines of YAML. A comment stands behind its value, or above it if it is too long. keys: those above."""
    indent = "  " * len(keys)
    for key, value in values.items():
        nested = value if isinstance(value, dict) and value else {}
        line = f"{indent}{key}:" + ("" if nested else f" {_flow(value)}")
        comment = comments.get((*keys, key), "")
        if comment and len(line) + len(comment) + 4 <= width:
            line += f"  # {comment}"
        elif comment:
            yield from textwrap.wrap(comment, width, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        yield from textwrap.wrap(
            line, width, subsequent_indent=f"{indent}    ", break_long_words=False, break_on_hyphens=False
        )
        yield from _values(nested, comments, width, (*keys, key))


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(item)}' for key, item in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
