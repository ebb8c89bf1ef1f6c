"""Scores from pairwise votes: Bradley-Terry with Davidson ties, and Thurstone case V, with intervals.

Terms
    vote       one person's answer to one pair: first won, second won, or tie
    tally      votes summed by pair, (..., 3, p): first won, second won, tie; p = m(m-1)/2 pairs first < second in the
               order of numpy.triu_indices
    strength   what a model's wins are explained by, on a logarithmic scale (Bradley-Terry) or in standard deviations
               of a difference (Thurstone); mean zero
    tie level  log of Davidson's nu; None when ties are not modelled

Models
    Bradley-Terry (1952)   P(i beats j) = pi_i / (pi_i + pi_j), strength = log pi
    Davidson (1970)        weights pi_i, pi_j, nu sqrt(pi_i pi_j) of i wins, j wins, tie; used once there is a tie
    Thurstone (1927)       case V: P(i beats j) = Phi(strength_i - strength_j); a tie is half a win each way

A weak prior of 0.1 pseudo-wins each way on every pair makes the fit exist for a model that never lost and for groups
that were never compared; `connectivity` says where it had to.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import log_ndtr

from competition.ranking.bootstrap import percentile_intervals, rank_ranges
from competition.ranking.matrices import FloatArray, IntArray, RankingError

PairModel = Literal["bradley-terry", "thurstone"]

PRIOR_WINS = 0.1
# Keeps nu finite in a replicate without ties; spread over all pairs, it weighs nothing against one real tie.
PRIOR_TIES = 0.1
# Newton's error after a step is of the order of the step's square: the strengths are right to about 1e-10.
LAST_STEP = 1e-5
# Steps with a shared curvature gain about one digit each; what they do not finish goes to Newton.
MAX_CHORDS = 15
LAST_CHORD = 1e-7
MAX_NEWTON = 100
MAX_HALVINGS = 30
# From this share of non-zero counts a dense product is faster than a sparse one.
DENSE = 0.05
# Replicates solved together: their Hessians and pair arrays stay in the processor's cache.
BLOCK_BYTES = 2 << 20
LOG_ROOT_TAU = float(np.log(2 * np.pi) / 2)


@dataclass(frozen=True)
class Connectivity:
    """What the votes alone can compare.

    component  (m,) models with one number are joined by votes
    strong     (m,) models with one number are joined by wins in both directions; without the prior the strengths
               exist only if all models share one number
    """

    component: IntArray
    strong: IntArray

    @property
    def connected(self) -> bool:
        """Whether votes join all models."""
        return not self.component.any()

    @property
    def estimable(self) -> bool:
        """Whether maximum likelihood exists without the prior."""
        return not self.strong.any()


@dataclass(frozen=True)
class Fit:
    """Strengths (..., m) with mean zero, and tie level (...,) or None."""

    strength: FloatArray
    tie_level: FloatArray | None


@dataclass(frozen=True)
class PairwiseStanding:
    """A leaderboard from pairwise votes; arrays are (m,) in the order of the models.

    low, high      95 % interval of the strength, from the cluster bootstrap by person; NaN with one person
    sandwich       standard error of the strength, clustered by person; NaN with one person
    rank           1 = best; rank_best, rank_worst as the intervals allow
    n_votes        votes in which the model took part
    replicates     (R, m) bootstrap strengths
    """

    models: tuple[str, ...]
    strength: FloatArray
    low: FloatArray
    high: FloatArray
    sandwich: FloatArray
    rank: IntArray
    rank_best: IntArray
    rank_worst: IntArray
    n_votes: IntArray
    tie_level: float | None
    connectivity: Connectivity
    replicates: FloatArray


def tally_votes(first: ArrayLike, second: ArrayLike, outcome: ArrayLike, n_models: int) -> FloatArray:
    """(3, p) tally of votes given one per row; outcome: 1 = first won, 0 = second won, 0.5 = tie."""
    pair, kind = _cells(first, second, outcome, n_models)
    n_pairs = n_models * (n_models - 1) // 2
    return np.bincount(kind * n_pairs + pair, minlength=3 * n_pairs).reshape(3, n_pairs).astype(np.float64)


def tally_of_wins(wins: ArrayLike) -> FloatArray:
    """(3, p) tally of a matrix (m, m) whose entry (i, j) counts i's wins over j."""
    matrix = np.asarray(wins, dtype=np.float64)
    upper = np.triu_indices(len(matrix), 1)
    return np.stack([matrix[upper], matrix.T[upper], np.zeros(upper[0].size)])


