"""The researcher's side: campaigns, their settings, invites and exports."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError
from accounts.permissions import require_edit, require_researcher
from labeling.exports import ENDINGS, export_stream, tables_of
from labeling.forms import CampaignForm, InviteForm
from labeling.models import (
    Campaign,
    CampaignState,
    Invite,
    Participation,
    Sampling,
    Slot,
    SlotState,
    Trial,
    TrialKind,
    VerdictOutcome,
)
from labeling.querysets import SHARED_KINDS
from labeling.reliability import agreement_report
from labeling.services import (
    campaign_close,
    campaign_create,
    campaign_open,
    campaign_pause,
    campaign_update,
    invite_create,
    invite_revoke,
)
from labeling.services.campaigns import FIXED_ONCE_OPEN
from labeling.services.settling import budget_left
from labeling.views.shared import campaign_of, form_error, paged, person_of, show

FIXED = ("protocol", "taxonomy")
MOVES = {"open": campaign_open, "pause": campaign_pause, "close": campaign_close}


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Every campaign this person may see, newest first."""
    require_researcher(request.user, action="look at campaigns")
    page = paged(request, Campaign.objects.visible_to(person_of(request)).with_progress())
    return render(request, "labeling/list.html", {"page": page})


@login_required
def create(request: HttpRequest) -> HttpResponse:
    """A new campaign, in draft."""
    require_researcher(request.user, action="make campaigns")
    form = CampaignForm(request.POST or None, by=person_of(request))
    if form.is_bound and form.is_valid():
        try:
            campaign = campaign_create(by=person_of(request), **form.given())
        except DomainError as error:
            form_error(form, error)
        else:
            messages.success(request, "The campaign is made. Say what to ask about, then open it.")
            is_active = campaign.sampling == Sampling.ACTIVE
            return redirect("labeling:candidates" if is_active else "labeling:add", campaign.pk)
    return render(request, "labeling/create.html", {"form": form})


@login_required
@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """How far a campaign is, how well people agree, and what to do next."""
    campaign = campaign_of(request, pk)
    trials = Trial.objects.filter(campaign=campaign)
    outcomes = dict(campaign.verdicts.order_by().values_list("outcome").annotate(n=Count("pk")))
    kinds = dict(trials.order_by().values_list("kind").annotate(n=Count("pk")))
    slots = dict(
        Slot.objects.filter(campaign=campaign, is_shared=True).order_by().values_list("state").annotate(n=Count("pk"))
    )
    parts = Participation.objects.filter(campaign=campaign)
    people = parts.aggregate(
        n=Count("pk"),
        stopped=Count("pk", filter=Q(stopped_at__isnull=False)),
        excluded=Count("pk", filter=Q(exclusions__lifted_at__isnull=True, exclusions__isnull=False)),
    )
    required = sum(n for state, n in slots.items() if state != SlotState.VOID)
    done = slots.get(SlotState.DONE, 0)
    n_trials = sum(kinds.get(kind, 0) for kind in SHARED_KINDS)
    return show(
        request,
        "detail",
        campaign,
        "overview",
        outcomes=[(value, label, outcomes.get(value, 0)) for value, label in VerdictOutcome.choices],
        kinds=[(kind.label.split(":")[0], kinds[kind]) for kind in TrialKind if kinds.get(kind)],
        n_trials=n_trials,
        n_ended=sum(outcomes.values()),
        required=required,
        done=done,
        leased=slots.get(SlotState.LEASED, 0),
        percent=100 * done / required if required else 0,
        people=people,
        agreement=agreement_report(campaign),
        **_sampling(campaign),
        endings=list(ENDINGS),
        tables=tables_of(campaign),
        has_excluded=bool(people["excluded"]),
    )


def _sampling(campaign: Campaign) -> dict[str, int]:
    """How far active sampling is; nothing for other campaigns."""
    if campaign.sampling != Sampling.ACTIVE:
        return {}
    return {"n_candidates": campaign.candidates.count(), "budget_left": budget_left(campaign)}


@login_required
def settings(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a campaign."""
    campaign = campaign_of(request, pk)
    require_edit(person_of(request), campaign, action="change")
    fixed = FIXED if campaign.state == CampaignState.DRAFT else (*FIXED, *FIXED_ONCE_OPEN)
    form = CampaignForm(request.POST or None, instance=campaign, by=person_of(request), fixed=fixed)
    if form.is_bound and form.is_valid():
        changes = {name: form.cleaned_data[name] for name in form.changed_data if name not in FIXED}
        try:
            campaign_update(campaign=Campaign.objects.get(pk=pk), by=person_of(request), **changes)
        except DomainError as error:
            form_error(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect("labeling:settings", pk)
    history = campaign.history.select_related("history_user")[:10]
    return show(request, "settings", campaign, "settings", form=form, history=history)


@login_required
@require_POST
def move(request: HttpRequest, pk: int) -> HttpResponse:
    """Open, pause or close a campaign."""
    campaign = campaign_of(request, pk)
    verb = request.POST.get("to", "")
    if verb not in MOVES:
        raise DomainError(f'A campaign cannot "{verb}": choose from {", ".join(MOVES)}.')
    MOVES[verb](campaign=campaign, by=person_of(request))
    messages.success(request, f"The campaign is {campaign.state} now.")
    return redirect(campaign)


@login_required
def invites(request: HttpRequest, pk: int) -> HttpResponse:
    """Invite links: make, copy, revoke."""
    campaign = campaign_of(request, pk)
    require_edit(person_of(request), campaign, action="invite people to")
    form = InviteForm(request.POST or None)
    if form.is_bound and form.is_valid():
        try:
            invite_create(campaign=campaign, by=person_of(request), **form.cleaned_data)
        except DomainError as error:
            form_error(form, error)
        else:
            messages.success(request, "The invite is made: copy its link and send it.")
            return redirect("labeling:invites", pk)
    rows = [
        {"invite": row, "link": request.build_absolute_uri(reverse("labeling:invite", args=[row.code]))}
        for row in Invite.objects.filter(campaign=campaign).order_by("-pk")[:200]
    ]
    return show(request, "invites", campaign, "invites", form=form, rows=rows)


@login_required
@require_POST
def revoke(request: HttpRequest, pk: int, invite: int) -> HttpResponse:
    """End an invite link."""
    row = get_object_or_404(Invite.objects.select_related("campaign"), pk=invite, campaign=campaign_of(request, pk))
    invite_revoke(invite=row, by=person_of(request))
    messages.success(request, "The invite is withdrawn.")
    return redirect("labeling:invites", pk)


@login_required
@require_GET
def export(request: HttpRequest, pk: int, table: str, ending: str) -> StreamingHttpResponse:
    """One of the campaign's tables as a file; ``?people=all`` counts excluded people as well."""
    campaign = campaign_of(request, pk)
    if table not in tables_of(campaign) or ending not in ENDINGS:
        raise Http404(f"no export {table}.{ending}")
    return export_response(campaign, table, ending, everyone=request.GET.get("people") == "all")


def export_response(campaign: Campaign, table: str, ending: str, *, everyone: bool) -> StreamingHttpResponse:
    """A streamed download."""
    kind, name, blocks = export_stream(campaign, table, ending, everyone=everyone)
    response = StreamingHttpResponse(blocks, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
