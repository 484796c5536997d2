"""The records of runs: their identity, and how they are written and found.

    results/<sweep>/<name>-<id>/seed-<s>/    record.json  history.csv  weights.safetensors  images.npz
    results/<sweep>/records.jsonl            or only the records, one per line, written by `export`

record.json is written last: if it exists, the other files are complete.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import InputError
from bench.runs.files import Content, checksum, replace_files
from bench.runs.output import printable_values
from bench.runs.record import SCHEMA, Config, problem

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


RECORD, HISTORY, WEIGHTS, IMAGES = "record.json", "history.csv", "weights.safetensors", "images.npz"
CHECKPOINT = "checkpoint.safetensors"  # of a training in progress, see `checkpoint`

# The groups that identify a run, together with the fingerprint of its data.
IDENTITY = tuple(Config.__annotations__)
# Keys that do not identify a run: jobs that differ in them alone are one run.
NOT_IDENTITY = (
    "metrics", "tracking", "stack", "device", "rerun", "dry_run", "allow",
    "checkpoint", "limit", "lease", "stop_on_failure", "isolate", "attempts", "objective", "tuning",
)  # fmt: skip
# Keys of a data set: where it is, and what it is called.
LOCATION = ("root", "noise_root", "path", "prefix", "name", "openml")
# Keys of groups that do not decide the weights: requirements are checked against the data themselves.
DESCRIPTIONS = {"dataset": (*LOCATION, "provides"), "model": ("requires",)}

# The schedule of constant learning rates. Records that name no schedule have this one.
CONSTANT = {"_target_": "bench.engine.schedules.Schedule", "decay": "none", "warmup": 0.0}
# The settings of a budget that selects nothing on the validation split. Records without them have these.
UNSELECTED = {"patience": None, "keep": "last"}

ELSEWHERE = "in another process"  # instead of a status, if another process holds the seed; never in a record


def identified(config: Mapping[str, Any]) -> dict[str, Any]:
    """The groups of `IDENTITY`, None if the model does not use them, without the location of the data."""
    found: dict[str, Any] = {}
    for group in IDENTITY:
        values, left_out = config.get(group), DESCRIPTIONS.get(group, ())
        found[group] = values and {key: value for key, value in values.items() if key not in left_out}
    return found


def _canonical(value: Any) -> Any:
    """Equal values as equal JSON: 1.0 becomes 1, and a `_target_` of this package loses its module."""
    if isinstance(value, Mapping):
        named = {key: _unqualified(item) if key == "_target_" else item for key, item in value.items()}
        return {key: _canonical(item) for key, item in named.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _unqualified(target: str) -> str:
    return target.rpartition(".")[2] if target.startswith("bench.") else target


def identity(config: Mapping[str, Any], fingerprint: str, refused: str | None = None) -> str:
    """Ten hexadecimal characters of BLAKE2b over the configuration and the fingerprint of the data.

    It does not depend on the location of the data, or on the module of this package that defines a class. Constant
    learning rates do not change it, nor does a budget that selects nothing on the validation split, so a run has the
    same id as one whose record names neither. refused: the reason why a combination makes no sense; it distinguishes
    the combination from a model with the same settings and other requirements.
    """
    content = _canonical(identified(config)) | {"data": fingerprint} | ({"refused": refused} if refused else {})
    if content["schedule"] in (None, _canonical(CONSTANT)):
        del content["schedule"]
    if budget := content["budget"]:
        content["budget"] = {key: value for key, value in budget.items() if (key, value) not in UNSELECTED.items()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def check_sweep(name: str) -> str:
    """The name, if it is one plain folder name; otherwise InputError."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", name):
        raise InputError(
            f"sweep={name!r} is not a folder name: use up to 200 letters, digits, '.', '_' and '-', and no '.' at its "
            "start"
        )
    return name


def sweep_folder(results: Path, sweep: str) -> Path:
    """The folder of a sweep. Raises InputError if there is none."""
    folder = Path(results) / check_sweep(sweep)
    if not folder.is_dir():
        sweeps = sorted(path.name for path in Path(results).glob("[!.]*") if path.is_dir())
        raise InputError(f"there is no sweep {sweep!r} in {results}; its sweeps: {', '.join(sweeps) or 'none yet'}")
    return folder


def run_folder(results: Path, sweep: str, name: str, id: str) -> Path:
    """A run's folder in a sweep: the folder with this id and any name, or else <name>-<id>."""
    folder = Path(results) / check_sweep(sweep)
    return next(iter(sorted(folder.glob(f"[!.]*-{id}"))), folder / f"{name}-{id}")


def seed_folder(run: Path, seed: int) -> Path:
    return run / f"seed-{seed}"


