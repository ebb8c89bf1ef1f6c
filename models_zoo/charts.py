"""Numbers and geometry of the zoo's charts, all of them computed here. Lengths are SVG user units."""

import math
from typing import Any

from models_zoo.adapters.spec import Preprocessing
from models_zoo.models import Scores, Task, Version, VersionKind
from models_zoo.presets import describe
from models_zoo.summaries import scale_words

CLASSES_SHOWN = 25
ROW = 24
LABEL, BAR, TAIL = 150, 360, 60
SIDE = 260  # of the square in which calibration is drawn
MARGIN_LEFT, MARGIN_TOP = 52, 14
MEMORY = {Task.CLASSIFICATION: "Memory, 8 images at once", Task.QUALITY: "Memory, one image"}
Z_95 = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share; (0, 1) without observations (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def scores_context(scores: Scores, names: list[str]) -> dict[str, Any]:
    """What the page of complete scores shows."""
    summary = scores.summary
    rows = _class_rows(summary, names)
    context: dict[str, Any] = {
        "classes": rows,
        "class_chart": _class_chart(rows[:CLASSES_SHOWN]),
        "n_classes_shown": min(CLASSES_SHOWN, len(rows)),
        "n_labelled": summary.get("n_labelled", 0),
        "n_correct": summary.get("n_correct", 0),
        "n_never": sum(row["predicted"] == 0 for row in rows),
        "calibration": _calibration(summary.get("bins")),
    }
    if context["n_labelled"]:
        context["interval"] = wilson(summary["n_correct"], summary["n_labelled"])
    return context


def _class_rows(summary: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    """Per class, most predicted first: name, how often predicted, and with labels how often right."""
    predicted = summary.get("predicted", [])
    labelled, correct = summary.get("labelled"), summary.get("correct")
    total = sum(predicted) or 1
    rows = []
    for index, count in enumerate(predicted):
        row = {"index": index, "name": names[index], "predicted": count, "share": count / total}
        if labelled is not None and correct is not None:
            row |= {
                "labelled": labelled[index],
                "correct": correct[index],
                "recall": correct[index] / labelled[index] if labelled[index] else None,
                "precision": correct[index] / count if count else None,
            }
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["predicted"], row["index"]))


def _class_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    top = max([row["predicted"] for row in rows] + [row.get("labelled", 0) for row in rows] + [1])
    step = _step(top)
    bars = [
        {
            **row,
            "y": number * ROW,
            "text_y": number * ROW + 15,
            "width": round(BAR * row["predicted"] / top, 1),
            "right_width": round(BAR * row.get("correct", 0) / top, 1),
            "mark": round(LABEL + BAR * row["labelled"] / top, 1) if "labelled" in row else None,
            "count_x": round(LABEL + BAR * max(row["predicted"], row.get("labelled", 0)) / top, 1) + 6,
            "short": row["name"] if len(row["name"]) <= 24 else row["name"][:23] + "…",
        }
        for number, row in enumerate(rows)
    ]
    height = len(rows) * ROW
    ticks = [{"x": round(LABEL + BAR * value / top, 1), "value": value} for value in range(0, top + 1, step)]
    return {
        "bars": bars,
        "ticks": ticks,
        "left": LABEL,
        "height": height,
        "full": height + 40,
        "width": LABEL + BAR + TAIL,
    }


def _step(top: int) -> int:
    """A round distance between about five ticks."""
    raw = max(1.0, top / 5)
    power = 10 ** math.floor(math.log10(raw))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw))


def _calibration(bins: dict[str, list[float]] | None) -> dict[str, Any] | None:
    """Share correct against confidence per tenth, with 95 % intervals; the expected calibration error
    (Guo et al., arXiv:1706.04599, eq. 3) over the labelled images."""
    if not bins or not sum(bins.get("labelled", [])):
        return None
    points, gap, total = [], 0.0, sum(bins["labelled"])
    for tenth, (n, confidence, labelled, correct) in enumerate(
        zip(bins["n"], bins["confidence"], bins["labelled"], bins["correct"], strict=True)
    ):
        if not labelled:
            continue
        mean, share = confidence / n, correct / labelled
        low, high = wilson(int(correct), int(labelled))
        gap += labelled / total * abs(share - mean)
        points.append(
            {
                "range": f"{tenth / 10:.1f} to {(tenth + 1) / 10:.1f}",
                "n": int(labelled),
                "confidence": mean,
                "share": share,
                "low": low,
                "high": high,
                "x": _across(mean),
                "y": _up(share),
                "y_low": _up(low),
                "y_high": _up(high),
                "radius": round(2.5 + 5 * math.sqrt(labelled / total), 1),
            }
        )
    ticks = [{"value": tick / 5, "x": _across(tick / 5), "y": _up(tick / 5)} for tick in range(6)]
    frame = {"left": MARGIN_LEFT, "right": MARGIN_LEFT + SIDE, "top": MARGIN_TOP, "bottom": MARGIN_TOP + SIDE}
    return {"points": points, "error": gap, "ticks": ticks, **frame}


def _across(value: float) -> float:
    return round(MARGIN_LEFT + SIDE * value, 1)


def _up(value: float) -> float:
    return round(MARGIN_TOP + SIDE * (1 - value), 1)


def compare_facts(first: Version, second: Version) -> list[dict[str, Any]]:
    """Lines of the comparison: what, both values, and whether they differ."""
    left, right = _facts(first), _facts(second)
    return [{"name": name, "pair": [left[name], right[name]], "differs": left[name] != right[name]} for name in left]


def _facts(version: Version) -> dict[str, str]:
    measured = {
        "Parameters": (version.parameters, "{:,}"),
        "MACs per image": (version.macs, "{:,}"),
        "CPU time per image": (version.milliseconds, "{:.2f} ms"),
        MEMORY[Task(version.model.task)]: (version.megabytes, "{:,.1f} MB"),
    }
    steps = input_steps(version)
    return {
        "Kind": version.get_kind_display(),
        "State": version.get_state_display(),
        **_meaning(version),
        "Architecture": version.architecture or "—",
        "Input": "; ".join(f"{what}: {how}" for what, how in steps) or "—",
        "Outputs": version.get_outputs_display() if steps else "—",
        **{name: "—" if value is None else shape.format(value) for name, (value, shape) in measured.items()},
        "Licence": version.model.licence or "not given",
        "File": f"{version.size_bytes / 2**20:,.2f} MB, sha256 {version.sha256[:12]}…" if version.file else "—",
    }


def input_steps(version: Version) -> list[tuple[str, str]]:
    """What happens to an image before the version sees it, as (what, how); a measure does the rest itself."""
    if version.kind in {VersionKind.PREDICTIONS, VersionKind.ENSEMBLE}:
        return []
    steps = describe(Preprocessing.from_dict(version.preprocessing))
    return [step for step in steps if step[0] == "Limit"] if version.kind == VersionKind.METRIC else steps


def _meaning(version: Version) -> dict[str, str]:
    """What its answers are: classes of a label space, or scores of a direction and a range."""
    model = version.model
    if model.task == Task.CLASSIFICATION:
        return {"Label space": str(model.taxonomy)}
    return {
        "Direction": "higher is better" if model.higher_is_better else "lower is better",
        "Range": scale_words(model.score_low, model.score_high),
    }
