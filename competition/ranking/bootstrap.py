"""Bootstrap of a MAD competition: images within each duel, and annotators within each image, in one computation.

Drawing n images of a duel with replacement, then drawing each image's annotators with replacement and taking their
majority again, gives n independent verdicts with one common distribution: the mean over the duel's images of the
distribution of that image's re-drawn verdict. So a replicate of a duel is one multinomial draw of n over four
outcomes, and the distribution of a re-drawn verdict is computed exactly instead of by drawing annotators. Nothing is
approximated, and beyond some forty images a duel the cost grows no more.

Outcomes, in this order everywhere: both right, only i right, only j right, neither.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, xlogy

from competition.ranking.matrices import FloatArray, IntArray, Mode, RankingError, assemble, duel_ratio, perron_vectors

N_OUTCOMES = 4
# Replicates worked on together: their matrices stay in the processor's cache.
BLOCK_BYTES = 2 << 20
# Duels of this many images on average are drawn image by image; beyond, one multinomial a duel is faster.
DRAW_SINGLY = 40
# Rows times compositions evaluated together when verdicts are re-drawn.
BLOCK_TERMS = 4 << 20
# A 95 % interval from replicates of which more are undefined would say more about those left out.
MAX_UNDEFINED = 0.05


@dataclass(frozen=True)
class Duels:
    """The d duels that have labelled images.

    first, second  (d,) model numbers, first < second
    images         (d,) labelled images
    outcomes       (d, 4) labelled images by verdict; rows sum to `images`
    redrawn        (d, 4) distribution of the verdict of a re-drawn image; rows sum to one
    """

    first: IntArray
    second: IntArray
    images: IntArray
    outcomes: IntArray
    redrawn: FloatArray


def collect_duels(i: IntArray, j: IntArray, outcome: IntArray, redrawn: FloatArray, n_models: int) -> Duels:
    """Sums labelled images (one per row, i < j) by duel.

    outcome: (n,) verdict, 0..3; redrawn: (n, 4) distribution of each image's re-drawn verdict. The result does not
    depend on the order of the rows.
    """
    keys, duel = np.unique(i * n_models + j, return_inverse=True)
    outcomes = np.bincount(duel * N_OUTCOMES + outcome, minlength=keys.size * N_OUTCOMES)
    outcomes = outcomes.reshape(keys.size, N_OUTCOMES)
    order = np.lexsort((*redrawn.T, duel))
    sums = np.stack([np.bincount(duel[order], weights=column[order]) for column in redrawn.T], axis=1)
    images = outcomes.sum(axis=1)
    return Duels(keys // n_models, keys % n_models, images, outcomes, sums / sums.sum(axis=1, keepdims=True))


def redrawn_verdicts(answers: IntArray, outcome: IntArray) -> FloatArray:
    """(n, 4) distribution of the majority verdict when an image's judgements are drawn again with replacement.

    answers: (n, 4) judgements of each image by what they say: both right, only i, only j, neither; "cannot tell" is
    no answer and is left out. outcome: (n,) the verdict itself, taken for certain where an image has no answers
    (imported verdicts, or verdicts a researcher set by hand).
    A tie on a question is broken by one further draw from the image's own answers, as the protocol opens one more
    slot. The share of images dropped as hard is not re-drawn: a reserve image would have taken their place.
    """
    distribution = np.eye(N_OUTCOMES)[outcome]
    totals = answers.sum(axis=1)
    for total in np.unique(totals[totals > 0]):
        rows = np.flatnonzero(totals == total)
        counts, which = np.unique(answers[rows], axis=0, return_inverse=True)
        distribution[rows] = _majority_distribution(counts / total, int(total))[which]
    return distribution


def _majority_distribution(share: FloatArray, total: int) -> FloatArray:
    """(u, 4) distribution of the majority over `total` draws, for u rows of answer shares (u, 4)."""
    drawn = _compositions(total)
    coefficient = gammaln(total + 1) - gammaln(drawn + 1).sum(axis=1)
    verdict = _verdict_given_tiebreak(drawn, total)
    result = np.empty_like(share)
    block = max(1, BLOCK_TERMS // len(drawn))
    for start in range(0, len(share), block):
        part = share[start : start + block]
        log_probability = coefficient + xlogy(drawn[None, :, :], part[:, None, :]).sum(axis=2)
        result[start : start + block] = np.einsum("uk,keo,ue->uo", np.exp(log_probability), verdict, part)
    return result / result.sum(axis=1, keepdims=True)


def _compositions(total: int) -> IntArray:
    """(K, 4) all ways in which `total` answers split into the four kinds."""
    cells = np.indices((total + 1,) * (N_OUTCOMES - 1)).reshape(N_OUTCOMES - 1, -1).T
    cells = cells[cells.sum(axis=1) <= total]
    return np.column_stack([cells, total - cells.sum(axis=1)])


def _verdict_given_tiebreak(drawn: IntArray, total: int) -> FloatArray:
    """(K, 4, 4) one-hot verdict of each composition, for each kind of one further answer that breaks ties."""
    says = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])  # (kind, question)
    margin = 2 * drawn @ says - total  # (K, 2)
    yes = np.where(margin[:, None, :] == 0, says[None, :, :] == 1, margin[:, None, :] > 0)  # (K, 4, 2)
    outcome = np.where(yes[..., 0], np.where(yes[..., 1], 0, 1), np.where(yes[..., 1], 2, 3))
    return np.eye(N_OUTCOMES)[outcome]


def bootstrap_scores(
    duels: Duels, component: IntArray, *, replicates: int, seed: int, mode: Mode = "smoothed"
) -> FloatArray:
    """(replicates, m) Perron scores of re-drawn competitions; the same seed gives the same scores.

    Raises RankingError when the published ratio is undefined in more than 5 % of the replicates; rarer ones are left
    out, so that fewer rows come back.
    """
    right_first, right_second = _draw_counts(duels, _shares(duels, mode), replicates, seed)
    if mode == "published":
        defined = ((right_first > 0) & (right_second > 0)).all(axis=1)
        if (~defined).sum() > MAX_UNDEFINED * replicates:
            raise RankingError(
                f"the published ratio is undefined in {(~defined).sum():,} of {replicates:,} replicates (in some duel "
                'a model was right on none of the re-drawn images): use mode="smoothed", or replicates=0 for scores '
                "without intervals"
            )
        right_first, right_second = right_first[defined], right_second[defined]
    n_models = component.size
    block = max(1, BLOCK_BYTES // (8 * n_models**2))
    scores = np.empty((len(right_first), n_models))
    for start in range(0, len(scores), block):
        stop = start + block
        ratio = duel_ratio(right_first[start:stop], right_second[start:stop], mode)
        scores[start:stop] = perron_vectors(assemble(ratio, duels.first, duels.second, component))
    return scores


def _shares(duels: Duels, mode: Mode) -> FloatArray:
    """(d, 4) distribution from which the verdicts of a duel are drawn.

    In smoothed mode one more image of unknown verdict takes part, a quarter of it in each outcome: the shares are then
    those that (c + 1/2) / (n + 1) ranks by, and a duel of one image, or one in which a model is never right, is not
    drawn the same every time.
    """
    if mode == "published":
        return duels.redrawn
    images = duels.images[:, None]
    return (images * duels.redrawn + 1 / N_OUTCOMES) / (images + 1)


def _draw_counts(duels: Duels, shares: FloatArray, replicates: int, seed: int) -> tuple[IntArray, IntArray]:
    """Images on which the first and the second model of each duel is right, both (replicates, d)."""
    rng = np.random.default_rng(seed)
    if replicates and duels.images.mean() <= DRAW_SINGLY:
        return _draw_singly(duels.images, shares, replicates, rng)
    drawn = rng.multinomial(duels.images, shares, size=(replicates, len(duels.images)))
    return drawn[..., 0] + drawn[..., 1], drawn[..., 0] + drawn[..., 2]


def _draw_singly(
    images: IntArray, shares: FloatArray, replicates: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """The same counts from one 32-bit number per image: several times faster than a multinomial of few images.

    The unit interval is cut in the order only first, both, only second, neither, so that each model is right on one
    stretch of it.
    """
    order = np.argsort(-images, kind="stable")
    both, only_first, only_second, _ = shares[order].T
    cuts = np.cumsum([only_first, both, only_second], axis=0)
    edges = np.minimum(np.round(cuts * 2**32), 2**32 - 1).astype(np.uint32)
    right_first = np.zeros((replicates, order.size), dtype=np.int32)
    right_second = np.zeros_like(right_first)
    for image in range(int(images.max())):
        n = int((images > image).sum())
        number = rng.integers(0, 2**32, size=(replicates, n), dtype=np.uint32)
        right_first[:, :n] += number < edges[1, :n]
        right_second[:, :n] += (number >= edges[0, :n]) & (number < edges[2, :n])
    back = np.argsort(order)
    return right_first[:, back].astype(np.int64), right_second[:, back].astype(np.int64)


def centred(scores: FloatArray, score: FloatArray) -> FloatArray:
    """Replicates (R, m) scaled so that the mean of their logarithms is the logarithm of the score (m,).

    Annotators drawn again agree less with each other than the people they are drawn from, which moves every replicate
    towards equal models; without this the interval of a far-off model can miss its own score
    (docs/decisions/0003-ranking-intervals.md).
    """
    logarithm = np.log(scores)
    mean = logarithm.mean(axis=0) if len(scores) else 0.0
    return np.exp(logarithm - mean + np.log(score))
