"""Commands that only show the configuration do not import torch, and show all of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import __version__
from bench.paths import CONF

HIDDEN = {"hydra"}  # Hydra's own groups
GROUPS = {path.name: sorted(p.stem for p in path.glob("*.yaml")) for path in Path(CONF).iterdir() if path.is_dir()}

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


def test_help_lists_every_group_with_its_options(bench):
    result = bench("--help")
    assert result.code == 0 and not result.err
    groups = dict(line.split(": ", 1) for line in result.out.splitlines() if ": " in line and not line.startswith(" "))
    for group in GROUPS.keys() - HIDDEN:
        assert groups[group].split(", ") == GROUPS[group], group


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
