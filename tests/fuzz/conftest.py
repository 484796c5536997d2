"""Commands in processes of their own, which can neither hang nor take all memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).with_name("server.py")
SMALL = {
    "model": "mean", "budget.steps": "1", "tracking": "none", "device": "cpu", "metrics": "fast",
    "metrics.names": "[psnr]",
}  # fmt: skip
SECONDS = 20  # of processor time, which does not depend on how busy the machine is
PATIENCE = 600  # seconds that a command may wait
MEMORY = 600 * 2**20  # bytes
CONTROL = re.compile(r"[^\n\x20-\x7e\xa0-\U0010ffff]")
# What `unexpected` says of a mistake in this package: not a clear line.
OF_A_MISTAKE = re.compile(r"^bench: \w+: .*\(\S+\.py, line \d+\)$")

IS_LONG = bool(os.environ.get("BENCH_STRESS"))
settings.register_profile("short", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("long", parent=settings.get_profile("short"), derandomize=False, print_blob=True)
settings.load_profile("long" if IS_LONG else "short")


class Result(NamedTuple):
    """How a command ended.

    seconds: of processor time; grown: its memory at the peak in bytes, above that of an idle process; created: the
    paths that were created in its folder, without those that an argument for one of Hydra's folders names.
    """

    code: int
    out: str
    err: str
    seconds: float
    grown: int
    created: list[str]

    @property
    def lines(self) -> list[str]:
        """What stderr says, without progress."""
        return [line for line in self.err.splitlines() if " seed " not in line]

    def check(self) -> None:
        """That it was bounded, printed nothing that commands a terminal, and named what was wrong in one line."""
        assert self.code in (0, 1), self
        assert self.seconds < SECONDS, self
        assert self.grown < MEMORY, self
        assert "Traceback" not in self.out + self.err, self
        assert not CONTROL.search(self.out + self.err), self
        assert all(re.fullmatch(r"[\w. ~-]+", name) for path in self.created for name in path.split("/")), self
        if self.code:
            (line,) = self.lines
            assert line.startswith("bench: ") and not OF_A_MISTAKE.match(line), self


Run = Callable[..., Result]


class Server:
    """The process of server.py. Each command gets a folder of its own."""

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0
        environment = os.environ | {
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "250",
            "BENCH_CACHE": str(folder / "cache"), "BENCH_OUTCOMES": "",
        }  # fmt: skip
        environment.pop("BENCH_DATA", None)
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER)], env=environment, cwd=folder, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, prepare: Callable[[Path], object] = lambda folder: None) -> Result:
        """`bench <arguments>`, with small values for settings that they do not contain.

        prepare: puts files into the folder in which the command starts.
        """
        self.count += 1
        folder = self.folder / f"command-{self.count}"
        folder.mkdir()
        prepare(folder)
        before = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        keys = {re.split("[=@]", argument.lstrip("+~"))[0] for argument in arguments}
        small = [f"{key}={value}" for key, value in SMALL.items() if key not in keys]
        files = {name: str(self.folder / name) for name in ("stdout", "stderr")}
        request = {"folder": str(folder), "arguments": [*small, *arguments], "limit": SECONDS, "patience": PATIENCE}
        assert self.process.stdin and self.process.stdout
        print(json.dumps(request | files), file=self.process.stdin, flush=True)
        found = json.loads(self.process.stdout.readline())
        out, err = (Path(file).read_text(errors="surrogateescape") for file in files.values())
        after = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        named = "\n".join(argument for argument in arguments if re.match(r"\+*hydra\.\w+\.dir=", argument))
        created = sorted(path for path in after - before if CONTROL.search(path) or path.split("/")[0] not in named)
        return Result(found["code"], out, err, found["seconds"], found["grown"], created)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Iterator[Run]:
    """run(*arguments, prepare=...), see `Server.run`."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server.run
    server.close()
