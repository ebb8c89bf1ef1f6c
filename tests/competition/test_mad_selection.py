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


def example(n_rows: int = 3_000, n_models: int = 4, n_classes: int = 40, seed: int = 0) -> Case:
    """Correlated models over a random label space, with hashes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n_rows)
    raw = np.triu(rng.integers(1, 30, (n_classes, n_classes)), 1).astype(float)
    wrong = [rng.random(n_rows) < 0.4 for _ in range(n_models)]
    return Case(
        classes=[np.where(miss, rng.integers(0, n_classes, n_rows), truth).astype(np.uint16) for miss in wrong],
        confidences=[rng.random(n_rows).astype(np.float32) for _ in range(n_models)],
        levels=levels_of(raw + raw.T),
        hashes=rng.integers(0, 2**62, n_rows).astype(np.uint64),
        options={"k": 10, "reserve": 5, "threshold": 0.3, "per_class_cap": 3, "duplicate_distance": None},
    )


def as_lists(selections: list[PairSelection]) -> list[tuple[int, int, list[int], list[float]]]:
    return [(some.i, some.j, some.rows.tolist(), some.distance.tolist()) for some in selections]


def test_the_same_input_always_gives_the_same_selection() -> None:
    case = example()
    assert as_lists(case.select()) == as_lists(case.select()) == as_lists(case.select(block_rows=7))


def test_caps_hold_and_order_is_by_distance_then_confidence() -> None:
    for found in example().select():
        assert found.confidence_i is not None
        assert found.confidence_j is not None
        assert np.bincount(found.class_i).max() <= 3
        assert np.bincount(found.class_j).max() <= 3
        pairs = {frozenset(pair) for pair in zip(found.class_i.tolist(), found.class_j.tolist(), strict=True)}
        assert len(pairs) == len(found.rows) == 15
        smaller = np.minimum(found.confidence_i, found.confidence_j)
        keys = list(zip(-found.distance, -smaller, found.rows, strict=True))
        assert keys == sorted(keys)
        assert smaller.min() >= np.float32(0.3)
        assert found.ranks.tolist() == list(range(1, 16))


def test_adding_a_model_leaves_every_earlier_selection_untouched() -> None:
    case = example()
    first = Case(case.classes[:3], case.confidences[:3], case.levels, None, case.options) if case.confidences else case
    before = as_lists(first.select())
    new = select_new_entrant(case.classes, case.confidences, case.levels, **case.options)
    after = as_lists(case.select(hashes=None) if case.hashes is None else case.select())
    assert [(some.i, some.j) for some in new] == [(0, 3), (1, 3), (2, 3)]
    assert sorted(before + as_lists(new)) == sorted(after)


def test_near_duplicates_are_accepted_once_and_counted() -> None:
    case = example()
    assert case.hashes is not None
    plain = case.select(pairs=[(0, 1)])[0]
    case.hashes[plain.rows[:5]] = case.hashes[plain.rows[0]] ^ (np.uint64(1) << np.arange(5, dtype=np.uint64))
    found = case.select(pairs=[(0, 1)], duplicate_distance=2)[0]
    assert found.rows[0] == plain.rows[0]
    assert not set(plain.rows[1:5].tolist()) & set(found.rows.tolist())
    assert len(found.rows) == 15


def test_many_pairs_and_columns_of_parts_work_alike() -> None:
    """Columns may be anything with slices: here, parts joined on the fly."""

    class Parts:
        def __init__(self, column: np.ndarray) -> None:
            self.parts, self.dtype = (column[:1000], column[1000:]), column.dtype

        def __len__(self) -> int:
            return sum(map(len, self.parts))

        def __getitem__(self, rows: slice) -> np.ndarray:
            return np.concatenate(self.parts)[rows]

    case = example(n_models=5)
    assert case.confidences is not None
    parts = select(
        [Parts(column) for column in case.classes],
        [Parts(column) for column in case.confidences],
        case.levels,
        **case.options,
    )
    assert as_lists(parts) == as_lists(case.select())


def test_imagenet_selection_equals_the_loop_and_prefers_what_is_far_apart() -> None:
    rng = np.random.default_rng(3)
    classes = [rng.integers(0, 1000, 5_000).astype(np.uint16) for _ in range(2)]
    options = {"k": 30, "reserve": 30, "threshold": 0.8, "per_class_cap": 3, "duplicate_distance": None}
    case = Case(classes, None, level_table(imagenet1k()), None, options)
    (found,) = case.select()
    assert_equal_to_slow(case, [found])
    assert not found.filtered
    assert found.confidence_i is None
    assert found.distance.min() > np.quantile(case.levels.distance(*classes), 0.9)


def test_a_short_pair_says_why() -> None:
    levels = level_table(flat(3))
    a = np.array([0, 0, 0, 0, 0, 1, 2, 2], np.uint8)
    b = np.array([1, 1, 1, 2, 0, 1, 1, 2], np.uint8)
    sure = np.array([0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9], np.float16)
    (short,) = select([a, b], [sure, sure], levels, k=5)
    assert short.rows.tolist() == [0, 6]
    assert short.reasons == (
        "2 of 5 images, and no reserve",
        "the two models disagree on 5 of 8 images",
        "both are at least 0.8 confident on 4 of them",
        "2 are left out by the caps (at most 3 per predicted class and model, each pair of labels once)",
    )
    (reserve,) = select([a, b], None, levels, k=2, reserve=4, hashes=np.arange(8), duplicate_distance=0)
    assert reserve.reasons[0] == "2 images, but only 1 of 4 in reserve"
    (none,) = select([a, a], None, levels)
    assert none.reasons == ("0 of 30 images, and no reserve", "the two models agree on all 8 images")
    (repeats,) = select([a, b], None, levels, k=5, hashes=np.zeros(8, np.uint64), duplicate_distance=0)
    assert (repeats.counts.accepted, repeats.counts.lost_to_duplicates, repeats.counts.lost_to_caps) == (1, 4, 0)
    assert repeats.reasons[-1] == "4 nearly repeat an image that is already in"


def test_progress_reaches_the_end_and_cancel_is_obeyed() -> None:
    case = example()
    seen: list[tuple[int, int]] = []
    case.select(progress=lambda done, total: seen.append((done, total)), block_rows=1000)
    assert seen == [(1000, 3000), (2000, 3000), (3000, 3000)]
    with pytest.raises(SelectionCancelled, match="after 1000 of 3000"):
        case.select(cancel=lambda: True, block_rows=1000)


def test_a_stored_threshold_passes_itself() -> None:
    columns = [np.array([0.8, 0.8], np.float16)] * 2
    (found,) = select([np.array([0, 1]), np.array([1, 0])], columns, level_table(flat(2)), threshold=0.8)
    assert found.counts.confident == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": [np.zeros(3, np.uint16)]}, "at least two"),
        ({"classes": [np.zeros(3, np.uint16), np.zeros(4, np.uint16)]}, r"different numbers of rows: \[3, 4\]"),
        ({"classes": [np.zeros(3), np.zeros(3, int)]}, "model 0: classes must be whole numbers"),
        ({"classes": [np.array([0, 1, 2]), np.array([0, 7, 2])]}, "model 1 predicts class 7 at row 1.* 0 to 4"),
        ({"classes": [np.array([0, 1, -1]), np.array([0, 1, 2])]}, "model 0 predicts class -1 at row 2"),
        ({"confidences": [np.ones(3)]}, "2 models have classes but 1 have confidences"),
        ({"confidences": [np.ones(3), np.ones(2)]}, "model 1 has 3 classes but 2 confidences"),
        ({"confidences": [np.ones(3), np.ones(3, int)]}, "model 1: confidences must be floating-point"),
        ({"confidences": [np.ones(3), np.array([1, np.nan, 1])]}, "model 1 has confidence nan at row 1"),
        ({"confidences": [np.array([1, 0, -0.5], np.float16), np.ones(3)]}, "model 0 has confidence -0.5 at row 2"),
        ({"confidences": [np.array([1.0, 0, 97]), np.ones(3)]}, "confidence 97.0 at row 2; .* between 0 and 1"),
        ({"hashes": np.zeros(2, np.uint64), "duplicate_distance": 1}, "3 rows have 2 perceptual hashes"),
        ({"duplicate_distance": 4}, "no perceptual hashes"),
        ({"hashes": np.zeros(3, np.uint64), "duplicate_distance": 65}, "duplicate_distance is 65"),
        ({"k": 0}, "k is 0"),
        ({"reserve": -1}, "reserve is -1"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"per_class_cap": 0}, "per_class_cap is 0"),
        ({"pairs": [(1, 0)]}, r"\(1, 0\) is no pair"),
        ({"pairs": [(0, 1), (0, 1)]}, "asked for twice"),
        ({"block_rows": 0}, "block_rows is 0"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    good = {"classes": [np.array([0, 1, 2]), np.array([0, 2, 1])], "confidences": None, "levels": level_table(flat(5))}
    with pytest.raises(SelectionError, match=message):
        select(**(good | change))


def test_minus_zero_is_a_confidence() -> None:
    zero = np.array([-0.0, 1.0], np.float32)
    (found,) = select([np.array([0, 1]), np.array([1, 0])], [zero, zero], level_table(flat(2)), threshold=0)
    assert found.rows.tolist() == [1]
    assert found.counts.confident == 2
