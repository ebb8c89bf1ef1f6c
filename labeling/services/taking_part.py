"""Who takes part: invites, consent, the viewing check, exclusions."""

import re
from datetime import datetime
from typing import Any
from uuid import uuid4

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from accounts.errors import Conflict, Denied, DomainError, Gone
from accounts.models import Role, User
from accounts.permissions import require_edit
from labeling.models import (
    Campaign,
    CampaignState,
    Exclusion,
    Invite,
    Judgement,
    Participation,
    Sampling,
    Slot,
    SlotState,
)
from labeling.protocols import PROTOCOLS
from labeling.querysets import SHARED_KINDS, exclusion_in_force
from labeling.services.settling import trials_lock, trials_settle

log = structlog.get_logger()

MINIMUM_WINDOW = 320, 480  # CSS pixels; below, picture and class cards do not fit side by side or above each other
PAIR_WIDTH = 820  # CSS pixels; below, two pictures stand one above the other, or small (static/labeling/labeling.css)
VIEWING_NUMBERS = {
    "width": (1, 100_000),
    "height": (1, 100_000),
    "pixel_ratio": (0.1, 20),
    "zoom": (0.1, 20),
    "scale": (0.01, 100),
}
SESSION = re.compile(r"[0-9a-f]{8}")  # made by the page when it loads and after each break
VIEWING_WORDS = {"device": {"keyboard", "mouse", "touch", "program"}}


def viewing_clean(viewing: object) -> dict[str, Any]:
    """What is kept of the page's account of how a picture was seen; unknown entries are dropped.

    Raises:
        DomainError: when an entry has an impossible value.
    """
    if not isinstance(viewing, dict):
        raise DomainError("viewing must be an object.", field="viewing")
    kept: dict[str, Any] = {}
    for name, (low, high) in VIEWING_NUMBERS.items():
        if (value := viewing.get(name)) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise DomainError(
                f"viewing.{name} is {value!r}: it must be a number from {low} to {high}.", field="viewing"
            )
        kept[name] = value
    for name, known in VIEWING_WORDS.items():
        if (value := viewing.get(name)) is None:
            continue
        if value not in known:
            raise DomainError(f"viewing.{name} is {value!r}: it must be one of {sorted(known)}.", field="viewing")
        kept[name] = value
    if (session := viewing.get("session")) is not None:
        if not isinstance(session, str) or not SESSION.fullmatch(session):
            raise DomainError(f"viewing.session is {session!r}: it must be 8 hexadecimal digits.", field="viewing")
        kept["session"] = session
    return kept


def viewing_warnings(viewing: dict[str, Any], *, n_pictures: int = 1) -> list[str]:
    """What is wrong with a window for ``n_pictures`` side by side, in words for the person who looks through it."""
    warnings = []
    width, height = viewing.get("width", 0), viewing.get("height", 0)
    if width < MINIMUM_WINDOW[0] or height < MINIMUM_WINDOW[1]:
        least = f"{MINIMUM_WINDOW[0]} × {MINIMUM_WINDOW[1]}"
        warnings.append(f"The window is small ({width} × {height}): make it at least {least}.")
    elif n_pictures == 2 and width < PAIR_WIDTH:
        is_stacked = height > width
        how = "stand one above the other" if is_stacked else "have little room"
        better = f"Make it at least {PAIR_WIDTH} wide if you can."
        warnings.append(f"The window is narrow ({width} wide): the two pictures {how}. {better}")
    if abs(viewing.get("zoom", 1) - 1) > 0.01:
        warnings.append(f"The browser zooms to {viewing['zoom']:.0%}: set it back to 100 % (Ctrl+0).")
    return warnings


