"""Geometry of plots, computed on the server and drawn as inline SVG. Lengths are SVG user units.

Every plot stands beside a table with the same numbers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

from labeling.protocols.base import UNABLE, Protocol
from labeling.protocols.number import NumberProtocol
from labeling.reliability import PersonReport

PLOT_WIDTH, PLOT_HEIGHT = 520.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 16.0, 12.0, 40.0
WHISKER_WIDTH, WHISKER_PAD = 260.0, 8.0
STRIP_WIDTH, STRIP_HEIGHT = 150.0, 34.0
BARS_WIDTH, BARS_HEIGHT = 90.0, 34.0
MOST_IN_STRIP = 200
BINS = 10
MOST_STEPS = 9  # a scale of so many answers has a bar for each


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear scale from ``low..high`` to ``start..end``."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[Tick, ...]

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def axis(values: Sequence[float], start: float, end: float, *, n_ticks: int = 4, zero: bool = False) -> Axis:
    """A scale that holds all values, with round ticks."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    if high <= low:
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / n_ticks)
    low, high = floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step
    decimals = max(0, -floor(log10(step)))
    scale = Axis(low, high, start, end, ())
    count = round((high - low) / step) + 1
    ticks = tuple(Tick(scale.at(low + at * step), f"{low + at * step:.{decimals}f}") for at in range(count))
    return Axis(low, high, start, end, ticks)


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten, so that a tick's label needs no digit more than the step."""
    power = 10.0 ** floor(log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def whiskers(lines: Sequence[dict[str, Any]], *, value: str, zero: bool = False) -> dict[str, Any]:
    """Dot-and-whisker marks on one common axis, a mark per line in the same order.

    lines: dicts with ``value``, "low" and "high"; None where unknown.
    """
    known = [line[name] for line in lines for name in (value, "low", "high") if line[name] is not None]
    scale = axis(known, WHISKER_PAD, WHISKER_WIDTH - WHISKER_PAD, zero=zero)
    marks = [
        {
            "x": scale.at(line[value]),
            "low": scale.at(line["low"] if line["low"] is not None else line[value]),
            "high": scale.at(line["high"] if line["high"] is not None else line[value]),
        }
        for line in lines
    ]
    return {"axis": scale, "marks": marks, "width": WHISKER_WIDTH}


def people_plot(reports: Sequence[PersonReport]) -> dict[str, Any] | None:
    """Everybody by bias and inconsistency; None for fewer than two people who have both."""
    known = [report for report in reports if report.bias is not None and report.inconsistency is not None]
    if len(known) < 2:
        return None
    x = axis([0.0, *(report.bias or 0.0 for report in known)], LEFT, PLOT_WIDTH - RIGHT)
    y = axis([report.inconsistency or 0.0 for report in known], PLOT_HEIGHT - BOTTOM, TOP, zero=True)
    marks = [
        {
            "x": x.at(report.bias or 0.0),
            "y": y.at(report.inconsistency or 0.0),
            "report": report,
            "kind": "out" if report.exclusion else "flagged" if report.flags else "fine",
        }
        for report in known
    ]
    return {
        "x": x, "y": y, "marks": marks, "zero": x.at(0.0), "width": PLOT_WIDTH, "height": PLOT_HEIGHT, "left": LEFT,
        "right": PLOT_WIDTH - RIGHT, "top": TOP, "bottom": PLOT_HEIGHT - BOTTOM, "tick_y": PLOT_HEIGHT - BOTTOM + 16,
        "label_y": PLOT_HEIGHT - 6, "middle": LEFT + (PLOT_WIDTH - LEFT - RIGHT) / 2,
    }  # fmt: skip


def answer_pictures(reports: Sequence[PersonReport], protocol: Protocol) -> dict[int, dict[str, Any]]:
    """By participation: ``strip``, the answers in turn, and ``bars``, how often each was given by this person and by
    everybody."""
    places = _places(reports, protocol)
    if not places:
        return {}
    n_bins = _n_bins(protocol, len(places))
    everybody = _shares(
        [_bin(places[said], n_bins) for report in reports for said in report.shown if said in places], n_bins
    )
    return {
        report.participation.pk: {
            "strip": _strip(report.shown, places),
            "bars": _bars([_bin(places[said], n_bins) for said in report.shown if said in places], everybody, n_bins),
        }
        for report in reports
        if report.shown
    }


def _places(reports: Sequence[PersonReport], protocol: Protocol) -> dict[str, float]:
    """Where each answer lies on the scale, 0 … 1; answers that are no numbers are spread evenly, by name."""
    said = sorted({answer for report in reports for answer in report.shown} - UNABLE)
    if isinstance(protocol, NumberProtocol):
        return {answer: (float(answer) - protocol.low) / (protocol.high - protocol.low) for answer in said}
    return {answer: at / max(1, len(said) - 1) for at, answer in enumerate(said)}


def _n_bins(protocol: Protocol, n_answers: int) -> int:
    if not isinstance(protocol, NumberProtocol):
        return n_answers
    steps = round((protocol.high - protocol.low) / protocol.step) + 1 if protocol.step else BINS
    return steps if steps <= MOST_STEPS else BINS


def _bin(place: float, n_bins: int) -> int:
    """Bins are centred on the answers where there is one for each, else equally wide."""
    return round(place * (n_bins - 1)) if n_bins < BINS else min(int(place * n_bins), n_bins - 1)


def _shares(bins: Sequence[int], n_bins: int) -> list[float]:
    counts = Counter(bins)
    return [counts[at] / max(1, len(bins)) for at in range(n_bins)]


def _strip(shown: Sequence[str], places: dict[str, float]) -> dict[str, Any]:
    recent = shown[-MOST_IN_STRIP:]
    step = (STRIP_WIDTH - 6) / max(1, len(recent) - 1)
    marks = [
        {
            "x": round(3 + at * step, 1),
            "y": round(STRIP_HEIGHT - 4 - places.get(said, 0) * (STRIP_HEIGHT - 8), 1),
            "unable": said not in places,
        }
        for at, said in enumerate(recent)
    ]
    return {"marks": marks, "width": STRIP_WIDTH, "height": STRIP_HEIGHT, "left_out": len(shown) - len(recent)}


def _bars(bins: Sequence[int], everybody: Sequence[float], n_bins: int) -> dict[str, Any]:
    own = _shares(bins, n_bins)
    tallest, width = max([*own, *everybody]) or 1, BARS_WIDTH / n_bins
    bars = [
        {
            "x": round(at * width + 1, 1),
            "end": round((at + 1) * width - 1, 1),
            "width": round(width - 2, 1),
            "height": round(own[at] / tallest * (BARS_HEIGHT - 2), 1),
            "y": round(BARS_HEIGHT - own[at] / tallest * (BARS_HEIGHT - 2), 1),
            "level": round(BARS_HEIGHT - everybody[at] / tallest * (BARS_HEIGHT - 2), 1),
        }
        for at in range(n_bins)
    ]
    return {"bars": bars, "width": BARS_WIDTH, "height": BARS_HEIGHT}
