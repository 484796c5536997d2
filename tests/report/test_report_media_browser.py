"""Shapes and sounds of the page in a real browser."""

from __future__ import annotations

import io

import numpy as np
import pytest
from playwright.sync_api import Locator, expect
from rich.console import Console

from bench.report import write
from tests.report.conftest import LAID_OUT, PAINTED, SMALL, Results

PREPARED = "() => [...document.querySelectorAll('canvas')].map(canvas => canvas.style.touchAction !== '')"
SAMPLES = """async audio => {
    const content = await (await fetch(audio.src)).arrayBuffer(), context = new OfflineAudioContext(1, 1, 8000);
    return [...(await context.decodeAudioData(content)).getChannelData(0)];
}"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Results:
    """Two models of volumes, and one of sound."""
    results = Results(tmp_path_factory.mktemp("media") / "results")
    for seed, model in enumerate(("vae", "gan"), 1):
        results.shapes(results.run(model, choices={"dataset": "shapes"}, metrics={"knn_accuracy": 0.5}), seed)
    speech = results.run("segan", choices={"dataset": "speech"}, data={"image": [1, 8192]}, metrics={"knn_accuracy": 1})
    results.sounds(speech)
    write(results.path, ["first"], Console(file=io.StringIO()))
    return results


@pytest.fixture(scope="module")
def address(runs) -> str:
    return (runs.path / "first/report/index.html").as_uri()


def picture(canvas: Locator) -> str:
    expect(canvas).to_have_css("touch-action", "pan-y")  # it is prepared
    canvas.page.evaluate(PAINTED)
    return canvas.evaluate("canvas => canvas.toDataURL()")


def test_a_shape_turns_by_key_and_pointer_and_the_others_stay(page, address):
    page.goto(address)
    page.locator("#shapes").scroll_into_view_if_needed()
    one, other = (page.get_by_role("img", name=f"output of vae, {number}") for number in (1, 2))
    one.scroll_into_view_if_needed()
    first, stays = picture(one), picture(other)
    assert first != stays and len(first) > 1000
    one.focus()
    page.keyboard.press("ArrowRight")
    turned = picture(one)
    page.keyboard.press("ArrowLeft")
    assert turned != first == picture(one)
    box = one.bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 70, box["y"] + 60, steps=3)
    page.mouse.up()
    assert picture(one) not in (first, turned) and picture(other) == stays


def test_shapes_are_drawn_when_they_come_near_the_screen(page, address):
    page.set_viewport_size({"width": 1300, "height": 200})
    page.goto(address)
    page.evaluate(PAINTED)
    assert page.evaluate("document.getElementById('shapes').getBoundingClientRect().top") > 600
    assert page.evaluate(PREPARED) == [False] * 28
    last = page.get_by_role("img", name="sample of gan, 8")
    last.scroll_into_view_if_needed()
    assert len(picture(last)) > 1000


def test_without_scripts_there_are_only_the_pictures_that_stand_still(browser, address):
    context = browser.new_context(java_script_enabled=False)
    try:
        plain = context.new_page()
        plain.goto(address)
        expect(plain.locator("#samples")).to_be_visible()
        expect(plain.locator("#shapes")).to_be_hidden()
        expect(plain.get_by_role("link", name="Shapes", exact=True)).to_be_hidden()
        expect(plain.get_by_role("link", name="Sounds", exact=True)).to_be_visible()
    finally:
        context.close()


def test_sounds_are_as_long_and_as_loud_as_the_clips(page, address, runs):
    page.goto(address)
    (folder,) = runs.path.glob("first/segan-*/seed-0")
    with np.load(folder / "images.npz") as arrays:
        clips, lengths = arrays["sound/output"], arrays["sound/samples"]
    players = page.locator("audio[aria-label^='output of segan']")
    assert players.count() == 3
    for number, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
        player = players.nth(number)
        expect(player).to_have_js_property("duration", length / 8000)
        decoded = 2**15 * np.array(player.evaluate(SAMPLES))
        assert decoded.shape == (length,)
        assert abs(decoded - clip[:length]).max() <= 1.01  # browsers scale positive samples by 1 / 32767
    played = players.nth(1).evaluate("""async audio => {
        audio.muted = true;
        await audio.play();
        await new Promise(done => audio.onended = done);
        return audio.currentTime;
    }""")
    assert played == pytest.approx(0.5, abs=0.01)


def test_the_filter_hides_shapes_and_sounds_of_other_runs(page, address):
    page.goto(address)
    page.add_style_tag(content=LAID_OUT)
    page.get_by_label("Filter runs").fill("gan")
    expect(page.get_by_role("img", name="output of gan, 1")).to_be_visible()
    expect(page.get_by_role("img", name="true shape, 1")).to_be_visible()
    expect(page.get_by_role("img", name="output of vae, 1")).to_be_hidden()
    expect(page.locator("#sounds .card")).to_be_hidden()
    page.get_by_label("Filter runs").fill("segan")
    expect(page.locator("audio[aria-label^='output of segan']").first).to_be_visible()
    expect(page.locator("#shapes .card")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_shapes_and_sounds_fit(page, address, scheme):
    page.set_viewport_size({"width": 375, "height": 667})
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    page.add_style_tag(content=LAID_OUT)
    page.evaluate(PAINTED)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 375
    assert page.evaluate(SMALL) == []
    sizes = page.evaluate("[...document.querySelectorAll('canvas, audio')].map(e => e.getBoundingClientRect().width)")
    assert len(sizes) == 28 + 9 and min(sizes) > 100
