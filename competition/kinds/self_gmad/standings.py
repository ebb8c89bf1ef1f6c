"""What a self-gMAD round shows: how often people contradict the target, and how well it and its predecessor agree with
them on images that neither was trained on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from competition.kinds.base import Evidence, Leaderboard
from competition.kinds.self_gmad import SELF_GMAD, rated_of
from competition.kinds.troubleshooting import targets_here
from competition.models import Entrant, Exhibit, ExhibitRole, Round
from competition.opinions import Opinion, agreement, excluded_people, opinions_read, people
from competition.ranking.failures import Rated, Share, difference
from models_zoo.models import Scores
from models_zoo.reading import oriented

REPLICATES = 1000


@dataclass(frozen=True)
class SelfGmadEvidence(Evidence):
    """What a round's figures rest on.

    pairs     (n, 6) of each pair with two opinions: position of attacker and defender, level, rank, rows of the
              attacker's best and worst
    failed    (n,) whether people contradict the target clearly
    rated     (r, 3) of each image rated: row, mean opinion score, 1 for the control arm
    columns   (t, r) what the round's target says of them, calibrated by nobody; in later rounds, then its predecessor
    """

    entrants: tuple[Entrant, ...]
    pairs: np.ndarray
    failed: np.ndarray
    rated: np.ndarray
    columns: np.ndarray
    names: tuple[str, ...]
    n_open: int
    n_judgements: int
    excluded_people: tuple[int, ...]
    agreement: dict[str, Any]

    @property
    def n_exhibits(self) -> int:  # type: ignore[override]
        return len(self.pairs)

    @property
    def is_empty(self) -> bool:
        return not len(self.rated)

    def digest(self, *, replicates: int, seed: int, everyone: bool) -> str:
        head = json.dumps([self.names, replicates, seed, everyone, self.n_open, self.agreement.get("alpha")])
        summary = hashlib.sha256(head.encode())
        for part in (self.pairs, self.failed, self.rated, self.columns):
            summary.update(str(part.shape).encode() + np.ascontiguousarray(part, dtype=np.float64).tobytes())
        return summary.hexdigest()

    def rank(self, *, replicates: int, seed: int) -> Leaderboard:
        attacks = self.pairs[:, 0] == 0
        other = np.where(attacks, self.pairs[:, 1], self.pairs[:, 0])
        control = self.rated[:, 2] == 1
        matrices = {
            "entrants": [entrant.pk for entrant in self.entrants],
            "names": [str(entrant) for entrant in self.entrants],
            "targets": list(self.names),
            "failures": self._share(np.ones(len(self.pairs), np.bool_)),
            "as_attacker": self._share(attacks),
            "as_defender": self._share(~attacks),
            "by_ensemble": [
                {"entrant": entrant.pk, "name": str(entrant), **self._share(other == at)}
                for at, entrant in enumerate(self.entrants)
                if at
            ],
            "fresh": self._reading(~control, replicates, seed),
            "control": self._reading(control, replicates, seed),
        }
        return Leaderboard(matrices=matrices, k_curve=[], control={}, places=[])

    def _share(self, chosen: np.ndarray) -> dict[str, Any]:
        return Share(int(self.failed[chosen].sum()), int(chosen.sum())).as_dict()

    def _reading(self, chosen: np.ndarray, replicates: int, seed: int) -> dict[str, Any]:
        """Agreement of target and predecessor with the opinions of some images: "new", "old", "change"; {} of none."""
        from training.engine.measures import agreement as measured
        from training.engine.measures import change

        if not chosen.any():
            return {}
        mos = self.rated[chosen, 1]
        found = [measured(column[chosen], mos, replicates=replicates, seed=seed) for column in self.columns]
        reading: dict[str, Any] = {"n": int(chosen.sum()), "new": found[0].plain()}
        if len(found) > 1:
            changed = {name: value.plain() for name, value in change(found[1], found[0]).items()}
            reading |= {"old": found[1].plain(), "change": changed}
        return reading


def evidence_gather(*, round: Round, everyone: bool = False) -> SelfGmadEvidence:
    """Everything judged in this round."""
    competition = round.competition
    protocol = SELF_GMAD.options(competition).protocol
    entrants = tuple(SELF_GMAD.entrants(round))
    campaigns = [round.campaign] if round.campaign else []
    opinions = opinions_read(campaigns, everyone=everyone)
    exhibits = _exhibits(round)
    rated = {trial: rated_of(opinion.value, protocol) for trial, opinion in opinions.items() if opinion.is_settled}
    selected = [exhibit for exhibit in exhibits if exhibit.role == ExhibitRole.SELECTED]
    judged = [each for each in selected if each.trial_id in rated and each.second_trial_id in rated]
    table = _rated_rows(exhibits, rated)
    versions = targets_here(round)
    return SelfGmadEvidence(
        entrants=entrants,
        pairs=_pairs(judged, {entrant.pk: at for at, entrant in enumerate(entrants)}),
        failed=np.array([_failed(each, rated, entrants[0]) for each in judged], dtype=np.bool_),
        rated=table,
        columns=_columns(round, versions, table[:, 0].astype(np.int64)),
        names=tuple(str(entrant) for entrant in versions),
        n_open=sum(not {each.trial_id, each.second_trial_id} <= set(opinions) for each in selected),
        n_judgements=sum(len(opinion.ballots) for opinion in opinions.values()),
        excluded_people=tuple(excluded_people(campaigns)),
        agreement=_agreement(campaigns, opinions, competition.seed),
    )


def _agreement(campaigns: Sequence[Any], opinions: Mapping[int, Opinion], seed: int) -> dict[str, Any]:
    return {**agreement(campaigns, opinions, seed=seed), "people": people(campaigns, opinions)}


def _exhibits(round_: Round) -> list[Exhibit]:
    """What people were asked about, in an order that is independent of database ids."""
    order = ("role", "duel__first__number", "duel__second__number", "level", "rank", "item__row")
    related = ("item", "second_item", "duel__first", "duel__second")
    asked = Exhibit.objects.filter(round=round_, trial__isnull=False)
    return list(asked.select_related(*related).order_by(*order))


def _pairs(judged: Sequence[Exhibit], place: Mapping[int, int]) -> np.ndarray:
    rows = [
        (place[each.duel.first_id], place[each.duel.second_id], each.level or 0, each.rank, each.item.row,
         each.second_item.row)
        for each in judged
        if each.duel is not None and each.second_item is not None
    ]  # fmt: skip
    return np.array(rows, dtype=np.int64).reshape(-1, 6)


def _failed(exhibit: Exhibit, rated: Mapping[int, Rated], target: Entrant) -> bool:
    found = difference(rated[exhibit.trial_id or 0], rated[exhibit.second_trial_id or 0])
    return found.contradicts(attacks=exhibit.duel is not None and exhibit.duel.first_id == target.pk)


def _rated_rows(exhibits: Sequence[Exhibit], rated: Mapping[int, Rated]) -> np.ndarray:
    """(r, 3) row, mean opinion score, whether of the control arm: each rated image once, by row."""
    found: dict[int, tuple[float, bool]] = {}
    for exhibit in exhibits:
        sides = [(exhibit.trial_id, exhibit.item), (exhibit.second_trial_id, exhibit.second_item)]
        for trial, item in sides:
            if item is not None and trial is not None and trial in rated:
                found[item.row] = (rated[trial].mean, exhibit.role == ExhibitRole.CONTROL)
    return np.array([(row, *found[row]) for row in sorted(found)], dtype=np.float64).reshape(-1, 3)


def _columns(round_: Round, versions: Sequence[Entrant], rows: np.ndarray) -> np.ndarray:
    """(t, r) oriented scores of these versions."""
    found = Scores.objects.filter(corpus=round_.competition.corpus, version__in=[each.version_id for each in versions])
    scores = {each.version_id: each for each in found.select_related("version__model", "corpus")}
    columns = [np.asarray(oriented(scores[each.version_id])[rows], dtype=np.float64) for each in versions]
    return np.stack(columns) if columns else np.empty((0, len(rows)))
