"""Random ensembles, budgets, and rows that are like labelled ones."""

import numpy as np
import pytest

from competition.selection.columns import SelectionError
from competition.selection.ensembles import random_ensembles
from competition.selection.gmad import select
from competition.selection.sparing import rows_near, within_budget


def test_ensembles_follow_from_the_seed_alone() -> None:
    drawn = random_ensembles(8, 5, seed=3)
    assert drawn == random_ensembles(8, 5, seed=3)
    assert drawn == random_ensembles(8, 9, seed=3)[:5], "more ensembles begin with the same ones"
    assert drawn != random_ensembles(8, 5, seed=4)


def test_ensembles_have_two_to_all_members_and_whole_weights() -> None:
    drawn = random_ensembles(5, 400, seed=0)
    sizes = np.array([len(each.members) for each in drawn])
    assert set(sizes) == {2, 3, 4, 5}
    for each in drawn:
        assert len(set(each.members)) == len(each.members)
        assert list(each.members) == sorted(each.members)
        assert min(each.weights) > 0
        assert sum(each.weights) == pytest.approx(1)
    heaviest = np.mean([max(each.weights) for each in drawn if len(each.members) == 2])
    assert heaviest == pytest.approx(0.75, abs=0.05), (
        "of two weights from a flat Dirichlet the larger is 3/4 on average"
    )


def test_one_variant_makes_no_ensemble() -> None:
    with pytest.raises(SelectionError, match="at least 2 variants"):
        random_ensembles(1, 5, seed=0)


def test_rows_near_equal_a_slow_comparison() -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**63, 300, dtype=np.uint64)
    hashes[50] = hashes[7] ^ np.uint64(0b111)
    found = rows_near(hashes, [7, 200], 3)
    slow = [row for row in range(300) if any(int(hashes[row] ^ hashes[known]).bit_count() <= 3 for known in (7, 200))]
    assert found.tolist() == slow
    assert 50 in slow
    assert rows_near(hashes, [], 3).tolist() == []


def test_a_budget_gives_every_cell_its_first_pair_before_any_its_second() -> None:
    rng = np.random.default_rng(5)
    columns = [rng.uniform(0, 100, 400) for _ in range(3)]
    pairs = select(columns, levels=4, top=3, newcomers=[0]).pairs
    whole = within_budget(pairs, 10_000)
    assert whole.all()
    kept = within_budget(pairs, 30)
    images = set(pairs.worst[kept]) | set(pairs.best[kept])
    assert len(images) <= 30
    assert kept.any()
    assert (pairs.rank[kept] == 1).mean() > (pairs.rank[~kept] == 1).mean()
    assert set(zip(pairs.attacker.tolist(), pairs.defender.tolist(), strict=True)) == {(0, 1), (1, 0), (0, 2), (2, 0)}
