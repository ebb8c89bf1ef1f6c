"""Who can be relied on, and how far people agree: figures of one campaign for its pages, API and standings.

Question: the unit on which people answer: a class of a trial, or the trial itself where the answer is a number.
Rules come from ``psychometrics.screening``; what a rule cannot tell is said, and excluding somebody is the researcher's
act. Everybody is screened with everybody: excluded people keep their figures.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from django.core.cache import cache
from numpy.typing import NDArray

from labeling.models import Campaign, Exclusion, Judgement, Participation, TrialKind
from labeling.protocols import PROTOCOLS
from labeling.protocols.base import UNABLE, Protocol
from labeling.psychometrics import screening
from labeling.psychometrics.agreement import Agreement, krippendorff
from labeling.psychometrics.intervals import wilson
from labeling.psychometrics.mos import maximum_likelihood_scores, mean_opinion_scores
from labeling.querysets import SHARED_KINDS
from labeling.results import digest

CACHED_SECONDS = 3600
LONGEST_REASON = 300
FEWEST_CORRELATED = 4  # trials judged by others as well, before a correlation with them says anything


@dataclass
class PersonReport:
    """One person in a campaign; figures are None where nothing was judged that could tell.

    gold          (right, judged, low, high) with the 95 % Wilson interval
    repeats       (same, judged): answers to repeats that say the same as the first ones
    difference    mean absolute difference of repeats and first answers
    others        (agreed, compared): questions on which the majority of the other people says the same
    correlation   of the person's numbers with the means of the others
    bias          how far the person answers above the others (ratings) or to the right of them (comparisons)
    inconsistency standard deviation of what neither quality nor bias explains (ITU-T P.910, annex E)
    far           (above, below, judged): answers far from the others by BT.500; ``can_be_far``: whether its rule could
                  have rejected this person, ``is_far``: whether it does
    left          (left, judged): comparisons in which the left one was preferred
    median        seconds per answer; fast: share of answers under half a second
    run           longest run of one answer
    shown         answers in the order in which they were given, as they were on the screen
    flags         what a screening rule says against this person, in words
    """

    participation: Participation
    answers: int = 0
    unable: int = 0
    median: float | None = None
    fast: float | None = None
    run: int = 0
    gold: tuple[int, int, float, float] | None = None
    repeats: tuple[int, int] | None = None
    difference: float | None = None
    others: tuple[int, int] | None = None
    correlation: float | None = None
    bias: float | None = None
    inconsistency: float | None = None
    far: tuple[int, int, int] | None = None
    can_be_far: bool = False
    is_far: bool = False
    left: tuple[int, int] | None = None
    shown: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    exclusion: Exclusion | None = None

    @property
    def reason(self) -> str:
        """A proposed reason for excluding this person; empty where no rule says anything."""
        return "; ".join(self.flags)[:LONGEST_REASON]


@dataclass
class Crowd:
    """Everybody who takes part, those with flags first, and what the rules could not tell: (rule, note)."""

    people: list[PersonReport]
    notes: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class _Rows:
    """Judgements in force, without training, in the order in which they were given.

    number: of the answer, NaN where it is none or has several; shown: as it was pressed, or the kind of judgement.
    """

    protocol: Protocol
    person: NDArray[np.int64]
    trial: NDArray[np.int64]
    kind: list[str]
    trial_kind: list[str]
    value: list[dict[str, Any]]
    seconds: NDArray[np.float64]
    expected: list[dict[str, Any] | None]
    repeat_of: list[int | None]
    sides: list[list[int]]
    number: NDArray[np.float64] = field(init=False)
    shown: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.shown = [
            self.protocol.pressed(value, sides) if kind == "answer" else kind
            for kind, value, sides in zip(self.kind, self.value, self.sides, strict=True)
        ]
        self.number = np.array([value.get("value", np.nan) for value in self.value], dtype=np.float64)

    def answered(self, *trial_kinds: str) -> NDArray[np.int64]:
        """Rows that are answers to trials of these kinds."""
        own = [k == "answer" and t in trial_kinds for k, t in zip(self.kind, self.trial_kind, strict=True)]
        return np.flatnonzero(own)


def _rows(campaign: Campaign) -> _Rows:
    rows = list(
        Judgement.objects.in_force()
        .filter(campaign=campaign)
        .exclude(trial__kind=TrialKind.TRAINING)
        .order_by("pk")
        .values_list(
            "person_id", "trial_id", "kind", "trial__kind", "value", "milliseconds", "trial__expected",
            "trial__repeat_of", "viewing__sides",
        )
    )  # fmt: skip
    person, trial, kind, trial_kind, value, milliseconds, expected, repeat_of, sides = (
        zip(*rows, strict=True) if rows else [()] * 9
    )
    return _Rows(
        PROTOCOLS[campaign.protocol],
        np.array(person, dtype=np.int64),
        np.array(trial, dtype=np.int64),
        list(kind),
        list(trial_kind),
        list(value),
        np.array(milliseconds, dtype=np.float64) / 1000,
        list(expected),
        list(repeat_of),
        list(sides),
    )


def agreement_report(campaign: Campaign) -> Agreement:
    """Krippendorff's alpha over the questions at the protocol's level, people who are excluded left out."""
    key = f"labeling:agreement:{digest(campaign)}"
    if (kept := cache.get(key)) is not None:
        return Agreement(**kept)
    protocol = PROTOCOLS[campaign.protocol]
    rows = Judgement.objects.counted().filter(campaign=campaign, kind="answer")
    said = [
        (who, f"{trial}:{question}", number)
        for who, trial, value in rows.values_list("person_id", "trial_id", "value")
        for question, number in protocol.numbers(value).items()
    ]
    report = _agreement(said, protocol)
    cache.set(key, report.__dict__, CACHED_SECONDS)
    return report


def _agreement(said: list[tuple[int, str, float]], protocol: Protocol) -> Agreement:
    if said:
        person, question, value = zip(*said, strict=True)
        return krippendorff(person, question, value, level=protocol.level, replicates=1000, seed=0)
    nan = float("nan")
    return Agreement(nan, nan, nan, nan, 0, 0, 0, "nobody has answered yet")


def crowd_report(campaign: Campaign) -> Crowd:
    """Everybody who takes part, with figures and flags; the people with flags first, then by answers."""
    parts = list(Participation.objects.filter(campaign=campaign).select_related("person", "invite"))
    reports = {part.person_id: PersonReport(part) for part in parts}
    for exclusion in Exclusion.objects.filter(participation__campaign=campaign, lifted_at=None).select_related(
        "created_by", "participation"
    ):
        reports[exclusion.participation.person_id].exclusion = exclusion
    rows, crowd = _rows(campaign), Crowd([])
    if len(rows.person):
        _fill(campaign, rows, reports, crowd)
    crowd.people = sorted(
        reports.values(), key=lambda report: (not report.flags, -report.answers, report.participation.pk)
    )
    return crowd


Reports = dict[int, PersonReport]


def _fill(campaign: Campaign, rows: _Rows, reports: Reports, crowd: Crowd) -> None:
    for who, kind, shown in zip(rows.person.tolist(), rows.kind, rows.shown, strict=True):
        reports[who].answers += 1
        reports[who].unable += kind in UNABLE
        reports[who].shown.append(shown)
    rules: list[Callable[[Campaign, _Rows, Reports], list[screening.Screening]]] = [
        _speed, _runs, _gold, _repeats, _far, _sides,
    ]  # fmt: skip
    for rule in rules:
        for result in rule(campaign, rows, reports):
            _flag(result, reports)
            if result.note:
                crowd.notes.append((result.rule, result.note))
    _others(rows, reports)
    _quality(rows, reports)


def _flag(result: screening.Screening, reports: Reports) -> None:
    for who, reason in zip(result.persons.tolist(), result.reasons, strict=True):
        if reason:
            reports[who].flags.append(f"{result.rule}: {reason}")


def _speed(campaign: Campaign, rows: _Rows, reports: Reports) -> list[screening.Screening]:
    result = screening.speed(rows.person, rows.seconds)
    for n, who in enumerate(result.persons.tolist()):
        reports[who].median = float(result.figures["median"][n])
        reports[who].fast = float(result.figures["fast"][n])
    return [result]


def _runs(campaign: Campaign, rows: _Rows, reports: Reports) -> list[screening.Screening]:
    result = screening.straight_lining(rows.person, np.arange(len(rows.shown)), rows.shown)
    for n, who in enumerate(result.persons.tolist()):
        reports[who].run = int(result.figures["run"][n])
    return [result]


def _gold(campaign: Campaign, rows: _Rows, reports: Reports) -> list[screening.Screening]:
    own = rows.answered(TrialKind.GOLD)
    if not len(own):
        return []
    right = [rows.protocol.matches(rows.value[n], cast("dict[str, Any]", rows.expected[n])) for n in own]
    result = screening.gold(
        rows.person[own], right, bar=campaign.gold_warn, lower_bar=campaign.gold_stop, fewest=campaign.gold_minimum
    )
    for n, who in enumerate(result.persons.tolist()):
        judged = int(result.figures["judged"][n])
        correct = round(float(result.figures["share"][n]) * judged)
        low, high = wilson(correct, judged)
        reports[who].gold = (correct, judged, float(low), float(high))
    return [result]


def _repeats(campaign: Campaign, rows: _Rows, reports: Reports) -> list[screening.Screening]:
    """Repeats that say the same; how far numbers differ."""
    people = rows.person.tolist()
    asked = rows.answered(*SHARED_KINDS).tolist()
    first = {(people[n], int(rows.trial[n])): n for n in asked}
    again = rows.answered(TrialKind.REPEAT).tolist()
    known = [(n, first[key]) for n in again if (key := (people[n], cast("int", rows.repeat_of[n]))) in first]
    for n, before in known:
        same, judged = reports[people[n]].repeats or (0, 0)
        same += rows.protocol.agrees(rows.value[before], rows.value[n])
        reports[people[n]].repeats = (same, judged + 1)
    if not known or not rows.protocol.has_numbers:
        return []
    kept = [*asked, *(n for n, _ in known)]
    place = {n: at for at, n in enumerate(kept)}
    repeat_of = [-1] * len(asked) + [place[before] for _, before in known]
    result = screening.repeat_consistency(rows.person[kept], rows.number[kept], repeat_of)
    for at, who in enumerate(result.persons.tolist()):
        if result.figures["repeats"][at]:
            reports[who].difference = float(result.figures["difference"][at])
    return [result]


def _far(campaign: Campaign, rows: _Rows, reports: Reports) -> list[screening.Screening]:
    """BT.500, of numbers."""
    own = rows.answered(*SHARED_KINDS)
    if not len(own) or not rows.protocol.has_numbers:
        return []
    result = screening.bt500(rows.person[own], rows.trial[own], rows.number[own])
    for n, who in enumerate(result.persons.tolist()):
        figures = result.figures
        reports[who].far = (int(figures["above"][n]), int(figures["below"][n]), int(figures["judged"][n]))
        reports[who].can_be_far, reports[who].is_far = bool(result.able[n]), bool(result.flagged[n])
    return [result]


def _sides(campaign: Campaign, rows: _Rows, reports: Reports) -> list[screening.Screening]:
    """Side bias, from answers that prefer one of two."""
    people, chose_left = [], []
    for n in rows.answered(*SHARED_KINDS, TrialKind.GOLD, TrialKind.REPEAT).tolist():
        left = rows.protocol.chose_left(rows.value[n], rows.sides[n]) if rows.sides[n] else None
        if left is not None:
            people.append(int(rows.person[n]))
            chose_left.append(left)
    if not people:
        return []
    result = screening.side_bias(people, chose_left)
    for at, who in enumerate(result.persons.tolist()):
        judged = int(result.figures["judged"][at])
        reports[who].left = (round(float(result.figures["left"][at]) * judged), judged)
    return [result]


def _others(rows: _Rows, reports: Reports) -> None:
    """Agreement with the majority of the others, questions on which they are tied left out."""
    votes: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for n in rows.answered(*SHARED_KINDS).tolist():
        for question, vote in rows.protocol.votes(rows.value[n]).items():
            votes[int(rows.trial[n]), question].append((int(rows.person[n]), vote))
    for answers in votes.values():
        balance = sum(vote for _, vote in answers)
        for who, vote in answers:
            others = balance - vote
            if others:
                agreed, compared = reports[who].others or (0, 0)
                reports[who].others = (agreed + (others > 0) * (vote > 0) + (others < 0) * (vote < 0), compared + 1)


def _quality(rows: _Rows, reports: Reports) -> None:
    """Bias and inconsistency by the P.910 likelihood, and the correlation with the others, of numbers."""
    own = rows.answered(*SHARED_KINDS)
    if not rows.protocol.has_numbers or len(np.unique(rows.person[own])) < 2:
        return
    person, trial, number = rows.person[own], rows.trial[own], rows.number[own]
    scores, people = maximum_likelihood_scores(person, trial, number)
    place = np.searchsorted(scores.items, trial)
    residual = number - scores.quality[place]
    means = mean_opinion_scores(trial, number)
    others = means.ratings[place] > 1
    rest = (means.quality * means.ratings)[place] - number
    rest = np.divide(rest, means.ratings[place] - 1, out=np.full(len(rest), np.nan), where=others)
    for n, who in enumerate(people.persons.tolist()):
        mine = person == who
        report = reports[who]
        inconsistency = float(people.inconsistency[n])
        report.inconsistency = None if np.isnan(inconsistency) else inconsistency
        sides = [rows.sides[row] for row in own[mine]]
        shift = zip(residual[mine].tolist(), sides, strict=True)
        is_pair = rows.protocol.n_pictures == 2
        report.bias = (
            float(np.mean([rows.protocol.as_shown(*each) for each in shift])) if is_pair else float(people.bias[n])
        )
        report.correlation = _correlation(number[mine & others], rest[mine & others])


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    if len(first) < FEWEST_CORRELATED or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def person_row(report: PersonReport) -> dict[str, Any]:
    """A report as plain values, for the API."""

    def named(names: tuple[str, ...], values: tuple[Any, ...] | None) -> dict[str, Any] | None:
        return None if values is None else dict(zip(names, values, strict=True))

    part = report.participation
    return {
        "participation": part.pk,
        "person": part.person_id,
        "name": str(part.person),
        "answers": report.answers,
        "unable": report.unable,
        "median_seconds": report.median,
        "fast_share": report.fast,
        "longest_run": report.run,
        "gold": named(("right", "judged", "low", "high"), report.gold),
        "repeats": named(("same", "judged"), report.repeats),
        "repeat_error": report.difference,
        "others": named(("agreed", "compared"), report.others),
        "correlation": report.correlation,
        "bias": report.bias,
        "inconsistency": report.inconsistency,
        "bt500": report.far
        and {
            **(named(("above", "below", "judged"), report.far) or {}),
            "rejected": report.is_far,
            "can_reject": report.can_be_far,
        },
        "left": named(("left", "judged"), report.left),
        "flags": report.flags,
        "excluded": report.exclusion and report.exclusion.reason,
        "stopped_at": part.stopped_at,
    }
