"""What people said about the trials of a round's campaigns, in the form that rankings and tables need.

Ballot: one judgement in force. Opinion: what a trial's ballots amount to.
Everyone: the other view, in which the ballots of excluded people count as well.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from competition.numbers import plain
from labeling.models import (
    Campaign,
    Exclusion,
    Judgement,
    JudgementKind,
    Trial,
    TrialKind,
    TrialState,
    Verdict,
    VerdictOutcome,
)
from labeling.protocols import PROTOCOLS
from labeling.psychometrics.agreement import krippendorff

READ_AT_ONCE = 5_000


@dataclass(frozen=True)
class Ballot:
    person: int
    kind: str
    value: dict[str, Any]


@dataclass(frozen=True)
class Opinion:
    """outcome: as in ``VerdictOutcome``; value: as in ``Verdict``, of the protocol's own form."""

    outcome: str
    value: dict[str, Any]
    ballots: tuple[Ballot, ...]

    @property
    def is_settled(self) -> bool:
        return self.outcome == VerdictOutcome.SETTLED


def excluded_people(campaigns: Sequence[Campaign]) -> list[int]:
    """Ids of the people whose judgements are left out in any of these campaigns, ascending."""
    in_force = Exclusion.objects.filter(participation__campaign__in=campaigns, lifted_at=None)
    return sorted(set(in_force.values_list("participation__person", flat=True)))


def opinions_read(campaigns: Sequence[Campaign], *, everyone: bool = False) -> dict[int, Opinion]:
    """Opinions by trial id, of every shared trial that has ended (or, counting everyone, would have)."""
    ballots = _ballots(campaigns, everyone=everyone)
    if everyone:
        return dict(_decide_again(campaigns, ballots))
    verdicts = Verdict.objects.filter(campaign__in=campaigns).values_list("trial", "outcome", "value")
    return {trial: Opinion(outcome, value, tuple(ballots[trial])) for trial, outcome, value in verdicts}


def _ballots(campaigns: Sequence[Campaign], *, everyone: bool) -> defaultdict[int, list[Ballot]]:
    if everyone:
        judgements = Judgement.objects.in_force().filter(trial__kind__in=TrialKind.shared())
    else:
        judgements = Judgement.objects.counted()
    found = judgements.filter(campaign__in=campaigns).order_by("pk")
    ballots: defaultdict[int, list[Ballot]] = defaultdict(list)
    for trial, person, kind, value in found.values_list("trial", "person", "kind", "value").iterator(READ_AT_ONCE):
        ballots[trial].append(Ballot(person, kind, value))
    return ballots


def _decide_again(
    campaigns: Sequence[Campaign], ballots: Mapping[int, Sequence[Ballot]]
) -> Iterator[tuple[int, Opinion]]:
    """Opinions from the ballots given, whatever the verdicts say.

    Of trials that have ended (there, a tie that more ballots could break is undecided), and of those open ones that
    have all their ballots when everyone counts.
    """
    by_id = {campaign.pk: campaign for campaign in campaigns}
    trials = Trial.objects.filter(campaign__in=campaigns, kind__in=TrialKind.shared())
    for trial, campaign_id, asked, state in trials.values_list("pk", "campaign", "classes", "state").iterator(
        READ_AT_ONCE
    ):
        cast, campaign = ballots.get(trial, ()), by_id[campaign_id]
        if not cast:
            continue
        ruling = PROTOCOLS[campaign.protocol].decide(
            asked,
            [(ballot.kind, ballot.value) for ballot in cast],
            overlap=campaign.overlap if state == TrialState.OPEN else min(campaign.overlap, len(cast)),
            cap=campaign.overlap + campaign.extra_slots,
        )
        if state == TrialState.OPEN and not ruling.is_final:
            continue
        outcome = ruling.outcome if ruling.is_final else VerdictOutcome.UNDECIDED
        yield trial, Opinion(outcome, ruling.value, tuple(cast))


def agreement(campaigns: Sequence[Campaign], opinions: Mapping[int, Opinion], *, seed: int) -> dict[str, Any]:
    """Krippendorff's alpha at the protocol's level with its interval, every question an item; empty without answers."""
    if not campaigns:
        return {}
    protocol = PROTOCOLS[campaigns[0].protocol]
    said = [
        (ballot.person, f"{trial}:{question}", number)
        for trial in sorted(opinions)
        for ballot in opinions[trial].ballots
        if ballot.kind == JudgementKind.ANSWER
        for question, number in protocol.numbers(ballot.value).items()
    ]
    if not said:
        return {}
    person, question, number = zip(*said, strict=True)
    _, places = np.unique(np.array(question), return_inverse=True)
    found = krippendorff(np.array(person), places.ravel(), np.array(number), level=protocol.level, seed=seed)
    names = ("alpha", "low", "high", "percent", "persons", "items", "values", "note")
    return {name: plain(getattr(found, name)) for name in names} | {"level": protocol.level}


def people(campaigns: Sequence[Campaign], opinions: Mapping[int, Opinion]) -> list[dict[str, Any]]:
    """Per annotator, excluded ones too: judgements, "cannot tell"s, answers to settled questions and those that agree
    with the verdict, median milliseconds from paint to answer."""
    found = Judgement.objects.in_force().filter(campaign__in=campaigns, trial__kind__in=TrialKind.shared())
    columns = found.order_by("person", "pk").values_list(
        "person", "trial", "kind", "value", "milliseconds", "campaign__protocol"
    )
    lines: dict[int, dict[str, Any]] = {}
    times: defaultdict[int, list[int]] = defaultdict(list)
    for person, trial, kind, value, milliseconds, protocol in columns.iterator(READ_AT_ONCE):
        line = lines.setdefault(
            person, {"person": person, "judgements": 0, "cannot_tell": 0, "answers": 0, "agreeing": 0}
        )
        times[person].append(milliseconds)
        line["judgements"] += 1
        line["cannot_tell"] += kind != JudgementKind.ANSWER
        opinion = opinions.get(trial)
        if kind == JudgementKind.ANSWER and opinion and opinion.value:
            agreeing, comparable = PROTOCOLS[protocol].agreeing(value, opinion.value)
            line["answers"] += comparable
            line["agreeing"] += agreeing
    return [{**line, "milliseconds": float(np.median(times[person]))} for person, line in lines.items()]