def _finite(value: Any) -> Any:
    """Replaces NaN and infinities by None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(rows: list[dict[str, Any]]) -> bytes:
    if not rows:
        return b""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _safetensors(weights: dict[str, Tensor]) -> bytes:
    import torch
    from safetensors.torch import save

    # Tied weights share memory, which safetensors refuses: each name gets its own copy.
    return save({k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in weights.items()})


def write(
    folder: Path,
    record: Mapping[str, Any],
    *,
    history: list[dict[str, Any]] | None = None,
    weights: dict[str, Tensor] | None = None,
    images: dict[str, np.ndarray] | None = None,
    check: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Writes a seed's folder, each file completely or not at all, and record.json last. None keeps a file unchanged.

    history: one row per epoch, columns in order of appearance; weights: the record gets their checksum; images: arrays
    by name; check: see `files.replace_files`. Returns the record as it was written. Raises InputError if the folder
    cannot be written (no space, no permission).
    """
    files: list[tuple[Path, Content]] = []
    if history is not None:
        files.append((folder / HISTORY, lambda file: file.write(_csv(history))))
    if weights is not None:
        data = _safetensors(weights)
        record = {**record, "weights": checksum([data])}
        files.append((folder / WEIGHTS, lambda file: file.write(data)))
    if images is not None:
        import numpy as np

        arrays: dict[str, Any] = dict(images)
        files.append((folder / IMAGES, lambda file: np.savez_compressed(file, **arrays)))
    text = json.dumps(
        {"schema": SCHEMA} | _finite(printable_values({k: v for k, v in record.items() if k != "folder"})),
        indent=1,
        allow_nan=False,
    )
    files.append((folder / RECORD, lambda file: file.write(text.encode())))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # If replacing is interrupted, an older record must not remain beside newer weights.
        replace_files(files, None if weights is None else folder / RECORD, check)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; make room or get permission there, "
            "or set paths.results to another folder"
        ) from error
    return dict(record)


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of history.csv; no rows if there is no such file, or if it is damaged."""
    try:
        with (folder / HISTORY).open(newline="") as file:
            return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, csv.Error):
        return []


READABLE = (2, 3, 4)  # schemas that `find` reads; only records of SCHEMA are resumed or evaluated again
RECORDS = "records.jsonl"  # the records of a sweep, one per line
REMEDY = "delete it and run the same sweep again"


def parse(path: Path) -> dict[str, Any] | None:
    """The content of a record file; None if there is none, or if it is damaged."""
    try:
        content = _parsed(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if isinstance(content, str) else content


def _parsed(text: bytes) -> dict[str, Any] | str:
    """A JSON object, or what is wrong with the text."""
    constants: list[str] = []
    try:
        content = json.loads(text, parse_constant=constants.append)
    except (ValueError, RecursionError):
        return "it is not complete JSON"
    if constants:
        return f"it contains {constants[0]}, which is not JSON"
    return content if isinstance(content, dict) else "it is not a JSON object"


def _validated(text: bytes, where: str, schemas: tuple[int, ...], remedy: str) -> dict[str, Any]:
    """The record in a text, without control characters.

    Raises InputError if it is damaged, of another schema or not a `Record`.
    """
    record = _parsed(text)
    if isinstance(record, str):
        raise InputError(f"{where} is damaged, {record}: {remedy}")
    if record.get("schema") not in schemas:
        raise InputError(
            f"{where} has schema {record.get('schema')}, this version reads schema {' and '.join(map(str, schemas))}: "
            "use the version that wrote it, or another sweep name"
        )
    _name_defaults(record)
    if found := problem(record):
        raise InputError(f"{where} is not a valid record, {found}: {remedy}")
    # Only texts with escapes or letters beyond ASCII can hold control characters; thousands of records take seconds.
    return printable_values(record) if b"\\" in text or not text.isascii() else record


def _name_defaults(record: dict[str, Any]) -> None:
    """Adds the constant schedule to a record that names none, and to its budget that nothing is selected."""
    config, choices = record.get("config"), record.get("choices")
    if not isinstance(config, dict) or not isinstance(choices, dict):
        return
    if "schedule" not in config:
        is_trained = config.get("optimizer") is not None
        config["schedule"], choices["schedule"] = (dict(CONSTANT), "constant") if is_trained else (None, None)
    if isinstance(budget := config.get("budget"), dict):
        config["budget"] = budget | {key: value for key, value in UNSELECTED.items() if key not in budget}


def read(folder: Path, schemas: tuple[int, ...] = (SCHEMA,)) -> dict[str, Any]:
    """A seed's `Record`, with its folder (a Path) under "folder".

    Raises InputError if it is missing, damaged, of another schema or not a `Record`.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the folder of one seed of a finished run, .../seed-<s>")
    try:
        text = path.read_bytes()
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return _validated(text, str(path), schemas, REMEDY) | {"folder": Path(folder)}


