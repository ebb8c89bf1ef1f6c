"""From judgements to verdicts.

A trial is *ended* by its protocol's ruling (settled, undecided, dropped) and *reopened* when an undo, an exclusion or a
restoration takes that ruling away. Everything here runs inside a transaction in which the trials are locked; the order
of locks is participation, trials (by id), campaign, so that no two requests wait for each other.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from jobs.services import job_enqueue
from labeling.models import (
    Campaign,
    CampaignState,
    Sampling,
    Slot,
    SlotState,
    Trial,
    TrialState,
    Verdict,
    VerdictOutcome,
)
from labeling.protocols import PROTOCOLS
from labeling.protocols.base import Ruling
from labeling.querysets import exclusion_in_force
from labeling.services import statements
from labeling.signals import campaign_complete, trial_ended, verdicts_changed

log = structlog.get_logger()

SAMPLING_JOB = "labeling.sample"
MANY = 10_000  # no cap: more judgements than a trial can have


@dataclass
class _Tally:
    """The shared slots of one trial: ballots that count, ids of slots still awaited, the highest number used."""

    ballots: list[tuple[str, dict[str, Any]]]
    pending: list[int]
    last_number: int = -1


def trials_lock(trial_ids: Iterable[int]) -> list[Trial]:
    """Lock trials until the transaction ends, in the one order that everybody uses."""
    rows = Trial.objects.filter(pk__in=list(trial_ids)).order_by("pk")
    return list(rows.select_for_update(no_key=True))


def trials_settle(*, campaign: Campaign, trials: Sequence[Trial]) -> None:
    """Rule on locked shared trials: end them, reopen them, or open one more slot on a tie."""
    if not trials:
        return
    tallies = _tallies([trial.pk for trial in trials])
    changed = ended = False
    for trial in trials:
        outcome = _trial_apply(campaign, trial, tallies[trial.pk])
        changed |= outcome == "changed"
        ended |= trial.state != TrialState.OPEN
    if changed:
        transaction.on_commit(partial(verdicts_changed.send_robust, sender=Campaign, campaign=campaign))
    if ended or changed:
        _campaign_follow(campaign)


def _tallies(trial_ids: list[int]) -> dict[int, _Tally]:
    tallies: dict[int, _Tally] = defaultdict(lambda: _Tally([], []))
    for trial_id, slot_id, number, state, kind, value, is_excluded in statements.votes_read(trial_ids):
        tally = tallies[trial_id]
        tally.last_number = max(tally.last_number, number)
        if state in {SlotState.OPEN, SlotState.LEASED}:
            tally.pending.append(slot_id)
        elif state == SlotState.DONE and kind is not None and not is_excluded:
            tally.ballots.append((kind, value))
    return tallies


def _ruling(campaign: Campaign, trial: Trial, tally: _Tally) -> Ruling:
    """Judgements of excluded people are missing for good, so only those that can still come are waited for. Under
    active sampling a trial has as many slots as it was asked for, and waits for all of them."""
    wanted = MANY if campaign.sampling == Sampling.ACTIVE else campaign.overlap
    overlap = max(1, min(wanted, len(tally.ballots) + len(tally.pending)))
    cap = max(overlap, campaign.overlap + campaign.extra_slots)
    return PROTOCOLS[campaign.protocol].decide(trial.classes, tally.ballots, overlap=overlap, cap=cap)


def _trial_apply(campaign: Campaign, trial: Trial, tally: _Tally) -> str:
    """Write what the ruling means. Returns "changed" when a verdict that had been given is now another or none."""
    before = None if trial.state == TrialState.OPEN else Verdict.objects.filter(trial=trial).first()
    ruling = _ruling(campaign, trial, tally)
    if not ruling.is_final:
        if not tally.pending:
            _slots_open(trial, count=max(1, ruling.missing), after=tally.last_number)
        return _trial_reopen(trial, before)
    return _trial_end(campaign, trial, ruling, before, tally.pending)


def _slots_open(trial: Trial, *, count: int, after: int) -> None:
    """Require more judgements of a trial: slots that were void first, new ones for the rest."""
    void = Slot.objects.filter(trial=trial, is_shared=True, state=SlotState.VOID)
    revived = list(void.order_by("number").values_list("pk", flat=True)[:count])
    Slot.objects.filter(pk__in=revived).update(state=SlotState.OPEN, person=None, leased_until=None)
    Slot.objects.bulk_create(
        Slot(trial=trial, campaign_id=trial.campaign_id, number=after + number, position=trial.position)
        for number in range(1, count - len(revived) + 1)
    )


def _trial_reopen(trial: Trial, before: Verdict | None) -> str:
    if trial.state == TrialState.OPEN:
        return "same"
    Verdict.objects.filter(trial=trial).delete()
    Trial.objects.filter(pk=trial.pk).update(state=TrialState.OPEN)
    trial.state = TrialState.OPEN
    log.info("trial_reopened", trial=trial.pk)
    return "changed" if before else "same"


def _trial_end(campaign: Campaign, trial: Trial, ruling: Ruling, before: Verdict | None, pending: list[int]) -> str:
    if pending:
        Slot.objects.filter(pk__in=pending).update(state=SlotState.VOID, leased_until=None)
    return _verdict_write(
        campaign,
        trial,
        before,
        {
            "outcome": ruling.outcome,
            "value": ruling.value,
            "counts": ruling.counts,
            "n_judgements": ruling.n_judgements,
            "n_cannot_tell": ruling.n_cannot_tell,
            "n_broken": ruling.n_broken,
        },
    )


def trials_ask_again(*, campaign: Campaign, trials: Sequence[Trial]) -> None:
    """Require one more judgement of each of these locked shared trials; those that had ended are open again."""
    tallies = _tallies([trial.pk for trial in trials])
    for trial in trials:
        _slots_open(trial, count=1, after=tallies[trial.pk].last_number)
    trials_settle(campaign=campaign, trials=trials)


def trial_withdraw(campaign: Campaign, trial: Trial) -> None:
    """End a locked open trial as dropped, whatever has been answered."""
    tally = _tallies([trial.pk])[trial.pk]
    ruling = PROTOCOLS[campaign.protocol].decide(trial.classes, tally.ballots, overlap=campaign.overlap, cap=MANY)
    _trial_end(campaign, trial, replace(ruling, outcome="dropped", value={}), None, tally.pending)
    _campaign_follow(campaign)


def _verdict_write(campaign: Campaign, trial: Trial, before: Verdict | None, fields: dict[str, Any]) -> str:
    """End a locked trial with this verdict and tell the rooms above. Returns "changed", "new" or "same"."""
    if before is not None and all(getattr(before, name) == value for name, value in fields.items()):
        return "same"
    verdict = before or Verdict(trial=trial, campaign=campaign)
    for name, value in fields.items():
        setattr(verdict, name, value)
    verdict.settled_at = timezone.now()
    verdict.save()
    state = TrialState.DROPPED if verdict.outcome == VerdictOutcome.DROPPED else TrialState.SETTLED
    Trial.objects.filter(pk=trial.pk).update(state=state)
    trial.state = state
    log.info("trial_ended", trial=trial.pk, outcome=verdict.outcome)
    transaction.on_commit(partial(trial_ended.send_robust, sender=Trial, trial=trial, verdict=verdict))
    return "changed" if before else "new"


def _campaign_follow(campaign: Campaign) -> None:
    """Complete the campaign with its last trial, or take that back. Locks the campaign, so the last two trials to end
    at the same moment do not each see the other as open."""
    rows = Campaign.objects.select_for_update(no_key=True).only("state", "sampling", "budget")
    locked = rows.get(pk=campaign.pk)
    has_open = Trial.objects.filter(campaign=campaign).unended().exists() or budget_left(locked) > 0
    if locked.state in {CampaignState.OPEN, CampaignState.PAUSED} and not has_open:
        now = timezone.now()
        Campaign.objects.filter(pk=campaign.pk).update(state=CampaignState.COMPLETE, completed_at=now)
        campaign.state, campaign.completed_at = CampaignState.COMPLETE, now
        log.info("campaign_complete", campaign=campaign.pk)
        transaction.on_commit(partial(campaign_complete.send_robust, sender=Campaign, campaign=campaign))
    elif locked.state == CampaignState.COMPLETE and has_open:
        campaign_reopen(campaign)


def budget_left(campaign: Campaign) -> int:
    """Under active sampling, how many more judgements may be asked for; those of excluded people do not count."""
    if campaign.sampling != Sampling.ACTIVE:
        return 0
    slots = Slot.objects.filter(campaign=campaign, is_shared=True).exclude(state=SlotState.VOID)
    asked = slots.exclude(Q(state=SlotState.DONE) & Q(exclusion_in_force())).count()
    return max(0, (campaign.budget or 0) - asked)


def sampling_enqueue(campaign: Campaign) -> None:
    """Choose the next pairs in the background, unless that is under way."""
    job_enqueue(
        kind=SAMPLING_JOB,
        title=f"Next pairs of {campaign.name}",
        payload={"campaign": campaign.pk},
        by=None,
        subject=f"labeling.campaign:{campaign.pk}",
        unique=True,
    )


def campaign_reopen(campaign: Campaign) -> None:
    """A complete campaign is open again: something is left to judge."""
    Campaign.objects.filter(pk=campaign.pk).update(state=CampaignState.OPEN, completed_at=None)
    campaign.state, campaign.completed_at = CampaignState.OPEN, None
