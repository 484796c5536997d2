"""Commands that only show the configuration do not import torch, and show all of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from bench import __version__
from bench.compose import whole
from bench.options import summary
from bench.paths import CONF

from .conftest import command_line

FOLDERS = {path.name for path in Path(CONF).iterdir() if path.is_dir()} - {"report"}  # of bench-report

PROBE = """
import sys
from bench.__main__ import main
try:
    main()
finally:
    print("torch" in sys.modules, "matplotlib" in sys.modules, file=sys.stderr)
"""


def test_help_and_cfg_do_not_import_torch(start):
    jobs = {word: start("-c", PROBE, *word.split()) for word in ("--help", "--cfg job model=aae")}
    for word, job in jobs.items():
        out, err = job.communicate(timeout=120)
        assert job.returncode == 0 and err.splitlines()[-1] == "False False", (word, err)
        assert len(out.splitlines()) > 20


@pytest.fixture
def printed(bench, monkeypatch) -> Callable[..., list[str]]:
    """The lines of the help on a terminal of 80 columns."""

    def lines(*arguments: str) -> list[str]:
        monkeypatch.setenv("COLUMNS", "80")
        result = bench(*arguments)
        assert result.code == 0 and not result.err
        return result.out.splitlines()

    return lines


def test_help_lists_every_group_with_its_options_and_their_comments(printed):
    lines = printed("--help")
    assert max(map(len, lines)) <= 80
    shown: dict[str, dict[str, str]] = {}
    name = None
    for line in lines[: lines.index("Values (override as model.latent_dim=32):")]:
        if re.fullmatch(r"[a-z]+", line):
            shown[line] = options = {}
        elif shown and (match := re.match(r"  (\S+) *(.*)", line)) and line[2] != " ":
            name = match[1]
            options[name] = match[2]
        elif shown and name and line.startswith("   "):
            options[name] = f"{options[name]} {line.strip()}".strip()
    assert shown.keys() == FOLDERS
    for group in FOLDERS:
        paths = [path.relative_to(Path(CONF, group)).with_suffix("") for path in Path(CONF, group).rglob("*.yaml")]
        assert set(shown[group]) == {path.as_posix() for path in paths if not path.name.startswith("_")}, group
        assert all(re.match(r".{10,}[.?]$", comment) for comment in shown[group].values()), shown[group]
    assert shown["model"]["vae"] == "Variational autoencoder (Kingma & Welling 2014)."
    assert shown["model"]["cvae"].endswith("also get the label. Requires label.")
    assert shown["dataset"]["shapes"].endswith("Provides label, source.")
    assert shown["experiment"]["claims/one_sample"] == "One sample of z is enough in training."


def test_help_shows_all_values_of_the_chosen_options_with_their_comments(printed):
    words = ("model=beta_vae", "model.latent_dim=3", "seeds=[0,1]", "metrics=standard")
    lines = printed("--help", *words)
    values = yaml.safe_load("\n".join(lines[lines.index("noise:") : lines.index("bench model=vae") - 1]))
    composed = OmegaConf.to_container(whole(command_line(words)))
    composed.pop("hydra")
    assert values == composed
    assert "rerun: false  # repeat what was finished before this command started" in lines
    at = lines.index("stop_on_failure: false  # end at the first run that fails")
    assert lines[at - 1].startswith("attempts: 3  # of a run whose process dies")
    assert "  iw_samples: 10  # draws of q(z|x) per image" in lines  # which metrics=standard inherits


def test_help_shows_the_users_own_options(printed, own_models):
    lines = printed(*own_models, "--help", "model=misbehaving")
    assert "  misbehaving" in [line.rstrip() for line in lines]
    assert "  _target_: own_models.Misbehaving" in lines


def test_help_for_a_folder_that_does_not_exist_is_one_line(bench):
    result = bench("--config-dir", "nowhere", "--help")
    assert (result.code, result.out, result.err) == (1, "", "bench: --config-dir=nowhere is not a folder\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One. Two.\n", "One."),
        ("# VAE (Kingma et al. 2014): a bound.\n# More.\n", "VAE (Kingma et al. 2014): a bound."),
        ("# @package _global_\n# Is it\n# so? On MNIST:\n#   bench ...\n", "Is it so?"),
        ("# On MNIST:\n#   bench model=vae\n# Then more.\n", "On MNIST."),
        ("latent_dim: 2  # of the code\n", ""),
        ("# A model.\nrequires:\n- source\n- label\n", "A model. Requires source, label."),
        ("requires: []\n", ""),
        ("# @package _global_\n# Words.\nclaim:\n  says: It holds\n", "It holds."),
    ],
)
def test_the_comment_of_an_option_is_its_first_sentence(tmp_path, text, expected):
    (tmp_path / "option.yaml").write_text(text)
    assert summary(tmp_path / "option.yaml") == expected


def test_cfg_job_shows_the_chosen_values(monkeypatch, capsys):
    from bench.__main__ import main

    monkeypatch.setattr(sys, "argv", ["bench", "--cfg", "job", "model=aae", "optimizer.lr=0.5", "noise=masking"])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code == 0
    for line in (
        "bench.models.aae.AAE",
        "lr: 0.5",
        "bench.parts.corruptions.Masking",
        "seeds:",
        "latent_dim: 16",
        "epochs: 20",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("model=vaee", "model=vae"),
        ("dataset=mnits", "dataset=mnist"),
        ("experiment=tuned/mnits", "experiment=tuned/mnist"),
        ("experiment=claim/blur", "experiment=claims/blur"),
        ("model.bta=3", "model.beta"),
        ("netwrok.hidden=3", "network.hidden"),
        ("seed=3", "seeds"),
        ("model.adversarial_weigth=3", "model.adversarial_weight"),
    ],
)
def test_a_misspelled_name_gets_a_suggestion(bench, word, meant):
    result = bench("model=aae" if "adversarial" in word else "model=vae", word)
    assert result.code == 1 and result.err.strip().endswith(f"did you mean {meant}?"), result
    assert len(result.err.splitlines()) == 1


def test_a_name_like_no_other_gets_none(bench):
    assert "did you mean" not in bench("model=vae", "zzzzzz=3").err


def test_the_version_is_that_of_this_package(bench):
    result = bench("--version")
    assert result.code == 0 and result.out == f"latentbench {__version__}\n"


def test_help_that_nobody_reads_to_its_end_is_no_error(start):
    process = start("-m", "bench", "--help")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 0 and process.stderr.read() == ""
