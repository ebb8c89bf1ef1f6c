"""One scale from a matrix of pairwise strengths: Thurstone's case V by maximum likelihood (gMAD, CVPR 2016, section 3).

Minimises -sum_ij C_ij log Phi(S_i - S_j) with sum S = 0, for C_ij >= 0: how much speaks for i above j. Two forms of
log Phi:

exact      the logarithm of the normal distribution function
published  the piecewise quadratic -sum_q a_q max(b_q - x, 0)^2 of the study's solver, which gives its published figures

Both are concave, so that Newton with step halving cannot miss. A pseudo-strength of a millionth of the mean positive
entry, each way between any two models that are connected, makes the minimum exist and be one point where the data alone
leave it open (nothing speaks against a model, or a flat stretch of the published form); elsewhere it moves no score by
more than a few millionths.

Models that no chain of positive entries connects have no common scale: each *component* has its own, with sum zero, and
a model alone has no score (NaN).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import log_ndtr

from competition.ranking.matrices import BoolArray, FloatArray, IntArray, RankingError

Form = Literal["exact", "published"]

PRIOR = 1e-6
LAST_STEP = 1e-9
MAX_STEPS = 500
MAX_HALVINGS = 60
SUFFICIENT = 1e-4  # of the decrease that the gradient promises
BLOCK_BYTES = 4 << 20  # matrices solved together: they stay in the processor's cache
LOG_ROOT_TAU = float(np.log(2 * np.pi) / 2)
QUADRATIC_A = (0.018102332171520, 0.011338501342044, 0.072727608432177, 0.184816581789135, 0.189354610912339, 0.023660365352785)  # fmt: skip  # noqa: E501
QUADRATIC_B = (3.0, 2.5, 2.0, 1.0, -1.0, -2.0)


class _Terms(NamedTuple):
    """log Phi at some differences: value, slope and minus the second derivative, all of one shape."""

    value: FloatArray
    slope: FloatArray
    bend: FloatArray


@dataclass(frozen=True)
class Connections:
    """What a matrix C can compare.

    component  (m,) models with one number are joined by positive entries
    top        groups of models against which no model outside the group speaks, though it is in their component: how
               far they stand above the others is not determined
    """

    component: IntArray
    top: tuple[tuple[int, ...], ...]


def check_form(form: str) -> None:
    """Raises RankingError for a form that is neither "exact" nor "published"."""
    if form not in get_args(Form):
        raise RankingError(f'unknown ranking mode "{form}": use {" or ".join(map(repr, get_args(Form)))}')


def connections(strength: FloatArray) -> Connections:
    """Which models a matrix (m, m) with entries >= 0 connects."""
    graph = coo_array(strength > 0)
    component = connected_components(graph, directed=False)[1].astype(np.int64)
    group = connected_components(graph, directed=True, connection="strong")[1]
    top = []
    for number in np.unique(group).tolist():
        inside = group == number
        others = (component == component[np.argmax(inside)]) & ~inside
        if others.any() and not (strength[np.ix_(others, inside)] > 0).any():
            top.append(tuple(np.flatnonzero(inside).tolist()))
    return Connections(component, tuple(top))


def global_scores(
    strength: FloatArray, component: IntArray, *, form: Form = "exact", start: FloatArray | None = None
) -> FloatArray:
    """(..., m) scores of matrices C (..., m, m), in standard deviations of a difference; the diagonal is not looked at.

    component: (m,) as `connections` finds it, for all matrices alike; scores sum to zero within a component, and a
    model alone in its component has none (NaN). start: (m,) scores to begin from.
    """
    check_form(form)
    batch, m = strength.shape[:-2], strength.shape[-1]
    together = (component[:, None] == component[None, :]) & ~np.eye(m, dtype=np.bool_)
    weights = np.where(together, strength, 0.0).reshape(-1, m, m)
    alone = ~together.any(axis=1)
    begin = _centred(np.zeros(m) if start is None else np.where(alone, 0.0, start), component)
    size = max(1, BLOCK_BYTES // (8 * m * m))
    parts = [_minimise(weights[at : at + size], together, begin, _FORMS[form]) for at in range(0, len(weights), size)]
    scores = np.concatenate(parts) if parts else np.empty((0, m))
    scores[:, alone] = np.nan
    return scores.reshape(*batch, m)


def notes_on(names: Sequence[str], found: Connections, what: str) -> tuple[str, ...]:
    """What a matrix does not say, in sentences; what: the event an entry stands for, such as "a successful attack"."""
    notes = []
    groups = [[names[i] for i in np.flatnonzero(found.component == c).tolist()] for c in np.unique(found.component)]
    if len(groups) > 1:
        listed = "; ".join(" and ".join(f'"{name}"' for name in group) for group in groups)
        notes.append(
            f"No ranking across these groups of models, because {what} between them was never seen: {listed}. Compare "
            "scores within a group only."
        )
    for top in found.top:
        named = " and ".join(f'"{names[i]}"' for i in top)
        notes.append(f"Nothing speaks against {named}: how far above the others is not determined by the answers.")
    return tuple(notes)


def _centred(scores: FloatArray, component: IntArray) -> FloatArray:
    """(m,) scores shifted so that each component sums to zero."""
    return scores - (np.bincount(component, scores) / np.bincount(component))[component]


def _minimise(
    weights: FloatArray, together: BoolArray, begin: FloatArray, terms_of: Callable[[FloatArray], _Terms]
) -> FloatArray:
    """(r, m) minimisers for matrices (r, m, m), from begin (m,)."""
    positive = weights > 0
    mean = weights.sum(axis=(1, 2)) / np.maximum(1, positive.sum(axis=(1, 2)))
    scaled = weights / np.where(mean > 0, mean, 1.0)[:, None, None] + PRIOR * together
    same = together | np.eye(len(begin), dtype=np.bool_)
    scores = np.repeat(begin[None], len(weights), axis=0)
    terms = terms_of(_gaps(scores))
    left = np.arange(len(weights))
    for _ in range(MAX_STEPS):
        scores[left], terms, arrived = _step(scaled[left], same, scores[left], terms, terms_of)
        left = left[~arrived]
        if not len(left):
            return scores
        terms = _Terms(*(part[~arrived] for part in terms))
    raise RankingError(f"the ranking did not converge in {MAX_STEPS} steps: check the strengths for extreme values")


def _gaps(scores: FloatArray) -> FloatArray:
    """(r, m, m) differences S_i - S_j."""
    return scores[:, :, None] - scores[:, None, :]


def _step(
    weights: FloatArray,
    same: BoolArray,
    scores: FloatArray,
    terms: _Terms,
    terms_of: Callable[[FloatArray], _Terms],
) -> tuple[FloatArray, _Terms, BoolArray]:
    """One Newton step for each of r matrices, halved until it helps enough: the new place, and which have arrived."""
    pull = weights * terms.slope
    gradient = pull.sum(axis=1) - pull.sum(axis=2)  # of what is minimised
    bend = weights * terms.bend
    bend = bend + bend.swapaxes(1, 2)
    hessian = same - bend  # the ones keep each component's sum at zero
    diagonal = np.arange(scores.shape[1])
    hessian[:, diagonal, diagonal] = 1.0 + bend.sum(axis=2)
    step = np.linalg.solve(hessian, -gradient[:, :, None])[:, :, 0]
    arrived = np.abs(step).max(axis=1, initial=0.0) < LAST_STEP
    value = -(weights * terms.value).sum(axis=(1, 2))
    promise = SUFFICIENT * (gradient * step).sum(axis=1)
    slack = 1e-13 * (1 + np.abs(value))
    length = np.ones(len(scores))
    for _ in range(MAX_HALVINGS):
        following = scores + length[:, None] * step
        terms = terms_of(_gaps(following))
        reached = -(weights * terms.value).sum(axis=(1, 2))
        worse = ~(reached <= value + length * promise + slack)
        if not worse.any():
            break
        length[worse] /= 2
    return following, terms, arrived


def _exact(gap: FloatArray) -> _Terms:
    value = log_ndtr(gap)
    slope = np.exp(-(gap**2) / 2 - LOG_ROOT_TAU - value)
    return _Terms(value, slope, slope * (slope + gap))


def _published(gap: FloatArray) -> _Terms:
    value, slope, bend = np.zeros_like(gap), np.zeros_like(gap), np.zeros_like(gap)
    for a, b in zip(QUADRATIC_A, QUADRATIC_B, strict=True):
        short = np.maximum(b - gap, 0.0)
        value -= a * short**2
        slope += 2 * a * short
        bend += 2 * a * (short > 0)
    return _Terms(value, slope, bend)


_FORMS: dict[Form, Callable[[FloatArray], _Terms]] = {"exact": _exact, "published": _published}
