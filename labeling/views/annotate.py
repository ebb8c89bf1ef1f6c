"""The annotator's side: invite link, consent, the labelling page and its requests, pictures, thanks.

The requests under ``label/<campaign>/`` speak JSON and are as lean as they can be: ``answer/`` records and leases what
comes next in one transaction.
"""

import json
import mimetypes
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, cast
from uuid import UUID

from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.templatetags.static import static
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError, Gone
from accounts.models import User
from accounts.services import preferences_update
from labeling.models import PICTURES, TRIAL_PICTURES, Campaign, CampaignState, Invite, Participation, Slot, SlotState
from labeling.presentation import (
    key_bindings,
    person_progress,
    person_state,
    person_statistics,
    trial_card,
    trial_cards,
)
from labeling.protocols import PROTOCOLS
from labeling.querysets import exclusion_in_force
from labeling.services import (
    Answer,
    consent_record,
    invite_check,
    judgement_undo,
    participation_ensure,
    participation_join,
    slot_skip,
    slots_lease,
    turn_take,
    viewing_record,
)
from labeling.throttling import joins_count

AHEAD = 3  # trials held and decoded ahead
LONGEST_KEY = 24
Endpoint = Callable[[HttpRequest, int, dict[str, Any]], dict[str, Any]]


def _person(request: HttpRequest) -> User:
    return cast("User", request.user)


# Pages


def invite(request: HttpRequest, code: str) -> HttpResponse:
    """Where an invite link leads: what it is about, and the button that takes part."""
    row = get_object_or_404(Invite.objects.select_related("campaign"), code=code)
    person = _person(request) if request.user.is_authenticated else None
    try:
        if person and Participation.objects.filter(campaign=row.campaign, person=person).exists():
            return redirect("labeling:label", row.campaign_id)
        invite_check(row)
        if request.method == "POST":
            joins_count(request)
            participation = participation_join(
                invite=row, person=person, display_name=request.POST.get("display_name", "")
            )
            if person is None:
                login(request, participation.person, backend="accounts.backends.AccountBackend")
            return redirect("labeling:label", row.campaign_id)
    except DomainError as error:
        return render(request, "labeling/over.html", {"title": "Invite", "error": error}, status=error.status_code)
    context = {"invite": row, "campaign": row.campaign, "protocol": PROTOCOLS[row.campaign.protocol]}
    return render(request, "labeling/invite.html", context)


@login_required
def mine(request: HttpRequest) -> HttpResponse:
    """The campaigns a person takes part in."""
    person = _person(request)
    parts = Participation.objects.filter(person=person).select_related("campaign").order_by("-campaign_id")
    joined = [part.campaign_id for part in parts]
    others = Campaign.objects.visible_to(person).filter(state=CampaignState.OPEN).exclude(pk__in=joined)[:20]
    return render(request, "labeling/mine.html", {"parts": parts, "others": others})


def _participation(campaign: Campaign, person: User) -> Participation:
    part = participation_ensure(campaign=campaign, person=person)
    part.is_excluded = Participation.objects.filter(pk=part.pk).filter(exclusion_in_force()).exists()
    part.campaign = campaign
    return part


@login_required
def label(request: HttpRequest, pk: int) -> HttpResponse:
    """Consent and instructions first; then the labelling page."""
    campaign = get_object_or_404(Campaign.objects.with_taxonomy(), pk=pk)
    person = _person(request)
    part = _participation(campaign, person)
    protocol = PROTOCOLS[campaign.protocol]
    asked: dict[str, Any] = {"campaign": campaign, "protocol_consent": protocol.fragment("consent")}
    if request.method == "POST":
        if campaign.consent and request.POST.get("agree") != "yes":
            return render(request, "labeling/consent.html", asked | {"missing": True}, status=400)
        consent_record(campaign=campaign, person=person)
        return redirect("labeling:label", pk)
    state = person_state(part)
    if state == CampaignState.DRAFT:
        context = {"title": campaign.name, "error": "This campaign has not been opened yet: come back later."}
        return render(request, "labeling/over.html", context)
    if state not in {CampaignState.OPEN, CampaignState.PAUSED}:
        return redirect("labeling:thanks", pk)
    if part.consented_at is None:
        return render(request, "labeling/consent.html", asked)
    variants = protocol.variants()
    every = {action.name: action for actions in variants.values() for action in actions}.values()
    setup = {
        "campaign": campaign.pk,
        "person": person.pk,
        "ahead": AHEAD,
        "requireViewing": campaign.require_viewing,
        "trained": part.trained_at is not None,
        "keys": key_bindings(person, every),
        "zoom": person.preferences.get("labelZoom"),
        "actions": {
            variant: [
                {"name": a.name, "label": a.label, "kind": a.kind, "code": a.code, "answer": a.answer} for a in actions
            ]
            for variant, actions in variants.items()
        },
        "protocol": protocol.name,
        "module": static(f"protocols/{protocol.name}/answer.js"),
        "question": campaign.question or protocol.question,
        "scale": protocol.scale(),
        "blockMinutes": campaign.block_minutes,
        "progress": person_progress(campaign=campaign, person=person),
    }
    context = {"campaign": campaign, "setup": setup, "protocol": protocol}
    return render(request, protocol.fragment("answer"), context)


