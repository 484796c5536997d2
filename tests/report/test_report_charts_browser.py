"""Charts, switches and pictures that answer to the pointer and to the keyboard, and the page on paper."""

from __future__ import annotations

import io
import itertools
import re

import pytest
from playwright.sync_api import Page, expect
from rich.console import Console

from bench.report import write
from tests.report.conftest import DRAWN, Results

GREY = """() => {
    const lens = document.querySelector("#loupe canvas"), copy = document.createElement("canvas");
    [copy.width, copy.height] = [lens.width, lens.height];
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(lens, 0, 0);
    return lens.hidden ? null : context.getImageData(lens.width / 2, lens.height / 2, 1, 1).data[0];
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The page of eight runs along three axes; two runs have the same numbers under noise."""
    results = Results(tmp_path_factory.mktemp("charts"))
    for i, (model, likelihood, noise) in enumerate(
        itertools.product(("vae", "aae"), ("gaussian", "bernoulli"), ("none", "masking"))
    ):
        metrics = {"reconstruction_mse": 0.01 + i / 100, "sharpness_reconstructions": 0.5 + i / 20}
        metrics |= {f"metric_{j}": i + j / 10 for j in range(30)}
        metrics |= {f"denoising_gain_db@{level}": max(i, 2) + level for level in (0.1, 0.5)}
        choices = {"likelihood": likelihood, "noise": noise}
        results.pictures(results.run(model, metrics=metrics, choices=choices), seed=i)
    metrics = [f"metric_{j}" for j in range(30)]
    made = write(results.path, ["first"], Console(file=io.StringIO()), metrics=metrics)
    return (made.folder / "index.html").as_uri()


def chart(page: Page, name: str):
    return page.locator(f'.chart[aria-label^="{name}"]').first


def open_drawn(page: Page, address: str) -> None:
    page.goto(address)
    page.evaluate(DRAWN)


def test_a_chart_is_drawn_when_it_comes_near_the_screen(page, address):
    page.goto(address)
    scroll = "() => { const last = allCharts.at(-1); last.scrollIntoView(); return last.querySelector('svg') !== null }"
    page.wait_for_function(scroll)
    drawn, all_ = page.evaluate("[views.size, allCharts.length]")
    assert 0 < drawn < all_


def test_a_dot_tells_its_numbers(page, address):
    open_drawn(page, address)
    dots = chart(page, "sharpness_reconstructions against").locator(".markers_marks path")
    assert dots.count() == 8
    dots.nth(2).scroll_into_view_if_needed()
    dots.nth(2).hover()
    tip = page.locator("#vg-tooltip-element")
    expect(tip).to_contain_text("vae · bernoulli · none")
    expect(tip).to_contain_text("0.0300")
    expect(tip).to_contain_text("0.6000")
    names = chart(page, "sharpness_reconstructions against").locator(".names_marks text").all_text_contents()
    assert len(names) == 8 and {"vae · gaussian · none", "aae · bernoulli · masking"} <= set(names)


def test_equal_lines_are_one_and_a_filter_hides_lines(page, address):
    open_drawn(page, address)
    gaussian = chart(page, "denoising_gain_db against the level of gaussian")
    lines = gaussian.locator("g.mark-line path")
    assert lines.count() == 3  # of four runs without noise, those of numbers 0 and 2 are equal
    legend = gaussian.locator(".role-legend-label text").all_text_contents()
    assert legend[0] == "vae · gaussian · none, vae · bernoulli · none"
    gaussian.scroll_into_view_if_needed()
    assert {line.get_attribute("stroke-dasharray") for line in lines.all()} == {"1,0"}
    page.get_by_label("Filter runs").fill("aae")
    expect(lines).to_have_count(2)
    page.get_by_label("Filter runs").fill("vae bernoulli")  # one of the two runs of a line is left
    expect(lines).to_have_count(1)
    page.get_by_label("Filter runs").fill("")
    expect(lines).to_have_count(3)


def test_numbers_of_a_chart_are_there_in_words(page, address):
    page.goto(address)
    figure = page.locator("#trade-offs figure").first
    figure.get_by_text("Numbers").click()
    expect(figure.locator("li").first).to_have_text(
        "vae · gaussian · none reconstruction_mse 0.0100, sharpness_reconstructions 0.5000"
    )
    assert figure.locator("li").count() == 8


def test_a_chart_is_saved_as_a_picture_without_a_network(page, address):
    open_drawn(page, address)
    made = chart(page, "sharpness_reconstructions against")
    made.locator("summary").click()
    expect(made.get_by_text("Save as SVG")).to_be_visible()
    with page.expect_download() as download:
        made.get_by_text("Save as SVG").click()
    with open(download.value.path()) as file:
        assert file.read().startswith("<svg")


