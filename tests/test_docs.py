"""The documentation names everything that users can choose, its links lead somewhere, and its commands are accepted."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import bench
from bench.paths import CONF

from .command_lines import jobs_of
from .documentation import DOCS, INLINE, LINK, PAGES, ROOT, anchors, commands, entries, name_of, prose, tables

MODELS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path(CONF, "model").glob("*.yaml"))}
NO_OPTIONS = {"_target_", "defaults", "requires", "optimizers"}  # keys of a model that are not its options
ENTRIES = entries(sorted((DOCS / "models").glob("*.md")))
GROUPS = ("likelihood", "noise", "prior", "adversarial", "network", "optimizer", "schedule", "budget", "tracking")
PAGE_OF = {**dict.fromkeys(GROUPS, "options.md"), "metrics": "metrics.md", "dataset": "datasets.md"}
PAGE_OF |= {"model": "models.md", "report": "report.md"}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in Path(CONF, group).glob("*.yaml"))


def words(page: Path) -> set[str]:
    """What a page writes as code, and the values after the `=` in it."""
    code = INLINE.findall(prose(page))
    return {word for text in code for word in (text, text.rpartition("=")[2])}


# --- everything has a name on a page


@pytest.mark.parametrize("group", sorted(PAGE_OF))
def test_every_option_of_a_group_is_on_its_page(group):
    assert not (missing := set(options(group)) - words(DOCS / PAGE_OF[group])), f"{PAGE_OF[group]}: {sorted(missing)}"


@pytest.mark.parametrize("group", ["likelihood", "noise", "prior"])
def test_the_numbers_of_an_option_are_in_its_row(group):
    (table,) = [table for table in tables(DOCS / "options.md") if table[0][0] == f"`{group}=`"]
    rows = {re.match(r"`(\w+)`", row[0])[1]: f"{row[1]} {row[2]}" for row in table[1:]}
    assert rows.keys() == {*options(group)}
    for name, row in rows.items():
        values = yaml.safe_load(Path(CONF, group, f"{name}.yaml").read_text())
        numbers = [value for value in values.values() if type(value) in (int, float) and value]
        assert all(re.search(rf"\({value:g}[,)]", row) for value in numbers), (name, numbers)


def test_every_model_has_an_entry():
    assert ENTRIES.keys() == MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_of_a_model_has_its_formula_and_all_options_with_their_defaults(name):
    text = ENTRIES[name]
    varied = [other for model, other in ENTRIES.items() if f"`{model}`" in text]  # it may be a variant of another model
    assert any("$$" in one for one in (text, *varied))
    assert "**Use it**" in text
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+) \|$", text, flags=re.MULTILINE)
    written = {option: yaml.safe_load(value) for option, value, meaning in rows if meaning}
    assert written == {key: value for key, value in MODELS[name].items() if key not in NO_OPTIONS}
    for required in MODELS[name]["requires"]:
        assert f"`{required}`" in text.partition("Requires ")[2].partition(".")[0]
    for player, settings in MODELS[name]["optimizers"].items():
        rate = "`optimizer.lr`" if isinstance(settings["lr"], str) else f"{settings['lr']:g}"
        betas = "".join(f", betas {a:g} and {b:g}" for a, b in [settings["betas"]]) if "betas" in settings else ""
        assert f"`{player}` (lr {rate}{betas})" in text


def test_every_claim_is_listed_with_its_words():
    folder = Path(CONF, "experiment", "claims")
    claims = {path.stem: yaml.safe_load(path.read_text())["claim"] for path in folder.glob("[!_]*.yaml")}
    (listed,) = [table for table in tables(DOCS / "claims.md") if table[0][0] == "name"]
    assert {row[0]: row[1] for row in listed[1:]} == {f"`{name}`": claim["says"] for name, claim in claims.items()}


def test_every_experiment_is_named():
    folder = Path(CONF, "experiment")
    names = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("[!_]*.yaml")}
    known = words(DOCS / "start.md") | words(DOCS / "translation.md")
    assert not {name for name in names if not name.startswith("claims/")} - known


def test_every_public_function_is_described_with_its_parameters():
    public = {name for name, value in vars(bench).items() if getattr(value, "__module__", "").startswith("bench")}
    listed = dict(re.findall(r"^\| `bench\.(\w+)(?:\((.*)\))?`", prose(DOCS / "python.md"), flags=re.MULTILINE))
    assert listed.keys() == public
    for name, parameters in listed.items():
        if inspect.isfunction(function := getattr(bench, name)):
            assert [one.strip("* ") for one in parameters.split(",")] == [*inspect.signature(function).parameters]


# --- links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    for path, anchor in LINK.findall(prose(page)):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {path}, which does not exist"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {path}#{anchor}, and there is no such heading"


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]))
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | {"index.md"}


def test_the_citation_names_this_version_and_its_authors():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["cff-version"], citation["title"]) == ("1.2.0", project["name"])
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == project["authors"]


# --- commands

FLAGS = {"--help", "--version", "--cfg"}  # commands that only show something


@pytest.fixture
def my_conf(tmp_path, monkeypatch) -> Path:
    """A user's folder with the configurations that the documentation speaks of; the command starts beside it."""
    own = ROOT / "examples" / "own"
    shutil.copytree(own / "conf", tmp_path / "conf")
    shutil.copytree(own / "conf", tmp_path / "my_conf")
    for path in own.glob("*.py"):
        shutil.copy(path, tmp_path)
    conf = tmp_path / "my_conf"
    (conf / "model").mkdir()
    for name in ("mine", "sparse"):
        (conf / "model" / f"{name}.yaml").write_text(Path(CONF, "model", "ae.yaml").read_text())
    (conf / "dataset" / "rings.yaml").rename(conf / "dataset" / "my_data.yaml")
    claims = conf / "experiment" / "claims"
    text = (claims / "ring_codes.yaml").read_text().replace("rings", "my_data", 1)
    (claims / "mine.yaml").write_text(text.replace("dataset: rings", "dataset: my_data"))
    (claims / "ring_codes.yaml").unlink()
    (tmp_path / "my_metrics.py").write_text((own / "my_metrics.py").read_text() + CONTRAST)
    monkeypatch.setenv("BENCH_OUTCOMES", str(tmp_path))  # which a command sets for itself
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


