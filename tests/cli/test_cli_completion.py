"""Tab completion of bench, as a shell asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from bench.completion import answer, completions
from bench.options import options
from bench.paths import CONF

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "examples" / "own" / "conf"
MODELS = list(options("model", [Path(CONF)]))


def ends(line: str) -> list[str]:
    """The completions of a line, without what they share with its last word up to the last comma, slash or =."""
    word = line.split()[-1]
    found = completions(line)
    start = word[: max(word.rfind(mark) for mark in ",=/") + 1]
    assert all(one.startswith(word) for one in found)
    return [one.removeprefix(start) for one in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bench -m model=ae,va", ["vae", "vae_features", "vae_gan"]),
        ("bench -m model=vae,va", ["vae_features", "vae_gan"]),  # no option twice
        ("bench model=wae", ["wae_mmd"]),
        ("bench experiment=claims/d", ["denoising", "distances"]),
        ("bench -m experiment=claims/blur,claims/d", ["denoising", "distances"]),
        ("bench experiment=hybrids/t", ["tdae"]),
        ("bench dataset=mnist likelihood=gaussian_", ["gaussian_learned", "gaussian_pixelwise"]),
        (f"bench --config-dir {OWN} dataset=ri", ["rings"]),
        (f"bench -cd {OWN} -m experiment=claims/blur,claims/ri", ["ring_codes"]),
        ("bench hydra/launcher=ba", ["basic"]),
        ("bench model=nothing_like_this", []),
    ],
)
def test_options_are_completed(line, expected):
    assert ends(line) == expected


def test_every_option_of_a_folder_is_listed():
    names = {path.stem for path in Path(CONF, "experiment", "claims").glob("[!_]*.yaml")}
    assert len(names) > 10 and set(ends("bench experiment=claims/")) == names
    assert ends("bench -m model=ae,") == sorted(set(MODELS) - {"ae"})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bench mod", ["model.", "model="]),
        ("bench model.lat", ["model.latent_dim="]),
        ("bench model=gan model.optimizers.gen", ["model.optimizers.generator."]),
        ("bench -m model=aae,vae_gan model.adv", ["model.adversarial_weight="]),  # of the first one
        ("bench model=nope model.bet", ["model.beta="]),  # a wrong option is left out
        ("bench 'seeds=[0,1]' swe", ["sweep="]),
        ("bench model.beta=", ["model.beta=1.0"]),
        ("bench isolate=", ["isolate=false"]),
        ("bench hydra/l", ["hydra/launcher="]),
        ("bench --vers", ["--version"]),
        ("bench --multi", ["--multirun"]),
        ("bench --config-dir ", []),  # the shell lists folders
        ("bench 'seeds=[0,", []),  # an open quote
        ("bench --config-dir nowhere mod", []),
        ("bench model..x", []),
        ("bench no.such.key", []),
    ],
)
def test_keys_values_and_flags_are_completed(line, expected):
    assert completions(line) == expected


def test_files_are_completed(elsewhere):
    (elsewhere / "pictures").mkdir()
    assert completions("bench dataset=images dataset.root=./pic") == ["dataset.root=./pictures"]


def test_a_new_word_may_be_any_group_or_setting():
    found = completions("bench model=vae ")
    assert {"likelihood=", "experiment=", "optimizer.", "seeds=", "sweep="} <= set(found)
    assert not any(one.startswith("hydra.") for one in found)


def test_only_the_line_up_to_the_cursor_counts():
    line = "bench model=ae,va likelihood=gaussian"
    environment = {"COMP_LINE": line, "COMP_POINT": str(len("bench model=ae,va"))}
    assert answer(["-sc", "query=bash"], environment) == "model=ae,vae model=ae,vae_features model=ae,vae_gan"
    assert answer(["--shell-completion", "query=fish"], {"COMP_LINE": "bench model=wa"}) == "model=wae_mmd"


def test_other_commands_ask_for_no_completion():
    assert answer(["model=vae"]) is None and answer(["-sc", "install=bash"]) is None


@pytest.fixture
def variables(elsewhere) -> dict[str, str]:
    """The environment of a shell that finds the command."""
    command = elsewhere / "bin" / "bench"
    command.parent.mkdir()
    probe = """import sys
sys.argv[0] = 'bench'
from bench.__main__ import main
try:
    main()
finally:
    assert 'torch' not in sys.modules"""
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{probe}" "$@"\n')
    command.chmod(0o755)
    return os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_bash_completes_with_the_script_of_the_command(elsewhere, variables):
    """As a user types it: the script is installed, and bash calls its function when the tab key is pressed."""
    line = "bench -m experiment=claims/blur,claims/den"
    script = f"""
eval "$(bench --shell-completion install=bash)"
complete -p bench
COMP_LINE={line!r} COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD=2
hydra_bash_completion
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=True)
    installed, completed = done.stdout.splitlines()
    assert installed.endswith("-F hydra_bash_completion bench") and not done.stderr
    assert completed == "experiment=claims/blur,claims/denoising"
    assert [path.name for path in elsewhere.iterdir()] == ["bin"]  # nothing was run


def test_fish_completes_with_the_script_of_the_command(elsewhere, variables):
    if not shutil.which("fish"):
        pytest.skip("there is no fish: its completion is not tried")
    script = """
bench --shell-completion install=fish | source
complete -C "bench -m experiment=claims/blur,claims/den"
"""
    variables |= {"HOME": str(elsewhere / "home")}
    done = subprocess.run(["fish", "-c", script], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "experiment=claims/blur,claims/denoising\n" and not done.stderr


def test_zsh_completes_with_the_script_for_bash(elsewhere, variables):
    if not shutil.which("zsh"):
        pytest.skip("there is no zsh: its completion is not tried")
    variables |= {"HOME": str(elsewhere / "home"), "TERM": "dumb"}
    shell = pexpect.spawn("zsh", ["-f", "-i"], env=variables, dimensions=(24, 200), encoding="utf-8", timeout=60)
    shell.sendline("autoload -Uz compinit bashcompinit && compinit -D && bashcompinit")
    shell.sendline('eval "$(bench --shell-completion install=bash)" && echo install""ed')
    shell.expect_exact("installed")
    shell.send("bench -m experiment=claims/blur,claims/den\t")
    shell.expect_exact("experiment=claims/blur,claims/denoising")
    shell.close(force=True)
