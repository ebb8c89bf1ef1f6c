"""gMAD selection: the pairs of images on which an attacker would falsify a defender (gMAD, CVPR 2016, section 3).

Every model defends its *levels*, sets of images that it finds equally good (`gmad_levels`). In each level every other
model attacks with the image it finds *worst* and the one it finds *best*; of equal scores the first row wins. A *cell*
is (attacker, defender, level): M (M - 1) K of them, whatever the number of rows.

**How it streams.** Rows are read twice in blocks: once for the range of every model, which gives the levels, and once
for the extremes. For each row and each level it lies in, the scores of all attackers are compared at once with what
they must undercut or exceed; a new extreme becomes rare soon. Nothing is sorted and memory does not grow with the rows.

**Options.** `top` pairs a cell, disjoint; a `cap` on the exhibits that show an image; no pair of near-duplicates or of
one source, neither within a pair nor between pairs. `gmad_choice` says what they choose and why that is exact.

Scores are oriented (higher = better), on a common scale (`calibration`), and NaN where a model could not score a row:
such a row is in none of that model's levels and never its choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from competition.selection import gmad_kernels as kernels
from competition.selection.columns import Column, SelectionError
from competition.selection.gmad_choice import Choice, Limits, Source, choose, choose_plainly
from competition.selection.gmad_columns import (
    BLOCK_ROWS,
    Summary,
    blocks,
    check_scores,
    pick_rows,
    score_kind,
    summarise,
)
from competition.selection.gmad_levels import FloatArray, Levels, check_levels, equal_count, equal_width
from competition.selection.mad import Progress, SelectionCancelled

LEVELS = 6
HALF_WIDTH = 9.0  # the mean standard deviation of the MOS in the original study
_DEPTH = 128  # candidates a cell keeps where caps and exclusions may refuse some
_POOL_BYTES = 32 << 20

IntArray = npt.NDArray[np.int64]
Spread = Literal["cell", "competition"]


@dataclass(frozen=True)
class Pairs:
    """The pairs selected, each array (n,), by attacker, defender, level and rank.

    attacker, defender  positions of the models
    level               1 .. K
    rank                1 .. top: the rank-th pair of its cell
    worst, best         rows: what the attacker finds worst and best in the level
    attacker_worst, attacker_best, defender_worst, defender_best  what the two models say about them
    """

    attacker: IntArray
    defender: IntArray
    level: IntArray
    rank: IntArray
    worst: IntArray
    best: IntArray
    attacker_worst: FloatArray
    attacker_best: FloatArray
    defender_worst: FloatArray
    defender_best: FloatArray

    def __len__(self) -> int:
        return len(self.attacker)


@dataclass(frozen=True)
class Missing:
    """A level without any pair (attacker None), or a cell with fewer pairs than asked for, and why in words."""

    defender: int
    level: int
    attacker: int | None
    images: int
    found: int
    reason: str


@dataclass(frozen=True)
class Selection:
    """What `select` found: the pairs, the levels with how many images each holds, and what is missing."""

    names: tuple[str, ...]
    n_rows: int
    levels: Levels
    pairs: Pairs
    missing: tuple[Missing, ...]


@dataclass(frozen=True)
class Exhibits:
    """Different unordered pairs, each to be judged once.

    first, second  (e,) rows, first < second
    exhibit        (n,) for every selected pair the number of its exhibit
    sign           (n,) +1 where the attacker's best is `first`, -1 where it is `second`: a judgement that is positive
                   when `first` is better scores sign * judgement for the attacker
    """

    first: IntArray
    second: IntArray
    exhibit: IntArray
    sign: IntArray


@dataclass(frozen=True)
class ControlPairs:
    """Random pairs within levels, each array (n,).

    defender, level, first, second  as in Pairs; the two rows in random order
    weight  the pair's share in its defender's estimate: the images of its level, divided by the pairs drawn there; the
            weights of a defender sum to one
    """

    defender: IntArray
    level: IntArray
    first: IntArray
    second: IntArray
    weight: FloatArray

    def __len__(self) -> int:
        return len(self.defender)


def select(
    columns: Sequence[Column],
    *,
    names: Sequence[str] | None = None,
    levels: int = LEVELS,
    half_width: float | None = HALF_WIDTH,
    top: int = 1,
    cap: int | None = None,
    groups: Column | None = None,
    hashes: Column | None = None,
    duplicate_distance: int | None = None,
    spread: Spread = "cell",
    taken: Sequence[tuple[int, int]] | npt.ArrayLike = (),
    newcomers: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
    block_rows: int = BLOCK_ROWS,
) -> Selection:
    """Select the pairs of all cells, or with `newcomers` only of those in which one of these models takes part.

    columns: per model (n_rows,) floats; names: of the models, for messages; half_width None: equal-count levels.
    cap: exhibits that may show one image, those in `taken` counted, each unordered pair once. groups: (n_rows,) whole
    numbers, images of one source share one, negative = no source; hashes: (n_rows,) uint64 perceptual hashes, used
    when `duplicate_distance` (in bits, 0..64) is given. Alike images (of one source, or near-duplicates) never make a
    pair; spread "cell": nor do two pairs of one cell show alike images; "competition": nor do any two pairs, though the
    same image may come again. taken: (t, 2) rows of exhibits that exist already. progress(done, total) is called after
    every block, and `cancel()` is asked then.

    A cell without a pair is no error: see `missing`. Raises SelectionError (a ValueError) for columns of different
    lengths, infinite scores, a model with equal scores everywhere or fewer than two, and settings that make no sense;
    SelectionCancelled when `cancel` returns True.
    """
    known = tuple(names) if names is not None else tuple(str(number) for number in range(len(columns)))
    _check(columns, known, levels, half_width, top, block_rows)
    n_rows = check_scores(columns, known)
    limits = _limits(n_rows, top, cap, groups, hashes, duplicate_distance, spread, taken)
    asked = _cells(len(columns), newcomers)
    kind = score_kind(columns)
    passes = 2 if half_width is not None else 3
    report = _reporter(progress, cancel, passes * n_rows)
    summaries = _summaries(columns, known, block_rows, report)
    if half_width is not None:
        found = equal_width(summaries, levels, half_width, kind)
    else:
        found = equal_count(
            columns,
            summaries,
            levels,
            kind,
            block_rows=block_rows,
            report=lambda done: report(n_rows + done * n_rows // len(columns)),
        )
    source = Source(columns, found, kind, n_rows, block_rows)
    pool = _scan(source, asked, _depth(limits, len(columns), levels), lambda rows: report((passes - 1) * n_rows + rows))
    if limits.plain and top == 1:
        choice = choose_plainly(pool, asked)
    else:
        choice = choose(source, pool, asked, limits, lambda: report(passes * n_rows))
    return Selection(
        names=known,
        n_rows=n_rows,
        levels=found,
        pairs=_pairs(source, choice),
        missing=tuple(_missing(known, found, pool, asked, choice, limits)),
    )


def ask_once(pairs: Pairs, known: npt.ArrayLike = ()) -> Exhibits:
    """The different unordered pairs among those selected, in the order in which they are first asked for.

    known: (e, 2) rows of exhibits that exist already; they keep their numbers, and new ones count on behind them.
    """
    before = np.sort(np.asarray(known, dtype=np.int64).reshape(-1, 2), axis=1)
    asked = np.sort(np.column_stack([pairs.worst, pairs.best]), axis=1)
    every = np.concatenate([before, asked])
    unique, at, which = np.unique(every, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(at)
    if (at[order][: len(before)] != np.arange(len(before))).any():
        raise SelectionError("an exhibit is known twice: give each unordered pair of rows once")
    number = np.empty(len(unique), np.int64)
    number[order] = np.arange(len(unique))
    sign = np.where(pairs.best < pairs.worst, 1, -1).astype(np.int64)
    return Exhibits(unique[order, 0], unique[order, 1], number[which.ravel()][len(before) :], sign)


def control_pairs(
    columns: Sequence[Column],
    levels: Levels,
    *,
    per_level: int,
    seed: int,
    groups: Column | None = None,
    hashes: Column | None = None,
    duplicate_distance: int | None = None,
    defenders: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
    block_rows: int = BLOCK_ROWS,
) -> ControlPairs:
    """Up to `per_level` random pairs within each level of each defender, no image twice in a level, none alike.

    levels: as `select` found them over the same columns. The pairs of one defender depend on the seed, its position
    and its level alone: a newcomer changes none. Fewer pairs come from a level with fewer images.
    """
    if per_level < 0:
        raise SelectionError(f"{per_level} control pairs per level: the number cannot be negative")
    n_rows = check_scores(columns, [str(number) for number in range(len(columns))])
    limits = _limits(n_rows, 1, None, groups, hashes, duplicate_distance, "cell", ())
    chosen = range(len(columns)) if defenders is None else defenders
    report = _reporter(progress, cancel, len(chosen) * n_rows)
    parts = []
    for at, defender in enumerate(chosen):
        rows = _draw_members(columns[defender], levels, defender, per_level, seed, limits, block_rows)
        parts += [_control_part(levels, defender, k, drawn, per_level, limits) for k, drawn in enumerate(rows)]
        report((at + 1) * n_rows)
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    whose, level, first, second = joined if parts else [np.empty(0, np.int64)] * 4
    return ControlPairs(whose, level, first, second, _control_weight(levels, whose, level))


def _check(
    columns: Sequence[Column], names: Sequence[str], levels: int, half_width: float | None, top: int, block_rows: int
) -> None:
    if len(columns) < 2:
        raise SelectionError(f"{len(columns)} model(s) given; a competition needs at least two")
    if len(names) != len(columns):
        raise SelectionError(f"{len(columns)} models have {len(names)} names")
    check_levels(levels, half_width)
    if top < 1:
        raise SelectionError(f"top is {top}; at least one pair per cell is needed")
    if block_rows < 1:
        raise SelectionError(f"block_rows is {block_rows}; a block has at least one row")


def _limits(
    n_rows: int,
    top: int,
    cap: int | None,
    groups: Column | None,
    hashes: Column | None,
    distance: int | None,
    spread: str,
    taken: Sequence[tuple[int, int]] | npt.ArrayLike,
) -> Limits:
    if cap is not None and cap < 1:
        raise SelectionError(f"cap is {cap}; an image must be allowed in at least one exhibit")
    if spread not in get_args(Spread):
        raise SelectionError(f'spread is "{spread}"; it is {" or ".join(map(repr, get_args(Spread)))}')
    for what, column in (("groups", groups), ("perceptual hashes", hashes)):
        if column is not None and len(column) != n_rows:
            raise SelectionError(f"{n_rows} rows have {len(column)} {what}")
    if distance is not None and not 0 <= distance <= 64:
        raise SelectionError(f"duplicate_distance is {distance}; 64-bit hashes differ in 0 to 64 bits")
    if distance is not None and hashes is None:
        raise SelectionError("duplicate_distance is given but the corpus has no perceptual hashes: compute them first")
    exhibits = np.sort(np.asarray(taken, dtype=np.int64).reshape(-1, 2), axis=1)
    if exhibits.size and not 0 <= exhibits.min() <= exhibits.max() < n_rows:
        raise SelectionError(
            f"taken exhibits show rows {exhibits.min()} to {exhibits.max()}; the corpus has rows 0 to {n_rows - 1}"
        )
    return Limits(
        top=top,
        cap=cap,
        groups=groups,
        hashes=hashes if distance is not None else None,
        radius=-1 if distance is None else distance,
        everywhere=spread == "competition",
        taken=np.unique(exhibits, axis=0),
    )


def _cells(n_models: int, newcomers: Sequence[int] | None) -> npt.NDArray[np.bool_]:
    """(M, M) whether [defender, attacker] is asked for."""
    asked = ~np.eye(n_models, dtype=np.bool_)
    if newcomers is None:
        return asked
    new = np.zeros(n_models, np.bool_)
    for model in newcomers:
        if not -n_models <= model < n_models:
            raise SelectionError(f"newcomer {model} is none of the {n_models} models")
        new[model] = True
    return asked & (new[:, None] | new[None, :])


def _reporter(progress: Progress | None, cancel: Callable[[], bool] | None, total: int) -> Callable[[int], None]:
    """A function of the rows done that reports them, and stops everything where that is wished."""

    def report(rows: int) -> None:
        if progress is not None:
            progress(min(rows, total), total)
        if cancel is not None and cancel():
            raise SelectionCancelled(f"selection was cancelled after {min(rows, total)} of {total} rows")

    return report


def _summaries(
    columns: Sequence[Column], names: Sequence[str], block_rows: int, report: Callable[[int], None]
) -> list[Summary]:
    found = []
    for number, (column, name) in enumerate(zip(columns, names, strict=True)):
        some = summarise(
            column,
            name,
            block_rows=block_rows,
            report=lambda rows, number=number: report((number * len(columns[0]) + rows) // len(columns)),  # type: ignore[misc]
        )
        if some.n_scored < 2:
            raise SelectionError(
                f'model "{name}" has scored {some.n_scored} images; leave it out, or score the corpus first'
            )
        if some.lowest == some.highest:
            raise SelectionError(
                f'model "{name}" gives all {some.n_scored:,} images the same score, {some.lowest:g}: it has no '
                "levels to defend and cannot attack; leave it out"
            )
        found.append(some)
    return found


def _depth(limits: Limits, n_models: int, n_levels: int) -> int:
    """Candidates a cell keeps: enough for disjoint pairs, and a reserve where some may be refused."""
    if limits.plain:
        return 2 * limits.top
    most = _POOL_BYTES // (32 * n_models**2 * n_levels)
    return max(2 * limits.top, min(_DEPTH, most))


def _scan(source: Source, asked: npt.NDArray[np.bool_], depth: int, report: Callable[[int], None]) -> kernels.Pool:
    n_models, n_levels = source.levels.centre.shape
    padded = -(-n_models // kernels.LANES) * kernels.LANES
    pool = _pool(asked, n_levels, padded, depth, source.kind)
    low, high = (ends.astype(source.kind) for ends in (source.levels.low, source.levels.high))
    levels = kernels.Levels(low, high, source.levels.count)
    tile = np.full((kernels.TILE, padded), np.nan, source.kind)
    above = np.zeros(kernels.TILE, np.int64)
    scores = np.empty((n_models, min(source.block_rows, source.n_rows)), source.kind)
    for start, stop in blocks(source.n_rows, source.block_rows):
        for model, column in enumerate(source.columns):
            scores[model, : stop - start] = column[start:stop]
        kernels.scan_block(start, stop - start, scores, levels, pool, tile, above)
        report(stop)
    return pool


def _pool(asked: npt.NDArray[np.bool_], n_levels: int, padded: int, depth: int, kind: np.dtype[Any]) -> kernels.Pool:
    n_models = len(asked)
    cells = (n_models, n_levels, n_models)
    least = np.full((n_models, n_levels, padded), -np.inf, kind)
    least[:, :, :n_models] = np.where(asked, np.inf, -np.inf)[:, None, :]
    return kernels.Pool(
        least=least,
        most=-least,
        low=np.empty((*cells, depth), kind),
        high=np.empty((*cells, depth), kind),
        low_row=np.empty((*cells, depth), np.int64),
        high_row=np.empty((*cells, depth), np.int64),
        n_low=np.zeros(cells, np.int64),
        n_high=np.zeros(cells, np.int64),
    )


def _pairs(source: Source, choice: Choice) -> Pairs:
    order = np.lexsort((choice.rank, choice.level, choice.defender, choice.attacker))
    picked = replace(choice, **{name: getattr(choice, name)[order] for name in Choice.__dataclass_fields__})
    said = {
        f"{role}_{end}": _said(source, getattr(picked, role), getattr(picked, end))
        for role in ("attacker", "defender")
        for end in ("worst", "best")
    }
    return Pairs(
        attacker=picked.attacker,
        defender=picked.defender,
        level=picked.level + 1,
        rank=picked.rank + 1,
        worst=picked.worst,
        best=picked.best,
        **said,
    )


def _said(source: Source, model: IntArray, row: IntArray) -> FloatArray:
    """(n,) what the models say about the rows, one of each per entry."""
    said = np.empty(len(row), np.float64)
    for number in np.unique(model).tolist():
        mine = model == number
        said[mine] = pick_rows(source.columns[number], row[mine]).astype(source.kind)
    return said


def _missing(
    names: Sequence[str],
    levels: Levels,
    pool: kernels.Pool,
    asked: npt.NDArray[np.bool_],
    choice: Choice,
    limits: Limits,
) -> list[Missing]:
    """What each defender, level by level, is short of."""
    n_models, n_levels = levels.count.shape
    found = np.zeros((n_models, n_levels, n_models), np.int64)
    np.add.at(found, (choice.defender, choice.level, choice.attacker), 1)
    missing = []
    for defender, k in np.argwhere((found < limits.top).any(axis=2)).tolist():
        attackers = np.flatnonzero(asked[defender] & (found[defender, k] < limits.top)).tolist()
        images = int(levels.count[defender, k])
        if images < 2:
            if asked[defender].any():
                reason = f'level {k + 1} of "{names[defender]}" {"is empty" if not images else "holds one image"}'
                missing.append(Missing(defender, k + 1, None, images, 0, reason))
            continue
        for attacker in attackers:
            some = int(found[defender, k, attacker])
            why = _reason(names[attacker], images, int(pool.n_low[defender, k, attacker]), some, limits)
            reason = f'level {k + 1} of "{names[defender]}", attacked by "{names[attacker]}": {why}'
            missing.append(Missing(defender, k + 1, attacker, images, some, reason))
    return missing


def _reason(attacker: str, images: int, n_scored: int, found: int, limits: Limits) -> str:
    if n_scored < 2:
        return f'"{attacker}" has scored {"none" if not n_scored else "one"} of its {images:,} images'
    if found:
        return f"{found} of {limits.top} pairs; the other images have equal scores, or caps and exclusions refuse them"
    if limits.plain:
        return f'"{attacker}" gives its {images:,} images the same score'
    return f'"{attacker}" gives its {images:,} images the same score, or caps and exclusions refuse every pair'


def _draw_members(
    column: Column, levels: Levels, defender: int, per_level: int, seed: int, limits: Limits, block_rows: int
) -> list[IntArray]:
    """Per level of one defender, random members in random order: enough for the pairs, more where some are alike."""
    n_levels = levels.count.shape[1]
    most = per_level * (2 if limits.plain else 8)
    sizes = np.minimum(levels.count[defender], most)
    wanted = np.full((n_levels, max(1, most)), np.iinfo(np.int64).max)
    orders = []
    for k, size in enumerate(sizes.tolist()):
        rng = np.random.default_rng([seed, defender, k])
        drawn = rng.choice(int(levels.count[defender, k]), size, replace=False) if size else np.empty(0, np.int64)
        wanted[k, :size] = np.sort(drawn)
        orders.append(np.argsort(np.argsort(drawn)))
    found = np.zeros_like(wanted)
    seen, next_ = np.zeros(n_levels, np.int64), np.zeros(n_levels, np.int64)
    kind = np.float64
    low, high = levels.low[defender], levels.high[defender]
    for start, stop in blocks(len(column), block_rows):
        scores = np.ascontiguousarray(column[start:stop], dtype=kind)
        kernels.take_members(start, scores, low, high, seen, wanted, found, next_)
    if (seen != levels.count[defender]).any():
        raise SelectionError(f"model {defender} has other scores than those its levels were made of: select again")
    return [found[k, order] for k, order in enumerate(orders)]


def _control_part(
    levels: Levels, defender: int, k: int, rows: IntArray, per_level: int, limits: Limits
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """(defender, level, first, second) of the pairs of one level."""
    first, second = rows[: len(rows) // 2 * 2].reshape(-1, 2).T
    fine = ~limits.alike(first, second)
    first, second = first[fine][:per_level], second[fine][:per_level]
    return np.full(len(first), defender), np.full(len(first), k + 1), first, second


def _control_weight(levels: Levels, defender: IntArray, level: IntArray) -> FloatArray:
    """(n,) weights that sum to one for every defender."""
    cells, which = np.unique(defender * levels.count.shape[1] + level, return_inverse=True)
    weight = levels.weight[defender, level - 1] / np.bincount(which, minlength=len(cells))[which]
    return weight / np.bincount(defender, weights=weight)[defender] if len(weight) else weight
