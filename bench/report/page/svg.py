"""Small charts as SVG: axes, and data between them. Lengths are in pixels; colours follow the page around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import escape

# Petroff 2021, "Accessible color sequences for data visualization": ten colours that the colour-blind distinguish, the
# darkest first. A page may lighten them by their class names, c0 to c9.
COLOURS = (
    "#3f90da", "#e76300", "#832db6", "#bd1f01", "#717581", "#a96b59", "#ffa90e", "#94a4a2", "#b9ac70", "#92dadd",
)  # fmt: skip
_DASHES = ("", "7 3", "2 3", "8 3 2 3")
_MARKERS = ("m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z", "m-3-3h6v6h-6z", "m0-4l4 7h-8z", "m0-4l4 4l-4 4l-4-4z")
_VIRIDIS = (
    "#440154",
    "#482878",
    "#3e4a89",
    "#31688e",
    "#26828e",
    "#1f9e89",
    "#35b779",
    "#6ece58",
    "#b5de2b",
    "#fde725",
)
TEXT = 12
_LETTER = 6.6  # average width of a letter at that size


@dataclass(frozen=True)
class Axis:
    """low < high at the ends of an axis; on a logarithmic one both are positive."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """The place of a value, from 0 at low to 1 at high; a value outside is put on the nearer end."""
        if self.log:
            value = max(value, self.low)
            place = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Two to six round numbers between the ends."""
        if self.log and self.high / self.low > 5:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            leads: Sequence[int] = (1,) if len(decades) > 4 else (1, 2, 5)
            found = [lead * 10.0**d for d in decades for lead in leads if self.low <= lead * 10.0**d <= self.high]
            return found[:: -(-len(found) // 6)]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(lead for lead in (1, 2, 2.5, 5, 10) if lead * power >= rough * 0.99)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def axis(values: Iterable[float], log: bool = False) -> Axis:
    """An axis of at least one value, with a margin of a twentieth on both sides; log: of positive values."""
    shown = list(values)
    low, high = min(shown), max(shown)
    if log:
        spare = max((high / low) ** 0.05, 1.02)
        return Axis(low / spare, high * spare, True)
    spare = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return Axis(low - spare, high + spare)


def spans(values: Sequence[float], ratio: float) -> bool:
    """Whether values are positive and the largest is more than ratio times the smallest."""
    return bool(values) and min(values) > 0 and max(values) > ratio * min(values)


@dataclass(frozen=True)
class Plot:
    """A box between two axes with room for their numbers and names, in a picture of width x height; right: margin."""

    width: int
    height: int
    x: Axis
    y: Axis
    x_name: str = ""
    y_name: str = ""
    title: str = ""
    right: int = 8

    @cached_property  # for each point of every curve
    def left(self) -> float:
        widest = max((len(number(tick)) for tick in self.y.ticks()), default=1)
        return 8 + widest * _LETTER + (TEXT + 4 if self.y_name else 0)

    @property
    def top(self) -> float:
        return 8 + (TEXT + 6 if self.title else 0)

    @property
    def bottom(self) -> float:
        return self.height - 20 - (TEXT + 4 if self.x_name else 0)

    def at(self, x: float, y: float) -> tuple[float, float]:
        across, down = self.width - self.right - self.left, self.bottom - self.top
        return self.left + self.x.share(x) * across, self.bottom - self.y.share(y) * down

    def render(self, parts: Iterable[str], alt: str) -> str:
        """The whole picture, with its alternative text."""
        return svg(self.width, self.height, alt, [*self._frame(), *parts])

    def _frame(self) -> Iterable[str]:
        left, right, bottom = self.left, self.width - self.right, self.bottom
        yield f'<path class="frame" d="M{left:.1f} {self.top:.1f}V{bottom:.1f}H{right}" {_LINE}/>'
        for tick in self.x.ticks():
            x, _ = self.at(tick, self.y.low)
            yield f'<path d="M{x:.1f} {bottom:.1f}v3" {_LINE}/>{text(x, bottom + 15, number(tick), "middle")}'
        for tick in self.y.ticks():
            _, y = self.at(self.x.low, tick)
            yield f'<path d="M{left:.1f} {y:.1f}h-3" {_LINE}/>{text(left - 5, y + 4, number(tick), "end")}'
        if self.title:
            yield text(left, TEXT + 2, self.title)
        if self.x_name:
            yield text((left + right) / 2, self.height - 4, self.x_name, "middle")
        if self.y_name:
            x, y = TEXT, (self.top + bottom) / 2
            yield f'<g transform="rotate(-90 {x} {y:.1f})">{text(x, y, self.y_name, "middle")}</g>'


_LINE = 'fill="none" stroke="currentColor"'


def svg(width: int, height: int, alt: str, parts: Iterable[str]) -> str:
    """A picture without a namespace, for HTML: `standalone` adds what a file needs."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return (
        f'<svg class="chart" role="img" aria-label="{escape(alt)}" {size}>'
        f'<g font-size="{TEXT}" font-family="sans-serif">{"".join(parts)}</g></svg>'
    )


def standalone(picture: str) -> str:
    """The text of a file with a picture that `svg` made."""
    space = 'xmlns="http://www.w3.org/2000/svg" style="background:#fff"'
    return picture.replace("<svg ", f"<svg {space} ", 1)


def number(value: float) -> str:
    return f"{value:.6g}".replace("e+0", "e").replace("e-0", "e-").replace("-", "−")


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="currentColor"{anchored}>{escape(words)}</text>'


def text_width(words: str) -> float:
    """Approximate."""
    return len(words) * _LETTER


def series(parts: Iterable[str], title: str, words: str, colour: str = "") -> str:
    """The markers, lines and error bars of one run: title is shown on hovering, and a filter finds them by words."""
    inner = "".join(parts)
    return f'<g data-words="{escape(words)}"{colour}><title>{escape(title)}</title>{inner}</g>'


def colour(i: int) -> str:
    """The i-th colour, as attributes of a group; after ten they repeat."""
    return f' class="c{i % len(COLOURS)}" color="{COLOURS[i % len(COLOURS)]}"'


def polyline(points: Sequence[tuple[float, float]], i: int = 0, width: float = 1.5) -> str:
    """A line in the colour of its group, dashed from the eleventh on, where colours repeat."""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dash = _DASHES[i // len(COLOURS) % len(_DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M{path}" {_LINE} stroke-width="{width:g}"{dashed}/>'


def marker(x: float, y: float, i: int = 0) -> str:
    """A disc, a square, a triangle or a diamond."""
    return f'<path d="M{x:.1f} {y:.1f}{_MARKERS[i % len(_MARKERS)]}" fill="currentColor"/>'


def disc(x: float, y: float, fill: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="currentColor"/>'


def bar(a: tuple[float, float], b: tuple[float, float]) -> str:
    """An error bar."""
    return f'<path d="M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" {_LINE} stroke-opacity=".6"/>'


def dots(points: Iterable[tuple[float, float]], size: float = 3) -> str:
    """Many dots in one path, in quarters of a pixel."""
    path = "".join(f"M{x * 4:.0f} {y * 4:.0f}h0" for x, y in points)
    return f'<path transform="scale(.25)" d="{path}" {_LINE} stroke-width="{4 * size:g}" stroke-linecap="round"/>'


def shade(share: float) -> str:
    """A colour of viridis, from its dark end, 0, to its light end, 1."""
    place = min(max(share, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    i = min(int(place), len(_VIRIDIS) - 2)
    ends = [[int(c[j : j + 2], 16) for j in (1, 3, 5)] for c in _VIRIDIS[i : i + 2]]
    mixed = [round(a + (b - a) * (place - i)) for a, b in zip(*ends, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)
