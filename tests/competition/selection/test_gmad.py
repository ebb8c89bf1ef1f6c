"""gMAD selection against the definition as a loop, and what a researcher would notice."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from competition.selection import gmad
from competition.selection.calibration import Calibrated, quantile_map
from competition.selection.columns import SelectionError
from competition.selection.gmad import Selection, ask_once, control_pairs, select
from competition.selection.mad import SelectionCancelled

DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "subjective"
NINE = ("BRISQUE", "CNNIQA", "DBCNN", "HYPERIQA", "ILNIQE", "MANIQA", "MUSIQ", "NIQE", "paq2piq")
LOWER_IS_BETTER = {"BRISQUE", "ILNIQE", "NIQE"}
Row = tuple[int, int, int, int, int, int]  # attacker, defender, level, rank, worst, best


@dataclass(frozen=True)
class Case:
    """Everything `select` takes."""

    columns: list[np.ndarray]
    levels: int = 3
    half_width: float | None = 9.0
    groups: np.ndarray | None = None
    hashes: np.ndarray | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def select(self, **more: Any) -> Selection:
        return select(
            self.columns,
            levels=self.levels,
            half_width=self.half_width,
            groups=self.groups,
            hashes=self.hashes,
            **(self.options | more),
        )


def members(case: Case, defender: int) -> list[list[int]]:
    """The rows of every level of a defender, by the definition."""
    scores = case.columns[defender].astype(np.float64)
    scored = np.flatnonzero(~np.isnan(scores))
    if case.half_width is None:
        ordered = np.sort(scores[scored])
        cuts = [ordered[min(k * len(ordered) // case.levels, len(ordered) - 1)] for k in range(case.levels)]
        ends = [*cuts[1:], np.inf]
        return [
            [row for row in scored.tolist() if low <= scores[row] < high] for low, high in zip(cuts, ends, strict=True)
        ]
    low, high = scores[scored].min(), scores[scored].max()
    centres = [low + (high - low) / case.levels * (k - 0.5) for k in range(1, case.levels + 1)]
    return [[row for row in scored.tolist() if abs(scores[row] - centre) < case.half_width] for centre in centres]


def alike(case: Case, one: int, other: int) -> bool:
    if one == other:
        return True
    if case.groups is not None and case.groups[one] >= 0 and case.groups[one] == case.groups[other]:
        return True
    limit = case.options.get("duplicate_distance")
    if limit is None or case.hashes is None:
        return False
    return bin(int(case.hashes[one]) ^ int(case.hashes[other])).count("1") <= limit


def slow_select(case: Case) -> list[Row]:
    """The rule of `gmad_choice` as loops over all pairs of images."""
    cap = case.options.get("cap")
    everywhere = case.options.get("spread") == "competition"
    exhibits = {(min(pair), max(pair)) for pair in case.options.get("taken", ())}
    shown = {row for pair in exhibits for row in pair}
    own: dict[tuple[int, int, int], list[int]] = {}
    chosen: list[Row] = []
    n_models = len(case.columns)
    levels = [members(case, defender) for defender in range(n_models)]
    for rank in range(1, case.options.get("top", 1) + 1):
        for defender, k, attacker in product(range(n_models), range(case.levels), range(n_models)):
            mine = own.setdefault((defender, k, attacker), [])
            if attacker == defender or len(mine) < 2 * (rank - 1):
                continue
            said = case.columns[attacker].astype(np.float64)
            best: Any = None
            for worst_row, best_row in product(levels[defender][k], repeat=2):
                worst, top = said[worst_row], said[best_row]
                if not worst < top or alike(case, worst_row, best_row):
                    continue
                if any(alike(case, row, other) for row in (worst_row, best_row) for other in mine):
                    continue
                pair = (min(worst_row, best_row), max(worst_row, best_row))
                if pair not in exhibits:
                    uses = [sum(row in other for other in exhibits) for row in pair]
                    if cap is not None and max(uses) >= cap:
                        continue
                    if everywhere and any(
                        row not in shown and any(alike(case, row, other) for other in shown) for row in pair
                    ):
                        continue
                key = (worst - top, worst, worst_row, -top, best_row)
                best = key if best is None else min(best, key)
            if best is not None:
                _, _, worst_row, _, best_row = best
                chosen.append((attacker, defender, k + 1, rank, worst_row, best_row))
                mine += [worst_row, best_row]
                exhibits.add((min(worst_row, best_row), max(worst_row, best_row)))
                shown |= {worst_row, best_row}
    return sorted(chosen)


def rows_of(selection: Selection) -> list[Row]:
    pairs = selection.pairs
    columns = (pairs.attacker, pairs.defender, pairs.level, pairs.rank, pairs.worst, pairs.best)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@st.composite
def cases(draw: st.DrawFn, *, limited: bool) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_rows = draw(st.integers(4, 22 if limited else 60))
    n_models = draw(st.integers(2, 3 if limited else 5))
    kind = draw(st.sampled_from([np.float32, np.float64]))
    grain = draw(st.sampled_from([1, 4, 20, 1000]))  # few different scores: many ties
    columns = []
    for _ in range(n_models):
        column = (np.round(rng.random(n_rows) * grain) / grain * 100).astype(kind)
        column[rng.random(n_rows) < draw(st.sampled_from([0, 0.2]))] = np.nan
        column[:2] = rng.permutation([0, 100])
        columns.append(column)
    half_width = draw(st.sampled_from([None, 3.0, 9.0, 25.0]))
    options: dict[str, Any] = {"block_rows": draw(st.sampled_from([5, 16, 1000]))}
    groups = hashes = None
    if limited:
        options["top"] = draw(st.integers(1, 3))
        options["cap"] = draw(st.sampled_from([None, 1, 2]))
        options["spread"] = draw(st.sampled_from(["cell", "competition"]))
        options["taken"] = draw(st.sampled_from([[], [(1, 0)], [(0, 1), (1, 2)]]))
        groups = draw(st.sampled_from([None, rng.integers(-1, 4, n_rows)]))
        if draw(st.booleans()):
            hashes = rng.integers(0, 16, n_rows).astype(np.uint64)
            options["duplicate_distance"] = draw(st.sampled_from([0, 1]))
    return Case(columns, draw(st.integers(1, 4)), half_width, groups, hashes, options)


@settings(max_examples=80, deadline=None)
@given(cases(limited=False))
def test_the_pairs_are_those_of_the_definition(case: Case) -> None:
    selection = case.select()
    assert rows_of(selection) == slow_select(case)
    assert selection.levels.count.tolist() == [
        [len(rows) for rows in members(case, defender)] for defender in range(len(case.columns))
    ]


@settings(max_examples=120, deadline=None)
@given(cases(limited=True), st.sampled_from([1, 2, 128]))
def test_caps_and_exclusions_choose_what_the_definition_chooses(case: Case, depth: int) -> None:
    """Also where the scan keeps so few candidates that cells must read the rows again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmad, "_depth", lambda limits, n_models, n_levels: max(depth, 2))
        assert rows_of(case.select()) == slow_select(case)


