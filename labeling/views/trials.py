"""The trials of a campaign: the gallery, one trial with its judgements, gold, and adding trials by hand."""

from collections import Counter
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError
from accounts.permissions import require_edit
from labeling.forms import CandidatesForm, TrialsForm
from labeling.listing import list_read
from labeling.models import (
    PICTURES,
    Campaign,
    Candidate,
    Judgement,
    JudgementKind,
    Trial,
    TrialKind,
    TrialState,
    VerdictOutcome,
)
from labeling.presentation import class_names
from labeling.protocols import PROTOCOLS
from labeling.querysets import SHARED_KINDS, exclusion_in_force
from labeling.services import candidates_add, gold_add, gold_retire, rows_ask, trial_drop
from labeling.views.shared import campaign_of, form_error, paged, person_of, show

MOST_LINES = 200
MOST_SHOWN = 12
PICTURE_NAMES = {"item": "A", "second": "B", "reference": "Reference"}


def _filtered(rows: QuerySet[Trial], request: HttpRequest) -> QuerySet[Trial]:
    outcome, kind = request.GET.get("outcome", ""), request.GET.get("kind", "")
    if outcome == TrialState.OPEN:
        rows = rows.filter(verdict__isnull=True)
    elif outcome in VerdictOutcome.values:
        rows = rows.filter(verdict__outcome=outcome)
    return rows.filter(kind=kind) if kind in TrialKind.values else rows.filter(kind__in=SHARED_KINDS)


def _pictures(trial: Trial) -> list[dict[str, Any]]:
    """The pictures of a trial by place, with what researchers call them."""
    names = PICTURE_NAMES if trial.second_id else {**PICTURE_NAMES, "item": "Picture"}
    items = ((names[place], getattr(trial, place)) for place in PICTURES)
    return [{"name": name, "item": item} for name, item in items if item is not None]


def _described(campaign: Campaign, trial: Trial) -> dict[str, Any]:
    """A trial with its pictures and what people said, as the fragments of its protocol show it."""
    verdict = getattr(trial, "verdict", None)
    protocol = PROTOCOLS[campaign.protocol]
    value = verdict.value if verdict else (trial.expected or {})
    said = protocol.described(trial.classes, value, verdict.counts if verdict else {}, class_names(campaign.taxonomy))
    return {"trial": trial, "verdict": verdict, "pictures": _pictures(trial), "said": said}


@login_required
@require_GET
def verdicts(request: HttpRequest, pk: int) -> HttpResponse:
    """The gallery of trials with what people said."""
    campaign = campaign_of(request, pk)
    rows = _filtered(Trial.objects.filter(campaign=campaign), request).select_related(*PICTURES, "verdict")
    page = paged(request, rows.order_by("position", "pk"))
    query = request.GET.copy()
    query.pop("page", None)
    return show(
        request,
        "verdicts",
        campaign,
        "verdicts",
        page=page,
        tiles=[_described(campaign, trial) for trial in page],
        fragment=PROTOCOLS[campaign.protocol].fragment("tile"),
        outcome=request.GET.get("outcome", ""),
        kind=request.GET.get("kind", ""),
        outcomes=[("open", "Open"), *((value, label.split(":")[0]) for value, label in VerdictOutcome.choices)],
        kinds=[(kind.value, kind.label.split(":")[0]) for kind in TrialKind],
        query=query.urlencode(),
    )


def _trial(request: HttpRequest, pk: int, trial: int) -> Trial:
    campaign = campaign_of(request, pk)
    rows = Trial.objects.select_related(*PICTURES, *(f"{place}__corpus" for place in PICTURES), "verdict")
    row = get_object_or_404(rows, pk=trial, campaign=campaign)
    row.campaign = campaign
    return row


def _line(campaign: Campaign, judgement: Judgement) -> dict[str, Any]:
    """A judgement in words."""
    protocol, names = PROTOCOLS[campaign.protocol], class_names(campaign.taxonomy)
    is_answer = judgement.kind == JudgementKind.ANSWER
    return {
        "judgement": judgement,
        "seconds": judgement.milliseconds / 1000,
        "answer": protocol.words(judgement.value, names) if is_answer else "",
        "sides": protocol.sides(judgement.viewing["sides"], names) if judgement.viewing.get("sides") else "",
    }


