"""Sweeps on disk, as `bench` leaves them, with numbers that a test chooses; and bench-report in this process."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from rich.console import Console

from bench.report import write
from bench.report.command import command

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BETTER = {
    "elbo": ("higher", None),
    "kl": (None, None),
    "reconstruction_mse": ("lower", 0.0),
    "knn_accuracy": ("higher", 1.0),
    "sharpness_reconstructions": ("closest", 1.0),
    "sharpness_samples": ("closest", 1.0),
    **dict.fromkeys(
        ["denoising_gain_db", *(f"denoising_gain_db@{level}" for level in (0.1, 0.25, 0.5))], ("higher", None)
    ),
    "mmd_to_prior": ("lower", 0.0),
    "frechet_distance": ("lower", 0.0),
}


class Results:
    """Writes records; what a call does not say is that of a finished VAE on the digits."""

    KEY = {
        "dataset": "digits",
        "binarize": "none",
        "dequantize": False,
        "measure": "unnormalised",
        "conditional": False,
    }

    def __init__(self, path: Path):
        self.path = path
        self.started = 0

    def run(self, name: str, seed: int = 0, sweep: str = "first", metrics: dict[str, Any] | None = None, **given: Any):
        """metrics: {name: value, or the reason of n/a, or fields of the entry}.

        choices, settings and other mappings are merged into the usual ones; what else a record has replaces it.
        """
        choices = {"model": name, "likelihood": "bernoulli", "dataset": "digits", "noise": "none", "prior": "normal"}
        choices |= {"adversarial": None, "network": "mlp", "optimizer": "adam", "budget": "default"}
        choices |= given.pop("choices", {})
        config: dict[str, Any] = {group: None if choice is None else {} for group, choice in choices.items()}
        config["model"] = {"_target_": f"bench.models.{name}", "latent_dim": 2}
        if config["budget"] is not None:
            config["budget"] = {"epochs": 20, "steps": None, "batch_size": 128}
        for key, value in given.pop("settings", {}).items():
            group, _, setting = key.partition(".")
            config[group] = config[group] | {setting: value}
        id_ = hashlib.blake2b(json.dumps([choices, config]).encode(), digest_size=5).hexdigest()
        self.started += 1
        record: dict[str, Any] = {
            "schema": 2,
            "id": id_,
            "name": "-".join(str(choices[c]) for c in ("model", "likelihood", "dataset", "noise") if choices[c]),
            "sweep": sweep,
            "seed": seed,
            "status": "ok",
            "reason": None,
            "traceback": None,
            "choices": choices,
            "config": config,
            "data": {
                "fingerprint": f"print-of-{choices['dataset']}",
                "train": 1294,
                "validation": 143,
                "test": 360,
                "image": [1, 8, 8],
                "classes": 10,
            },
            "likelihood_key": self.KEY | {"dataset": choices["dataset"]} if choices["likelihood"] else None,
            "code": {"version": None, "commit": None, "dirty": None},
            "libraries": {},
            "hardware": {"cpu": "", "cores": 2, "memory_gib": 8.0, "device": "cpu", "threads": 2},
            "seeds_stacked": [seed],
            "steps": 220,
            "seconds": 1.2,
            "samples_per_second": 20000.0,
            "gradient_norms": None,
            "parameters": {"model": 123456, "total": 123456},
            "metrics": {},
            "warnings": [],
            "started": f"2026-01-01T00:{self.started // 60:02}:{self.started % 60:02}+00:00",
            "finished": "2026-01-01T01:00:00+00:00",
        }
        parts = {key: record.get(key, {}) | part for key, part in given.items() if isinstance(part, dict)}
        record |= given | parts
        for metric, value in (metrics or {}).items():
            better, ideal = BETTER.get(metric, (None, None))
            fields = value if isinstance(value, dict) else {"reason" if isinstance(value, str) else "value": value}
            entry = {
                "better": better,
                "ideal": ideal,
                "se": None,
                "n": 360,
                "floor": None,
                "unit": "",
                "settings": {},
                "details": {},
                "value": None,
                "reason": None,
            }
            record["metrics"][metric] = entry | fields
        folder = self.path / sweep / f"{record['name']}-{record['id']}" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(record))
        return folder

    def pictures(self, folder: Path, latents: int = 2, seed: int = 0, classes: int = 0, points: int = 0) -> None:
        """images.npz and history.csv of a run.

        classes: of a conditional model, which decodes styles under each. points: coordinates of a point set, whose
        images have no other use.
        """
        draw = np.random.default_rng(seed)
        shape = (1, 1, points) if points else (1, 8, 8)
        images = {
            name: draw.integers(0, 255, (*n, *shape), dtype=np.uint8)
            for name, n in {
                "corrupted": (16,),
                "reconstruction": (16,),
                "denoised": (16,),
                "samples": (64,),
                "interpolation_latent": (8, 10),
                "interpolation_pixel": (8, 10),
            }.items()
        }
        images["input"] = np.random.default_rng(0).integers(0, 255, (16, *shape), dtype=np.uint8)
        images["codes"] = draw.normal(size=(50, latents)).astype(np.float32)
        images["labels"] = np.arange(50) % 10
        if latents == 2:
            images["manifold"] = draw.integers(0, 255, (5, 5, *shape), dtype=np.uint8)
            images["manifold_codes"] = np.linspace(-1, 1, 5, dtype=np.float32)[:, np.newaxis].repeat(2, 1)
            # Each image is of one grey: that of its code's number.
            images["thumbnails"] = np.arange(50, dtype=np.uint8).repeat(64).reshape(50, 1, 8, 8) * 5
        if classes:
            images["class_style"] = draw.integers(0, 255, (8, classes, *shape), dtype=np.uint8)
            images["traversal/age"] = draw.integers(0, 255, (8, 3, *shape), dtype=np.uint8)
            images["values/age"] = np.array(["young", "adult", "old"])
        if points:
            images["points"], images["points_sampled"] = draw.random((2, 60, points)).astype(np.float32)
        np.savez(folder / "images.npz", **images)
        self.history(folder, seed)

    def shapes(self, folder: Path, seed: int = 0, sides: tuple[int, int, int] = (6, 7, 9)) -> None:
        """images.npz of a run on volumes: pictures of them, and packed shapes, of which the targets have seed 0."""
        draw, truth = np.random.default_rng(seed), np.random.default_rng(0)
        images = {name: draw.integers(0, 255, (16, 3, 64, 64), np.uint8) for name in ("reconstruction", "samples")}
        images["input"] = images["target"] = truth.integers(0, 255, (16, 3, 64, 64), np.uint8)
        images["voxels/sides"] = np.array(sides)
        for name, count, source in (("target", 4, truth), ("output", 4, draw), ("samples", 8, draw)):
            images[f"voxels/{name}"] = np.packbits(source.random((count, np.prod(sides))) > 0.5, axis=1)
        images["arithmetic"] = draw.integers(0, 255, (8, 4, 3, 64, 64), np.uint8)
        images["values/arithmetic"] = np.array(["example", "decoded", "halfway", "moved"])
        np.savez(folder / "images.npz", **images)

    def sounds(self, folder: Path, seed: int = 0, rate: int = 8000, clean: bool = False) -> None:
        """images.npz of a run on waves: pictures of them, and three clips, which are noise of any level.

        Inputs and targets have seed 0. clean: whether they are equal.
        """
        draw, truth = np.random.default_rng(seed), np.random.default_rng(0)
        images = {
            name: draw.integers(0, 255, (16, 1, 112, 160), np.uint8) for name in ("input", "reconstruction", "samples")
        }
        for name in ("interpolation_latent", "interpolation_pixel"):
            images[name] = draw.integers(0, 255, (8, 10, 1, 112, 160), np.uint8)
        lengths = np.array([rate, rate // 2, 2 * rate])
        kept = np.arange(lengths.max()) < lengths[:, None]
        for name, source in (("input", truth), ("target", truth), ("output", draw)):
            images[f"sound/{name}"] = source.integers(-(2**15), 2**15, kept.shape, np.int16) * kept
        if clean:
            images["sound/input"] = images["sound/target"]
        images |= {"sound/samples": lengths, "sound/rate": np.full(3, rate)}
        images["sound/names"] = np.array(["lucas, 2.5 dB", "theo, 7.5 dB", "<b>theo</b>, 17.5 dB"])
        np.savez(folder / "images.npz", **images)

    def history(self, folder: Path, seed: int = 0, steps: int = 100, end: float = 0.0) -> None:
        """history.csv of two players, whose losses fall from 1 + end to end."""
        draw = np.random.default_rng(seed)
        lines = [
            f"{step},{step // 10},0.1,{end + np.exp(-step / 50) + noise},{0.5}"
            for step, noise in enumerate(draw.normal(size=steps) / 20)
        ]
        (folder / "history.csv").write_text("step,epoch,seconds,loss/model,loss/critic\n" + "\n".join(lines) + "\n")

    def many(self, models: int = 10, latents: int = 10, noises: int = 5, seeds: int = 3) -> None:
        """A sweep of models x latents x noises runs, each with pictures of its first seed; one model has no encoder."""
        draw = np.random.default_rng(0)
        for model, latent_dim, level, seed in itertools.product(*map(range, (models, latents, noises, seeds))):
            metrics: dict[str, Any] = {"knn_accuracy": draw.random(), "reconstruction_mse": 0.01 + draw.random()}
            metrics |= {f"sharpness_{of}": 2 * draw.random() for of in ("reconstructions", "samples")}
            metrics |= {f"denoising_gain_db@{at}": 10 * draw.random() for at in (0.1, 0.25, 0.5)}
            if model == 0:
                metrics |= dict.fromkeys([m for m in metrics if m != "sharpness_samples"], "the model has no encoder")
            settings = {"model.latent_dim": latent_dim, "noise.level": level / 10}
            choices = {"noise": "gaussian" if level else "none"}
            folder = self.run(f"model{model}", seed, "many", metrics, choices=choices, settings=settings)
            if seed:
                self.history(folder, seed)
            else:
                self.pictures(folder, latent_dim, seed=latent_dim)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


# --- the page in a browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
LAID_OUT = "* { content-visibility: visible !important }"  # also what lies below the screen
DRAWN = "Promise.all(allCharts.map(draw))"  # also charts that lie below the screen
# Twice, as the first frame may have begun already.
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def chromium(path: str | None, required: bool) -> str:
    """The path of the browser; where there is none, the test is skipped, or fails where one is required."""
    if path is None:
        reason = (
            f"none of {', '.join(NAMES)} was found: install Debian's package `chromium` to test the page in a browser"
        )
        (pytest.fail if required else pytest.skip)(reason)
    return path


# Not of the session: while it is open, Playwright's event loop counts as running, and other tests may start their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # the other tests do without

    path = chromium(next(filter(None, map(shutil.which, NAMES)), None), required="CI" in os.environ)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    """A window in which whatever is complained of, or fetched beside the page, fails the test."""
    opened = browser.new_page(viewport={"width": 1300, "height": 900})
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    opened.on("request", lambda request: complaints.append(request.url) if not_the_page(request.url) else None)
    yield opened
    opened.close()
    assert complaints == []


def not_the_page(url: str) -> bool:
    return not url.startswith("data:") and not re.fullmatch(r"file://[^?#]*/index\.html([?#].*)?", url)


SMALL = """() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || parent.closest("script, option") || !parent.checkVisibility()) continue;
        const scale = parent.ownerSVGElement ? Math.hypot(parent.getScreenCTM().a, parent.getScreenCTM().b) : 1;
        const size = parseFloat(getComputedStyle(parent).fontSize) * scale;
        if (size < 12) found.push(`${size} px: ${walker.currentNode.data.trim()}`);
    }
    return found;
}"""


# --- the command


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


def run_command(*arguments: str) -> Done:
    """bench-report with these arguments."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = patch.object(sys, "argv", ["bench-report", *arguments])
    with argv, patch.dict(os.environ), redirect_stdout(out), redirect_stderr(err):
        try:
            command()
        except SystemExit as exit:  # with a message, Python prints it and ends with 1
            code = exit.code if isinstance(exit.code, int) else 1
            err.write("" if isinstance(exit.code, int) else f"{exit.code}\n")
    return Done(code, out.getvalue(), err.getvalue())


