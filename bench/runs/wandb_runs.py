"""Weights & Biases: one run for each seed, grouped by sweep.

A seed that is continued after an interruption continues its W&B run. If the server does not answer, or if W&B itself
fails, the process goes on offline: the open runs start anew there, with all their rows, and `wandb sync` uploads them.
"""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.runs.output import say
from bench.runs.record import FAILURES
from bench.runs.wandb_files import last_step, supersede
from bench.runs.wandb_pictures import pictures

if TYPE_CHECKING:
    import numpy as np
    import wandb

    from bench.runs.tracking import Event, Histories

Mode = Literal["online", "offline"]

# Seconds that W&B may wait for its server. If it starts to fail, it waits at most twice: for one call, and for the runs
# that are open then.
INIT_TIMEOUT, FINISH_TIMEOUT = 10, 12

# With these a run costs 0.03 s offline, and the first run of a process half a second. The record has the code, the
# libraries and the machine.
_SETTINGS: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "symlink": False,  # processes side by side would fight over `latest-run`
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "init_timeout": INIT_TIMEOUT,
    "finish_timeout": FINISH_TIMEOUT,
    "finish_timeout_raises": True,
}


@dataclass
class Log:
    """What is logged of a seed. rows: of all epochs so far; is_continued: an earlier process has logged some of them.

    run: None before it is opened, and after a failure; first: the first step that W&B does not have yet.
    """

    record: Mapping[str, Any]
    rows: list[Mapping[str, float]]
    is_continued: bool
    run: wandb.Run | None = None
    first: int = 0


class WandB:
    """The W&B runs of a job. No failure of the network, of W&B or of the disk may lose a trained model."""

    # Of the process, as each later job would wait for the server again.
    is_lost: ClassVar[bool] = False  # the server: it logs offline
    has_failed: ClassVar[bool] = False  # W&B itself: it does not log any more

    def __init__(self, options: Mapping[str, Any], results: Path, sweep: str):
        # The process that writes for W&B may have another working directory.
        self._options, self._folder, self._sweep = options, (results / sweep).absolute(), sweep
        self._logs: dict[int, Log] = {}

    def started(self, records: Sequence[Mapping[str, Any]], steps: int, histories: Histories) -> None:
        self._logs = {
            record["seed"]: Log(record, list(history or ()), history is not None)
            for record, history in zip(records, histories, strict=True)
        }
        for log in self._logs.values():
            self._attempt(functools.partial(self._run, log))

    def advanced(self, event: Event) -> None:
        for seed, row in zip(event.seeds, event.row or (), strict=False):
            if log := self._logs.get(seed):
                log.rows.append(row)
                self._attempt(functools.partial(self._log, log, row))

    def finished(self, seed: int, record: Mapping[str, Any], images: Mapping[str, np.ndarray] | None = None) -> None:
        if seed in self._logs:
            shown = images if self._options["images"] else None
            self._attempt(functools.partial(self._finish, self._logs[seed], record, shown))
            self._logs.pop(seed, None)

    def recalled(self, record: Mapping[str, Any]) -> None:
        """A seed that was finished before: nothing is logged again, but an agent expects metrics in its run."""
        if _agent():
            self._attempt(functools.partial(self._recall, record))

    def closed(self) -> None:
        for seed, log in list(self._logs.items()):
            self._attempt(functools.partial(self._finish, log, None, None))
            self._logs.pop(seed, None)

    def _attempt(self, action: Callable[[], object]) -> None:
        """Does something with W&B; if that fails, once more offline. Twice must be the same as once."""
        if self.has_failed:
            return
        try:
            action()
            return
        except Exception as error:
            WandB.is_lost = True
            place = self._folder / "wandb"
            say(
                f"Weights & Biases: {_first_line(error)}; logging offline from now on (`wandb sync {place}` uploads it)"
            )
        try:
            self._close_all()
            action()
        except Exception as error:
            WandB.has_failed, self._logs = True, {}
            say(f"Weights & Biases failed and is not used any more: {_first_line(error)}")

    def _close_all(self) -> None:
        """Ends W&B in this process. Runs that are open start anew when they are used again."""
        import wandb

        with ThreadPoolExecutor(1 + len(self._logs)) as pool:  # at the same time, as each may wait for FINISH_TIMEOUT
            for log in self._logs.values():
                if log.run is not None:
                    pool.submit(log.run.finish, exit_code=1)
                log.run, log.is_continued = None, False
        with suppress(Exception, SystemExit):  # its service may be the one that failed
            wandb.teardown()

    def _run(self, log: Log) -> wandb.Run:
        """The W&B run of a seed, which has all its rows."""
        if log.run is not None:
            return log.run
        import wandb

        mode, agent = _start(self._options["mode"], self.is_lost), _agent()
        id = self._id(log.record, agent)
        logged = last_step(self._folder, id) if log.is_continued and mode == "offline" else None
        continues = log.is_continued and (mode == "online" or logged is not None)
        run = wandb.init(
            # Under an agent W&B takes both from the environment.
            project=None if agent else self._options["project"] or None,
            entity=None if agent else self._options["entity"] or None,
            group=self._sweep,
            name=f"{log.record['name']}-seed-{log.record['seed']}",
            id=id,
            config=_config(log.record),
            tags=self._options["tags"] or None,
            notes=self._options["notes"] or None,
            dir=str(self._folder),
            mode=mode,
            reinit="create_new",
            resume="allow" if continues else None,
            settings=wandb.Settings(**_SETTINGS, sweep_id=agent.sweep_id if agent and id == agent.run_id else None),
        )
        # A server that has the run says where it goes on.
        log.run, log.first = run, run.starting_step if logged is None else logged + 1
        if log.first == 0:
            supersede(self._folder, id, Path(run.settings.sync_dir))
        for row in log.rows:
            self._log(log, row)
        return run

    def _log(self, log: Log, row: Mapping[str, float]) -> None:
        run = self._run(log)
        if row["step"] >= log.first:
            run.log(dict(row), step=int(row["step"]))

    def _finish(self, log: Log, record: Mapping[str, Any] | None, images: Mapping[str, np.ndarray] | None) -> None:
        """Ends a W&B run. record: None if it is unknown how the seed ended."""
        run = self._run(log)
        if images:
            step = max([log.first, *(int(row["step"]) for row in log.rows[-1:])])
            run.log({f"images/{name}": picture for name, picture in pictures(images).items()}, step=step)
        if record:
            run.summary.update(_summary(record))
        run.finish(exit_code=int(record is None or record["status"] in (*FAILURES, "interrupted")))

    def _recall(self, record: Mapping[str, Any]) -> None:
        agent = _agent()
        if agent and record["data"] and self._id(record, agent) == agent.run_id:
            self._finish(Log(record, [], False), record, None)

    def _place(self) -> str:
        """A name of this folder on all machines, so that a rerun replaces only its own W&B run."""
        return _agreed(self._folder / "wandb" / "place.txt", uuid.uuid4().hex[:8])

    def _id(self, record: Mapping[str, Any], agent: Agent | None) -> str:
        """The id of a seed's W&B run: that of the agent's for the first seed that asks, in whichever process."""
        own = f"{record['id']}-{self._place()}-{record['seed']}"
        if not agent:
            return own
        return agent.run_id if _agreed(self._folder / "wandb" / f"agent-{agent.run_id}.txt", own) == own else own


