"""The researcher's side: campaigns, their people, verdicts, gold, invites, exports."""

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError
from accounts.models import User
from accounts.permissions import require_edit, require_researcher
from labeling.exports import ENDINGS, TABLES, export_stream
from labeling.forms import CampaignForm, ExcludeForm, InviteForm
from labeling.models import (
    Campaign,
    CampaignState,
    Exclusion,
    Invite,
    Judgement,
    Participation,
    Slot,
    SlotState,
    Trial,
    TrialKind,
    TrialState,
    VerdictOutcome,
)
from labeling.presentation import class_names
from labeling.querysets import SHARED_KINDS, exclusion_in_force
from labeling.reliability import agreement_report, people_report
from labeling.services import (
    campaign_close,
    campaign_create,
    campaign_open,
    campaign_pause,
    campaign_update,
    gold_add,
    gold_retire,
    invite_create,
    invite_revoke,
    person_exclude,
    person_restore,
    trial_drop,
)
from labeling.services.campaigns import FIXED_ONCE_OPEN

PER_PAGE = 48
MOVES = {"open": campaign_open, "pause": campaign_pause, "close": campaign_close}


def _person(request: HttpRequest) -> User:
    return cast("User", request.user)


def _campaign(request: HttpRequest, pk: int) -> Campaign:
    """A campaign that this person may see; unknown and hidden ones look alike."""
    return get_object_or_404(Campaign.objects.visible_to(_person(request)).with_taxonomy(), pk=pk)


def _editable(request: HttpRequest, campaign: Campaign) -> bool:
    return Campaign.objects.editable_by(_person(request)).filter(pk=campaign.pk).exists()


def _page(request: HttpRequest, rows: Any, size: int = PER_PAGE) -> Any:
    return Paginator(rows, size).get_page(request.GET.get("page"))


