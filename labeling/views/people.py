"""The people of a campaign: how reliable they are, excluding and restoring them."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError
from labeling.charts import answer_pictures, people_plot
from labeling.forms import ExcludeForm
from labeling.models import Exclusion, Participation
from labeling.protocols import PROTOCOLS
from labeling.reliability import agreement_report, crowd_report
from labeling.services import person_exclude, person_restore
from labeling.views.shared import campaign_of, person_of, show

OPTIONAL = ("gold", "repeats", "difference", "others", "correlation", "bias", "far", "left")  # columns shown when known


@login_required
@require_GET
def people(request: HttpRequest, pk: int) -> HttpResponse:
    """Everybody who takes part: how much, how fast, how reliably."""
    campaign = campaign_of(request, pk)
    crowd = crowd_report(campaign)
    pictures = answer_pictures(crowd.people, PROTOCOLS[campaign.protocol])
    lifted = Exclusion.objects.filter(participation__campaign=campaign, lifted_at__isnull=False)
    past = lifted.select_related("participation__person", "created_by", "lifted_by").order_by("-lifted_at")[:20]
    return show(
        request,
        "people",
        campaign,
        "people",
        rows=[{"report": report, "pictures": pictures.get(report.participation.pk)} for report in crowd.people],
        has={name: any(getattr(report, name) is not None for report in crowd.people) for name in OPTIONAL},
        notes=crowd.notes,
        plot=people_plot(crowd.people),
        agreement=agreement_report(campaign),
        past=past,
    )


@login_required
@require_POST
def exclude(request: HttpRequest, pk: int, part: int) -> HttpResponse:
    """Leave a person's judgements out."""
    row = get_object_or_404(
        Participation.objects.select_related("campaign", "person"), pk=part, campaign=campaign_of(request, pk)
    )
    form = ExcludeForm(request.POST)
    if not form.is_valid():
        raise DomainError("Say why: the reason is kept with the exclusion.")
    person_exclude(participation=row, by=person_of(request), **form.cleaned_data)
    messages.success(request, f"{row.person} is excluded; the verdicts were recomputed without them.")
    return redirect("labeling:people", pk)


@login_required
@require_POST
def restore(request: HttpRequest, pk: int, part: int) -> HttpResponse:
    """Count a person's judgements again."""
    exclusions = Exclusion.objects.filter(
        participation=part, participation__campaign=campaign_of(request, pk), lifted_at=None
    )
    row = get_object_or_404(exclusions.select_related("participation__campaign", "participation__person"))
    person_restore(exclusion=row, by=person_of(request))
    messages.success(request, f"{row.participation.person} counts again; the verdicts were recomputed.")
    return redirect("labeling:people", pk)