@pytest.fixture(scope="module")
def nine() -> list[Calibrated]:
    """Nine measures of 1,360 upscaled images, four of which could not score the largest, on a common scale."""
    file = DATA / "ai_upscaling_mos_9_biqa_scores.csv"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    table = pyarrow.csv.read_csv(file)
    columns = [table[name].to_numpy() * (-1.0 if name in LOWER_IS_BETTER else 1.0) for name in NINE]
    return [Calibrated(column, quantile_map(column, model=name)) for name, column in zip(NINE, columns, strict=True)]


def test_real_measures_get_the_pairs_of_the_definition(nine: list[Calibrated]) -> None:
    columns = [column[0 : len(column)] for column in nine]
    selection = select(nine, names=NINE, block_rows=500)
    assert rows_of(selection) == rows_of(select(columns))
    assert rows_of(selection) == argmin_argmax(Case(columns, levels=6))
    assert len(selection.pairs) == 9 * 8 * 6
    pairs = selection.pairs
    for at in (0, 100, 431):
        attacker, defender = columns[pairs.attacker[at]], columns[pairs.defender[at]]
        assert pairs.attacker_worst[at] == attacker[pairs.worst[at]]
        assert pairs.attacker_best[at] == attacker[pairs.best[at]]
        assert pairs.defender_worst[at] == defender[pairs.worst[at]]
        assert abs(pairs.defender_best[at] - selection.levels.centre[pairs.defender[at], pairs.level[at] - 1]) < 9