@login_required
def thanks(request: HttpRequest, pk: int) -> HttpResponse:
    """What it was for, and what the person did."""
    campaign = get_object_or_404(Campaign.objects.with_taxonomy(), pk=pk)
    part = get_object_or_404(Participation, campaign=campaign, person=_person(request))
    statistics = person_statistics(campaign=campaign, person=_person(request))
    progress = person_progress(campaign=campaign, person=_person(request))
    agreement = round(100 * statistics["agreement"]) if statistics.get("agreement") is not None else None
    context = {
        "campaign": campaign,
        "part": part,
        "statistics": statistics,
        "agreement": agreement,
        "progress": progress,
        "protocol": PROTOCOLS[campaign.protocol],
    }
    return render(request, "labeling/thanks.html", context)


@login_required
@require_GET
def image(request: HttpRequest, pk: int, place: int) -> FileResponse:
    """A picture of a slot: for whoever holds or answered it, and for those who may see the campaign.

    The address names the slot alone, so that it tells nothing of the file.
    """
    person = _person(request)
    slot = get_object_or_404(Slot.objects.select_related(*TRIAL_PICTURES), pk=pk)
    holds = slot.person_id == person.pk and slot.state in {SlotState.LEASED, SlotState.DONE}
    if not holds and not Campaign.objects.visible_to(person).filter(pk=slot.campaign_id).exists():
        raise Http404("no such picture")
    item = getattr(slot.trial, PICTURES[place]) if place < len(PICTURES) else None
    if item is None:
        raise Http404("no such picture")
    file = item.image
    kind = mimetypes.guess_type(str(file.name))[0] or "application/octet-stream"
    response = FileResponse(file.open("rb"), content_type=kind)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, max-age=86400, immutable"
    response["Content-Disposition"] = "inline"
    return response


# Requests of the page


def endpoint(view: Endpoint) -> Callable[..., HttpResponse]:
    """A POST that takes and gives JSON; errors come as ``{"detail"}`` with the status of the error."""

    @wraps(view)
    @require_POST
    def answer(request: HttpRequest, pk: int) -> HttpResponse:
        if not request.user.is_authenticated:
            return JsonResponse({"detail": "You were logged out: log in again, your answers are kept."}, status=401)
        try:
            body = json.loads(request.body or b"{}")
        except ValueError:
            return JsonResponse({"detail": "The request is no JSON."}, status=400)
        if not isinstance(body, dict):
            return JsonResponse({"detail": "The request must be a JSON object."}, status=400)
        try:
            return JsonResponse(view(request, pk, body))
        except DomainError as error:
            return JsonResponse({"detail": str(error), "field": error.field}, status=error.status_code)

    return answer


def _integer(body: dict[str, Any], name: str, *, least: int, most: int, default: int | None = None) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DomainError(f"{name} must be a whole number from {least} to {most}.", field=name)
    return value


def _key(body: dict[str, Any]) -> UUID:
    try:
        return UUID(str(body["key"]))
    except (KeyError, ValueError):
        raise DomainError("key must be a UUID made for this answer.", field="key") from None


def _moment(body: dict[str, Any], name: str) -> datetime:
    try:
        moment = parse_datetime(str(body.get(name)))
    except ValueError:
        moment = None
    if moment is None:
        raise DomainError(f"{name} must be a time such as 2026-01-31T12:00:00.000Z.", field=name)
    return moment


def answer_of(body: dict[str, Any]) -> Answer:
    """The answer in a posted object."""
    return Answer(
        slot=_integer(body, "slot", least=1, most=2**62),
        kind=str(body.get("kind", "answer")),
        value=body.get("value", {}),
        key=_key(body),
        presented_at=_moment(body, "presented_at"),
        milliseconds=_integer(body, "milliseconds", least=-(2**31), most=2**31),
        viewing=body.get("viewing", {}),
    )


