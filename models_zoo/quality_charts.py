"""Numbers and geometry of the charts of quality scores, all computed here. Lengths are SVG user units."""

import math
from typing import Any

from models_zoo.models import Scores

LEFT, TOP = 52, 14
WIDTH, HEIGHT = 480, 200
SQUARE = 260
TICKS = 5


def scores_context(scores: Scores) -> dict[str, Any]:
    """What the page of complete quality scores shows."""
    summary = scores.summary
    return {
        "is_quality": True,
        "summary": summary,
        "histogram": _histogram(summary) if summary.get("histogram") else None,
        "quantiles": list(zip((5, 25, 50, 75, 95), summary.get("quantiles", []), strict=False)),
        "problems": summary.get("problems", []),
        "n_more_reasons": summary.get("n_reasons", 0) - len(summary.get("problems", [])),
        "agreement": _agreement(summary.get("opinions"), scores.version.model.higher_is_better),
    }


def round_ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    if high <= low:
        return [low]
    raw = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _histogram(summary: dict[str, Any]) -> dict[str, Any]:
    """Bars of equal width from the lowest to the highest score, and the median."""
    counts, low, high = summary["histogram"], summary["low"], summary["high"]
    if high == low:
        counts = [summary["n_scored"]]
    top, width = max(counts) or 1, WIDTH / len(counts)
    edge = (high - low) / len(counts)
    bars = [
        {
            "x": round(LEFT + index * width + 0.5, 1),
            "y": round(TOP + HEIGHT * (1 - n / top), 1),
            "width": round(max(width - 1, 1), 1),
            "height": round(HEIGHT * n / top, 1),
            "n": n,
            "low": f"{low + index * edge:.4g}",
            "high": f"{low + (index + 1) * edge:.4g}",
        }
        for index, n in enumerate(counts)
    ]
    span = (high - low) or 1.0
    return {
        "bars": bars,
        "x_ticks": [
            {"x": round(LEFT + WIDTH * (tick - low) / span, 1), "text": f"{tick:g}"} for tick in round_ticks(low, high)
        ],
        "y_ticks": [
            {"y": round(TOP + HEIGHT * (1 - tick / top), 1), "text": f"{tick:,.0f}"}
            for tick in round_ticks(0, top)
            if tick == int(tick)
        ],
        "median": round(LEFT + WIDTH * (summary["quantiles"][2] - low) / span, 1),
        **_frame(WIDTH, HEIGHT),
    }


def _agreement(facts: dict[str, Any] | None, higher_is_better: bool) -> dict[str, Any] | None:
    """The grid of counts by score (across, better to the right) and opinion (upwards); None without three of them."""
    if not facts or "grid" not in facts:
        return None
    grid = facts["grid"]
    side = SQUARE / len(grid)
    most = max(max(row) for row in grid)
    cells = [
        {
            "x": round(LEFT + column * side, 1),
            "y": round(TOP + SQUARE - (row + 1) * side, 1),
            "opacity": round(0.15 + 0.85 * math.sqrt(n / most), 2),
            "n": n,
        }
        for row, counts in enumerate(grid)
        for column, n in enumerate(counts)
        if n
    ]
    sign = 1 if higher_is_better else -1
    low, high = facts["score_low"], facts["score_high"]
    x_ticks = [
        {"x": round(LEFT + SQUARE * (tick - low) / (high - low), 1), "text": f"{sign * tick:g}"}
        for tick in round_ticks(low, high)
    ]
    y_ticks = [
        {"y": round(TOP + SQUARE * (1 - (tick - facts["mos_low"]) / (facts["mos_high"] - facts["mos_low"])), 1),
         "text": f"{tick:g}"}
        for tick in round_ticks(facts["mos_low"], facts["mos_high"])
    ]  # fmt: skip
    return {
        "n": facts["n"],
        "cells": cells,
        "side": round(side + 0.2, 1),
        "most": most,
        "x_ticks": x_ticks,
        "y_ticks": y_ticks,
        "reversed": not higher_is_better,
        **_frame(SQUARE, SQUARE),
    }


def _frame(width: float, height: float) -> dict[str, float]:
    return {
        "left": LEFT,
        "top": TOP,
        "right": LEFT + width,
        "bottom": TOP + height,
        "full_width": LEFT + width + 18,
        "full_height": TOP + height + 44,
    }
