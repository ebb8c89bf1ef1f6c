"""Scores from pairwise votes: Bradley-Terry with Davidson ties, and Thurstone case V, with intervals.

Terms
    item       what is compared: a model, a picture, a condition
    vote       one person's answer to one pair: first won, second won, or tie
    tally      votes summed by pair, for the pairs that were compared
    strength   what an item's wins are explained by, on a logarithmic scale (Bradley-Terry) or in standard deviations
               of a difference (Thurstone); mean zero within each component
    component  items joined by votes; nothing is known about how items of different components compare
    tie level  log of Davidson's nu; None when ties are not modelled

Models
    Bradley-Terry (1952)   P(i beats j) = pi_i / (pi_i + pi_j), strength = log pi
    Davidson (1970)        weights pi_i, pi_j, nu sqrt(pi_i pi_j) of i wins, j wins, tie; used once there is a tie
    Thurstone (1927)       case V: P(i beats j) = Phi(strength_i - strength_j); a tie is half a win each way

A weak prior of 0.1 pseudo-wins each way on every pair that was compared makes the fit exist for an item that never
lost. Pairs that nobody compared get none: in a sparse design of many items those pseudo-wins would outweigh the votes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array, diags_array, vstack
from scipy.sparse.csgraph import connected_components
from scipy.special import log_ndtr

from labeling.psychometrics.intervals import FloatArray, PsychometricsError
from labeling.psychometrics.ranks import IntArray, percentile_intervals, rank_ranges, ranks_within

PairModel = Literal["bradley-terry", "thurstone"]

PRIOR_WINS = 0.1
# Keeps nu finite in a replicate without ties; spread over all pairs, it weighs nothing against one real tie.
PRIOR_TIES = 0.1
# Newton's error after a step is of the order of the step's square: the strengths are right to about 1e-10.
LAST_STEP = 1e-5
# A step by conjugate gradients is off by this share: the last one leaves 1e-9.
CONJUGATE_SHARE = 1e-4
LEAST_RESIDUAL = 1e-24
MAX_CONJUGATE = 200
# Steps with a shared curvature gain about one digit each; what they do not finish goes to Newton.
MAX_CHORDS = 15
LAST_CHORD = 1e-7
SLOW_CHORD = 0.5
MAX_NEWTON = 100
MAX_HALVINGS = 30
# From this share of non-zero counts a dense product is faster than a sparse one.
DENSE = 0.05
# Up to this many entries the table of pairs by items is kept dense.
DENSE_INCIDENCE = 1 << 17
# Replicates solved together: their Hessians and pair arrays stay in the processor's cache.
BLOCK_BYTES = 2 << 20
# Replicates drawn together: this many counts at most.
BLOCK_COUNTS = 1 << 23
LOG_ROOT_TAU = float(np.log(2 * np.pi) / 2)
# Below so many persons a bootstrap over persons is known to give intervals that are too short.
FEW_PERSONS = 5
MOST_NAMED = 5


@dataclass(frozen=True)
class Tally:
    """Votes summed by pair.

    n_items        m
    first, second  (p,) item numbers of the pairs compared, first < second
    counts         (..., 3, p) votes: first won, second won, tie; leading axes are separate tallies of the same pairs
    """

    n_items: int
    first: IntArray
    second: IntArray
    counts: FloatArray


@dataclass(frozen=True)
class Connectivity:
    """What the votes alone can compare.

    component  (m,) items with one number are joined by votes
    strong     (m,) items with one number are joined by wins in both directions; without the prior the strengths
               exist only if all items of a component share one number
    """

    component: IntArray
    strong: IntArray

    @property
    def connected(self) -> bool:
        """Whether votes join all items."""
        return not self.component.any()

    @property
    def estimable(self) -> bool:
        """Whether maximum likelihood exists without the prior, within each component."""
        return int(self.strong.max()) == int(self.component.max())


@dataclass(frozen=True)
class Fit:
    """Strengths (..., m) with mean zero within each component, and tie level (...,) or None."""

    strength: FloatArray
    tie_level: FloatArray | None


@dataclass(frozen=True)
class PairwiseStanding:
    """A leaderboard from pairwise votes; arrays are (m,) in the order of the items.

    low, high      95 % interval of the strength, from the cluster bootstrap by person; NaN with one person
    sandwich       standard error of the strength, clustered by person; NaN with one person
    rank           1 = best, within the item's component
    rank_best, rank_worst  ranks among all items that the intervals allow; an item of another component may lie
                   anywhere
    n_votes        votes in which the item took part
    replicates     (R, m) bootstrap strengths
    notes          in words, what the figures cannot say
    """

    items: tuple[str, ...]
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
    notes: tuple[str, ...]


def tally_votes(first: ArrayLike, second: ArrayLike, outcome: ArrayLike, n_items: int) -> Tally:
    """Tally of votes given one per row; outcome: 1 = first won, 0 = second won, 0.5 = tie."""
    a, b, pair, kind = _cells(first, second, outcome, n_items)
    counts = np.bincount(kind * a.size + pair, minlength=3 * a.size).reshape(3, a.size)
    return Tally(n_items, a, b, counts.astype(np.float64))


def tally_of_wins(wins: ArrayLike) -> Tally:
    """Tally of a matrix (m, m) whose entry (i, j) counts i's wins over j."""
    matrix = np.asarray(wins, dtype=np.float64)
    first, second = np.nonzero(np.triu(matrix + matrix.T, 1))
    none = np.zeros(first.size)
    return Tally(len(matrix), first, second, np.stack([matrix[first, second], matrix[second, first], none]))