def connectivity(tally: FloatArray, n_models: int) -> Connectivity:
    """Which models the votes of a tally (3, p) join; a tie joins both ways."""
    first, second = np.triu_indices(n_models, 1)
    beats = np.zeros((n_models, n_models))
    beats[first, second] = tally[0] + tally[2]
    beats[second, first] = tally[1] + tally[2]
    graph = coo_array(beats)
    component = connected_components(graph, directed=False)[1]
    strong = connected_components(graph, directed=True, connection="strong")[1]
    return Connectivity(component.astype(np.int64), strong.astype(np.int64))


def fit(
    tally: FloatArray,
    n_models: int,
    *,
    model: PairModel = "bradley-terry",
    prior: float = PRIOR_WINS,
    start: Fit | None = None,
) -> Fit:
    """Maximum likelihood (with the prior) of tallies (..., 3, p), all solved in one batched Newton.

    prior: pseudo-wins each way on every pair; 0 is plain maximum likelihood, which raises RankingError where it does
    not exist. start: a fit of one tally to begin from.
    """
    if model not in get_args(PairModel):
        raise RankingError(f'unknown pairwise model "{model}": use {" or ".join(map(repr, get_args(PairModel)))}')
    if n_models < 2:
        raise RankingError(f"a ranking needs at least two models, {n_models} given")
    tallies = np.asarray(tally, dtype=np.float64)
    batch = tallies.shape[:-2]
    tallies = tallies.reshape(-1, 3, tallies.shape[-1])
    if prior == 0:
        _check_estimable(tallies, n_models)
    family = _family(model, model == "bradley-terry" and bool(tallies[:, 2].any()), n_models)
    blocks = [_solve(block, family, start) for block in _prepared(tallies, family, prior)]
    theta = np.concatenate(blocks)
    strength = theta[:, :n_models].reshape(*batch, n_models)
    return Fit(strength, theta[:, n_models].reshape(batch) if family.with_ties else None)


def rank_votes(
    models: Sequence[str],
    person: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    *,
    replicates: int = 1000,
    seed: int = 0,
    model: PairModel = "bradley-terry",
    prior: float = PRIOR_WINS,
    level: float = 0.95,
) -> PairwiseStanding:
    """Leaderboard from votes, one per row.

    person: (n,) any labels; first, second: (n,) model numbers; outcome: (n,) 1 = first won, 0 = second won, 0.5 = tie.
    Intervals by drawing whole persons with replacement, their votes with them.
    """
    m = len(models)
    pair, kind = _cells(first, second, outcome, m)
    persons = np.unique(np.asarray(person), return_inverse=True)[1]
    if persons.shape != pair.shape:
        raise RankingError(f"person has shape {persons.shape}, votes have shape {pair.shape}")
    n_pairs = m * (m - 1) // 2
    by_person = _by_person(persons, kind * n_pairs + pair, 3 * n_pairs)
    tally = np.asarray(by_person.sum(axis=0)).reshape(3, n_pairs)
    fitted = fit(tally, m, model=model, prior=prior)
    drawn = cluster_bootstrap(by_person, m, fitted, replicates=replicates, seed=seed, model=model, prior=prior)
    low, high = percentile_intervals(drawn, level)
    joined = connectivity(tally, m)
    best, worst = rank_ranges(low, high, joined.component)
    votes = tally.sum(axis=0)
    upper = np.triu_indices(m, 1)
    return PairwiseStanding(
        models=tuple(models),
        strength=fitted.strength,
        low=low,
        high=high,
        sandwich=sandwich_errors(by_person, m, fitted, model=model, prior=prior),
        rank=1 + (fitted.strength[None, :] > fitted.strength[:, None] + 1e-9).sum(axis=1),
        rank_best=best,
        rank_worst=worst,
        n_votes=np.bincount(np.concatenate(upper), weights=np.tile(votes, 2), minlength=m).astype(np.int64),
        tie_level=None if fitted.tie_level is None else float(fitted.tie_level),
        connectivity=joined,
        replicates=drawn,
    )


