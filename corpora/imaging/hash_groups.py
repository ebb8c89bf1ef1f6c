"""Connected groups among millions of 64-bit hashes, exactly, without comparing all pairs.

Pigeonhole: cut 64 bits into b bands; two hashes that differ in at most d bits differ in at most floor(d / b) bits
within one of the bands. So for each band, hashes are put into buckets by its value, and every hash is compared with
the buckets whose value differs from its own in that few bits. The number of bands is the one that promises the fewest
comparisons.
"""

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

_FEWEST_BANDS = 3  # at most 22 bits a band: a table of 16 MB
_MOST_BANDS = 32
_PROBE = 3  # looking into a bucket costs about as much as this many comparisons


def connected(hashes: npt.NDArray[np.uint64], max_distance: int) -> npt.NDArray[np.int64]:
    """(n,) a number per hash, equal for hashes that steps of at most `max_distance` bits connect."""
    parent = np.arange(len(hashes), dtype=np.int64)
    n_bands = _n_bands(len(hashes), max_distance)
    edges = np.linspace(0, 64, n_bands + 1).astype(int).tolist()
    for low, high in pairwise(edges):
        value = ((hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)).astype(np.int64)
        order = np.argsort(value, kind="stable")
        starts = np.zeros((1 << (high - low)) + 1, np.int32)
        np.cumsum(np.bincount(value, minlength=len(starts) - 1), out=starts[1:])
        _link(hashes, value, order, starts, _flips(high - low, max_distance // n_bands), max_distance, parent)
    _roots(parent)
    return parent


def _n_bands(n: int, max_distance: int) -> int:
    def cost(n_bands: int) -> float:
        width = 64 // n_bands
        probes = n * len(_flips(width, max_distance // n_bands))
        return float(n_bands * (probes * (_PROBE + n / 2**width) + 2**width))  # the last term is the table itself

    return min(range(_FEWEST_BANDS, _MOST_BANDS + 1), key=cost)


def _flips(width: int, errors: int) -> npt.NDArray[np.int64]:
    """Every pattern of at most `errors` ones in `width` bits."""
    chosen = (bits for count in range(errors + 1) for bits in combinations(range(width), count))
    return np.array([sum(1 << bit for bit in bits) for bits in chosen], np.int64)


@njit(cache=True, nogil=True)
def _link(hashes: Any, value: Any, order: Any, starts: Any, flips: Any, max_distance: int, parent: Any) -> None:
    for i in range(len(hashes)):
        for flip in flips:
            bucket = value[i] ^ flip
            for at in range(starts[bucket], starts[bucket + 1]):
                j = order[at]
                if j > i and _distance(hashes[i], hashes[j]) <= max_distance:
                    _join(parent, i, j)


@njit(cache=True, nogil=True, inline="always")
def _distance(first: Any, second: Any) -> Any:
    bits = first ^ second
    bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def _join(parent: Any, i: Any, j: Any) -> None:
    """The smaller root becomes the root of both."""
    first, second = _root(parent, i), _root(parent, j)
    parent[max(first, second)] = min(first, second)


@njit(cache=True, nogil=True)
def _root(parent: Any, i: Any) -> Any:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _roots(parent: Any) -> None:
    for i in range(len(parent)):
        parent[i] = _root(parent, i)
