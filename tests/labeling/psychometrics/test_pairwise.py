"""Bradley-Terry, Davidson and Thurstone, against closed forms, choix, a generic optimiser and real votes."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import choix
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm, spearmanr

from labeling.psychometrics.intervals import PsychometricsError
from labeling.psychometrics.pairwise import Fit, Tally, connectivity, fit, rank_votes, tally_of_wins, tally_votes

DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", "../shared/data")) / "subjective"
# Agresti, "Categorical Data Analysis", table 10.10: log abilities against Baltimore, American League East 1987.
BASEBALL = {
    "Milwaukee": 1.581,
    "Detroit": 1.436,
    "Toronto": 1.294,
    "New York": 1.248,
    "Boston": 1.108,
    "Cleveland": 0.684,
    "Baltimore": 0.0,
}


def read_rows(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} of the optional data folder ({DATA})")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def random_votes(seed, m=6, votes=600, persons=20, ties=0.0):
    rng = np.random.default_rng(seed)
    strength = np.linspace(1, -1, m)
    first = rng.integers(0, m, votes)
    second = (first + rng.integers(1, m, votes)) % m
    chance = 1 / (1 + np.exp(strength[second] - strength[first]))
    outcome = np.where(rng.random(votes) < ties, 0.5, rng.random(votes) < chance)
    return rng.integers(0, persons, votes), first, second, outcome


def slow_fit(tally, m, model, prior):
    """Maximum likelihood by a generic optimiser, one vote kind of one pair after another."""
    pairs, counts = list(zip(tally.first.tolist(), tally.second.tolist(), strict=True)), tally.counts
    has_ties = model == "bradley-terry" and counts[2].any()

    def loss(theta):
        total = 0.0
        for k, (i, j) in enumerate(pairs):
            first, second, tie = counts[0, k] + prior, counts[1, k] + prior, counts[2, k]
            gap = theta[i] - theta[j]
            if model == "thurstone":
                total -= (first + tie / 2) * norm.logcdf(gap) + (second + tie / 2) * norm.logcdf(-gap)
                continue
            weights = [np.exp(gap / 2), np.exp(-gap / 2), np.exp(theta[m]) if has_ties else 0.0]
            total -= first * gap / 2 - second * gap / 2 - (first + second + tie) * np.log(sum(weights))
            if has_ties:
                total -= tie * theta[m] + 0.1 / len(pairs) * (theta[m] - np.log(sum(weights)))
        return total + theta[:m].mean() ** 2

    return minimize(loss, np.zeros(m + has_ties), method="BFGS", options={"gtol": 1e-7}).x


@pytest.mark.parametrize(("w12", "w21"), [(7, 3), (1, 1), (100, 1)])
def test_two_models_have_a_closed_form(w12, w21):
    strength = fit(tally_of_wins([[0, w12], [w21, 0]]), prior=0).strength
    assert strength[0] - strength[1] == pytest.approx(np.log(w12 / w21))
    smoothed = fit(tally_of_wins([[0, w12], [w21, 0]])).strength
    assert smoothed[0] - smoothed[1] == pytest.approx(np.log((w12 + 0.1) / (w21 + 0.1)))
    probit = fit(tally_of_wins([[0, w12], [w21, 0]]), model="thurstone", prior=0).strength
    assert probit[0] - probit[1] == pytest.approx(norm.ppf(w12 / (w12 + w21)))


def test_two_models_with_ties_have_a_closed_form():
    """Davidson with one pair is saturated: the fitted chances are the shares of the votes."""
    fitted = fit(Tally(2, np.array([0]), np.array([1]), np.array([[50.0], [30.0], [20.0]])), prior=0)
    weights = np.exp([fitted.strength[0], fitted.strength[1], fitted.tie_level + fitted.strength.mean()])
    np.testing.assert_allclose(weights / weights.sum(), [0.5, 0.3, 0.2], atol=1e-3)


@pytest.mark.parametrize("model", ["bradley-terry", "thurstone"])
@pytest.mark.parametrize("ties", [0.0, 0.3])
@pytest.mark.parametrize("prior", [0.0, 0.1])
def test_fit_equals_a_generic_optimiser(model, ties, prior):
    _, first, second, outcome = random_votes(1, m=5, ties=ties)
    tally = tally_votes(first, second, outcome, 5)
    fitted = fit(tally, model=model, prior=prior)
    slow = slow_fit(tally, 5, model, prior)
    np.testing.assert_allclose(fitted.strength, slow[:5] - slow[:5].mean(), atol=2e-5)
    assert (fitted.tie_level is not None) == (model == "bradley-terry" and ties > 0)
    if fitted.tie_level is not None:
        assert fitted.tie_level == pytest.approx(slow[5], abs=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_fit_equals_choix(seed):
    _, first, second, outcome = random_votes(seed, m=8)
    wins = [(a, b) if won else (b, a) for a, b, won in zip(first, second, outcome, strict=True)]
    fitted = fit(tally_votes(first, second, outcome, 8), prior=0)
    theirs = choix.opt_pairwise(8, wins, tol=1e-10)
    np.testing.assert_allclose(fitted.strength, theirs - theirs.mean(), atol=1e-4)


def test_many_tallies_at_once_equal_one_by_one_from_any_start():
    each = [tally_votes(*random_votes(seed, ties=0.2)[1:], 6) for seed in range(7)]
    counts = np.stack([tally.counts for tally in each])
    tallies = Tally(6, each[0].first, each[0].second, counts)
    middle = Tally(6, each[0].first, each[0].second, counts.mean(axis=0))
    together = fit(tallies)
    near = fit(tallies, start=fit(middle))
    far = fit(tallies, start=Fit(np.array([5.0, -5, 4, -4, 3, -3]), np.array(2.0)))
    for k, tally in enumerate(each):
        alone = fit(tally)
        for fitted in (together, near, far):
            np.testing.assert_allclose(fitted.strength[k], alone.strength, atol=1e-8)
            assert fitted.tie_level[k] == pytest.approx(float(alone.tie_level))


def test_an_item_that_never_lost_needs_the_prior_and_is_told_so():
    wins = [[0, 5, 5], [0, 0, 3], [0, 2, 0]]
    tally = tally_of_wins(wins)
    fitted = fit(tally)
    assert fitted.strength.argmax() == 0
    assert np.isfinite(fitted.strength).all()
    with pytest.raises(PsychometricsError, match=r"maximum likelihood does not exist.*keep a prior above 0"):
        fit(tally, prior=0)
    joined = connectivity(tally)
    assert joined.connected
    assert not joined.estimable


def test_items_never_compared_are_reported_and_not_ranked_against_each_other():
    """Each group is fitted as if it stood alone, with its own mean and its own ranks."""
    rng = np.random.default_rng(0)
    first, second = np.repeat([[0, 1], [2, 3]], 100, axis=0).T
    outcome = np.where(first == 0, rng.random(200) < 0.9, rng.random(200) < 0.7).astype(float)
    person = np.arange(200) % 10
    standing = rank_votes(list("abcd"), person, first, second, outcome, replicates=200)
    assert not standing.connectivity.connected
    assert standing.connectivity.component.tolist() == [0, 0, 1, 1]
    assert standing.rank.tolist() == [1, 2, 1, 2]
    assert standing.rank_best.tolist() == [1, 2, 1, 2]
    assert standing.rank_worst.tolist() == [3, 4, 3, 4]
    assert '2 groups of items that were never compared with each other ("a", "b"; "c", "d")' in standing.notes[0]
    for group, items in ((0, [0, 1]), (2, [2, 3])):
        own = first == group
        alone = rank_votes(["x", "y"], person[own], first[own] - group, second[own] - group, outcome[own])
        np.testing.assert_allclose(standing.strength[items], alone.strength, atol=1e-9)


def test_groups_with_ties_and_an_item_without_votes_stay_apart():
    standing = rank_votes(list("abcde"), [1, 2, 3], [0, 2, 0], [1, 3, 1], [0.5, 1, 1], replicates=50)
    assert standing.strength[[0, 1]].sum() == pytest.approx(0)
    assert standing.strength[[2, 3]].sum() == pytest.approx(0)
    assert standing.strength[4] == 0
    assert standing.n_votes.tolist() == [2, 2, 1, 1, 0]
    assert "3 groups" in standing.notes[0]


def test_the_prior_stays_weak_in_sparse_designs():
    """200 items of 20 votes each: the scores keep their spread, though most pairs were never compared."""
    rng = np.random.default_rng(4)
    strength = rng.normal(size=200)
    first = np.repeat(np.arange(200), 10)
    second = (first + rng.integers(1, 200, first.size)) % 200
    outcome = (rng.random(first.size) < 1 / (1 + np.exp(strength[second] - strength[first]))).astype(float)
    names = [str(k) for k in range(200)]
    standing = rank_votes(names, rng.integers(0, 40, first.size), first, second, outcome, replicates=300)
    slope = np.polyfit(strength, standing.strength, 1)[0]
    assert 0.8 < slope < 1.2
    covered = np.abs(standing.strength - strength + strength.mean()) < 1.96 * standing.sandwich
    assert covered.mean() > 0.85
    assert np.median((standing.high - standing.low) / 3.92 / standing.sandwich) == pytest.approx(1, abs=0.15)


def test_conjugate_gradients_give_what_one_fit_at_a_time_gives():
    """Replicates of thinly spread votes differ so much that each needs its own curvature."""
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 30, (2, 90))
    first, second = first[first != second], second[first != second]
    outcome = rng.choice([0.0, 0.5, 1.0], first.size)
    for model in ("bradley-terry", "thurstone"):
        tally = tally_votes(first, second, outcome, 30)
        counts = tally.counts * rng.integers(0, 4, (40, 1, tally.first.size))
        together = fit(replace(tally, counts=counts), model=model, start=fit(tally, model=model))
        for k in range(40):
            # The batch models ties wherever one of its tallies has one.
            alone = fit(replace(tally, counts=counts[[k, k]] if model == "bradley-terry" else counts[k]), model=model)
            np.testing.assert_allclose(together.strength[k], np.atleast_2d(alone.strength)[0], atol=1e-7)


def test_items_that_never_lost_or_won_are_named():
    standing = rank_votes(list("abc"), [1, 1, 2], [0, 0, 1], [1, 2, 2], [1, 1, 1], replicates=0)
    assert '"a" never lost and "c" never won' in standing.notes[0]
    assert "only 2 persons voted" in standing.notes[1]


def test_one_person_is_told_that_there_is_no_interval():
    standing = rank_votes(["a", "b"], [7, 7], [0, 0], [1, 1], [1, 0])
    assert "one person's" in standing.notes[0]


def test_only_ties_make_all_items_equal():
    standing = rank_votes(list("abc"), [1, 2, 3, 4], [0, 1, 0, 1], [1, 2, 2, 0], [0.5] * 4)
    np.testing.assert_allclose(standing.strength, 0, atol=1e-9)
    assert standing.rank.tolist() == [1, 1, 1]
    assert np.isfinite([standing.low, standing.high]).all()


def test_bootstrap_and_sandwich_agree_on_ordinary_votes():
    for model, ties in (("bradley-terry", 0.0), ("bradley-terry", 0.25), ("thurstone", 0.1)):
        votes = random_votes(3, votes=6000, persons=120, ties=ties)
        standing = rank_votes(list("abcdef"), *votes, replicates=1500, model=model)
        bootstrap = (standing.high - standing.low) / (2 * norm.ppf(0.975))
        np.testing.assert_allclose(bootstrap, standing.sandwich, rtol=0.12)


def test_intervals_widen_when_people_disagree_with_each_other():
    """The same votes, once spread over persons at random and once with each person of one mind."""
    rng = np.random.default_rng(5)
    minds = np.repeat(rng.random(20) < 0.5, 30).astype(float)
    first, second = np.zeros(600, int), np.ones(600, int)
    same = rank_votes(["x", "y"], np.repeat(np.arange(20), 30), first, second, minds)
    mixed = rank_votes(["x", "y"], rng.permutation(np.repeat(np.arange(20), 30)), first, second, minds)
    assert same.strength.tolist() == pytest.approx(mixed.strength.tolist())
    assert same.high[0] - same.low[0] > 3 * (mixed.high[0] - mixed.low[0])
    assert same.sandwich[0] > 3 * mixed.sandwich[0]


def test_standing_says_who_took_part_and_repeats_by_seed():
    person, first, second, outcome = random_votes(2)
    standing = rank_votes(list("abcdef"), person, first, second, outcome, replicates=100, seed=4)
    again = rank_votes(list("abcdef"), person, first, second, outcome, replicates=100, seed=4)
    np.testing.assert_array_equal(standing.replicates, again.replicates)
    assert standing.n_votes.tolist() == [((first == k) | (second == k)).sum() for k in range(6)]
    assert standing.rank.tolist() == [1, 2, 3, 4, 5, 6]
    assert standing.strength.sum() == pytest.approx(0)
    assert (standing.rank_best <= standing.rank).all()
    assert (standing.rank <= standing.rank_worst).all()


def test_one_person_or_no_replicates_leave_intervals_and_ranks_open():
    person, first, second, outcome = random_votes(2)
    alone = rank_votes(list("abcdef"), np.zeros(600), first, second, outcome)
    assert np.isnan(alone.sandwich).all()
    for standing in (alone, rank_votes(list("abcdef"), person, first, second, outcome, replicates=0)):
        assert np.isnan(standing.low).all()
        assert standing.rank_worst.tolist() == [6] * 6


def test_a_thousand_people_with_few_votes_each():
    """Votes too thinly spread for a dense table of persons give the same as resampling them by hand."""
    votes = random_votes(8, m=10, votes=3000, persons=1000)
    standing = rank_votes(list("abcdefghij"), *votes, replicates=3, seed=6)
    people = np.unique(votes[0])
    times = np.random.default_rng(6).multinomial(people.size, np.full(people.size, 1 / people.size), size=3)
    for row, drawn in zip(standing.replicates, times, strict=True):
        weight = drawn[np.searchsorted(people, votes[0])]
        again = [np.repeat(column, weight) for column in votes[1:]]
        np.testing.assert_allclose(row, fit(tally_votes(*again, 10)).strength, atol=1e-6)


def test_baseball_abilities_of_the_textbook():
    rows = read_rows("baseball_wins.csv")
    teams = list(BASEBALL)
    wins = np.zeros((7, 7))
    for row in rows:
        home, away = teams.index(row["home.team"]), teams.index(row["away.team"])
        wins[home, away] += int(row["home.wins"])
        wins[away, home] += int(row["away.wins"])
    strength = fit(tally_of_wins(wins), prior=0).strength
    np.testing.assert_allclose(strength - strength[-1], list(BASEBALL.values()), atol=1e-3)


def test_real_tone_mapping_votes_equal_choix():
    rows = read_rows("tone_mapping_votes.csv")
    conditions = sorted({row["condition_A"] for row in rows} | {row["condition_B"] for row in rows})
    first = [conditions.index(row["condition_A"]) for row in rows]
    second = [conditions.index(row["condition_B"]) for row in rows]
    outcome = [float(row["is_A_selected"]) for row in rows]
    m = len(conditions)
    standing = rank_votes(conditions, [row["observer"] for row in rows], first, second, outcome, prior=0, replicates=0)
    wins = [(a, b) if won else (b, a) for a, b, won in zip(first, second, outcome, strict=True)]
    theirs = choix.opt_pairwise(m, wins, tol=1e-10)
    np.testing.assert_allclose(standing.strength, theirs - theirs.mean(), atol=1e-4)
    probit = fit(tally_votes(first, second, outcome, m), model="thurstone", prior=0).strength
    assert spearmanr(probit, standing.strength).statistic > 0.98
    assert standing.connectivity.estimable
    smoothed = rank_votes(conditions, [row["observer"] for row in rows], first, second, outcome)
    assert np.median((smoothed.high - smoothed.low) / 3.92 / smoothed.sandwich) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": []}, "differ in shape"),
        ({"person": []}, "person has shape"),
        ({"second": [9]}, "item numbers must lie in 0..1, got up to 9"),
        ({"second": [0]}, "compares item 0 with itself"),
        ({"outcome": [0.7]}, "outcome holds 0.7"),
        ({"model": "elo"}, 'unknown pairwise model "elo"'),
        ({"items": ["x"], "first": [0], "second": [0]}, "compares item 0 with itself"),
        ({"person": [], "first": [], "second": [], "outcome": []}, "no votes to rank"),
    ],
)
def test_bad_votes_are_refused(change, message):
    arguments = {"items": ["x", "y"], "person": [0], "first": [0], "second": [1], "outcome": [1.0]} | change
    with pytest.raises(PsychometricsError, match=message):
        rank_votes(**arguments)


def test_one_item_is_no_ranking():
    with pytest.raises(PsychometricsError, match="at least two items"):
        fit(Tally(1, np.empty(0, int), np.empty(0, int), np.empty((3, 0))))
