"""Who judges what next.

A slot is claimed by a conditional UPDATE (statements.CLAIM): of any number of people who want the last one, exactly one
gets it, and on PostgreSQL people do not wait for each other. All requests of one person run one after the other,
because each locks that person's participation first.
"""

from datetime import datetime, timedelta
from hashlib import blake2b
from random import Random

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from accounts.errors import Denied, Gone
from accounts.models import User
from labeling.models import (
    PICTURES,
    Campaign,
    CampaignState,
    Judgement,
    Participation,
    Slot,
    SlotState,
    Trial,
    TrialKind,
)
from labeling.services import statements

MOST_HELD = 8  # trials one person may hold ahead
REPEAT_GAP = 8  # answers between a trial and its repeat


def participation_lock(campaign_id: int, person: User) -> Participation:
    """The person's part with its campaign, locked until the transaction ends.

    Raises:
        Denied: takes no part.
    """
    participation = statements.participation_locked(campaign_id, person.pk)
    if participation is None:
        raise Denied("You take no part in this campaign: open the invite link that you were sent.")
    return participation


def _require_may_label(participation: Participation) -> None:
    campaign = participation.campaign
    if campaign.state == CampaignState.DRAFT:
        raise Denied(f"“{campaign.name}” has not been opened yet: come back later.")
    if campaign.state == CampaignState.CLOSED:
        raise Gone(f"“{campaign.name}” was closed: no more answers are needed. Thank you.")
    if participation.consented_at is None:
        raise Denied("Agree to take part first: open the campaign's page.")
    if participation.is_excluded or participation.stopped_at:
        raise Gone(f"Your part in “{campaign.name}” has ended. Thank you for your time.")
    if campaign.require_viewing and participation.viewing.get("warnings", ["not checked"]):
        raise Denied("Your window has not passed the viewing check: follow its advice and check again.")


@transaction.atomic
def slots_lease(*, campaign: Campaign, person: User, count: int = 3) -> list[Slot]:
    """Make sure that the person holds ``count`` trials, as far as there are any for them, and renew those they hold.

    Returns:
        What they hold, in the order in which it should be shown; ``slot.trial.item`` is loaded.

    Raises:
        Denied, Gone: they may not label here (any more), in words.
    """
    participation = participation_lock(campaign.pk, person)
    Slot.objects.filter(campaign=campaign, person=person, state=SlotState.LEASED).update(
        leased_until=_lease_end(participation.campaign)
    )
    return slots_top_up(participation, person, count=count)


def slots_top_up(participation: Participation, person: User, *, count: int, after: int = -1) -> list[Slot]:
    """``slots_lease`` inside a transaction that holds the participation; ``after`` hints at where to look first."""
    _require_may_label(participation)
    campaign = participation.campaign
    held = statements.held_count(campaign.pk, person.pk)
    wanted = min(count, MOST_HELD) - held
    if campaign.state == CampaignState.OPEN and wanted > 0:
        _lease_more(participation, person, held, wanted, after)
    return statements.held_read(campaign.pk, person.pk)


def _lease_more(participation: Participation, person: User, held: int, wanted: int, after: int) -> None:
    """Lease up to ``wanted`` trials to a person who holds ``held``; real ones only once the training is answered."""
    campaign = participation.campaign
    if participation.trained_at is None:
        if _training_slots(participation, person, wanted) or held:
            return
        participation.trained_at = timezone.now()
        participation.save(update_fields=["trained_at"])
    served = participation.served
    while participation.served < served + wanted and _next_slot(participation, person, after):
        participation.served += 1
    if participation.served != served and (campaign.gold_share or campaign.repeat_share):
        participation.save(update_fields=["served"])


def _lease_end(campaign: Campaign) -> datetime:
    return timezone.now() + timedelta(seconds=campaign.lease_seconds)


def _draw(*parts: object) -> Random:
    """A generator that depends on these values alone."""
    return Random(blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest())


