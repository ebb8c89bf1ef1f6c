"""The first page: one click to everybody's work."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.models import User
from competition.models import Competition, RoundState
from corpora.models import Corpus
from jobs.models import Job
from labeling.models import Campaign, CampaignState
from models_zoo.models import Model, Version
from training.models import LabelledSet, Run

SHOWN = 8


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Campaigns to label; for researchers also competitions, running jobs and what there is."""
    user = request.user
    if not isinstance(user, User):
        return render(request, "competition/home.html", {})
    context: dict[str, Any] = {"campaigns": _to_label(user)}
    if user.is_researcher:
        context |= _research(user)
    return render(request, "competition/home.html", context)


def _to_label(user: User) -> list[Campaign]:
    """Open campaigns that the person takes part in, or may look at as a researcher; newest first."""
    joined = Campaign.objects.filter(participations__person=user)
    campaigns = joined | Campaign.objects.visible_to(user) if user.is_researcher else joined
    return list(campaigns.filter(state=CampaignState.OPEN).distinct().order_by("-id")[:SHOWN])


def _research(user: User) -> dict[str, Any]:
    visible = Competition.objects.visible_to(user)
    competitions = list(visible.with_round().order_by("-id")[:SHOWN])
    states = dict(RoundState.choices)
    for competition in competitions:
        competition.state_label = states.get(competition.round_state, "Not launched").split(":")[0]
    models = Model.objects.visible_to(user)
    return {
        "competitions": competitions,
        "jobs": list(Job.objects.visible_to(user).live()[:SHOWN]),
        "counts": {
            "competitions": visible.count(),
            "corpora": Corpus.objects.visible_to(user).count(),
            "models": models.count(),
            "versions": Version.objects.for_use().verified().filter(model__in=models).count(),
            "runs": Run.objects.visible_to(user).count(),
            "labelled_sets": LabelledSet.objects.visible_to(user).count(),
            "campaigns": Campaign.objects.visible_to(user).count(),
        },
    }