def invite_create(
    *, campaign: Campaign, by: User, quota: int = 20, expires_at: datetime | None = None, note: str = ""
) -> Invite:
    """Make a link that lets ``quota`` people take part without an account."""
    require_edit(by, campaign, action="invite people to")
    if quota < 1:
        raise DomainError("An invite is for at least one person.", field="quota")
    if expires_at is not None and expires_at <= timezone.now():
        raise DomainError("The invite would be over before it is sent: choose a later time.", field="expires_at")
    invite = Invite.objects.create(campaign=campaign, quota=quota, expires_at=expires_at, note=note, created_by=by)
    log.info("invite_created", campaign=campaign.pk, invite=invite.pk, quota=quota, by=by.pk)
    return invite


def invite_revoke(*, invite: Invite, by: User) -> None:
    """End a link at once; people who came by it stay."""
    require_edit(by, invite.campaign, action="revoke invites to")
    Invite.objects.filter(pk=invite.pk, revoked_at=None).update(revoked_at=timezone.now())
    log.info("invite_revoked", invite=invite.pk, by=by.pk)


def invite_check(invite: Invite) -> None:
    """Raise ``Gone`` with the reason when nobody can join by this link any more."""
    name = invite.campaign.name
    if invite.campaign.state in {CampaignState.CLOSED, CampaignState.COMPLETE}:
        raise Gone(f"“{name}” is over: every picture has been judged. Thank you for coming.")
    if invite.revoked_at:
        raise Gone(f"This invite to “{name}” was withdrawn: ask whoever sent it for another.")
    if invite.expires_at and invite.expires_at <= timezone.now():
        raise Gone(f"This invite to “{name}” has expired: ask whoever sent it for another.")
    if invite.used >= invite.quota:
        raise Gone(f"All places of this invite to “{name}” are taken: ask whoever sent it for another.")


@transaction.atomic
def participation_join(*, invite: Invite, person: User | None = None, display_name: str = "") -> Participation:
    """Take part by an invite; without an account, one that cannot log in with a password is made.

    A person who takes part already comes back without using up a place.

    Raises:
        Gone: the invite is used up, expired or withdrawn, or the campaign is over.
    """
    if person is not None:
        present = Participation.objects.filter(campaign=invite.campaign, person=person).first()
        if present:
            return present
    invite_check(invite)
    taken = Invite.objects.filter(pk=invite.pk, used__lt=F("quota"), revoked_at=None).update(used=F("used") + 1)
    if not taken:
        invite.refresh_from_db()
        invite_check(invite)
    if person is None:
        code = uuid4().hex[:16]
        name = display_name.strip()[:80] or f"Guest {code[:4]}"
        person = User(username=f"guest-{code}", display_name=name, role=Role.ANNOTATOR)
        person.set_unusable_password()
        person.save()
    log.info("participation_joined", campaign=invite.campaign_id, invite=invite.pk, person=person.pk)
    return Participation.objects.create(campaign_id=invite.campaign_id, person=person, invite=invite)


def participation_ensure(*, campaign: Campaign, person: User) -> Participation:
    """The person's part in the campaign; whoever may look at a campaign may take part without an invite.

    Raises:
        Denied: neither invited nor allowed to look at it.
    """
    present = Participation.objects.filter(campaign=campaign, person=person).first()
    if present:
        return present
    if not Campaign.objects.visible_to(person).filter(pk=campaign.pk).exists():
        raise Denied("You were not invited to this campaign: open the invite link that you were sent.")
    return Participation.objects.get_or_create(campaign=campaign, person=person)[0]


def consent_record(*, campaign: Campaign, person: User) -> None:
    """The person has read the instructions and agreed to what the campaign asks them to."""
    Participation.objects.filter(campaign=campaign, person=person, consented_at=None).update(
        consented_at=timezone.now()
    )


def viewing_record(*, campaign: Campaign, person: User, viewing: object) -> list[str]:
    """Keep the result of the viewing check; returns the warnings."""
    kept = viewing_clean(viewing)
    warnings = viewing_warnings(kept, n_pictures=PROTOCOLS[campaign.protocol].n_pictures)
    Participation.objects.filter(campaign=campaign, person=person).update(
        viewing={**kept, "warnings": warnings, "checked_at": timezone.now().isoformat()}
    )
    return warnings


