"""MAD selection against the obvious numpy ways: all 55 pairs of eleven models, in one run, with equal results.

    python -m benchmarks.bench_selection                  # one and ten million rows; writes docs/benchmarks.md
    python -m benchmarks.bench_selection --rows 1e5 --dry # fewer, and only prints

Models are correlated as real ones are: a row has a truth and a difficulty; a model that misses says a class near to the
truth in the ImageNet hierarchy, often the same one as the other models, sometimes any class. Seconds are CPU seconds of
this process. The numpy ways get the distance matrix for nothing, break ties only as deep as the walk over the caps
gets, and hold one pair at a time; the third is what one arrives at after thinking about it.
"""

import argparse
import gc
import resource
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from benchmarks.report import markdown_table, write_section
from competition.selection.mad import PairSelection, select
from corpora.taxonomy import LevelTable, distance_matrix, imagenet1k
from corpora.taxonomy.distances import levels_of

MODELS = 11
WANTED = 60  # k and reserve, 30 each
THRESHOLD = np.float16(0.8)
CAP = 3
NEIGHBOURS = 50

Columns = list[np.ndarray]


def synthetic_models(n_rows: int, distances: np.ndarray, seed: int = 0) -> tuple[Columns, Columns]:
    """Per model (n_rows,) uint16 classes and float16 confidences."""
    rng = np.random.default_rng(seed)
    n_classes = len(distances)
    shuffled = distances + rng.random(distances.shape) * 1e-9
    near = np.argsort(shuffled, axis=1)[:, 1 : NEIGHBOURS + 1].astype(np.uint16)
    truth = rng.integers(0, n_classes, n_rows).astype(np.uint16)
    difficulty = rng.random(n_rows, np.float32)
    decoy = near[truth, rng.integers(0, NEIGHBOURS, n_rows)]
    classes, confidences = [], []
    for model in range(MODELS):
        wrong = 0.7 * difficulty + 0.3 * rng.random(n_rows, np.float32) > 0.55 + 0.02 * model
        own = near[truth, rng.integers(0, NEIGHBOURS, n_rows)]
        missed = np.where(rng.random(n_rows, np.float32) < 0.5, decoy, own)
        anything = rng.random(n_rows, np.float32) < 0.15
        missed[anything] = rng.integers(0, n_classes, int(anything.sum()))
        classes.append(np.where(wrong, missed, truth))
        sure = np.where(wrong, rng.beta(2, 2, n_rows), rng.beta(5, 1.2, n_rows))
        confidences.append(sure.astype(np.float16))
    return classes, confidences


