"""Answers: record, undo, skip.

An answer is kept exactly once however often it is posted, because it carries a key made by the page. What a person may
still do with a slot is decided by the one conditional UPDATE that moves it; reasons are looked up only when that fails.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.errors import Conflict, Denied, DomainError, Gone
from accounts.models import User
from labeling.models import (
    TRIAL_PICTURES,
    Campaign,
    CampaignState,
    Judgement,
    Participation,
    Sampling,
    Skip,
    Slot,
    SlotState,
    Trial,
    TrialKind,
    TrialState,
)
from labeling.protocols import PROTOCOLS
from labeling.psychometrics.intervals import wilson
from labeling.querysets import SHARED_KINDS
from labeling.services import statements
from labeling.services.assignment import participation_lock, slots_top_up
from labeling.services.sampling import sampling_follow
from labeling.services.settling import trials_lock, trials_settle
from labeling.services.taking_part import slots_release, viewing_clean

log = structlog.get_logger()

UNDO_DEPTH = 10
LONGEST_ANSWER = 24 * 60 * 60 * 1000  # milliseconds; a page left open over night is not a measurement


@dataclass(frozen=True)
class Answer:
    """What the page posts about one slot."""

    slot: int
    kind: str
    value: object
    key: UUID
    presented_at: datetime
    milliseconds: int
    viewing: object


@dataclass(frozen=True)
class Recorded:
    """``created`` is False when the same key had been posted before; ``notice`` is for the person to read."""

    judgement: Judgement
    created: bool
    notice: str = ""


@dataclass(frozen=True)
class Turn:
    """A round trip: what was recorded, what the person holds now, and their part (with its campaign) as it is now."""

    recorded: Recorded
    slots: list[Slot]
    participation: Participation


def judgement_record(
    *,
    slot: Slot | int,
    person: User,
    kind: str,
    value: object,
    key: UUID,
    presented_at: datetime,
    milliseconds: int,
    viewing: object,
) -> Recorded:
    """Record one answer; a second post under the same ``key`` changes nothing and returns the first.

    Raises:
        DomainError: the answer does not fit the question.
        Denied: the slot is somebody else's.
        Gone: the slot was handed on, the trial dropped, or the campaign closed meanwhile.
        Conflict: the slot was answered under another key, or the key used for another slot.
    """
    number = slot.pk if isinstance(slot, Slot) else slot
    campaign_id = slot.campaign_id if isinstance(slot, Slot) else _campaign_of(number)
    answer = Answer(number, kind, value, key, presented_at, milliseconds, viewing)
    return turn_take(campaign_id=campaign_id, person=person, answer=answer, count=0).recorded


def turn_take(*, campaign_id: int, person: User, answer: Answer, count: int) -> Turn:
    """Record one answer and lease what comes next, in one transaction: the annotator's round trip.

    Args:
        count: trials to hold afterwards; 0 leases none.

    Raises:
        as ``judgement_record``.
    """
    try:
        with transaction.atomic():
            participation = participation_lock(campaign_id, person)
            recorded, position = _record(participation, person, answer)
            slots = _follow_up(participation, person, count, position)
            if participation.campaign.sampling == Sampling.ACTIVE:
                is_idle = count > 0 and not slots
                transaction.on_commit(partial(sampling_follow, participation.campaign, is_idle=is_idle))
            return Turn(recorded, slots, participation)
    except IntegrityError:
        if Judgement.objects.filter(key=answer.key).exists():
            raise Conflict("This key was used for another answer: make a new one for each answer.") from None
        raise


def _follow_up(participation: Participation, person: User, count: int, position: int) -> list[Slot]:
    """What comes next; a person or campaign that may go no further has nothing next, which is no error here."""
    if count <= 0:
        return []
    try:
        return slots_top_up(participation, person, count=count, after=position)
    except (Denied, Gone):
        return []


def _campaign_of(slot: int) -> int:
    found = Slot.objects.filter(pk=slot).values_list("campaign_id", flat=True).first()
    if found is None:
        raise DomainError(f"There is no slot {slot}: lease one first.", field="slot")
    return found


def _record(participation: Participation, person: User, answer: Answer) -> tuple[Recorded, int]:
    """Record inside the transaction that holds the participation; returns the slot's position as well."""
    campaign = participation.campaign
    slot = statements.slot_read(answer.slot, campaign.pk)
    if slot is None:
        raise DomainError(f"There is no slot {answer.slot} in this campaign: reload the page.", field="slot")
    trial = slot.trial
    protocol = PROTOCOLS[campaign.protocol]
    value = protocol.clean_value(trial.classes, answer.kind, answer.value)
    viewing = viewing_clean(answer.viewing)
    _require_plausible(answer)
    is_live = campaign.state not in {CampaignState.CLOSED, CampaignState.DRAFT}
    if not (is_live and statements.slot_finish(slot.pk, person.pk)):
        return Recorded(_posted_before(campaign, slot, person, answer), created=False), slot.position
    viewing["sides"] = protocol.shown_order(trial.classes, seed=campaign.seed, person=person.pk, trial=trial.pk)
    judgement = Judgement(
        slot=slot,
        trial=trial,
        campaign=campaign,
        person=person,
        key=answer.key,
        kind=answer.kind,
        value=value,
        presented_at=answer.presented_at,
        milliseconds=answer.milliseconds,
        viewing=viewing,
    )
    statements.judgement_add(judgement)
    return Recorded(judgement, created=True, notice=_consequences(participation, trial, person)), slot.position


