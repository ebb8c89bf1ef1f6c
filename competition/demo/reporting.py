"""Compares a finished CIFAR-10 competition with the truth, which everybody but the competition knows.

True accuracy: over all 10,000 images, by CIFAR-10's labels. Random sample: as many images as the competition asked
about, drawn at random, each judged by five recorded people; repeated, so that luck averages out.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from accounts.errors import DomainError
from competition.demo.recorded_cifar10 import recorded_path
from competition.models import Entrant, Exhibit, ExhibitRole, Round, Snapshot
from corpora.reading import manifest_of
from labeling.models import Judgement, TrialKind
from models_zoo.models import Scores
from models_zoo.reading import score_columns

DRAWS = 1000
PEOPLE = 5
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Truth:
    """labels (N,); predictions (m, N); counts (N, C): recorded people per class; entrants in the order of entry."""

    entrants: list[Entrant]
    labels: np.ndarray
    predictions: np.ndarray
    counts: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        return (self.predictions == self.labels).mean(axis=1)


def truth_of(round: Round, folder: Path) -> Truth:
    """Read labels, predictions and recorded answers in the order of the corpus's rows."""
    corpus = round.competition.corpus
    with (folder / "human_counts.csv").open(newline="") as rows:
        reader = csv.reader(rows)
        next(reader)
        recorded = {path: [int(n) for n in counts] for path, *counts in reader}
    manifest = manifest_of(corpus)
    entrants = list(round.competition.entrants.select_related("version__model").order_by("number"))
    predictions = [
        score_columns(Scores.objects.get(version=entrant.version_id, corpus=corpus))[0] for entrant in entrants
    ]
    counts = np.array([recorded[recorded_path(str(path))] for path in manifest.column("path")])
    return Truth(entrants, np.asarray(manifest.column("label")), np.stack(predictions), counts)


def random_sample(truth: Truth, n_images: int, *, seed: int = 0, draws: int = DRAWS) -> tuple[np.ndarray, np.ndarray]:
    """What labelling ``n_images`` random images would have said, ``draws`` times over.

    Returns:
        Spearman correlation with the true accuracies (draws,), and pairs of models whose order is settled, that is
        whose difference in accuracy is beyond 1.96 standard errors of the paired difference (draws,).
    """
    rng = np.random.default_rng(seed)
    correlation, separated = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        rows = rng.choice(len(truth.labels), n_images, replace=False)
        votes = rng.multivariate_hypergeometric  # five people of those recorded, without replacement
        majority = np.array([votes(truth.counts[row], PEOPLE).argmax() for row in rows])
        right = (truth.predictions[:, rows] == majority).astype(float)  # (m, n)
        share = right.mean(axis=1)
        correlation[draw] = spearmanr(share, truth.accuracy).statistic
        difference = right[:, None] - right[None]  # (m, m, n)
        error = difference.std(axis=2, ddof=1) / np.sqrt(n_images)
        separated[draw] = (difference.mean(axis=2) > Z95 * error).sum()
    return correlation, separated


def report(round: Round, folder: Path) -> str:
    """The comparison as Markdown.

    Raises:
        DomainError: before the round's first snapshot.
    """
    snapshot = Snapshot.objects.filter(round=round, excluded_people=[]).order_by("-number").first()
    if snapshot is None:
        raise DomainError(f"{round} has no leaderboard yet: label it first.")
    truth = truth_of(round, folder)
    standings = {standing.entrant_id: standing for standing in snapshot.standings.all()}
    lines = [standings[entrant.pk] for entrant in truth.entrants]
    score = np.array([line.score for line in lines])
    low, high = np.array([line.low for line in lines]), np.array([line.high for line in lines])
    true_rank = (-truth.accuracy).argsort().argsort() + 1
    selected = Exhibit.objects.filter(round=round, role=ExhibitRole.SELECTED)
    n_images = selected.values("item").distinct().count()
    in_force = Judgement.objects.filter(campaign=round.campaign, superseded_at=None)
    n_asked = in_force.filter(trial__kind=TrialKind.ORDINARY).count()
    n_control = in_force.filter(trial__kind=TrialKind.CONTROL).count()
    n_pairs = len(lines) * (len(lines) - 1) // 2
    settled = int((low[:, None] > high[None]).sum())
    wrong = int(((low[:, None] > high[None]) & (truth.accuracy[:, None] < truth.accuracy[None])).sum())
    correlation, separated = random_sample(truth, n_images)
    rows = [
        f"| {entrant.version.model.name} | {100 * truth.accuracy[at]:.2f} | {true_rank[at]} | {line.rank} | "
        f"{line.rank_best}–{line.rank_worst} | {line.score:.3f} ({line.low:.3f}–{line.high:.3f}) |"
        for at, (entrant, line) in enumerate(zip(truth.entrants, lines, strict=True))
    ]
    rows = [rows[at] for at in np.argsort([line.rank for line in lines], kind="stable")]
    total = len(truth.labels) * PEOPLE
    arms = snapshot.control["comparison"]
    return "\n".join(
        [
            f"Ten classifiers, {len(truth.labels):,} images, k = {round.competition.k}, {PEOPLE} recorded people per "
            f"question, {n_pairs} duels.",
            "",
            "| entrant | true accuracy, % | true rank | MAD rank | rank range (95 %) | MAD score (95 % interval) |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
            f"- Spearman between MAD scores and true accuracies: **{spearmanr(score, truth.accuracy).statistic:.3f}**; "
            f"a random sample of as many images ({n_images:,}): mean {correlation.mean():.3f}, 95 % of {DRAWS:,} draws "
            f"from {np.quantile(correlation, 0.025):.3f} to {np.quantile(correlation, 0.975):.3f}.",
            f"- Pairs of models whose order is settled (95 % intervals do not overlap): **{settled} of {n_pairs}**, "
            f"{wrong} of them against the true order; a random sample, by a paired test at the same level: mean "
            f"{separated.mean():.1f}.",
            f"- Judgements: {n_asked:,} on selected images ({n_images:,} distinct ones) and {n_control:,} on the "
            f"control arm; labelling the whole set with {PEOPLE} people an image takes {total:,}: "
            f"**{total / n_asked:.1f} times as many**.",
            f"- Of the selected exhibits {_percent(arms['mad_falsifying'])} show at least one of their two models "
            f"wrong; of the random control images {_percent(arms['control_falsifying'])} show any of the "
            f"{len(lines)} wrong.",
            "- Ranking after fewer images per pair, Spearman with the ranking at the end: "
            + ", ".join(f"k = {point['k']}: {point['spearman']:.2f}" for point in snapshot.k_curve[:-1])
            + ".",
            f"- Agreement between people: Krippendorff's alpha {snapshot.agreement['alpha']:.3f} "
            f"({_percent(snapshot.agreement['percent'])} of pairs of answers are equal).",
        ]
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
