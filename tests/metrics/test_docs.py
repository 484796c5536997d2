"""docs/metrics.md names every metric once, under its file's section, with the unit and the direction that it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.metrics import Metric, discover, metric

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
METRICS = discover()
SECTIONS = {
    "likelihood": "Likelihood",
    "reconstruction": "Reconstruction",
    "latent": "Codes",
    "neighbours": "Neighbours",
    "disentanglement": "Disentanglement",
    "sharpness": "Sharpness",
    "fidelity": "Fidelity of samples",
    "samples": "Where samples are",
    "learning": "Training",
    "cost": "Cost",
}


class Entry(NamedTuple):
    """A metric's heading: the section it stands in, the line below it, and the text after that."""

    section: str
    line: str
    text: str


def entries(page: str) -> list[tuple[str, Entry]]:
    """(name, entry) of each name in a heading, in order; a name that stands twice is there twice."""
    found = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, _, rest = section.partition("\n")
        for part in re.split(r"^### ", rest, flags=re.MULTILINE)[1:]:
            names, _, below = part.partition("\n")
            line, _, text = below.strip().partition("\n")
            entry = Entry(title.strip(), line.strip(), text.strip())
            found += [(name.strip().strip("`"), entry) for name in names.split(",")]
    return found


def line_of(function: Metric) -> str:
    """unit · direction, and the ideal."""
    unit, ideal = function.unit or "no unit", function.ideal
    if function.better == "closest":
        return f"{unit} · closest to {ideal:g}"
    direction = "neither way is better" if function.better is None else f"{function.better} is better"
    return f"{unit} · {direction}" + ("" if ideal is None else f", ideal {ideal:g}")


ENTRIES = entries(PAGE)


def test_every_metric_has_one_heading_and_there_are_no_others():
    assert sorted(name for name, _ in ENTRIES) == sorted(METRICS)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_is_described_as_it_is_marked(name):
    function, entry = METRICS[name], dict(ENTRIES)[name]
    assert entry.line == line_of(function)
    assert entry.section == SECTIONS[function.__module__.rpartition(".")[2]]
    assert entry.text, "what it is, and what it tells"


def test_sections_are_those_of_the_files_in_order():
    assert list(dict.fromkeys(entry.section for _, entry in ENTRIES)) == list(SECTIONS.values())
    assert re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE) == list(SECTIONS.values())


def test_a_line_follows_the_decorator():
    marked = [("lower", None, "s"), ("higher", 1.0, ""), ("closest", 1.0, ""), ("closest", 2.0, ""), (None, None, "dB")]
    assert [line_of(metric(*marks)(lambda: 0.0)) for marks in marked] == [
        "s · lower is better",
        "no unit · higher is better, ideal 1",
        "no unit · closest to 1",
        "no unit · closest to 2",
        "dB · neither way is better",
    ]


def test_a_page_is_read_by_its_headings():
    page = "# Title\n\n### none\n\n## One\n\nabout\n\n### `a`, b\n\ns · c\n\nd\ne\n\n## Two\n\n### a\n\nf\n"
    assert entries(page) == [("a", Entry("One", "s · c", "d\ne")), ("b", Entry("One", "s · c", "d\ne"))] + [
        ("a", Entry("Two", "f", ""))
    ]
