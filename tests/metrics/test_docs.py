"""docs/metrics/ describes every metric once, in the section of its file, with its unit and direction."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from bench.metrics import Metric, discover, metric

from ..documentation import DOCS

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DOCS / "metrics").glob("*.md"))}
METRICS = discover()
SECTIONS = {  # by file, the page and the heading
    "likelihood": ("likelihood", "Likelihood"),
    "reconstruction": ("reconstruction", "Reconstruction"),
    "alignment": ("reconstruction", "Alignment"),
    "latent": ("codes", "Codes"),
    "neighbours": ("codes", "Neighbours"),
    "disentanglement": ("codes", "Disentanglement"),
    "sharpness": ("images", "Sharpness"),
    "colour": ("images", "Colour"),
    "fidelity": ("samples", "Fidelity of samples"),
    "samples": ("samples", "Where samples are"),
    "judged": ("judges", "Judges"),
    "ages": ("judges", "Ages"),
    "maps": ("judges", "Sketches"),
    "speech": ("speech_and_voxels", "Speech"),
    "voxels": ("speech_and_voxels", "Voxels"),
    "learning": ("training", "Training"),
    "cost": ("training", "Cost"),
}


class Entry(NamedTuple):
    """The entry of a metric: its section, the line below its heading, and the text after that line."""

    section: str
    line: str
    text: str


def entries(page: str) -> list[tuple[str, Entry]]:
    """(name, entry) of each name in a heading, in order, with duplicates. Other headings are sections."""
    pairs, section = [], ""
    for part in re.split(r"^#+ ", page, flags=re.MULTILINE)[1:]:
        title, _, below = part.partition("\n")
        names = [name.strip() for name in title.split(",")]
        if not all(re.fullmatch(r"[a-z0-9_]+", name) for name in names):
            section = title.strip()
            continue
        line, _, text = below.strip().partition("\n")
        pairs += [(name, Entry(section, line.strip(), text.strip())) for name in names]
    return pairs


def line_of(function: Metric) -> str:
    """The unit, the direction and the ideal."""
    unit, ideal = function.unit or "no unit", function.ideal
    if function.better == "closest":
        return f"{unit} · closest to {ideal:g}"
    direction = "neither way is better" if function.better is None else f"{function.better} is better"
    return f"{unit} · {direction}" + ("" if ideal is None else f", ideal {ideal:g}")


ENTRIES = [(page, name, entry) for page, text in PAGES.items() for name, entry in entries(text)]


def test_every_metric_has_exactly_one_heading():
    assert sorted(name for _, name, _ in ENTRIES) == sorted(METRICS)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_is_described_as_it_is_decorated(name):
    function, (page, entry) = METRICS[name], {name: (page, entry) for page, name, entry in ENTRIES}[name]
    assert entry.line == line_of(function)
    assert (page, entry.section) == SECTIONS[function.__module__.rpartition(".")[2]]
    assert entry.text, "a description"


def test_there_is_one_section_per_file_in_order():
    order = list(SECTIONS.values())
    for page in PAGES:
        sections = list(dict.fromkeys(entry.section for where, _, entry in ENTRIES if where == page))
        assert sections == [section for where, section in order if where == page]


def test_the_overview_links_to_every_entry():
    overview = (DOCS / "metrics.md").read_text(encoding="utf-8")
    linked = {(text, path) for text, path in re.findall(r"\[(\w+)\]\(([^)#]+)#", overview)}
    assert {(name, f"metrics/{page}.md") for page, name, _ in ENTRIES} <= linked


def test_a_line_follows_the_decorator():
    decorations = [
        ("lower", None, "s"),
        ("higher", 1.0, ""),
        ("closest", 1.0, ""),
        ("closest", 2.0, ""),
        (None, None, "dB"),
    ]
    assert [line_of(metric(*arguments)(lambda: 0.0)) for arguments in decorations] == [
        "s · lower is better",
        "no unit · higher is better, ideal 1",
        "no unit · closest to 1",
        "no unit · closest to 2",
        "dB · neither way is better",
    ]


def test_entries_are_parsed_by_headings():
    page = "# Title\n\n## One\n\nabout\n\n### a, b\n\ns · c\n\nd\ne\n\n## Two\n\n### a\n\nf\n"
    assert entries(page) == [("a", Entry("One", "s · c", "d\ne")), ("b", Entry("One", "s · c", "d\ne"))] + [
        ("a", Entry("Two", "f", ""))
    ]