@endpoint
def answer(request: HttpRequest, pk: int, body: dict[str, Any]) -> dict[str, Any]:
    """Record an answer and lease what comes next."""
    person = _person(request)
    count = _integer(body, "count", least=0, most=8, default=AHEAD)
    turn = turn_take(campaign_id=pk, person=person, answer=answer_of(body), count=count)
    return {
        "recorded": {"slot": turn.recorded.judgement.slot_id, "created": turn.recorded.created},
        "notice": turn.recorded.notice,
        "state": person_state(turn.participation),
        "trials": trial_cards(turn.slots, campaign=turn.participation.campaign, person=person),
    }


@endpoint
def following(request: HttpRequest, pk: int, body: dict[str, Any]) -> dict[str, Any]:
    """What this person holds and what comes next; leases are renewed."""
    person = _person(request)
    campaign = get_object_or_404(Campaign.objects.with_taxonomy(), pk=pk)
    part = _participation(campaign, person)
    state = person_state(part)
    trials: list[dict[str, Any]] = []
    if state in {CampaignState.OPEN, CampaignState.PAUSED}:
        count = _integer(body, "count", least=0, most=8, default=AHEAD)
        slots = slots_lease(campaign=campaign, person=person, count=count)
        trials = trial_cards(slots, campaign=campaign, person=person)
    return {"state": state, "trials": trials, "progress": person_progress(campaign=campaign, person=person)}


@endpoint
def undo(request: HttpRequest, pk: int, body: dict[str, Any]) -> dict[str, Any]:
    """Take the latest answer back; its trial comes again."""
    person = _person(request)
    campaign = get_object_or_404(Campaign.objects.with_taxonomy(), pk=pk)
    slot = judgement_undo(campaign=campaign, person=person, key=_key(body) if body.get("key") else None)
    return {"trial": trial_card(slot, campaign=campaign, person=person)}


@endpoint
def skip(request: HttpRequest, pk: int, body: dict[str, Any]) -> dict[str, Any]:
    """Pass a trial on and lease what comes next."""
    person = _person(request)
    slot_skip(slot=_integer(body, "slot", least=1, most=2**62), person=person)
    campaign = get_object_or_404(Campaign.objects.with_taxonomy(), pk=pk)
    part = _participation(campaign, person)
    try:
        slots = slots_lease(
            campaign=campaign, person=person, count=_integer(body, "count", least=0, most=8, default=AHEAD)
        )
    except Gone:
        slots = []
    return {"state": person_state(part), "trials": trial_cards(slots, campaign=campaign, person=person)}


@endpoint
def viewing(request: HttpRequest, pk: int, body: dict[str, Any]) -> dict[str, Any]:
    """Keep the result of the viewing check."""
    campaign = get_object_or_404(Campaign.objects.with_taxonomy(), pk=pk)
    return {"warnings": viewing_record(campaign=campaign, person=_person(request), viewing=body)}


@endpoint
def preferences(request: HttpRequest, pk: int, body: dict[str, Any]) -> dict[str, Any]:
    """Remember a person's keys (all of them, no two alike) or picture size."""
    person = _person(request)
    changes: dict[str, Any] = {}
    if "keys" in body:
        campaign = get_object_or_404(Campaign.objects.only("protocol"), pk=pk)
        changes["keys"] = person.preferences.get("keys", {}) | _keys_clean(body["keys"], campaign.protocol)
    if "zoom" in body:
        if body["zoom"] not in {"natural", "fit"}:
            raise DomainError('zoom is "natural" or "fit".', field="zoom")
        changes["labelZoom"] = body["zoom"]
    preferences_update(user=person, **changes)
    return {"saved": sorted(changes)}


def _keys_clean(keys: object, protocol: str) -> dict[str, str]:
    """Key bindings as kept: one key per action, and no key twice among the actions of one trial."""
    variants = PROTOCOLS[protocol].variants().values()
    names = dict.fromkeys(action.name for actions in variants for action in actions)
    if not isinstance(keys, dict) or set(keys) - set(names):
        raise DomainError(f"keys must bind {', '.join(names)}.", field="keys")
    if not all(isinstance(code, str) and 0 < len(code) <= LONGEST_KEY and code.isalnum() for code in keys.values()):
        raise DomainError("Each key must be the name of a key position such as ArrowLeft or KeyC.", field="keys")
    for actions in variants:
        codes = [keys.get(action.name, action.code) for action in actions]
        doubled = next((code for code in codes if codes.count(code) > 1), None)
        if doubled:
            raise DomainError(f"{doubled} is bound to two actions: choose another key for one of them.", field="keys")
    return dict(keys)
