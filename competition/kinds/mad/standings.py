"""What a MAD leaderboard rests on, and how it is ranked."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from competition.kinds.base import Evidence, Leaderboard, Place
from competition.models import Entrant, Exhibit, ExhibitRole, Round
from competition.numbers import plain
from competition.opinions import Opinion, agreement, excluded_people, opinions_read, people
from competition.ranking.kcurve import ArmComparison, compare_arms, control_accuracy, k_curve
from competition.ranking.perron import Standing as RankedStanding
from competition.ranking.perron import rank_judgements
from labeling.models import JudgementKind

ROUND_STRIDE = 1_000_000  # exhibits of a later round come after every exhibit of an earlier one


@dataclass(frozen=True)
class MadEvidence(Evidence):
    """What a leaderboard rests on, entrants in the order of their numbers.

    i, j       (n,) positions of the two entrants of each exhibit with a verdict
    position   (n,) order of selection, rounds one after the other
    right_i, right_j  (n,) bool
    answers    (n, 4) judgements by what they say: both right, only i, only j, neither
    rows       (n,) corpus rows; labels (n, 2) the classes asked about
    control_correct, control_known  (r, m) bool
    n_open     selected exhibits still without a verdict
    """

    entrants: tuple[Entrant, ...]
    i: np.ndarray
    j: np.ndarray
    position: np.ndarray
    right_i: np.ndarray
    right_j: np.ndarray
    answers: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    control_correct: np.ndarray
    control_known: np.ndarray
    n_open: int
    n_judgements: int
    excluded_people: tuple[int, ...]
    agreement: dict[str, Any]

    @property
    def n_exhibits(self) -> int:  # type: ignore[override]
        return len(self.i)

    @property
    def is_empty(self) -> bool:
        return not len(self.i) and not self.control_known.any()

    @property
    def names(self) -> list[str]:
        return [str(entrant) for entrant in self.entrants]

    def digest(self, *, replicates: int, seed: int, everyone: bool) -> str:
        """SHA-256 of the evidence and the parameters; free of database ids, so that equal work has equal digests."""
        versions = [[entrant.number, str(entrant), entrant.version.sha256] for entrant in self.entrants]
        head = json.dumps([versions, replicates, seed, everyone, self.n_open], sort_keys=True)
        table = np.column_stack(
            [self.i, self.j, self.position, self.rows, self.labels, self.right_i, self.right_j, self.answers]
        )
        summary = hashlib.sha256(head.encode())
        for part in (table, self.control_correct, self.control_known):
            summary.update(str(part.shape).encode() + np.ascontiguousarray(part, dtype=np.int64).tobytes())
        return summary.hexdigest()

    def rank(self, *, replicates: int, seed: int) -> Leaderboard:
        ranked = _ranked(self, replicates, seed)
        return Leaderboard(
            matrices=_matrices(self, ranked),
            k_curve=_k_curve(self) if ranked else [],
            control=_control_summary(self, ranked),
            places=_places(self.entrants, ranked) if ranked else [],
        )


def evidence_gather(*, round: Round, everyone: bool = False) -> MadEvidence:
    """Everything judged in this round and the ones before it."""
    competition = round.competition
    rounds = list(competition.rounds.filter(number__lte=round.number).select_related("campaign"))
    entrants = tuple(competition.entrants.select_related("version__model").order_by("number"))
    campaigns = [each.campaign for each in rounds if each.campaign]
    opinions = opinions_read(campaigns, everyone=everyone)
    exhibits = _selected(rounds)
    judged = [exhibit for exhibit in exhibits if (opinion := opinions.get(exhibit["trial"])) and opinion.is_settled]
    n_open = sum(exhibit["trial"] not in opinions for exhibit in exhibits)
    place = {entrant.pk: at for at, entrant in enumerate(entrants)}
    correct, known = _control(rounds, opinions, place)
    return MadEvidence(
        entrants=entrants,
        i=_ints(place[exhibit["duel__first"]] for exhibit in judged),
        j=_ints(place[exhibit["duel__second"]] for exhibit in judged),
        position=_ints(exhibit["round__number"] * ROUND_STRIDE + exhibit["rank"] for exhibit in judged),
        right_i=_bools(opinions[exhibit["trial"]].value[str(exhibit["class_first"])] for exhibit in judged),
        right_j=_bools(opinions[exhibit["trial"]].value[str(exhibit["class_second"])] for exhibit in judged),
        answers=_ints(
            _counts(opinions[exhibit["trial"]], exhibit["class_first"], exhibit["class_second"]) for exhibit in judged
        ).reshape(-1, 4),
        rows=_ints(exhibit["item__row"] for exhibit in judged),
        labels=_ints((exhibit["class_first"], exhibit["class_second"]) for exhibit in judged).reshape(-1, 2),
        control_correct=correct,
        control_known=known,
        n_open=n_open,
        n_judgements=sum(len(opinion.ballots) for opinion in opinions.values()),
        excluded_people=tuple(excluded_people(campaigns)),
        agreement={**agreement(campaigns, opinions, seed=competition.seed), "people": people(campaigns, opinions)},
    )


def _selected(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Selected exhibits in the order in which they were selected, independent of database ids."""
    fields = (
        "trial", "duel__first", "duel__second", "class_first", "class_second", "rank", "item__row",
        "round__number",
    )  # fmt: skip
    order = ("round__number", "duel__first__number", "duel__second__number", "rank")
    selected = Exhibit.objects.filter(round__in=rounds, role=ExhibitRole.SELECTED, trial__isnull=False)
    return list(selected.order_by(*order).values(*fields))


