"""Who can be relied on, and how far people agree: figures of one campaign for its pages, API and standings.

Question: one class of one trial, the unit on which people say yes or no.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from django.core.cache import cache
from django.db.models import Count, Max, Q

from labeling.models import Campaign, Exclusion, Judgement, Participation, TrialKind
from labeling.protocols import PROTOCOLS
from labeling.psychometrics import screening
from labeling.psychometrics.agreement import Agreement, krippendorff
from labeling.psychometrics.intervals import wilson
from labeling.querysets import SHARED_KINDS

CACHED_SECONDS = 3600
UNABLE = {"cannot_tell", "broken"}


@dataclass
class PersonReport:
    """One person in a campaign; shares lie in [0, 1] and are None where nothing was judged.

    gold          (right, judged, low, high) with the 95 % Wilson interval
    repeats       (same, judged): answers to repeats equal to the first ones
    others        (agreed, compared): questions on which the majority of the other people says the same
    median        seconds per answer; fast: share of answers under half a second
    run           longest run of one answer
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
    others: tuple[int, int] | None = None
    flags: list[str] = field(default_factory=list)
    exclusion: Exclusion | None = None


@dataclass
class _Rows:
    """Judgements in force, without training, in the order in which they were given."""

    person: np.ndarray
    trial: np.ndarray
    kind: list[str]
    trial_kind: list[str]
    value: list[dict[str, bool]]
    seconds: np.ndarray
    expected: list[dict[str, bool] | None]
    repeat_of: list[int | None]
    left: list[int | None]


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
        np.array(person, dtype=np.int64),
        np.array(trial, dtype=np.int64),
        list(kind),
        list(trial_kind),
        list(value),
        np.array(milliseconds, dtype=np.float64) / 1000,
        list(expected),
        list(repeat_of),
        [order[0] if order else None for order in sides],
    )


def _digest(campaign: Campaign) -> str:
    """Changes whenever a judgement or exclusion of the campaign does."""
    state = Judgement.objects.filter(campaign=campaign).aggregate(
        last=Max("pk"), undone=Count("pk", filter=Q(superseded_at__isnull=False))
    )
    exclusions = Exclusion.objects.filter(participation__campaign=campaign).aggregate(
        all=Count("pk"), lifted=Count("pk", filter=Q(lifted_at__isnull=False))
    )
    return f"{campaign.pk}:{state['last']}:{state['undone']}:{exclusions['all']}:{exclusions['lifted']}"


def agreement_report(campaign: Campaign) -> Agreement:
    """Krippendorff's alpha (nominal) over the questions, people who are excluded left out."""
    key = f"labeling:agreement:{_digest(campaign)}"
    if (kept := cache.get(key)) is not None:
        return Agreement(**kept)
    rows = Judgement.objects.counted().filter(campaign=campaign, kind="answer")
    person, question, value = [], [], []
    for who, trial, answers in rows.values_list("person_id", "trial_id", "value"):
        for index, answer in answers.items():
            person.append(who)
            question.append(f"{trial}:{index}")
            value.append(int(answer))
    report = _agreement(person, question, value)
    cache.set(key, report.__dict__, CACHED_SECONDS)
    return report


def _agreement(person: list[int], question: list[str], value: list[int]) -> Agreement:
    if person:
        return krippendorff(person, question, value, level="nominal", replicates=1000, seed=0)
    nan = float("nan")
    return Agreement(nan, nan, nan, nan, 0, 0, 0, "nobody has answered yet")


def people_report(campaign: Campaign) -> list[PersonReport]:
    """Everybody who takes part, with figures and flags; the people with flags first, then by answers."""
    parts = list(Participation.objects.filter(campaign=campaign).select_related("person", "invite"))
    reports = {part.person_id: PersonReport(part) for part in parts}
    for exclusion in Exclusion.objects.filter(participation__campaign=campaign, lifted_at=None).select_related(
        "created_by", "participation"
    ):
        reports[exclusion.participation.person_id].exclusion = exclusion
    rows = _rows(campaign)
    if len(rows.person):
        _fill(campaign, rows, {who: report for who, report in reports.items() if (rows.person == who).any()})
    return sorted(reports.values(), key=lambda report: (not report.flags, -report.answers, report.participation.pk))


def _fill(campaign: Campaign, rows: _Rows, reports: dict[int, PersonReport]) -> None:
    for who, report in reports.items():
        own = np.flatnonzero(rows.person == who)
        report.answers = len(own)
        report.unable = sum(rows.kind[n] in UNABLE for n in own)
    _fill_speed(rows, reports)
    _fill_runs(rows, reports)
    _fill_gold(campaign, rows, reports)
    _fill_repeats(rows, reports)
    _fill_others(rows, reports)
    _fill_sides(rows, reports)


