"""The canvas of voxels in a real browser, compared with the pictures of bench/evaluation/views.py."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page

import bench.report.page
from bench.evaluation.views import AZIMUTH, ELEVATION, PAPER, draw_voxels, pack_voxels
from bench.rays import axes
from tests.report.conftest import PAINTED

SCRIPT = Path(bench.report.page.__file__).with_name("voxels.js").read_text()
SIDE = 160  # pixels of the canvas


def show(page: Page, *shapes: np.ndarray) -> None:
    canvases = "".join(
        f'<canvas class="voxels" tabindex="0" data-shape="{",".join(map(str, shape.shape))}" '
        f'data-bits="{base64.b64encode(pack_voxels(shape[None])[0]).decode()}"></canvas>'
        for shape in shapes
    )
    style = f"body {{ background: rgb({PAPER}, {PAPER}, {PAPER}) }} canvas {{ width: {SIDE}px; height: {SIDE}px }}"
    page.set_content(f"<!doctype html><style>{style}</style>{canvases}<script>{SCRIPT}</script>")
    page.wait_for_function("[...document.querySelectorAll('canvas')].every(canvas => canvas.style.touchAction)")
    page.evaluate(PAINTED)


def seen(page: Page, number: int = 0) -> np.ndarray:
    """The picture of a canvas, [3, SIDE, SIDE]."""
    page.evaluate(PAINTED)
    page.mouse.move(0, 0)
    picture = Image.open(io.BytesIO(page.locator("canvas").nth(number).screenshot())).convert("RGB")
    return np.asarray(picture).transpose(2, 0, 1).astype(int)


def expected(shape: np.ndarray, azimuth: float = AZIMUTH, elevation: float = ELEVATION) -> np.ndarray:
    """`draw_voxels` at the scale of the canvas, into which the shape fits in every position."""
    corners = (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5) * shape.shape
    width = 2 * np.abs(corners @ axes(azimuth, elevation)[1:].T).max()
    side = round(SIDE * width / np.linalg.norm(shape.shape) / 2) * 2
    margin = (SIDE - side) // 2
    picture = draw_voxels(shape[None], side, azimuth, elevation)[0].astype(int)
    return np.pad(picture, ((0, 0), (margin, margin), (margin, margin)), constant_values=PAPER)


def furniture() -> np.ndarray:
    """An angular shape without symmetry [12, 16, 14]."""
    shape = np.zeros((12, 16, 14))
    shape[2:10, 8:10, 1:12] = shape[8:10, 1:8, 1:12] = shape[2:4, 10:, 1:3] = shape[8:10, 10:, 9:12] = 1
    return shape


def assert_alike(one: np.ndarray, other: np.ndarray) -> None:
    """Equal but for the edges, whose pixels are blended in other ways, and for the depth of each voxel's centre."""
    difference = np.abs(one - other).max(0)
    assert (difference > 12).mean() < 0.06 and (other != PAPER).any(0).mean() > 0.1
    silhouettes = [(picture < PAPER - 25).any(0) for picture in (one, other)]
    assert (silhouettes[0] ^ silhouettes[1]).mean() < 0.025


def test_the_canvas_shows_what_the_pictures_show(page):
    random = np.random.default_rng(0).random((5, 6, 7)) > 0.8
    show(page, furniture(), random)
    assert_alike(seen(page), expected(furniture()))
    assert_alike(seen(page, 1), expected(random))


def test_the_pointer_turns_the_shape_that_it_is_on(page):
    show(page, furniture(), furniture())
    box, before = page.locator("canvas").first.bounding_box(), seen(page, 1)
    page.mouse.move(box["x"] + 80, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 50, steps=6)  # half a degree for each pixel, with the surface
    page.mouse.up()
    page.mouse.move(box["x"] + 10, box["y"] + 10)  # does not turn it any more
    assert_alike(seen(page), expected(furniture(), AZIMUTH - 30, ELEVATION - 15))
    np.testing.assert_array_equal(seen(page, 1), before)


def test_the_arrow_keys_turn_the_shape_up_to_the_poles(page):
    show(page, furniture())
    page.locator("canvas").focus()
    for key in (*["ArrowLeft"] * 3, "ArrowRight", *["ArrowDown"] * 30, *["ArrowUp"] * 2):
        page.keyboard.press(key)
    page.evaluate("document.activeElement.blur()")
    assert_alike(seen(page), expected(furniture(), AZIMUTH + 10, 80))


def test_a_canvas_that_is_shown_or_resized_later_is_drawn(page):
    show(page, furniture())
    first = seen(page)
    page.evaluate("document.querySelector('canvas').style.display = 'none'")
    page.evaluate(PAINTED)
    page.evaluate("document.querySelector('canvas').style.display = ''")
    np.testing.assert_array_equal(seen(page), first)