def _control(
    rounds: Sequence[Round], opinions: Mapping[int, Opinion], place: Mapping[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(correct, known), each (r, m): whether each entrant is right on each random image, where people decided."""
    found = Exhibit.objects.filter(round__in=rounds, role=ExhibitRole.CONTROL).order_by(
        "round__number", "item__row", "class_first"
    )
    rows: dict[tuple[int, int], list[tuple[int | None, dict[str, int]]]] = {}
    for asked, number, row, predictions in found.values_list("trial", "round__number", "item__row", "predictions"):
        rows.setdefault((number, row), []).append((asked, predictions))
    correct = np.zeros((len(rows), len(place)), dtype=np.bool_)
    known = np.zeros_like(correct)
    for at, parts in enumerate(rows.values()):
        for trial, predictions in parts:
            opinion = opinions.get(trial) if trial else None
            for entrant, label in predictions.items():
                said = opinion.value.get(str(label)) if opinion else None
                if said is not None:
                    correct[at, place[int(entrant)]] = said
                    known[at, place[int(entrant)]] = True
    return correct, known


def _counts(opinion: Opinion, first: int, second: int) -> tuple[int, int, int, int]:
    """Ballots that say: both, only ``first``, only ``second``, neither. "Cannot tell" is in none of them."""
    tally = [0, 0, 0, 0]
    for ballot in opinion.ballots:
        if ballot.kind == JudgementKind.ANSWER:
            yes_first, yes_second = ballot.value.get(str(first)), ballot.value.get(str(second))
            tally[2 * (not yes_first) + (not yes_second)] += 1
    return tally[0], tally[1], tally[2], tally[3]


def _ranked(evidence: MadEvidence, replicates: int, seed: int) -> RankedStanding | None:
    if not len(evidence.i):
        return None
    return rank_judgements(
        evidence.names, evidence.i, evidence.j, evidence.right_i, evidence.right_j, evidence.answers,
        replicates=replicates, seed=seed,
    )  # fmt: skip


def _places(entrants: Sequence[Entrant], ranked: RankedStanding) -> list[Place]:
    columns = ("score", "low", "high", "rank", "rank_best", "rank_worst", "n_images")
    return [
        Place(entrant=entrant, measure="mad", **{name: getattr(ranked, name)[at].item() for name in columns})
        for at, entrant in enumerate(entrants)
    ]


def _matrices(evidence: MadEvidence, ranked: RankedStanding | None) -> dict[str, Any]:
    head: dict[str, Any] = {"entrants": [entrant.pk for entrant in evidence.entrants], "names": evidence.names}
    if ranked is None:
        return head | {"correct": [], "images": [], "accuracy": [], "ratio": [], "component": [], "cases": []}
    cases = ranked.cases
    names = ("first", "second", "images", "both_right", "only_first", "only_second", "both_wrong")
    lines = zip(*(getattr(cases, name).tolist() for name in names), strict=True)
    return head | {
        "correct": plain(ranked.correct),
        "images": plain(ranked.images),
        "accuracy": plain(ranked.accuracy),
        "ratio": plain(ranked.ratio),
        "component": plain(ranked.component),
        "cases": [dict(zip(names, line, strict=True)) for line in lines],
    }


def _k_curve(evidence: MadEvidence) -> list[dict[str, Any]]:
    curve = k_curve(evidence.names, evidence.i, evidence.j, evidence.position, evidence.right_i, evidence.right_j)
    return [
        {
            "k": int(k),
            "spearman": plain(curve.srcc[at]),
            "scores": plain(curve.score[at]),
            "ranks": plain(curve.rank[at]),
            "images": int(curve.images[at]),
        }
        for at, k in enumerate(curve.k)
    ]


def _control_summary(evidence: MadEvidence, ranked: RankedStanding | None) -> dict[str, Any]:
    """Accuracy per entrant with its interval, and MAD beside it; empty without a labelled control image."""
    if not evidence.control_known.any():
        return {}
    arm = control_accuracy(evidence.control_correct, evidence.control_known)
    names = ("correct", "images", "accuracy", "low", "high", "rank")
    entrants = [
        {"entrant": entrant.pk, **{name: plain(getattr(arm, name)[at]) for name in names}}
        for at, entrant in enumerate(evidence.entrants)
    ]
    complete = evidence.control_known.all(axis=1)
    summary: dict[str, Any] = {"entrants": entrants, "n_images": int(evidence.control_known.any(axis=1).sum())}
    if ranked is not None and complete.any():
        summary["comparison"] = _comparison(compare_arms(ranked, evidence.control_correct[complete]))
    return summary


def _comparison(arms: ArmComparison) -> dict[str, Any]:
    return {name: plain(getattr(arms, name)) for name in ArmComparison.__dataclass_fields__}


def _ints(values: Iterable[Any]) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


def _bools(values: Iterable[Any]) -> np.ndarray:
    return np.array(list(values), dtype=np.bool_)