def report(results, *sweeps, **options):
    console = Console(file=io.StringIO(), width=200)
    made = write(results.path, list(sweeps or ("first",)), console, figures=False, **options)
    return made.tables, (made.folder / "table.md").read_text()


def labels(table):
    return [row.labels for row in table.rows]


def measured(value, classifier="c0ffee", accuracy=0.994, **settings):
    """A number in the features of a classifier."""
    return {"value": value, "details": {"features": classifier, "features_accuracy": accuracy}, "settings": settings}


def headings(printed: str) -> list[str]:
    """The names above the columns of the first table, which stand above a line. A hyphen ends a line in a word."""
    lines = printed.splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("──"))
    caption = next(i for i in range(rule, 0, -1) if lines[i].endswith("."))
    head = [line.ljust(200) for line in lines[caption + 1 : rule]]
    gaps = [i for i in range(200) if all(line[i] == " " for line in head)]
    columns = [
        [line[a + 1 : b].strip(" ↑↓→1").removesuffix("-") for line in head]
        for a, b in pairwise([-1, *gaps])
        if b > a + 1
    ]
    return list(filter(None, map("".join, columns)))


@pytest.fixture
def site(results) -> str:
    for seed in (0, 1):
        folder = results.run("vae", seed, metrics={"knn_accuracy": 0.9 + seed / 100})
        results.pictures(folder, seed=seed)
    results.pictures(results.run("ae", metrics={"knn_accuracy": 0.8}, choices={"noise": "masking"}), latents=3)
    results.run("gan", status="failed", reason="<script>alert(1)</script> & co")
    write(results.path, ["first"], Console(file=io.StringIO()))
    return (results.path / "first/report/index.html").read_text()