def gather_argsort(a: np.ndarray, b: np.ndarray, p: np.ndarray, q: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The distance of every row, those that do not count put last, a full sort."""
    distance = distances[a, b]
    distance[(p < THRESHOLD) | (q < THRESHOLD)] = 0
    order = np.argsort(-distance)
    return _walk_levels(order[: np.count_nonzero(distance)], distance, np.minimum(p, q), a, b)


def gather_argpartition(
    a: np.ndarray, b: np.ndarray, p: np.ndarray, q: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    """The same, but only what reaches a certain place is sorted; more of it where the caps turn out to need more."""
    distance = distances[a, b]
    distance[(p < THRESHOLD) | (q < THRESHOLD)] = 0
    n_candidates = np.count_nonzero(distance)
    reach = 16 * WANTED
    while True:
        reach = min(reach, n_candidates)
        least = distance[np.argpartition(-distance, reach - 1)[reach - 1]]
        top = np.flatnonzero(distance >= least)
        accepted = _walk_levels(top[np.argsort(-distance[top])], distance, np.minimum(p, q), a, b)
        if len(accepted) == WANTED or reach == n_candidates:
            return accepted
        reach *= 4


def filter_gather_argsort(
    a: np.ndarray, b: np.ndarray, p: np.ndarray, q: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    """Filter first, and look up and sort only what is left."""
    rows = np.flatnonzero((a != b) & (p >= THRESHOLD) & (q >= THRESHOLD))
    a, b = a[rows], b[rows]
    distance = distances[a, b]
    return rows[_walk_levels(np.argsort(-distance), distance, np.minimum(p[rows], q[rows]), a, b)]


def _walk_levels(
    order: np.ndarray, distance: np.ndarray, smaller: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """Break the ties of as many distances as the walk over the caps needs."""
    ordered = distance[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) + 1
    reached, start = 4 * WANTED, 0
    while True:
        start = min(len(ends) - 1, int(np.searchsorted(ends, reached)))
        top = order[: ends[start]]
        top = top[np.lexsort((top, -smaller[top], -distance[top]))]
        accepted = _walk(top, a, b)
        if len(accepted) == WANTED or ends[start] == len(order):
            return accepted
        reached *= 4


def _walk(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    used_a: dict[int, int] = {}
    used_b: dict[int, int] = {}
    labels: set[tuple[int, int]] = set()
    accepted: list[int] = []
    for row, x, y in zip(rows.tolist(), a[rows].tolist(), b[rows].tolist(), strict=True):
        label = (min(x, y), max(x, y))
        if used_a.get(x, 0) >= CAP or used_b.get(y, 0) >= CAP or label in labels:
            continue
        used_a[x] = used_a.get(x, 0) + 1
        used_b[y] = used_b.get(y, 0) + 1
        labels.add(label)
        accepted.append(row)
        if len(accepted) == WANTED:
            break
    return np.array(accepted, np.int64)


WAYS = {
    "numpy: gather, argsort": gather_argsort,
    "numpy: gather, argpartition": gather_argpartition,
    "numpy: filter, gather, argsort": filter_gather_argsort,
}


def all_pairs(way: str, classes: Columns, confidences: Columns, distances: np.ndarray) -> list[np.ndarray]:
    return [
        WAYS[way](classes[i], classes[j], confidences[i], confidences[j], distances)
        for i, j in combinations(range(MODELS), 2)
    ]


def cpu_seconds(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The fastest of several runs, and what it returned."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def extra_megabytes(work: Callable[[], Any]) -> float:
    """Peak of what numpy and Python allocate during `work`, beyond what was there."""
    gc.collect()
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def measure(n_rows: int, distances: np.ndarray, levels: LevelTable, repeats: int) -> list[list[str]]:
    """The lines of the table for one number of rows. Raises SystemExit if the three ways do not agree."""
    classes, confidences = synthetic_models(n_rows, distances)
    select([column[:100] for column in classes], [column[:100] for column in confidences], levels)  # compile

    def ours() -> list[PairSelection]:
        return select(classes, confidences, levels)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, selections = cpu_seconds(ours, repeats)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    confident = sum(some.counts.confident for some in selections) / len(selections)
    print(f"{n_rows:,} rows: {confident:,.0f} confident disagreements a pair; resident memory grew by {grown:.1f} MB")
    lines = []
    for way in WAYS:
        work = partial(all_pairs, way, classes, confidences, distances)
        spent, rows = cpu_seconds(work, 1)
        for some, expected in zip(selections, rows, strict=True):
            if some.rows.tolist() != expected.tolist():
                raise SystemExit(f"{way} selects other rows for pair ({some.i}, {some.j})")
        one = partial(WAYS[way], classes[0], classes[1], confidences[0], confidences[1], distances)
        lines.append([way, f"{n_rows:,}", f"{spent:.2f}", f"{spent / seconds:.1f}", f"{extra_megabytes(one):.1f}"])
    return [*lines, ["**`select`**", f"{n_rows:,}", f"{seconds:.3f}", "1.0", f"{extra_megabytes(ours):.1f}"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: int(float(text)), nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--repeats", type=int, default=5, help="runs of `select`; the fastest counts")
    parser.add_argument("--dry", action="store_true", help="print, and leave docs/benchmarks.md alone")
    options = parser.parse_args()
    distances = distance_matrix(imagenet1k())
    levels = levels_of(distances)
    lines = [line for n_rows in options.rows for line in measure(n_rows, distances, levels, options.repeats)]
    table = markdown_table(["way", "images", "CPU seconds", "times `select`", "peak extra MB"], lines)
    print(table)
    if not options.dry:
        rows = " ".join(str(n_rows) for n_rows in options.rows)
        text = (
            "## MAD selection\n\n"
            f"All {MODELS * (MODELS - 1) // 2} pairs of {MODELS} classifiers, 1,000 classes, k = 30 and 30 in reserve, "
            "threshold 0.8, three images per predicted class. One core, one run; all ways select the same rows, which "
            "the command checks. Memory: what is allocated at the peak, by numpy for one pair.\n\n"
            f"`python -m benchmarks.bench_selection --rows {rows}`\n\n{table}"
        )
        write_section("selection", text, libraries=("numpy", "numba"))


if __name__ == "__main__":
    main()