def _agreed(path: Path, own: str) -> str:
    """The text of the process that came first, of all that share the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(own)
    with suppress(OSError):
        os.link(temporary, path)
    if not path.exists():  # a file system without hard links
        os.replace(temporary, path)
    temporary.unlink(missing_ok=True)
    return path.read_text()


@dataclass(frozen=True)
class Agent:
    """The run that `wandb agent` has started this process for."""

    sweep_id: str
    run_id: str


def _agent() -> Agent | None:
    sweep_id, run_id = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    return Agent(sweep_id, run_id) if sweep_id and run_id else None


def _start(mode: Mode, is_lost: bool) -> Mode:
    """Prepares W&B in this process, and returns the mode that is possible.

    Under an agent W&B would give each run of the process the id of the agent's run, so its settings lose that id. The
    parameters of the agent's sweep stay there, and become part of each run's config.
    """
    import wandb

    if mode == "online":
        mode = "offline" if is_lost else _online_or_offline()
    settings = wandb.setup(settings=wandb.Settings(mode=mode, silent=True)).settings
    settings.sweep_id = settings.run_id = None
    return mode


@functools.cache
def _online_or_offline() -> Mode:
    """The mode that the credentials allow, determined once per process, without a prompt and without the network."""
    import wandb

    wandb.setup(settings=wandb.Settings(mode="online", silent=True))
    try:
        if wandb.login(prompt=False, verify=False):
            return "online"
        why = "there is no key (WANDB_API_KEY, or `wandb login` once)"
    except wandb.errors.AuthenticationError as error:
        why = str(error)
    say(f"Weights & Biases: {why}; logging offline")
    return "offline"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _config(record: Mapping[str, Any]) -> dict[str, Any]:
    """The chosen options by group (model: vae), their values by path (model.beta: 1.0), and the seed."""
    values = {
        f"{group}.{key}": value for group, part in record["config"].items() for key, value in (part or {}).items()
    }
    return {**record["choices"], **values, "seed": record["seed"], "data": record["data"]["fingerprint"]}


def _summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """The status and the final metrics. not_available: a line for each metric that is n/a, with its reason."""
    ending = {key: record[key] for key in ("status", "reason", "steps", "seconds", "samples_per_second")}
    metrics = {f"metrics/{name}": one["value"] for name, one in record["metrics"].items() if one["value"] is not None}
    missing = [f"{name}: {one['reason']}" for name, one in record["metrics"].items() if one["value"] is None]
    return ending | metrics | ({"not_available": "\n".join(missing)} if missing else {})
