"""Runs commands of bench, each in a fork of this process, which has imported everything, and measures them.

It reads a line of JSON for each command from stdin, and answers with a line of JSON. A fork costs milliseconds, where a
new process imports torch for seconds. Unlike a call in the process of the tests, it can be stopped when it hangs, and
has a peak of memory of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

ROOM = 8 * 2**30  # bytes of addresses, so that a mistake cannot take the machine down


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The exit code of a command, its processor time in seconds, and by how many bytes its memory grew at its peak."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(request)
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - started > request["patience"]:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    seconds, grown = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 - _resident()
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "grown": grown}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _run(request: dict[str, Any]) -> None:
    """The command, in the child. Does not return."""
    code: object = 70
    try:
        os.chdir(request["folder"])
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
        resource.setrlimit(resource.RLIMIT_CPU, (request["limit"], request["limit"]))
        code = _main(request["arguments"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _main(arguments: list[str]) -> object:
    from bench.__main__ import main

    sys.argv = ["bench", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code
    return 0


def serve() -> None:
    import scipy.stats  # noqa: F401
    import sklearn.model_selection  # noqa: F401
    import torch._dynamo
    from PIL import Image

    import bench.runs.run  # noqa: F401  all that a command imports late

    torch.set_num_threads(1)
    Image.init()
    with contextlib.redirect_stderr(io.StringIO()):
        _main(["model.latent_dim=0"])
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
