"""A stand-in for the W&B server on the loopback address: what wandb-core 0.31 asks of it, and nothing else.

It keeps runs as the real one does: a run has a name (its id), a config, a summary, and lines of history that a file
stream writes from an offset on.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import yaml

KEY = "0" * 40
USER = "tester"


@dataclass
class Run:
    """A run as the server knows it. exit: None until the run has ended."""

    project: str
    entity: str
    fields: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    exit: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@dataclass
class Sweep:
    """A sweep, and the configurations that an agent has still to run."""

    config: dict[str, Any]
    text: str
    todo: list[dict[str, Any]]
    runs: list[str] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    """runs and sweeps: by id; operations: the names of all GraphQL calls, in order; is_silent: it answers no more."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.operations: list[str] = []
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.is_silent = False
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which W&B uses this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}

    def vanish(self) -> None:
        """Closes all connections and refuses new ones."""
        self.stopped.set()
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # which says that a client or the server has gone
            super().handle_error(request, client_address)

    def answer(self, operation: str, query: str, values: dict[str, Any]) -> dict[str, Any]:
        """The data that answer a GraphQL call."""
        self.operations.append(operation)
        return ANSWERS.get(operation, lambda *_: {})(self, values)

    def stream(self, name: str, body: dict[str, Any]) -> None:
        """A message of a run's file stream."""
        run = self.runs[name]
        for file, chunk in (body.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                run.lines[chunk["offset"] :] = chunk["content"]
            elif file == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        if body.get("complete"):
            run.exit = body.get("exitcode", 0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.request)

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:  # noqa: N802
        body = self._body()
        with self.server.lock:
            if self.path == "/graphql":
                call = json.loads(body)
                name = re.search(r"(?:query|mutation)\s+(\w+)", call["query"])
                answer = {
                    "data": self.server.answer(name[1] if name else "", call["query"], call.get("variables") or {})
                }
            elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
                self.server.stream(unquote(match[1]), json.loads(body))
                answer = {}
            else:
                self._send(404, {})
                return
        self._send(200, answer)

    def do_PUT(self) -> None:  # noqa: N802
        self._body()
        _, name, file = self.path.removeprefix("/upload").split("/", 2)
        with self.server.lock:
            self.server.runs[unquote(name)].files.add(unquote(file))
        self._send(200, {})

    def do_GET(self) -> None:  # noqa: N802
        self._send(404, {})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.is_silent:
            self.server.stopped.wait()
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _project(name: str, entity: str) -> dict[str, Any]:
    return {"id": "project", "name": name, "entity": {"id": "entity", "name": entity}}


def _upsert_run(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    name = values["name"]
    is_new = name not in server.runs
    project, entity = values["project"] or "uncategorized", values["entity"] or USER
    run = server.runs.setdefault(name, Run(project, entity))
    run.project, run.entity = project, entity
    # The first call of a process names the group. Unless it resumes the run, it names no id, and the run starts anew.
    if values.get("groupName") and not values.get("id"):
        run.lines, run.summary = [], {}
    if values.get("config"):
        run.config = {key: one["value"] for key, one in json.loads(values["config"]).items()}
    given = ("groupName", "displayName", "notes", "tags", "sweep")
    run.fields |= {key: values[key] for key in given if values.get(key) is not None}
    run.exit = None
    return {
        "upsertBucket": {
            "bucket": {
                "id": name,
                "name": name,
                "displayName": run.fields.get("displayName"),
                "description": None,
                "config": values.get("config"),
                "sweepName": run.fields.get("sweep"),
                "project": _project(run.project, run.entity),
                "historyLineCount": len(run.lines),
            },
            "inserted": is_new,
        }
    }


def _resume_status(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    run = server.runs.get(values["name"])
    bucket = run and {
        "id": values["name"],
        "name": values["name"],
        "summaryMetrics": json.dumps(run.summary),
        "displayName": run.fields.get("displayName"),
        "logLineCount": 0,
        "historyLineCount": len(run.lines),
        "eventsLineCount": 0,
        "historyTail": json.dumps(run.lines[-1:]),
        "eventsTail": "[]",
        "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
        "tags": run.fields.get("tags") or [],
        "notes": run.fields.get("notes"),
        "wandbConfig": json.dumps({"t": {}}),
    }
    return {"model": _project(values["project"], values["entity"] or USER) | {"bucket": bucket}}


def _create_files(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    files = [{"name": name, "uploadUrl": f"{server.url}/upload/{values['run']}/{name}"} for name in values["files"]]
    return {"createRunFiles": {"runID": values["run"], "uploadHeaders": [], "files": files}}


def _viewer(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "viewer": {
            "id": "viewer",
            "entity": USER,
            "username": USER,
            "email": None,
            "flags": "{}",
            "teams": {"edges": []},
        }
    }


def _run_state(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    run = server.runs[values["run"]]
    return {"project": {"run": {"id": values["run"], "state": "running" if run.exit is None else "finished"}}}


def _upsert_sweep(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    config = yaml.safe_load(values["config"])
    name = f"sweep{len(server.sweeps)}"
    server.sweeps[name] = Sweep(config, values["config"], grid(config["parameters"]))
    project = _project(values["projectName"] or "uncategorized", values["entityName"] or USER)
    return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}


def grid(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the values of a grid."""
    found: list[dict[str, Any]] = [{}]
    for name, one in parameters.items():
        found = [{**each, name: value} for each in found for value in one.get("values", [one.get("value")])]
    return found


def _sweep(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    sweep = server.sweeps[values["sweep"]]
    found = {"id": values["sweep"], "name": values["sweep"], "config": sweep.text, "state": "RUNNING"}
    return {"project": {"sweep": found | {"runs": {"edges": []}}}}


def _create_agent(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    return {"createAgent": {"agent": {"id": values["sweep"]}}}


def _heartbeat(server: Server, values: dict[str, Any]) -> dict[str, Any]:
    name = values["id"]
    sweep = server.sweeps[name]
    commands: list[dict[str, Any]] = []
    if not any(json.loads(values["runState"] or "{}").values()):
        if sweep.todo:
            run = f"{name}run{len(sweep.runs)}"
            sweep.runs.append(run)
            args = {key: {"value": value} for key, value in sweep.todo.pop(0).items()}
            server.runs[run] = Run("", USER, {"sweep": name})
            commands = [{"type": "run", "run_id": run, "program": sweep.config.get("program"), "args": args}]
        else:
            commands = [{"type": "exit"}]
    return {"agentHeartbeat": {"agent": {"id": name}, "commands": json.dumps(commands)}}


ANSWERS = {
    "UpsertBucket": _upsert_run,
    "RunResumeStatus": _resume_status,
    "CreateRunFiles": _create_files,
    "RunState": _run_state,
    "Viewer": _viewer,
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "UpsertSweep": _upsert_sweep,
    "SweepWithRuns": _sweep,
    "CreateAgent": _create_agent,
    "Heartbeat": _heartbeat,
}


@contextmanager
def serving() -> Iterator[Server]:
    """A server until the end of the context."""
    server = Server()
    try:
        yield server
    finally:
        server.vanish()


@contextmanager
def silence() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
