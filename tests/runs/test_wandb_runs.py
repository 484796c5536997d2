"""W&B runs, logged offline and read back: their content, their number, their states; and no failure loses a run."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bench.runs import wandb_runs
from bench.runs.record import FAILURES, RESULTS
from bench.runs.wandb_files import _records, _steps, last_step
from bench.runs.wandb_pictures import grid
from bench.runs.wandb_runs import WandB
from tests.runs.wandb_examples import (
    CHOICES,
    ID,
    NAME,
    OPTIONS,
    Event,
    ended,
    folders,
    forgetting,
    inspect,
    pictures,
    row,
    starting,
    steps,
    track,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    with forgetting(monkeypatch):
        yield


def seed_of(folder: Path) -> int:
    (path,) = folder.glob("*.wandb")
    return int(path.stem.rpartition("-")[2])


@pytest.fixture(scope="module")
def offline(tmp_path_factory) -> tuple[dict[int, Path], dict[int, dict]]:
    """Three seeds at once: 0 succeeds, 1 fails, 2 is interrupted."""
    results = tmp_path_factory.mktemp("results")
    tracker = WandB(OPTIONS, results, "first")
    tracker.started(starting(0, 1, 2), 20, [None] * 3)
    tracker.advanced(Event(5, 20, [0, 1, 2], None))
    tracker.advanced(Event(10, 20, [0, 1, 2], [row(10, 1.0), row(10, 2.0), row(10, 3.0)]))
    tracker.advanced(Event(20, 20, [0, 1, 2], [row(20, 0.5), row(20, math.nan), row(20, 2.5)]))
    tracker.finished(0, ended(0), pictures(0))
    tracker.finished(1, ended(1, "failed", "out of memory"), None)
    tracker.closed()
    places = {seed_of(folder): folder for folder in folders(results)}
    return places, {seed: inspect(folder) for seed, folder in places.items()}


def test_there_is_one_run_per_seed_with_group_and_config(offline):
    _, runs = offline
    assert sorted(runs) == [0, 1, 2]
    for seed, back in runs.items():
        run = back["run"]
        assert run["display_name"] == f"{NAME}-seed-{seed}"
        assert run["run_group"] == "first"
        assert run["project"] == "latentbench"
        assert run["run_id"].startswith(f"{ID}-") and run["run_id"].endswith(f"-{seed}")
        config = {key: value for key, value in run["config"]["update"].items() if key != "_wandb"}
        values = {"model.beta": 1.0, "model.latent_dim": 16}
        assert config == CHOICES | values | {"seed": seed, "data": "f00d"}


def test_the_rows_of_each_seed_are_logged(offline):
    _, runs = offline
    losses = {seed: [(item["_step"], item["loss/model"]) for item in back["history"]] for seed, back in runs.items()}
    assert losses == {0: [(10, 1.0), (20, 0.5)], 1: [(10, 2.0), (20, "NaN")], 2: [(10, 3.0), (20, 2.5)]}
    assert all(item["samples_per_second"] == 1234.5 for back in runs.values() for item in back["history"])


def test_the_summary_has_numbers_and_lists_once_what_is_not_available(offline):
    _, runs = offline
    for seed in (0, 1):
        metrics = {key: value for key, value in runs[seed]["summary"].items() if key.startswith("metrics/")}
        assert metrics == {"metrics/elbo": -100.0 - seed}
        assert runs[seed]["summary"]["not_available"] == "kl: no posterior\nmig: no factors"
    assert (runs[0]["summary"]["status"], runs[0]["exit"]) == ("ok", 0)
    assert (runs[1]["summary"]["status"], runs[1]["summary"]["reason"]) == ("failed", "out of memory")
    assert runs[1]["exit"] == 1
    assert runs[2]["exit"] == 1


def test_pictures_are_the_grids(offline):
    places, runs = offline
    for name, expected in (
        ("reconstructions", grid([pictures(0)["input"], pictures(0)["reconstruction"]])),
        ("samples", grid([pictures(0)["samples"]])),
    ):
        path = places[0] / "files" / runs[0]["summary"][f"images/{name}.path"]
        with Image.open(path) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert not any(key.startswith("images/") for key in runs[1]["summary"])


def test_nothing_is_printed(tmp_path, capfd):
    track(tmp_path, row(10, 1.0))
    assert capfd.readouterr() == ("", "")
    assert not list(folders(tmp_path)[0].rglob("*.png"))


def test_run_ids_are_stable_and_differ_between_sweeps_and_folders(tmp_path):
    def place(results: Path, sweep: str) -> str:
        return WandB(OPTIONS, results, sweep)._place()

    assert place(tmp_path, "a") == place(tmp_path, "a")
    assert len({place(tmp_path, "a"), place(tmp_path, "b"), place(tmp_path / "c", "a")}) == 3


def exit_code(folder: Path) -> int:
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    (code,) = [
        record.exit.exit_code
        for record in map(Record.FromString, _records(path.read_bytes()))
        if record.HasField("exit")
    ]
    return code


def test_fifty_jobs_in_one_process_leave_fifty_runs_in_the_right_state(tmp_path):
    bad = (*FAILURES, "interrupted")
    statuses = [*RESULTS, *bad]
    for number in range(50):
        track(tmp_path, row(10, 1.0), id=f"{number:010}", status=statuses[number % len(statuses)])
    codes = {int(folder.name.split("-")[3]): exit_code(folder) for folder in folders(tmp_path)}
    assert codes == {number: int(statuses[number % len(statuses)] in bad) for number in range(50)}


# Runs that are continued


def test_a_resumed_run_goes_on_with_the_rows_that_its_log_does_not_have(tmp_path):
    track(tmp_path, row(10, 1.0), row(20, 0.5), status="interrupted")
    track(tmp_path, row(20, 0.5), row(30, 0.2), history=[row(10, 1.0)])
    first, second = folders(tmp_path)
    assert (steps(first), steps(second)) == ([10, 20], [30])
    assert len({path.name for path in tmp_path.rglob("*.wandb")}) == 1  # one id
    assert not list(tmp_path.rglob("*.synced"))  # both are to be uploaded


def test_a_resumed_run_that_was_not_logged_before_logs_all_rows(tmp_path):
    track(tmp_path, row(20, 0.5), history=[row(10, 1.0)])
    (only,) = folders(tmp_path)
    assert steps(only) == [10, 20]


def test_a_fresh_training_replaces_the_log_of_an_earlier_one(tmp_path):
    track(tmp_path, row(10, 1.0), status="interrupted")
    track(tmp_path, row(10, 2.0))
    first, second = folders(tmp_path)
    assert (steps(first), steps(second)) == ([10], [10])
    assert [path.parent for path in tmp_path.rglob("*.synced")] == [first]


def test_a_torn_log_has_the_rows_before_the_tear(tmp_path):
    """Rows of 20 kB, so that some of them lie in several blocks of the file."""
    long = [row(10 * i, 1.0) | {"note": "x" * 20_000} for i in range(1, 9)]
    track(tmp_path, *long)
    (path,) = folders(tmp_path)[0].glob("*.wandb")
    content = path.read_bytes()
    whole = list(_steps(path))
    assert whole == list(range(10, 90, 10))
    counts = set()
    for length in [*range(0, len(content), 997), len(content)]:
        path.write_bytes(content[:length])
        found = list(_steps(path))
        assert found == whole[: len(found)]
        counts.add(len(found))
    assert whole == list(range(10, 90, 10)) and counts == set(range(9))
    assert last_step(tmp_path / "first", "unknown") is None


# Options and agents


def test_tags_and_notes_are_those_of_the_options_or_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_TAGS", "theirs,both")
    monkeypatch.setenv("WANDB_NOTES", "their notes")
    track(tmp_path, row(10, 1.0))
    track(tmp_path, row(10, 1.0), tags=["mine"], notes="my notes", project="elsewhere", entity="team")
    theirs, mine = (inspect(folder)["run"] for folder in folders(tmp_path))
    assert (sorted(theirs["tags"]), theirs["notes"]) == (["both", "theirs"], "their notes")
    assert (mine["tags"], mine["notes"]) == (["mine"], "my notes")
    assert (mine["project"], mine["entity"]) == ("elsewhere", "team")


def test_under_an_agent_one_seed_is_its_run_and_the_others_are_their_own(tmp_path, monkeypatch):
    parameters = tmp_path / "config-run1.yaml"
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, "budget.steps": {"value": 20}}))
    variables = {"SWEEP_ID": "sweep1", "RUN_ID": "run1", "SWEEP_PARAM_PATH": str(parameters), "PROJECT": "of-sweep"}
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    track(tmp_path, row(10, 1.0), seeds=(0, 1), project="latentbench")
    track(tmp_path, row(10, 1.0), seeds=(0,), id="9876543210")  # another job of the same command
    track(tmp_path, row(20, 1.0), seeds=(0,), history=[row(10, 1.0)])  # and the first one, resumed
    runs = [inspect(folder)["run"] for folder in folders(tmp_path)]
    ids = [run["run_id"] for run in runs]
    assert ids[0] == ids[3] == "run1"
    assert [id.split("-")[0] for id in ids[1:3]] == [ID, "9876543210"] and ids[1].endswith("-1")
    assert [run.get("sweep_id", "") for run in runs] == ["sweep1", "", "", "sweep1"]
    assert {run["run_group"] for run in runs} == {"first"}
    assert {run["project"] for run in runs} == {"of-sweep"}
    assert all(run["config"]["update"]["budget.steps"] == 20 for run in runs)


def test_a_seed_that_was_finished_before_is_logged_only_for_an_agent(tmp_path, monkeypatch):
    record = starting(0)[0] | ended(0)
    tracker = WandB(OPTIONS, tmp_path, "first")
    tracker.recalled(record)
    assert not folders(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "run1")
    tracker.recalled(record)
    tracker.recalled(record | {"seed": 1})
    back = inspect(*folders(tmp_path))
    assert (back["run"]["run_id"], back["exit"], back["summary"]["metrics/elbo"]) == ("run1", 0, -100.0)


# Failures


@pytest.mark.parametrize("broken", ["init", "log", "summary", "finish"])
def test_a_failure_that_lasts_is_printed_once_and_loses_no_run(tmp_path, monkeypatch, capfd, broken):
    import wandb

    class Run:
        starting_step = 0

        def __init__(self, **options):
            self.summary = self
            self.settings = wandb.Settings()
            self.call("init")

        def call(self, name, *_, **__):
            if name == broken:
                raise wandb.errors.CommError("no route to host\nmore lines")

        log = lambda self, *a, **k: self.call("log")  # noqa: E731
        update = lambda self, *a, **k: self.call("summary")  # noqa: E731
        finish = lambda self, *a, **k: self.call("finish")  # noqa: E731

    monkeypatch.setattr(wandb, "init", Run)
    for seeds in ((0, 1), (2,)):
        track(tmp_path, row(10, 1.0), seeds=seeds)
    first, second = capfd.readouterr().err.splitlines()
    assert "no route to host; logging offline from now on" in first
    assert "not used any more: no route to host" in second


def test_a_keyboard_interrupt_is_not_a_failure_of_wandb(tmp_path, monkeypatch):
    import wandb

    def interrupt(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb, "init", interrupt)
    with pytest.raises(KeyboardInterrupt):
        track(tmp_path)


def test_if_the_service_of_wandb_dies_the_log_starts_anew_with_all_rows(tmp_path, capfd):
    tracker = WandB(OPTIONS, tmp_path, "first")
    tracker.started(starting(0, 1), 20, [None, None])
    tracker.advanced(Event(10, 20, [0, 1], [row(10, 1.0), row(10, 1.0)]))
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True, text=True).stdout
    for process in found.split():
        os.kill(int(process), signal.SIGKILL)
    tracker.finished(0, ended(0), pictures(0))
    tracker.advanced(Event(20, 20, [1], [row(20, 0.5)]))
    tracker.finished(1, ended(1), pictures(1))
    tracker.closed()
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Weights & Biases")]
    assert "logging offline from now on" in line
    whole = {seed_of(folder): steps(folder) for folder in folders(tmp_path)[2:]}
    assert whole == {0: [10], 1: [10, 20]}


def test_online_without_a_valid_key_prints_one_line_and_is_offline(tmp_path):
    code = """if True:
        import os, wandb
        from bench.runs.wandb_runs import _online_or_offline
        for key in "", "short", "0" * 40:
            os.environ["WANDB_API_KEY"] = key
            wandb.teardown()
            _online_or_offline.cache_clear()
            print(_online_or_offline(), _online_or_offline())
    """
    # There is no key in HOME, and the address refuses connections, so that a request would fail.
    environment = {"HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "offline"}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines() == ["offline offline", "offline offline", "online online"]
    missing, malformed = answer.stderr.splitlines()
    assert "no key" in missing and missing.endswith("logging offline")
    assert "40+ characters" in malformed and malformed.endswith("logging offline")


def test_waiting_for_a_server_takes_at_most_half_a_minute():
    """One call, and then all runs that are open at once."""
    first, then = wandb_runs.INIT_TIMEOUT, wandb_runs.FINISH_TIMEOUT
    assert max(first, then) + then <= 25  # the rest is for what W&B does besides


# Grids


def test_grid_alternates_the_rows_of_several_arrays():
    first = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) + 10
    second = first + 10
    expected = [[10, 11], [20, 21], [12, 0], [22, 0]]
    assert np.asarray(grid([first, second], columns=2)).tolist() == expected


def test_grid_keeps_pixels_and_colours_in_place():
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    picture = np.asarray(grid([np.concatenate([image, image + 100])], columns=2))
    assert picture.shape == (2, 4, 3)
    assert np.array_equal(picture[:, :2], image[0].transpose(1, 2, 0))
    assert np.array_equal(picture[:, 2:], image[0].transpose(1, 2, 0) + 100)
