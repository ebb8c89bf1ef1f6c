"""Active sampling, against integrals and trees written out, and against random pairs in simulation."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm, spearmanr

from labeling.psychometrics.active import Posterior, information_gain, posterior, propose, spanning_batch
from labeling.psychometrics.intervals import PsychometricsError
from labeling.psychometrics.pairwise import tally_votes

CHANCE = {"bradley-terry": expit, "thurstone": norm.cdf}


def votes(seed, m=6, n=60):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, m, n)
    second = (first + rng.integers(1, m, n)) % m
    outcome = np.where(rng.random(n) < 0.1, 0.5, rng.random(n) < expit(0.5 * (second - first)))
    return first, second, outcome


def answer_entropy(p):
    return -sum(x * np.log(x) for x in (p, 1 - p) if x > 0)


@pytest.mark.parametrize("model", ["bradley-terry", "thurstone"])
def test_posterior_is_the_mode_and_curvature_of_the_penalised_likelihood(model):
    first, second, outcome = votes(1)
    belief = posterior(tally_votes(first, second, outcome, 6), model=model, spread=1.5)

    def loss(strength):
        win = CHANCE[model](strength[first] - strength[second])
        return -(outcome * np.log(win) + (1 - outcome) * np.log1p(-win)).sum() + (strength**2).sum() / (2 * 1.5**2)

    slow = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(belief.mean, slow.x, atol=1e-5)
    step = 1e-3 * np.eye(6)
    corners = [(1, 1), (-1, -1), (1, -1), (-1, 1)]
    curvature = [[sum(i * j * loss(slow.x + i * a + j * b) for i, j in corners) / 4e-6 for b in step] for a in step]
    np.testing.assert_allclose(belief.covariance, np.linalg.inv(curvature), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", ["bradley-terry", "thurstone"])
def test_gain_is_the_mutual_information_of_answer_and_strengths(model):
    rng = np.random.default_rng(3)
    root = rng.normal(size=(5, 5))
    belief = Posterior(rng.normal(0, 2, 5), root @ root.T / 5, model)
    gain = information_gain(belief)
    for i, j in itertools.combinations(range(5), 2):
        covariance = belief.covariance
        gap = norm(belief.mean[i] - belief.mean[j], np.sqrt(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]))
        ends = gap.ppf([1e-12, 1 - 1e-12])
        chance = quad(lambda d, gap=gap: CHANCE[model](d) * gap.pdf(d), *ends)[0]
        doubt = quad(lambda d, gap=gap: answer_entropy(CHANCE[model](d)) * gap.pdf(d), *ends)[0]
        assert gain[i, j] == pytest.approx(answer_entropy(chance) - doubt, abs=2e-4)
        assert gain[i, j] == gain[j, i]
    assert (np.diag(gain) == 0).all()


def test_pairs_whose_answer_is_known_gain_nothing():
    belief = Posterior(np.array([9.0, 0.0, 0.1]), np.eye(3) * 0.01, "bradley-terry")
    gain = information_gain(belief)
    assert gain[0, 1] < 1e-4 < gain[1, 2]


@pytest.mark.parametrize("seed", range(4))
def test_batch_is_the_spanning_tree_of_the_largest_gain(seed):
    rng = np.random.default_rng(seed)
    gain = rng.random((5, 5))
    gain = gain + gain.T

    def spans(edges):
        group = list(range(5))
        for i, j in edges:
            group = [group[i] if g == group[j] else g for g in group]
        return len(set(group)) == 1

    trees = [edges for edges in itertools.combinations(itertools.combinations(range(5), 2), 4) if spans(edges)]
    assert len(trees) == 125  # Cayley
    best = max(trees, key=lambda edges: sum(gain[edge] for edge in edges))
    batch = spanning_batch(gain, rng, epsilon=0)
    assert {tuple(pair) for pair in batch.tolist()} == set(best)
    sizes = [gain[i, j] for i, j in batch]
    assert sizes == sorted(sizes, reverse=True)


def test_a_share_of_the_pairs_is_random_and_no_pair_comes_twice():
    gain = np.ones((60, 60))
    gain[0] = gain[:, 0] = 2.0  # the tree is a star
    drawn = [spanning_batch(gain, np.random.default_rng(seed), epsilon=0.2) for seed in range(50)]
    assert np.mean([(batch[:, 0] != 0).mean() for batch in drawn]) == pytest.approx(0.2, abs=0.03)
    assert all(len({tuple(pair) for pair in batch.tolist()}) == 59 for batch in drawn)
    only = spanning_batch(gain[:3, :3], np.random.default_rng(0), epsilon=1)
    assert len({tuple(pair) for pair in only.tolist()}) == 2  # a single pair is left to be random


def test_first_batch_without_votes_touches_every_item():
    batch = propose(7, [], [], [], seed=3, epsilon=0)
    assert len(batch) == 6
    assert set(batch.ravel().tolist()) == set(range(7))


def test_same_seed_same_pairs():
    first, second, third = (propose(6, *votes(2), seed=seed, epsilon=0.5).tolist() for seed in (5, 5, 6))
    assert first == second
    assert first != third


def test_scenes_are_never_mixed_and_each_is_as_if_alone():
    scene = np.array(["x", "y", "x", "y", "x", "y", "z"])
    first, second, outcome = [0, 2, 1, 3, 0], [2, 4, 3, 5, 4], [1, 0, 1, 1, 0.5]
    pairs = propose(7, first, second, outcome, seed=1, scene=scene, epsilon=0)
    assert all(scene[i] == scene[j] for i, j in pairs)
    assert len(pairs) == 4
    alone = propose(3, [0, 1, 0], [1, 2, 2], [1, 0, 0.5], seed=1, epsilon=0)
    assert pairs[:2].tolist() == (2 * alone).tolist()


def test_only_allowed_pairs_are_asked():
    allowed = np.zeros((5, 5), dtype=bool)
    allowed[[0, 1, 3], [1, 2, 4]] = True
    allowed |= allowed.T
    pairs = propose(5, [], [], [], seed=0, allowed=allowed, epsilon=1)
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 1), (1, 2), (3, 4)}
    assert propose(5, [], [], [], seed=0, allowed=np.zeros((5, 5), dtype=bool)).shape == (0, 2)


def test_two_hundred_items_are_no_matter():
    first, second, outcome = votes(1, m=200, n=4000)
    assert len(propose(200, first, second, outcome, seed=1)) == 199


def test_fewer_votes_than_random_pairs_for_the_same_scale():
    """Simulated people, 30 items: error and rank correlation after as many votes."""
    errors, orders = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        strength = rng.normal(0, 2, 30)
        strength -= strength.mean()
        found = []
        for active in (True, False):
            first, second, outcome = np.empty(0, int), np.empty(0, int), np.empty(0)
            for turn in range(16):
                pairs = propose(30, first, second, outcome, seed=turn)
                if not active:
                    i = rng.integers(0, 30, 29)
                    pairs = np.column_stack([i, (i + rng.integers(1, 30, 29)) % 30])
                won = rng.random(29) < expit(strength[pairs[:, 0]] - strength[pairs[:, 1]])
                first, second = np.append(first, pairs[:, 0]), np.append(second, pairs[:, 1])
                outcome = np.append(outcome, won)
            found.append(posterior(tally_votes(first, second, outcome, 30)).mean)
        errors.append([np.sqrt(((mean - mean.mean() - strength) ** 2).mean()) for mean in found])
        orders.append([spearmanr(mean, strength).statistic for mean in found])
    active, random = np.mean(errors, axis=0)
    assert active < 0.85 * random
    assert np.mean(orders, axis=0)[0] > np.mean(orders, axis=0)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scene": ["x"]}, "one label for each of 3 items"),
        ({"scene": ["x", "y", "y"]}, "vote 0 compares items 0 and 1 of different scenes"),
        ({"epsilon": 1.5}, "share between 0 and 1"),
        ({"model": "elo"}, 'unknown pairwise model "elo"'),
        ({"outcome": [0.3]}, "outcome holds 0.3"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"n_items": 3, "first": [0], "second": [1], "outcome": [1.0], "seed": 0} | change
    with pytest.raises(PsychometricsError, match=message):
        propose(**arguments)