def _flag(result: screening.Screening, reports: dict[int, PersonReport]) -> None:
    for who, reason in zip(result.persons.tolist(), result.reasons, strict=True):
        if reason and who in reports:
            reports[who].flags.append(f"{result.rule}: {reason}")


def _fill_speed(rows: _Rows, reports: dict[int, PersonReport]) -> None:
    result = screening.speed(rows.person, rows.seconds)
    for n, who in enumerate(result.persons.tolist()):
        reports[who].median = float(result.figures["median"][n])
        reports[who].fast = float(result.figures["fast"][n])
    _flag(result, reports)


def _pattern(rows: _Rows, n: int) -> str:
    """The answer as it was pressed: yes/no by side, or its kind."""
    value, left = rows.value[n], rows.left[n]
    if rows.kind[n] != "answer":
        return rows.kind[n]
    order = sorted(value, key=lambda index: int(index) != left)
    return "".join("y" if value[index] else "n" for index in order)


def _fill_runs(rows: _Rows, reports: dict[int, PersonReport]) -> None:
    patterns = [_pattern(rows, n) for n in range(len(rows.kind))]
    result = screening.straight_lining(rows.person, np.arange(len(patterns)), patterns)
    for n, who in enumerate(result.persons.tolist()):
        reports[who].run = int(result.figures["run"][n])
    _flag(result, reports)


def _fill_gold(campaign: Campaign, rows: _Rows, reports: dict[int, PersonReport]) -> None:
    matches = PROTOCOLS[campaign.protocol].matches
    own = [n for n, kind in enumerate(rows.trial_kind) if kind == TrialKind.GOLD and rows.kind[n] == "answer"]
    if not own:
        return
    right = [matches(rows.value[n], cast("dict[str, bool]", rows.expected[n])) for n in own]
    result = screening.gold(
        rows.person[own], right, bar=campaign.gold_warn, lower_bar=campaign.gold_stop, fewest=campaign.gold_minimum
    )
    for n, who in enumerate(result.persons.tolist()):
        judged = int(result.figures["judged"][n])
        correct = round(float(result.figures["share"][n]) * judged)
        low, high = wilson(correct, judged)
        reports[who].gold = (correct, judged, float(low), float(high))
    _flag(result, reports)


def _fill_repeats(rows: _Rows, reports: dict[int, PersonReport]) -> None:
    first = {
        (who, trial): n
        for n, (who, trial) in enumerate(zip(rows.person.tolist(), rows.trial.tolist(), strict=True))
        if rows.kind[n] == "answer"
    }
    same: dict[int, int] = defaultdict(int)
    judged: dict[int, int] = defaultdict(int)
    for n, original in enumerate(rows.repeat_of):
        who = int(rows.person[n])
        before = first.get((who, original)) if original is not None else None
        if before is None or rows.kind[n] != "answer":
            continue
        judged[who] += 1
        same[who] += rows.value[n] == rows.value[before]
    for who, total in judged.items():
        reports[who].repeats = (same[who], total)


def _fill_others(rows: _Rows, reports: dict[int, PersonReport]) -> None:
    """Agreement with the majority of the others, questions on which they are tied left out."""
    votes: dict[tuple[int, str], list[tuple[int, bool]]] = defaultdict(list)
    for n, kind in enumerate(rows.kind):
        if kind == "answer" and rows.trial_kind[n] in SHARED_KINDS:
            for index, answer in rows.value[n].items():
                votes[int(rows.trial[n]), index].append((int(rows.person[n]), answer))
    agreed: dict[int, int] = defaultdict(int)
    compared: dict[int, int] = defaultdict(int)
    for answers in votes.values():
        balance = sum(1 if answer else -1 for _, answer in answers)
        for who, answer in answers:
            others = balance - (1 if answer else -1)
            if others:
                compared[who] += 1
                agreed[who] += (others > 0) == answer
    for who, total in compared.items():
        reports[who].others = (agreed[who], total)


def _fill_sides(rows: _Rows, reports: dict[int, PersonReport]) -> None:
    """Side bias, from answers that name exactly one of two classes."""
    people, chose_left = [], []
    for n, value in enumerate(rows.value):
        if rows.kind[n] == "answer" and len(value) == 2 and len(set(value.values())) == 2 and rows.left[n] is not None:
            people.append(int(rows.person[n]))
            chose_left.append(value[str(rows.left[n])])
    if people:
        _flag(screening.side_bias(people, chose_left), reports)


def person_row(report: PersonReport) -> dict[str, Any]:
    """A report as plain values, for the API."""
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
        "gold": report.gold and dict(zip(("right", "judged", "low", "high"), report.gold, strict=True)),
        "repeats": report.repeats and dict(zip(("same", "judged"), report.repeats, strict=True)),
        "others": report.others and dict(zip(("agreed", "compared"), report.others, strict=True)),
        "flags": report.flags,
        "excluded": report.exclusion and report.exclusion.reason,
        "stopped_at": part.stopped_at,
    }
