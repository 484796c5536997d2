"""Records are data: the code that they name does not run unless the user allows its package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench.core import InputError
from bench.runs import store
from bench.runs.config import build, check
from bench.runs.targets import PACKAGES, PARTS, locate
from tests.conftest import SHAPES, config_of
from tests.runs.test_store import sample

GROUPS = [*PACKAGES, *PARTS, "noise"]
HOSTILE = [
    "os.system",
    "os",
    "posix.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.Popen",
    "subprocess.run",
    "pathlib.Path",
    "torch.load",
    "torch.hub.load",
    "torch.optim.adam.torch.load",
    "torch.optim.lr_scheduler.LambdaLR",
    "bench.runs.config.os.system",
    "bench.runs.trained.load_trained",
    "bench.runs.store.os.system",
    "bench.paths._PACKAGE.unlink",
    "bench.__main__.main",
    "bench.parts.networks.torch.load",
    "bench.parts.networks.Network.__subclasses__",
    "bench.models.pca.math.exp",
    "bench.models.pca.torch.hub.load",
    "bench.datasets.idx.Path.unlink",
    "bench.datasets.np.load",
    "benchmark.models.vae.VAE",
    "own_payload.Payload",
    "own_payload:Payload",
    "",
    None,
    3,
]
PAYLOAD = """
from pathlib import Path
Path("imported").touch()
from bench.models.vae import VAE
class Payload(VAE):
    pass
def run(*arguments, **options):
    Path("called").touch()
"""


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """A module and system calls that leave a file if they are imported or called."""
    (tmp_path / "own_payload.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def called(*arguments, **options):
        Path("called").touch()

    monkeypatch.setattr(os, "system", called)
    monkeypatch.setattr(subprocess, "Popen", called)
    yield tmp_path
    sys.modules.pop("own_payload", None)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("group", GROUPS)
def test_a_name_that_is_not_allowed_is_neither_imported_nor_called(payload, group):
    config = config_of("model=vae_gan", "network.hidden=4")
    for name in HOSTILE:
        with pytest.raises(InputError, match=rf"{group}\._target_"):
            check(config | {group: config[group] | {"_target_": name}})
    assert not (payload / "imported").exists()


def test_a_hostile_target_is_not_called_with_its_arguments(payload):
    config = config_of("model=vae", "network.hidden=4")
    for options in ({"_target_": "os.system", "command": "touch called"}, {"_target_": "own_payload.run", "a": 1}):
        with pytest.raises(InputError, match="not in bench.parts"):
            build(config | {"network": options}, SHAPES, seed=0)
    assert not (payload / "imported").exists()


def test_an_allowed_package_gives_only_objects_that_it_defines(payload):
    allow = ["own_payload"]
    assert locate("model", {"_target_": "own_payload.Payload"}, allow).__name__ == "Payload"
    config = config_of("model=vae", "network.hidden=4")
    own = config | {"model": config["model"] | {"_target_": "own_payload.Payload"}, "allow": allow}
    assert type(build(check(own).config, SHAPES, 0, allow)).__name__ == "Payload"
    for name in ("own_payload.Path", "own_payload.VAE", "own_payload.Path.unlink", "own_payload2.Payload"):
        with pytest.raises(InputError, match=r"model\._target_"):
            locate("model", {"_target_": name}, allow)
    with pytest.raises(InputError, match="not a bench.core.Model"):
        build(config | {"model": {"_target_": "own_payload.run"}}, SHAPES, 0, allow)
    with pytest.raises(InputError, match="cannot be imported: .*Nothing"):
        locate("model", {"_target_": "own_payload.Nothing"}, allow)
    with pytest.raises(InputError, match="cannot be imported: .*'sub'"):
        locate("model", {"_target_": "own_payload.sub.Payload"}, allow)


def test_a_refusal_explains_how_to_allow_own_code():
    with pytest.raises(InputError) as refused:
        locate("model", {"_target_": "my_package.models.Mine"})
    (line,) = str(refused.value).splitlines()
    assert "allow=[my_package]" in line and "bench.load(..., allow=['my_package'])" in line


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Path:
    """The folder of a finished run."""
    run = tmp_path_factory.mktemp("results") / "run"
    config = config_of("model=vae", "network.hidden=4", "model.latent_dim=2")
    job = check(config)
    entry = sample(config=job.config)
    entry["data"] |= {"image": SHAPES.x, "classes": SHAPES.classes}
    store.write(run / "seed-0", entry, weights=build(job.config, SHAPES, 0).state_dict())
    return run


def changed(record: Path, folder: Path, group: str, target: str) -> Path:
    """A copy of the record in which a group names another target."""
    run = shutil.copytree(record, folder / "run")
    path = run / "seed-0" / "record.json"
    entry = json.loads(path.read_text())
    entry["config"][group] = (entry["config"][group] or {}) | {"_target_": target}
    path.write_text(json.dumps(entry))
    return run


@pytest.mark.parametrize("group", ["model", *PARTS])
@pytest.mark.parametrize("target", ["os.system", "bench.runs.config.os.system", "own_payload.Payload"])
def test_loading_a_record_runs_no_code_that_it_names(payload, record, group, target):
    run = changed(record, payload, group, target)
    with pytest.raises(InputError, match=rf"{group}\._target_"):
        bench.load(run, seed=0)
    assert not (payload / "imported").exists()


def test_a_record_of_an_own_model_is_loaded_if_its_package_is_allowed(payload, record):
    run = changed(record, payload, "model", "own_payload.Payload")
    with pytest.raises(InputError, match=r"allow=\['own_payload'\]"):
        bench.load(run)
    loaded = bench.load(run, allow=["own_payload"])
    assert type(loaded.model).__name__ == "Payload" and loaded.sample(2).shape == (2, *SHAPES.x)


def test_a_record_without_a_part_that_its_model_needs_is_refused(record, tmp_path):
    run = shutil.copytree(record, tmp_path / "run")
    path = run / "seed-0" / "record.json"
    entry = json.loads(path.read_text())
    entry["config"]["likelihood"] = None
    path.write_text(json.dumps(entry))
    with pytest.raises(InputError, match="^likelihood is null, and VAE needs one"):
        bench.load(run)
