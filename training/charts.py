"""The scatter of a comparison: geometry computed on the server, drawn as inline SVG, beside a table of its numbers."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

from labeling.charts import Axis, Tick, axis
from training.comparing import Line, Measure, Value, written

WIDTH, HEIGHT = 760.0, 440.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 14.0, 46.0
COLOURS = 8  # --series-1 … --series-8 in falsify.css
LOG_FROM = 8.0  # a scale whose ends differ by more is logarithmic
LABELS = ("circle", "square", "triangle", "diamond")


def scatter(lines: Sequence[Line], x: Measure, y: Measure) -> dict[str, Any] | None:
    """Two measures against each other, a colour and a shape per method, numbered as the table is; None where no line
    has both."""
    known = [(number, line) for number, line in enumerate(lines, 1) if x.name in line.values and y.name in line.values]
    if not known:
        return None
    across = _axis(x, [line.values[x.name] for _, line in known], LEFT, WIDTH - RIGHT)
    up = _axis(y, [line.values[y.name] for _, line in known], HEIGHT - BOTTOM, TOP)
    methods = list(dict.fromkeys(line.method for line in lines))
    marks = [
        {
            "number": number,
            "title": f"{number}. {line.name}: {_said(x, line)}, {_said(y, line)}",
            "series": methods.index(line.method) % COLOURS + 1,
            "shape": LABELS[methods.index(line.method) % len(LABELS)],
            **_place("x", across, line.values[x.name]),
            **_place("y", up, line.values[y.name]),
        }
        for number, line in known
    ]
    legend = [
        {"name": name, "series": at % COLOURS + 1, "shape": LABELS[at % len(LABELS)]} for at, name in enumerate(methods)
    ]
    return {
        "x": across, "y": up, "marks": marks, "legend": legend, "width": WIDTH, "height": HEIGHT, "left": LEFT,
        "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM, "tick_y": HEIGHT - BOTTOM + 16,
        "label_y": HEIGHT - 6, "middle": (LEFT + WIDTH - RIGHT) / 2, "centre": (TOP + HEIGHT - BOTTOM) / 2,
        "n_without": len(lines) - len(known),
    }  # fmt: skip


class LogAxis(Axis):
    """A logarithmic scale; ``low`` and ``high`` are above 0."""

    def at(self, value: float) -> float:
        share = (log10(max(value, self.low)) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return round(self.start + share * (self.end - self.start), 2)


def _axis(measure: Measure, values: Sequence[Value], start: float, end: float) -> Axis:
    every = [part for value in values for part in (value.value, value.low, value.high) if part is not None]
    low, high = min(every), max(every)
    if measure.kind != "share" and low > 0 and high > LOG_FROM * low:
        return _log_axis(measure, low / 1.15, high * 1.15, start, end)
    plain = axis(every, start, end)
    span = plain.high - plain.low
    values_at = [plain.low + (tick.at - start) / (end - start) * span for tick in plain.ticks]
    ticks = tuple(
        Tick(tick.at, written(measure, round(at, 9))) for tick, at in zip(plain.ticks, values_at, strict=True)
    )
    return Axis(plain.low, plain.high, start, end, ticks)


def _log_axis(measure: Measure, low: float, high: float, start: float, end: float) -> Axis:
    scale = LogAxis(low, high, start, end, ())
    powers = [10.0**power for power in range(floor(log10(low)), ceil(log10(high)) + 1)]
    fine = [factor * power for power in powers for factor in (1, 2, 5)]
    inside = [value for value in (fine if high < 1000 * low else powers) if low <= value <= high]
    return LogAxis(low, high, start, end, tuple(Tick(scale.at(value), written(measure, value)) for value in inside))


def _place(name: str, scale: Axis, value: Value) -> dict[str, float]:
    return {
        name: scale.at(value.value),
        f"{name}_low": scale.at(value.value if value.low is None else value.low),
        f"{name}_high": scale.at(value.value if value.high is None else value.high),
    }


def _said(measure: Measure, line: Line) -> str:
    return f"{measure.title.lower()} {written(measure, line.values[measure.name].value)}"
