"""docs/metrics.md describes every metric once, in the section of its file, with its unit and direction."""

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
    "alignment": "Alignment",
    "latent": "Codes",
    "neighbours": "Neighbours",
    "disentanglement": "Disentanglement",
    "sharpness": "Sharpness",
    "colour": "Colour",
    "speech": "Speech",
    "fidelity": "Fidelity of samples",
    "samples": "Where samples are",
    "judged": "Judges",
    "ages": "Ages",
    "maps": "Sketches",
    "voxels": "Voxels",
    "learning": "Training",
    "cost": "Cost",
}


class Entry(NamedTuple):
    """The entry of a metric: its section, the line below its heading, and the text after that line."""

    section: str
    line: str
    text: str


def entries(page: str) -> list[tuple[str, Entry]]:
    """(name, entry) of each name in a heading, in order, with duplicates."""
    pairs = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, _, rest = section.partition("\n")
        for part in re.split(r"^### ", rest, flags=re.MULTILINE)[1:]:
            names, _, below = part.partition("\n")
            line, _, text = below.strip().partition("\n")
            entry = Entry(title.strip(), line.strip(), text.strip())
            pairs += [(name.strip().strip("`"), entry) for name in names.split(",")]
    return pairs


def line_of(function: Metric) -> str:
    """The unit, the direction and the ideal."""
    unit, ideal = function.unit or "no unit", function.ideal
    if function.better == "closest":
        return f"{unit} · closest to {ideal:g}"
    direction = "neither way is better" if function.better is None else f"{function.better} is better"
    return f"{unit} · {direction}" + ("" if ideal is None else f", ideal {ideal:g}")


ENTRIES = entries(PAGE)


def test_every_metric_has_exactly_one_heading():
    assert sorted(name for name, _ in ENTRIES) == sorted(METRICS)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_is_described_as_it_is_decorated(name):
    function, entry = METRICS[name], dict(ENTRIES)[name]
    assert entry.line == line_of(function)
    assert entry.section == SECTIONS[function.__module__.rpartition(".")[2]]
    assert entry.text, "a description"


def test_there_is_one_section_per_file_in_order():
    assert list(dict.fromkeys(entry.section for _, entry in ENTRIES)) == list(SECTIONS.values())
    assert re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE) == list(SECTIONS.values())


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
    page = "# Title\n\n### none\n\n## One\n\nabout\n\n### `a`, b\n\ns · c\n\nd\ne\n\n## Two\n\n### a\n\nf\n"
    assert entries(page) == [("a", Entry("One", "s · c", "d\ne")), ("b", Entry("One", "s · c", "d\ne"))] + [
        ("a", Entry("Two", "f", ""))
    ]
