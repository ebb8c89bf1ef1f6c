"""The compiled loops of MAD selection. `mad` explains the algorithm and why its result is exact.

A *pool* holds, for each pair of models at work, the candidates kept so far. A candidate's *key* is a 64-bit number
whose order is the order of selection: the level of its distance in the high half, the bits of the smaller confidence
in the low half. Its *label* is the two predicted classes, i's in the high half. Equal keys stand in the order of
their rows.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]
Number = Any  # an integer whose width numba infers
_LOW = np.uint64(0xFFFFFFFF)
TILE = 4_096
LANES = 64  # TILE / LANES counts fit into a lane


class Pool(NamedTuple):
    """Arrays of P pairs with room for `capacity` candidates each; hashes have capacity 0 where they are not used."""

    key: Array  # (P, capacity) uint64
    label: Array  # (P, capacity) uint64
    hash: Array  # (P, capacity or 0) uint64
    row: Array  # (P, capacity) uint64
    filled: Array  # (P,) int64, how many candidates there are
    floor: Array  # (P,) uint64, nothing at or below this key is kept any more
    dropped: Array  # (P,) bool, whether the floor has cost a candidate
    seen_key: Array  # (P, slots) uint64, slots a power of two: the best key pushed lately for ...
    seen_label: Array  # (P, slots) uint64, ... this label ...
    seen_hash: Array  # (P, slots or 0) uint64, ... and this hash
    accepted_label: Array  # (P, wanted) uint64, accepted in earlier passes
    accepted_hash: Array  # (P, wanted) uint64
    n_accepted: Array  # (P,) int64


class Scratch(NamedTuple):
    """Room for one pair at a time, shared by all."""

    used_i: Array  # (C,) int32, zero between calls
    used_j: Array  # (C,) int32, zero between calls
    picked_label: Array  # (goal,) uint64
    picked_hash: Array  # (goal,) uint64
    picked_at: Array  # (goal,) int64
    slots: Array  # (2 * capacity,) int32, a power of two of them, -1 between calls
    order: Array  # (capacity,) int32
    spare: Array  # (capacity,) uint64
    lanes: Array  # (LANES,) uint16
    mark: Array  # (TILE,) uint8
    survivors: Array  # (TILE + 1,) int32
    keys: Array  # (TILE + 1,) uint64


@njit(cache=True, nogil=True)
def hide_unsure(n_rows: Number, classes: Array, bits: Array, threshold: Number, hidden: Number, out: Array) -> None:
    """out = classes where the confidence reaches the threshold, `hidden` elsewhere."""
    for row in range(n_rows):
        out[row] = classes[row] if bits[row] >= threshold else hidden


@njit(cache=True, nogil=True)
def scan_block(
    first_row: Number,
    n_rows: Number,
    classes: Array,
    sure: Array,
    bits: Array,
    hashes: Array,
    pairs: Array,
    ranks: Array,
    stride_a: Number,
    stride_b: Number,
    hidden: Number,
    cap: Number,
    radius: Number,
    goals: Array,
    tally: Array,
    pool: Pool,
    scratch: Scratch,
) -> None:
    """Offer every row of a block to every pair.

    classes, sure: (m, block), of which n_rows are used; bits: (m, block), or (m, 0) without confidences; hashes:
    (block,) or (0,); pairs: (P, 2); ranks: flat level table read at a * stride_a + b * stride_b; tally: (P, 2), +=
    disagreements, confident ones. Tiles of rows leave the level table its place in the second-level cache.
    """
    for start in range(0, n_rows, TILE):
        stop = min(start + TILE, n_rows)
        for p in range(len(pairs)):
            i, j = pairs[p, 0], pairs[p, 1]
            tally[p, 0] += _count_differing(classes[i, start:stop], classes[j, start:stop], scratch.lanes)
            _mark_confident(sure[i, start:stop], sure[j, start:stop], hidden, scratch.mark)
            n_survivors = _gather_marked(stop - start, scratch.mark, scratch.survivors)
            tally[p, 1] += n_survivors
            n_news = _above_floor(
                n_survivors, classes[i, start:stop], classes[j, start:stop], bits[i, start:stop], bits[j, start:stop],
                ranks, stride_a, stride_b, pool.floor[p], scratch.survivors, scratch.keys,
            )  # fmt: skip
            if n_news < n_survivors:
                pool.dropped[p] = True
            s = 0
            while s < n_news:
                n_accepted = pool.n_accepted[p]
                s, pool.filled[p] = _push(
                    s, n_news, scratch.survivors, scratch.keys, start, first_row, classes[i], classes[j], hashes,
                    pool.floor[p], pool.key[p], pool.label[p], pool.hash[p], pool.row[p], pool.filled[p],
                    pool.seen_key[p], pool.seen_label[p], pool.seen_hash[p],
                    pool.accepted_label[p, :n_accepted], pool.accepted_hash[p, :n_accepted],
                    len(scratch.used_i), cap, radius,
                )  # fmt: skip
                if pool.filled[p] == pool.key.shape[1]:
                    compact(pool, scratch, p, goals[p], cap, radius, pool.filled[p] // 2)
                    if pool.floor[p] > 0:
                        pool.dropped[p] = True  # by the higher floor, among the survivors still to be pushed


@njit(cache=True, nogil=True)
def _push(
    s: Number,
    n_news: Number,
    survivors: Array,
    keys: Array,
    start: Number,
    first_row: Number,
    class_i: Array,
    class_j: Array,
    hashes: Array,
    floor: Number,
    pool_key: Array,
    pool_label: Array,
    pool_hash: Array,
    pool_row: Array,
    count: Number,
    seen_key: Array,
    seen_label: Array,
    seen_hash: Array,
    accepted_label: Array,
    accepted_hash: Array,
    n_classes: Number,
    cap: Number,
    radius: Number,
) -> Any:
    """Put survivors s.. into the pool of one pair until it is full: the next survivor, and the candidates there are.

    Left out is what the floor, a better candidate alike, or the accepted of earlier passes keep from ever mattering.
    The loop calls no function with an array until a candidate gets that far: such a call costs more than all the rest.
    """
    image_hash: Number = np.uint64(0)
    while s < n_news and count < len(pool_key):
        row, key = start + survivors[s], keys[s]
        s += 1
        if key <= floor:
            continue
        label = (np.uint64(class_i[row]) << np.uint64(32)) | np.uint64(class_j[row])
        if len(hashes) > 0:
            image_hash = hashes[row]
        spread = (label >> np.uint64(32)) * np.uint64(n_classes) + (label & _LOW) + _mix(image_hash)
        slot = np.int64(spread & np.uint64(len(seen_key) - 1))  # few classes and no hashes: no two labels share a slot
        same = seen_label[slot] == label
        if len(seen_hash) > 0:
            same = same and seen_hash[slot] == image_hash
            seen_hash[slot] = image_hash
        if same and key <= seen_key[slot]:
            continue
        seen_key[slot] = key
        seen_label[slot] = label
        if len(accepted_label) > 0 and not _fits(accepted_label, accepted_hash, label, image_hash, cap, radius):
            continue
        pool_key[count] = key
        pool_label[count] = label
        pool_row[count] = first_row + row
        if len(hashes) > 0:
            pool_hash[count] = image_hash
        count += 1
    return s, count


@njit(cache=True, nogil=True)
def _above_floor(
    n_survivors: Number,
    class_i: Array,
    class_j: Array,
    bits_i: Array,
    bits_j: Array,
    ranks: Array,
    stride_a: Number,
    stride_b: Number,
    floor: Number,
    survivors: Array,
    keys: Array,
) -> Any:
    """The survivors whose key exceeds the floor, in order, as survivors[: the result], with their keys."""
    found = 0
    for s in range(n_survivors):
        row = survivors[s]
        level = ranks[np.int64(class_i[row]) * stride_a + np.int64(class_j[row]) * stride_b]
        key: Number = np.uint64(level) << np.uint64(32)
        if len(bits_i) > 0:
            key |= np.uint64(min(bits_i[row], bits_j[row]))
        survivors[found] = row
        keys[found] = key
        found += key > floor
    return found


@njit(cache=True, nogil=True)
def _count_differing(class_i: Array, class_j: Array, lanes: Array) -> Any:
    """How many rows differ. Counting in lanes keeps the compiler on 16-bit vector registers, twice as fast as a sum."""
    lanes[:] = 0
    whole = len(class_i) - len(class_i) % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += class_i[start + lane] != class_j[start + lane]
    differing = 0
    for lane in range(LANES):
        differing += lanes[lane]
    for row in range(whole, len(class_i)):
        differing += class_i[row] != class_j[row]
    return differing


@njit(cache=True, nogil=True)
def _mark_confident(sure_i: Array, sure_j: Array, hidden: Number, mark: Array) -> None:
    for row in range(len(sure_i)):
        mark[row] = (sure_i[row] != sure_j[row]) & (sure_i[row] != hidden) & (sure_j[row] != hidden)


@njit(cache=True, nogil=True)
def _gather_marked(n_rows: Number, mark: Array, survivors: Array) -> Any:
    """The marked rows in order, as survivors[: the result]; eight rows without a mark cost one step."""
    found = 0
    words = mark[: n_rows - n_rows % 8].view(np.uint64)
    for word in range(len(words)):
        if words[word] == 0:
            continue
        for row in range(8 * word, 8 * word + 8):
            survivors[found] = row
            found += mark[row]
    for row in range(n_rows - n_rows % 8, n_rows):
        survivors[found] = row
        found += mark[row]
    return found


@njit(cache=True, nogil=True)
def _fits(
    accepted_label: Array, accepted_hash: Array, label: Number, image_hash: Number, cap: Number, radius: Number
) -> Any:
    """Whether the candidate could still be accepted beside those of earlier passes."""
    same_i, same_j = 0, 0
    for other in accepted_label:
        same_i += (other >> np.uint64(32)) == (label >> np.uint64(32))
        same_j += (other & _LOW) == (label & _LOW)
    return (
        same_i < cap
        and same_j < cap
        and not _label_taken(accepted_label, label)
        and not near_any(accepted_hash, image_hash, radius)
    )


@njit(cache=True, nogil=True)
def compact(pool: Pool, scratch: Scratch, p: Number, goal: Number, cap: Number, radius: Number, limit: Number) -> Any:
    """Sort the candidates of pair p and let go of those that cannot matter; returns how many a greedy walk accepts.

    What ranks after the last of `goal` accepted candidates goes, and so does what exceeds `limit`; both raise the
    floor. scratch.picked_at[: the result] are the positions of the accepted ones.
    """
    count = pool.filled[p]
    order = scratch.order[:count]
    _sort_descending(pool.key[p, :count], order, scratch.spare)
    kept, seen, n_picked = _walk(pool, scratch, p, order, goal, cap, radius)
    if kept > limit or seen < count:
        kept = min(kept, limit)
        pool.dropped[p] = True
    if kept == limit or n_picked == goal:
        pool.floor[p] = pool.key[p, order[kept - 1]]
    _take(pool.key[p], order[:kept], scratch.spare)
    _take(pool.label[p], order[:kept], scratch.spare)
    _take(pool.row[p], order[:kept], scratch.spare)
    if pool.hash.shape[1] > 0:
        _take(pool.hash[p], order[:kept], scratch.spare)
    pool.filled[p] = kept
    return n_picked


@njit(cache=True, nogil=True)
def _sort_descending(key: Array, order: Array, spare: Array) -> None:
    """order = the positions of key, highest first, equal ones as they stand (a merge sort; numpy's compiles slowly)."""
    n = len(key)
    for at in range(n):
        order[at] = at
    width = 1
    while width < n:
        for low in range(0, n, 2 * width):
            middle, high = min(low + width, n), min(low + 2 * width, n)
            left, right = low, middle
            for at in range(low, high):
                if left < middle and (right == high or key[order[left]] >= key[order[right]]):
                    spare[at] = order[left]
                    left += 1
                else:
                    spare[at] = order[right]
                    right += 1
        for at in range(n):
            order[at] = spare[at]
        width *= 2


@njit(cache=True, nogil=True)
def _take(column: Array, order: Array, spare: Array) -> None:
    """column[: len(order)] = column[order], in place."""
    for at in range(len(order)):
        spare[at] = column[order[at]]
    for at in range(len(order)):
        column[at] = spare[at]


@njit(cache=True, nogil=True)
def _walk(pool: Pool, scratch: Scratch, p: Number, order: Array, goal: Number, cap: Number, radius: Number) -> Any:
    """Walk candidates from the best on; returns how many are kept, were seen, and are accepted.

    order[: kept] becomes the candidates without those that repeat a better one's label (and hash): whatever keeps the
    better one from being accepted keeps the other out as well.
    """
    n_earlier = pool.n_accepted[p]
    labels, hashes, with_hash = pool.label[p], pool.hash[p], pool.hash.shape[1] > 0
    earlier_label, earlier_hash = pool.accepted_label[p, :n_earlier], pool.accepted_hash[p, :n_earlier]
    used_i, used_j, slots = scratch.used_i, scratch.used_j, scratch.slots
    picked_label, picked_hash, picked_at = scratch.picked_label, scratch.picked_hash, scratch.picked_at
    _count_classes(earlier_label, 1, used_i, used_j)
    image_hash: Number = np.uint64(0)
    kept, seen, n_picked = 0, 0, 0
    while seen < len(order) and n_picked < goal:
        at = order[seen]
        seen += 1
        label = labels[at]
        if with_hash:
            image_hash = hashes[at]
        slot: Number = np.int64(_mix(label ^ _mix(image_hash)) & np.uint64(len(slots) - 1))
        while slots[slot] >= 0:  # open addressing
            other = order[slots[slot]]
            if labels[other] == label and (not with_hash or hashes[other] == image_hash):
                break
            slot = slot + 1 if slot + 1 < len(slots) else 0
        if slots[slot] >= 0:
            continue
        slots[slot] = kept
        order[kept] = at
        kept += 1
        a, b = np.int64(label >> np.uint64(32)), np.int64(label & _LOW)
        if used_i[a] >= cap or used_j[b] >= cap:
            continue
        if _label_taken(earlier_label, label) or _label_taken(picked_label[:n_picked], label):
            continue
        if near_any(earlier_hash, image_hash, radius) or near_any(picked_hash[:n_picked], image_hash, radius):
            continue
        used_i[a] += 1
        used_j[b] += 1
        picked_label[n_picked] = label
        picked_hash[n_picked] = image_hash
        picked_at[n_picked] = kept - 1
        n_picked += 1
    _count_classes(earlier_label, -1, used_i, used_j)
    _count_classes(picked_label[:n_picked], -1, used_i, used_j)
    slots[:] = -1
    return kept, seen, n_picked


@njit(cache=True, nogil=True)
def _mix(bits: Number) -> Any:
    """A hash of 64 bits, 0 for 0."""
    bits = (bits ^ (bits >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    return bits ^ (bits >> np.uint64(32))


@njit(cache=True, nogil=True)
def _count_classes(labels: Array, step: Number, used_i: Array, used_j: Array) -> None:
    for label in labels:
        used_i[np.int64(label >> np.uint64(32))] += step
        used_j[np.int64(label & _LOW)] += step


@njit(cache=True, nogil=True)
def _label_taken(labels: Array, label: Number) -> Any:
    turned = (label >> np.uint64(32)) | (label << np.uint64(32))
    for other in labels:  # noqa: SIM110, numba compiles no generators here
        if other in (label, turned):
            return True
    return False


@njit(cache=True, nogil=True)
def near_any(hashes: Array, image_hash: Number, radius: Number) -> Any:
    """Whether any of the hashes is within `radius` bits; never for a negative radius."""
    if radius < 0:
        return False
    for other in hashes:  # noqa: SIM110, as above
        if _popcount(other ^ image_hash) <= radius:
            return True
    return False


@njit(cache=True, nogil=True)
def _popcount(bits: Number) -> Any:
    bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def count_duplicates(
    first_row: Number,
    n_rows: Number,
    class_i: Array,
    class_j: Array,
    bits_i: Array,
    bits_j: Array,
    hashes: Array,
    threshold: Number,
    ranks: Array,
    stride_a: Number,
    stride_b: Number,
    radius: Number,
    key: Array,
    row: Array,
    image_hash: Array,
) -> Any:
    """How many rows of a block are confident disagreements that show nearly the same as a better one of the accepted.

    key, row, image_hash: of the accepted, best first; bits_i and bits_j are empty without confidences.
    """
    found = 0
    for r in range(n_rows):
        if class_i[r] == class_j[r]:
            continue
        this = np.uint64(ranks[np.int64(class_i[r]) * stride_a + np.int64(class_j[r]) * stride_b]) << np.uint64(32)
        if len(bits_i) > 0:
            surest = min(bits_i[r], bits_j[r])
            if surest < threshold:
                continue
            this |= np.uint64(surest)
        for s in range(len(key)):
            if key[s] < this or (key[s] == this and row[s] >= first_row + r):
                break
            if _popcount(image_hash[s] ^ hashes[r]) <= radius:
                found += 1
                break
    return found