def argmin_argmax(case: Case) -> list[Row]:
    found = []
    for attacker, defender in product(range(len(case.columns)), repeat=2):
        for k, inside in enumerate(members(case, defender)):
            said = case.columns[attacker]
            inside = [row for row in inside if not np.isnan(said[row])]
            if attacker == defender or not inside:
                continue
            worst, best = inside[int(said[inside].argmin())], inside[int(said[inside].argmax())]
            if said[worst] < said[best]:
                found.append((attacker, defender, k + 1, 1, worst, best))
    return found


def test_a_newcomer_adds_its_own_cells_and_changes_no_other(nine: list[Calibrated]) -> None:
    everything, before = rows_of(select(nine)), rows_of(select(nine[:8]))
    new = select(nine, newcomers=[8])
    assert sorted(before + rows_of(new)) == everything
    assert len(new.pairs) == 2 * 8 * 6
    assert rows_of(select(nine, newcomers=[-1])) == rows_of(new)


def test_each_pair_is_asked_once_and_shared_out_with_its_sign(nine: list[Calibrated]) -> None:
    pairs = select(nine).pairs
    exhibits = ask_once(pairs)
    assert len({*zip(exhibits.first.tolist(), exhibits.second.tolist(), strict=True)}) == len(exhibits.first)
    assert len(exhibits.first) < len(pairs)
    for at in range(len(pairs)):
        first, second = exhibits.first[exhibits.exhibit[at]], exhibits.second[exhibits.exhibit[at]]
        assert first < second
        expected = (first, second) if exhibits.sign[at] == 1 else (second, first)
        assert (pairs.best[at], pairs.worst[at]) == expected
    known = np.column_stack([exhibits.second, exhibits.first])[::-1][:40]
    again = ask_once(pairs, known)
    assert again.first[:40].tolist() == known[:, 1].tolist()
    assert len(again.first) == len(exhibits.first)
    assert (again.first[again.exhibit] == exhibits.first[exhibits.exhibit]).all()
    with pytest.raises(SelectionError, match="known twice"):
        ask_once(pairs, [(1, 2), (2, 1)])


def planted() -> list[np.ndarray]:
    """Two models that agree but for rows 10 and 11, which the first finds equal and the second far apart."""
    first = np.linspace(0, 100, 21)
    second = first.copy()
    first[11] = first[10]
    second[10], second[11] = 3, 97
    return [first, second]


def test_a_planted_disagreement_is_found() -> None:
    selection = select(planted(), levels=4, half_width=13)
    found = [row for row in rows_of(selection) if row[:2] == (1, 0)]
    assert [row[4:] for row in found if row[2] in (2, 3)] == [(10, 11), (10, 11)]
    assert not select([planted()[0], planted()[0]], levels=100, half_width=0.4).pairs.level.size


