"""Which pairs to ask next: those whose answer is expected to tell most about the scale.

Terms
    posterior  what the votes so far say about the strengths: a normal distribution, the Laplace approximation of
               Bradley-Terry or Thurstone with a normal prior on every strength
    gain       of a pair: mutual information between its answer and the strengths, in nats; that is the expected
               divergence of the posterior after the answer from the one before
    batch      a spanning tree of the items with the largest sum of gains: m - 1 pairs that several people can answer
               at once, because they touch every item and no two ask the same thing

Source: Mikhailiuk et al. 2020, "Active Sampling for Pairwise Comparisons via Approximate Message Passing and
Information Gain Maximization" (ASAP), arXiv 2004.05691, sections 3.2 to 3.4. An answer depends on the strengths by
their difference alone, so that under a normal posterior the gain is an integral over one variable and needs no
approximation of the posterior after the answer (Houlsby et al. 2011, arXiv 1112.5745, section 2).
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.special import entr, expit, log_ndtr, ndtr

from labeling.psychometrics.intervals import FloatArray, PsychometricsError
from labeling.psychometrics.pairwise import PairModel, Tally, tally_votes
from labeling.psychometrics.ranks import IntArray

# Standard deviation of a strength before any vote: in half the cases two items differ by odds of 7 to 1 or more.
PRIOR_SPREAD: dict[PairModel, float] = {"bradley-terry": 2.0, "thurstone": 1.2}
EPSILON = 0.1
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
LAST_STEP = 1e-8
MAX_NEWTON = 100


@dataclass(frozen=True)
class Posterior:
    """Normal distribution of the strengths: mean (m,) and covariance (m, m)."""

    mean: FloatArray
    covariance: FloatArray
    model: PairModel


def propose(
    n_items: int,
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    *,
    seed: int,
    scene: ArrayLike | None = None,
    allowed: NDArray[np.bool_] | None = None,
    model: PairModel = "bradley-terry",
    epsilon: float = EPSILON,
) -> IntArray:
    """(k, 2) pairs to ask next, scene by scene, most telling first within a scene; the same seed gives the same pairs.

    first, second: (n,) item numbers of the votes so far, possibly none; outcome: (n,) 1 = first won, 0 = second won,
    0.5 = tie. scene: (m,) any label of each item; only items of one scene are compared. allowed: (m, m) symmetric,
    which pairs may be asked; all by default. epsilon: share of pairs drawn at random instead.
    Raises PsychometricsError for columns that cannot be used.
    """
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    value = np.asarray(outcome, dtype=np.float64)
    scenes = np.zeros(n_items) if scene is None else np.asarray(scene)
    if scenes.shape != (n_items,):
        raise PsychometricsError(f"scene must have one label for each of {n_items} items, got shape {scenes.shape}")
    if a.size and (scenes[a] != scenes[b]).any():
        row = int((scenes[a] != scenes[b]).argmax())
        raise PsychometricsError(f"vote {row} compares items {a[row]} and {b[row]} of different scenes")
    if not 0 <= epsilon <= 1:
        raise PsychometricsError(f"epsilon is a share between 0 and 1, {epsilon} given")
    rng = np.random.default_rng(seed)
    batches = [np.empty((0, 2), dtype=np.int64)]
    for label in dict.fromkeys(scenes.tolist()):
        items = np.flatnonzero(scenes == label)
        number = np.full(n_items, -1)
        number[items] = np.arange(items.size)
        own = scenes[a] == label
        belief = posterior(_tally(number[a[own]], number[b[own]], value[own], items.size), model=model)
        may = np.ones((items.size, items.size), dtype=np.bool_) if allowed is None else allowed[np.ix_(items, items)]
        batches.append(items[spanning_batch(information_gain(belief), rng, allowed=may, epsilon=epsilon)])
    return np.concatenate(batches)


def posterior(tally: Tally, *, model: PairModel = "bradley-terry", spread: float | None = None) -> Posterior:
    """Laplace approximation from one tally, counts (3, p), with the prior N(0, spread^2) on every strength.

    A tie is half a win each way: how likely ties are tells nothing about the order.
    """
    if model not in get_args(PairModel):
        raise PsychometricsError(f'unknown pairwise model "{model}": use {" or ".join(map(repr, get_args(PairModel)))}')
    precision = 1 / (PRIOR_SPREAD[model] if spread is None else spread) ** 2
    wins, losses = tally.counts[0] + tally.counts[2] / 2, tally.counts[1] + tally.counts[2] / 2
    mean = np.zeros(tally.n_items)
    slope, bend = _SLOPES[model](mean[tally.first] - mean[tally.second], wins, losses)
    for _ in range(MAX_NEWTON):
        gradient = -precision * mean
        np.add.at(gradient, tally.first, slope)
        np.add.at(gradient, tally.second, -slope)
        step = np.linalg.solve(_precision(tally, bend, precision), gradient)
        # Far from the end, where the curvature says little about the whole step, no strength moves by more than one.
        step *= min(1.0, 1.0 / max(1e-300, float(np.abs(step).max())))
        mean = mean + step
        slope, bend = _SLOPES[model](mean[tally.first] - mean[tally.second], wins, losses)
        if np.abs(step).max() < LAST_STEP:
            break
    covariance = np.linalg.inv(_precision(tally, bend, precision))
    return Posterior(mean, np.asarray(covariance, dtype=np.float64), model)


def information_gain(belief: Posterior) -> FloatArray:
    """(m, m) symmetric gain of asking each pair once more, in nats, zero on the diagonal."""
    m = belief.mean.size
    first, second = np.triu_indices(m, 1)
    own = np.diag(belief.covariance)
    spread = np.sqrt(np.maximum(own[first] + own[second] - 2 * belief.covariance[first, second], 0.0))
    gap = belief.mean[first] - belief.mean[second]
    chance, doubt = np.zeros(gap.size), np.zeros(gap.size)
    for node, weight in zip(NODES, WEIGHTS / WEIGHTS.sum(), strict=True):
        at_node = _WINS[belief.model](gap + node * spread)
        chance += weight * at_node
        doubt += weight * (entr(at_node) + entr(1 - at_node))
    gain = np.zeros((m, m))
    gain[first, second] = gain[second, first] = np.maximum(entr(chance) + entr(1 - chance) - doubt, 0.0)
    return gain


def spanning_batch(
    gain: FloatArray,
    rng: np.random.Generator,
    *,
    allowed: NDArray[np.bool_] | None = None,
    epsilon: float = EPSILON,
) -> IntArray:
    """(k, 2) pairs of a spanning tree with the largest sum of gains, largest first, first < second.

    allowed: (m, m); pairs that may not be asked leave a forest. Each pair of the tree gives way with chance epsilon to
    a random pair that is not in the batch yet, which keeps a share of votes that no belief has chosen.
    """
    m = len(gain)
    may = np.triu(np.ones((m, m), dtype=np.bool_) if allowed is None else allowed, 1)
    cost = np.where(may, 1 + gain.max(initial=0.0) - gain, 0.0)  # zero is no edge
    tree = minimum_spanning_tree(cost).tocoo()
    pairs = np.column_stack([np.minimum(tree.row, tree.col), np.maximum(tree.row, tree.col)]).astype(np.int64)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], -gain[pairs[:, 0], pairs[:, 1]]))]
    free = may.copy()
    free[pairs[:, 0], pairs[:, 1]] = False
    others = np.argwhere(free)
    gives_way = np.flatnonzero(rng.random(len(pairs)) < epsilon)[: len(others)]
    pairs[gives_way] = others[rng.choice(len(others), gives_way.size, replace=False)] if gives_way.size else others[:0]
    return pairs


def _tally(first: IntArray, second: IntArray, outcome: FloatArray, n_items: int) -> Tally:
    if not first.size:
        return Tally(n_items, first, second, np.zeros((3, 0)))
    return tally_votes(first, second, outcome, n_items)


def _precision(tally: Tally, bend: FloatArray, precision: float) -> FloatArray:
    """(m, m) inverse covariance: curvature of the likelihood and of the prior."""
    matrix = np.zeros((tally.n_items, tally.n_items))
    matrix[tally.first, tally.second] = matrix[tally.second, tally.first] = -bend
    np.fill_diagonal(matrix, precision - matrix.sum(axis=1))
    return matrix


def _logistic(gap: FloatArray, wins: FloatArray, losses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First derivative, and minus the second, of the log-likelihood by the strength difference."""
    chance = expit(gap)
    return wins - (wins + losses) * chance, (wins + losses) * chance * (1 - chance)


def _probit(gap: FloatArray, wins: FloatArray, losses: FloatArray) -> tuple[FloatArray, FloatArray]:
    log_density = -(gap**2) / 2 - np.log(2 * np.pi) / 2
    win, loss = np.exp(log_density - log_ndtr(gap)), np.exp(log_density - log_ndtr(-gap))
    return wins * win - losses * loss, wins * win * (win + gap) + losses * loss * (loss - gap)


_SLOPES = {"bradley-terry": _logistic, "thurstone": _probit}
_WINS = {"bradley-terry": expit, "thurstone": ndtr}
