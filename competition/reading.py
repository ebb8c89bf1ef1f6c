"""What the pages and the API show of a competition, read from its newest snapshot and a few counts.

Nothing here depends on the size of the corpus, and no number of queries on the number of exhibits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Q

from accounts.models import User
from competition import charts
from competition.models import Competition, Duel, Entrant, Exhibit, Round, RoundState, Snapshot
from labeling.models import TrialState
from models_zoo.appearances import Appearance

if TYPE_CHECKING:
    from models_zoo.models import Version

ORDER = [RoundState.SCORING, RoundState.SELECTING, RoundState.LABELLING, RoundState.SETTLING]
STEP_TITLES = {
    RoundState.SCORING: ("Score", "Every entrant runs over the corpus"),
    RoundState.SELECTING: ("Select", "The largest disagreements are found"),
    RoundState.LABELLING: ("Label", "People say who is right"),
    RoundState.SETTLING: ("Settle", "Verdicts become standings"),
}


@dataclass(frozen=True)
class Step:
    """One step of a round as shown: ``tone`` is "done", "now", "bad" or empty."""

    title: str
    what: str
    tone: str
    detail: str


def round_steps(round_: Round | None, labelled: dict[str, int]) -> list[Step]:
    """The steps of a round and how far it is."""
    state = round_.state if round_ else ""
    reached = len(ORDER) if state == RoundState.COMPLETE else _reached(round_)
    steps = []
    for at, step in enumerate(ORDER):
        title, what = STEP_TITLES[step]
        tone = "done" if at < reached else ""
        if at == reached and round_:
            tone = "bad" if state in {RoundState.FAILED, RoundState.CANCELLED} else "now"
        detail = ""
        if step == RoundState.LABELLING and labelled.get("trials"):
            detail = f"{labelled['ended']:,} of {labelled['trials']:,} exhibits"
        steps.append(Step(title, what, tone, detail))
    return steps


def _reached(round_: Round | None) -> int:
    """Position of the step in hand; for a failed or cancelled round, of the one where it stopped."""
    if round_ is None:
        return 0
    if round_.state in ORDER:
        return ORDER.index(RoundState(round_.state))
    if round_.labelling_at:
        return ORDER.index(RoundState.LABELLING)
    return ORDER.index(RoundState.SELECTING) if round_.campaign_id else 0


def labelled_counts(round_: Round | None) -> dict[str, int]:
    """How many different questions people are asked for a round, and how many have ended."""
    if round_ is None:
        return {"trials": 0, "ended": 0}
    asked = Exhibit.objects.asked().filter(round=round_)
    return asked.aggregate(
        trials=Count("trial", distinct=True),
        ended=Count("trial", distinct=True, filter=~Q(trial__state=TrialState.OPEN) & Q(trial__isnull=False)),
    )


def leaderboard(snapshot: Snapshot | None, before: Snapshot | None = None) -> dict[str, Any] | None:
    """Lines of a leaderboard, best first, with marks on a common axis, and ranks as of ``before``."""
    if snapshot is None:
        return None
    standings = snapshot.standings.select_related("entrant__version__model").order_by("rank", "entrant__number")
    earlier = dict(before.standings.values_list("entrant", "rank")) if before else {}
    control = {line["entrant"]: line for line in snapshot.control.get("entrants", [])}
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
    return {"lines": lines, "axis": plot["axis"], "width": plot["width"], "has_earlier": bool(earlier)}


def duel_matrix(snapshot: Snapshot | None) -> dict[str, Any] | None:
    """The m×m table of a_ij: share of the pair's images on which the row's model is right; rows best first."""
    if snapshot is None or not snapshot.matrices["images"]:
        return None
    matrices = snapshot.matrices
    ranks = dict(snapshot.standings.values_list("entrant", "rank"))
    order = sorted(range(len(matrices["entrants"])), key=lambda at: (ranks[matrices["entrants"][at]], at))
    names, entrants = matrices["names"], matrices["entrants"]
    rows = [{"name": names[i], "entrant": entrants[i], "cells": [_cell(matrices, i, j) for j in order]} for i in order]
    return {"columns": [names[j] for j in order], "rows": rows}


def _cell(matrices: dict[str, Any], i: int, j: int) -> dict[str, Any] | None:
    share = matrices["accuracy"][i][j]
    if i == j or share is None:
        return None
    return {
        "share": share,
        "alpha": round(0.05 + 0.5 * share, 3),
        "correct": matrices["correct"][i][j],
        "images": matrices["images"][i][j],
        "first": matrices["entrants"][i],
        "second": matrices["entrants"][j],
        "names": (matrices["names"][i], matrices["names"][j]),
    }


def duel_cases(snapshot: Snapshot | None) -> list[dict[str, Any]]:
    """Case I/II/III counts of each duel, with shares in percent for the bars."""
    if snapshot is None:
        return []
    names, entrants = snapshot.matrices["names"], snapshot.matrices["entrants"]
    return [
        {
            **case,
            "names": (names[case["first"]], names[case["second"]]),
            "entrants": (entrants[case["first"]], entrants[case["second"]]),
            "bars": _bars(case),
        }
        for case in snapshot.matrices["cases"]
    ]


def _bars(case: dict[str, int]) -> list[dict[str, Any]]:
    parts, start = [], 0.0
    for name in ("both_right", "only_first", "only_second", "both_wrong"):
        width = 100.0 * case[name] / case["images"]
        parts.append({"name": name, "x": round(start, 2), "width": round(width, 2), "count": case[name]})
        start += width
    return parts


def control_arm(snapshot: Snapshot | None) -> dict[str, Any] | None:
    """Accuracy on the random images per entrant, most accurate first, with marks on a common axis."""
    if snapshot is None or not snapshot.control:
        return None
    names = dict(zip(snapshot.matrices["entrants"], snapshot.matrices["names"], strict=True))
    ranks = dict(snapshot.standings.values_list("entrant", "rank"))
    lines = [
        {**line, "name": names[line["entrant"]], "mad_rank": ranks.get(line["entrant"])}
        for line in snapshot.control["entrants"]
    ]
    lines.sort(key=lambda line: (line["rank"], line["mad_rank"] or 0))
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
    """Duels with fewer than k exhibits, and why."""
    if round_ is None:
        return []
    short = Duel.objects.filter(round=round_).exclude(shortage="")
    return list(
        short.select_related("first__version__model", "second__version__model").order_by(
            "first__number", "second__number"
        )
    )


CASES = {
    "i": "Case I: both right",
    "ii": "Case II: exactly one right",
    "iii": "Case III: both wrong",
    "open": "Not decided yet",
    "dropped": "Dropped: people could not tell",
}


def exhibit_case(exhibit: Exhibit) -> str:
    """Key of ``CASES`` for an exhibit of a duel."""
    if exhibit.dropped:
        return "dropped"
    right = [exhibit.right_first, exhibit.right_second]
    if None in right:
        return "open"
    return "i" if all(right) else "ii" if any(right) else "iii"


def exhibit_said(exhibit: Exhibit, names: Sequence[str]) -> list[dict[str, Any]]:
    """What each side of an exhibit said, and what people made of it: a line per class asked about."""
    verdict = getattr(exhibit.trial, "verdict", None) if exhibit.trial_id else None
    sides = [
        (exhibit.class_first, exhibit.confidence_first, exhibit.duel.first if exhibit.duel else None),
        (exhibit.class_second, exhibit.confidence_second, exhibit.duel.second if exhibit.duel else None),
    ]
    return [
        {
            "entrant": entrant,
            "label": label,
            "class_name": names[label],
            "confidence": confidence,
            "right": verdict.value.get(str(label)) if verdict else None,
            "counts": verdict.counts.get(str(label)) if verdict else None,
        }
        for label, confidence, entrant in sides
        if label is not None
    ]


def case_filter(case: str) -> Q:
    """Exhibits of one key of ``CASES``."""
    filters = {
        "i": Q(right_first=True, right_second=True),
        "ii": Q(right_first=True, right_second=False) | Q(right_first=False, right_second=True),
        "iii": Q(right_first=False, right_second=False),
        "open": Q(dropped=False) & (Q(right_first=None) | Q(right_second=None)),
        "dropped": Q(dropped=True),
    }
    return filters[case]


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
    found = []
    standings = {
        standing.entrant_id: (snapshot, standing)
        for snapshot in Snapshot.objects.filter(pk__in=[each.pk for each in newest.values()]).prefetch_related(
            "standings"
        )
        for standing in snapshot.standings.all()
    }
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
