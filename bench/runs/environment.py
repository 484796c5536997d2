"""The code, the libraries and the machine of a run."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bench.runs.record import Code, Hardware

_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "torchmetrics", "hydra-core", "safetensors", "wandb")


@functools.cache
def environment(device: str, threads: int) -> dict[str, Any]:
    """The record's `code`, `libraries` and `hardware`. device: a readable name; threads: torch's. Cached."""
    status = _git("status", "--porcelain")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes
    code = Code(version=version(), commit=_git("rev-parse", "HEAD"), dirty=None if status is None else bool(status))
    hardware = Hardware(
        cpu=_cpu(), cores=os.cpu_count(), memory_gib=round(memory / 2**30, 1), device=device, threads=threads
    )
    libraries = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"code": code, "libraries": libraries, "hardware": hardware}


def _git(*command: str) -> str | None:
    """The output of git in the checkout of this package; None outside a checkout, or without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or not shutil.which("git"):
        return None
    answer = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else None


def version() -> str | None:
    try:
        return importlib.metadata.version("latentbench")
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return None


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return names[0] if names else platform.processor() or platform.machine()