def connectivity(tally: Tally) -> Connectivity:
    """Which items the votes of one tally, counts (3, p), join; a tie joins both ways."""
    over, under, ties = tally.counts
    forward, backward = over + ties > 0, under + ties > 0
    winner = np.concatenate([tally.first[forward], tally.second[backward]])
    loser = np.concatenate([tally.second[forward], tally.first[backward]])
    graph = coo_array((np.ones(winner.size), (winner, loser)), shape=(tally.n_items, tally.n_items)).tocsr()
    component = connected_components(graph, directed=False)[1]
    strong = connected_components(graph, directed=True, connection="strong")[1]
    return Connectivity(component.astype(np.int64), strong.astype(np.int64))


def fit(
    tally: Tally, *, model: PairModel = "bradley-terry", prior: float = PRIOR_WINS, start: Fit | None = None
) -> Fit:
    """Maximum likelihood (with the prior) of tallies with counts (..., 3, p), all solved in one batched Newton.

    prior: pseudo-wins each way on every pair of the tally; 0 is plain maximum likelihood, which raises
    PsychometricsError where it does not exist. start: a fit of one tally to begin from.
    """
    if model not in get_args(PairModel):
        raise PsychometricsError(f'unknown pairwise model "{model}": use {" or ".join(map(repr, get_args(PairModel)))}')
    if tally.n_items < 2:
        raise PsychometricsError(f"a ranking needs at least two items, {tally.n_items} given")
    if not prior >= 0:
        raise PsychometricsError(f"the prior is {prior}: give 0 or more pseudo-wins")
    batch = tally.counts.shape[:-2]
    counts = np.asarray(tally.counts, dtype=np.float64).reshape(-1, 3, tally.first.size)
    if prior == 0:
        _check_estimable(tally, counts)
    family = _family(tally, model, model == "bradley-terry" and bool(counts[:, 2].any()))
    theta = _solve(counts, family, prior, start)
    strength = theta[:, : tally.n_items].reshape(*batch, tally.n_items)
    return Fit(strength, theta[:, tally.n_items].reshape(batch) if family.with_ties else None)


