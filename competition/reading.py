"""What the pages and the API show of a competition, read from its newest snapshot and a few counts.

Nothing here depends on the size of the corpus, and no number of queries on the number of exhibits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Q

from accounts.models import User
from competition import charts
from competition.kinds import KINDS
from competition.kinds.base import Measure
from competition.models import Competition, Duel, Entrant, Round, RoundState, Snapshot, Standing
from labeling.models import Trial, TrialState
from models_zoo.appearances import Appearance

if TYPE_CHECKING:
    from models_zoo.models import Version

STEP_TITLES = {
    RoundState.PREPARING: "Prepare",
    RoundState.SCORING: "Score",
    RoundState.SELECTING: "Select",
    RoundState.LABELLING: "Label",
    RoundState.SETTLING: "Settle",
    RoundState.LEARNING: "Learn",
}


@dataclass(frozen=True)
class Step:
    """One step of a round as shown: ``tone`` is "done", "now", "bad" or empty."""

    title: str
    what: str
    tone: str
    detail: str


def round_steps(round_: Round | None, labelled: Mapping[str, int], what: Mapping[RoundState, str]) -> list[Step]:
    """The steps of a round and how far it is; ``what``: what happens in each, in their order."""
    state, order = round_.state if round_ else "", list(what)
    reached = _reached(round_, order)
    steps = []
    for at, step in enumerate(order):
        tone = "done" if at < reached else ""
        if at == reached and round_ and state != RoundState.COMPLETE:
            tone = "bad" if state in {RoundState.FAILED, RoundState.CANCELLED} else "now"
        detail = ""
        if step == RoundState.LABELLING and labelled.get("trials"):
            detail = f"{labelled['ended']:,} of {labelled['trials']:,} exhibits"
        steps.append(Step(STEP_TITLES[step], what[step], tone, detail))
    return steps


def _reached(round_: Round | None, order: Sequence[RoundState]) -> int:
    """Position of the step in hand; for a failed or cancelled round, of the one where it stopped."""
    if round_ is None:
        return 0
    if round_.state == RoundState.COMPLETE:
        learns = RoundState.LEARNING in order and not (round_.learn_run and round_.learn_run.finished_at)
        return len(order) - learns
    if round_.state in order:
        return order.index(RoundState(round_.state))
    if round_.labelling_at:
        return order.index(RoundState.LABELLING)
    return order.index(RoundState.SELECTING) if round_.campaign_id else 0


def labelled_counts(round_: Round | None) -> dict[str, int]:
    """How many different questions people are asked for a round, and how many have ended."""
    if round_ is None:
        return {"trials": 0, "ended": 0}
    asked = Trial.objects.filter(Q(exhibits__round=round_) | Q(second_exhibits__round=round_))
    return asked.aggregate(
        trials=Count("pk", distinct=True), ended=Count("pk", distinct=True, filter=~Q(state=TrialState.OPEN))
    )


def leaderboards(
    snapshot: Snapshot | None, measures: Sequence[Measure], before: Snapshot | None = None
) -> list[dict[str, Any]]:
    """A leaderboard per measure that has lines: best first, with marks on a common axis, and ranks as of ``before``."""
    if snapshot is None:
        return []
    found = list(snapshot.standings.select_related("entrant__version__model").order_by("rank", "entrant__number"))
    earlier = list(before.standings.values_list("measure", "entrant", "rank")) if before else []
    return [
        _board(
            measure,
            [standing for standing in found if standing.measure == measure.name],
            {entrant: rank for name, entrant, rank in earlier if name == measure.name},
            {line["entrant"]: line for line in snapshot.control.get("entrants", [])},
        )
        for measure in measures
        if any(standing.measure == measure.name for standing in found)
    ]


def _board(
    measure: Measure, standings: Sequence[Standing], earlier: dict[int, int], control: dict[int, Any]
) -> dict[str, Any]:
    lines = [
        {
            "standing": standing,
            "entrant": standing.entrant,
            "score": standing.score,
            "low": standing.low,
            "high": standing.high,
            "earlier_rank": earlier.get(standing.entrant_id),
            "moved": earlier[standing.entrant_id] - standing.rank if standing.entrant_id in earlier else None,
            "control": control.get(standing.entrant_id),
        }
        for standing in standings
    ]
    plot = charts.whiskers(lines, value="score")
    for line, mark in zip(lines, plot["marks"], strict=True):
        line["mark"] = mark
    return {
        "measure": measure,
        "lines": lines,
        "axis": plot["axis"],
        "width": plot["width"],
        "has_earlier": bool(earlier),
    }


def order_of(snapshot: Snapshot, measure: str) -> list[int]:
    """Positions in the snapshot's matrices, best first; entrants without a line last."""
    ranks = dict(snapshot.standings.filter(measure=measure).values_list("entrant", "rank"))
    entrants = snapshot.matrices["entrants"]
    return sorted(range(len(entrants)), key=lambda at: (ranks.get(entrants[at], len(entrants)), at))