def test_empty_levels_and_levels_of_one_image_are_reported_once_each() -> None:
    columns = [np.array([0.0, 50, 51, 52, 100]), np.array([1.0, 3, 3, 3, 7]), np.array([1.0, 3, np.nan, np.nan, 9])]
    selection = select(columns, names=["A", "B", "C"], levels=5, half_width=5)
    said = [(missing.level, missing.attacker, missing.reason) for missing in selection.missing if missing.defender == 0]
    assert said == [
        (1, None, 'level 1 of "A" is empty'),
        (2, None, 'level 2 of "A" is empty'),
        (3, 1, 'level 3 of "A", attacked by "B": "B" gives its 3 images the same score'),
        (3, 2, 'level 3 of "A", attacked by "C": "C" has scored one of its 3 images'),
        (4, None, 'level 4 of "A" is empty'),
        (5, None, 'level 5 of "A" is empty'),
    ]
    one = select(columns, levels=1, half_width=49, top=3)
    assert [missing.found for missing in one.missing if missing.defender == 0] == [0, 0]


def test_shortage_of_pairs_is_reported_where_more_are_asked_for() -> None:
    columns = [np.linspace(0, 100, 9), np.linspace(100, 0, 9)]
    selection = select(columns, levels=1, half_width=51, top=5)
    assert len(selection.pairs) == 8
    assert {missing.found for missing in selection.missing} == {4}
    assert "4 of 5 pairs" in selection.missing[0].reason


def test_images_of_one_source_never_meet(nine: list[Calibrated]) -> None:
    n = len(nine[0])
    groups = np.arange(n) % 40
    pairs = select(nine, groups=groups, top=3).pairs
    assert (groups[pairs.worst] != groups[pairs.best]).all()
    for cell in {*zip(pairs.attacker.tolist(), pairs.defender.tolist(), pairs.level.tolist(), strict=True)}:
        mine = (pairs.attacker == cell[0]) & (pairs.defender == cell[1]) & (pairs.level == cell[2])
        seen = groups[np.concatenate([pairs.worst[mine], pairs.best[mine]])].tolist()
        assert len(seen) == len(set(seen))


def test_the_same_columns_give_the_same_whatever_the_blocks_and_the_kind(nine: list[Calibrated]) -> None:
    wide = [np.asarray(column[0 : len(column)]) for column in nine]
    narrow = [column.astype(np.float32) for column in wide]
    exact = [column.astype(np.float64) for column in narrow]
    for options in ({}, {"half_width": None}, {"top": 3, "cap": 2}):
        expected = rows_of(select(exact, **options))
        assert rows_of(select(narrow, block_rows=211, **options)) == expected
        assert rows_of(select([narrow[0], *exact[1:]], **options)) == expected


