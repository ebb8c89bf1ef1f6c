"""Agreement, against the published worked example and the definition written out."""

import itertools

import numpy as np
import pytest

from labeling.psychometrics.agreement import krippendorff, pair_agreement
from labeling.psychometrics.intervals import PsychometricsError

# Krippendorff 2011, section C: four observers, twelve units, missing data.
WORKED_EXAMPLE = """
A 1 2 3 3 2 1 4 1 2 . . .
B 1 2 3 3 2 2 4 1 2 5 . 3
C . 3 3 3 2 3 4 2 2 5 1 .
D 1 2 3 3 2 4 4 1 2 5 1 .
"""


def worked_example():
    rows = [line.split() for line in WORKED_EXAMPLE.split("\n") if line]
    cells = [(row[0], unit, int(v)) for row in rows for unit, v in enumerate(row[1:]) if v != "."]
    return [np.array(column) for column in zip(*cells, strict=True)]


def alpha_by_definition(item, value, level):
    """1 - D_o / D_e over all ordered pairs of values, with the metrics as Krippendorff writes them."""
    units = [value[item == u] for u in np.unique(item)]
    units = [u for u in units if u.size > 1]
    pooled = np.concatenate(units)
    count = {c: int((pooled == c).sum()) for c in np.unique(pooled)}

    def squared(c, k):
        if level == "nominal":
            return float(c != k)
        if level == "interval":
            return float(c - k) ** 2
        low, high = min(c, k), max(c, k)
        between = sum(n for g, n in count.items() if low <= g <= high)
        return (between - (count[c] + count[k]) / 2) ** 2 if c != k else 0.0

    observed = (
        sum(sum(squared(a, b) for a, b in itertools.permutations(u.tolist(), 2)) / (u.size - 1) for u in units)
        / pooled.size
    )
    expected = sum(squared(a, b) for a, b in itertools.permutations(pooled.tolist(), 2))
    expected /= pooled.size * (pooled.size - 1)
    return 1 - observed / expected


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_published_worked_example(level, alpha):
    agreement = krippendorff(*worked_example(), level=level)
    assert agreement.alpha == pytest.approx(alpha, abs=5e-4)
    assert agreement.low < agreement.alpha < agreement.high
    assert (agreement.persons, agreement.items, agreement.values) == (4, 11, 40)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_equals_its_definition_on_sparse_data(level, seed):
    rng = np.random.default_rng(seed)
    cells = rng.permutation(8 * 15)[:60]
    person, item = cells // 15, cells % 15
    value = np.clip(item % 5 + rng.integers(-1, 2, 60), 0, 4) * np.array([1.0, 2.5])[seed % 2]
    assert krippendorff(person, item, value, level=level, replicates=0).alpha == pytest.approx(
        alpha_by_definition(item, value, level)
    )


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_interval_is_the_spread_over_redrawn_items(level):
    """The batched bootstrap equals drawing items one set at a time and computing alpha by its definition."""
    person, item, value = worked_example()
    fast = krippendorff(person, item, value, level=level, replicates=50, seed=3)
    units = [u for u in range(12) if (item == u).sum() > 1]
    slow = []
    for numbers in np.random.default_rng(3).integers(0, len(units), size=(50, len(units))):
        drawn = np.array(units)[numbers]
        items = np.concatenate([np.full((item == u).sum(), k) for k, u in enumerate(drawn)])
        values = np.concatenate([value[item == u] for u in drawn])
        slow.append(alpha_by_definition(items, values, level))
    np.testing.assert_allclose((fast.low, fast.high), np.quantile(slow, [0.025, 0.975]))


def test_same_seed_same_interval():
    first, second = (krippendorff(*worked_example(), seed=5) for _ in range(2))
    assert first == second


def test_percent_agreement_counts_pairs_of_answers():
    agreement = krippendorff(["a", "b", "c", "a", "b"], [1, 1, 1, 2, 2], ["x", "x", "y", "x", "x"])
    assert agreement.percent == pytest.approx((1 + 1) / (3 + 1))


def test_no_variation_and_no_overlap_are_said_in_words():
    same = krippendorff([1, 2, 1, 2], [1, 1, 2, 2], [True] * 4)
    assert np.isnan(same.alpha)
    assert np.isnan(same.low)
    assert same.percent == 1
    assert "undefined without variation" in same.note
    alone = krippendorff([1, 2], [1, 2], [True, False])
    assert np.isnan(alone.alpha)
    assert "no item has two judgements" in alone.note


def test_pairs_of_persons():
    person, item, value = worked_example()
    pairs = pair_agreement(person, item, value, level="interval")
    assert list(zip(pairs.first, pairs.second, strict=True))[:3] == [("A", "B"), ("A", "C"), ("A", "D")]
    assert pairs.items[:3].tolist() == [9, 8, 9]
    assert pairs.percent[0] == pytest.approx(8 / 9)
    for k in range(len(pairs.items)):
        both = np.isin(person, [pairs.first[k], pairs.second[k]])
        assert pairs.alpha[k] == pytest.approx(alpha_by_definition(item[both], value[both], "interval"))


def test_people_who_share_nothing_make_no_pair():
    assert pair_agreement([1, 2], [1, 2], [0, 1]).first.size == 0


@pytest.mark.parametrize(
    ("columns", "level", "message"),
    [
        (([1, 1], [1, 1], [0, 1]), "nominal", 'person "1" judged item "1" 2 times'),
        (([1, 2], [1, 1], ["a", "b"]), "interval", "needs finite numbers"),
        (([1, 2], [1, 1], [1.0, np.nan]), "ordinal", "needs finite numbers"),
        (([1, 2], [1], [0, 1]), "nominal", "differ in shape"),
        (([], [], []), "nominal", "no judgements"),
        (([1], [1], [1]), "ratio", 'unknown level "ratio"'),
    ],
)
def test_bad_columns_are_refused(columns, level, message):
    with pytest.raises(PsychometricsError, match=message):
        krippendorff(*columns, level=level)
