"""The documentation as the tests read it: its pages, and the blocks, commands and links on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/own/README.md")),
    *sorted(DOCS.rglob("*.md")),
]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"""(?:\]\(| src=")(?![a-z]+:)([^)"\s#]*)(?:#([^)\s]*))?[)"]""")
HEADING = re.compile(r"^#+ (.+)$", flags=re.MULTILINE)
CONTINUED = re.compile(r" \\\n\s*")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language on a page."""
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The words after the program, of each command in a block of the shell or in the text.

    In the text, only commands that are complete count: without "..." and names in <brackets>.
    """
    lines = [line.strip() for text in blocks(page, "bash") for line in CONTINUED.sub(" ", text).splitlines()]
    lines += [line.strip() for line in prose(page).splitlines() if line.startswith(f"    {program} ")]
    lines += [code for code in INLINE.findall(prose(page)) if "..." not in code and "<" not in code]
    for line in lines:
        if found := re.match(
            rf"(?:[A-Z_]+=\S+ )*{program} (.+)", line
        ):  # variables of the environment may be before it
            yield [word for word in shlex.split(found[1], comments=True) if word != "&"]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as MkDocs and code hosts make them."""
    plain = [re.sub(r"[^\w\s-]", "", text).strip().lower() for text in HEADING.findall(prose(page))]
    return {re.sub(r"\s", "-", text) for text in plain}


def tables(page: Path) -> Iterator[list[list[str]]]:
    """The tables of a page: rows of cells, without the line below the heading."""
    rows: list[list[str]] = []
    for line in [*prose(page).splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
        elif rows:
            yield [rows[0], *rows[2:]]
            rows = []


def entries(pages: list[Path]) -> dict[str, str]:
    """The text below each heading that is a name in code, such as a model's."""
    found = {}
    for page in pages:
        for part in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            title, _, text = part.partition("\n")
            if re.fullmatch(r"[a-z0-9_]+", title):
                assert title not in found, f"{title} has two entries"
                found[title] = text
    return found