def _judged_trials(participation: Participation) -> list[int]:
    rows = Judgement.objects.in_force().filter(
        campaign=participation.campaign_id, person=participation.person_id, trial__kind__in=SHARED_KINDS
    )
    return list(rows.values_list("trial_id", flat=True))


def slots_release(*, campaign: Campaign, person: User) -> None:
    """Hand back everything leased to a person: shared slots to others, their own are void."""
    held = Slot.objects.filter(campaign=campaign, person=person, state=SlotState.LEASED)
    held.filter(is_shared=True).update(state=SlotState.OPEN, person=None, leased_until=None, taken_from=person)
    held.filter(is_shared=False).update(state=SlotState.VOID, leased_until=None)


@transaction.atomic
def person_exclude(*, participation: Participation, reason: str, by: User, replace: bool = False) -> Exclusion:
    """Leave a person's judgements out of every verdict of the campaign, and hand them no more trials.

    Args:
        replace: require a judgement of somebody else for each one left out; otherwise verdicts rest on the others.
    """
    campaign = participation.campaign
    require_edit(by, campaign, action="exclude people from")
    if not reason.strip():
        raise DomainError("Say why: the reason is kept with the exclusion.", field="reason")
    Participation.objects.select_for_update(no_key=True).get(pk=participation.pk)
    try:
        with transaction.atomic():
            exclusion = Exclusion.objects.create(participation=participation, reason=reason.strip(), created_by=by)
    except IntegrityError:
        raise Conflict(f"{participation.person} is excluded already.") from None
    slots_release(campaign=campaign, person=participation.person)
    trials = trials_lock(_judged_trials(participation))
    if replace and campaign.sampling != Sampling.ACTIVE:  # active sampling asks again by itself
        _replacements_open(campaign, [trial for trial in trials if trial.state != "dropped"])
    trials_settle(campaign=campaign, trials=trials)
    log.info("person_excluded", campaign=campaign.pk, person=participation.person_id, by=by.pk, reason=reason)
    return exclusion


def _replacements_open(campaign: Campaign, trials: list[Any]) -> None:
    """Open as many slots as each trial lacks judgements that count."""
    slots = list(
        Slot.objects.filter(trial__in=[trial.pk for trial in trials], is_shared=True)
        .annotate(is_excluded=exclusion_in_force())
        .values_list("trial_id", "number", "state", "is_excluded")
    )
    rows = []
    for trial in trials:
        mine = [row for row in slots if row[0] == trial.pk]
        last = max(number for _, number, _, _ in mine)
        counting = sum(state in {"open", "leased"} or (state == "done" and not out) for _, _, state, out in mine)
        rows += [
            Slot(trial=trial, campaign=campaign, number=last + extra, position=trial.position)
            for extra in range(1, campaign.overlap - counting + 1)
        ]
    Slot.objects.bulk_create(rows)


@transaction.atomic
def person_restore(*, exclusion: Exclusion, by: User) -> None:
    """Count a person's judgements again."""
    participation = exclusion.participation
    campaign = participation.campaign
    require_edit(by, campaign, action="restore people to")
    lifted = Exclusion.objects.filter(pk=exclusion.pk, lifted_at=None).update(lifted_at=timezone.now(), lifted_by=by)
    if not lifted:
        raise Conflict(f"{participation.person} was restored already.")
    trials_settle(campaign=campaign, trials=trials_lock(_judged_trials(participation)))
    log.info("person_restored", campaign=campaign.pk, person=participation.person_id, by=by.pk)


def invites_usable() -> Q:
    """Invites that still let somebody in, whatever the state of their campaign."""
    return Q(revoked_at=None, used__lt=F("quota")) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