CONTRAST = """

@metric(better="higher")
def contrast(x: Tensor) -> Tensor:
    return x.flatten(1).std(1)


@metric(better="lower")
def mean_error(x: Tensor, x_mean: Tensor) -> Tensor:
    return (x - x_mean).flatten(1).abs().mean(1)
"""


def lacks(config: dict[str, Any]) -> set[str]:
    """What a model requires and the data do not provide, as far as this is known without the data."""
    provided = config["dataset"].get("provides") or config["model"].get("requires", [])
    return set(config["model"].get("requires", ())) - {"noise", *provided}


ALL = {tuple(command): name_of(page) for page in PAGES for command in commands(page, "bench")}
ALL = {command: page for command, page in ALL.items() if "--shell-completion" not in command}  # composes nothing


def test_the_documentation_has_commands():
    assert len(ALL) > 60 and {"README.md", "docs/start.md", "docs/tuning.md"} <= {*ALL.values()}


@pytest.mark.parametrize("page", sorted({*ALL.values()}))
def test_commands_are_accepted(page, my_conf):
    for command in (command for command, where in ALL.items() if where == page):
        if FLAGS & {*command}:
            assert not [word for word in command if word.startswith("-") and word not in FLAGS | {"-p"}], command
            command = tuple(word for word in command if "=" in word)
        try:
            configs = jobs_of([*command])
        except Exception as error:
            raise AssertionError(f"bench {' '.join(command)}: {error}") from error
        assert configs and any(not lacks(config) for config in configs), command


def test_a_wrong_command_is_refused(my_conf):
    for wrong in (["model=vea"], ["model=vae", "model.bta=2"], ["model=gan", "optimizer.lr=0.01"]):
        with pytest.raises(Exception, match=r"vea|bta|optimizer\.lr"):
            jobs_of(wrong)
    assert os.getcwd() == str(my_conf)
