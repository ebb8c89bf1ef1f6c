"""Perceptual hashes: near images stay near, and groups equal a slow comparison of all pairs."""

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from corpora.imaging.phash import hamming, near_duplicate_groups, phash, phash_batch


def picture(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    """A smooth random picture, uint8 (height, width, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def recoded(pixels: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def test_recoding_and_resizing_move_few_bits_and_other_images_are_far() -> None:
    originals = [picture(seed) for seed in range(20)]
    hashes = phash_batch(originals)
    strong = phash_batch([recoded(pixels, 30) for pixels in originals])
    small = phash_batch([np.asarray(Image.fromarray(pixels).resize((100, 75))) for pixels in originals])
    assert hamming(hashes, strong).max() <= 4
    assert hamming(hashes, small).max() <= 4
    assert min(int(hamming(a, b)) for a, b in combinations(hashes, 2)) > 10


def test_the_hash_is_the_dct_of_the_small_grey_image() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    low = dctn(grey.astype(float), type=2)[:8, :8].ravel()
    expected = int("".join("1" if value > np.median(low) else "0" for value in low), 2)
    assert phash(grey) == expected
    assert phash(np.repeat(grey[..., None], 3, axis=2)) == expected


def test_every_shape_of_image_has_a_hash() -> None:
    shapes = [(1, 1), (1, 1, 3), (500, 2, 3), (8, 8), (32, 32, 3)]
    assert all(0 <= phash(np.full(shape, 9, np.uint8)) < 2**64 for shape in shapes)
    assert len({phash(np.full((20, 30), level, np.uint8)) for level in (1, 100, 255)}) == 1
    assert phash_batch([]).shape == (0,)
    assert phash_batch(np.zeros((3, 8, 8, 3), np.uint8)).shape == (3,)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)])
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image is uint8"):
        phash(bad)


def test_hamming_counts_differing_bits() -> None:
    assert hamming([0, 2**64 - 1, 5], [0, 0, 6]).tolist() == [0, 64, 2]


def slow_groups(hashes: list[int], limit: int) -> list[list[int]]:
    groups = [{row} for row in range(len(hashes))]
    for i, j in combinations(range(len(hashes)), 2):
        if bin(hashes[i] ^ hashes[j]).count("1") <= limit:
            one = next(group for group in groups if i in group)
            two = next(group for group in groups if j in group)
            if one is not two:
                groups.remove(two)
                one |= two
    return sorted(sorted(group) for group in groups if len(group) > 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from([0, 1, 2, 4, 7, 10]))
def test_groups_equal_comparing_all_pairs(seed: int, n: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**63, 4)
    hashes = []
    for _ in range(n):
        flips = sum(1 << int(bit) for bit in set(rng.integers(0, 64, rng.integers(0, 9)).tolist()))
        hashes.append(int(rng.choice(centres)) ^ flips)
    assert near_duplicate_groups(np.array(hashes, np.uint64), limit) == slow_groups(hashes, limit)


def test_groups_among_many_hashes_are_found() -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**63, 200_000).astype(np.uint64)
    hashes[100_000:100_500] = hashes[:500] ^ np.uint64(0b1000_0000_0001_0001)
    hashes[150_000:160_000] = hashes[7]
    groups = near_duplicate_groups(hashes, 4)
    assert groups[0] == [0, 100_000]
    assert groups[7] == [7, 100_007, *range(150_000, 160_000)]
    assert len(groups) == 500


def test_distances_beyond_meaning_are_refused() -> None:
    with pytest.raises(ValueError, match="max_distance is 17"):
        near_duplicate_groups(np.zeros(2, np.uint64), 17)
