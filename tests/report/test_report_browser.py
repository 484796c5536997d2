"""The page in a real browser: Debian's Chromium, without a window, driven by Playwright."""

from __future__ import annotations

import io
import re
from pathlib import Path
from time import perf_counter

import pytest
from playwright.sync_api import Locator, Page, expect
from rich.console import Console

from bench.report import write
from tests.report.conftest import DRAWN, LAID_OUT, PAINTED, SMALL, Results, chromium


def test_a_missing_browser_is_reported_and_fails_in_ci():
    with pytest.raises(pytest.skip.Exception, match="Debian's package `chromium`"):
        chromium(None, required=False)
    with pytest.raises(pytest.fail.Exception, match="Debian's package `chromium`"):
        chromium(None, required=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The page of twelve runs with all there is to see; one has no encoder, one failed with a text that is markup."""
    results = Results(tmp_path_factory.mktemp("browser"))
    errors = {"vae": (2.0, 10.0, 40.0), "cvae": (0.5, 30.0, 50.0), "vae_gan": (100.0, 9.0, 60.0)}
    for model, three in errors.items():
        for noise, error, latents in zip(("none", "gaussian", "none"), three, (2, 2, 16), strict=True):
            for seed in (0, 1):
                metrics = {
                    "reconstruction_mse": error + seed / 100,
                    "sharpness_samples": 0.8,
                    "knn_accuracy": error / 100,
                }
                metrics |= {"sharpness_reconstructions": 0.5, "elbo": -error}
                metrics |= {f"denoising_gain_db@{level}": error + level + seed for level in (0.1, 0.5)}
                settings = {"model.latent_dim": latents}
                folder = results.run(model, seed, metrics=metrics, choices={"noise": noise}, settings=settings)
                results.pictures(folder, latents, seed, classes=10 if model == "cvae" else 0)
    no_encoder = dict.fromkeys(["reconstruction_mse", "knn_accuracy", "elbo"], "the model has no encoder")
    results.run("gan", metrics=no_encoder | {"sharpness_samples": 1.1})
    results.run("ae", status="failed", reason="<img src=x onerror='window.hacked = 1'>")
    toy = results.run("vae", metrics={"knn_accuracy": 0.5}, choices={"dataset": "swiss_roll"})
    results.pictures(toy, points=3)
    write(results.path, ["first"], Console(file=io.StringIO()))
    return (results.path / "first/report/index.html").as_uri()


def column(table: Locator, name: str) -> list[str]:
    """The first word of each cell below a heading, of the rows that are to be seen."""
    heads = [
        " ".join(text.split()).replace("_ ", "_").split(" ")[0]
        for text in table.locator("th[scope=col]").all_inner_texts()
    ]
    cells = table.locator("tbody tr").filter(visible=True).locator(f"> :nth-child({heads.index(name) + 1})")
    return [re.split(r"[ \[]", text)[0] for text in cells.all_inner_texts()]


def heading(table: Locator, name: str) -> Locator:
    return table.get_by_role("button", name=re.compile(f"^{name}"))


MSE = "reconstruction_mse"
SORTED = ["0.505", "2.005", "9.005", "10.005", "30.005", "40.005", "50.005", "60.005", "100.005"]


def test_sorting_by_mouse_and_by_keyboard(page, address):
    page.goto(address)
    table = page.locator("table").first
    assert column(table, MSE)[:3] == ["2.005", "40.005", "10.005"]
    head = heading(table, "reconstruction_").locator("xpath=..")
    heading(table, "reconstruction_").click()
    assert column(table, MSE) == [*SORTED, "n/a", "failed"]
    expect(head).to_have_attribute("aria-sort", "ascending")
    heading(table, "reconstruction_").press("Enter")
    assert column(table, MSE) == [*SORTED[::-1], "n/a", "failed"]
    expect(head).to_have_attribute("aria-sort", "descending")
    heading(table, "reconstruction_").press(" ")
    assert column(table, MSE) == [*SORTED, "n/a", "failed"]
    heading(table, "model.latent_dim").click()
    assert column(table, "model.latent_dim") == ["2"] * 8 + ["16"] * 3
    expect(head).not_to_have_attribute("aria-sort", re.compile("."))
    heading(table, "model$").click()
    assert column(table, "model") == ["ae", *["cvae"] * 3, "gan", *["vae"] * 3, *["vae_gan"] * 3]


def test_a_table_is_filtered_by_text_and_by_axis(page, address):
    page.goto(address)
    table, bar = page.locator("table").first, page.locator(".filters").first
    text, status = bar.get_by_role("searchbox"), bar.get_by_role("status")
    assert column(table, "model") == [*["vae"] * 3, *["cvae"] * 3, *["vae_gan"] * 3, "gan", "ae"]
    expect(status).to_have_text("11 rows")
    text.fill("vae")
    assert column(table, "model") == ["vae"] * 3
    expect(status).to_have_text("3 of 11 rows")
    text.fill("va")
    assert column(table, "model") == ["vae"] * 3 + ["vae_gan"] * 3
    text.fill("failed")
    assert column(table, "model") == ["ae"]
    text.press("Escape")
    expect(text).to_have_value("")
    expect(status).to_have_text("11 rows")
    bar.get_by_label("noise").select_option("gaussian")
    heading(table, "reconstruction_").click()
    assert column(table, MSE) == ["9.005", "10.005", "30.005"]
    bar.get_by_label("model,").select_option("cvae")
    assert column(table, "model") == ["cvae"]
    expect(status).to_have_text("1 of 11 rows")
    bar.get_by_label("model,").press("Escape")
    bar.get_by_label("noise").press("Escape")
    assert column(table, MSE) == [*SORTED, "n/a", "failed"]


def words_shown(page: Page) -> set[str]:
    """Model and noise of all that is to be seen of runs, outside the tables."""
    found = page.locator("section:not(#tables) [data-words]").filter(visible=True)
    texts = found.evaluate_all("all => all.map(e => e.dataset.words)")
    return {" ".join(re.findall(r"(?<![.\w])(?:model|noise)=(\S+)", words)) for words in texts}


def test_one_filter_leaves_the_same_runs_of_tables_charts_and_pictures(page, address):
    page.goto(address)
    box, table = page.get_by_label("Filter runs"), page.locator("table").first
    status = page.get_by_role("navigation").get_by_role("status")
    runs = {f"{model} {noise}" for model in ("vae", "cvae", "vae_gan") for noise in ("none", "gaussian")}
    assert words_shown(page) == runs
    expect(status).to_have_text("12 runs")
    box.fill("vae gaussian")
    expect(status).to_have_text("1 of 12 runs")
    assert words_shown(page) == {"vae gaussian"}
    assert column(table, "model") == ["vae"] and column(table, "noise") == ["gaussian"]
    expect(page.locator(".filters").first.get_by_role("status")).to_have_text("1 of 11 rows")
    expect(page.locator("#points .card")).to_be_hidden()
    expect(page.locator("#reconstructions").get_by_text("test images", exact=True)).to_be_visible()
    page.locator(".filters").first.get_by_role("searchbox").fill("cvae")
    assert column(table, "model") == []  # both filters hold
    box.fill("latent_dim=16 va")
    assert words_shown(page) == {"vae none", "vae_gan none"}
    page.reload()
    expect(box).to_have_value("latent_dim=16 va")
    assert words_shown(page) == {"vae none", "vae_gan none"}
    box.fill("nonesuch")
    expect(page.get_by_text("No run has all these words.")).to_be_visible()
    box.press("Escape")
    expect(box).to_have_value("")
    assert words_shown(page) == runs and "?" not in page.url


def test_pictures_load_and_markup_in_a_record_stays_text(page, address):
    page.goto(address)
    broken = page.evaluate("""async () => {
        for (const image of document.images) image.loading = "eager";
        await Promise.all([...document.images].map(image => image.decode()));
        return [...document.images].filter(image => !image.naturalWidth).length;
    }""")
    assert broken == 0
    assert page.locator("img").count() > 40 and page.locator(".chart").count() > 15
    assert page.evaluate("window.hacked") is None
    assert page.locator("ol.notes").get_by_text("failed: <img src=x").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_too_wide_or_too_small_to_read(page, address, scheme):
    page.set_viewport_size({"width": 375, "height": 667})
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    page.add_style_tag(content=LAID_OUT)
    page.evaluate(DRAWN)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 375
    assert page.evaluate(SMALL) == []
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", back))) < 100 if scheme == "dark" else back == "rgb(246, 247, 249)"


# Of radio buttons of one name, Tab reaches the one that is checked.
INTERACTIVE = "a[href], button, input:not([type='radio']:not(:checked)), select, summary, [tabindex='0']"


def test_everything_is_reached_by_tab_in_order_is_named_and_shows_its_focus(page, address):
    page.goto(address)
    page.evaluate(DRAWN)
    wanted = page.evaluate(f"""() => {{
        window.stops = [...document.querySelectorAll("{INTERACTIVE}")].filter(element => element.checkVisibility());
        return window.stops.length;
    }}""")
    assert wanted > 50
    reached, outlines = [], set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        at, outline = page.evaluate("""() => {
            const style = getComputedStyle(document.activeElement);
            return [stops.indexOf(document.activeElement), `${style.outlineStyle} ${style.outlineWidth}`];
        }""")
        reached.append(at)
        outlines.add(outline)
    assert reached == [*range(wanted)]
    assert outlines == {"solid 2px"}
    page.add_style_tag(content=LAID_OUT)
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    focusable = [
        node
        for node in nodes
        if not node["ignored"] and any(p["name"] == "focusable" and p["value"]["value"] for p in node["properties"])
    ]
    named = [node for node in focusable if node.get("name", {}).get("value")]
    assert len(focusable) > wanted and [node for node in focusable if node not in named] == []


def seconds(page: Page, action: str) -> float:
    """Until what an action changes has been painted."""
    timed = f"const start = performance.now(); {action}; await {PAINTED}; return performance.now() - start"
    return page.evaluate(f"async () => {{ {timed} }}") / 1000


def test_a_page_of_500_runs_is_made_loads_and_reacts_fast(page, tmp_path):
    results = Results(tmp_path)
    results.many()
    start = perf_counter()
    write(results.path, ["many"], printed=())
    made = perf_counter() - start
    index = Path(results.path / "many/report/index.html")
    start = perf_counter()
    page.goto(index.as_uri())
    page.evaluate(PAINTED)
    loaded = perf_counter() - start
    script = "document.getElementById('filter').value = '{}'; filterAll()"
    filtered = [seconds(page, script.format(text)) for text in ("m", "model1", "model1 latent_dim=3", "")]
    ordered = seconds(page, "document.querySelectorAll('th button')[5].click()")
    expect(page.get_by_role("navigation").get_by_role("status")).to_have_text("500 runs")
    page.get_by_label("Filter runs").fill("model1")
    expect(page.get_by_role("navigation").get_by_role("status")).to_have_text("50 of 500 runs")
    assert page.locator("#losses figure").filter(visible=True).count() == 50  # opened, being few
    print(f"{made=:.1f} s, {index.stat().st_size / 1e6:.1f} MB, {loaded=:.2f} s, {filtered=}, {ordered=}")
    assert made < 60 and index.stat().st_size < 30e6
    assert loaded < 10 and max(filtered) < 1 and ordered < 2
