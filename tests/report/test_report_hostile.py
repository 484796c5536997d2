"""Texts of records are shown as they are: they are no markup, and no commands of a terminal."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from bench.core import InputError
from bench.report import write
from bench.report.tables.formats import _escaped
from bench.runs import store

HOSTILE = "<script>alert(1)</script> a|b \\ _x_ $y$ 50% *b* `c` [l](javascript:1) &lt; \nnew\x1b[31mred\x9b2J\u202e"
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture
def report(results) -> dict[str, str]:
    """What is printed and written of two runs whose every text is hostile, by file."""
    for seed, model in enumerate(("vae", "ae")):
        folder = results.run(model, metrics={"knn_accuracy": 0.5 + seed / 10, "kl": HOSTILE}, status="ok")
        results.pictures(folder)
        images = dict(np.load(folder / "images.npz"))
        images |= {"traversal/age": images["manifold"][:, :3], "values/age": np.array([HOSTILE] * 3)}
        np.savez(folder / "images.npz", **images)
        history = (folder / "history.csv").read_text()
        (folder / "history.csv").write_text(history.replace("loss/critic", "loss/\x1b[31mcritic<b>"))
        record = json.loads((folder / "record.json").read_text())
        record["metrics"][f"m_{HOSTILE}"] = record["metrics"]["knn_accuracy"]
        record["choices"] |= {"model": f"{model}{HOSTILE}", "dataset": HOSTILE}
        record["config"]["model"][f"key[red]{HOSTILE}"] = f"{HOSTILE}{seed}"
        record |= {"name": f"{model}{HOSTILE}", "warnings": [HOSTILE], "libraries": {"python": HOSTILE, "torch": "2"}}
        record["hardware"]["cpu"] = HOSTILE
        (folder / "record.json").write_text(json.dumps(record))
    failed = results.run("gan", status="failed", reason=HOSTILE, traceback=f"line\n{HOSTILE}")
    assert "\\u001b" in (failed / "record.json").read_text()
    printed = io.StringIO()
    made = write(results.path, ["first"], Console(file=printed, width=300), metrics=None, title=f"T {HOSTILE}")
    texts = {name: (made.folder / name).read_text() for name in made.files if not name.endswith(".png")}
    return texts | {"printed": printed.getvalue()}


def test_no_output_has_control_characters(report):
    assert set(report) == {"table.md", "table.tex", "table.csv", "seeds.csv", "index.html", "printed"}
    for name, text in report.items():
        assert not CONTROLS.search(text.replace("\r\n", "\n").replace("\t", " ")), name
        assert r"\x1b[31m" in text or name == "table.tex", name  # the text is there, harmless


def test_the_page_has_no_tags_of_records(report):
    page = report["index.html"]
    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page and "critic<b>" not in page


def test_markdown_shows_the_text_as_it_is(report):
    table = report["table.md"]
    assert "<script>" not in table and "[l](" not in table and "&lt;script>" in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert rows and len({*bars}) == 1, "a bar of a text divides a cell"


def test_latex_has_no_commands_of_records(report):
    table = report["table.tex"]
    assert r"\textbackslash{}" in table and r"\_x\_" in table and r"\$y\$" in table and r"50\%" in table
    assert not re.search(r"(?<!\\)_", table)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("knn_accuracy", "knn_accuracy"),
        ("±0.1 [2]", "±0.1 [2]"),
        ("a < b, p<0.05 & c", "a < b, p&lt;0.05 & c"),
        ("_x_ *y* `z` $w$", r"\_x\_ \*y\* \`z\` \$w\$"),
        ("<b> </b> <!-- &amp;", "&lt;b> &lt;/b> &lt;!-- &amp;amp;"),
        ("[a](b)", r"[a\](b)"),
        ("a|b\\", r"a\|b\\"),
        ("# title\n- item", r"\# title - item"),
        ("1. one", r"1\. one"),
    ],
)
def test_markup_is_escaped(text, shown):
    assert _escaped(text) == shown


def test_a_record_in_a_file_names_no_folder_outside(results):
    folder = results.run("vae")
    record = json.loads((folder / "record.json").read_text()) | {"name": "../../../elsewhere"}
    (results.path / "other").mkdir()
    (results.path / "other" / "records.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match="line 1, is not a valid record, name"):
        store.find(results.path, "other")


def test_what_is_written_has_no_control_characters(tmp_path, results):
    record = json.loads((results.run("vae") / "record.json").read_text())
    written = record | {"reason": "a\x1b[31m\nb", "traceback": "one\n two\x1b[31m", "warnings": ["x\x07"]}
    store.write(tmp_path / "seed-0", written)
    found = json.loads((tmp_path / "seed-0" / "record.json").read_text())
    assert found["reason"] == r"a\x1b[31m b" and found["warnings"] == [r"x\x07"]
    assert found["traceback"] == "one\n two\\x1b[31m"


@pytest.mark.parametrize(
    "option",
    [
        {"rows": 5},
        {"columns": [["a"]]},
        {"metrics": {"a": 1}},
        {"average": [None]},
        {"folder": ["a"]},
        {"headline": 5},
        {"groups": ["elbo"]},
        {"groups": {"codes": 5}},
        {"compare": 5},
        {"folder": "a\nb"},
    ],
)
def test_an_option_of_a_wrong_kind_is_named(results, option):
    results.run("vae")
    with pytest.raises(InputError, match=rf"{next(iter(option))}(\.\w+)?="):
        write(results.path, ["first"], Console(file=io.StringIO()), **option)