def test_colours_follow_the_scheme(page, address):
    page.emulate_media(color_scheme="light")
    open_drawn(page, address)
    line = chart(page, "loss of").locator("g.mark-line path").first
    light = line.get_attribute("stroke")
    page.emulate_media(color_scheme="dark")
    expect(line).not_to_have_attribute("stroke", light)
    dark = page.evaluate("COLOURS.dark[0]")
    expect(line).to_have_attribute("stroke", dark)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colours_are_legible_on_their_page(page, address):
    page.goto(address)
    colours = page.evaluate("COLOURS")
    for scheme, card in (("light", "#ffffff"), ("dark", "#1a1f26")):
        for colour in colours[scheme]:
            darker, lighter = sorted((luminance(colour), luminance(card)))
            assert (lighter + 0.05) / (darker + 0.05) >= 3, (scheme, colour)


def test_over_a_code_stands_its_image(page, address):
    open_drawn(page, address)
    codes = page.locator(".chart[data-sheet]").first
    codes.scroll_into_view_if_needed()
    codes.focus()
    loupe = page.locator("#loupe")
    expect(loupe).to_contain_text(re.compile(r"class \d, test example \d+"))
    seen = set()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
        codes.press(key)
        page.wait_for_timeout(50)
        class_, example = map(int, re.findall(r"\d+", loupe.inner_text()))
        assert class_ == (example - 1) % 10
        assert abs(page.evaluate(GREY) - 5 * (example - 1)) <= 6  # its image is of this grey
        seen.add(example)
    assert len(seen) >= 3
    ring = codes.locator(".ring").bounding_box()
    page.keyboard.press("Escape")
    expect(loupe).to_be_hidden()
    page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    expect(loupe).to_contain_text(f"test example {example}")


def test_over_the_plane_stands_what_it_decodes_to(page, address):
    open_drawn(page, address)
    plane = page.locator("img[data-grid]").first
    plane.scroll_into_view_if_needed()
    plane.evaluate("image => image.decode()")  # it has its size only then
    box = plane.bounding_box()
    plane.hover(position={"x": 0.9 * box["width"], "y": 0.3 * box["height"]})
    loupe = page.locator("#loupe")
    expect(loupe).to_have_text("decoded at 1.00, −0.50")
    # The same pixel as in the middle of that cell of 24 pixels, with one between cells.
    middle = """() => {
        const image = document.querySelector("img[data-grid]"), canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        return context.getImageData(4 * 25 + 13, 25 + 13, 1, 1).data[0];
    }"""
    assert page.evaluate(GREY) == page.evaluate(middle)
    page.mouse.move(0, 0)  # from here on the keyboard alone
    expect(loupe).to_be_hidden()
    plane.focus()
    plane.press("ArrowLeft")
    expect(loupe).to_have_text("decoded at 0.50, −0.50")
    plane.blur()
    expect(loupe).to_be_hidden()


def test_rows_are_pinned_and_stand_side_by_side(page, address):
    page.goto(address)
    rows, beside = page.locator("#tables tbody tr"), page.locator("#beside")
    rows.nth(3).hover()
    expect(beside).to_be_hidden()
    rows.nth(0).locator("td").nth(1).click()
    rows.nth(3).hover()
    expect(beside.locator(".strip > span")).to_have_text(
        ["test images", "vae · gaussian · none", "vae · bernoulli · masking"]
    )
    original = page.locator("#reconstructions .strip[data-words]").nth(0).locator("img").get_attribute("src")
    assert beside.locator(".pinned img").get_attribute("src") == original
    page.keyboard.press("Escape")
    expect(beside).to_be_hidden()
    pin = rows.nth(1).get_by_role("button", name="pin the reconstructions of vae · gaussian · masking")
    pin.focus()
    expect(beside.locator(".strip > span")).to_have_text(["test images", "vae · gaussian · masking"])
    pin.press("Enter")
    expect(pin).to_have_attribute("aria-pressed", "true")
    rows.nth(2).get_by_role("button", name="pin").focus()
    expect(beside.locator(".strip > span")).to_have_text(
        ["test images", "vae · gaussian · masking", "vae · bernoulli · none"]
    )
    beside.get_by_role("button").click()
    expect(pin).to_have_attribute("aria-pressed", "false")


