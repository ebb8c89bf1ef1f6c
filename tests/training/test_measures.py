"""Measures against scipy, and bootstraps against drawing the images one by one."""

import numpy as np
import pytest
from scipy import stats

from labeling.psychometrics.logistic import fit_logistic
from training.engine.measures import accuracy, agreement, change, srcc


def rated(n: int = 60, seed: int = 0, grain: float = 5) -> tuple[np.ndarray, np.ndarray]:
    """Scores and MOS with ties in both."""
    rng = np.random.default_rng(seed)
    mos = np.clip(rng.normal(55, 18, n), 0, 100)
    return np.round(mos / 20 + rng.normal(0, 0.5, n), 1), np.round(mos / grain) * grain


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_those_of_scipy(seed: int) -> None:
    x, y = rated(seed=seed)
    found = agreement(x, y, replicates=20)
    fitted = fit_logistic(x, y).apply(x)
    assert found.srcc.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.krcc.value == pytest.approx(stats.kendalltau(x, y).statistic)
    assert found.plcc.value == pytest.approx(stats.pearsonr(fitted, y).statistic)
    assert found.rmse.value == pytest.approx(np.sqrt(np.mean((fitted - y) ** 2)))
    assert found.srcc.low < found.srcc.value < found.srcc.high
    assert found.n == 60


def test_a_replicate_is_the_measure_of_the_images_it_drew() -> None:
    x, y = rated(25)
    group = np.arange(25) // 3
    found = agreement(x, y, groups=group, replicates=30, seed=4)
    counts = np.random.default_rng(4).multinomial(9, np.full(9, 1 / 9), size=30)
    fitted = fit_logistic(x, y).apply(x)
    for at, drawn in enumerate(counts):
        rows = np.repeat(np.arange(25), drawn[group])
        assert found.replicates["srcc"][at] == pytest.approx(stats.spearmanr(x[rows], y[rows]).statistic)
        assert found.replicates["krcc"][at] == pytest.approx(stats.kendalltau(x[rows], y[rows]).statistic)
        assert found.replicates["plcc"][at] == pytest.approx(stats.pearsonr(fitted[rows], y[rows]).statistic)
        assert found.replicates["rmse"][at] == pytest.approx(np.sqrt(np.mean((fitted - y)[rows] ** 2)))
    assert found.groups == 9


def test_groups_of_like_images_widen_the_interval() -> None:
    x, y = rated(200)
    x, y = np.repeat(x[:20], 10), np.repeat(y[:20], 10)
    alone, together = agreement(x, y), agreement(x, y, groups=np.repeat(np.arange(20), 10))
    assert together.srcc.high - together.srcc.low > 2 * (alone.srcc.high - alone.srcc.low)


def test_scales_are_never_pooled() -> None:
    x, y = rated(40)
    shifted = agreement(np.append(x, x), np.append(y / 4, 75 + y / 4), scale=np.repeat([0, 1], 40), replicates=0)
    assert shifted.srcc.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert srcc(np.append(x, x), np.append(y, y), scale=np.repeat([0, 1], 40)) == pytest.approx(shifted.srcc.value)
    assert srcc(np.append(x, x), np.append(y / 4, 75 + y / 4)) < shifted.srcc.value - 0.1


def test_the_change_of_a_model_against_itself_is_nothing() -> None:
    x, y = rated(50)
    before, after = agreement(x, y), agreement(x + np.random.default_rng(1).normal(0, 1, 50), y)
    same = change(before, before)
    assert (same["srcc"].value, same["srcc"].low, same["srcc"].high) == (0, 0, 0)
    worse = change(before, after)
    assert worse["srcc"].value == pytest.approx(after.srcc.value - before.srcc.value)
    assert worse["srcc"].low < worse["srcc"].value < worse["srcc"].high


def test_what_cannot_be_measured_is_empty_and_says_why() -> None:
    constant = agreement(np.ones(10), np.arange(10.0))
    assert np.isnan(constant.srcc.value)
    assert constant.plain()["srcc"] == {"value": None, "low": None, "high": None}
    assert "nothing to correlate" in constant.notes[0]
    few = agreement([1, 2, np.nan], [10, 20, 30])
    assert np.isnan(few.krcc.value)
    falling = agreement(-np.arange(30.0), np.arange(30.0) * 3)
    assert falling.plcc.value == pytest.approx(-1)
    assert "straight line" in falling.notes[0]


def test_accuracy_has_wilsons_interval() -> None:
    found = accuracy([True] * 8 + [False] * 2)
    expected = stats.binomtest(8, 10).proportion_ci(method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((0.8, expected.low, expected.high))
    assert np.isnan(accuracy([]).value)


def test_intervals_over_few_contents_come_with_a_warning():
    rng = np.random.default_rng(0)
    mos = rng.uniform(0, 100, 40)
    scores = mos + rng.normal(0, 10, 40)
    assert agreement(scores, mos, groups=np.arange(40) % 4).notes == ("only 4 contents: the intervals say little",)
    assert agreement(scores, mos, groups=np.arange(40) % 5).notes == ()
