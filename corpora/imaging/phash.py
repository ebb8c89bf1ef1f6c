"""Perceptual hashes: 64 bits per image that change little when the image does, and the groups they give.

The DCT hash in its usual construction: grey, 32 x 32 by Lanczos (after a box reduction where the image is much larger),
two-dimensional DCT, the 8 x 8 lowest frequencies, one bit for each that exceeds their median. Re-encoding and resizing
move a few bits; unrelated images differ in about 32.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Hashes = npt.NDArray[np.uint64]

SIDE = 32
LOW = 8
_COSINES = np.cos(np.pi * np.outer(np.arange(LOW), 2 * np.arange(SIDE) + 1) / (2 * SIDE))  # (LOW, SIDE), the DCT-II
_NOISE = 6  # decimals kept of a coefficient, so that rounding errors decide no bit


def phash(pixels: npt.NDArray[np.uint8]) -> int:
    """The hash of one upright image, uint8 (height, width) or (height, width, 3), as a number of 64 bits.

    Raises ValueError for any other array.
    """
    return int(phash_batch([pixels])[0])


def phash_batch(images: Iterable[npt.NDArray[np.uint8]]) -> Hashes:
    """(n,) uint64 hashes of n images of any sizes; an array (n, height, width[, 3]) is such an iterable."""
    grey = [_shrink(pixels) for pixels in images]
    if not grey:
        return np.empty(0, np.uint64)
    low = _COSINES @ np.stack(grey) @ _COSINES.T  # (n, LOW, LOW)
    flat = low.reshape(len(low), -1).round(_NOISE)
    bits = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def hamming(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """How many of the 64 bits differ, elementwise for uint64 arrays of matching shapes."""
    differing: npt.NDArray[np.int64] = np.bitwise_count(
        np.asarray(first, np.uint64) ^ np.asarray(second, np.uint64)
    ).astype(np.int64)
    return differing


def near_duplicate_groups(hashes: npt.NDArray[Any], max_distance: int = 4) -> list[list[int]]:
    """Groups of two or more rows whose hashes lie within `max_distance` bits of each other, directly or through others.

    hashes: (n,) uint64. Rows ascend within a group, and groups by their first row. Exact: nothing is sampled. A million
    rows take a few seconds at 4 bits. Raises ValueError for a distance outside 0..16.
    """
    if not 0 <= max_distance <= 16:
        raise ValueError(f"max_distance is {max_distance}; near-duplicates differ in 0 to 16 of 64 bits")
    unique, member = np.unique(np.asarray(hashes, np.uint64), return_inverse=True)
    if max_distance == 0:
        group = member
    else:
        from corpora.imaging.hash_groups import connected  # numba: only where it is needed

        group = connected(unique, max_distance)[member]
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    return sorted(rows.tolist() for rows in np.split(order, cuts) if len(rows) > 1)


def _shrink(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise ValueError(f"an image is uint8 (height, width) or (height, width, 3), not {pixels.dtype} {pixels.shape}")
    image = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(image, dtype=np.float64)