def test_rows_that_the_panel_may_cover_are_pinned_by_mouse(page, address):
    page.set_viewport_size({"width": 1300, "height": 500})
    page.goto(address)
    rows = page.locator("#tables tbody tr")
    for i in (1, 7, 3):
        rows.nth(i).locator(".pin").click()
    pressed = [pin.get_attribute("aria-pressed") for pin in rows.locator(".pin").all()]
    assert [i for i, state in enumerate(pressed) if state == "true"] == [1, 3, 7]
    expect(page.locator("#beside .pinned")).to_have_count(3)


def test_a_switch_leaves_one_value_of_an_axis(page, address):
    open_drawn(page, address)
    switches, table = page.locator("#switches"), page.locator("table").first
    assert switches.locator("legend").all_inner_texts() == ["likelihood", "noise"]
    switches.get_by_text("bernoulli", exact=True).click()
    assert set(table.locator("tbody tr:visible th:nth-child(2)").all_inner_texts()) == {"bernoulli"}
    labels = page.locator("#reconstructions .strip[data-words]:visible > span").all_text_contents()
    assert len(labels) == 4 and all("bernoulli" in label for label in labels)
    scatter = chart(page, "sharpness_reconstructions against")
    scatter.scroll_into_view_if_needed()
    expect(scatter.locator(".markers_marks path")).to_have_count(4)
    expect(page.locator("#shown")).to_have_text("Shown here: likelihood bernoulli.")
    switches.get_by_text("masking", exact=True).press("ArrowRight")
    page.get_by_label("Filter runs").fill("vae")
    page.reload()
    expect(page.locator("#shown")).to_contain_text("likelihood bernoulli")
    expect(page.get_by_role("navigation").get_by_role("status")).to_contain_text("of 8 runs")
    switches.get_by_role("group", name="likelihood").get_by_text("all", exact=True).click()
    page.get_by_label("Filter runs").fill("")


def test_on_paper_nothing_is_cut(page, address):
    page.goto(address)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # while the page is as on the screen
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 703, "height": 1000})  # A4 without its margins
    page.wait_for_timeout(500)
    assert page.locator("table:not(.printed)").first.is_hidden()
    printed = page.locator("table.printed")
    assert printed.count() >= 3
    heads = [head for table in printed.all() for head in table.locator("th.name ~ th:not(.name)").all_inner_texts()]
    assert len(heads) == len(set(heads)) == 30
    assert all(table.locator("tbody tr").first.locator("th").first.inner_text() == "vae" for table in printed.all())
    assert max(box["x"] + box["width"] for table in printed.all() if (box := table.bounding_box())) <= 703
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 703
    assert page.evaluate("allCharts.every(element => element.querySelector('svg, canvas'))")
    expect(page.get_by_role("navigation")).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert printed.count() == 0 and page.locator("table").first.is_visible()


@pytest.mark.parametrize("columns", [5, 2])
def test_a_wide_table_opens_with_one_value_of_the_axes_across_it(page, tmp_path, columns):
    results = Results(tmp_path)
    for model, likelihood, level in itertools.product(("vae", "aae"), ("gaussian", "bernoulli"), (0.1, 0.2)):
        metrics = {f"metric_{j}": j + level for j in range(columns)}
        settings = {"noise.level": level}
        results.run(model, metrics=metrics, choices={"likelihood": likelihood, "noise": "masking"}, settings=settings)
    metrics, across = [f"metric_{j}" for j in range(columns)], ["likelihood", "noise.level"]
    made = write(results.path, ["first"], Console(file=io.StringIO()), metrics=metrics, rows=["model"], columns=across)
    page.goto((made.folder / "index.html").as_uri())
    heads = page.locator("thead small:visible")
    pivots = {"gaussian, 0.1", "gaussian, 0.2", "bernoulli, 0.1", "bernoulli, 0.2"}
    is_wide = columns == 5  # five metrics at four pairs of values are more columns than MAX_COLUMNS
    assert len(set(heads.all_inner_texts())) == (1 if is_wide else 4)
    assert heads.count() == (5 if is_wide else 8)
    likelihood, level = (page.get_by_role("group", name=name, exact=True) for name in across)
    likelihood.get_by_text("bernoulli").click()
    level.get_by_text("0.2").click()
    assert set(heads.all_inner_texts()) == {"bernoulli, 0.2"} and heads.count() == columns
    cells = page.locator("tbody tr").first.locator("td:not(.seeds):visible")
    assert cells.count() == columns
    for group in (likelihood, level):
        group.get_by_text("all", exact=True).click()
    assert set(heads.all_inner_texts()) == pivots
    expect(page.locator("#shown")).to_be_hidden()
