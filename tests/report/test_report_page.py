import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bench.report import figures, write


class Tags(HTMLParser):
    """Every start tag; ends must match their starts."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, self.getpos()

    def of(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


@pytest.fixture
def page(results) -> str:
    for seed in (0, 1):
        folder = results.run("vae", seed, metrics={"knn_accuracy": 0.9 + seed / 100})
        results.pictures(folder, seed=seed)
    results.pictures(results.run("ae", metrics={"knn_accuracy": 0.8}, choices={"noise": "masking"}), latents=3)
    results.run("gan", status="failed", reason="<script>alert(1)</script> & co")
    write(results.path, ["first"], Console(file=io.StringIO()))
    return (results.path / "first/report/index.html").read_text()


def test_the_page_is_self_contained_and_well_formed(page):
    tags = Tags(page)
    links = [attrs[key] for _, attrs in tags.found for key in ("src", "href") if key in attrs]
    assert links and all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert not re.search(r"https?://|url\(|@import", page)
    ids = [attrs["id"] for _, attrs in tags.found if "id" in attrs]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert len(tags.of("script")) == 1, "text of a record must not become markup"


def test_pictures_are_there_and_named(page, results):
    images = Tags(page).of("img")
    alts = [attrs["alt"] for attrs in images]
    # 2-d codes and a manifold belong to the VAE alone; each run has reconstructions, denoised, samples, losses.
    assert len([alt for alt in alts if alt.startswith("codes")]) == 1
    for start, count in {
        "reconstructions": 2,
        "test images": 1,
        "noisy test images": 2,
        "samples": 2,
        "training": 2,
    }.items():
        assert len([alt for alt in alts if alt.startswith(start)]) == count, start
    for attrs in images:
        Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2]))).verify()
    assert len(list((results.path / "first/report/pictures").glob("*.png"))) == len(images)


def test_old_pictures_do_not_stay(page, results):
    stale = results.path / "first/report/pictures/gone.png"
    stale.write_bytes(b"")
    write(results.path, ["first"], Console(file=io.StringIO()))
    assert not stale.exists()


def test_a_grid_keeps_pixels_in_their_place():
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 3, 32, 30), dtype=np.uint8)
    made = np.asarray(Image.open(io.BytesIO(figures.grid(images))))
    assert made.shape == (2 * 32 + 1, 3 * 30 + 2, 3)
    assert (made[33:65, 62:92].transpose(2, 0, 1) == images[1, 2]).all()


def test_small_images_are_repeated_and_large_ones_reduced():
    small = np.asarray(Image.open(io.BytesIO(figures.grid(np.full((1, 1, 1, 8, 8), 7, np.uint8)))))
    assert small.shape == (24, 24) and (small == 7).all()
    large = np.asarray(Image.open(io.BytesIO(figures.grid(np.full((1, 1, 1, 128, 128), 7, np.uint8)))))
    assert large.shape == (64, 64) and (large == 7).all()


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "bench.report", *arguments], capture_output=True, text=True)


def test_the_command_writes_a_report(results):
    results.run("vae", metrics={"knn_accuracy": 0.9, "elbo": -1.0})
    done = command("sweep=first", f"paths.results={results.path}", "metrics=[elbo,knn_accuracy]", "figures=false")
    assert done.returncode == 0, done.stderr
    assert "0.9000" in done.stdout and "-1.000" in done.stdout
    assert {p.name for p in (results.path / "first/report").iterdir()} == {"table.md", "table.tex", "table.csv"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sweep=third"], "first"),
        (["sweep=empty"], "'empty' in"),
        (["sweep=torn"], "record.json is torn"),
        (["sweep=first", "metrics=elbow"], "metrics=elbow is not known: these runs record elbo"),
        (["sweep=first", "rowz=model"], "rowz"),
        (["sweep=first", "report=nope"], "nope"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(results, arguments, told):
    results.run("vae", metrics={"elbo": -1.0})
    (results.path / "empty").mkdir()
    torn = results.run("vae", sweep="torn") / "record.json"
    torn.write_text(torn.read_text()[:100])
    done = command(f"paths.results={results.path}", *arguments)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert told in line


def test_a_report_starts_without_torch(results):
    results.run("vae", metrics={"elbo": -1.0})
    code = (
        "import sys; from pathlib import Path; from bench.report import write;"
        f"write(Path({str(results.path)!r}), ['first']);"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
