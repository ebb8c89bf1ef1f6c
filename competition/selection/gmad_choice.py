"""Which pair each cell of a gMAD selection gets when images may be refused.

**The rule.** Cells are served in rounds: each its first pair, then each its second, and so on; within a round by
defender, level, attacker. A cell takes, of the pairs it may take, the one with the largest difference of the attacker's
scores (in double precision); of equal ones that whose worst image stands first in the attacker's rising order, then
that whose best stands first in the falling order (equal scores: first row first). Without limits that is (argmin,
argmax), then the next from both ends. A cell may take a pair of two images

* with different scores, neither alike (of one source, or near-duplicates) with each other nor with an image of an
  earlier pair of the cell, nor the same as one;
* below their cap, unless this very pair is an exhibit already, which costs nothing;
* with spread "competition", each either shown already or not alike with any image shown.

**Why it is exact.** The scan keeps the first lows and highs of every cell. A pair with an image beyond them has at most
the difference of the best open high and the last low kept, or of the last high kept and the first open low. Where the
pair found does not beat both bounds, the rows are read again for this cell, refusing at once what is refused, keeping
of images of one source and hash only the first (no other can make a better pair), and with room for four times as many
candidates until it does. Exhibits that show a capped image are few and compared one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from competition.selection import gmad_kernels as kernels
from competition.selection.columns import Column
from competition.selection.gmad_columns import blocks, pick_rows
from competition.selection.gmad_levels import FloatArray, Levels

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_NO_GROUPS = -1
_MORE = 4  # times as many candidates in every further reading


@dataclass(frozen=True)
class Source:
    """The columns, checked, and the levels made of them; kind: the precision in which scores are compared."""

    columns: Sequence[Column]
    levels: Levels
    kind: np.dtype[Any]
    n_rows: int
    block_rows: int


@dataclass(frozen=True)
class Limits:
    """What may be chosen, checked; radius -1: hashes are not used; taken: (t, 2) different pairs of rows, rising."""

    top: int
    cap: int | None
    groups: Column | None
    hashes: Column | None
    radius: int
    everywhere: bool
    taken: IntArray

    @property
    def plain(self) -> bool:
        """Whether no pair can be refused but for images the cell has used."""
        return self.cap is None and self.groups is None and self.hashes is None

    def group(self, rows: IntArray) -> IntArray:
        """(n,) source of each row, negative = none."""
        if self.groups is None:
            return np.full(len(rows), _NO_GROUPS)
        return pick_rows(self.groups, rows).astype(np.int64)

    def hash(self, rows: IntArray) -> npt.NDArray[np.uint64]:
        """(n,) perceptual hash of each row; zeros where hashes are not used."""
        if self.hashes is None:
            return np.zeros(len(rows), np.uint64)
        return pick_rows(self.hashes, rows).astype(np.uint64)

    def block(self, start: int, stop: int) -> tuple[IntArray, npt.NDArray[np.uint64]]:
        """Source and perceptual hash of the rows start..stop; as `group` and `hash` where there are none."""
        groups = np.full(stop - start, _NO_GROUPS) if self.groups is None else self.groups[start:stop]
        hashes = np.zeros(stop - start) if self.hashes is None else self.hashes[start:stop]
        return np.ascontiguousarray(groups, np.int64), np.ascontiguousarray(hashes, np.uint64)

    def alike(self, first: IntArray, second: IntArray) -> BoolArray:
        """(n,) whether the rows of each pair are one image, of one source, or near-duplicates."""
        group = self.group(first)
        same = (first == second) | ((group >= 0) & (group == self.group(second)))
        if self.radius < 0:
            return same
        return same | (np.bitwise_count(self.hash(first) ^ self.hash(second)) <= self.radius)


@dataclass(frozen=True)
class Choice:
    """Pairs chosen, each array (n,); level and rank count from 0 here."""

    attacker: IntArray
    defender: IntArray
    level: IntArray
    rank: IntArray
    worst: IntArray
    best: IntArray


class Images(NamedTuple):
    """Rows and what decides whether they are alike, each array (n,)."""

    row: IntArray
    group: IntArray
    hash: npt.NDArray[np.uint64]

    def take(self, which: npt.NDArray[Any]) -> "Images":
        """Those at some places, or where a mask is true."""
        return Images(self.row[which], self.group[which], self.hash[which])

    def and_more(self, more: "Images") -> "Images":
        """These, then more."""
        return Images(
            np.concatenate([self.row, more.row]),
            np.concatenate([self.group, more.group]),
            np.concatenate([self.hash, more.hash]),
        )


class Candidates(NamedTuple):
    """One end of a cell in order; complete: whether no image of the level that is open is left out."""

    score: npt.NDArray[Any]
    images: Images
    complete: bool


class Pick(NamedTuple):
    """A pair in the order of choice: the smallest tuple is chosen."""

    minus_gap: float
    worst_score: float
    worst: int
    minus_best_score: float
    best: int


@dataclass
class _Shown:
    """What earlier choices leave: the exhibits there are and the images they show."""

    exhibits: set[tuple[int, int]] = field(default_factory=set)
    exhibits_of: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    groups: set[int] = field(default_factory=set)  # sources of the images shown
    full: set[int] = field(default_factory=set)  # images at their cap
    full_exhibits: set[tuple[int, int]] = field(default_factory=set)  # that show one, and as arrays:
    full_pairs: IntArray = field(default_factory=lambda: np.empty((0, 2), np.int64))
    full_scores: FloatArray = field(default_factory=lambda: np.empty((0, 2, 0)))  # (e, 2, M) what every model says
    images: Images = field(default_factory=lambda: _no_images())
    closed: BoolArray | None = None  # see `_closed`
    n_closed: int = 0  # images that `closed` knows of


def choose_plainly(pool: kernels.Pool, asked: BoolArray) -> Choice:
    """The first pair of every cell, nothing refused: argmin and argmax."""
    usable = asked[:, None, :] & (pool.n_low > 1)
    usable[usable] = pool.low[usable, 0] < pool.high[usable, 0]
    defender, level, attacker = np.nonzero(usable)
    worst, best = pool.low_row[usable, 0], pool.high_row[usable, 0]
    return Choice(attacker, defender, level, np.zeros(len(worst), np.int64), worst, best)


def choose(source: Source, pool: kernels.Pool, asked: BoolArray, limits: Limits, report: Callable[[], None]) -> Choice:
    """The pairs of every cell under the limits. report() is called after every cell."""
    shown = _Shown()
    for first, second in limits.taken.tolist():
        _show(source, limits, shown, first, second)
    usable = asked[:, None, :] & (pool.n_low > 1)
    cells = [(defender, k, attacker) for defender, k, attacker in np.argwhere(usable).tolist()]
    own: dict[tuple[int, int, int], Images] = {}
    chosen = []
    for rank in range(limits.top):
        left = []
        for cell in cells:
            defender, k, attacker = cell
            pick = _pick(source, pool, limits, shown, cell, own.get(cell, _no_images()))
            if pick is not None:
                chosen.append((attacker, defender, k, rank, pick.worst, pick.best))
                own[cell] = own.get(cell, _no_images()).and_more(_images(limits, np.array([pick.worst, pick.best])))
                _show(source, limits, shown, pick.worst, pick.best)
                left.append(cell)
            report()
        cells = left
    return Choice(*np.array(chosen, np.int64).reshape(-1, 6).T)


def _pick(
    source: Source, pool: kernels.Pool, limits: Limits, shown: _Shown, cell: tuple[int, int, int], own: Images
) -> Pick | None:
    """The pair one cell takes."""
    lows, highs = (_kept(pool, limits, cell, end) for end in ("low", "high"))
    room = len(lows.score)
    while True:
        fresh, certain = _search(lows, highs, limits, shown, own)
        if certain:
            break
        room *= _MORE
        lows, highs = _read_again(source, limits, shown, cell, own, room)
    again = _exhibit_again(source, limits, shown, cell, own)
    return min((pick for pick in (fresh, again) if pick is not None), default=None)


def _search(
    lows: Candidates, highs: Candidates, limits: Limits, shown: _Shown, own: Images
) -> tuple[Pick | None, bool]:
    """The best pair of open candidates, and whether no pair with another image can come before it."""
    open_low, open_high = (_open(some.images, limits, shown, own) for some in (lows, highs))
    i, j = kernels.widest_pair(lows.score, highs.score, open_low, open_high, *lows.images, *highs.images, limits.radius)
    low_bound, first_low = _bounds(highs, open_high, lows, open_low)
    high_bound, _ = _bounds(lows, open_low, highs, open_high)
    if i < 0:
        return None, max(low_bound, high_bound) <= 0
    worst, best = float(lows.score[i]), float(highs.score[j])
    pick = Pick(worst - best, worst, int(lows.images.row[i]), -best, int(highs.images.row[j]))
    gap = best - worst
    certain = gap >= low_bound and (gap > high_bound or (gap == high_bound and i == first_low))
    return pick, bool(certain)


def _bounds(near: Candidates, open_near: BoolArray, far: Candidates, open_far: BoolArray) -> tuple[float, int]:
    """The largest difference that an image beyond `far` could make with one of `near`; the first open place of far."""
    first = int(np.argmax(open_far)) if open_far.any() else -1
    if far.complete:
        return -np.inf, first
    if open_near.any():
        end = near.score[np.argmax(open_near)]
    elif near.complete:
        return -np.inf, first
    else:
        end = near.score[-1]
    return abs(float(end) - float(far.score[-1])), first


def _open(images: Images, limits: Limits, shown: _Shown, own: Images) -> BoolArray:
    """(n,) which images a new exhibit of a cell may show."""
    closed = kernels.alike_any(*images, *own, limits.radius, True)
    rows = images.row.tolist()
    if limits.everywhere:
        alike = np.array([group in shown.groups for group in images.group.tolist()], np.bool_)
        if limits.radius >= 0:
            kernels.close_alike(alike, *images[1:], np.empty(0, np.int64), shown.images.hash, limits.radius)
        closed |= alike & np.array([row not in shown.exhibits_of for row in rows], np.bool_)
    if shown.full:
        closed |= np.array([row in shown.full for row in rows], np.bool_)
    return ~closed


def _kept(pool: kernels.Pool, limits: Limits, cell: tuple[int, int, int], end: str) -> Candidates:
    """What the scan kept of one end of a cell."""
    n = int(getattr(pool, f"n_{end}")[cell])
    scores, rows = getattr(pool, end)[cell], getattr(pool, f"{end}_row")[cell]
    return Candidates(scores[:n], _images(limits, rows[:n]), n < len(scores))


def _read_again(
    source: Source, limits: Limits, shown: _Shown, cell: tuple[int, int, int], own: Images, room: int
) -> tuple[Candidates, Candidates]:
    """The first `room` open lows and highs of a cell, only the first of one source and hash."""
    defender, k, attacker = cell
    low, high = (source.kind.type(ends[defender, k]) for ends in (source.levels.low, source.levels.high))
    closed = _closed(source, limits, shown)
    lows, highs = _End(limits, own, room), _End(limits, own, room)
    found = np.empty(min(source.block_rows, source.n_rows), np.int64)
    for start, stop in blocks(source.n_rows, source.block_rows):
        level = np.ascontiguousarray(source.columns[defender][start:stop], source.kind)
        scores = np.ascontiguousarray(source.columns[attacker][start:stop], source.kind)
        least, most = source.kind.type(lows.limit), source.kind.type(-highs.limit)
        places = found[: kernels.beyond(level, scores, low, high, closed[start:stop], least, most, found)]
        lows.offer(scores[places], places + start)
        highs.offer(-scores[places], places + start)
    return lows.candidates(), highs.candidates()._replace(score=-highs.score)


class _End:
    """The smallest scores offered so far, in order; of images of one source and hash only the first."""

    def __init__(self, limits: Limits, own: Images, room: int) -> None:
        self.limits, self.own, self.room = limits, own, room
        self.score: npt.NDArray[Any] = np.empty(0)
        self.images = _no_images()
        self.complete = True

    @property
    def limit(self) -> float:
        """What a score must be below to be kept."""
        return float(self.score[-1]) if len(self.score) == self.room else np.inf

    def offer(self, score: npt.NDArray[Any], row: IntArray) -> None:
        """Rows behind all those offered before; a row that `limit` kept from being offered is missed nonetheless."""
        near = score < self.limit
        self.complete &= bool(near.all()) and len(self.score) < self.room
        images = _images(self.limits, row[near])
        fine = ~kernels.alike_any(*images, *self.own, self.limits.radius, True)
        score = np.concatenate([self.score, score[near][fine]])
        images = self.images.and_more(images.take(fine))
        order = np.argsort(score, kind="stable")
        picked = np.empty(self.room, np.int64)
        n = kernels.first_of_kind(order, images.group, images.hash, self.limits.radius, picked)
        self.complete &= n < self.room or n == len(order)
        self.score, self.images = score[picked[:n]], images.take(picked[:n])

    def candidates(self) -> Candidates:
        return Candidates(self.score, self.images, self.complete)


def _closed(source: Source, limits: Limits, shown: _Shown) -> BoolArray:
    """(n_rows,) which rows no new exhibit may show, whatever the cell; what was shown since the last time is added."""
    if shown.closed is None:
        shown.closed = np.zeros(source.n_rows, np.bool_)
    new = shown.images.take(np.arange(shown.n_closed, len(shown.images.row)))
    if limits.everywhere and len(new.row):
        groups = np.unique(new.group)
        for start, stop in blocks(source.n_rows, source.block_rows):
            block = limits.block(start, stop)
            kernels.close_alike(shown.closed[start:stop], *block, groups, new.hash, limits.radius)
    shown.n_closed = len(shown.images.row)
    shown.closed[shown.images.row] = False
    shown.closed[list(shown.full)] = True
    return shown.closed


def _exhibit_again(
    source: Source, limits: Limits, shown: _Shown, cell: tuple[int, int, int], own: Images
) -> Pick | None:
    """The best pair of the cell among the exhibits there are that show an image at its cap."""
    if not shown.full_exhibits:
        return None
    pairs, scores = shown.full_pairs, shown.full_scores
    defender, k, attacker = cell
    low, high = source.levels.low[defender, k], source.levels.high[defender, k]
    own_rows = kernels.alike_any(*_images(limits, pairs.ravel()), *own, limits.radius, True).reshape(-1, 2)
    inside = (scores[:, :, defender] >= low) & (scores[:, :, defender] <= high)
    attack = scores[:, :, attacker]
    fine = inside.all(axis=1) & ~own_rows.any(axis=1) & (attack[:, 0] != attack[:, 1]) & ~np.isnan(attack).any(axis=1)
    fine &= ~limits.alike(pairs[:, 0], pairs[:, 1])
    turned = np.argsort(attack[fine], axis=1)
    pairs, attack = np.take_along_axis(pairs[fine], turned, 1), np.take_along_axis(attack[fine], turned, 1)
    picks = [
        Pick(worst - best, worst, rows[0], -best, rows[1])
        for (worst, best), rows in zip(attack.tolist(), pairs.tolist(), strict=True)
    ]
    return min(picks, default=None)


def _show(source: Source, limits: Limits, shown: _Shown, one: int, other: int) -> None:
    """Note an exhibit; one that is there already changes nothing."""
    pair = (min(one, other), max(one, other))
    if limits.plain or pair in shown.exhibits:
        return
    shown.exhibits.add(pair)
    for row in pair:
        of_row = shown.exhibits_of.setdefault(row, [])
        of_row.append(pair)
        if len(of_row) == 1:
            image = _images(limits, np.array([row]))
            shown.images = shown.images.and_more(image)
            shown.groups |= set(image.group[image.group >= 0].tolist())
        if len(of_row) == limits.cap:
            shown.full.add(row)
        if limits.cap is not None and len(of_row) >= limits.cap:
            _note_full(source, shown, [some for some in of_row if some not in shown.full_exhibits])


def _note_full(source: Source, shown: _Shown, exhibits: Sequence[tuple[int, int]]) -> None:
    """Note exhibits that show an image at its cap, and what every model says about them."""
    pairs = np.array(exhibits, np.int64).reshape(-1, 2)
    said = [pick_rows(column, pairs.ravel()).astype(source.kind) for column in source.columns]
    scores = np.array(said, np.float64).T.reshape(-1, 2, len(said))
    shown.full_exhibits |= set(exhibits)
    shown.full_pairs = np.concatenate([shown.full_pairs, pairs])
    shown.full_scores = np.concatenate([shown.full_scores.reshape(-1, 2, len(said)), scores])


def _images(limits: Limits, rows: IntArray) -> Images:
    return Images(rows, limits.group(rows), limits.hash(rows))


def _no_images() -> Images:
    return Images(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))