def test_progress_reaches_the_end_and_cancel_stops(nine: list[Calibrated]) -> None:
    for options in ({}, {"half_width": None}, {"top": 2, "cap": 3}):
        told: list[tuple[int, int]] = []
        select(nine, block_rows=500, progress=lambda done, total, told=told: told.append((done, total)), **options)
        assert told[-1][0] == told[-1][1]
        assert told == sorted(told)
        for after in (1, len(told) // 2, len(told)):
            with pytest.raises(SelectionCancelled, match="cancelled after"):
                select(nine, block_rows=500, cancel=counter(after), **options)


def counter(after: int) -> Callable[[], bool]:
    """True at the after-th call."""
    calls = iter(range(1, after + 1))
    return lambda: next(calls) == after


def test_control_pairs_are_random_pairs_of_a_level_with_weights(nine: list[Calibrated]) -> None:
    levels = select(nine).levels
    control = control_pairs(nine, levels, per_level=10, seed=7)
    again = control_pairs(nine, levels, per_level=10, seed=7, block_rows=100)
    assert control.first.tolist() == again.first.tolist()
    assert control.first.tolist() != control_pairs(nine, levels, per_level=10, seed=8).first.tolist()
    for defender in range(9):
        scores = nine[defender][0 : len(nine[defender])]
        mine = control.defender == defender
        assert control.weight[mine].sum() == pytest.approx(1)
        for k in range(1, 7):
            cell = mine & (control.level == k)
            rows = np.concatenate([control.first[cell], control.second[cell]])
            assert len(set(rows.tolist())) == len(rows) == 2 * min(10, levels.count[defender, k - 1] // 2)
            assert (np.abs(scores[rows] - levels.centre[defender, k - 1]) < 9).all()
            share = levels.count[defender, k - 1] / levels.count[defender].sum()
            assert control.weight[cell].sum() == pytest.approx(share)
    eight = control_pairs(nine[:8], levels, per_level=10, seed=7)
    assert eight.second.tolist() == control.second[control.defender < 8].tolist()
    groups = np.arange(len(nine[0])) % 3
    apart = control_pairs(nine, levels, per_level=10, seed=7, groups=groups, defenders=[2])
    assert (groups[apart.first] != groups[apart.second]).all()
    assert len(apart) == 60
    assert len(control_pairs(nine, levels, per_level=0, seed=1)) == 0


def test_control_pairs_are_spread_evenly_over_a_level() -> None:
    scores = np.linspace(0, 100, 40)
    levels = select([scores, -scores], levels=1, half_width=51).levels
    drawn = np.concatenate([control_pairs([scores, -scores], levels, per_level=2, seed=s).first for s in range(600)])
    counts = np.bincount(drawn, minlength=40)
    assert counts.sum() == 2400
    assert chisquare(counts).pvalue > 0.001


def test_rows_that_are_hidden_from_all_are_never_chosen(nine: list[Calibrated]) -> None:
    columns = [np.array(column[0 : len(column)]) for column in nine]
    chosen = set(select(columns).pairs.worst.tolist())
    for column in columns:
        column[list(chosen)] = np.nan
    again = select(columns).pairs
    assert not chosen & {*again.worst.tolist(), *again.best.tolist()}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ([[1.0, 2]], {}, r"1 model\(s\) given"),
        ([[1.0, 2], [1.0, 2, 3]], {}, "different numbers of rows"),
        ([[1.0, 2], [1, 2]], {}, 'model "B": scores must be floating-point numbers'),
        ([[1.0, 2], [3.0, 3]], {}, 'model "B" gives all 2 images the same score, 3'),
        ([[1.0, 2], [3.0, np.nan]], {}, 'model "B" has scored 1 images'),
        ([[1.0, 2, 3], [np.inf, 3.0, -np.inf]], {}, 'model "B" has 2 infinite scores'),
        ([[1.0, 2], [2.0, 1]], {"levels": 0}, "0 levels"),
        ([[1.0, 2], [2.0, 1]], {"half_width": -1}, "half width is -1"),
        ([[1.0, 2], [2.0, 1]], {"top": 0}, "top is 0"),
        ([[1.0, 2], [2.0, 1]], {"cap": 0}, "cap is 0"),
        ([[1.0, 2], [2.0, 1]], {"block_rows": 0}, "block_rows is 0"),
        ([[1.0, 2], [2.0, 1]], {"spread": "all"}, 'spread is "all"'),
        ([[1.0, 2], [2.0, 1]], {"newcomers": [2]}, "newcomer 2 is none of the 2 models"),
        ([[1.0, 2], [2.0, 1]], {"groups": np.array([1])}, "2 rows have 1 groups"),
        ([[1.0, 2], [2.0, 1]], {"duplicate_distance": 3}, "no perceptual hashes"),
        ([[1.0, 2], [2.0, 1]], {"hashes": np.zeros(2, np.uint64), "duplicate_distance": 65}, "0 to 64 bits"),
        ([[1.0, 2], [2.0, 1]], {"taken": [(0, 2)]}, "taken exhibits show rows 0 to 2"),
    ],
)
def test_input_that_makes_no_sense_is_named(columns: list[list[float]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        select([np.array(column) for column in columns], names=["A", "B"][: len(columns)], **options)
