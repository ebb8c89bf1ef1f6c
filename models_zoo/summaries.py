"""What a page says about a million scores, counted once when scoring ends."""

from typing import Any

import numpy as np

BINS = 10
BLOCK = 2**20


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
