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


class Arrows(NamedTuple):
    """What a unit (a file or a folder of bench/) may import.

    bench: units of bench; packages: others than the standard library, "*" being all but hydra; lazy: units and packages
    that only a function's body or a type checker may import; never: names refused although their module is not.
    """

    bench: Set[str] = frozenset()
    packages: Set[str] = frozenset({"*"})
    lazy: Set[str] = frozenset()
    never: Set[str] = frozenset()


TYPES = {"core", "draws", "posteriors", "asked"}  # one layer: the types that everything shares
MATHS = {"torch", "pydantic"}
ORCHESTRA = {
    "check",
    "train",
    "evidence",
    "evaluate",
    "pictures",
    "estimate",
    "record",
    "tracking",
    "datasets",
    "seeds",
    "trained",
    "paths",
}

ARROWS = {
    "__init__": Arrows(packages=set(), lazy={"trained"}),
    "__main__": Arrows({"run", "report", "record", "paths", "core"}, packages={"*", "hydra"}),
    "run": Arrows(ORCHESTRA | TYPES, packages={"*", "hydra"}),
    "report": Arrows({"report", "record", "paths"}, packages={"*", "hydra"}, lazy={"core"}, never={"torch"}),
    "check": Arrows({"record", "train"} | TYPES),
    "estimate": Arrows({"check", "record", "train"} | TYPES),
    "trained": Arrows({"check", "record"} | TYPES),
    "train": Arrows({"core", "draws", "seeds"}, packages={"torch"}),
    "seeds": Arrows(TYPES, packages={"torch"}),
    "evidence": Arrows(
        {"evidence", "metrics", "corruptions", "divergences", "likelihoods", "annealing", "features"} | TYPES
    ),
    "evaluate": Arrows({"evidence", "metrics"} | TYPES),
    "pictures": Arrows({"evidence"} | TYPES),
    "features": Arrows(TYPES),
    "annealing": Arrows(TYPES, packages=MATHS),
    "asked": Arrows(TYPES, packages=MATHS),
    "record": Arrows(packages={"safetensors"}, lazy={"core", "numpy", "torch"}),
    "tracking": Arrows({"record"} | TYPES),
    "paths": Arrows(packages=set()),
    "core": Arrows(TYPES, packages=MATHS),
    "draws": Arrows(TYPES, packages=MATHS),
    "posteriors": Arrows(TYPES, packages=MATHS),
    "likelihoods": Arrows(TYPES, packages=MATHS),
    "priors": Arrows(TYPES, packages=MATHS, lazy={"sklearn"}),
    "corruptions": Arrows(TYPES, packages=MATHS),
    "divergences": Arrows(TYPES, packages=MATHS),
    "networks": Arrows(TYPES, packages=MATHS),
    "models": Arrows(
        {"networks", "likelihoods", "priors", "divergences"} | TYPES,
        packages={"numpy", "pydantic", "scipy", "sklearn", "torch"},
        never={"io", "os", "pathlib", "shutil", "torch.optim"},
    ),
    "datasets": Arrows({"datasets", "core", "draws"}),
    "metrics": Arrows(
        {"metrics", "core", "divergences", "annealing"},
        packages={"numpy", "scipy", "sklearn", "torch", "torchmetrics"},
        lazy={"torch_fidelity"},
        never={"bench.core.Model"},
    ),
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


def unit_of(path: str) -> str:
    """bench/models/vae.py -> models, bench/train.py -> train."""
    return path.split("/")[1].removesuffix(".py")


def forbidden(path: str, source: str) -> list[str]:
    """Each import of a file that its unit's row in ARROWS does not allow, as "file:line: what and why"."""
    unit = unit_of(path)
    arrows = ARROWS[unit]

    def reason(found: Import) -> str | None:
        package, _, rest = found.name.partition(".")
        if found.name.startswith("."):
            return "a relative import; write it from bench on"
        if any(f"{found.name}.".startswith(f"{name}.") for name in arrows.never):
            return f"which {unit} never may"
        target = rest.split(".")[0] if package == "bench" else package
        if target in arrows.lazy:
            return None if found.lazy else f"which {unit} may only inside a function"
        if package == "bench":
            return None if target in arrows.bench else f"but of bench {unit} may only import {sorted(arrows.bench)}"
        if package in sys.stdlib_module_names | arrows.packages or ("*" in arrows.packages and package != "hydra"):
            return None
        return f"which is not among {sorted(arrows.packages)}, the packages of {unit}"

    return [f"{path}:{found.line}: imports {found.name}, {why}" for found in imports(source) if (why := reason(found))]


@pytest.mark.parametrize("path", [p.relative_to(ROOT).as_posix() for p in SOURCES])
def test_imports_keep_the_arrows(path):
    assert unit_of(path) in ARROWS, f"{path}: say in ARROWS what it may import"
    assert not (found := forbidden(path, (ROOT / path).read_text())), "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bench/train.py", "from bench.models.vae import VAE"),
        ("bench/train.py", "from bench import models"),
        ("bench/train.py", "def f():\n    import bench.evaluate"),
        ("bench/models/vae.py", "from bench.models.autoencoder import Autoencoder"),
        ("bench/models/vae.py", "from torch.optim import Adam"),
        ("bench/models/vae.py", "from torch import optim"),
        ("bench/models/vae.py", "import torch.optim.adam"),
        ("bench/models/vae.py", "from pathlib import Path"),
        ("bench/models/vae.py", "from .autoencoder import Autoencoder"),
        ("bench/metrics/samples.py", "from bench.core import Model"),
        ("bench/metrics/samples.py", "from bench.models import vae"),
        ("bench/evaluate.py", "from hydra.utils import instantiate"),
        ("bench/record.py", "import numpy as np"),
        ("bench/record.py", "from bench.core import InputError"),
        ("bench/report.py", "import torch"),
        ("bench/run.py", "from bench.__main__ import main"),
    ],
)
def test_a_forbidden_import_is_found_with_its_place(path, source):
    (found,) = forbidden(path, source)
    assert found.startswith(f"{path}:{1 + source.count(chr(10))}: ")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bench/train.py", "import torch, time\nfrom bench.core import Model\nfrom torch.optim import Optimizer"),
        ("bench/models/pca.py", "from sklearn.decomposition import PCA\nfrom bench import likelihoods"),
        ("bench/record.py", "import json\ndef f():\n    from bench.core import InputError"),
        ("bench/record.py", "if TYPE_CHECKING:\n    import numpy as np"),
        ("bench/run.py", "from hydra.utils import instantiate"),
    ],
)
def test_an_allowed_import_passes(path, source):
    assert forbidden(path, source) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_stay_short(path):
    limit = 100 if path.parent.name == "models" else 400
    lines = len(path.read_text().splitlines())
    assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines, over {limit}: split it, or shorten it"


def test_the_training_loop_knows_no_model_by_name():
    files = chain((ROOT / "bench/models").glob("*.py"), (ROOT / "conf/model").glob("*.yaml"))
    names = {path.stem for path in files} - {"__init__"}
    assert {"vae", "aae", "gan"} <= names
    words = set(re.findall(r"\w+", (ROOT / "bench/train.py").read_text().lower()))
    assert not (named := names & words), f"bench/train.py speaks of {sorted(named)}: what they need belongs in a type"


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
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    site.run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", base, ROOT)
    (wheel,) = base.glob("latentbench-*.whl")
    site.run(*pip, "install", "--no-deps", "--no-index", "--target", site.folder, wheel)
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
    bench, options = installed.folder / "bin" / "bench", ["tracking=none", "metrics=fast", "device=cpu"]
    printed = installed.run(bench, "model=vae", "budget.epochs=1", "paths.results=out", *options)
    (path,) = (installed.elsewhere / "out").glob("default/*/seed-0/record.json")
    assert json.loads(path.read_text())["status"] == "ok"
    rows = [line for line in printed.splitlines() if re.search(r"(?<![\w-])vae(?![\w-]).*\d", line)]
    assert rows, f"no row of the run in what was printed:\n{printed}"