def cluster_bootstrap(
    by_person: csr_array,
    n_models: int,
    fitted: Fit,
    *,
    replicates: int,
    seed: int,
    model: PairModel = "bradley-terry",
    prior: float = PRIOR_WINS,
) -> FloatArray:
    """(replicates, m) strengths of tallies in which whole persons are drawn with replacement.

    by_person: (persons, 3p) votes of each person by kind and pair. No rows with a single person: drawing one person
    over and over says nothing about others.
    """
    n_persons = by_person.shape[0]
    if n_persons < 2 or not replicates:
        return np.empty((0, n_models))
    times = np.random.default_rng(seed).multinomial(n_persons, np.full(n_persons, 1 / n_persons), size=replicates)
    votes = by_person.toarray() if by_person.nnz > DENSE * np.prod(by_person.shape) else by_person
    tallies = (times.astype(np.float64) @ votes).reshape(replicates, 3, -1)
    return fit(tallies, n_models, model=model, prior=prior, start=fitted).strength


def sandwich_errors(
    by_person: csr_array, n_models: int, fitted: Fit, *, model: PairModel = "bradley-terry", prior: float = PRIOR_WINS
) -> FloatArray:
    """(m,) standard errors H^-1 (sum over persons of g g') H^-1 n/(n-1), g a person's share of the gradient.

    NaN with a single person.
    """
    n_persons = by_person.shape[0]
    if n_persons < 2:
        return np.full(n_models, np.nan)
    tally = np.asarray(by_person.sum(axis=0)).reshape(1, 3, -1)
    family = _family(model, fitted.tie_level is not None, n_models)
    theta = _parameters(family, fitted)[None]
    (prepared,) = _prepared(tally, family, prior)
    information = _information(_EVALUATE[model](prepared, theta, family), family)[0]
    gradient = by_person @ _vote_scores(theta, family)  # (persons, n_parameters)
    moved = np.linalg.solve(information, gradient.T)[:n_models]
    return np.sqrt((moved**2).sum(axis=1) * n_persons / (n_persons - 1))


def _cells(first: ArrayLike, second: ArrayLike, outcome: ArrayLike, n_models: int) -> tuple[IntArray, IntArray]:
    """(n,) pair number and (n,) kind (0 first won, 1 second won, 2 tie) of each vote, turned so that first < second."""
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    value = np.asarray(outcome, dtype=np.float64)
    if not a.shape == b.shape == value.shape or a.ndim != 1:
        raise RankingError(f"vote columns differ in shape: first {a.shape}, second {b.shape}, outcome {value.shape}")
    if a.size == 0:
        raise RankingError("there are no votes to rank: collect at least one")
    if min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= n_models:
        raise RankingError(f"model numbers must lie in 0..{n_models - 1}, got up to {max(a.max(), b.max())}")
    if (a == b).any():
        raise RankingError(f"vote {np.flatnonzero(a == b)[0]} compares model {a[a == b][0]} with itself")
    if not np.isin(value, (0.0, 0.5, 1.0)).all():
        wrong = value[~np.isin(value, (0.0, 0.5, 1.0))][0]
        raise RankingError(f"outcome holds {wrong}: use 1 (first won), 0 (second won) or 0.5 (tie)")
    low, high = np.minimum(a, b), np.maximum(a, b)
    pair = low * n_models - low * (low + 1) // 2 + high - low - 1
    kind = np.where(value == 0.5, 2, np.where((value == 1) == (a < b), 0, 1))
    return pair, kind


