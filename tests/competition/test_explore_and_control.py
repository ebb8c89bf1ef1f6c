"""Browsing disagreements without caps, and the random control arm."""

from typing import Any

import numpy as np
import pytest

from competition.selection import explore as explore_module
from competition.selection.columns import SelectionError
from competition.selection.control import control_rows
from competition.selection.explore import explore
from corpora.taxonomy import flat, level_table
from corpora.taxonomy.distances import levels_of

RNG = np.random.default_rng(5)
RAW = np.triu(RNG.integers(1, 5, (12, 12)), 1).astype(float)
LEVELS = levels_of(RAW + RAW.T)
CLASSES = (RNG.integers(0, 12, 2_000).astype(np.uint16), RNG.integers(0, 12, 2_000).astype(np.uint16))
CONFIDENCES = (
    (RNG.integers(0, 11, 2_000) / 10).astype(np.float16),
    (RNG.integers(0, 11, 2_000) / 10).astype(np.float16),
)


def slow_explore(
    label: int | None = None, min_confidence: float = 0.0, low: float = 0.0, high: float = 9.0
) -> list[int]:
    found = []
    for row, (a, b, p, q) in enumerate(zip(*CLASSES, *CONFIDENCES, strict=True)):
        distance = float(LEVELS.distance(a, b))
        if a == b or (label is not None and label not in (a, b)) or not low <= distance <= high:
            continue
        if min(p, q) >= np.float16(min_confidence):
            found.append((-distance, -float(min(p, q)), row))
    return [row for _, _, row in sorted(found)]


@pytest.mark.parametrize("block_rows", [13, 65_536])
@pytest.mark.parametrize(
    ("filters", "slow"),
    [
        ({}, {}),
        ({"label": 3}, {"label": 3}),
        ({"min_confidence": 0.7}, {"min_confidence": 0.7}),
        ({"min_distance": 2.0, "max_distance": 3.0}, {"low": 2.0, "high": 3.0}),
    ],
)
def test_pages_equal_a_slow_sort(
    monkeypatch: pytest.MonkeyPatch, block_rows: int, filters: dict[str, Any], slow: dict[str, Any]
) -> None:
    monkeypatch.setattr(explore_module, "BLOCK_ROWS", block_rows)
    expected = slow_explore(**slow)
    for offset in (0, 25, 5_000):
        page = explore(CLASSES, CONFIDENCES, LEVELS, n=20, offset=offset, **filters)
        assert page.rows.tolist() == expected[offset : offset + 20]
        assert page.n_matching == len(expected)
        assert page.distance.tolist() == LEVELS.distance(page.class_i, page.class_j).tolist()


def test_each_model_can_be_filtered_by_its_own_prediction_and_confidences_may_be_absent() -> None:
    page = explore(CLASSES, None, LEVELS, n=2_000, label_i=4, label_j=7)
    assert page.rows.tolist() == np.flatnonzero((CLASSES[0] == 4) & (CLASSES[1] == 7)).tolist()
    assert page.confidence_i is None
    nothing = explore((CLASSES[0], CLASSES[0]), CONFIDENCES, level_table(flat(12)))
    assert (len(nothing.rows), nothing.n_matching) == (0, 0)


def test_pages_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SelectionError, match="0 rows from 0"):
        explore(CLASSES, CONFIDENCES, LEVELS, n=0)


def test_control_rows_are_random_distinct_and_the_same_for_the_same_seed() -> None:
    rows = control_rows(10**9, 30, seed=1)
    assert rows.tolist() == control_rows(10**9, 30, seed=1).tolist()
    assert rows.tolist() != control_rows(10**9, 30, seed=2).tolist()
    assert len(set(rows.tolist())) == 30
    assert 0 <= rows.min() <= rows.max() < 10**9


def test_control_rows_leave_out_what_is_excluded_and_nothing_else() -> None:
    for exclude in ([], [0], [9], [0, 1, 5], [3, 3, 2], list(range(9))):
        rows = control_rows(10, 30, seed=4, exclude=exclude)
        assert sorted(rows.tolist()) == sorted(set(range(10)) - set(exclude))
    assert control_rows(0, 5, seed=0).tolist() == []


def test_control_rows_are_uniform_beside_exclusions() -> None:
    draws = np.concatenate([control_rows(12, 1, seed=seed, exclude=[2, 3, 7]) for seed in range(2_000)])
    counts = np.bincount(draws, minlength=12)
    assert counts[[2, 3, 7]].sum() == 0
    assert counts[counts > 0].min() > 150


def test_control_mistakes_are_named() -> None:
    with pytest.raises(SelectionError, match="-1 rows out of 5"):
        control_rows(5, -1, seed=0)
    with pytest.raises(SelectionError, match="rows 0 to 4"):
        control_rows(5, 1, seed=0, exclude=[5])