def is_scheduled(*, share: float, served: int, seed: int, person: int, what: str) -> bool:
    """Whether the trial number ``served`` (from 0) of this person is of the special kind ``what``.

    One place in every block of ``round(1 / share)`` trials is drawn, so the share is kept and the place is not known.
    """
    if share <= 0:
        return False
    length = max(2, round(1 / share))
    block, place = divmod(served, length)
    return place == _draw(seed, person, what, block).randrange(length)


def _next_slot(participation: Participation, person: User, after: int) -> bool:
    """Lease one more trial to the person: gold or a repeat where it is their turn, else a shared one."""
    campaign = participation.campaign
    for what, share, take in (
        ("gold", campaign.gold_share, _gold_slot),
        ("repeat", campaign.repeat_share, _repeat_slot),
    ):
        is_turn = is_scheduled(
            share=share, served=participation.served, seed=campaign.seed, person=person.pk, what=what
        )
        if is_turn and take(campaign, person):
            return True
    return _shared_slot(campaign, person, after)


def _shared_slot(campaign: Campaign, person: User, after: int) -> bool:
    """Lease a shared slot: an open one behind ``after``, else any open one, else one whose lease ran out."""
    until = _lease_end(campaign)
    return (
        (after >= 0 and statements.slot_claim_open(campaign.pk, person.pk, until, after=after))
        or statements.slot_claim_open(campaign.pk, person.pk, until)
        or statements.slot_claim_run_out(campaign.pk, person.pk, until, now=timezone.now())
    )


def _own_slot(campaign: Campaign, trial: Trial, person: User) -> Slot:
    return Slot.objects.create(
        trial=trial,
        campaign=campaign,
        number=0,
        position=trial.position,
        state=SlotState.LEASED,
        person=person,
        leased_until=_lease_end(campaign),
        is_shared=False,
    )


def _training_slots(participation: Participation, person: User, wanted: int) -> list[Slot]:
    campaign = participation.campaign
    trials = Trial.objects.filter(campaign=campaign, kind=TrialKind.TRAINING).exclude(slots__person=person)
    chosen = trials.select_related(*PICTURES).order_by("position", "pk")[:wanted]
    return [_own_slot(campaign, trial, person) for trial in chosen]


def _gold_slot(campaign: Campaign, person: User) -> Slot | None:
    """A gold trial that the person has not had and whose question they have not been asked as an ordinary one."""
    own = Slot.objects.filter(campaign=campaign, person=person)
    same = own.filter(trial__item=OuterRef("item")).filter(Q(trial__second=OuterRef("second")) | Q(trial__second=None))
    trials = Trial.objects.filter(campaign=campaign, kind=TrialKind.GOLD, state="open").exclude(Exists(same))
    ids = list(trials.order_by("pk").values_list("pk", flat=True))
    if not ids:
        return None
    chosen = _draw(campaign.seed, person.pk, "which gold", len(ids)).choice(ids)
    return _own_slot(campaign, Trial.objects.select_related(*PICTURES).get(pk=chosen), person)


def _repeat_slot(campaign: Campaign, person: User) -> Slot | None:
    """One of the person's own earlier trials for a second time, at least ``REPEAT_GAP`` answers later."""
    repeated = Slot.objects.filter(campaign=campaign, person=person, trial__kind=TrialKind.REPEAT)
    rows = Judgement.objects.in_force().filter(campaign=campaign, person=person, trial__kind=TrialKind.ORDINARY)
    earlier = list(rows.order_by("-pk").values_list("trial_id", flat=True)[REPEAT_GAP : REPEAT_GAP + 50])
    done = set(repeated.values_list("trial__repeat_of", flat=True))
    choices = [trial for trial in earlier if trial not in done]
    if not choices:
        return None
    original = Trial.objects.get(pk=_draw(campaign.seed, person.pk, "which repeat", len(done)).choice(choices))
    trial, _ = Trial.objects.get_or_create(
        campaign=campaign,
        item_id=original.item_id,
        second_id=original.second_id,
        kind=TrialKind.REPEAT,
        classes=original.classes,
        defaults={"position": original.position, "repeat_of": original, "reference_id": original.reference_id},
    )
    return _own_slot(campaign, trial, person)
