"""A scatter plot as SVG: series of points, each a mean with the single measurements around it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 64, 190, 36, 52
COLOURS = ("#c2410c", "#2563eb", "#059669", "#7c3aed", "#6b7280", "#b45309", "#0e7490", "#be185d")


@dataclass(frozen=True)
class Dot:
    """x, y: the mean; seeds: (x, y) of each measurement; label: written beside it where it is not empty."""

    x: float
    y: float
    seeds: tuple[tuple[float, float], ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one colour, joined by a line in their order where ``is_line``."""

    name: str
    dots: tuple[Dot, ...]
    is_line: bool = False


def scatter(series: Sequence[Series], *, title: str, x_title: str, y_title: str, log_x: bool = False) -> str:
    """The plot as SVG text. Raises ValueError without a point."""
    places = [place for each in series for dot in each.dots for place in ((dot.x, dot.y), *dot.seeds)]
    if not places:
        raise ValueError(f'plot "{title}" has no points')
    across = _Axis([place[0] for place in places], LEFT, WIDTH - RIGHT, is_log=log_x)
    up = _Axis([place[1] for place in places], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 20, title, size=14),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_title, anchor="middle"),
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_title)}</text>',
    ]
    for value in up.ticks:
        parts.append(_rule(LEFT, up(value), WIDTH - RIGHT, up(value), "#e5e7eb"))
        parts.append(_text(LEFT - 8, up(value) + 4, _number(value), anchor="end"))
    for value in across.ticks:
        parts.append(_rule(across(value), TOP, across(value), HEIGHT - BOTTOM, "#f3f4f6"))
        parts.append(_text(across(value), HEIGHT - BOTTOM + 18, _number(value), anchor="middle"))
    for at, each in enumerate(series):
        parts.extend(_drawn(each, COLOURS[at % len(COLOURS)], across, up, TOP + 14 + 18 * at))
    return "\n".join([*parts, "</svg>\n"])


class _Axis:
    """Values to pixels between two ends, with ticks at round numbers."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, is_log: bool = False) -> None:
        self.is_log = is_log
        low, high = min(map(self._scale, values)), max(map(self._scale, values))
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end
        self.ticks = self._round_numbers()

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (self._scale(value) - self.low) / (self.high - self.low)

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.is_log else value

    def _round_numbers(self) -> list[float]:
        if self.is_log:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            steps = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
            return [value for value in steps if self.low <= math.log10(value) <= self.high]
        rough = (self.high - self.low) / 6
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
        first = math.ceil(self.low / step)
        return [step * number for number in range(first, math.floor(self.high / step) + 1)]


def _drawn(each: Series, colour: str, across: _Axis, up: _Axis, level: float) -> list[str]:
    parts = []
    if each.is_line and len(each.dots) > 1:
        path = " ".join(f"{across(dot.x):.1f},{up(dot.y):.1f}" for dot in each.dots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for dot in each.dots:
        parts.extend(_circle(across(x), up(y), 2, colour, 0.35) for x, y in dot.seeds)
        parts.append(_circle(across(dot.x), up(dot.y), 4.5, colour))
        if dot.label:
            parts.append(_text(across(dot.x) + 7, up(dot.y) - 6, dot.label, size=11))
    parts.append(_circle(WIDTH - RIGHT + 16, level, 4.5, colour))
    parts.append(_text(WIDTH - RIGHT + 26, level + 4, each.name))
    return parts


def _circle(x: float, y: float, radius: float, colour: str, opacity: float = 1.0) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" fill-opacity="{opacity}"/>'


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _number(value: float) -> str:
    return f"{value:.6g}"