def control_arm(snapshot: Snapshot | None, measure: str) -> dict[str, Any] | None:
    """Accuracy in the control arm per entrant, most accurate first, with marks on a common axis."""
    if snapshot is None or not snapshot.control:
        return None
    names = dict(zip(snapshot.matrices["entrants"], snapshot.matrices["names"], strict=True))
    ranks = dict(snapshot.standings.filter(measure=measure).values_list("entrant", "rank"))
    lines = [
        {**line, "name": names[line["entrant"]], "board_rank": ranks.get(line["entrant"])}
        for line in snapshot.control["entrants"]
    ]
    lines.sort(key=lambda line: (line["rank"], line["board_rank"] or 0))
    plot = charts.whiskers(lines, value="accuracy", zero=False)
    for line, mark in zip(lines, plot["marks"], strict=True):
        line["mark"] = mark
    return {
        "lines": lines,
        "axis": plot["axis"],
        "width": plot["width"],
        "n_images": snapshot.control["n_images"],
        "comparison": snapshot.control.get("comparison"),
    }


def snapshot_before(snapshot: Snapshot | None) -> Snapshot | None:
    """The last snapshot of the round before, of the same view; None in the first round."""
    if snapshot is None:
        return None
    earlier = Snapshot.objects.filter(
        competition=snapshot.competition_id,
        counts_everyone=snapshot.counts_everyone,
        round__number__lt=snapshot.round.number,
    )
    return earlier.order_by("-number").first()


def duels_short(round_: Round | None) -> list[Duel]:
    """Duels with fewer exhibits than were wanted, and why."""
    if round_ is None:
        return []
    short = Duel.objects.filter(round=round_).exclude(shortage="")
    return list(
        short.select_related("first__version__model", "second__version__model").order_by(
            "first__number", "second__number"
        )
    )


def people_lines(snapshot: Snapshot | None) -> list[dict[str, Any]]:
    """The annotators as the snapshot saw them, with their names; most judgements first."""
    lines = (snapshot.agreement.get("people") or []) if snapshot else []
    names = {user.pk: str(user) for user in User.objects.filter(pk__in=[line["person"] for line in lines])}
    excluded = set(snapshot.excluded_people) if snapshot else set()
    return sorted(
        ({**line, "name": names.get(line["person"], "—"), "is_excluded": line["person"] in excluded} for line in lines),
        key=lambda line: (-line["judgements"], line["name"]),
    )


def appearances(versions: "Sequence[Version]", user: User) -> list[Appearance]:
    """Where versions competed, for their model cards: as the newest leaderboard of each competition says."""
    visible = Competition.objects.visible_to(user)
    entered = Entrant.objects.filter(version__in=versions, competition__in=visible).select_related("competition")
    entrants = list(entered.annotate(n_entrants=Count("competition__entrants")))
    newest: dict[int, Snapshot] = {}
    shots = Snapshot.objects.filter(competition__in={each.competition_id for each in entrants}, counts_everyone=False)
    for snapshot in shots.order_by("number").defer("matrices", "k_curve", "control", "agreement"):
        newest[snapshot.competition_id] = snapshot
    main = {kind.measures[0].name for kind in KINDS.values()}
    lines = Standing.objects.filter(snapshot__in=newest.values(), measure__in=main)
    by_id = {snapshot.pk: snapshot for snapshot in newest.values()}
    standings = {standing.entrant_id: (by_id[standing.snapshot_id], standing) for standing in lines}
    found = []
    for entrant in entrants:
        seen = standings.get(entrant.pk)
        found.append(
            Appearance(
                version_id=entrant.version_id,
                title=str(entrant.competition),
                url=entrant.competition.get_absolute_url(),
                n_entrants=entrant.n_entrants,
                at=seen[0].created_at if seen else entrant.created_at,
                rank=seen[1].rank if seen else None,
                rank_best=seen[1].rank_best if seen else None,
                rank_worst=seen[1].rank_worst if seen else None,
            )
        )
    return found