def read_if_whole(folder: Path) -> dict[str, Any] | None:
    """The same; None if it is missing or damaged. Raises InputError for another schema, and if it is not a `Record`."""
    try:
        text = (folder / RECORD).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if isinstance(_parsed(text), str):
        return None
    return _validated(text, str(folder / RECORD), (SCHEMA,), REMEDY) | {"folder": Path(folder)}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a records.jsonl, each with the folder it would have beside that file, which need not exist.

    Blank lines are skipped. Raises InputError for a line that is no `Record`, and for two of one seed of one run.
    """
    found: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        where, remedy = f"{path}, line {number},", "export the sweep again"
        record = _validated(line, where, READABLE, remedy)
        if "/" in f"{record['name']}{record['id']}":
            raise InputError(f"{where} is not a valid record, name and id are no names of a folder: {remedy}")
        first, known = found.setdefault(_key(record), (number, record))
        if first != number and record == known:
            raise InputError(f"{path}, line {number}, repeats line {first}: delete one of them")
        if first != number:
            raise InputError(
                f"{path}, lines {first} and {number}, are different records of seed {record['seed']} of "
                f"{record['name']}-{record['id']}: delete one of them, or export the sweep again"
            )
    return [
        record | {"folder": seed_folder(path.parent / f"{record['name']}-{record['id']}", record["seed"])}
        for _, record in found.values()
    ]


def _place(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return record["name"], record["id"], record["seed"]


def _key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for records of the same seed of the same run. In schema 2 an id does not depend on the data."""
    return record["id"], record["seed"], record["schema"], record["data"] and record["data"]["fingerprint"]


def find(results: Path, sweep: str, left_out: list[str] | None = None) -> list[dict[str, Any]]:
    """All records of a sweep, from its run folders and from its records.jsonl, by name, id and seed.

    A record in a run folder replaces a line of the same seed of the same run. left_out: gets a line for each run folder
    whose record is damaged, not a `Record` or of a schema that is not READABLE; without it, that raises InputError.
    Raises InputError if there is no such sweep, if it has no record, if a line is damaged, and if two folders or two
    lines hold the same seed of the same run.
    """
    folder = sweep_folder(results, sweep)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in sorted(folder.glob(f"[!.]*/seed-*/{RECORD}")):
        try:
            record = read(path.parent, READABLE)
        except (ValueError, FileNotFoundError) as damage:  # an InputError is a ValueError
            if not path.exists():  # its process replaces it right now
                continue
            if left_out is None:
                raise
            left_out.append(str(damage))
            continue
        known = found.setdefault(_key(record), record)
        if known is not record:
            raise InputError(
                f"{known['folder']} and {record['folder']} hold the same seed of the same run: move one of them out of "
                "the sweep, or rename a run folder to start with a dot"
            )
    lines = _read_lines(folder / RECORDS) if (folder / RECORDS).is_file() else []
    records = [*found.values(), *(line for line in lines if _key(line) not in found)]
    if not records and left_out:
        raise InputError(f"no record of the sweep {sweep!r} in {results} can be read: {left_out[0]}")
    if not records:
        raise InputError(f"the sweep {sweep!r} in {results} has no records yet: run `bench sweep={sweep}` first")
    return sorted(records, key=_place)


def export(records: Iterable[Mapping[str, Any]], target: Path) -> Path:
    """Writes records into one file, one per line, sorted by name, id and seed. `find` reads records.jsonl like folders.

    target: a file whose name ends in .jsonl, or else the folder for records.jsonl. Numbers keep their exact values.
    Returns the path of the file. Raises InputError if it cannot be written, or if two records are of the same seed of
    the same run.
    """
    records = sorted(records, key=_place)
    for one, other in pairwise(sorted(records, key=lambda record: str(_key(record)))):
        if _key(one) == _key(other):
            raise InputError(
                f"there are two records of seed {one['seed']} of {one['name']}-{one['id']}, in {one['folder']} and "
                f"{other['folder']}: export them to two files"
            )
    path = Path(target) if Path(target).suffix == ".jsonl" else Path(target) / RECORDS
    lines = [
        json.dumps({key: value for key, value in record.items() if key != "folder"}, separators=(",", ":"))
        for record in records
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files([(path, lambda file: file.write("".join(f"{line}\n" for line in lines).encode()))])
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; export to another place") from error
    return path
