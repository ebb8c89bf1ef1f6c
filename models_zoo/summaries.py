"""What a page says about a million scores, counted once when scoring ends."""

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 10
SCORE_BINS = 40
OPINION_BINS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
REASONS_KEPT = 20
BLOCK = 2**20


def scale_words(low: float | None, high: float | None) -> str:
    """The range of scores as the card has it: "0 to 100", "from 0", "up to 1" or "open"."""
    if low is None and high is None:
        return "open"
    if low is None:
        return f"up to {high:g}"
    return f"from {low:g}" if high is None else f"{low:g} to {high:g}"


def scores_summarise(
    classes: np.ndarray, confidences: np.ndarray | None, labels: np.ndarray | None, n_classes: int
) -> dict[str, Any]:
    """Count predictions per class and per tenth of confidence, streaming.

    Args:
        classes: (n,) class indices; values ``>= n_classes`` are rows without a score.
        confidences: (n,) in 0..1, or None.
        labels: (n,) true class indices, negative where unknown, or None where the corpus has none.

    Returns:
        JSON-ready: ``n_missing``; per class ``predicted`` and, with labels, ``labelled``, ``correct``; with labels also
        ``n_labelled``, ``n_correct``; with confidences ``bins``: per tenth of confidence ``n``, ``confidence`` (sum)
        and with labels ``labelled``, ``correct``.
    """
    totals: dict[str, np.ndarray] = {}
    for start in range(0, len(classes), BLOCK):
        part = slice(start, start + BLOCK)
        counts = _count(
            np.asarray(classes[part]).astype(np.int64),
            None if confidences is None else np.asarray(confidences[part], dtype=np.float64),
            None if labels is None else np.asarray(labels[part]).astype(np.int64),
            n_classes,
        )
        for name, values in counts.items():
            totals[name] = totals[name] + values if name in totals else values
    return _as_json(totals, len(classes))


def _count(
    classes: np.ndarray, confidences: np.ndarray | None, labels: np.ndarray | None, n_classes: int
) -> dict[str, np.ndarray]:
    scored = classes < n_classes
    counts = {"predicted": np.bincount(classes[scored], minlength=n_classes)}
    labelled = np.zeros_like(scored) if labels is None else (labels >= 0) & (labels < n_classes)
    hit = np.zeros_like(scored) if labels is None else labelled & (classes == labels)
    if labels is not None:
        counts["labelled"] = np.bincount(labels[labelled], minlength=n_classes)
        counts["correct"] = np.bincount(labels[hit], minlength=n_classes)
    if confidences is not None:
        tenth = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
        counts["bin_n"] = np.bincount(tenth[scored], minlength=BINS)
        counts["bin_confidence"] = np.bincount(tenth[scored], weights=confidences[scored], minlength=BINS)
        if labels is not None:
            counts["bin_labelled"] = np.bincount(tenth[scored & labelled], minlength=BINS)
            counts["bin_correct"] = np.bincount(tenth[hit], minlength=BINS)
    return counts


def _as_json(totals: dict[str, np.ndarray], n_rows: int) -> dict[str, Any]:
    plain = {name: values.tolist() for name, values in totals.items()}
    predicted = sum(plain.get("predicted", []))
    summary: dict[str, Any] = {"n_missing": n_rows - predicted}
    summary.update({name: values for name, values in plain.items() if not name.startswith("bin_")})
    if "labelled" in plain:
        summary |= {"n_labelled": sum(plain["labelled"]), "n_correct": sum(plain["correct"])}
    if "bin_n" in plain:
        summary["bins"] = {
            name.removeprefix("bin_"): values for name, values in plain.items() if name.startswith("bin_")
        }
    return summary


def quality_summarise(values: np.ndarray, *, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """Range, quantiles and histogram of quality scores.

    Args:
        values: (n,) float32, NaN where a row has no score.
        low, high: the ends of the scale as the card has them; scores beyond are counted.

    Returns:
        JSON-ready: ``n_missing``, ``n_scored``; with scores also ``low``, ``high``, ``mean``, ``std``, ``quantiles``
        (5, 25, 50, 75 and 95 %), ``histogram`` (counts of equal bins from low to high) and ``n_outside``.
    """
    scored = np.asarray(values)[~np.isnan(values)]
    summary: dict[str, Any] = {"n_missing": len(values) - len(scored), "n_scored": len(scored)}
    if not len(scored):
        return summary
    least, most = float(scored.min()), float(scored.max())
    outside = np.zeros(len(scored), bool)
    if low is not None:
        outside |= scored < np.float32(low)
    if high is not None:
        outside |= scored > np.float32(high)
    return summary | {
        "low": least,
        "high": most,
        "mean": float(scored.mean(dtype=np.float64)),
        "std": float(scored.std(dtype=np.float64)),
        "quantiles": [float(value) for value in np.quantile(scored, QUANTILES)],
        "histogram": _histogram(scored, least, most).tolist(),
        "n_outside": int(outside.sum()),
    }


def opinion_summarise(
    oriented: np.ndarray, mos: npt.NDArray[np.float64], low: float, high: float
) -> tuple[float | None, float | None, dict[str, Any]]:
    """How quality scores agree with people's.

    Args:
        oriented: (n,) scores of the rows that were rated, higher = better, NaN where a row has none.
        mos: (n,) mean opinion scores of the same rows; ``low``, ``high``: the ends of their scale.

    Returns:
        Spearman's rank correlation and Kendall's tau-b, None with fewer than three scored rows or where all scores are
        equal; and JSON-ready ``n``, ``score_low``, ``score_high``, ``mos_low``, ``mos_high`` and ``grid``: counts by
        MOS bin (rows, from low) and score bin (columns, from low).
    """
    from scipy.stats import kendalltau, spearmanr

    scored = ~np.isnan(oriented)
    x, y = np.asarray(oriented[scored], np.float64), mos[scored]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, None, {"n": len(x)}
    grid, _, _ = np.histogram2d(y, x, bins=OPINION_BINS, range=((low, high), (x.min(), x.max())))
    facts = {
        "n": len(x),
        "score_low": float(x.min()),
        "score_high": float(x.max()),
        "mos_low": low,
        "mos_high": high,
        "grid": grid.astype(int).tolist(),
    }
    return float(spearmanr(x, y).statistic), float(kendalltau(x, y).statistic), facts


def _histogram(scored: np.ndarray, low: float, high: float) -> np.ndarray:
    """Counts of equal bins; all in the first where there is no range."""
    counts = np.zeros(SCORE_BINS, np.int64)
    width = (high - low) / SCORE_BINS
    for start in range(0, len(scored), BLOCK):
        part = scored[start : start + BLOCK].astype(np.float64)
        index = np.zeros(len(part), np.int64) if width == 0 else ((part - low) / width).astype(np.int64)
        counts += np.bincount(np.clip(index, 0, SCORE_BINS - 1), minlength=SCORE_BINS)
    return counts
