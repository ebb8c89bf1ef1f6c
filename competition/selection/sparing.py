"""What keeps a round's labels few and new: rows that are like labelled ones are left out, and images have a budget."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from competition.selection.columns import Column
from competition.selection.gmad import Pairs
from competition.selection.gmad_columns import blocks, pick_rows

BLOCK_ROWS = 65_536
_KNOWN_AT_ONCE = 256

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def rows_near(hashes: Column, rows: Sequence[int] | IntArray, distance: int) -> IntArray:
    """Rows whose perceptual hash differs in at most ``distance`` bits from that of one of ``rows``; they among them.

    hashes: (n_rows,) uint64, read in blocks. Returns row numbers, ascending.
    """
    known = np.unique(pick_rows(hashes, np.unique(np.asarray(rows, np.int64))).astype(np.uint64))
    found = [
        start + np.flatnonzero(_near_any(np.asarray(hashes[start:stop], np.uint64), known, distance))
        for start, stop in blocks(len(hashes), BLOCK_ROWS)
    ]
    return np.concatenate(found) if found and len(known) else np.empty(0, np.int64)


def _near_any(hashes: npt.NDArray[np.uint64], known: npt.NDArray[np.uint64], distance: int) -> BoolArray:
    near = np.zeros(len(hashes), np.bool_)
    for start in range(0, len(known), _KNOWN_AT_ONCE):
        differing = np.bitwise_count(hashes[:, None] ^ known[None, start : start + _KNOWN_AT_ONCE])
        near |= (differing <= distance).any(axis=1)
    return near


def within_budget(pairs: Pairs, budget: int) -> BoolArray:
    """(n,) which pairs to ask about so that no more than ``budget`` different images are shown.

    All cells get their first pair before any gets its second, levels in turn; a pair whose images are shown already
    costs nothing. Pairs that no longer fit are passed over, later ones that do are taken.
    """
    order = np.lexsort((pairs.attacker, pairs.defender, pairs.level, pairs.rank))
    chosen, shown = np.zeros(len(pairs), np.bool_), set[int]()
    for at in order.tolist():
        images = {int(pairs.worst[at]), int(pairs.best[at])}
        if len(shown | images) <= budget:
            chosen[at] = True
            shown |= images
    return chosen
