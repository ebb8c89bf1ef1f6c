"""Geometry of a competition's plots, computed on the server and drawn as inline SVG. Lengths are SVG user units.

Every plot has a table behind it, with the same numbers.
"""

from collections.abc import Sequence
from typing import Any

from labeling.charts import Axis, Tick, axis

WHISKER_WIDTH, WHISKER_PAD = 260.0, 8.0
PLOT_WIDTH, PLOT_HEIGHT = 520.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 16.0, 12.0, 40.0
SCATTER_WIDTH, SCATTER_HEIGHT = 560.0, 420.0
LABEL_WIDTH, LABEL_HEIGHT = 6.4, 14.0  # a letter of a label, and the room a label takes
PREFERENCE_WIDTH, PREFERENCE_PAD = 200.0, 8.0
BUMP_RIGHT = 150.0  # room for the names at the end of the lines
SERIES_COLOURS = 8  # --series-1 … --series-8 in falsify.css


def whiskers(lines: Sequence[dict[str, Any]], *, value: str, zero: bool = True) -> dict[str, Any]:
    """Dot-and-whisker marks on one common axis, a mark per line in the same order.

    lines: dicts with ``value``, "low" and "high"; None where unknown.
    """
    known = [line[name] for line in lines for name in (value, "low", "high") if line[name] is not None]
    scale = axis(known, WHISKER_PAD, WHISKER_WIDTH - WHISKER_PAD, zero=zero)
    marks = [
        None if line[value] is None else {
            "x": scale.at(line[value]),
            "low": scale.at(line["low"] if line["low"] is not None else line[value]),
            "high": scale.at(line["high"] if line["high"] is not None else line[value]),
        }
        for line in lines
    ]  # fmt: skip
    return {"axis": scale, "marks": marks, "width": WHISKER_WIDTH}


