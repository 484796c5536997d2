"""Hooks of MkDocs, which builds the site of `make docs`.

The README of the repository is the first page. Files outside docs/ that a page links to are part of the site too:
Markdown and other text as pages, pictures as they are. Formulas become MathML, which browsers show without a script.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"""(?:(?<=\]\()|(?<= src="))(?![a-z]+:|#)([^)"\s#]+)(#[^)\s]*)?(?=[)"])""")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
PICTURES = {".png", ".svg"}
LANGUAGES = {".py": "python", ".yaml": "yaml"}

sources: dict[str, str] = {}  # the path in the repository of each page, by its place in the site


def on_files(files, config):
    """Adds the README, and what pages link to outside docs/, directly or through other pages."""
    paths = ["README.md", *(f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md"))]
    for path in paths:  # it grows
        if PurePosixPath(path).suffix in PICTURES:
            files.append(File.generated(config, place(path), abs_src_path=str(ROOT / path)))
            continue
        text = text_of(path)
        sources[place(path)] = path
        if not path.startswith("docs/"):
            files.append(File.generated(config, place(path), content=text))
        paths += [target for target in targets(path, text) if target not in paths and not target.startswith("docs/")]
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes links between files of the repository links between pages of the site."""
    here = page.file.src_uri

    def moved(link: re.Match) -> str:
        target = resolved(sources[here], link[1])
        return os.path.relpath(place(target), PurePosixPath(here).parent) + (link[2] or "")

    return LINK.sub(moved, markdown)


def on_page_content(content, page, config, files):
    """Makes formulas MathML, and keeps the intervals of a table in one line."""

    def mathml(formula: re.Match) -> str:
        return convert(html.unescape(formula[2]).strip(), display="inline" if formula[1] == "span" else "block")

    return FORMULA.sub(mathml, content).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def text_of(path: str) -> str:
    """The Markdown of a page that shows a text file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    kind = PurePosixPath(path).suffix
    if kind == ".md":
        return text
    if kind == ".ipynb":
        return "\n\n".join(cells(json.loads(text)))
    return f"# {path}\n\n```{LANGUAGES.get(kind, 'text')}\n{text}```\n"


def cells(notebook: dict) -> Iterator[str]:
    """The cells of a notebook as Markdown, without outputs."""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        yield text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"


def targets(path: str, text: str) -> Iterator[str]:
    """The files of the repository that a page links to. A missing one is left to MkDocs, which warns of it."""
    for link in LINK.finditer(text):
        target = resolved(path, link[1])
        if (ROOT / target).is_file():
            yield target


def resolved(path: str, link: str) -> str:
    """The path in the repository that a link of a page means; a folder means its README."""
    target = os.path.normpath(PurePosixPath(path).parent / link)
    return f"{target}/README.md" if (ROOT / target).is_dir() else target


def place(path: str) -> str:
    """The place in the site of a file of the repository."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" + ("" if PurePosixPath(path).suffix in {".md", *PICTURES} else ".md")
