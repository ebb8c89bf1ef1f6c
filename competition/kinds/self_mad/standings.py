"""What a self-MAD round shows: how often the target is wrong, and how it and its predecessor do on images that neither
was trained on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from competition.kinds.base import Evidence, Leaderboard
from competition.kinds.mad.selecting import Answers, scores_answers
from competition.kinds.self_mad import SELF_MAD
from competition.kinds.troubleshooting import targets_here
from competition.models import Entrant, Exhibit, ExhibitRole, Round
from competition.opinions import Opinion, agreement, excluded_people, opinions_read, people
from competition.ranking.failures import Share

UNKNOWN = -1


@dataclass(frozen=True)
class SelfMadEvidence(Evidence):
    """What a round's figures rest on.

    exhibits  (n, 4) of each exhibit with a verdict: position of the ensemble, row, whether the target is right, whether
              the ensemble is
    rows      (r, 2) of each image judged: row, 1 for the control arm
    right     (t, r) whether the round's target is right, then its predecessor: 1, 0, or -1 where people did not say
    """

    entrants: tuple[Entrant, ...]
    exhibits: np.ndarray
    rows: np.ndarray
    right: np.ndarray
    names: tuple[str, ...]
    n_open: int
    n_judgements: int
    excluded_people: tuple[int, ...]
    agreement: dict[str, Any]

    @property
    def n_exhibits(self) -> int:  # type: ignore[override]
        return len(self.exhibits)

    @property
    def is_empty(self) -> bool:
        return not len(self.rows)

    def digest(self, *, replicates: int, seed: int, everyone: bool) -> str:
        head = json.dumps([self.names, replicates, seed, everyone, self.n_open])
        summary = hashlib.sha256(head.encode())
        for part in (self.exhibits, self.rows, self.right):
            summary.update(str(part.shape).encode() + np.ascontiguousarray(part, dtype=np.int64).tobytes())
        return summary.hexdigest()

    def rank(self, *, replicates: int, seed: int) -> Leaderboard:
        del replicates, seed  # shares have exact intervals
        control = self.rows[:, 1] == 1
        matrices = {
            "entrants": [entrant.pk for entrant in self.entrants],
            "names": [str(entrant) for entrant in self.entrants],
            "targets": list(self.names),
            "failures": self._share(np.ones(len(self.exhibits), np.bool_)),
            "by_ensemble": [
                {"entrant": entrant.pk, "name": str(entrant), **self._share(self.exhibits[:, 0] == at)}
                for at, entrant in enumerate(self.entrants)
                if at
            ],
            "fresh": self._reading(~control),
            "control": self._reading(control),
        }
        return Leaderboard(matrices=matrices, k_curve=[], control={}, places=[])

    def _share(self, chosen: np.ndarray) -> dict[str, Any]:
        return Share(int((self.exhibits[chosen, 2] == 0).sum()), int(chosen.sum())).as_dict()

    def _reading(self, chosen: np.ndarray) -> dict[str, Any]:
        """Accuracy of target and predecessor on the images of which both are known to be right or wrong."""
        known = chosen & (self.right != UNKNOWN).all(axis=0)
        if not known.any():
            return {}
        found = [Share(int((row[known] == 1).sum()), int(known.sum())).as_dict() for row in self.right]
        measured = [{"accuracy": {"value": each["rate"], "low": each["low"], "high": each["high"]}} for each in found]
        reading: dict[str, Any] = {"n": int(known.sum()), "new": measured[0]}
        return {**reading, "old": measured[1]} if len(measured) > 1 else reading


def evidence_gather(*, round: Round, everyone: bool = False) -> SelfMadEvidence:
    """Everything judged in this round."""
    entrants = tuple(SELF_MAD.entrants(round))
    campaigns = [round.campaign] if round.campaign else []
    opinions = opinions_read(campaigns, everyone=everyone)
    asked = _exhibits(round)
    selected = [exhibit for exhibit in asked if exhibit.role == ExhibitRole.SELECTED]
    versions = targets_here(round)
    judged = _judged(asked, opinions)
    said = scores_answers(round.competition, tuple(versions))
    place = {entrant.pk: at for at, entrant in enumerate(entrants)}
    return SelfMadEvidence(
        entrants=entrants,
        exhibits=_table(selected, opinions, place),
        rows=np.array([(row, control) for row, (_, control) in judged.items()], dtype=np.int64).reshape(-1, 2),
        right=_right(said, judged),
        names=tuple(str(entrant) for entrant in versions),
        n_open=sum(exhibit.trial_id not in opinions for exhibit in selected),
        n_judgements=sum(len(opinion.ballots) for opinion in opinions.values()),
        excluded_people=tuple(excluded_people(campaigns)),
        agreement={
            **agreement(campaigns, opinions, seed=round.competition.seed),
            "people": people(campaigns, opinions),
        },
    )


def _exhibits(round_: Round) -> list[Exhibit]:
    """What people were asked about, in an order that is independent of database ids."""
    order = ("role", "duel__second__number", "rank", "item__row", "class_first")
    return list(
        Exhibit.objects.filter(round=round_, trial__isnull=False)
        .select_related("item", "duel__second")
        .order_by(*order)
    )


def _table(selected: Sequence[Exhibit], opinions: Mapping[int, Opinion], place: Mapping[int, int]) -> np.ndarray:
    rows = []
    for exhibit in selected:
        opinion = opinions.get(exhibit.trial_id or 0)
        if exhibit.duel is None or opinion is None or not opinion.is_settled:
            continue
        right = [opinion.value.get(str(label)) for label in (exhibit.class_first, exhibit.class_second)]
        if None not in right:
            rows.append((place[exhibit.duel.second_id], exhibit.item.row, *map(int, map(bool, right))))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _judged(asked: Sequence[Exhibit], opinions: Mapping[int, Opinion]) -> dict[int, tuple[dict[int, bool], bool]]:
    """By row, rising: what people said of each class asked about, and whether it is of the control arm."""
    found: dict[int, tuple[dict[int, bool], bool]] = {}
    for exhibit in asked:
        opinion = opinions.get(exhibit.trial_id or 0)
        if opinion is not None and opinion.is_settled:
            said, _ = found.setdefault(exhibit.item.row, ({}, exhibit.role == ExhibitRole.CONTROL))
            said |= {int(label): bool(right) for label, right in opinion.value.items() if right is not None}
    return {row: found[row] for row in sorted(found)}


def _right(said: Answers, judged: Mapping[int, tuple[dict[int, bool], bool]]) -> np.ndarray:
    """(t, r) 1, 0 or -1: a class that people were not asked about is wrong where they named another one."""
    table = np.full((len(said.entrants), len(judged)), UNKNOWN, dtype=np.int64)
    for at, (row, (classes, _)) in enumerate(judged.items()):
        for version in range(len(said.entrants)):
            label = said.at(version, row)
            if label in classes:
                table[version, at] = int(classes[label])
            elif any(classes.values()):
                table[version, at] = 0
    return table
