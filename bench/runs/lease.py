"""Leases: of all the processes that share a results folder, on any number of hosts, one at a time works on a seed.

A lease is a file that its holder touches every few seconds. Another process takes it over once it has not changed for
a while by the other's own clock, since the clocks of two hosts may differ, or at once if the holder was a process of
the same machine that no longer exists.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.runs.files import checksum

LEASE = "lease.json"
BEATS = 6  # of a heart within a timeout
# What file systems answer that have no hard links.
WITHOUT_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

_seen: dict[Path, tuple[tuple[str, int], float]] = {}  # the leases of others: what they were, and since when


class LeaseLostError(Exception):
    """Another process has taken the lease over, because this one seemed to be dead."""


class Lease:
    """The right to work on a seed, until `release` or until this process ends. Made by `take`."""

    def __init__(self, path: Path, token: str, text: str, timeout: float):
        self.path, self.token, self._text = path, token, text
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, args=(timeout / BEATS,), daemon=True)
        self._thread.start()

    def _beat(self, interval: float) -> None:
        while not self._ended.wait(interval):
            try:
                if self._is_held():
                    os.utime(self.path)
                elif self.path.exists():
                    self._lost = True
                    return
            except OSError:  # a server that is away for a moment: the next beat may reach it
                continue

    def _is_held(self) -> bool:
        return _content(self.path).get("token") == self.token

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken it over, as far as the last heartbeat noticed."""
        return self._lost

    def check(self) -> None:
        """Raises LeaseLostError if another process has taken it over. To be called before anything is written.

        If somebody has removed the folder, it is made again. Raises OSError if that fails.
        """
        if not self._lost and not self._is_held():
            is_removed = not self.path.parent.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Without a lease the folder belongs to nobody: who took it over has finished.
            self._lost = not (is_removed and _create(self.path, self.token, self._text))
        if self._lost:
            raise LeaseLostError(f"{self.path.parent} was taken over by another process while this one stood still")

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            if self._is_held():
                self.path.unlink()


def take(folder: Path, timeout: float) -> Lease | None:
    """The lease of a folder, or None if another process holds it. Creates the folder.

    timeout: seconds without a heartbeat after which a holder is taken for dead; all processes should use the same.
    Raises InputError if the folder cannot be written.
    """
    path, token = folder / LEASE, uuid.uuid4().hex
    text = json.dumps({"token": token, "host": platform.node(), "since": time.time()} | this_process())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _create(path, token, text):
            dead = _dead(path, timeout)
            if dead is None or not _take_over(path, dead, token, text, timeout):
                return None
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; set paths.results to another folder") from error
    return Lease(path, token, text, timeout)


def holder(folder: Path) -> dict[str, Any] | None:
    """The process that holds a folder; None if nobody does.

    host, pid; since: when it took the lease, as time.time(); seconds: since its last sign of life; is_alive: False if
    it was a process of this machine that no longer exists.
    """
    path = folder / LEASE
    content = _content(path)
    try:
        seconds = max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None
    return content | {"seconds": seconds, "is_alive": not is_gone(content)} if content else None


def silences(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """For how long the holders of folders have been silent, as far as this process has watched them."""
    now, paths = time.monotonic(), [folder / LEASE for folder in folders]
    return [
        {"path": str(path), "text": text, "beat": beat, "seconds": now - since}
        for path in paths
        if path in _seen
        for (text, beat), since in [_seen[path]]
    ]


def learn(silences: Iterable[Mapping[str, Any]]) -> None:
    """Takes over what another process, on any host, has watched: a new process would wait for the timeout again."""
    for one in silences:
        _seen[Path(one["path"])] = (one["text"], one["beat"]), time.monotonic() - one["seconds"]


def is_free(folder: Path, timeout: float) -> bool:
    """Whether nobody holds a folder, or only a dead process.

    Silence is counted from the first call on: it takes a second call, later by the timeout, to know of it.
    """
    path = folder / LEASE
    return not path.exists() or _dead(path, timeout) is not None


def _dead(path: Path, timeout: float) -> str | None:
    """The text of a lease whose holder no longer exists, or has shown no sign of life for `timeout` seconds."""
    try:
        text, beat = path.read_text(), path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    content = _parsed(text)
    if is_gone(content):
        return text
    known, since = _seen.get(path, (None, 0.0))
    if (text, beat) != known:
        _seen[path] = (text, beat), time.monotonic()
        return None
    return text if time.monotonic() - since >= timeout else None


def _create(path: Path, token: str, text: str) -> bool:
    """Creates a file with its content in one step; False if it exists. A hard link does so on NFS too."""
    temporary = path.with_name(f".{path.name}.{token}.tmp")
    try:
        temporary.write_text(text)
        with suppress(FileExistsError, FileNotFoundError):
            os.link(temporary, path)
        return _content(path).get("token") == token  # NFS may report the failure of a link that was made
    except FileNotFoundError:  # the holder has cleaned the folder
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        return _create_exclusively(path, text)
    finally:
        temporary.unlink(missing_ok=True)


def _create_exclusively(path: Path, text: str) -> bool:
    """The same on a file system without hard links."""
    try:
        with open(path, "x") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _take_over(path: Path, dead: str, token: str, text: str, timeout: float) -> bool:
    """Replaces a dead lease. Of several processes that try, the one that creates the claim to it succeeds.

    The claim of a process that was killed right here is taken over in the same way.
    """
    claim = path.with_name(f".{path.name}.{checksum([dead.encode()])}.claim.tmp")
    if not _create(claim, token, text):
        left = _dead(claim, timeout)
        if left is None or not _take_over(claim, left, token, text, timeout):
            return False
    try:
        if path.read_text() != dead:
            return False
        new = path.with_name(f".{path.name}.{token}.new.tmp")
        new.write_text(text)
        os.replace(new, path)
    except FileNotFoundError:
        return False
    finally:
        claim.unlink(missing_ok=True)
    return _content(path).get("token") == token


def _content(path: Path) -> dict[str, Any]:
    """Empty if there is no such file, or if it is damaged."""
    try:
        return _parsed(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def this_process() -> dict[str, Any]:
    """What tells this process apart from all others, on any machine."""
    return {"pid": os.getpid(), "machine": _machine()} | _started()


def _machine() -> str:
    """Equal for processes that see each other's process ids: a host name is shared by its containers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.is_file():
        return platform.node()
    return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def _started(pid: int | str = "self") -> dict[str, str]:
    """When a process started, since process ids are used again: "" if it has ended. Empty where this is not known."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return {"started": "" if state in "ZX" else fields[18]}
    return {}


def is_running_here(content: dict[str, Any]) -> bool:
    """Whether it is a process of this machine that exists."""
    return content.get("machine") == _machine() and not is_gone(content)


def is_gone(content: dict[str, Any]) -> bool:
    """Whether it was a process of this machine that no longer exists."""
    if content.get("machine") != _machine():
        return False
    try:
        os.kill(content["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's
        pass
    return "started" in content and _started(content["pid"]).get("started", content["started"]) != content["started"]
