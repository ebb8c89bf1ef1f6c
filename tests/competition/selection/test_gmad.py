"""gMAD selection against the definition as a loop, and what a researcher would notice."""

import os
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from competition.selection import gmad
from competition.selection.gmad import Selection, select

DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", "../shared/data")) / "subjective"
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


@settings(max_examples=150, deadline=None)
@given(cases(limited=True), st.sampled_from([1, 2, 128]))
def test_caps_and_exclusions_choose_what_the_definition_chooses(case: Case, depth: int) -> None:
    """Also where the scan keeps so few candidates that cells must read the rows again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmad, "_depth", lambda limits, n_models, n_levels: max(depth, 2))
        assert rows_of(case.select()) == slow_select(case)
