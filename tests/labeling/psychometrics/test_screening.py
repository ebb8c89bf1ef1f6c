"""Screening rules: by hand on small cases, with planted bad people, and honest where they cannot judge."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from labeling.psychometrics.intervals import PsychometricsError
from labeling.psychometrics.screening import bt500, gold, repeat_consistency, side_bias, speed, straight_lining

DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", "../shared/data")) / "subjective"


def long_form(matrix):
    person, item = np.nonzero(~np.isnan(matrix))
    return person, item, matrix[person, item]


def ratings(seed, persons, items):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(2, 4, items)
    return quality + rng.uniform(-0.5, 0.5, (persons, items))


def bt500_by_loops(matrix):
    """The rule as the recommendation writes it, one judgement after another."""
    above, below = np.zeros(len(matrix)), np.zeros(len(matrix))
    for column in matrix.T:
        seen = column[~np.isnan(column)]
        mean, sigma = seen.mean(), seen.std()
        if sigma == 0:
            continue
        kurtosis = ((seen - mean) ** 4).mean() / sigma**4
        far = 2 * sigma if 2 <= kurtosis <= 4 else np.sqrt(20) * sigma
        for i, score in enumerate(column):
            above[i] += score >= mean + far - 1e-9 * sigma
            below[i] += score <= mean - far + 1e-9 * sigma
    judged = (~np.isnan(matrix)).sum(axis=1)
    total = above + below
    rejected = [total[i] / judged[i] > 0.05 and abs(above[i] - below[i]) / total[i] < 0.3 for i in range(len(matrix))]
    return above, below, rejected


@pytest.mark.parametrize("seed", range(4))
def test_bt500_equals_the_rule_written_out(seed):
    rng = np.random.default_rng(seed)
    matrix = np.round(2 * ratings(seed, 24, 40)) / 2
    matrix[5] = rng.integers(1, 6, 40)
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    above, below, rejected = bt500_by_loops(matrix)
    screening = bt500(*long_form(matrix))
    np.testing.assert_array_equal(screening.figures["above"], above)
    np.testing.assert_array_equal(screening.figures["below"], below)
    assert screening.flagged.tolist() == rejected


def test_bt500_finds_the_random_person_and_says_why():
    matrix = ratings(0, 24, 60)
    matrix[7] = matrix.mean(axis=0) + np.random.default_rng(1).choice([-0.8, 0.8], 60)
    screening = bt500(*long_form(matrix))
    assert np.flatnonzero(screening.flagged).tolist() == [7]
    assert "far from the others on" in screening.reasons[7]
    assert screening.reasons[0] == ""


def test_bt500_share_is_of_the_items_a_person_judged():
    """Somebody who saw few items is not shielded by those never seen."""
    matrix = ratings(0, 24, 100)
    matrix[7] = matrix.mean(axis=0) + np.where(np.arange(100) % 2, 0.8, -0.8)
    matrix[7, 5:] = np.nan
    screening = bt500(*long_form(matrix))
    assert screening.figures["judged"][7] == 5
    assert screening.flagged[7]


def test_bt500_says_when_it_can_reject_nobody():
    matrix = np.full((4, 30), 3.0)
    matrix[0] = np.where(np.arange(30) % 2, 1, 5)
    screening = bt500(*long_form(matrix))
    assert not screening.flagged.any()
    assert not screening.able.any()
    assert "can reject nobody" in screening.note


def test_bt500_five_judgements_are_the_fewest_that_can_stand_out():
    matrix = np.full((5, 30), 3.0)
    matrix[0] = np.where(np.arange(30) % 2, 1, 5)
    screening = bt500(*long_form(matrix))
    assert screening.flagged.tolist() == [True, False, False, False, False]
    assert screening.note == ""


@pytest.mark.parametrize(("persons", "found"), [(20, False), (21, True)])
def test_bt500_below_21_judgements_the_wide_threshold_rejects_nobody(persons, found):
    matrix = np.full((persons, 30), 3.0)
    matrix[0] = np.where(np.arange(30) % 2, 1, 5)
    screening = bt500(*long_form(matrix))
    assert screening.flagged[0] == found
    assert ("can reject nobody" in screening.note) != found


def test_bt500_on_a_real_study():
    path = DATA / "nflx_public_raw.json"
    if not path.exists():
        pytest.skip(f"needs nflx_public_raw.json of the optional data folder ({DATA})")
    matrix = np.array([video["os"] for video in json.loads(path.read_text())["dis_videos"]], dtype=np.float64).T
    screening = bt500(*long_form(matrix))
    assert screening.flagged.tolist() == bt500_by_loops(matrix)[2]
    assert screening.figures["judged"].tolist() == [79] * 26


def repeats_of(differences, each=4):
    """Persons whose repeats lie `differences` off, as (person, value, repeat_of)."""
    person, value, repeat_of = [], [], []
    for who, difference in enumerate(differences):
        for _ in range(each):
            repeat_of += [-1, len(person)]
            person += [who, who]
            value += [3.0, 3.0 + difference]
    return person, value, repeat_of


def test_repeat_consistency_finds_the_one_who_forgets():
    screening = repeat_consistency(*repeats_of([0.1] * 9 + [2.0]))
    assert np.flatnonzero(screening.flagged).tolist() == [9]
    assert "repeats differ by 2.00 on average over 4 repeats" in screening.reasons[9]
    assert screening.figures["difference"][0] == pytest.approx(0.1)


def test_repeat_consistency_says_whom_it_cannot_judge():
    few = repeat_consistency(*repeats_of([0.0] * 4 + [4.0]))
    assert not few.flagged.any()
    assert "can flag nobody" in few.note
    six = repeat_consistency(*repeats_of([0.0] * 5 + [4.0]))
    assert six.flagged.tolist() == [False] * 5 + [True]
    person, value, repeat_of = repeats_of([0.1] * 7)
    partly = repeat_consistency([*person, 99], [*value, 3.0], [*repeat_of, -1])
    assert "1 of 8 persons judged no repeat" in partly.note
    assert np.isnan(partly.figures["difference"][-1])


def test_gold_warns_below_the_bar_and_stops_below_the_lower_bar():
    person = np.repeat(["good", "middling", "poor", "new"], [10, 10, 10, 2])
    correct = [1] * 9 + [0] + [1] * 7 + [0] * 3 + [1] * 3 + [0] * 7 + [0] * 2
    screening = gold(person, correct)
    assert screening.persons.tolist() == ["good", "middling", "new", "poor"]
    assert screening.flagged.tolist() == [False, False, False, True]
    assert screening.warned.tolist() == [False, True, False, False]
    assert "right on 3 of 10 gold trials (30 %" in screening.reasons[3]
    assert "1 of 4 persons judged fewer than 5 gold trials" in screening.note
    assert screening.figures["low"][3] < 0.3 < screening.figures["high"][3]


def test_speed_flags_those_who_click_through():
    person = np.repeat([1, 2, 3], [20, 20, 3])
    seconds = np.concatenate([np.full(20, 2.0), np.tile([0.2, 1.0], 10), np.full(3, 0.1)])
    screening = speed(person, seconds)
    assert screening.flagged.tolist() == [False, True, False]
    assert screening.figures["median"].tolist() == pytest.approx([2.0, 0.6, 0.1])
    assert "50 % of 20 answers came in under 0.5 s" in screening.reasons[1]
    assert "1 of 3 persons gave fewer than 10 answers" in screening.note


def test_straight_lining_finds_one_answer_all_along_but_spares_frequent_answers():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(10), 40)
    order = np.tile(np.arange(40), 10)
    value = rng.integers(0, 2, 400)
    value[person == 4] = 1
    shuffled = rng.permutation(400)
    screening = straight_lining(person[shuffled], order[shuffled], value[shuffled])
    assert np.flatnonzero(screening.flagged).tolist() == [4]
    assert screening.figures["run"][4] == 40
    assert screening.figures["entropy"][4] == 0
    assert screening.figures["entropy"][0] > 0.9
    assert "one answer 40 times running" in screening.reasons[4]
    mostly_yes = (rng.random(400) < 0.97).astype(int)
    assert not straight_lining(person, order, mostly_yes).flagged.any()


def test_straight_lining_chance_is_not_below_the_truth():
    """The bound holds: among independent answers, runs as unlikely as 1 % are at most about that frequent."""
    rng = np.random.default_rng(3)
    chances = [
        straight_lining(np.zeros(50), np.arange(50), rng.permutation(np.repeat([0, 1], 25))).figures["chance"][0]
        for _ in range(400)
    ]
    assert np.mean(np.array(chances) < 0.05) <= 0.05


def test_straight_lining_says_when_there_is_too_little():
    screening = straight_lining([1, 1, 2, 2], [1, 2, 1, 2], [0, 0, 0, 1])
    assert not screening.flagged.any()
    assert "this rule can flag nobody" in screening.note


def test_side_bias_is_the_exact_binomial_test():
    person = np.repeat([1, 2, 3], [30, 30, 4])
    left = np.concatenate([np.tile([1, 0], 15), np.repeat([1, 0], [27, 3]), np.ones(4)])
    screening = side_bias(person, left)
    assert screening.flagged.tolist() == [False, True, False]
    assert screening.figures["p"].tolist() == pytest.approx(
        [binomtest(15, 30).pvalue, binomtest(27, 30).pvalue, binomtest(4, 4).pvalue]
    )
    assert "chose the left side in 27 of 30 pairs" in screening.reasons[1]
    assert "1 of 3 persons judged too few pairs" in screening.note


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bt500([], [], []), "no judgements to screen"),
        (lambda: bt500([1, 2], [1, 1], [1.0, np.inf]), "value of row 1 is inf"),
        (lambda: bt500([1, 2], [1, 1], [1.0]), "differ in shape"),
        (lambda: repeat_consistency([1, 2], [1.0, 2.0], [-1, 0]), "repeats a judgement of another person"),
        (lambda: repeat_consistency([1, 2], [1.0, 2.0], [-1, 7]), "row numbers below 2"),
        (lambda: gold([1], [1], bar=0.5, lower_bar=0.6), "lower bar <= bar"),
        (lambda: speed([1], [-2.0]), "answered 2.0 s before it was shown"),
        (lambda: straight_lining([1, 1], [1], [0, 1]), "differ in shape"),
    ],
)
def test_bad_columns_are_refused(call, message):
    with pytest.raises(PsychometricsError, match=message):
        call()
