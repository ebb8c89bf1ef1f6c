"""What a gMAD leaderboard rests on, and how it is ranked."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from competition.kinds.base import Evidence, Leaderboard, Place
from competition.kinds.gmad import GMAD, GmadOptions, preference_of
from competition.models import Entrant, Exhibit, ExhibitRole, Round
from competition.numbers import plain
from competition.opinions import Opinion, agreement, excluded_people, opinions_read, people
from labeling.models import JudgementKind

if TYPE_CHECKING:
    from competition.ranking.gmad import GlobalRank, GmadStanding

MEASURES = ("aggressiveness", "resistance")


@dataclass(frozen=True)
class GmadEvidence(Evidence):
    """What a leaderboard rests on, entrants in the order of their numbers.

    pairs     (n, 6) of each exhibit with a verdict: position of attacker and defender, level, rank, row of the
              attacker's best and of its worst. Levels of later rounds count on behind those of earlier ones.
    votes     (v, 2) of each judgement of such an exhibit: place in ``pairs``, number of the person (in the order in
              which people first appear)
    score     (v,) what it said, -100 … 100, above zero where it agrees with the attacker
    counts    (m, levels) images in each level of each defender
    control   (r, m) +1 where an entrant prefers what people prefer, -1 where it prefers the other, 0 where it or they
              prefer neither
    """

    entrants: tuple[Entrant, ...]
    pairs: np.ndarray
    votes: np.ndarray
    score: np.ndarray
    counts: np.ndarray
    control: np.ndarray
    solver: str
    n_open: int
    n_judgements: int
    excluded_people: tuple[int, ...]
    agreement: dict[str, Any]

    @property
    def n_exhibits(self) -> int:  # type: ignore[override]
        return len(self.pairs)

    @property
    def is_empty(self) -> bool:
        return not len(self.pairs) and not self.control.any()

    @property
    def names(self) -> list[str]:
        return [str(entrant) for entrant in self.entrants]

    def digest(self, *, replicates: int, seed: int, everyone: bool) -> str:
        versions = [[entrant.number, str(entrant), entrant.version.sha256] for entrant in self.entrants]
        head = json.dumps([versions, self.solver, replicates, seed, everyone, self.n_open], sort_keys=True)
        summary = hashlib.sha256(head.encode())
        for part in (self.pairs, self.votes, self.score, self.counts, self.control):
            summary.update(str(part.shape).encode() + np.ascontiguousarray(part, dtype=np.float64).tobytes())
        return summary.hexdigest()

    def rank(self, *, replicates: int, seed: int) -> Leaderboard:
        ranked = self._ranked(replicates, seed)
        return Leaderboard(
            matrices=self._matrices(ranked),
            k_curve=[],
            control=self._control(),
            places=[place for measure in MEASURES for place in self._places(measure, ranked)] if ranked else [],
        )

    def _ranked(self, replicates: int, seed: int) -> "GmadStanding | None":
        from competition.ranking.gmad import rank_judgements

        if not len(self.votes):
            return None
        attacker, defender, level = self.pairs[self.votes[:, 0], :3].T
        return rank_judgements(
            self.names, attacker, defender, level, self.votes[:, 1], self.score, self.counts,
            mode="published" if self.solver == "published" else "exact", replicates=replicates, seed=seed,
        )  # fmt: skip

    def _matrices(self, ranked: "GmadStanding | None") -> dict[str, Any]:
        m = len(self.entrants)
        judged = np.zeros((m, m), dtype=np.int64)
        np.add.at(judged, (self.pairs[:, 0], self.pairs[:, 1]), 1)
        head = {
            "entrants": [entrant.pk for entrant in self.entrants],
            "names": self.names,
            "solver": self.solver,
            "pairs": plain(judged),
        }
        if ranked is None:
            empty = [[None] * m for _ in range(m)]
            return head | {"aggressiveness": empty, "resistance": empty, "component": [], "notes": []}
        return head | {
            "aggressiveness": plain(ranked.aggressiveness_matrix),
            "resistance": plain(ranked.resistance_matrix),
            "component": plain(ranked.aggressiveness.component),
            "notes": list(dict.fromkeys([*ranked.aggressiveness.notes, *ranked.resistance.notes])),
        }

    def _places(self, measure: str, ranked: "GmadStanding") -> list[Place]:
        """One line per entrant that was compared with any other."""
        rank: GlobalRank = getattr(ranked, measure)
        images = np.bincount(self.pairs[:, :2].ravel(), minlength=len(self.entrants))
        names = ("score", "low", "high", "rank", "rank_best", "rank_worst")
        return [
            Place(
                entrant=entrant,
                measure=measure,
                n_images=int(images[at]),
                **{name: plain(getattr(rank, name)[at]) for name in names},
            )
            for at, entrant in enumerate(self.entrants)
            if np.isfinite(rank.score[at])
        ]

    def _control(self) -> dict[str, Any]:
        """How often each entrant orders a random pair as people do, of the pairs on which both have a preference."""
        from competition.ranking.kcurve import control_accuracy

        if not self.control.any():
            return {}
        arm = control_accuracy(self.control > 0, self.control != 0)
        names = ("correct", "images", "accuracy", "low", "high", "rank")
        entrants = [
            {"entrant": entrant.pk, **{name: plain(getattr(arm, name)[at]) for name in names}}
            for at, entrant in enumerate(self.entrants)
        ]
        return {"entrants": entrants, "n_images": int(self.control.any(axis=1).sum())}


def evidence_gather(*, round: Round, everyone: bool = False) -> GmadEvidence:
    """Everything judged in this round and the ones before it."""
    competition = round.competition
    options: GmadOptions = GMAD.options(competition)
    rounds = list(competition.rounds.filter(number__lte=round.number).select_related("campaign").order_by("number"))
    entrants = tuple(competition.entrants.select_related("version__model").order_by("number"))
    campaigns = [each.campaign for each in rounds if each.campaign]
    opinions = opinions_read(campaigns, everyone=everyone)
    exhibits = _exhibits(rounds)
    selected = [exhibit for exhibit in exhibits if exhibit.role == ExhibitRole.SELECTED]
    settled = [exhibit for exhibit in selected if _is_settled(exhibit, opinions)]
    place = {entrant.pk: at for at, entrant in enumerate(entrants)}
    first_level = {each.pk: at * options.levels for at, each in enumerate(rounds)}
    votes, score = _votes(settled, opinions, options.protocol)
    return GmadEvidence(
        entrants=entrants,
        pairs=_pairs(settled, place, first_level),
        votes=votes,
        score=score,
        counts=_counts(rounds, entrants, options.levels),
        control=_control(exhibits, opinions, place, options.protocol),
        solver=options.solver,
        n_open=sum(exhibit.trial_id not in opinions for exhibit in selected),
        n_judgements=sum(len(opinion.ballots) for opinion in opinions.values()),
        excluded_people=tuple(excluded_people(campaigns)),
        agreement={
            **agreement(campaigns, opinions, seed=competition.seed),
            "people": people(campaigns, opinions),
        },
    )


def _exhibits(rounds: Sequence[Round]) -> list[Exhibit]:
    """Exhibits that people were asked about, in an order that is independent of database ids."""
    related = ("item", "second_item", "duel__first", "duel__second", "trial")
    order = ("round__number", "role", "duel__first__number", "duel__second__number", "level", "rank", "item__row")
    asked = Exhibit.objects.filter(round__in=rounds, trial__isnull=False)
    return list(asked.select_related(*related).order_by(*order))


def _is_settled(exhibit: Exhibit, opinions: Mapping[int, Opinion]) -> bool:
    opinion = opinions.get(exhibit.trial_id or 0)
    return opinion is not None and opinion.is_settled


def _pairs(settled: Sequence[Exhibit], place: Mapping[int, int], first_level: Mapping[int, int]) -> np.ndarray:
    rows = [
        (
            place[exhibit.duel.first_id],
            place[exhibit.duel.second_id],
            first_level[exhibit.round_id] + (exhibit.level or 1),
            exhibit.rank,
            exhibit.item.row,
            exhibit.second_item.row,
        )
        for exhibit in settled
        if exhibit.duel is not None and exhibit.second_item is not None
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 6)


def _votes(settled: Sequence[Exhibit], opinions: Mapping[int, Opinion], protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """(votes, score): every answer about every settled exhibit; one answer counts for each exhibit that shares it."""
    numbers: dict[int, int] = {}
    votes, scores = [], []
    for at, exhibit in enumerate(settled):
        trial = exhibit.trial
        if trial is None:
            continue
        for ballot in opinions[trial.pk].ballots:
            if ballot.kind == JudgementKind.ANSWER:
                votes.append((at, numbers.setdefault(ballot.person, len(numbers))))
                scores.append(preference_of(exhibit, trial.item_id, ballot.value["value"], protocol))
    return np.array(votes, dtype=np.int64).reshape(-1, 2), np.array(scores, dtype=np.float64)


def _counts(rounds: Sequence[Round], entrants: Sequence[Entrant], levels: int) -> np.ndarray:
    """(m, rounds * levels) images in the levels of each defender, as each round found them."""
    counts = np.zeros((len(entrants), len(rounds) * levels), dtype=np.int64)
    for number, round_ in enumerate(rounds):
        described = round_.facts.get("entrants", {})
        for at, entrant in enumerate(entrants):
            if str(entrant.pk) in described:
                counts[at, number * levels : (number + 1) * levels] = described[str(entrant.pk)]["count"]
    return counts


def _control(
    exhibits: Sequence[Exhibit], opinions: Mapping[int, Opinion], place: Mapping[int, int], protocol: str
) -> np.ndarray:
    rows = []
    for exhibit in exhibits:
        opinion = opinions.get(exhibit.trial_id or 0)
        if exhibit.role != ExhibitRole.CONTROL or exhibit.trial is None or opinion is None or not opinion.is_settled:
            continue
        said = np.sign(preference_of(exhibit, exhibit.trial.item_id, opinion.value["mean"], protocol))
        row = np.zeros(len(place), dtype=np.int64)
        for entrant, (first, second) in exhibit.predictions.items():
            if first is not None and second is not None:
                row[place[int(entrant)]] = said * np.sign(first - second)
        rows.append(row)
    return np.array(rows, dtype=np.int64).reshape(-1, len(place))
