"""The trackers that the group `tracking` of the config names, and its options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from omegaconf import OmegaConf

from bench.core import InputError
from bench.runs import tracking
from bench.runs.settings import TrackingSettings
from bench.runs.terminal import Terminal
from bench.runs.wandb_runs import WandB

CONF = Path(__file__).parents[2] / "conf" / "tracking"


def options_of(name: str) -> dict:
    return OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=True)


def test_each_option_gives_its_trackers(tmp_path, monkeypatch):
    def kinds(name: str) -> list[type]:
        options = options_of(name)
        assert set(options) == set(get_type_hints(TrackingSettings))
        return [type(tracker) for tracker in tracking.trackers(options, tmp_path, "first")._all]

    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert kinds("wandb") == [Terminal, WandB]
    assert kinds("none") == [Terminal]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert kinds("wandb") == [Terminal]
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(InputError, match=r"tracking\.mode=ofline.*online, offline, disabled"):
        kinds("wandb")


def test_project_and_entity_are_those_of_the_environment(monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    options = options_of("wandb")
    assert (options["project"], options["entity"]) == ("latentbench", None)
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    options = options_of("wandb")
    assert (options["project"], options["entity"]) == ("theirs", "team")


def test_disabled_does_not_import_wandb():
    code = (
        "import sys, pathlib; from bench.runs import tracking;"
        "tracking.trackers({'mode': 'disabled'}, pathlib.Path(), 'first'); print('wandb' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=CONF.parents[1], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
