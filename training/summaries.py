"""What an edition of a labelled set holds, as its page shows it: counts, contents, the spread of its labels.

Editions never change, so a summary is computed once and kept in the cache under the edition's digest.
"""

from collections import Counter
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.core.cache import cache

from accounts.errors import DomainError
from labeling.charts import BOTTOM, LEFT, PLOT_HEIGHT, PLOT_WIDTH, RIGHT, TOP, axis
from training.engine.labels import SPLITS
from training.models import Edition

BINS = 20
CLASSES_SHOWN = 40
COLUMNS = ["split", "group", "mos", "label", "std", "n"]


def edition_summary(edition: Edition) -> dict[str, Any]:
    """Of each split: rows, groups, labels by bin (``mos``) or by class (``label``); groups in several splits.

    Raises:
        DomainError: when the edition's file has gone.
    """
    key = f"training.edition:{edition.digest}"
    found = cache.get(key)
    if found is None:
        found = _summary(edition)
        cache.set(key, found, None)
    return cast("dict[str, Any]", found)


def _summary(edition: Edition) -> dict[str, Any]:
    try:
        table = pq.read_table(edition.path, columns=COLUMNS)
    except (OSError, pa.ArrowException) as error:
        raise DomainError(f'The file of "{edition}" cannot be read: {error}') from error
    parts = {split: table.filter(pc.equal(table["split"], split)) for split in SPLITS}
    groups = {split: set(part["group"].unique().to_pylist()) for split, part in parts.items()}
    every = Counter(name for names in groups.values() for name in names)
    is_quality = table["mos"].null_count < len(table)
    edges = np.linspace(0.0, 100.0, BINS + 1)
    return {
        "splits": [{"name": split, "rows": len(part), "groups": len(groups[split])} for split, part in parts.items()],
        "n_groups": len(every),
        "leaking": sum(count > 1 for count in every.values()),
        "is_quality": is_quality,
        "histogram": {split: _histogram(part, edges) for split, part in parts.items()} if is_quality else {},
        "classes": {} if is_quality else {split: _classes(part) for split, part in parts.items()},
        "ratings": _ratings(table) if is_quality else None,
    }


def _histogram(part: pa.Table, edges: np.ndarray) -> list[int]:
    values = part["mos"].drop_null().to_numpy()
    return [int(count) for count in np.histogram(values, edges)[0]]


def _classes(part: pa.Table) -> dict[int, int]:
    counts = pc.value_counts(part["label"].combine_chunks())
    return {entry["values"]: entry["counts"] for entry in counts.to_pylist() if entry["values"] is not None}


def _ratings(table: pa.Table) -> dict[str, Any]:
    """How many ratings a label rests on, and how far they were apart."""
    n, std = table["n"].drop_null().to_numpy(), table["std"].drop_null().to_numpy()
    return {
        "n": float(np.median(n)) if len(n) else None,
        "std": float(np.median(std[std > 0])) if (std > 0).any() else None,
        "n_pseudo": int((std == 0).sum()),
    }


def mos_plot(summary: dict[str, Any]) -> dict[str, Any]:
    """The histogram of opinion scores as stacked bars, a colour per split."""
    counts = summary["histogram"]
    totals = [sum(counts[split][at] for split in SPLITS) for at in range(BINS)]
    x = axis([0.0, 100.0], LEFT, PLOT_WIDTH - RIGHT)
    y = axis([0.0, float(max(totals))], PLOT_HEIGHT - BOTTOM, TOP, zero=True)
    bars = []
    for at in range(BINS):
        low, high, below = at * 100 / BINS, (at + 1) * 100 / BINS, 0
        for series, split in enumerate(SPLITS, 1):
            n = counts[split][at]
            if n:
                top = y.at(below + n)
                bars.append(
                    {
                        "x": x.at(low) + 0.5, "width": round(x.at(high) - x.at(low) - 1, 2), "y": top,
                        "height": round(y.at(below) - top, 2), "series": series,
                        "title": f"{split}, {low:g} to {high:g}: {n:,}",
                    }
                )  # fmt: skip
            below += n
    lines = [
        {"low": at * 100 / BINS, "high": (at + 1) * 100 / BINS, "counts": [counts[split][at] for split in SPLITS],
         "total": totals[at]}
        for at in range(BINS) if totals[at]
    ]  # fmt: skip
    return {
        "x": x, "y": y, "bars": bars, "lines": lines, "width": PLOT_WIDTH, "height": PLOT_HEIGHT, "left": LEFT,
        "right": PLOT_WIDTH - RIGHT, "bottom": PLOT_HEIGHT - BOTTOM, "tick_y": PLOT_HEIGHT - BOTTOM + 16,
        "label_y": PLOT_HEIGHT - 6,
    }  # fmt: skip


def class_lines(summary: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    """Rows by class, most frequent first, with a bar of each split's share."""
    counts = summary["classes"]
    total: Counter[int] = Counter()
    for split in SPLITS:
        total.update(counts[split])
    most = max(total.values(), default=1)
    return [
        {
            "name": names[index] if index < len(names) else str(index),
            "total": n,
            "counts": [counts[split].get(index, 0) for split in SPLITS],
            "widths": [round(100 * counts[split].get(index, 0) / most, 2) for split in SPLITS],
        }
        for index, n in total.most_common()
    ]
