"""MAD selection: for each pair of classifiers, the images on which they differ most (arXiv 2002.10648, section 3).

For a pair {i, j} and every row: keep rows whose predictions differ, keep those on which both models are confident,
order by the distance of the two classes (descending), then by the smaller confidence (descending), then by row, walk
in that order and accept under three caps: at most `per_class_cap` accepted rows with the same prediction of i, as
many with the same prediction of j, each unordered pair of labels once; and, if asked, no image that nearly repeats an
accepted one.

**How it streams.** Rows are read in blocks; each pair keeps a small pool of candidates. What has been accepted only
ever shrinks what can still be accepted, so of candidates with the same two predictions (in the same order) and the same
image hash only the best can matter. When a pool is full it is sorted and walked: what ranks after 3 (k + reserve)
accepted candidates is let go, and the rank of the last one becomes a floor below which nothing enters.

**Why the result is exact.** The candidates kept are all that matter above the floor, so walking them gives exactly
what a walk over all rows gives, down to the floor. If that is k + reserve rows, the pair is done. If not, and the
floor did cost a candidate, the rows are read once more for this pair, keeping only what can be accepted beside the
rows that are certain by then; every such pass accepts at least one. Without image hashes the second pass never comes
unless a pool overflows: three caps are three partition matroids, so any maximal selection is at least a third of the
largest possible one, and 3 (k + reserve) accepted above the floor now promise k + reserve above it later, whatever
rows are still to come.

Memory: pools and one block, independent of the number of rows and of classes; many pairs are worked on in groups.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from competition.selection import kernels
from competition.selection.columns import (
    Column,
    SelectionError,
    check_columns,
    class_kind,
    confidence_kind,
    gather,
    read_classes,
    read_confidences,
    threshold_bits,
)
from corpora.taxonomy import LevelTable

BLOCK_ROWS = 65_536  # eleven models take 6 MB
_MIN_CAPACITY = 2_048  # candidates a pool has room for at least
_POOL_BYTES = 8 << 20  # pools of all pairs worked on at once; the target is 16 MB for everything
_SLOTS = 1_024  # labels a pair remembers to have seen
_UNLIMITED = np.iinfo(np.int32).max

Progress = Callable[[int, int], None]
Pair = tuple[int, int]


class SelectionCancelled(RuntimeError):
    """`cancel` said so."""


@dataclass(frozen=True)
class PairCounts:
    """Where the rows of one pair went. The two losses are known (not None) where the pair is short of k + reserve."""

    rows: int
    disagreements: int
    confident: int
    accepted: int
    lost_to_caps: int | None
    lost_to_duplicates: int | None


@dataclass(frozen=True)
class PairSelection:
    """The rows selected for models i < j, best first: the first k are exhibits, the others the reserve.

    rows: (n,) int64; class_i, class_j: (n,) predicted classes; distance: (n,) float64; confidence_i, confidence_j: (n,)
    as stored, None without confidences; reasons: why there are fewer than asked for, in words, empty if there are not.
    """

    i: int
    j: int
    k: int
    rows: npt.NDArray[np.int64]
    class_i: npt.NDArray[np.int64]
    class_j: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    confidence_i: npt.NDArray[Any] | None
    confidence_j: npt.NDArray[Any] | None
    counts: PairCounts
    reasons: tuple[str, ...]

    @property
    def ranks(self) -> npt.NDArray[np.int64]:
        """1 for the best row, counting on through the reserve."""
        return np.arange(1, len(self.rows) + 1)

    @property
    def filtered(self) -> bool:
        """Whether confidences were there to filter by."""
        return self.confidence_i is not None


@dataclass(frozen=True)
class _Rules:
    """The question, checked and in the form the kernels take."""

    k: int
    reserve: int
    threshold: float
    cap: int
    radius: int

    @property
    def wanted(self) -> int:
        return self.k + self.reserve


@dataclass(frozen=True)
class _Source:
    """The columns and the level table, checked."""

    classes: Sequence[Column]
    confidences: Sequence[Column] | None
    hashes: Column | None
    levels: LevelTable
    n_rows: int
    threshold_bits: int
    block_rows: int

    @property
    def flat_ranks(self) -> tuple[npt.NDArray[Any], int, int]:
        """The level table as one line, and the two strides that find (a, b) in it; one type, so one compilation."""
        ranks = self.levels.ranks
        if ranks.strides == (0, 0):
            return ranks[0, :1].astype(np.uint16), 0, 0
        return np.ascontiguousarray(ranks, dtype=np.uint16).ravel(), ranks.shape[1], 1


@dataclass(frozen=True)
class _Block:
    """Rows start..stop of the models at work, in buffers of constant size that the next block overwrites.

    classes: (m, block); bits: (m, block) of the confidences, (m, 0) without; hashes: (n,), (0,) without.
    """

    start: int
    stop: int
    classes: npt.NDArray[Any]
    bits: npt.NDArray[Any]
    hashes: npt.NDArray[np.uint64]


@dataclass
class _Found:
    """What is certain about one pair so far."""

    key: list[int]
    label: list[int]
    row: list[int]
    image_hash: list[int]
    disagreements: int = 0
    confident: int = 0
    complete: bool = False


def select(
    classes: Sequence[Column],
    confidences: Sequence[Column] | None,
    levels: LevelTable,
    *,
    k: int = 30,
    reserve: int = 30,
    threshold: float = 0.8,
    per_class_cap: int | None = 3,
    hashes: Column | None = None,
    duplicate_distance: int | None = None,
    pairs: Sequence[Pair] | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
    block_rows: int = BLOCK_ROWS,
) -> list[PairSelection]:
    """Select k + reserve rows for every pair of models, or for `pairs` only.

    classes: per model, (n_rows,) whole numbers; confidences: per model, (n_rows,) floats in 0..1, or None: the filter
    is off and ties are broken by row alone. The threshold is rounded to the precision of the stored confidences;
    float64 confidences are compared as float32. hashes: (n_rows,) uint64 perceptual hashes, used when
    `duplicate_distance` (in bits, 0..64) is given. per_class_cap None: no caps per class. progress(done, total) is
    called after every block, and `cancel()` is asked then.

    Returns one PairSelection per pair, in order. A pair without enough candidates is not an error: see its reasons.
    Raises SelectionError (a ValueError) for columns of different lengths, NaN confidences, classes outside the taxonomy
    and settings that make no sense; SelectionCancelled when `cancel` returns True.
    """
    rules = _rules(k, reserve, threshold, per_class_cap, hashes, duplicate_distance)
    n_rows = check_columns(classes, confidences, hashes)
    chosen = _pairs(len(classes), pairs)
    if block_rows < 1:
        raise SelectionError(f"block_rows is {block_rows}; a block has at least one row")
    bits = threshold_bits(rules.threshold, confidence_kind(confidences)) if confidences is not None else 0
    used_hashes = hashes if rules.radius >= 0 else None
    source = _Source(classes, confidences, used_hashes, levels, n_rows, bits, block_rows)
    capacity = _capacity(rules)
    size = max(1, _POOL_BYTES // (capacity * (32 if used_hashes is not None else 24)))
    groups = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    selections: list[PairSelection] = []
    for number, group in enumerate(groups):
        report = _reporter(progress, cancel, number * n_rows, len(groups) * n_rows)
        found = _search(source, rules, group, capacity, report)
        losses = _duplicates(source, rules, group, found, report)
        selections += [
            _selection(source, rules, pair, some, lost) for pair, some, lost in zip(group, found, losses, strict=True)
        ]
    return selections


def select_new_entrant(
    classes: Sequence[Column],
    confidences: Sequence[Column] | None,
    levels: LevelTable,
    *,
    newcomer: int = -1,
    **settings: Any,
) -> list[PairSelection]:
    """Select for the pairs of one model with every other, and for no other pair: m new selections, no old one changes.

    newcomer: the model's position, the last by default; settings: as in `select`, without `pairs`.
    """
    new = range(len(classes))[newcomer]
    pairs = [(min(other, new), max(other, new)) for other in range(len(classes)) if other != new]
    return select(classes, confidences, levels, pairs=pairs, **settings)


def _rules(
    k: int, reserve: int, threshold: float, cap: int | None, hashes: Column | None, distance: int | None
) -> _Rules:
    if k < 1:
        raise SelectionError(f"k is {k}; at least one image per pair is needed")
    if reserve < 0:
        raise SelectionError(f"reserve is {reserve}; it cannot be negative")
    if not 0 <= threshold <= 1:
        raise SelectionError(f"threshold is {threshold}; a confidence lies between 0 and 1")
    if cap is not None and cap < 1:
        raise SelectionError(f"per_class_cap is {cap}; at least one image per predicted class must be allowed")
    if distance is None:
        return _Rules(k, reserve, threshold, cap or _UNLIMITED, -1)
    if not 0 <= distance <= 64:
        raise SelectionError(f"duplicate_distance is {distance}; 64-bit hashes differ in 0 to 64 bits")
    if hashes is None:
        raise SelectionError("duplicate_distance is given but the corpus has no perceptual hashes: compute them first")
    return _Rules(k, reserve, threshold, cap or _UNLIMITED, distance)


def _pairs(n_models: int, pairs: Sequence[Pair] | None) -> list[Pair]:
    if n_models < 2:
        raise SelectionError(f"{n_models} model(s) given; a competition needs at least two")
    chosen = list(combinations(range(n_models), 2)) if pairs is None else [(int(i), int(j)) for i, j in pairs]
    for i, j in chosen:
        if not 0 <= i < j < n_models:
            raise SelectionError(f"({i}, {j}) is no pair of two of {n_models} models, the smaller position first")
    if len(set(chosen)) < len(chosen):
        raise SelectionError("a pair is asked for twice")
    return chosen


def _capacity(rules: _Rules) -> int:
    """Room for the candidates of one pair: several times what a walk to the floor accepts."""
    return max(_MIN_CAPACITY, 1 << (8 * 3 * rules.wanted - 1).bit_length() - 1)


def _reporter(
    progress: Progress | None, cancel: Callable[[], bool] | None, before: int, total: int
) -> Callable[[int], None]:
    """A function of the rows done that reports them, and stops everything where that is wished."""

    def report(rows: int) -> None:
        if progress is not None:
            progress(before + rows, total)
        if cancel is not None and cancel():
            raise SelectionCancelled(f"selection was cancelled after {before + rows} of {total} rows")

    return report


def _search(
    source: _Source, rules: _Rules, pairs: Sequence[Pair], capacity: int, report: Callable[[int], None]
) -> list[_Found]:
    """Passes over the rows until every pair is complete: one, and another only for pairs whose floor was too high."""
    found = [_Found([], [], [], []) for _ in pairs]
    waiting = list(range(len(pairs)))
    first = True
    while waiting:
        pool = _pool(source, rules, [found[p] for p in waiting], capacity)
        scratch = _scratch(source, rules, capacity)
        tally = np.zeros((len(waiting), 2), np.int64)
        _scan(
            source, rules, [pairs[p] for p in waiting], pool, scratch, tally, report if first else _held(report, source)
        )
        for at, p in enumerate(waiting):
            if first:
                found[p].disagreements, found[p].confident = tally[at].tolist()
            _accept(found[p], rules, pool, scratch, at)
        waiting = [p for p in waiting if not found[p].complete]
        first = False
    return found


def _held(report: Callable[[int], None], source: _Source) -> Callable[[int], None]:
    """Further passes do not move the progress back; they can still be cancelled."""
    return lambda _: report(source.n_rows)


def _scan(
    source: _Source,
    rules: _Rules,
    pairs: Sequence[Pair],
    pool: kernels.Pool,
    scratch: kernels.Scratch,
    tally: npt.NDArray[np.int64],
    report: Callable[[int], None],
) -> None:
    models = sorted({model for pair in pairs for model in pair})
    numbers = np.array([[models.index(i), models.index(j)] for i, j in pairs], np.int64)
    ranks, stride_a, stride_b = source.flat_ranks
    goals = 3 * (rules.wanted - pool.n_accepted)
    kind = class_kind(source.levels.n_classes)
    hidden = kind.type(np.iinfo(kind).max)
    room = np.empty((len(models), min(source.block_rows, source.n_rows)), kind)
    for block in _blocks(source, models):
        n_rows = block.stop - block.start
        sure = block.classes
        if block.bits.shape[1]:
            sure = room
            threshold = block.bits.dtype.type(source.threshold_bits)
            for model in range(len(models)):
                kernels.hide_unsure(n_rows, block.classes[model], block.bits[model], threshold, hidden, sure[model])
        kernels.scan_block(
            block.start, n_rows, block.classes, sure, block.bits, block.hashes, numbers, ranks, stride_a, stride_b,
            hidden, rules.cap, rules.radius, goals, tally, pool, scratch,
        )  # fmt: skip
        report(block.stop)


def _blocks(source: _Source, models: Sequence[int]) -> Iterator[_Block]:
    n_classes = source.levels.n_classes
    conf_kind = confidence_kind(source.confidences) if source.confidences is not None else np.dtype(np.float16)
    rows = min(source.block_rows, source.n_rows)
    classes = np.empty((len(models), rows), class_kind(n_classes))
    bits = np.empty((len(models), rows if source.confidences is not None else 0), np.uint32)  # of halves as well
    no_hashes = np.empty(0, np.uint64)
    for start in range(0, source.n_rows, source.block_rows):
        stop = min(start + source.block_rows, source.n_rows)
        for at, model in enumerate(models):
            classes[at, : stop - start] = read_classes(source.classes[model], start, stop, n_classes, model)
            if source.confidences is not None:
                column = source.confidences[model]
                bits[at, : stop - start] = read_confidences(column, start, stop, conf_kind, model)
        hashes = no_hashes
        if source.hashes is not None:
            hashes = np.ascontiguousarray(source.hashes[start:stop], dtype=np.uint64)
        yield _Block(start, stop, classes, bits, hashes)


def _pool(source: _Source, rules: _Rules, found: Sequence[_Found], capacity: int) -> kernels.Pool:
    n_pairs = len(found)
    slots = min(_SLOTS, 1 << (source.levels.n_classes**2 - 1).bit_length())
    hash_room, hash_slots = (capacity, slots) if source.hashes is not None else (0, 0)
    accepted_label = np.zeros((n_pairs, rules.wanted), np.uint64)
    accepted_hash = np.zeros((n_pairs, rules.wanted), np.uint64)
    for at, some in enumerate(found):
        accepted_label[at, : len(some.label)] = np.array(some.label, np.uint64)
        accepted_hash[at, : len(some.label)] = np.array(some.image_hash, np.uint64)
    return kernels.Pool(
        key=np.empty((n_pairs, capacity), np.uint64),
        label=np.empty((n_pairs, capacity), np.uint64),
        hash=np.empty((n_pairs, hash_room), np.uint64),
        row=np.empty((n_pairs, capacity), np.uint64),
        filled=np.zeros(n_pairs, np.int64),
        floor=np.zeros(n_pairs, np.uint64),
        dropped=np.zeros(n_pairs, np.bool_),
        seen_key=np.zeros((n_pairs, slots), np.uint64),
        seen_label=np.zeros((n_pairs, slots), np.uint64),
        seen_hash=np.zeros((n_pairs, hash_slots), np.uint64),
        accepted_label=accepted_label,
        accepted_hash=accepted_hash,
        n_accepted=np.array([len(some.label) for some in found], np.int64),
    )


def _scratch(source: _Source, rules: _Rules, capacity: int) -> kernels.Scratch:
    return kernels.Scratch(
        used_i=np.zeros(source.levels.n_classes, np.int32),
        used_j=np.zeros(source.levels.n_classes, np.int32),
        picked_label=np.zeros(3 * rules.wanted, np.uint64),
        picked_hash=np.zeros(3 * rules.wanted, np.uint64),
        picked_at=np.zeros(3 * rules.wanted, np.int64),
        slots=np.full(2 * capacity, -1, np.int32),
        order=np.empty(capacity, np.int32),
        spare=np.empty(capacity, np.uint64),
        lanes=np.empty(kernels.LANES, np.uint16),
        mark=np.empty(kernels.TILE, np.uint8),
        survivors=np.empty(kernels.TILE + 1, np.int32),
        keys=np.empty(kernels.TILE + 1, np.uint64),
    )


def _accept(found: _Found, rules: _Rules, pool: kernels.Pool, scratch: kernels.Scratch, at: int) -> None:
    """Walk the pool of one pair for good: what it accepts is certain, and so is its end unless the floor cut it off."""
    wanted = rules.wanted - len(found.row)
    n_new = kernels.compact(pool, scratch, at, wanted, rules.cap, rules.radius, pool.key.shape[1])
    chosen = scratch.picked_at[:n_new]
    found.key += pool.key[at, chosen].tolist()
    found.label += pool.label[at, chosen].tolist()
    found.row += pool.row[at, chosen].tolist()
    if pool.hash.shape[1]:
        found.image_hash += pool.hash[at, chosen].tolist()
    else:
        found.image_hash += [0] * n_new
    found.complete = n_new == wanted or not pool.dropped[at]


def _duplicates(
    source: _Source, rules: _Rules, pairs: Sequence[Pair], found: Sequence[_Found], report: Callable[[int], None]
) -> list[int]:
    """Per pair, how many confident disagreements nearly repeat an accepted row above them; only short pairs count."""
    lost = [0] * len(pairs)
    short = [p for p, some in enumerate(found) if len(some.row) < rules.wanted and some.confident > len(some.row)]
    if source.hashes is None or not short:
        return lost
    models = sorted({model for p in short for model in pairs[p]})
    ranks, stride_a, stride_b = source.flat_ranks
    accepted = {p: _accepted_arrays(found[p]) for p in short}
    for block in _blocks(source, models):
        for p in short:
            i, j = (models.index(model) for model in pairs[p])
            threshold = block.bits.dtype.type(source.threshold_bits)
            lost[p] += kernels.count_duplicates(
                block.start, block.stop - block.start, block.classes[i], block.classes[j], block.bits[i],
                block.bits[j], block.hashes, threshold, ranks, stride_a, stride_b, rules.radius, *accepted[p],
            )  # fmt: skip
        report(source.n_rows)
    return lost


def _accepted_arrays(found: _Found) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    return np.array(found.key, np.uint64), np.array(found.row, np.int64), np.array(found.image_hash, np.uint64)


def _selection(source: _Source, rules: _Rules, pair: Pair, found: _Found, duplicates: int) -> PairSelection:
    i, j = pair
    label = np.array(found.label, np.uint64)
    rows = np.array(found.row, np.int64)
    class_i = (label >> np.uint64(32)).astype(np.int64)
    class_j = (label & np.uint64(0xFFFFFFFF)).astype(np.int64)
    short = len(rows) < rules.wanted
    counts = PairCounts(
        rows=source.n_rows,
        disagreements=found.disagreements,
        confident=found.confident,
        accepted=len(rows),
        lost_to_caps=found.confident - len(rows) - duplicates if short else None,
        lost_to_duplicates=duplicates if short else None,
    )
    filtered = source.confidences is not None
    return PairSelection(
        i=i,
        j=j,
        k=rules.k,
        rows=rows,
        class_i=class_i,
        class_j=class_j,
        distance=source.levels.distance(class_i, class_j),
        confidence_i=gather(source.confidences[i], rows) if source.confidences is not None else None,
        confidence_j=gather(source.confidences[j], rows) if source.confidences is not None else None,
        counts=counts,
        reasons=_reasons(counts, rules, filtered=filtered),
    )


def _reasons(counts: PairCounts, rules: _Rules, *, filtered: bool) -> tuple[str, ...]:
    """Why a pair is short, as sentences; empty when it is not."""
    if counts.accepted >= rules.wanted:
        return ()
    if counts.accepted < rules.k:
        head = f"{counts.accepted} of {rules.k} images, and no reserve"
    else:
        head = f"{rules.k} images, but only {counts.accepted - rules.k} of {rules.reserve} in reserve"
    reasons = [head]
    if counts.disagreements == 0:
        return (head, f"the two models agree on all {counts.rows:,} images")
    reasons.append(f"the two models disagree on {counts.disagreements:,} of {counts.rows:,} images")
    if filtered and counts.confident < counts.disagreements:
        reasons.append(f"both are at least {rules.threshold:g} confident on {counts.confident:,} of them")
    if counts.lost_to_caps:
        per_class = f"at most {rules.cap} per predicted class and model, " if rules.cap < _UNLIMITED else ""
        reasons.append(f"{counts.lost_to_caps:,} are left out by the caps ({per_class}each pair of labels once)")
    if counts.lost_to_duplicates:
        reasons.append(f"{counts.lost_to_duplicates:,} nearly repeat an image that is already in")
    return tuple(reasons)
