"""The pages of the reference results as one static site.

python results/site.py FOLDER [SWEEP ...] writes FOLDER/index.html and, for each sweep, FOLDER/results/SWEEP/: what the
command in its README.md makes of its records: the page, tables and CSV. All of it is opened from disk.
"""

from __future__ import annotations

import html
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REFERENCE = Path(__file__).resolve().parent / "reference"
RECORDS = "records.jsonl"
PLACE = "paths.results=results/reference"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>latentbench: reference results</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }}
li {{ margin: 0 0 1.2rem; overflow-wrap: anywhere }}
ul {{ list-style: none; padding: 0 }}
p {{ margin: .2rem 0 }}
img {{ max-width: 100%; max-height: 12rem; display: block; margin-top: .4rem }}
</style>
</head>
<body>
<h1>latentbench: reference results</h1>
<p>Each page has the tables and charts of one sweep. The images of its runs are not kept with the records, so pages have
no reconstructions or samples. The pictures below were chosen from them.</p>
{links}
<ul>
{items}
</ul>
</body>
</html>
"""


def arguments(sweep: Path) -> list[str]:
    """Those of the line that calls bench-report in the sweep's README.md, with figures and without its place."""
    (line,) = [line for line in (sweep / "README.md").read_text().splitlines() if line.startswith("    bench-report ")]
    return [word for word in shlex.split(line)[1:] if word not in (PLACE, "figures=false")]


def summary(sweep: Path) -> tuple[str, str]:
    """The title of the sweep's README.md and its first paragraph of text, without markup."""
    title, _, rest = (sweep / "README.md").read_text().partition("\n")
    parts = [part.strip("\n") for part in rest.split("\n\n")]
    paragraphs = [" ".join(part.split()) for part in parts if part and not part.startswith((" ", "-", "|", "!", "#"))]
    title, text = (_plain(part) for part in (title.lstrip("# "), paragraphs[0] if paragraphs else ""))
    return title, text


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "")


def build(site: Path, sweeps: list[Path]) -> None:
    """Writes the pages of these sweeps, which replace those of an earlier site, and the index."""
    shutil.rmtree(site / "results", ignore_errors=True)
    items = []
    with tempfile.TemporaryDirectory() as place:
        for path in REFERENCE.glob(f"*/{RECORDS}"):  # a command may read several sweeps
            Path(place, path.parent.name).mkdir()
            shutil.copy(path, Path(place, path.parent.name))
        for sweep in sweeps:
            command = [sys.executable, "-m", "bench.report", *arguments(sweep), f"paths.results={place}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"COLUMNS": "80"})
            (page,) = Path(place, sweep.name).glob("*/index.html")
            folder = site / "results" / sweep.name
            shutil.copytree(page.parent, folder)
            items.append(item(sweep, folder))
            print(f"{folder}/index.html", flush=True)
    links = '<p><a href="docs/index.html">Documentation</a></p>' if (site / "docs" / "index.html").is_file() else ""
    (site / "index.html").write_text(PAGE.format(links=links, items="\n".join(items)), encoding="utf-8")


def item(sweep: Path, folder: Path) -> str:
    """An entry of the index; the pictures beside the sweep's README.md are copied beside its page."""
    title, text = summary(sweep)
    pictures = sorted(sweep.glob("*.png"))
    for picture in pictures:
        shutil.copy(picture, folder)
    shown = [
        f'<img src="results/{sweep.name}/{picture.name}" alt="{html.escape(picture.stem)} of {html.escape(title)}">'
        for picture in pictures
    ]
    link = f'<a href="results/{sweep.name}/index.html">{html.escape(title)}</a>'
    return f"<li><b>{link}</b><p>{html.escape(text)}</p>{''.join(shown)}</li>"


def main() -> None:
    known = {path.parent.name: path.parent for path in sorted(REFERENCE.glob(f"*/{RECORDS}"))}
    if len(sys.argv) < 2 or (unknown := [name for name in sys.argv[2:] if name not in known]):
        wrong = f"no sweep {unknown[0]}; " if len(sys.argv) > 2 else ""
        sys.exit(f"{wrong}usage: python results/site.py FOLDER [SWEEP ...], where a sweep is one of {', '.join(known)}")
    site = Path(sys.argv[1])
    site.mkdir(parents=True, exist_ok=True)
    build(site, [known[name] for name in sys.argv[2:]] or list(known.values()))


if __name__ == "__main__":
    main()
