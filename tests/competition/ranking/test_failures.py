"""Where people contradict a model clearly."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from competition.ranking.failures import Difference, Rated, Share, difference


def test_the_interval_is_welchs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        first, second = rng.normal(60, 9, 7), rng.normal(52, 4, 5)
        rated = [Rated(float(x.mean()), float(x.std(ddof=1)), len(x)) for x in (first, second)]
        found = difference(*rated)
        expected = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_answer_decides_nothing() -> None:
    alone = difference(Rated(90, None, 1), Rated(10, 2.0, 5))
    assert alone == Difference(80, None, None)
    assert not alone.contradicts(attacks=False)


@pytest.mark.parametrize(
    ("low", "high", "attacks", "contradicts"),
    [
        (-9, -1, True, True),
        (-9, 1, True, False),
        (1, 9, True, False),
        (-9, -1, False, True),
        (1, 9, False, True),
        (-1, 9, False, False),
    ],
)
def test_an_attack_is_contradicted_below_zero_a_defence_beside_it(
    low: float, high: float, attacks: bool, contradicts: bool
) -> None:
    assert Difference((low + high) / 2, low, high).contradicts(attacks=attacks) is contradicts


def test_answers_that_all_agree_leave_no_width() -> None:
    same = difference(Rated(70, 0.0, 5), Rated(60, 0.0, 5))
    assert same == Difference(10, 10, 10)
    assert same.contradicts(attacks=False)


def test_a_share_of_nothing_has_no_rate() -> None:
    assert Share(0, 0).as_dict() == {"k": 0, "n": 0, "rate": None, "low": 0.0, "high": 1.0}
    assert Share(3, 4).as_dict()["rate"] == 0.75
