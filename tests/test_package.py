"""The shape of the package: who may import whom, what the wheel holds, how long files may be."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Set
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "bench").rglob("*.py"))


GROUND = {"core", "data", "draws", "errors", "paths", "rays"}


class Room(NamedTuple):
    """What the files of a room may import.

    rooms: of bench, their own room aside; packages: beside the standard library, "*" being all but hydra; lazy: rooms
    and packages that only the body of a function or a type checker may import; never: names that are refused even
    though their room or package is allowed.
    """

    rooms: Set[str] = frozenset()
    packages: Set[str] = frozenset({"*"})
    lazy: Set[str] = frozenset()
    never: Set[str] = frozenset()


# One row a room, from the ground up.
ROOMS = {
    "core": Room(GROUND, packages={"torch", "pydantic", "typing_extensions"}),
    "data": Room(GROUND, packages={"numpy", "torch", "pydantic"}),
    "draws": Room(GROUND, packages={"torch"}),
    "errors": Room(packages=set()),
    "paths": Room(GROUND, packages=set()),
    "rays": Room(packages={"numpy"}),
    "parts": Room(GROUND, packages={"torch", "pydantic"}, lazy={"sklearn"}),
    "engine": Room(GROUND, packages={"torch", "pydantic"}),
    "models": Room(
        GROUND | {"parts"},
        packages={"numpy", "pydantic", "scipy", "sklearn", "torch"},
        never={"io", "os", "pathlib", "shutil", "torch.optim", "bench.models"},
    ),
    "datasets": Room(GROUND | {"parts"}),
    "metrics": Room(
        GROUND | {"parts"},
        packages={"numpy", "scipy", "sklearn", "torch", "torchmetrics"},
        lazy={"torch_fidelity", "pystoi", "pesq"},
        never={"bench.core.Model"},
    ),
    "evaluation": Room(GROUND | {"parts", "metrics"}),
    "runs": Room(GROUND | {"engine", "datasets", "evaluation"}),
    "report.records": Room(
        {"errors", "evaluation.conventions", "runs.store", "runs.files"},
        packages={"pandas"},
    ),
    "report.statistics": Room({"evaluation.conventions", "report.records"}, packages={"numpy", "scipy"}),
    "report.tables": Room(
        {"errors", "evaluation.conventions", "report.records", "report.statistics", "runs.files"},
        packages={"jinja2", "markupsafe", "omegaconf", "rich", "tabulate"},
        lazy={"matplotlib"},
    ),
    "report.verdicts": Room(
        {"errors", "evaluation.conventions", "paths", "runs.files"}
        | {f"report.{name}" for name in ("presets", "records", "statistics", "tables")},
        packages={"pydantic"},
    ),
    "report.page": Room(
        {"evaluation.conventions", "evaluation.views", "runs.files", "runs.output"}
        | {f"report.{name}" for name in ("records", "statistics", "tables")},
        packages={"markupsafe", "numpy", "PIL"},
    ),
    "report": Room(
        {"errors", "paths"} | {f"runs.{name}" for name in ("store", "names", "output", "files")}, never={"torch"}
    ),
    "__init__": Room({"errors"}, packages=set(), lazy={"runs", "report", "calls"}),
    "calls": Room({"errors", "runs", "report"}, packages=set(), never={"torch"}),
    "compose": Room({"paths"}, packages={"hydra", "omegaconf"}),
    "options": Room({"paths"}, packages={"omegaconf"}),
    "help": Room({"compose", "options", "paths"}, packages={"omegaconf"}),
    "completion": Room({"compose", "options", "paths"}, packages={"hydra", "omegaconf"}),
    "trials": Room({"errors"}, packages={"omegaconf"}, lazy={"scipy"}),
    "suggestions": Room({"paths"}, packages={"hydra", "omegaconf"}),
    "arguments": Room({"compose", "options", "runs"}, packages={"hydra"}),
    "__main__": Room(
        {"arguments", "completion", "compose", "errors", "evaluation.conventions", "help", "paths", "report", "runs"}
        | {"suggestions", "trials", "__version__"},
        packages={"*", "hydra"},
    ),
}
# Files with a row of their own.
FILES = {
    "bench/runs/store.py": Room({"errors"}, packages={"safetensors"}, lazy={"numpy", "torch"}),  # a report reads it
    "bench/evaluation/conventions.py": Room(packages=set()),  # a report reads it
    "bench/evaluation/views.py": Room({"rays"}, packages={"numpy"}),  # a report reads it
    "bench/runs/status.py": Room({"paths", "runs"}, packages={"hydra", "omegaconf"}, never={"torch"}),
    "bench/runs/record.py": Room(packages={"pydantic", "typing_extensions"}),
    "bench/report/presets.py": Room({"errors", "paths"}, packages={"omegaconf"}),  # verdicts read it
    "bench/report/command.py": ROOMS["report"]._replace(packages={"*", "hydra"}),
}


class Import(NamedTuple):
    line: int
    name: str  # dotted, as far as the statement says it: bench.core.Model
    lazy: bool  # inside a function, or under `if TYPE_CHECKING`


def imports(source: str) -> Iterator[Import]:
    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (Import(node.lineno, f"{module}.{alias.name}", lazy) for alias in node.names)
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        inside |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        yield from chain.from_iterable(walk(child, inside) for child in ast.iter_child_nodes(node))

    return walk(ast.parse(source), False)


def room_of(path: str) -> str:
    """bench/models/vae.py -> models, bench/core.py -> core, bench/report/page/charts.py -> report.page."""
    room, *inner = path.removeprefix("bench/").removesuffix(".py").split("/")
    return f"{room}.{inner[0]}" if room == "report" and len(inner) > 1 else room


def forbidden(path: str, source: str) -> list[str]:
    """Each import of a file that its row does not allow, as "file:line: what and why"."""
    own = room_of(path)
    row = FILES.get(path) or ROOMS[own]

    def reason(found: Import) -> str | None:
        package, _, rest = found.name.partition(".")
        if found.name.startswith("."):
            return "a relative import; write it from bench on"
        if within(found.name, row.never):
            return f"which {own} never may"
        target = rest if package == "bench" else package
        if within(target, row.lazy):
            return None if found.lazy else f"which {own} may only inside a function"
        if package == "bench":
            return None if within(target, row.rooms | {own}) else f"but {own} may only import {sorted(row.rooms)}"
        if package in sys.stdlib_module_names | row.packages or ("*" in row.packages and package != "hydra"):
            return None
        return f"which is not among {sorted(row.packages)}, the packages of {own}"

    return [f"{path}:{found.line}: imports {found.name}, {why}" for found in imports(source) if (why := reason(found))]


def within(name: str, prefixes: Set[str]) -> bool:
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("path", [p.relative_to(ROOT).as_posix() for p in SOURCES])
def test_imports_keep_the_arrows(path):
    assert room_of(path) in ROOMS, f"{path}: add a row to ROOMS that says what it may import"
    assert not (found := forbidden(path, (ROOT / path).read_text())), "\n" + "\n".join(found)


def test_each_room_has_a_row():
    assert {room_of(path.relative_to(ROOT).as_posix()) for path in SOURCES} == set(ROOMS)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bench/engine/train.py", "from bench.models.vae import VAE"),
        ("bench/engine/train.py", "from bench import models"),
        ("bench/engine/train.py", "def f():\n    import bench.evaluation.evaluate"),
        ("bench/engine/train.py", "from bench.parts.likelihoods import Gaussian"),
        ("bench/models/vae.py", "from bench.models.autoencoder import Autoencoder"),
        ("bench/models/vae.py", "from torch.optim import Adam"),
        ("bench/models/vae.py", "from torch import optim"),
        ("bench/models/vae.py", "import torch.optim.adam"),
        ("bench/models/vae.py", "from pathlib import Path"),
        ("bench/models/vae.py", "from .autoencoder import Autoencoder"),
        ("bench/metrics/samples.py", "from bench.core import Model"),
        ("bench/metrics/samples.py", "from bench.models import vae"),
        ("bench/metrics/likelihood.py", "from bench.evaluation.annealing import tune"),
        ("bench/evaluation/evaluate.py", "from hydra.utils import instantiate"),
        ("bench/evaluation/evaluate.py", "from bench.runs import store"),
        ("bench/runs/store.py", "import numpy as np"),
        ("bench/runs/store.py", "from bench.core import InputError"),
        ("bench/runs/run.py", "from bench.__main__ import main"),
        ("bench/runs/run.py", "from hydra.utils import instantiate"),
        ("bench/report/page/page.py", "import torch"),
        ("bench/report/page/page.py", "from bench.runs.run import run"),
        ("bench/report/page/page.py", "import hydra"),
        ("bench/report/page/page.py", "from bench.report.verdicts import claims"),
        ("bench/report/page/page.py", "from bench.report import write"),
        ("bench/report/statistics/ranks.py", "from bench.report.tables.table import Table"),
        ("bench/report/records/load.py", "from bench.report.statistics.estimates import estimate"),
        ("bench/report/tables/tuning.py", "from matplotlib.figure import Figure"),
    ],
)
def test_a_forbidden_import_is_found_with_its_place(path, source):
    (found,) = forbidden(path, source)
    assert found.startswith(f"{path}:{1 + source.count(chr(10))}: ")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bench/engine/train.py", "import torch, time\nfrom bench.core import Model\nfrom torch.optim import SGD"),
        ("bench/models/pca.py", "from sklearn.decomposition import PCA\nfrom bench.parts import likelihoods"),
        ("bench/runs/store.py", "import json\ndef f():\n    import torch"),
        ("bench/runs/store.py", "if TYPE_CHECKING:\n    import numpy as np"),
        ("bench/report/page/page.py", "from bench.runs import files\nfrom bench.report.page import figures"),
        ("bench/report/command.py", "import hydra"),
    ],
)
def test_an_allowed_import_passes(path, source):
    assert forbidden(path, source) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_stay_short(path):
    limit = 120 if path.parent.name == "models" else 400
    lines = len(path.read_text().splitlines())
    assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines, over {limit}: split it, or shorten it"


def test_the_training_loop_knows_no_model_by_name():
    files = chain((ROOT / "bench/models").glob("*.py"), (ROOT / "conf/model").glob("*.yaml"))
    names = {path.stem for path in files} - {"__init__"}
    assert {"vae", "aae", "gan"} <= names
    words = set(re.findall(r"\w+", (ROOT / "bench/engine/train.py").read_text().lower()))
    assert not (named := names & words), (
        f"bench/engine/train.py speaks of {sorted(named)}: what they need belongs in a type"
    )


def test_bench_and_its_results_are_quick_to_import():
    """Notebooks and scripts that only read results do not wait for torch and Hydra."""
    heavy = "[name for name in ('torch', 'hydra', 'pandas', 'pydantic') if name in sys.modules]"
    reads = "from bench.report.records import frames"
    code = f"import sys, bench; first = {heavy}; {reads}; print(first, {heavy})"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[] ['pandas', 'pydantic']\n"


# --- what is committed

MACHINE_PATH = re.compile(r"(?<![\w.~:/-])/(?:home|root|Users|work|tmp|opt|mnt|srv|scratch)/\w+|\b[A-Z]:\\Users")


def committed_texts() -> Iterator[tuple[str, str]]:
    """(path, text) of each text file that is committed or about to be."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in sorted(filter(None, names)):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield name, content.decode()