@login_required
@require_GET
def trial(request: HttpRequest, pk: int, trial: int) -> HttpResponse:
    """One trial: its pictures, every judgement, its verdict; gold and drop."""
    row = _trial(request, pk, trial)
    campaign, protocol = row.campaign, PROTOCOLS[row.campaign.protocol]
    judgements = (
        Judgement.objects.filter(trial=row)
        .select_related("person")
        .annotate(left_out=exclusion_in_force())
        .order_by("pk")
    )
    lines = [_line(campaign, judgement) for judgement in judgements[:MOST_LINES]]
    same = Trial.objects.filter(campaign=campaign, item=row.item_id, second=row.second_id, classes=row.classes)
    return show(
        request,
        "trial",
        campaign,
        "verdicts",
        lines=lines,
        has_sides=any(line["sides"] for line in lines),
        gold=same.filter(kind=TrialKind.GOLD).first(),
        skips=row.skips.count(),
        can_drop=row.state == TrialState.OPEN and row.kind in SHARED_KINDS,
        verdict_fragment=protocol.fragment("verdict"),
        expected_fragment=protocol.fragment("expected"),
        **_described(campaign, row),
    )


@login_required
@require_POST
def gold(request: HttpRequest, pk: int, trial: int) -> HttpResponse:
    """Make a trial gold with the answers given, or retire gold."""
    row = _trial(request, pk, trial)
    if "retire" in request.POST:
        gold_retire(trial=row, by=person_of(request))
        messages.success(request, "This gold trial is handed to nobody any more.")
        return redirect("labeling:trial", pk, trial)
    expected = PROTOCOLS[row.campaign.protocol].expected_posted(row.classes, request.POST.dict())
    gold_add(trial=row, by=person_of(request), expected=expected)
    messages.success(request, "This is gold now: people who have not judged it may get it as a check.")
    return redirect("labeling:trial", pk, trial)


@login_required
@require_POST
def drop(request: HttpRequest, pk: int, trial: int) -> HttpResponse:
    """Withdraw an open trial."""
    trial_drop(trial=_trial(request, pk, trial), by=person_of(request))
    messages.success(request, "The trial is dropped.")
    return redirect("labeling:trial", pk, trial)


@login_required
def add(request: HttpRequest, pk: int) -> HttpResponse:
    """Add trials by hand: rows of a corpus or an uploaded list become a list that is checked, shown and then added."""
    campaign = campaign_of(request, pk)
    require_edit(person_of(request), campaign, action="add trials to")
    form = TrialsForm(request.POST or None, request.FILES or None, campaign=campaign, by=person_of(request))
    listed = None
    if form.is_bound and form.is_valid():
        corpus = form.cleaned_data["corpus"]
        try:
            text = form.list_text()
            listed = list_read(campaign, corpus, text)
            if "confirm" in request.POST and not listed.problems:
                made = rows_ask(campaign=campaign, corpus=corpus, asked=listed.specs, by=person_of(request))
                messages.success(request, f"{len(set(made))} trials are in the campaign now.")
                return redirect(campaign)
        except DomainError as error:
            form_error(form, error)
        else:
            form = TrialsForm(initial={"corpus": corpus, "list": text}, campaign=campaign, by=person_of(request))
    kinds = Counter(spec.kind for spec in listed.specs) if listed else {}
    shown = (
        [{"spec": spec, "paths": [listed.paths[row] for row in spec.rows]} for spec in listed.specs[:MOST_SHOWN]]
        if listed
        else []
    )
    return show(request, "add", campaign, "add", form=form, listed=listed, kinds=dict(kinds), shown=shown)


@login_required
def candidates(request: HttpRequest, pk: int) -> HttpResponse:
    """What active sampling compares: the candidates by scene, and more of them."""
    campaign = campaign_of(request, pk)
    require_edit(person_of(request), campaign, action="add candidates to")
    form = CandidatesForm(request.POST or None, by=person_of(request))
    if form.is_bound and form.is_valid():
        try:
            made = candidates_add(campaign=campaign, by=person_of(request), **form.given())
        except DomainError as error:
            form_error(form, error)
        else:
            messages.success(request, f"{made} candidates are new.")
            return redirect("labeling:candidates", pk)
    rows = Candidate.objects.filter(campaign=campaign).select_related("item").order_by("scene", "item_id")
    return show(request, "candidates", campaign, "add", form=form, page=paged(request, rows))