def _require_plausible(answer: Answer) -> None:
    if not 0 <= answer.milliseconds <= LONGEST_ANSWER:
        raise DomainError(
            f"milliseconds is {answer.milliseconds}: it must lie between 0 and {LONGEST_ANSWER}.", field="milliseconds"
        )
    if timezone.is_naive(answer.presented_at):
        raise DomainError("presented_at must carry a time zone.", field="presented_at")


def _posted_before(campaign: Campaign, slot: Slot, person: User, answer: Answer) -> Judgement:
    """The answer kept under this key; else the reason why the slot takes none from this person."""
    first = Judgement.objects.filter(key=answer.key).first()
    if first is not None and first.slot_id == slot.pk and first.person_id == person.pk:
        return first
    if first is not None:
        raise Conflict("This key was used for another answer: make a new one for each answer.")
    current = statements.slot_read(slot.pk, campaign.pk)  # read anew: it may have been handed on since
    raise _refusal(campaign, current or slot, person)


def _refusal(campaign: Campaign, slot: Slot, person: User) -> DomainError:
    """Why a slot cannot be answered by this person, in words for them."""
    if campaign.state == CampaignState.CLOSED:
        return Gone(f"“{campaign.name}” was closed meanwhile: this answer is not needed any more.")
    if campaign.state == CampaignState.DRAFT:
        return Denied(f"“{campaign.name}” has not been opened yet.")
    if slot.person_id == person.pk and slot.state == SlotState.DONE:
        return Conflict("You have answered this one already, perhaps in another window.")
    if slot.state == SlotState.VOID and slot.person_id in {person.pk, None}:
        return Gone("This picture was withdrawn meanwhile: no more answers about it are needed.")
    if slot.taken_from_id == person.pk:
        return Gone("This picture was handed on, because it had been yours for too long: the next one is waiting.")
    return Denied("This trial belongs to somebody else.")


def _consequences(participation: Participation, trial: Trial, person: User) -> str:
    """What follows from a new judgement on a locked trial; returns a notice for the person."""
    campaign = participation.campaign
    if trial.kind in SHARED_KINDS:
        trials_settle(campaign=campaign, trials=[trial])
    elif trial.kind == TrialKind.TRAINING:
        _training_follow(participation, person)
    elif trial.kind == TrialKind.GOLD:
        return _gold_follow(participation, person)
    return ""


def _training_follow(participation: Participation, person: User) -> None:
    """Note the end of the training when nothing of it is left."""
    trials = Trial.objects.filter(campaign=participation.campaign, kind=TrialKind.TRAINING)
    finished = Slot.objects.filter(person=person, state__in=[SlotState.DONE, SlotState.VOID]).values("trial")
    if participation.trained_at is None and not trials.exclude(pk__in=finished).exists():
        participation.trained_at = timezone.now()
        participation.save(update_fields=["trained_at"])


def gold_tally(campaign: Campaign, person: User) -> tuple[int, int]:
    """Gold answers of a person: how many were right, and how many there are."""
    rows = Judgement.objects.in_force().filter(campaign=campaign, person=person, trial__kind=TrialKind.GOLD)
    answers = list(rows.filter(kind="answer").values_list("value", "trial__expected"))
    matches = PROTOCOLS[campaign.protocol].matches
    return sum(matches(value, cast("dict[str, Any]", expected)) for value, expected in answers), len(answers)


