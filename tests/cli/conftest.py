"""The command line as a user runs it: in this process, or in its own if the test needs that."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bench.__main__ import main
from bench.runs import store

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"network.hidden": "16", "budget.steps": "2", "metrics": "fast", "tracking": "none", "device": "cpu"}
SIZES = {"metrics.iw_samples": "10", "metrics.ais_images": "5", "metrics.ais_temperatures": "5"}

OWN_MODELS = '''
"""Models that misbehave, from outside the package."""

import contextlib
import os
import signal
import time
from pathlib import Path

import torch

from bench.draws import generator_seed
from bench.models.vae import VAE


class Misbehaving(VAE):
    """For the given seeds: infinite from step 3 on, an error at step 3, or so slow that training does not end.

    The last two only while MISBEHAVE is set to a folder, in which slow training leaves a file when it begins.
    """

    def __init__(self, shapes, network, likelihood, prior, infinite: list[int], raises: list[int], slow: list[int]):
        super().__init__(shapes, network, likelihood, prior)
        own = torch.initial_seed()
        folder = os.environ.get("MISBEHAVE")
        self.folder = Path(folder) if folder else None
        groups = (infinite, raises, slow)
        infinite, raises, slow = ([generator_seed(s, "initialisation") for s in seeds] for seeds in groups)
        self.raises, self.slow = folder and own in raises, folder and own in slow
        self.register_buffer("doom", torch.tensor(float("inf") if own in infinite else 0.0))
        self.calls = 0

    def losses(self, batch, draws, turn):
        self.calls += 1
        if self.calls >= 3 and self.raises:
            raise RuntimeError("first line\\nand a second line")
        if self.calls >= 3 and self.slow:
            (self.folder / f"begun-{os.getpid()}").touch()
            time.sleep(0.5)
        losses = super().losses(batch, draws, turn)
        return losses if self.calls < 3 else losses._replace(players={"model": losses.players["model"] + self.doom})
'''

OWN_CONFIG = """
_target_: own_models.Misbehaving
infinite: []
raises: []
slow: []
requires: []
optimizers:
  model: {lr: "${optimizer.lr}"}
"""


class Result(NamedTuple):
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str


def command_line(arguments: tuple[str, ...]) -> list[str]:
    """The arguments, and small values for settings that they do not contain."""
    keys = {argument.split("=")[0] for argument in arguments}
    small = SMALL | (SIZES if any(key.startswith(("metrics", "experiment")) for key in keys) else {})
    return [*arguments, *(f"{key}={value}" for key, value in small.items() if key not in keys)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """Every command starts in its own folder, outside the checkout."""
    monkeypatch.chdir(tmp_path)
    for name in ("BENCH_OUTCOMES", "HYDRA_FULL_ERROR"):  # which the command sets for itself
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("BENCH_DATA", raising=False)
    return tmp_path


@contextlib.contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Modules are imported from a folder too. They are forgotten afterwards."""
    known = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def bench(monkeypatch, capsys) -> Iterator[Callable[..., Result]]:
    """bench(*arguments), in this process."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["bench", *command_line(arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Result(ended.value.code, *capsys.readouterr())

    yield run
    # joblib keeps its processes for a while: they must not meet the next test in a folder that is removed.
    if (loky := sys.modules.get("joblib.externals.loky.reusable_executor")) and loky._executor:
        loky._executor.shutdown(wait=True, kill_workers=True)


@pytest.fixture
def start(elsewhere) -> Callable[..., subprocess.Popen]:
    """Starts `python <words>` in its own process and process group."""
    started = []

    def process(*words: str, **environment: str) -> subprocess.Popen:
        path = os.pathsep.join([str(ROOT), str(elsewhere / "own")])
        variables = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # Tests in the background of a shell inherit that Ctrl-C is ignored.
        ctrl_c = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        started.append(
            subprocess.Popen([sys.executable, *words], env=variables, start_new_session=True, **pipes, **ctrl_c)
        )
        return started[-1]

    yield process
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)  # workers of a parallel launcher too
        one.communicate()


@pytest.fixture
def own_models(elsewhere, monkeypatch) -> list[str]:
    """Writes a user's folder with a model and its YAML. Returns the arguments that name it."""
    folder = elsewhere / "own"
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "own_models.py").write_text(OWN_MODELS)
    (folder / "conf" / "model" / "misbehaving.yaml").write_text(OWN_CONFIG)
    monkeypatch.syspath_prepend(folder)
    yield ["--config-dir", str(folder / "conf")]
    sys.modules.pop("own_models", None)


@pytest.fixture
def records(elsewhere) -> Callable[..., list[dict[str, Any]]]:
    """records(sweep), by name and seed."""
    return lambda sweep="default": store.find(elsewhere / "results", sweep)


@pytest.fixture
def files(elsewhere) -> Callable[[str], dict[str, tuple[bytes, int]]]:
    """files(pattern): for each matching file in results its bytes and its time of modification."""

    def matching(pattern: str) -> dict[str, tuple[bytes, int]]:
        paths = sorted((elsewhere / "results").glob(f"*/*/seed-*/{pattern}"))
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}

    return matching


@pytest.fixture
def arrays(elsewhere) -> Callable[..., str]:
    """Writes an .npz of 40 grey images of 8x8, with some arrays changed. Returns the arguments that choose it."""

    def write(**changed: np.ndarray | None) -> list[str]:
        x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
        y = np.arange(40) % 4
        content = {"x_train": x, "y_train": y, "x_test": x, "y_test": y} | changed
        path = elsewhere / "arrays.npz"
        np.savez(path, **{name: array for name, array in content.items() if array is not None})
        return ["dataset=arrays", f"dataset.path={path}"]

    return write