def rank_votes(
    items: Sequence[str],
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

    person: (n,) any labels; first, second: (n,) item numbers; outcome: (n,) 1 = first won, 0 = second won, 0.5 = tie.
    Intervals by drawing whole persons with replacement, their votes with them. Items of different components are
    never ranked against each other; `notes` says which they are.
    """
    m = len(items)
    a, b, pair, kind = _cells(first, second, outcome, m)
    persons = np.unique(np.asarray(person), return_inverse=True)[1]
    if persons.shape != pair.shape:
        raise PsychometricsError(f"person has shape {persons.shape}, votes have shape {pair.shape}")
    by_person = _by_person(persons, kind * a.size + pair, 3 * a.size)
    tally = Tally(m, a, b, np.asarray(by_person.sum(axis=0)).reshape(3, a.size))
    fitted = fit(tally, model=model, prior=prior)
    drawn = cluster_bootstrap(by_person, tally, fitted, replicates=replicates, seed=seed, model=model, prior=prior)
    low, high = percentile_intervals(drawn, level)
    joined = connectivity(tally)
    best, worst = rank_ranges(low, high, joined.component)
    votes = tally.counts.sum(axis=0)
    return PairwiseStanding(
        items=tuple(items),
        strength=fitted.strength,
        low=low,
        high=high,
        sandwich=sandwich_errors(by_person, tally, fitted, model=model, prior=prior),
        rank=ranks_within(fitted.strength, joined.component),
        rank_best=best,
        rank_worst=worst,
        n_votes=np.bincount(np.concatenate([a, b]), np.tile(votes, 2), m).astype(np.int64),
        tie_level=None if fitted.tie_level is None else float(fitted.tie_level),
        connectivity=joined,
        replicates=drawn,
        notes=_notes(items, tally, joined, by_person.shape[0]),
    )


def cluster_bootstrap(
    by_person: csr_array,
    tally: Tally,
    fitted: Fit,
    *,
    replicates: int,
    seed: int,
    model: PairModel = "bradley-terry",
    prior: float = PRIOR_WINS,
) -> FloatArray:
    """(replicates, m) strengths of tallies in which whole persons are drawn with replacement.

    by_person: (persons, 3p) votes of each person by kind and pair of the tally. No rows with a single person: drawing
    one person over and over says nothing about others. A replicate may lack all votes that join two items; the prior
    on their pair then stands in for them, hence a prior of 0 raises PsychometricsError where that happens.
    """
    n_persons, n_cells = by_person.shape
    if n_persons < 2 or not replicates:
        return np.empty((0, tally.n_items))
    rng = np.random.default_rng(seed)
    votes = by_person.toarray() if by_person.nnz > DENSE * n_persons * n_cells else by_person
    block = max(1, BLOCK_COUNTS // max(n_persons, n_cells))
    strengths = []
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        times = rng.multinomial(n_persons, np.full(n_persons, 1 / n_persons), size=size).astype(np.float64)
        drawn = replace(tally, counts=(times @ votes).reshape(size, 3, -1))
        strengths.append(fit(drawn, model=model, prior=prior, start=fitted).strength)
    return np.concatenate(strengths)


def sandwich_errors(
    by_person: csr_array, tally: Tally, fitted: Fit, *, model: PairModel = "bradley-terry", prior: float = PRIOR_WINS
) -> FloatArray:
    """(m,) standard errors H^-1 (sum over persons of g g') H^-1 n/(n-1), g a person's share of the gradient.

    NaN with a single person.
    """
    n_persons = by_person.shape[0]
    if n_persons < 2:
        return np.full(tally.n_items, np.nan)
    family = _family(tally, model, fitted.tie_level is not None)
    theta = _parameters(family, fitted)[None]
    (prepared,) = _prepared(tally.counts[None], family, prior)
    information = _information(_EVALUATE[model](prepared, theta, family), family)[0]
    moved = np.linalg.solve(information, _person_gradients(by_person, theta, family).T)[: tally.n_items]
    return np.sqrt((moved**2).sum(axis=1) * n_persons / (n_persons - 1))


def _notes(items: Sequence[str], tally: Tally, joined: Connectivity, n_persons: int) -> tuple[str, ...]:
    notes = []
    if not joined.connected:
        groups = [np.flatnonzero(joined.component == c).tolist() for c in range(int(joined.component.max()) + 1)]
        said = "; ".join(_named([items[k] for k in group]) for group in groups[:MOST_NAMED])
        more = f"; and {len(groups) - MOST_NAMED} more" if len(groups) > MOST_NAMED else ""
        notes.append(
            f"the votes fall into {len(groups)} groups of items that were never compared with each other ({said}"
            f"{more}): scores and ranks hold within a group only; collect votes between the groups to rank all items"
        )
    notes += _one_sided(items, tally, joined)
    if n_persons == 1:
        notes.append("all votes are one person's: there is no interval over people, and every rank is possible")
    elif n_persons < FEW_PERSONS:
        notes.append(f"only {n_persons} persons voted: intervals over people are rough and likely too short")
    return tuple(notes)


def _one_sided(items: Sequence[str], tally: Tally, joined: Connectivity) -> list[str]:
    """Which items won, or lost, every vote: how far they lie from the others rests on the prior."""
    if joined.estimable:
        return []
    over, under, ties = tally.counts
    wins = np.bincount(tally.first, over + ties, tally.n_items) + np.bincount(tally.second, under + ties, tally.n_items)
    losses = np.bincount(tally.first, under + ties, tally.n_items) + np.bincount(
        tally.second, over + ties, tally.n_items
    )
    always = {
        "never lost": [items[k] for k in np.flatnonzero((wins > 0) & (losses == 0)).tolist()],
        "never won": [items[k] for k in np.flatnonzero((wins == 0) & (losses > 0)).tolist()],
    }
    told = [f"{_named(names)} {what}" for what, names in always.items() if names]
    who = " and ".join(told) or "some items only ever won, or only ever lost, against the rest"
    return [f"{who}: how far they lie from the others rests on the weak prior, only the order on votes"]


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:MOST_NAMED])
    return f"{shown} and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else shown


def _cells(
    first: ArrayLike, second: ArrayLike, outcome: ArrayLike, n_items: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Pairs compared, first < second, each (p,); pair and kind (0 first won, 1 second won, 2 tie) of each vote."""
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    value = np.asarray(outcome, dtype=np.float64)
    if not a.shape == b.shape == value.shape or a.ndim != 1:
        raise PsychometricsError(
            f"vote columns differ in shape: first {a.shape}, second {b.shape}, outcome {value.shape}"
        )
    if a.size == 0:
        raise PsychometricsError("there are no votes to rank: collect at least one")
    if min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= n_items:
        raise PsychometricsError(f"item numbers must lie in 0..{n_items - 1}, got up to {max(a.max(), b.max())}")
    if (a == b).any():
        raise PsychometricsError(f"vote {np.flatnonzero(a == b)[0]} compares item {a[a == b][0]} with itself")
    if not np.isin(value, (0.0, 0.5, 1.0)).all():
        wrong = value[~np.isin(value, (0.0, 0.5, 1.0))][0]
        raise PsychometricsError(f"outcome holds {wrong}: use 1 (first won), 0 (second won) or 0.5 (tie)")
    keys, pair = np.unique(np.minimum(a, b) * n_items + np.maximum(a, b), return_inverse=True)
    kind = np.where(value == 0.5, 2, np.where((value == 1) == (a < b), 0, 1))
    return keys // n_items, keys % n_items, pair, kind


def _by_person(person: IntArray, cell: IntArray, n_cells: int) -> csr_array:
    shape = (int(person.max()) + 1, n_cells)
    return coo_array((np.ones(cell.size), (person, cell)), shape=shape).tocsr()


def _parameters(family: "_Family", fitted: Fit) -> FloatArray:
    """(n_parameters,) of one fit; a family with ties that the fit has not begins with none in particular."""
    if not family.with_ties:
        return fitted.strength
    return np.append(fitted.strength, 0.0 if fitted.tie_level is None else fitted.tie_level)


def _solve(counts: FloatArray, family: "_Family", prior: float, near: Fit | None) -> FloatArray:
    """(r, n_parameters) maximisers of the likelihoods of r tallies (r, 3, p)."""
    start = np.zeros((1, family.n_parameters)) if near is None else _parameters(family, near)[None]
    if len(counts) == 1:
        (only,) = _prepared(counts, family, prior)
        return _newton(only, family, start, _exact)
    (mean,) = _prepared(counts.mean(axis=0, keepdims=True), family, prior)
    inverse = np.linalg.inv(_information(_EVALUATE[family.model](mean, start, family), family)[0])
    return np.concatenate([_solve_block(block, family, start, inverse) for block in _prepared(counts, family, prior)])


def _solve_block(counts: "_Counts", family: "_Family", start: FloatArray, inverse: FloatArray) -> FloatArray:
    theta, done = _chords(counts, family, start, inverse)
    if not done.all():
        rest = counts.rows(~done)
        theta[~done] = _newton(rest, family, np.repeat(start, len(rest), axis=0), partial(_conjugate, inverse=inverse))
    return theta


def _chords(
    counts: "_Counts", family: "_Family", start: FloatArray, inverse: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Newton from start (1, n_parameters) with one curvature for all r tallies, that of their mean.

    Tallies drawn from the same votes differ little in curvature when there are many votes a pair, so that a step costs
    two matrix products instead of r systems of equations. Gives up as soon as that does not hold. Returns theta
    (r, n_parameters) and which of them converged (r,).
    """
    theta = np.repeat(start, len(counts), axis=0)
    moved = np.full(len(counts), np.inf)
    for _ in range(MAX_CHORDS):
        step = _gradient(*_SLOPE[family.model](counts, theta, family), family) @ inverse
        before, moved = moved, np.abs(step).max(axis=1)
        if not np.median(moved) < SLOW_CHORD * np.median(before):
            break
        theta = theta + step
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


def _prepared(counts: FloatArray, family: "_Family", prior: float) -> Iterator[_Counts]:
    """Blocks of tallies (r, 3, p) with the prior added; a family without ties counts a tie as half a win each way."""
    prior_ties = PRIOR_TIES / counts.shape[-1] if family.with_ties else 0.0
    size = max(1, BLOCK_BYTES // (8 * max(counts.shape[-1], family.n_parameters)))
    for start in range(0, len(counts), size):
        first, second, ties = counts[start : start + size].swapaxes(0, 1)
        yield _Counts(first - second, first + second + ties + (2 * prior + prior_ties), ties + prior_ties)


@dataclass(frozen=True)
class _Family:
    """A likelihood for m items: which one, with or without ties, and its pairs.

    incidence  (p, m) of +1 and -1, dense or sparse
    joined     (m, m) 1 where two items share a component
    """

    model: PairModel
    with_ties: bool
    n_items: int
    first: IntArray
    second: IntArray
    incidence: FloatArray | csr_array
    joined: FloatArray

    @property
    def n_parameters(self) -> int:
        return self.n_items + self.with_ties


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


def _family(tally: Tally, model: PairModel, with_ties: bool) -> _Family:
    rows = np.arange(tally.first.size)
    signs = np.repeat([1.0, -1.0], rows.size)
    cells = (np.tile(rows, 2), np.concatenate([tally.first, tally.second]))
    incidence = coo_array((signs, cells), shape=(rows.size, tally.n_items)).tocsr()
    component = connected_components(abs(incidence).T @ abs(incidence), directed=False)[1]
    return _Family(
        model=model,
        with_ties=with_ties,
        n_items=tally.n_items,
        first=tally.first,
        second=tally.second,
        incidence=incidence.toarray() if rows.size * tally.n_items <= DENSE_INCIDENCE else incidence,
        joined=(component[:, None] == component[None, :]).astype(np.float64),
    )


def _newton(
    counts: _Counts, family: _Family, theta: FloatArray, solve: Callable[[_Terms, _Family], FloatArray]
) -> FloatArray:
    """(r, n_parameters) maximisers of the likelihoods of r tallies, from theta of the same shape.

    solve gives the steps (r, n_parameters). The log-likelihoods are concave, so Newton with step halving cannot miss;
    from a near start no step is halved.
    """
    evaluate = _EVALUATE[family.model]
    terms = evaluate(counts, theta, family)
    for _ in range(MAX_NEWTON):
        step = solve(terms, family)
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


def _exact(terms: _Terms, family: _Family) -> FloatArray:
    """Newton's step by the full matrix."""
    gradient = _gradient(terms.gap, terms.tie, family)
    solved = np.linalg.solve(_information(terms, family), gradient[..., None])
    return np.asarray(solved[..., 0], dtype=np.float64)


def _conjugate(terms: _Terms, family: _Family, *, inverse: FloatArray) -> FloatArray:
    """Newton's step by conjugate gradients, preconditioned with one inverse for all tallies; no matrix is formed."""
    residual = _gradient(terms.gap, terms.tie, family)
    step = np.zeros_like(residual)
    towards = ready = residual @ inverse
    size = (residual * ready).sum(axis=1)
    enough = np.maximum(CONJUGATE_SHARE**2 * size, LEAST_RESIDUAL)
    for _ in range(MAX_CONJUGATE):
        if (size <= enough).all():
            break
        curved = _curvature(terms, family, towards)
        length = np.divide(size, (towards * curved).sum(axis=1), out=np.zeros_like(size), where=size > enough)
        step = step + length[:, None] * towards
        residual = residual - length[:, None] * curved
        ready = residual @ inverse
        before, size = size, np.where(size > enough, (residual * ready).sum(axis=1), size)
        towards = ready + np.divide(size, before, out=np.zeros_like(size), where=before > 0)[:, None] * towards
    return step


def _curvature(terms: _Terms, family: _Family, direction: FloatArray) -> FloatArray:
    """(r, n_parameters) minus the Hessian times a direction that keeps the mean of each component at zero."""
    gap = direction[:, : family.n_items] @ family.incidence.T
    pull = terms.gap_gap * gap
    if not family.with_ties:
        return pull @ family.incidence
    tie = direction[:, -1]
    strengths = (pull + terms.gap_tie * tie[:, None]) @ family.incidence
    return np.column_stack([strengths, (terms.gap_tie * gap).sum(axis=1) + terms.tie_tie * tie])


def _gradient(gap: FloatArray, tie: FloatArray, family: _Family) -> FloatArray:
    """(r, n_parameters) from the derivatives by strength difference (r, p) and by tie level (r,)."""
    strengths = gap @ family.incidence
    return np.column_stack([strengths, tie]) if family.with_ties else strengths


def _information(terms: _Terms, family: _Family) -> FloatArray:
    """(r, k, k) minus the Hessian, plus ones over each component that keep the mean of its strengths at zero."""
    m = family.n_items
    matrix = np.zeros((len(terms.gap_gap), family.n_parameters, family.n_parameters))
    matrix[:, family.first, family.second] = -terms.gap_gap
    matrix[:, family.second, family.first] = -terms.gap_gap
    diagonal = np.arange(m)
    matrix[:, diagonal, diagonal] = terms.gap_gap @ abs(family.incidence)
    matrix[:, :m, :m] += family.joined
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
    return theta[:, : family.n_items] @ family.incidence.T


def _chances(gap: FloatArray, theta: FloatArray, family: _Family) -> tuple[FloatArray, FloatArray]:
    """P(first wins) - P(second wins) and P(tie), both (r, p)."""
    if not family.with_ties:
        return np.tanh(gap / 2), np.zeros((1, 1))
    weaker = np.exp(-np.abs(gap))
    with np.errstate(over="ignore", invalid="ignore"):
        tie = np.exp(theta[:, -1:]) * np.sqrt(weaker)
        total = 1 + weaker + tie
        return np.copysign((1 - weaker) / total, gap), tie / total


def _person_gradients(by_person: csr_array, theta: FloatArray, family: _Family) -> FloatArray:
    """(persons, n_parameters) gradient of the log-likelihood of each person's votes; theta (1, n_parameters)."""
    gap = _gaps(theta, family)
    tie_chance = np.zeros(1)
    if family.model == "thurstone":
        win, loss = _hazards(gap[0])
        kinds = [win, -loss, (win - loss) / 2]
    else:
        lead, chance = _chances(gap, theta, family)
        kinds, tie_chance = [(mean - lead[0]) / 2 for mean in (1, -1, 0)], chance[0]
    incidence = csr_array(family.incidence)
    gradient = by_person @ vstack([diags_array(kind) @ incidence for kind in kinds], format="csr")
    if not family.with_ties:
        return gradient.toarray()
    return np.column_stack([gradient.toarray(), by_person @ np.concatenate([kind - tie_chance for kind in (0, 0, 1)])])


def _check_estimable(tally: Tally, counts: FloatArray) -> None:
    """Every tally must join by wins in both directions whatever the pairs of the tally join."""
    groups = connectivity(replace(tally, counts=np.ones((3, tally.first.size)))).component.max()
    for number, each in enumerate(counts):
        joined = connectivity(replace(tally, counts=each))
        if joined.strong.max() > groups:
            raise PsychometricsError(
                f"maximum likelihood does not exist for tally {number}: some items never lost, or never won, against "
                f"the others ({joined.strong.max() + 1} groups); keep a prior above 0"
            )
