"""The API's addresses under ``/api/v1/``: every app registers its view sets here."""

from django.urls import URLPattern, URLResolver, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import DefaultRouter

from accounts import schema  # noqa: F401 - registers how tokens are described
from competition.api import CompetitionViewSet, ExhibitViewSet, RoundViewSet
from corpora.api import CorpusViewSet, TaxonomyViewSet
from jobs.api import JobViewSet
from labeling.api import (
    CampaignViewSet,
    InviteViewSet,
    JudgementViewSet,
    ProtocolViewSet,
    SlotViewSet,
    TrialViewSet,
    VerdictViewSet,
)
from models_zoo.api import ModelViewSet, ScoresViewSet, VersionViewSet
from training.api import ComparisonViewSet, EditionViewSet, LabelledSetViewSet, MethodViewSet, RunViewSet

router = DefaultRouter()
router.register("models", ModelViewSet, basename="model")
router.register("versions", VersionViewSet, basename="version")
router.register("scores", ScoresViewSet, basename="scores")
router.register("jobs", JobViewSet, basename="job")
router.register("protocols", ProtocolViewSet, basename="protocol")
router.register("campaigns", CampaignViewSet, basename="campaign")
router.register("trials", TrialViewSet, basename="trial")
router.register("slots", SlotViewSet, basename="slot")
router.register("judgements", JudgementViewSet, basename="judgement")
router.register("verdicts", VerdictViewSet, basename="verdict")
router.register("invites", InviteViewSet, basename="invite")
router.register("corpora", CorpusViewSet, basename="corpus")
router.register("taxonomies", TaxonomyViewSet, basename="taxonomy")
router.register("methods", MethodViewSet, basename="method")
router.register("runs", RunViewSet, basename="run")
router.register("labelled-sets", LabelledSetViewSet, basename="labelled_set")
router.register("comparison", ComparisonViewSet, basename="comparison")
router.register("editions", EditionViewSet, basename="edition")
router.register("competitions", CompetitionViewSet, basename="competition")
router.register("rounds", RoundViewSet, basename="round")
router.register("exhibits", ExhibitViewSet, basename="exhibit")

app_name = "api"
urlpatterns: list[URLPattern | URLResolver] = [
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    # "Split" serves its script from an address of its own, which the content security policy allows.
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="api:schema"), name="docs"),
    *router.urls,
]
