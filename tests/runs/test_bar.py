"""The bar of a run keeps what matters at every width of a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest

from bench.runs.bar import Bar, fitting

SHORT, LONG = "ae-none seed 0", "aae_conditional-gaussian_learned-fashion_mnist-salt_and_pepper seed 0,1,2,3,4"
PLAYERS = {
    1: ["loss 0.1234"],
    3: ["autoencoder 0.1234", "discriminator 1.386", "generator 0.6931"],
    5: [f"{player} 0.1234" for player in ("encoder", "decoder", "discriminator", "code_critic", "image_critic")],
}


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch, width: int, name: str, news: list[str], sweep: str = "") -> list[str]:
    """The lines of a bar at 25 of 100 steps, as they are drawn last."""
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    bar = Bar(name, 100)
    screen.seek(0)
    bar.update(25, [*news, "1,234 samples/s", "25/100"], sweep)
    bar._live.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "")
    bar.stop()
    return [line.rstrip() for line in text.rstrip("\n").split("\n")][-2 if sweep else -1 :]


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("players", PLAYERS)
@pytest.mark.parametrize("name", [SHORT, LONG])
def test_name_bar_share_and_time_are_kept_whatever_the_players(monkeypatch, width, players, name):
    sweep, line = shown(monkeypatch, width, name, PLAYERS[players], "job 3 of 9, seed 2 of 5, about 12 min left")
    assert sweep == "job 3 of 9, seed 2 of 5, about 12 min left"[:width] or (width == 40 and sweep.endswith("…"))
    assert len(line) <= width
    start, seed, bar, share, time, news = re.fullmatch(
        r"(.*?)( seed [\d,]+|\S*)( ━[━╸╺]+)\s+(\d+%) (\S+)(.*)", line
    ).groups()
    assert name.startswith(start.partition("…")[0]) and name.endswith((start + seed).rpartition("…")[2])
    assert share == "25%" and re.fullmatch(r"-:--:--|\d+:\d\d:\d\d", time) and len(bar) >= 6
    pieces = [piece for piece in news.strip().split("  ") if piece]
    assert pieces == [*PLAYERS[players], "1,234 samples/s", "25/100"][: len(pieces)]  # whole ones, from the first


def test_a_name_that_fits_is_whole_and_one_that_does_not_keeps_its_ends():
    assert fitting(80, SHORT, [])[0] == SHORT
    name, bar, news = fitting(40, LONG, ["loss 1"])
    assert (len(name), bar, news) == (18, 6, "")
    assert name.startswith("aae_cond") and name.endswith("0,1,2,3,4") and "…" in name


def test_news_are_dropped_from_the_end():
    every = ["encoder 1.5", "decoder 2.5", "1,234 samples/s"]
    found = [fitting(width, SHORT, every)[2] for width in (140, 80, 75, 60, 45)]
    assert found == [
        "encoder 1.5  decoder 2.5  1,234 samples/s",
        "encoder 1.5  decoder 2.5",
        "encoder 1.5  decoder 2.5",
        "encoder 1.5",
        "",
    ]


def test_a_terminal_of_no_width_is_no_error():
    for width in range(30):
        fitting(width, LONG, ["loss 1"])
