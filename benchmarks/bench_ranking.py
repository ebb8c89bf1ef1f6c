"""Leaderboards with 1,000 bootstrap replicates, against refitting one replicate at a time.

    python -m benchmarks.bench_ranking

Two leaderboards of 50 models from 100,000 judgements:

* MAD: 1,225 duels, 20,000 labelled images, five annotators each; images and annotators drawn again.
* Pairwise votes of 200 persons; whole persons drawn again.

One-by-one refits are timed on a handful of replicates and the total is extrapolated from them.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time

import choix
import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.report import markdown_table, write_section
from competition.ranking.perron import answer_counts, rank_judgements
from labeling.psychometrics.pairwise import rank_votes

MODELS = 50
JUDGEMENTS = 100_000
PERSONS = 200
ANNOTATORS = 5
REPLICATES = 1000
RUNS = 7
TARGET_SECONDS = 1.0
TARGET_RATIO = 300


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds and wall seconds of one call."""
    wall, processor = perf_counter(), process_time()
    function()
    return process_time() - processor, perf_counter() - wall


def mad_judgements(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """i, j (n,) of 20,000 labelled images and the answers of five annotators, says_i and says_j (n, 5)."""
    first, second = np.triu_indices(MODELS, 1)
    duel = np.arange(JUDGEMENTS // ANNOTATORS) % first.size
    i, j = first[duel], second[duel]
    accuracy = np.linspace(0.3, 0.8, MODELS)
    says = [
        rng.random((i.size, ANNOTATORS)) < np.where(rng.random(i.size) < accuracy[side], 0.9, 0.1)[:, None]
        for side in (i, j)
    ]
    return i, j, *says


def mad_ours(i: np.ndarray, j: np.ndarray, says_i: np.ndarray, says_j: np.ndarray) -> object:
    """From single judgements to the standing."""
    image = np.repeat(np.arange(i.size), ANNOTATORS)
    answers = answer_counts(image, says_i.ravel(), says_j.ravel(), i.size)
    right_i, right_j = 2 * says_i.sum(axis=1) > ANNOTATORS, 2 * says_j.sum(axis=1) > ANNOTATORS
    return rank_judgements([f"m{k}" for k in range(MODELS)], i, j, right_i, right_j, answers, replicates=REPLICATES)


def mad_one_replicate(
    rng: np.random.Generator, i: np.ndarray, j: np.ndarray, says_i: np.ndarray, says_j: np.ndarray
) -> np.ndarray:
    """One replicate as the definition says: images of each duel, annotators of each image, majority, ratios."""
    c, n = np.zeros((MODELS, MODELS)), np.zeros((MODELS, MODELS))
    images: dict[tuple[int, int], list[int]] = {}
    for row, pair in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
        images.setdefault(pair, []).append(row)
    for (a, b), rows in images.items():
        for row in rng.choice(rows, len(rows)):
            drawn = rng.integers(0, ANNOTATORS, ANNOTATORS)
            c[a, b] += 2 * says_i[row, drawn].sum() > ANNOTATORS
            c[b, a] += 2 * says_j[row, drawn].sum() > ANNOTATORS
            n[a, b] += 1
            n[b, a] += 1
    accuracy = (c + 0.5) / (n + 1)
    ratio = accuracy / accuracy.T
    vector = np.full(MODELS, 1 / MODELS)
    for _ in range(1000):
        following = ratio @ vector / (ratio @ vector).sum()
        moved, vector = np.abs(following - vector).sum(), following
        if moved < 1e-10:
            break
    return vector


def pairwise_votes(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """person, first, second, outcome of 100,000 votes."""
    strength = np.sort(rng.normal(size=MODELS))
    first = rng.integers(0, MODELS, JUDGEMENTS)
    second = (first + rng.integers(1, MODELS, JUDGEMENTS)) % MODELS
    won = rng.random(JUDGEMENTS) < 1 / (1 + np.exp(strength[second] - strength[first]))
    return rng.integers(0, PERSONS, JUDGEMENTS), first, second, won.astype(np.float64)


def redrawn_votes(rng: np.random.Generator, votes: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Winner and loser of every vote of one replicate, persons drawn with replacement."""
    person, first, second, outcome = votes
    times = np.bincount(rng.integers(0, PERSONS, PERSONS), minlength=PERSONS)[person]
    winner, loser = np.where(outcome == 1, (first, second), (second, first))
    return np.repeat(winner, times), np.repeat(loser, times)


def win_matrix(winner: np.ndarray, loser: np.ndarray) -> np.ndarray:
    return np.bincount(winner * MODELS + loser, minlength=MODELS**2).reshape(MODELS, MODELS).astype(np.float64)


def sklearn_by_vote(winner: np.ndarray, loser: np.ndarray) -> None:
    """Bradley-Terry as logistic regression, one row per vote."""
    sklearn_fit(winner, loser, np.ones(winner.size))


def sklearn_by_pair(winner: np.ndarray, loser: np.ndarray) -> None:
    """The same, one weighted row per pair and result."""
    wins = win_matrix(winner, loser)
    pairs = np.argwhere(wins > 0)
    sklearn_fit(pairs[:, 0], pairs[:, 1], wins[tuple(pairs.T)])


def sklearn_fit(winner: np.ndarray, loser: np.ndarray, weight: np.ndarray) -> None:
    design = np.zeros((winner.size, MODELS))
    rows, sign = np.arange(winner.size), np.where(np.arange(winner.size) % 2, 1.0, -1.0)
    design[rows, winner], design[rows, loser] = sign, -sign
    LogisticRegression(fit_intercept=False, C=100.0, tol=1e-6, max_iter=1000).fit(design, sign, sample_weight=weight)


def choix_by_vote(winner: np.ndarray, loser: np.ndarray) -> None:
    """Bradley-Terry by choix from the list of votes."""
    choix.ilsr_pairwise(MODELS, list(zip(winner.tolist(), loser.tolist(), strict=True)), alpha=0.01)


def choix_dense(winner: np.ndarray, loser: np.ndarray) -> None:
    """The fastest fit that choix offers: spectral iterations on the matrix of wins."""
    choix.ilsr_pairwise_dense(win_matrix(winner, loser), alpha=0.1)


def run() -> str:
    """Measures everything and returns the section."""
    rng = np.random.default_rng(0)
    judgements, votes = mad_judgements(rng), pairwise_votes(rng)
    names = [f"m{k}" for k in range(MODELS)]
    cases = [
        (
            "MAD, Perron",
            lambda: mad_ours(*judgements),
            [("loop over images", lambda: mad_one_replicate(rng, *judgements), 4)],
        ),
        (
            "pairwise, Bradley-Terry",
            lambda: rank_votes(names, *votes, replicates=REPLICATES),
            [
                ("scikit-learn, a row per vote", lambda: sklearn_by_vote(*redrawn_votes(rng, votes)), 5),
                ("scikit-learn, a row per pair", lambda: sklearn_by_pair(*redrawn_votes(rng, votes)), 10),
                ("choix `ilsr_pairwise`, by vote", lambda: choix_by_vote(*redrawn_votes(rng, votes)), 5),
                ("choix `ilsr_pairwise_dense`, by pair", lambda: choix_dense(*redrawn_votes(rng, votes)), 10),
            ],
        ),
    ]
    rows = []
    for name, ours, rivals in cases:
        cold, _ = timed(ours)
        runs = [timed(ours) for _ in range(RUNS)]
        seconds, wall = median(run[0] for run in runs), median(run[1] for run in runs)
        measured = f"median of {RUNS} runs; wall {wall:.2f} s; first run {cold:.2f} s"
        rows.append((f"{name}: **this project**, all {REPLICATES:,} at once", f"{seconds:.2f}", "1", measured))
        for rival, one, refits in rivals:
            each = [timed(one)[0] for _ in range(refits)]
            total = sum(each) / refits * REPLICATES
            measured = f"extrapolated from {refits} refits of {1000 * median(each):.0f} ms"
            rows.append((f"{name}: {rival}, one by one", f"{total:,.0f}", f"{total / seconds:,.0f}", measured))
    return "\n\n".join(
        [
            "## Leaderboards: 1,000 bootstrap replicates",
            f"{MODELS} models, {JUDGEMENTS:,} judgements, {REPLICATES:,} replicates, from single judgements to scores, "
            "intervals and rank ranges. Processor seconds of one thread: what the clock shows on a machine with "
            f"nothing else to do. Target: under {TARGET_SECONDS:.0f} s and at least {TARGET_RATIO} times faster than "
            "one-by-one refits of the judgements. "
            "`python -m benchmarks.bench_ranking`",
            markdown_table(["leaderboard", "seconds", "times as long", "measured"], rows),
            "The MAD replicates draw images within duels and annotators within images; that two-level draw is one "
            "multinomial draw per duel (`competition/ranking/bootstrap.py`). The pairwise replicates draw whole "
            "persons; all likelihoods are solved together (`labeling/psychometrics/pairwise.py`). Two rivals are given "
            "the votes already summed by pair, which is most of what there is to gain over a row per vote; against "
            "these the gain left is that of solving together.",
        ]
    )


if __name__ == "__main__":
    section = run()
    write_section("ranking", section, libraries=("numpy", "scipy", "scikit-learn", "choix"))
    print(section)
