"""How often a process died while it worked on a seed."""

from __future__ import annotations

import json
from pathlib import Path

from bench.runs import lease
from bench.runs.files import write_file

ATTEMPTS = "attempts.json"


def count_attempt(sweep: Path, pid: int, cause: str) -> bool:
    """Counts the death of a process of this machine for the seeds that it held. Returns False if it held none."""
    held = [
        path.parent
        for path in sweep.glob(f"[!.]*/seed-*/{lease.LEASE}")
        if (holder := lease.holder(path.parent)) and holder["pid"] == pid and not holder["is_alive"]
    ]
    for folder in held:
        number, _ = attempts(folder)
        write_file(folder / ATTEMPTS, json.dumps({"number": number + 1, "cause": cause}))
    return bool(held)


def attempts(folder: Path) -> tuple[int, str]:
    """The number of deaths, and the cause of the last one."""
    try:
        found = json.loads((folder / ATTEMPTS).read_text())
    except (FileNotFoundError, ValueError):
        return 0, ""
    return found["number"], found["cause"]


def forget(folder: Path) -> None:
    """Starts to count anew."""
    (folder / ATTEMPTS).unlink(missing_ok=True)