def k_curve_plot(curve: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Spearman correlation with the full ranking against k; None for fewer than two points."""
    points = [point for point in curve if point["spearman"] is not None]
    if len(points) < 2:
        return None
    x = axis([float(point["k"]) for point in points], LEFT, PLOT_WIDTH - RIGHT, zero=True)
    y = axis([*(point["spearman"] for point in points), 1.0], PLOT_HEIGHT - BOTTOM, TOP)
    marks = [
        {"x": x.at(point["k"]), "y": y.at(point["spearman"]), "k": point["k"], "value": point["spearman"]}
        for point in points
    ]
    return {"x": x, "y": y, "marks": marks, "line": _polyline(marks), **_frame()}


def rank_plot(curve: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any] | None:
    """Each entrant's rank against k, one line per entrant, named at its right end; None for fewer than two points."""
    if len(curve) < 2:
        return None
    right = PLOT_WIDTH - BUMP_RIGHT
    x = axis([float(point["k"]) for point in curve], LEFT, right, zero=True)
    y = Axis(1, max(2, len(names)), TOP + 6, PLOT_HEIGHT - BOTTOM, ())
    ticks = tuple(Tick(y.at(rank), str(rank)) for rank in range(1, len(names) + 1))
    lines = []
    for at, name in enumerate(names):
        marks = [{"x": x.at(point["k"]), "y": y.at(point["ranks"][at])} for point in curve]
        lines.append(
            {
                "name": name,
                "series": at % SERIES_COLOURS + 1,
                "marks": marks,
                "line": _polyline(marks),
                "end": marks[-1],
            }
        )
    return {
        "x": x,
        "y": Axis(y.low, y.high, y.start, y.end, ticks),
        "lines": _spread(lines),
        "right": right,
        **_frame(),
    }


def rounds_plot(series: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Values with 95 % intervals over rounds, a line per series; None without a point.

    series: dicts with "name" and "points": dicts with "round", "value", "low", "high" (None where unknown).
    """
    points = [point for each in series for point in each["points"]]
    if not points:
        return None
    rounds = sorted({point["round"] for point in points})
    x = Axis(rounds[0] - 0.5, rounds[-1] + 0.5, LEFT, PLOT_WIDTH - RIGHT, ())
    known = [point[name] for point in points for name in ("value", "low", "high") if point[name] is not None]
    y = axis(known, PLOT_HEIGHT - BOTTOM, TOP)
    lines = []
    for at, each in enumerate(series):
        aside = 6.0 * (at - (len(series) - 1) / 2)  # so that intervals of one round do not hide each other
        marks = [
            {
                "x": round(x.at(point["round"]) + aside, 2),
                "y": y.at(point["value"]),
                "low": y.at(point["value"] if point["low"] is None else point["low"]),
                "high": y.at(point["value"] if point["high"] is None else point["high"]),
                **{name: point[name] for name in ("round", "value")},
            }
            for point in each["points"]
        ]
        lines.append(
            {"name": each["name"], "series": at % SERIES_COLOURS + 1, "marks": marks, "line": _polyline(marks)}
        )
    ticks = tuple(Tick(x.at(number), str(number)) for number in rounds)
    return {"x": Axis(x.low, x.high, x.start, x.end, ticks), "y": y, "lines": lines, **_frame()}


def scatter(points: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Points with interval crosses on two measures; None for fewer than two.

    points: dicts with "name", "x", "x_low", "x_high", "y", "y_low", "y_high".
    """
    if len(points) < 2:
        return None
    right, bottom = SCATTER_WIDTH - RIGHT, SCATTER_HEIGHT - BOTTOM
    x = axis([point[name] for point in points for name in ("x", "x_low", "x_high")], LEFT, right)
    y = axis([point[name] for point in points for name in ("y", "y_low", "y_high")], bottom, TOP)
    marks = [
        {
            "name": point["name"],
            "series": at % SERIES_COLOURS + 1,
            **{name: x.at(point[name]) for name in ("x", "x_low", "x_high")},
            **{name: y.at(point[name]) for name in ("y", "y_low", "y_high")},
        }
        for at, point in enumerate(points)
    ]
    return {
        "x": x, "y": y, "marks": _labelled(marks, right), "width": SCATTER_WIDTH, "height": SCATTER_HEIGHT,
        "left": LEFT, "right_edge": right, "top": TOP, "bottom": bottom, "tick_y": bottom + 16,
        "x_label_y": SCATTER_HEIGHT - 6, "middle": (LEFT + right) / 2, "centre": (TOP + bottom) / 2,
        "zero_x": x.at(0.0) if x.low < 0 < x.high else None, "zero_y": y.at(0.0) if y.low < 0 < y.high else None,
    }  # fmt: skip


def _labelled(marks: list[dict[str, Any]], right: float) -> list[dict[str, Any]]:
    """Labels beside their points, on the left where the right has no room, moved down past those already there."""
    taken: list[tuple[float, float, float]] = []
    for mark in sorted(marks, key=lambda each: each["y"]):
        width = LABEL_WIDTH * len(mark["name"])
        is_left = mark["x"] + 8 + width > right
        start = mark["x"] - 8 - width if is_left else mark["x"] + 8
        at = mark["y"] - 6
        for low, high, line in sorted(taken, key=lambda each: each[2]):
            if low < start + width and start < high and abs(line - at) < LABEL_HEIGHT:
                at = line + LABEL_HEIGHT
        taken.append((start, start + width, at))
        mark |= {"label_x": mark["x"] + (-8 if is_left else 8), "label_y": round(at, 2),
                 "anchor": "end" if is_left else "start"}  # fmt: skip
    return marks


def preference(mean: float | None, low: float | None, high: float | None, zone: float) -> dict[str, Any]:
    """A preference from -100 to 100 with its interval; within ``zone`` of 0 people prefer neither."""
    scale = Axis(-100.0, 100.0, PREFERENCE_PAD, PREFERENCE_WIDTH - PREFERENCE_PAD, ())
    return {
        "width": PREFERENCE_WIDTH,
        "start": scale.start,
        "end": scale.end,
        "zero": scale.at(0.0),
        "zone": scale.at(-zone),
        "zone_width": round(scale.at(zone) - scale.at(-zone), 2),
        "x": None if mean is None else scale.at(mean),
        "low": None if low is None else scale.at(max(-100.0, low)),
        "high": None if high is None else scale.at(min(100.0, high)),
    }


def preference_at(value: float) -> float:
    """Where a preference stands on the bar of ``preference``."""
    return Axis(-100.0, 100.0, PREFERENCE_PAD, PREFERENCE_WIDTH - PREFERENCE_PAD, ()).at(value)


def _spread(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names at the right end, moved apart where ranks are equal."""
    last = float("-inf")
    for line in sorted(lines, key=lambda each: each["end"]["y"]):
        line["label_y"] = max(line["end"]["y"], last + 13)
        last = line["label_y"]
    return lines


def _polyline(marks: Sequence[dict[str, float]]) -> str:
    return " ".join(f"{mark['x']},{mark['y']}" for mark in marks)


def _frame() -> dict[str, float]:
    return {
        "width": PLOT_WIDTH, "height": PLOT_HEIGHT, "left": LEFT, "right_edge": PLOT_WIDTH - RIGHT, "top": TOP,
        "bottom": PLOT_HEIGHT - BOTTOM, "x_label_y": PLOT_HEIGHT - 6, "tick_y": PLOT_HEIGHT - BOTTOM + 16,
        "middle": LEFT + (PLOT_WIDTH - LEFT - RIGHT) / 2,
    }  # fmt: skip
