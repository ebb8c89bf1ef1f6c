"""What the researcher's pages share."""

from typing import Any, cast

from django.core.paginator import Paginator
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from accounts.errors import DomainError
from accounts.models import User
from labeling.models import Campaign, CampaignState
from labeling.protocols import PROTOCOLS

PER_PAGE = 48


def person_of(request: HttpRequest) -> User:
    return cast("User", request.user)


def campaign_of(request: HttpRequest, pk: int) -> Campaign:
    """A campaign that this person may see; unknown and hidden ones look alike."""
    return get_object_or_404(Campaign.objects.visible_to(person_of(request)).with_taxonomy(), pk=pk)


def paged(request: HttpRequest, rows: Any, size: int = PER_PAGE) -> Any:
    return Paginator(rows, size).get_page(request.GET.get("page"))


def show(request: HttpRequest, name: str, campaign: Campaign, tab: str, **context: Any) -> HttpResponse:
    """A page of a campaign, with what all of them need."""
    can_edit = Campaign.objects.editable_by(person_of(request)).filter(pk=campaign.pk).exists()
    shared = {
        "campaign": campaign,
        "protocol": PROTOCOLS[campaign.protocol],
        "tab": tab,
        "can_edit": can_edit,
        "states": CampaignState,
    }
    return render(request, f"labeling/{name}.html", {**shared, **context})


def form_error(form: BaseForm, error: DomainError) -> None:
    """Put a refusal beside the field that it names."""
    form.add_error(error.field if error.field in form.fields else None, str(error))