def _show(request: HttpRequest, name: str, campaign: Campaign, tab: str, **context: Any) -> HttpResponse:
    """A page of a campaign, with what all of them need."""
    shared = {"campaign": campaign, "tab": tab, "can_edit": _editable(request, campaign), "states": CampaignState}
    return render(request, f"labeling/{name}.html", {**shared, **context})


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Every campaign this person may see, newest first."""
    require_researcher(request.user, action="look at campaigns")
    page = _page(request, Campaign.objects.visible_to(_person(request)).with_progress())
    return render(request, "labeling/list.html", {"page": page})


@login_required
def create(request: HttpRequest) -> HttpResponse:
    """A new campaign, in draft."""
    require_researcher(request.user, action="make campaigns")
    form = CampaignForm(request.POST or None, by=_person(request))
    if form.is_bound and form.is_valid():
        try:
            campaign = campaign_create(by=_person(request), **form.cleaned_data)
        except DomainError as error:
            _form_error(form, error)
        else:
            messages.success(request, "The campaign is made. Add trials to it, then open it.")
            return redirect(campaign)
    return render(request, "labeling/create.html", {"form": form})


def _form_error(form: ModelForm, error: DomainError) -> None:
    form.add_error(error.field if error.field in form.fields else None, str(error))


@login_required
@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """How far a campaign is, how well people agree, and what to do next."""
    campaign = _campaign(request, pk)
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
    return _show(
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
        endings=list(ENDINGS),
        tables=list(TABLES),
    )


@login_required
def settings(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a campaign."""
    campaign = _campaign(request, pk)
    require_edit(_person(request), campaign, action="change")
    fixed = ("taxonomy",) if campaign.state == CampaignState.DRAFT else ("taxonomy", *FIXED_ONCE_OPEN)
    form = CampaignForm(request.POST or None, instance=campaign, by=_person(request), fixed=fixed)
    if form.is_bound and form.is_valid():
        changes = {name: form.cleaned_data[name] for name in form.changed_data if name != "taxonomy"}
        try:
            campaign_update(campaign=Campaign.objects.get(pk=pk), by=_person(request), **changes)
        except DomainError as error:
            _form_error(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect("labeling:settings", pk)
    history = campaign.history.select_related("history_user")[:10]
    return _show(request, "settings", campaign, "settings", form=form, history=history)


@login_required
@require_POST
def move(request: HttpRequest, pk: int) -> HttpResponse:
    """Open, pause or close a campaign."""
    campaign = _campaign(request, pk)
    verb = request.POST.get("to", "")
    if verb not in MOVES:
        raise DomainError(f'A campaign cannot "{verb}": choose from {", ".join(MOVES)}.')
    MOVES[verb](campaign=campaign, by=_person(request))
    messages.success(request, f"The campaign is {campaign.state} now.")
    return redirect(campaign)


@login_required
@require_GET
def people(request: HttpRequest, pk: int) -> HttpResponse:
    """Everybody who takes part: how much, how fast, how reliably."""
    campaign = _campaign(request, pk)
    reports = people_report(campaign)
    lifted = Exclusion.objects.filter(participation__campaign=campaign, lifted_at__isnull=False)
    past = lifted.select_related("participation__person", "created_by", "lifted_by").order_by("-lifted_at")[:20]
    return _show(request, "people", campaign, "people", reports=reports, form=ExcludeForm(), past=past)


@login_required
@require_POST
def exclude(request: HttpRequest, pk: int, part: int) -> HttpResponse:
    """Leave a person's judgements out."""
    row = get_object_or_404(
        Participation.objects.select_related("campaign", "person"), pk=part, campaign=_campaign(request, pk)
    )
    form = ExcludeForm(request.POST)
    if not form.is_valid():
        raise DomainError("Say why: the reason is kept with the exclusion.")
    person_exclude(participation=row, by=_person(request), **form.cleaned_data)
    messages.success(request, f"{row.person} is excluded; the verdicts were recomputed without them.")
    return redirect("labeling:people", pk)


@login_required
@require_POST
def restore(request: HttpRequest, pk: int, part: int) -> HttpResponse:
    """Count a person's judgements again."""
    exclusions = Exclusion.objects.filter(
        participation=part, participation__campaign=_campaign(request, pk), lifted_at=None
    )
    row = get_object_or_404(exclusions.select_related("participation__campaign", "participation__person"))
    person_restore(exclusion=row, by=_person(request))
    messages.success(request, f"{row.participation.person} counts again; the verdicts were recomputed.")
    return redirect("labeling:people", pk)


def _filtered(rows: QuerySet[Trial], request: HttpRequest) -> QuerySet[Trial]:
    outcome, kind = request.GET.get("outcome", ""), request.GET.get("kind", "")
    if outcome == TrialState.OPEN:
        rows = rows.filter(verdict__isnull=True)
    elif outcome in VerdictOutcome.values:
        rows = rows.filter(verdict__outcome=outcome)
    return rows.filter(kind=kind) if kind in TrialKind.values else rows.filter(kind__in=SHARED_KINDS)


def _described(trial: Trial, names: list[dict[str, Any]]) -> dict[str, Any]:
    """A trial with its questions in words: name, verdict, [yes, no]."""
    verdict = getattr(trial, "verdict", None)
    value = verdict.value if verdict else (trial.expected or {})
    counts = verdict.counts if verdict else {}
    questions = [
        {
            "index": index,
            "name": names[index]["name"],
            "gloss": names[index].get("gloss", ""),
            "verdict": value.get(str(index)),
            "counts": counts.get(str(index)),
        }
        for index in trial.classes
    ]
    return {"trial": trial, "verdict": verdict, "questions": questions}


@login_required
@require_GET
def verdicts(request: HttpRequest, pk: int) -> HttpResponse:
    """The gallery of trials with what people said."""
    campaign = _campaign(request, pk)
    rows = _filtered(Trial.objects.filter(campaign=campaign), request).select_related("item", "verdict")
    page = _page(request, rows.order_by("position", "pk"))
    names = class_names(campaign.taxonomy)
    query = request.GET.copy()
    query.pop("page", None)
    return _show(
        request,
        "verdicts",
        campaign,
        "verdicts",
        page=page,
        tiles=[_described(trial, names) for trial in page],
        outcome=request.GET.get("outcome", ""),
        kind=request.GET.get("kind", ""),
        outcomes=[("open", "Open"), *((value, label.split(":")[0]) for value, label in VerdictOutcome.choices)],
        kinds=[(kind.value, kind.label.split(":")[0]) for kind in TrialKind],
        query=query.urlencode(),
    )


def _trial(request: HttpRequest, pk: int, trial: int) -> Trial:
    campaign = _campaign(request, pk)
    row = get_object_or_404(Trial.objects.select_related("item__corpus", "verdict"), pk=trial, campaign=campaign)
    row.campaign = campaign
    return row


@login_required
@require_GET
def trial(request: HttpRequest, pk: int, trial: int) -> HttpResponse:
    """One trial: its picture, every judgement, its verdict; gold and drop."""
    row = _trial(request, pk, trial)
    names = class_names(row.campaign.taxonomy)
    judgements = (
        Judgement.objects.filter(trial=row)
        .select_related("person")
        .annotate(left_out=exclusion_in_force())
        .order_by("pk")
    )
    lines = [
        {
            "judgement": judgement,
            "seconds": judgement.milliseconds / 1000,
            "answers": [judgement.value.get(str(index)) for index in row.classes],
        }
        for judgement in judgements[:200]
    ]
    gold_row = Trial.objects.filter(
        campaign=row.campaign_id, item=row.item_id, classes=row.classes, kind=TrialKind.GOLD
    ).first()
    return _show(
        request,
        "trial",
        row.campaign,
        "verdicts",
        lines=lines,
        gold=gold_row,
        skips=row.skips.count(),
        can_drop=row.state == TrialState.OPEN and row.kind in SHARED_KINDS,
        **_described(row, names),
    )


@login_required
@require_POST
def gold(request: HttpRequest, pk: int, trial: int) -> HttpResponse:
    """Make a trial gold with the answer given, or retire gold."""
    row = _trial(request, pk, trial)
    if "retire" in request.POST:
        gold_retire(trial=row, by=_person(request))
        messages.success(request, "This gold trial is handed to nobody any more.")
    else:
        expected = {index: request.POST.get(f"class_{index}") == "yes" for index in row.classes}
        gold_add(trial=row, by=_person(request), expected=expected)
        messages.success(request, "This picture is gold now: people who have not judged it may get it as a check.")
    return redirect("labeling:trial", pk, trial)


@login_required
@require_POST
def drop(request: HttpRequest, pk: int, trial: int) -> HttpResponse:
    """Withdraw an open trial."""
    trial_drop(trial=_trial(request, pk, trial), by=_person(request))
    messages.success(request, "The trial is dropped.")
    return redirect("labeling:trial", pk, trial)


@login_required
def invites(request: HttpRequest, pk: int) -> HttpResponse:
    """Invite links: make, copy, revoke."""
    campaign = _campaign(request, pk)
    require_edit(_person(request), campaign, action="invite people to")
    form = InviteForm(request.POST or None)
    if form.is_bound and form.is_valid():
        try:
            invite_create(campaign=campaign, by=_person(request), **form.cleaned_data)
        except DomainError as error:
            _form_error(form, error)
        else:
            messages.success(request, "The invite is made: copy its link and send it.")
            return redirect("labeling:invites", pk)
    rows = [
        {"invite": row, "link": request.build_absolute_uri(reverse("labeling:invite", args=[row.code]))}
        for row in Invite.objects.filter(campaign=campaign).order_by("-pk")[:200]
    ]
    return _show(request, "invites", campaign, "invites", form=form, rows=rows)


@login_required
@require_POST
def revoke(request: HttpRequest, pk: int, invite: int) -> HttpResponse:
    """End an invite link."""
    row = get_object_or_404(Invite.objects.select_related("campaign"), pk=invite, campaign=_campaign(request, pk))
    invite_revoke(invite=row, by=_person(request))
    messages.success(request, "The invite is withdrawn.")
    return redirect("labeling:invites", pk)


@login_required
@require_GET
def export(request: HttpRequest, pk: int, table: str, ending: str) -> StreamingHttpResponse:
    """Judgements or verdicts as a file."""
    campaign = _campaign(request, pk)
    if table not in TABLES or ending not in ENDINGS:
        raise Http404(f"no export {table}.{ending}")
    return export_response(campaign, table, ending)


def export_response(campaign: Campaign, table: str, ending: str) -> StreamingHttpResponse:
    """A streamed download."""
    kind, name, blocks = export_stream(campaign, table, ending)
    response = StreamingHttpResponse(blocks, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