def _by_person(person: IntArray, cell: IntArray, n_cells: int) -> csr_array:
    shape = (int(person.max()) + 1, n_cells)
    return coo_array((np.ones(cell.size), (person, cell)), shape=shape).tocsr()


def _parameters(family: "_Family", fitted: Fit) -> FloatArray:
    """(n_parameters,) of one fit; a family with ties that the fit has not begins with none in particular."""
    if not family.with_ties:
        return fitted.strength
    return np.append(fitted.strength, 0.0 if fitted.tie_level is None else fitted.tie_level)


def _solve(counts: "_Counts", family: "_Family", near: Fit | None) -> FloatArray:
    """(r, n_parameters) maximisers of the likelihoods of r tallies."""
    if near is None:
        return _newton(counts, family, np.zeros((len(counts), family.n_parameters)))
    theta, done = _chords(counts, family, _parameters(family, near)[None])
    if not done.all():
        theta[~done] = _newton(counts.rows(~done), family, np.zeros((int((~done).sum()), family.n_parameters)))
    return theta


def _chords(counts: "_Counts", family: "_Family", near: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Newton from near (1, n_parameters) with one curvature for all r tallies, that of their mean.

    Tallies drawn from the same votes differ little in curvature, so that a step costs two matrix products instead of r
    systems of equations. Returns theta (r, n_parameters) and which of them converged (r,).
    """
    mean = _EVALUATE[family.model](counts.mean(), near, family)
    inverse = np.linalg.inv(_information(mean, family)[0])
    theta = np.repeat(near, len(counts), axis=0)
    moved = np.full(len(counts), np.inf)
    for _ in range(MAX_CHORDS):
        step = _gradient(*_SLOPE[family.model](counts, theta, family), family) @ inverse
        theta, moved = theta + step, np.abs(step).max(axis=1)
        if moved.max() < LAST_CHORD:
            break
    return theta, moved < LAST_CHORD


@dataclass(frozen=True)
class _Counts:
    """Votes of r tallies as the likelihoods need them: first minus second wins, all votes, ties; each (r, p)."""

    surplus: FloatArray
    votes: FloatArray
    ties: FloatArray

    def __len__(self) -> int:
        return len(self.votes)

    def rows(self, which: NDArray) -> "_Counts":
        return _Counts(self.surplus[which], self.votes[which], self.ties[which])

    def mean(self) -> "_Counts":
        parts = (self.surplus, self.votes, self.ties)
        return _Counts(*(part.mean(axis=0, keepdims=True) for part in parts))


def _prepared(tallies: FloatArray, family: "_Family", prior: float) -> Iterator[_Counts]:
    """Blocks of tallies (r, 3, p) with the prior added; a family without ties counts a tie as half a win each way."""
    prior_ties = PRIOR_TIES / tallies.shape[-1] if family.with_ties else 0.0
    size = max(1, BLOCK_BYTES // (8 * (family.n_models + 1) ** 2))
    for start in range(0, len(tallies), size):
        first, second, ties = tallies[start : start + size].swapaxes(0, 1)
        yield _Counts(first - second, first + second + ties + (2 * prior + prior_ties), ties + prior_ties)


@dataclass(frozen=True)
class _Family:
    """A likelihood for m models: which one, with or without ties, and its pairs; incidence is (p, m) of +1 and -1."""

    model: PairModel
    with_ties: bool
    n_models: int
    first: IntArray
    second: IntArray
    incidence: FloatArray

    @property
    def n_parameters(self) -> int:
        return self.n_models + self.with_ties


@dataclass(frozen=True)
class _Terms:
    """Pair by pair, at one theta: chances and derivatives of the log-likelihood.

    value           (r,) log-likelihood
    gap, gap_gap    (r, p) first derivative by the strength difference, and minus the second
    tie, tie_tie    (r,) first derivative by the tie level, and minus the second; zero without ties
    gap_tie         (r, p) minus the mixed derivative; zero without ties
    """

    value: FloatArray
    gap: FloatArray
    gap_gap: FloatArray
    tie: FloatArray
    tie_tie: FloatArray
    gap_tie: FloatArray


def _family(model: PairModel, with_ties: bool, n_models: int) -> _Family:
    first, second = np.triu_indices(n_models, 1)
    incidence = np.zeros((first.size, n_models))
    rows = np.arange(first.size)
    incidence[rows, first], incidence[rows, second] = 1.0, -1.0
    return _Family(model, with_ties, n_models, first, second, incidence)


def _newton(counts: _Counts, family: _Family, theta: FloatArray) -> FloatArray:
    """(r, n_parameters) maximisers of the likelihoods of r tallies, from theta of the same shape.

    The log-likelihoods are concave, so Newton with step halving cannot miss; from a near start no step is halved.
    """
    evaluate = _EVALUATE[family.model]
    terms = evaluate(counts, theta, family)
    for _ in range(MAX_NEWTON):
        step = np.linalg.solve(_information(terms, family), _gradient(terms.gap, terms.tie, family)[..., None])[..., 0]
        if np.abs(step).max() < LAST_STEP:
            return theta + step
        enough = terms.value - 1e-12 * (1 + np.abs(terms.value))
        for _ in range(MAX_HALVINGS):
            following = evaluate(counts, theta + step, family)
            worse = ~(following.value >= enough)  # a step too far may overflow to NaN
            if not worse.any():
                break
            step[worse] /= 2
        theta, terms = theta + step, following
    return theta


def _gradient(gap: FloatArray, tie: FloatArray, family: _Family) -> FloatArray:
    """(r, n_parameters) from the derivatives by strength difference (r, p) and by tie level (r,)."""
    strengths = gap @ family.incidence
    return np.column_stack([strengths, tie]) if family.with_ties else strengths


def _information(terms: _Terms, family: _Family) -> FloatArray:
    """(r, k, k) minus the Hessian, plus a matrix of ones over the strengths that keeps their mean at zero."""
    m = family.n_models
    matrix = np.empty((len(terms.gap_gap), family.n_parameters, family.n_parameters))
    matrix[:, family.first, family.second] = -terms.gap_gap
    matrix[:, family.second, family.first] = -terms.gap_gap
    diagonal = np.arange(m)
    matrix[:, diagonal, diagonal] = terms.gap_gap @ np.abs(family.incidence)
    matrix[:, :m, :m] += 1.0
    if family.with_ties:
        matrix[:, :m, m] = matrix[:, m, :m] = terms.gap_tie @ family.incidence
        matrix[:, m, m] = terms.tie_tie
    return matrix


def _bradley_terry_slope(counts: _Counts, theta: FloatArray, family: _Family) -> tuple[FloatArray, FloatArray]:
    """First derivatives of Bradley-Terry: by strength difference (r, p) and by tie level (r,)."""
    lead, tie_chance = _chances(_gaps(theta, family), theta, family)
    gap = (counts.surplus - counts.votes * lead) / 2
    if not family.with_ties:
        return gap, np.zeros(len(counts))
    return gap, (counts.ties - counts.votes * tie_chance).sum(axis=1)


def _bradley_terry(counts: _Counts, theta: FloatArray, family: _Family) -> _Terms:
    """Terms of Bradley-Terry, with Davidson's ties where the family has them."""
    gaps = _gaps(theta, family)
    lead, tie_chance = _chances(gaps, theta, family)
    level = theta[:, -1:] if family.with_ties else np.full((1, 1), -np.inf)
    log_total = np.logaddexp(np.logaddexp(gaps / 2, -gaps / 2), level)
    value = (counts.surplus * gaps / 2 - counts.votes * log_total).sum(axis=1)
    if family.with_ties:
        value = value + counts.ties.sum(axis=1) * theta[:, -1]
    gap, tie = _bradley_terry_slope(counts, theta, family)
    return _Terms(
        value=value,
        gap=gap,
        gap_gap=counts.votes * (1 - tie_chance - lead**2) / 4,
        tie=tie,
        tie_tie=(counts.votes * tie_chance * (1 - tie_chance)).sum(axis=1),
        gap_tie=-counts.votes * tie_chance * lead / 2,
    )


def _thurstone_slope(counts: _Counts, theta: FloatArray, family: _Family) -> tuple[FloatArray, FloatArray]:
    """First derivatives of Thurstone's case V; there is no tie level."""
    win, loss = _hazards(_gaps(theta, family))
    first = (counts.votes + counts.surplus) / 2
    return first * win - (counts.votes - first) * loss, np.zeros(len(counts))


def _thurstone(counts: _Counts, theta: FloatArray, family: _Family) -> _Terms:
    """Terms of Thurstone's case V."""
    gaps = _gaps(theta, family)
    win, loss = _hazards(gaps)
    first = (counts.votes + counts.surplus) / 2
    second = counts.votes - first
    gap, none = _thurstone_slope(counts, theta, family)
    return _Terms(
        value=(first * log_ndtr(gaps) + second * log_ndtr(-gaps)).sum(axis=1),
        gap=gap,
        gap_gap=first * win * (win + gaps) + second * loss * (loss - gaps),
        tie=none,
        tie_tie=none,
        gap_tie=np.zeros_like(gap),
    )


def _hazards(gap: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivatives of log P(first wins) and minus that of log P(second wins) by the strength difference."""
    log_density = -(gap**2) / 2 - LOG_ROOT_TAU
    return np.exp(log_density - log_ndtr(gap)), np.exp(log_density - log_ndtr(-gap))


_EVALUATE: dict[PairModel, Callable[[_Counts, FloatArray, _Family], _Terms]] = {
    "bradley-terry": _bradley_terry,
    "thurstone": _thurstone,
}
_SLOPE: dict[PairModel, Callable[[_Counts, FloatArray, _Family], tuple[FloatArray, FloatArray]]] = {
    "bradley-terry": _bradley_terry_slope,
    "thurstone": _thurstone_slope,
}


def _gaps(theta: FloatArray, family: _Family) -> FloatArray:
    return theta[:, : family.n_models] @ family.incidence.T


def _chances(gap: FloatArray, theta: FloatArray, family: _Family) -> tuple[FloatArray, FloatArray]:
    """P(first wins) - P(second wins) and P(tie), both (r, p)."""
    if not family.with_ties:
        return np.tanh(gap / 2), np.zeros((1, 1))
    weaker = np.exp(-np.abs(gap))
    with np.errstate(over="ignore", invalid="ignore"):
        tie = np.exp(theta[:, -1:]) * np.sqrt(weaker)
        total = 1 + weaker + tie
        return np.copysign((1 - weaker) / total, gap), tie / total


def _vote_scores(theta: FloatArray, family: _Family) -> FloatArray:
    """(3p, n_parameters) gradient of the log-likelihood of a single vote of each kind on each pair; theta (1, k)."""
    gap = _gaps(theta, family)
    if family.model == "thurstone":
        win, loss = _hazards(gap[0])
        kinds = [win, -loss, (win - loss) / 2]
    else:
        lead, tie_chance = _chances(gap, theta, family)
        kinds = [(mean - lead[0]) / 2 for mean in (1, -1, 0)]
    scores = np.concatenate([kind[:, None] * family.incidence for kind in kinds])
    if not family.with_ties:
        return scores
    return np.column_stack([scores, np.concatenate([kind - tie_chance[0] for kind in (0, 0, 1)])])


def _check_estimable(tallies: FloatArray, n_models: int) -> None:
    for number, tally in enumerate(tallies):
        strong = connectivity(tally, n_models).strong
        if strong.any():
            raise RankingError(
                f"maximum likelihood does not exist for tally {number}: some models never lost, or never won, against "
                f"the others ({strong.max() + 1} groups); keep a prior above 0"
            )
