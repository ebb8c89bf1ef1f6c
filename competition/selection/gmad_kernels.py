"""The compiled loops of gMAD selection. `gmad` explains the algorithm.

A *cell* is (defender, level, attacker). Its *lows* are the rows of the level that the attacker finds worst, its *highs*
those it finds best, both in order: of equal scores the first row stands first.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]
Number = Any  # an integer whose width numba infers
TILE = 1_024  # rows whose scores lie in the first-level cache at a time
LANES = 16  # attackers are padded to a multiple, so that comparisons fill whole vectors
DIGIT_BITS = 11


class Levels(NamedTuple):
    """Which scores belong to which level, as closed intervals whose ends rise with k."""

    low: Array  # (M, K)
    high: Array  # (M, K)
    images: Array  # (M, K) int64, += rows of the level


class Pool(NamedTuple):
    """The `depth` first lows and highs of every cell, and what a score must beat to be among them."""

    least: Array  # (M, K, P), P = M padded; -inf: the cell is not asked for
    most: Array  # (M, K, P); +inf: the cell is not asked for
    low: Array  # (M, K, M, depth) scores, rising
    high: Array  # (M, K, M, depth) scores, falling
    low_row: Array  # (M, K, M, depth) int64
    high_row: Array  # (M, K, M, depth) int64
    n_low: Array  # (M, K, M) int64, how many there are
    n_high: Array  # (M, K, M) int64


@njit(cache=True, nogil=True)
def summarise(values: Array, lowest: Number, highest: Number) -> Any:
    """Lowest and highest number, how many numbers are finite, how many infinite; NaN counts as none."""
    finite = infinite = 0
    for value in values:
        if value - value == 0:
            finite += 1
            lowest = min(lowest, value)
            highest = max(highest, value)
        elif value == value:
            infinite += 1
    return lowest, highest, finite, infinite


@njit(cache=True, nogil=True)
def scan_block(
    first_row: Number, n_rows: Number, scores: Array, levels: Levels, pool: Pool, tile: Array, above: Array
) -> None:
    """Offer every row of a block to every cell.

    scores: (M, block), of which n_rows are used, NaN = not scored; tile: (TILE, P) room, NaN beyond M; above: (TILE,)
    int64 room. NaN passes no comparison, so a row that a model has not scored is in none of its levels and no candidate
    of its own.
    """
    n_models, n_levels = levels.low.shape
    for start in range(0, n_rows, TILE):
        n = min(TILE, n_rows - start)
        for model in range(n_models):
            for r in range(n):
                tile[r, model] = scores[model, start + r]
        for defender in range(n_models):
            own = scores[defender, start : start + n]
            low, high, images = levels.low[defender], levels.high[defender], levels.images[defender]
            least, most = pool.least[defender], pool.most[defender]
            above[:n] = 0
            for k in range(n_levels):
                for r in range(n):
                    above[r] += own[r] > high[k]
            for r in range(n):
                k = above[r]  # the first level that does not end below
                row = tile[r]
                while k < n_levels and low[k] <= own[r]:
                    images[k] += 1
                    hit = False
                    for attacker in range(len(row)):
                        hit |= (row[attacker] < least[k, attacker]) | (row[attacker] > most[k, attacker])
                    if hit:
                        _insert(first_row + start + r, row, defender, k, pool)
                    k += 1


@njit(cache=True, nogil=True)
def _insert(row: Number, scores: Array, defender: Number, k: Number, pool: Pool) -> None:
    """Put a row into the lows and highs of the attackers among whose first it is."""
    depth = pool.low.shape[3]
    for attacker in range(pool.low.shape[2]):
        score = scores[attacker]
        if score < pool.least[defender, k, attacker]:
            values, rows = pool.low[defender, k, attacker], pool.low_row[defender, k, attacker]
            at = min(pool.n_low[defender, k, attacker], depth - 1)
            pool.n_low[defender, k, attacker] = at + 1
            while at > 0 and values[at - 1] > score:
                values[at], rows[at] = values[at - 1], rows[at - 1]
                at -= 1
            values[at], rows[at] = score, row
            if pool.n_low[defender, k, attacker] == depth:
                pool.least[defender, k, attacker] = values[depth - 1]
        if score > pool.most[defender, k, attacker]:
            values, rows = pool.high[defender, k, attacker], pool.high_row[defender, k, attacker]
            at = min(pool.n_high[defender, k, attacker], depth - 1)
            pool.n_high[defender, k, attacker] = at + 1
            while at > 0 and values[at - 1] < score:
                values[at], rows[at] = values[at - 1], rows[at - 1]
                at -= 1
            values[at], rows[at] = score, row
            if pool.n_high[defender, k, attacker] == depth:
                pool.most[defender, k, attacker] = values[depth - 1]


@njit(cache=True, nogil=True)
def take_members(
    first_row: Number, scores: Array, low: Array, high: Array, seen: Array, wanted: Array, found: Array, next_: Array
) -> None:
    """Note the rows that are the wanted-th members of each level of one defender.

    scores: (n,); low, high: (K,); seen: (K,) members met before, +=; wanted: (K, w) numbers of members, rising;
    found: (K, w) the rows, filled; next_: (K,) which of the wanted comes next, +=.
    """
    n_levels = len(low)
    for r in range(len(scores)):
        for k in range(n_levels):
            if low[k] <= scores[r] <= high[k]:
                while next_[k] < wanted.shape[1] and wanted[k, next_[k]] == seen[k]:
                    found[k, next_[k]] = first_row + r
                    next_[k] += 1
                seen[k] += 1


@njit(cache=True, nogil=True)
def count_digits(
    keys: Array, bits: Number, known: Number, width: Number, prefixes: Array, starts: Array, counts: Array
) -> None:
    """Count the next digit of every key whose first `known` bits are one of the prefixes.

    keys: (n,) uint64 of `bits` bits; the digit is the next `width` bits; prefixes: (p,) uint64, rising; starts:
    (2 ** DIGIT_BITS + 1,) where the prefixes with each first digit start; counts: (p, 2 ** DIGIT_BITS), +=.
    """
    mask = np.uint64((1 << width) - 1)
    shift = np.uint64(bits - known - width)
    for key in keys:
        at = np.int64(0)
        if known > 0:
            prefix = key >> np.uint64(bits - known)
            first = np.int64(key >> np.uint64(bits - DIGIT_BITS))
            at, stop = starts[first], starts[first + 1]
            while stop - at > 1:
                middle = (at + stop) // 2
                if prefixes[middle] <= prefix:
                    at = middle
                else:
                    stop = middle
            if at == stop or prefixes[at] != prefix:
                continue
        counts[at, np.int64((key >> shift) & mask)] += 1


@njit(cache=True, nogil=True)
def widest_pair(
    low: Array,
    high: Array,
    open_low: Array,
    open_high: Array,
    low_row: Array,
    low_group: Array,
    low_hash: Array,
    high_row: Array,
    high_group: Array,
    high_hash: Array,
    radius: Number,
) -> Any:
    """Places (i, j) of the open low and the open high, not alike, with the largest positive difference; (-1, -1): none.

    low: (n,) rising, high: (m,) falling; of equal differences the first i, then the first j.
    """
    first_high = 0
    while first_high < len(high) and not open_high[first_high]:
        first_high += 1
    found_i = found_j = -1
    widest = 0.0
    for i in range(len(low)):
        if first_high == len(high) or np.float64(high[first_high]) - np.float64(low[i]) <= widest:
            break
        if not open_low[i]:
            continue
        for j in range(first_high, len(high)):
            gap = np.float64(high[j]) - np.float64(low[i])
            if gap <= widest:
                break
            if not open_high[j]:
                continue
            if not _alike(low_row[i], low_group[i], low_hash[i], high_row[j], high_group[j], high_hash[j], radius):
                found_i, found_j, widest = i, j, gap
                break
    return found_i, found_j


@njit(cache=True, nogil=True)
def alike_any(
    row: Array,
    group: Array,
    hash_: Array,
    other_row: Array,
    other_group: Array,
    other_hash: Array,
    radius: Number,
    itself: Number,
) -> Array:
    """(n,) whether each image is alike with any of the others; itself: whether it is alike with itself."""
    result = np.zeros(len(row), np.bool_)
    for i in range(len(row)):
        for j in range(len(other_row)):
            if row[i] == other_row[j]:
                result[i] |= itself
            elif _alike(row[i], group[i], hash_[i], other_row[j], other_group[j], other_hash[j], radius):
                result[i] = True
            if result[i]:
                break
    return result


@njit(cache=True, nogil=True)
def _alike(
    row: Number,
    group: Number,
    hash_: Number,
    other_row: Number,
    other_group: Number,
    other_hash: Number,
    radius: Number,
) -> Any:
    """Whether two images are one, of one source, or near-duplicates."""
    if row == other_row or (group >= 0 and group == other_group):
        return True
    return radius >= 0 and _bits(hash_ ^ other_hash) <= radius


@njit(cache=True, nogil=True)
def beyond(
    level: Array, scores: Array, low: Number, high: Number, closed: Array, least: Number, most: Number, found: Array
) -> Any:
    """Places of the open members of a level whose score is below `least` or above `most`: found[: the result].

    level, scores: (n,) of the defender and of the attacker; closed: (n,) bool.
    """
    n = 0
    for r in range(len(level)):
        if low <= level[r] <= high and (scores[r] < least or scores[r] > most) and not closed[r]:
            found[n] = r
            n += 1
    return n


@njit(cache=True, nogil=True)
def first_of_kind(order: Array, group: Array, hash_: Array, radius: Number, picked: Array) -> Any:
    """The first in an order of each source and hash, until `picked` is full: picked[: the result].

    Images with neither a source nor a hash in use are all of a kind of their own.
    """
    n = 0
    for at in order:
        if n == len(picked):
            break
        fresh = True
        if group[at] >= 0 or radius >= 0:
            for other in picked[:n]:
                if group[other] == group[at] and hash_[other] == hash_[at]:
                    fresh = False
                    break
        if fresh:
            picked[n] = at
            n += 1
    return n


@njit(cache=True, nogil=True)
def close_alike(closed: Array, group: Array, hash_: Array, groups: Array, hashes: Array, radius: Number) -> None:
    """Mark in closed (n,) the rows of one of some sources (rising), or with a hash near one of some hashes."""
    for r in range(len(closed)):
        if closed[r]:
            continue
        if group[r] >= 0:
            at = np.searchsorted(groups, group[r])
            closed[r] = at < len(groups) and groups[at] == group[r]
        if radius >= 0:
            for other in hashes:
                if closed[r]:
                    break
                closed[r] = _bits(hash_[r] ^ other) <= radius


@njit(cache=True, nogil=True)
def _bits(number: Number) -> Any:
    """How many bits of an unsigned number are set."""
    n = 0
    while number:
        number &= number - np.uint64(1)
        n += 1
    return n