def test_no_committed_file_names_a_machine_path():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files are committed is not known, their paths are not searched")
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in committed_texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n" + "\n".join(found)


def test_a_machine_path_is_told_from_an_address():
    folder = "home"
    assert MACHINE_PATH.search(f"dataset.root=/{folder}/me/mnist")
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/me and ~/{folder}/me and /path/to/mnist")


# --- the wheel


class Installed(NamedTuple):
    """The wheel installed in `folder`; its commands run in `elsewhere`, which is not in the checkout."""

    folder: Path
    elsewhere: Path

    def run(self, *command: str | Path) -> str:
        """What a command prints; a failed one shows it."""
        environment = os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        done = subprocess.run(
            command, cwd=self.elsewhere, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    base = tmp_path_factory.mktemp("wheel")
    site = Installed(base / "site", base / "elsewhere")
    site.elsewhere.mkdir()
    # What pip would call, without the seconds that it takes to get there.
    build = f"import os; os.chdir({str(ROOT)!r}); from hatchling.build import build_wheel; build_wheel({str(base)!r})"
    site.run(sys.executable, "-c", build)
    (wheel,) = base.glob("latentbench-*.whl")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    site.run(*pip, "install", "--no-deps", "--no-index", "--no-compile", "--target", site.folder, wheel)
    return site


def test_the_wheel_holds_code_configuration_and_licence(installed):
    package = installed.folder / "bench"
    for here, there in ((ROOT / "bench", package), (ROOT / "conf", package / "conf")):
        wanted = {p.relative_to(here) for p in here.rglob("*") if p.is_file() and p.suffix != ".pyc"}
        assert wanted, here
        assert not (missing := sorted(str(p) for p in wanted if not (there / p).is_file())), missing
    assert list(installed.folder.glob("latentbench-*.dist-info/licenses/LICENSE"))
    assert not (installed.folder / "tests").exists()


def test_the_wheel_finds_its_own_configuration(installed):
    printed = installed.run(sys.executable, "-c", "import bench.paths; print(bench.paths.CONF)")
    assert Path(printed.strip()) == installed.folder / "bench" / "conf"


def test_help_names_the_groups_and_their_options(installed):
    for command in ([sys.executable, "-m", "bench"], [installed.folder / "bin" / "bench"]):
        printed = installed.run(*command, "--help")
        for word in ("model", "likelihood", "dataset", "noise", "vae_gan", "salt_and_pepper", "fashion_mnist"):
            assert word in printed, word


def test_one_run_outside_the_checkout_ends_in_its_row(installed):
    bench, options = (
        installed.folder / "bin" / "bench",
        ["tracking=none", "metrics=fast", "metrics.names=[psnr]", "device=cpu"],
    )
    printed = installed.run(bench, "model=vae", "budget.epochs=1", "paths.results=out", *options)
    (path,) = (installed.elsewhere / "out").glob("default/*/seed-0/record.json")
    assert json.loads(path.read_text())["status"] == "ok"
    rows = [line for line in printed.splitlines() if re.search(r"(?<![\w-])vae(?![\w-]).*\d", line)]
    assert rows, f"no row of the run in what was printed:\n{printed}"
