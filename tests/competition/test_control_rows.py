"""The random control arm."""

import numpy as np
import pytest

from competition.selection.columns import SelectionError
from competition.selection.control import control_rows


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
