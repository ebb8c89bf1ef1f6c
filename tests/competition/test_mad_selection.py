"""MAD selection against a slow obvious loop, and what users would notice: determinism, caps, reasons, clear errors."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from competition.selection import mad
from competition.selection.columns import SelectionError
from competition.selection.mad import PairSelection, SelectionCancelled, select, select_new_entrant
from corpora.taxonomy import LevelTable, flat, imagenet1k, level_table
from corpora.taxonomy.distances import levels_of


@dataclass(frozen=True)
class Case:
    """Everything `select` takes, for any number of models."""

    classes: list[np.ndarray]
    confidences: list[np.ndarray] | None
    levels: LevelTable
    hashes: np.ndarray | None
    options: dict[str, Any]

    def select(self, **more: Any) -> list[PairSelection]:
        return select(self.classes, self.confidences, self.levels, hashes=self.hashes, **(self.options | more))


def slow_select(case: Case, i: int, j: int) -> tuple[list[int], int, int, int]:
    """The definition as a loop: accepted rows, confident disagreements, lost to duplicates, lost to caps."""
    options = case.options
    ci, cj = case.classes[i].tolist(), case.classes[j].tolist()
    candidates = []
    for row in range(len(ci)):
        if ci[row] == cj[row]:
            continue
        smaller = 0.0
        if case.confidences is not None:
            sure_i, sure_j = case.confidences[i][row], case.confidences[j][row]
            if not (
                sure_i >= sure_i.dtype.type(options["threshold"]) and sure_j >= sure_j.dtype.type(options["threshold"])
            ):
                continue
            smaller = float(min(sure_i, sure_j))
        candidates.append((-float(case.levels.distance(ci[row], cj[row])), -smaller, row))
    accepted: list[int] = []
    for _, _, row in sorted(candidates):
        a, b = ci[row], cj[row]
        if sum(ci[other] == a for other in accepted) >= options["per_class_cap"]:
            continue
        if sum(cj[other] == b for other in accepted) >= options["per_class_cap"]:
            continue
        if any({ci[other], cj[other]} == {a, b} for other in accepted):
            continue
        if near(case, row, accepted):
            continue
        accepted.append(row)
        if len(accepted) == options["k"] + options["reserve"]:
            return accepted, len(candidates), 0, 0
    order = [row for _, _, row in sorted(candidates)]
    repeats = sum(
        near(case, row, [other for other in accepted if order.index(other) < order.index(row)])
        for row in order
        if row not in accepted
    )
    return accepted, len(candidates), repeats, len(candidates) - len(accepted) - repeats


def near(case: Case, row: int, others: list[int]) -> bool:
    limit = case.options["duplicate_distance"]
    if limit is None or case.hashes is None:
        return False
    return any(bin(int(case.hashes[row]) ^ int(case.hashes[other])).count("1") <= limit for other in others)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few classes, few distances and few confidences, so that ties are the rule and caps bite."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows = draw(st.integers(0, 300))
    n_classes = draw(st.integers(2, 12))
    n_models = draw(st.integers(2, 4))
    raw = rng.integers(1, draw(st.integers(2, 5)), (n_classes, n_classes)).astype(float)
    matrix = np.triu(raw, 1) + np.triu(raw, 1).T
    kind = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    steps = draw(st.sampled_from([2, 5, 1000]))
    confidences = [(rng.integers(0, steps + 1, n_rows) / steps).astype(kind) for _ in range(n_models)]
    duplicate_distance = draw(st.sampled_from([None, None, 0, 1, 3]))
    return Case(
        classes=[rng.integers(0, n_classes, n_rows).astype(np.uint16) for _ in range(n_models)],
        confidences=confidences if draw(st.booleans()) else None,
        levels=level_table(flat(n_classes)) if draw(st.booleans()) else levels_of(matrix),
        hashes=rng.integers(0, draw(st.sampled_from([4, 64, 1024])), n_rows).astype(np.uint64),
        options={
            "k": draw(st.integers(1, 8)),
            "reserve": draw(st.integers(0, 8)),
            "threshold": draw(st.sampled_from([0.0, 0.4, 0.8, 1.0])),
            "per_class_cap": draw(st.integers(1, 4)),
            "duplicate_distance": duplicate_distance,
        },
    )


def assert_equal_to_slow(case: Case, selections: list[PairSelection]) -> None:
    for found, (i, j) in zip(selections, combinations(range(len(case.classes)), 2), strict=True):
        rows, confident, repeats, capped = slow_select(case, i, j)
        assert (found.i, found.j) == (i, j)
        assert found.rows.tolist() == rows
        assert found.class_i.tolist() == case.classes[i][rows].tolist()
        assert found.class_j.tolist() == case.classes[j][rows].tolist()
        assert found.distance.tolist() == case.levels.distance(found.class_i, found.class_j).tolist()
        assert found.counts.confident == confident
        assert found.counts.disagreements == int((case.classes[i] != case.classes[j]).sum())
        if len(rows) < case.options["k"] + case.options["reserve"]:
            assert (found.counts.lost_to_duplicates, found.counts.lost_to_caps) == (repeats, capped)
            assert found.reasons
        else:
            assert found.reasons == ()


@settings(max_examples=200, deadline=None)
@given(cases())
def test_selection_equals_a_slow_obvious_loop(case: Case) -> None:
    assert_equal_to_slow(case, case.select())


@settings(max_examples=200, deadline=None)
@given(cases(), st.sampled_from([2, 4, 16]), st.integers(1, 70))
def test_tiny_pools_and_blocks_change_nothing(case: Case, capacity: int, block_rows: int) -> None:
    """With hardly any room, candidates are dropped and rows are read again: the result is still the definition's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mad, "_capacity", lambda _: capacity)
        patch.setattr(mad, "_SLOTS", 4)
        patch.setattr(mad, "_POOL_BYTES", 200)
        assert_equal_to_slow(case, case.select(block_rows=block_rows))