def _gold_follow(participation: Participation, person: User) -> str:
    """Warn below the upper bar, stop below the lower one, once there are enough gold answers to say."""
    campaign = participation.campaign
    right, total = gold_tally(campaign, person)
    if total < campaign.gold_minimum:
        return ""
    share = right / total
    _, high = wilson(right, total)
    if share < campaign.gold_stop and float(high) < max(campaign.gold_warn, campaign.gold_stop):
        participation.stopped_at = timezone.now()
        participation.save(update_fields=["stopped_at"])
        slots_release(campaign=campaign, person=person)
        log.info("person_stopped", campaign=campaign.pk, person=person.pk, right=right, total=total)
        return "Some pictures have a known answer, and too many of yours differed: your part ends here. Thank you."
    if share < campaign.gold_warn:
        return "Some pictures have a known answer, and several of yours differed. Please take your time."
    return ""


@transaction.atomic
def judgement_undo(*, campaign: Campaign, person: User, key: UUID | None = None) -> Slot:
    """Supersede the person's latest answer and lease its slot to them again; reaches back ``UNDO_DEPTH`` answers.

    Args:
        key: of the answer that is meant; an undo posted twice then undoes once.

    Raises:
        Gone: nothing (more) can be undone, or the trial or campaign is over.
        Conflict: ``key`` is not the latest answer.
    """
    participation = participation_lock(campaign.pk, person)
    campaign = participation.campaign
    if campaign.state == CampaignState.CLOSED:
        raise Gone(f"“{campaign.name}” was closed: its answers stay as they are.")
    recent = list(Judgement.objects.filter(campaign=campaign, person=person).order_by("-pk")[:UNDO_DEPTH])
    if key is not None and (again := _undone_before(recent, person, key)):
        return again
    latest = next((judgement for judgement in recent if judgement.superseded_at is None), None)
    if latest is None:
        raise Gone(f"Nothing to undo: only the last {UNDO_DEPTH} answers can be taken back.")
    if key is not None and latest.key != key:
        raise Conflict("Only your latest answer can be taken back: reload the page.")
    trial = trials_lock([latest.trial_id])[0]
    _require_undoable(participation, trial)
    Judgement.objects.filter(pk=latest.pk, superseded_at=None).update(superseded_at=timezone.now())
    Slot.objects.filter(pk=latest.slot_id, state=SlotState.DONE).update(
        state=SlotState.LEASED,
        leased_until=timezone.now() + timedelta(seconds=campaign.lease_seconds),
    )
    if trial.kind in SHARED_KINDS:
        trials_settle(campaign=campaign, trials=[trial])
    log.info("judgement_undone", judgement=latest.pk, person=person.pk)
    return Slot.objects.select_related(*TRIAL_PICTURES).get(pk=latest.slot_id)


def _undone_before(recent: list[Judgement], person: User, key: UUID) -> Slot | None:
    """The slot that an earlier post of the same undo has leased again."""
    superseded = next((j for j in recent if j.key == key and j.superseded_at is not None), None)
    if superseded is None:
        return None
    held = Slot.objects.filter(pk=superseded.slot_id, person=person, state=SlotState.LEASED)
    return held.select_related(*TRIAL_PICTURES).first()


def _require_undoable(participation: Participation, trial: Trial) -> None:
    if trial.kind == TrialKind.TRAINING:
        raise Gone("Training answers stay as they are: the solution has been shown.")
    if trial.state == TrialState.DROPPED:
        raise Gone("This picture was withdrawn, because several people could not label it: nothing to undo.")
    if participation.is_excluded or participation.stopped_at:
        raise Gone("Your part in this campaign has ended: its answers stay as they are.")


@transaction.atomic
def slot_skip(*, slot: Slot | int, person: User) -> None:
    """Pass a trial on: the slot is open again for others, and the trial is not offered to this person again.

    Raises:
        Denied, Gone, Conflict: the slot is not the person's to skip, as in ``judgement_record``.
    """
    number = slot.pk if isinstance(slot, Slot) else slot
    campaign_id = slot.campaign_id if isinstance(slot, Slot) else _campaign_of(number)
    participation = participation_lock(campaign_id, person)
    row = Slot.objects.select_related("trial").get(pk=number)
    mine = Slot.objects.filter(pk=number, person=person, state=SlotState.LEASED)
    fields: dict[str, Any] = {"state": SlotState.VOID, "leased_until": None}
    if row.is_shared:
        fields = {"state": SlotState.OPEN, "leased_until": None, "person": None, "taken_from": person}
    if mine.update(**fields):
        Skip.objects.get_or_create(trial=row.trial, person=person)
        if row.trial.kind == TrialKind.TRAINING:
            _training_follow(participation, person)
    elif not Skip.objects.filter(trial=row.trial, person=person).exists():
        raise _refusal(participation.campaign, row, person)
