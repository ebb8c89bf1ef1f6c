"""Campaigns for programs: everything that the pages do, for researchers and for annotators."""

from collections import defaultdict
from typing import Any, cast

from django.db import transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.errors import DomainError
from accounts.models import Scope, User
from accounts.services import token_create
from corpora.models import Corpus, Taxonomy
from labeling.exports import ENDINGS, TABLES
from labeling.models import (
    Campaign,
    Candidate,
    Exclusion,
    Invite,
    Judgement,
    Participation,
    Slot,
    Trial,
    TrialKind,
    Verdict,
)
from labeling.presentation import person_progress, person_state, person_statistics, trial_card, trial_cards
from labeling.protocols import PROTOCOLS
from labeling.protocols.base import Protocol
from labeling.querysets import exclusion_in_force
from labeling.reliability import agreement_report, crowd_report, person_row
from labeling.results import Line, Names, compares, opinion_scores, rates, scales
from labeling.services import (
    Answer,
    RowSpec,
    campaign_close,
    campaign_create,
    campaign_open,
    campaign_pause,
    campaign_update,
    candidates_add,
    consent_record,
    gold_add,
    gold_retire,
    invite_create,
    invite_revoke,
    judgement_undo,
    participation_ensure,
    participation_join,
    person_exclude,
    person_restore,
    rows_ask,
    slot_skip,
    slots_lease,
    trial_drop,
    turn_take,
    viewing_record,
)
from labeling.services.campaigns import SETTINGS
from labeling.services.settling import budget_left
from labeling.throttling import joins_count
from labeling.views.campaigns import export_response

TOKEN_DAYS = 90


def _user(request: Request) -> User:
    return cast("User", request.user)


class CampaignSerializer(serializers.ModelSerializer[Campaign]):
    n_trials = serializers.IntegerField(read_only=True, help_text="Ordinary and control trials")
    n_ended = serializers.IntegerField(read_only=True, help_text="… of them settled, undecided or dropped")
    n_required = serializers.IntegerField(read_only=True, help_text="Judgements required")
    n_done = serializers.IntegerField(read_only=True, help_text="… of them given")

    class Meta:
        model = Campaign
        fields = [
            "id", "name", "protocol", "taxonomy", "state", *SETTINGS, "created_at", "opened_at", "completed_at",
            "n_trials", "n_ended", "n_required", "n_done",
        ]  # fmt: skip
        read_only_fields = ["state", "created_at", "opened_at", "completed_at"]


class TrialSerializer(serializers.ModelSerializer[Trial]):
    row = serializers.IntegerField(source="item.row", read_only=True)
    note = serializers.CharField(read_only=True, help_text="What is odd about the pictures of a pair, if anything")
    corpus = serializers.IntegerField(source="item.corpus_id", read_only=True)

    class Meta:
        model = Trial
        fields = [
            "id", "kind", "state", "position", "item", "corpus", "row", "second", "reference", "classes", "expected",
            "explanation", "repeat_of", "note",
        ]  # fmt: skip
        read_only_fields = fields


class TrialSpecSerializer(serializers.Serializer[Any]):
    corpus = serializers.PrimaryKeyRelatedField(queryset=Corpus.objects.all())
    row = serializers.IntegerField(min_value=0)
    second = serializers.IntegerField(
        min_value=0, required=False, allow_null=True, default=None, help_text="Row of the second picture of a pair"
    )
    reference = serializers.IntegerField(
        min_value=0, required=False, allow_null=True, default=None, help_text="Row of a picture shown beside them"
    )
    classes = serializers.ListField(child=serializers.IntegerField(), required=False, default=list, max_length=2)
    kind = serializers.ChoiceField(choices=[kind for kind in TrialKind.values if kind != "repeat"], default="ordinary")
    expected = serializers.DictField(
        required=False,
        allow_null=True,
        default=None,
        help_text="{class index: true|false}, or the zone of right answers {low, high}",
    )
    explanation = serializers.CharField(required=False, allow_blank=True, default="")


class GoldSerializer(serializers.Serializer[Any]):
    expected = serializers.DictField(required=False, help_text="As in a trial; the verdict when absent")


class VerdictSerializer(serializers.ModelSerializer[Verdict]):
    classes = serializers.JSONField(source="trial.classes", read_only=True)
    kind = serializers.CharField(source="trial.kind", read_only=True)
    item = serializers.IntegerField(source="trial.item_id", read_only=True)

    class Meta:
        model = Verdict
        fields = [
            "id", "campaign", "trial", "kind", "item", "classes", "outcome", "value", "counts", "n_judgements",
            "n_cannot_tell", "n_broken", "settled_at",
        ]  # fmt: skip
        read_only_fields = fields


class JudgementSerializer(serializers.ModelSerializer[Judgement]):
    excluded = serializers.BooleanField(source="left_out", read_only=True, help_text="Its person is excluded")

    class Meta:
        model = Judgement
        fields = [
            "id", "campaign", "trial", "slot", "person", "key", "kind", "value", "presented_at", "milliseconds",
            "viewing", "created_at", "superseded_at", "excluded",
        ]  # fmt: skip
        read_only_fields = fields


class AnswerSerializer(serializers.Serializer[Any]):
    slot = serializers.IntegerField(min_value=1)
    key = serializers.UUIDField(help_text="Made for this answer; a second post under it changes nothing")
    kind = serializers.CharField(default="answer", help_text="answer, cannot_tell or broken")
    value = serializers.DictField(
        required=False,
        default=dict,
        help_text="{class index: true|false}, or {value: number}; of a pair above zero where the first is better",
    )
    presented_at = serializers.DateTimeField()
    milliseconds = serializers.IntegerField()
    viewing = serializers.DictField(required=False, default=dict)
    count = serializers.IntegerField(min_value=0, max_value=8, default=0, help_text="Trials to hold afterwards")


class CandidatesSerializer(serializers.Serializer[Any]):
    corpus = serializers.PrimaryKeyRelatedField(queryset=Corpus.objects.all())
    rows = serializers.ListField(child=serializers.IntegerField(min_value=0), allow_empty=False)
    by_scene = serializers.BooleanField(default=False, help_text="Compare within content groups only")


class CountSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(min_value=0, max_value=8, default=3, help_text="Trials to hold")


class UndoSerializer(serializers.Serializer[Any]):
    key = serializers.UUIDField(required=False, default=None, help_text="Of the answer meant: the latest one")


class ExcludeSerializer(serializers.Serializer[Any]):
    participation = serializers.IntegerField()
    reason = serializers.CharField(max_length=300)
    replace = serializers.BooleanField(default=False, help_text="Ask somebody else for each judgement left out")


class RestoreSerializer(serializers.Serializer[Any]):
    participation = serializers.IntegerField()


class InviteSerializer(serializers.ModelSerializer[Invite]):
    class Meta:
        model = Invite
        fields = ["id", "campaign", "code", "note", "quota", "used", "expires_at", "revoked_at", "created_at"]
        read_only_fields = ["code", "used", "revoked_at", "created_at"]


class JoinSerializer(serializers.Serializer[Any]):
    display_name = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")
    consent = serializers.BooleanField(help_text="That instructions and consent text were read and agreed to")


PEOPLE = OpenApiParameter(
    "people", OpenApiTypes.STR, enum=["counted", "all"], description="all: excluded people count as well"
)


def _everyone(request: Request) -> bool:
    return request.query_params.get("people") == "all"


def _with_names(lines: list[Line]) -> list[Line]:
    """Lines about items, with the path and row of each."""
    names = Names.of_ids(line["item"] for line in lines)
    return [{**line, "path": names.label(line["item"]), "row": names.items[line["item"]].row} for line in lines]


def _checked(serializer: serializers.BaseSerializer[Any]) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


class ProtocolViewSet(viewsets.ViewSet):
    """How people can be asked."""

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def list(self, request: Request) -> Response:
        """Every protocol: what it shows, its scale and answers, and the columns of a list of trials."""
        return Response([_protocol_row(protocol) for protocol in PROTOCOLS.values()])


def _protocol_row(protocol: Protocol) -> dict[str, Any]:
    return {
        "name": protocol.name,
        "title": protocol.title,
        "pictures": protocol.n_pictures,
        "needs_taxonomy": protocol.needs_taxonomy,
        "level": protocol.level,
        "question": protocol.question,
        "scale": protocol.scale(),
        "defaults": dict(protocol.defaults),
        "exports": ["judgements", "verdicts", *protocol.tables],
        "actions": {
            variant: [
                {"name": a.name, "label": a.label, "kind": a.kind, "code": a.code, "answer": a.answer} for a in actions
            ]
            for variant, actions in protocol.variants().items()
        },
        "columns": [{"name": name, "meaning": meaning} for name, meaning in protocol.columns],
    }


class CampaignViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.UpdateModelMixin, viewsets.GenericViewSet[Campaign]
):
    """Campaigns that you may see; annotators reach those they take part in through next, undo and progress."""

    serializer_class = CampaignSerializer
    filterset_fields = ["state", "taxonomy"]
    http_method_names = ["get", "post", "patch", "head", "options"]
    queryset = Campaign.objects.none()
    annotator_actions = {"next", "undo", "viewing", "part"}

    @property
    def required_scopes(self) -> dict[str, str]:
        if self.action in self.annotator_actions:
            return {"POST": Scope.ANNOTATE, "GET": Scope.ANNOTATE}
        return {}

    def get_queryset(self) -> QuerySet[Campaign]:
        if self.action in self.annotator_actions:
            joined = Campaign.objects.joined_by(_user(self.request))
            return (joined | Campaign.objects.visible_to(_user(self.request))).with_taxonomy().distinct()
        found = Campaign.objects.visible_to(_user(self.request)).with_taxonomy()
        return found.with_progress() if self.action in {"list", "retrieve"} else found

    def _after(self, campaign: Campaign, code: int = status.HTTP_200_OK) -> Response:
        row = Campaign.objects.with_progress().get(pk=campaign.pk)
        return Response(self.get_serializer(row).data, status=code)

    def create(self, request: Request) -> Response:
        """Make a campaign, in draft."""
        values = _checked(self.get_serializer(data=request.data))
        taxonomy = values.pop("taxonomy", None)
        if taxonomy and not Taxonomy.objects.visible_to(_user(request)).filter(pk=taxonomy.pk).exists():
            raise DomainError("There is no such taxonomy.", field="taxonomy")
        return self._after(campaign_create(by=_user(request), taxonomy=taxonomy, **values), status.HTTP_201_CREATED)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change settings."""
        campaign = self.get_object()
        values = _checked(self.get_serializer(campaign, data=request.data, partial=True))
        if "taxonomy" in values:
            raise DomainError("The taxonomy of a campaign is fixed: make a new campaign.", field="taxonomy")
        if "protocol" in values:
            raise DomainError("The protocol of a campaign is fixed: make a new campaign.", field="protocol")
        return self._after(campaign_update(campaign=campaign, by=_user(request), **values))

    @extend_schema(request=None, responses=CampaignSerializer)
    @action(detail=True, methods=["post"])
    def open(self, request: Request, pk: Any = None) -> Response:
        """Let people label."""
        campaign = self.get_object()
        campaign_open(campaign=campaign, by=_user(request))
        return self._after(campaign)

    @extend_schema(request=None, responses=CampaignSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: Any = None) -> Response:
        """Hand out no more trials."""
        campaign = self.get_object()
        campaign_pause(campaign=campaign, by=_user(request))
        return self._after(campaign)

    @extend_schema(request=None, responses=CampaignSerializer)
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: Any = None) -> Response:
        """End it before completion."""
        campaign = self.get_object()
        campaign_close(campaign=campaign, by=_user(request))
        return self._after(campaign)

    @extend_schema(request=TrialSpecSerializer(many=True), responses={201: TrialSerializer(many=True)})
    @action(detail=True, methods=["post"])
    def trials(self, request: Request, pk: Any = None) -> Response:
        """Ask about pictures of a corpus; the same question about the same picture is asked once."""
        campaign = self.get_object()
        specs = TrialSpecSerializer(data=request.data, many=True)
        specs.is_valid(raise_exception=True)
        by_corpus: dict[Corpus, dict[int, RowSpec]] = defaultdict(dict)
        for place, row in enumerate(cast("list[dict[str, Any]]", specs.validated_data)):
            corpus = row.pop("corpus")
            by_corpus[corpus][place] = RowSpec(**row)
        made: dict[int, Trial] = {}
        with transaction.atomic():
            for corpus, asked in by_corpus.items():
                trials = rows_ask(campaign=campaign, corpus=corpus, asked=list(asked.values()), by=_user(request))
                made |= dict(zip(asked, trials, strict=True))
        asked_for = [made[place] for place in sorted(made)]
        return Response(TrialSerializer(asked_for, many=True).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=CandidatesSerializer, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["get", "post"])
    def candidates(self, request: Request, pk: Any = None) -> Response:
        """What active sampling compares, and how much of its budget is left. POST adds rows of a corpus."""
        campaign = self.get_object()
        if request.method == "POST":
            values = _checked(CandidatesSerializer(data=request.data))
            candidates_add(campaign=campaign, by=_user(request), **values)
        rows = Candidate.objects.filter(campaign=campaign).order_by("scene", "item_id")
        columns = rows.values("item", "scene", corpus=F("item__corpus"), row=F("item__row"))
        body = {"budget": campaign.budget, "budget_left": budget_left(campaign), "candidates": list(columns)}
        made = request.method == "POST"
        return Response(body, status=status.HTTP_201_CREATED if made else status.HTTP_200_OK)

    @extend_schema(responses=OpenApiTypes.OBJECT, parameters=[PEOPLE])
    @action(detail=True)
    def scores(self, request: Request, pk: Any = None) -> Response:
        """Mean opinion scores of rated pictures, with intervals, and their quality by the P.910 likelihood."""
        campaign = self.get_object()
        if not rates(campaign):
            raise DomainError("This campaign rates no pictures: it has no opinion scores.")
        opinions = opinion_scores(campaign, everyone=_everyone(request))
        return Response({"scores": _with_names(opinions.lines), "notes": opinions.notes})

    @extend_schema(responses=OpenApiTypes.OBJECT, parameters=[PEOPLE])
    @action(detail=True)
    def scale(self, request: Request, pk: Any = None) -> Response:
        """Bradley-Terry scales of compared pictures, one per scene, with intervals and what they cannot say."""
        campaign = self.get_object()
        if not compares(campaign):
            raise DomainError("This campaign compares no pictures: it has no scale.")
        found = scales(campaign, everyone=_everyone(request))
        return Response(
            {
                "scenes": [
                    {
                        "scene": scene.name,
                        "connected": scene.connected,
                        "items": _with_names(scene.lines),
                        "notes": scene.notes,
                    }
                    for scene in found
                ]
            }
        )

    @extend_schema(request=CountSerializer, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def next(self, request: Request, pk: Any = None) -> Response:
        """Lease trials: what you hold afterwards, with the state of the campaign for you."""
        campaign = self.get_object()
        part = participation_ensure(campaign=campaign, person=_user(request))
        part.is_excluded = Participation.objects.filter(pk=part.pk).filter(exclusion_in_force()).exists()
        count = _checked(CountSerializer(data=request.data))["count"]
        slots = slots_lease(campaign=campaign, person=_user(request), count=count)
        cards = trial_cards(slots, campaign=campaign, person=_user(request))
        return Response({"state": person_state(part), "trials": cards})

    @extend_schema(request=UndoSerializer, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: Any = None) -> Response:
        """Take your latest answer back; its trial is leased to you again."""
        campaign = self.get_object()
        key = _checked(UndoSerializer(data=request.data))["key"]
        slot = judgement_undo(campaign=campaign, person=_user(request), key=key)
        return Response({"trial": trial_card(slot, campaign=campaign, person=_user(request))})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def viewing(self, request: Request, pk: Any = None) -> Response:
        """Record the viewing check: width, height, pixel_ratio, zoom."""
        campaign = self.get_object()
        participation_ensure(campaign=campaign, person=_user(request))
        return Response({"warnings": viewing_record(campaign=campaign, person=_user(request), viewing=request.data)})

    @extend_schema(request=JoinSerializer, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["get", "post"])
    def part(self, request: Request, pk: Any = None) -> Response:
        """Your part: progress and statistics. POST takes part with your consent, where you may see the campaign."""
        campaign = self.get_object()
        if request.method == "POST":
            values = _checked(JoinSerializer(data=request.data))
            participation_ensure(campaign=campaign, person=_user(request))
            _consent(campaign, _user(request), values["consent"])
        return Response(
            {
                "progress": person_progress(campaign=campaign, person=_user(request)),
                "statistics": person_statistics(campaign=campaign, person=_user(request)),
            }
        )

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def people(self, request: Request, pk: Any = None) -> Response:
        """Everybody who takes part, with reliability, and how far people agree (Krippendorff's alpha)."""
        campaign = self.get_object()
        agreement = {
            name: None if value != value else value  # NaN is no JSON
            for name, value in agreement_report(campaign).__dict__.items()
        }
        crowd = crowd_report(campaign)
        return Response(
            {
                "agreement": agreement,
                "level": PROTOCOLS[campaign.protocol].level,
                "people": [person_row(report) for report in crowd.people],
                "notes": [{"rule": rule, "note": note} for rule, note in crowd.notes],
            }
        )

    @extend_schema(request=ExcludeSerializer, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def exclude(self, request: Request, pk: Any = None) -> Response:
        """Leave a person's judgements out of every verdict; reversible."""
        values = _checked(ExcludeSerializer(data=request.data))
        part = self._part(values.pop("participation"))
        exclusion = person_exclude(participation=part, by=_user(request), **values)
        return Response({"exclusion": exclusion.pk}, status=status.HTTP_201_CREATED)

    @extend_schema(request=RestoreSerializer, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, pk: Any = None) -> Response:
        """Count an excluded person's judgements again."""
        part = self._part(_checked(RestoreSerializer(data=request.data))["participation"])
        exclusion = Exclusion.objects.filter(participation=part, lifted_at=None).first()
        if exclusion is None:
            raise DomainError("This person is not excluded.", field="participation")
        person_restore(exclusion=exclusion, by=_user(request))
        return Response({"restored": part.pk})

    def _part(self, number: int) -> Participation:
        rows = Participation.objects.filter(campaign=self.get_object()).select_related("campaign", "person")
        part = rows.filter(pk=number).first()
        if part is None:
            raise DomainError(f"There is no participation {number} in this campaign.", field="participation")
        return part

    @extend_schema(
        responses=OpenApiTypes.BINARY,
        parameters=[
            OpenApiParameter("table", OpenApiTypes.STR, enum=list(TABLES), location="path"),
            OpenApiParameter("ending", OpenApiTypes.STR, enum=list(ENDINGS), location="path"),
            PEOPLE,
        ],
    )
    @action(detail=True, url_path=r"export/(?P<table>[a-z]+)/(?P<ending>[a-z]+)")
    def export(self, request: Request, pk: Any = None, table: str = "", ending: str = "") -> StreamingHttpResponse:
        """Judgements, verdicts or a table of the protocol as CSV, JSON Lines or Parquet."""
        return export_response(self.get_object(), table, ending, everyone=_everyone(request))


def _consent(campaign: Campaign, person: User, given: bool) -> None:
    if not given:
        raise DomainError("Without consent nobody can take part: read the campaign's texts and agree.", field="consent")
    consent_record(campaign=campaign, person=person)


class TrialViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Trial]):
    """Trials of campaigns that you may see."""

    serializer_class = TrialSerializer
    filterset_fields = ["campaign", "kind", "state", "item"]
    queryset = Trial.objects.none()

    def get_queryset(self) -> QuerySet[Trial]:
        seen = Campaign.objects.visible_to(_user(self.request)).values("pk")
        return Trial.objects.filter(campaign__in=seen).select_related("item", "second")

    @extend_schema(request=GoldSerializer, responses={201: TrialSerializer})
    @action(detail=True, methods=["post"])
    def gold(self, request: Request, pk: Any = None) -> Response:
        """Make a gold trial of this one, with the answer given or with its verdict."""
        values = _checked(GoldSerializer(data=request.data))
        made = gold_add(trial=self.get_object(), by=_user(request), expected=values.get("expected"))
        return Response(self.get_serializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={204: None})
    @action(detail=True, methods=["post"])
    def retire(self, request: Request, pk: Any = None) -> Response:
        """Hand this gold trial to nobody any more."""
        gold_retire(trial=self.get_object(), by=_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses={204: None})
    @action(detail=True, methods=["post"])
    def drop(self, request: Request, pk: Any = None) -> Response:
        """Withdraw this open trial."""
        trial_drop(trial=self.get_object(), by=_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class VerdictViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Verdict]):
    """Verdicts of campaigns that you may see."""

    serializer_class = VerdictSerializer
    filterset_fields = ["campaign", "outcome", "trial"]
    queryset = Verdict.objects.none()

    def get_queryset(self) -> QuerySet[Verdict]:
        seen = Campaign.objects.visible_to(_user(self.request)).values("pk")
        return Verdict.objects.filter(campaign__in=seen).select_related("trial")


class JudgementViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Judgement]):
    """Your own judgements, and those of campaigns that you may see. POST records one."""

    serializer_class = JudgementSerializer
    filterset_fields = ["campaign", "trial", "person", "kind"]
    required_scopes = {"POST": Scope.ANNOTATE}
    queryset = Judgement.objects.none()

    def get_queryset(self) -> QuerySet[Judgement]:
        seen = Campaign.objects.visible_to(_user(self.request)).values("pk")
        own = Judgement.objects.filter(person=_user(self.request))
        return (own | Judgement.objects.filter(campaign__in=seen)).annotate(left_out=exclusion_in_force())

    @extend_schema(request=AnswerSerializer, responses={200: OpenApiTypes.OBJECT, 201: OpenApiTypes.OBJECT})
    def create(self, request: Request) -> Response:
        """Record an answer and, with ``count``, lease what comes next; 200 when the key had been posted before."""
        values = _checked(AnswerSerializer(data=request.data))
        count = values.pop("count")
        campaign = Slot.objects.filter(pk=values["slot"]).values_list("campaign_id", flat=True).first()
        if campaign is None:
            raise DomainError(f"There is no slot {values['slot']}: lease one first.", field="slot")
        turn = turn_take(campaign_id=campaign, person=_user(request), answer=Answer(**values), count=count)
        body = {
            "judgement": turn.recorded.judgement.pk,
            "created": turn.recorded.created,
            "notice": turn.recorded.notice,
            "state": person_state(turn.participation),
            "trials": trial_cards(turn.slots, campaign=turn.participation.campaign, person=_user(request)),
        }
        return Response(body, status=status.HTTP_201_CREATED if turn.recorded.created else status.HTTP_200_OK)


class SlotViewSet(viewsets.GenericViewSet[Slot]):
    """Slots leased to you."""

    required_scopes = {"POST": Scope.ANNOTATE}
    queryset = Slot.objects.none()
    serializer_class = CountSerializer

    def get_queryset(self) -> QuerySet[Slot]:
        return Slot.objects.all()

    @extend_schema(request=None, responses={204: None})
    @action(detail=True, methods=["post"])
    def skip(self, request: Request, pk: Any = None) -> Response:
        """Pass a trial on; it is not offered to you again."""
        slot_skip(slot=self.get_object(), person=_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class InviteViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Invite]):
    """Invite links of campaigns that you may change."""

    serializer_class = InviteSerializer
    filterset_fields = ["campaign"]
    queryset = Invite.objects.none()

    def get_queryset(self) -> QuerySet[Invite]:
        return Invite.objects.filter(campaign__in=Campaign.objects.editable_by(_user(self.request)).values("pk"))

    def create(self, request: Request) -> Response:
        """Make an invite link: /invite/<code>/."""
        values = _checked(self.get_serializer(data=request.data))
        invite = invite_create(by=_user(request), **values)
        return Response(self.get_serializer(invite).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=InviteSerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: Any = None) -> Response:
        """End the link; people who came by it stay."""
        invite = self.get_object()
        invite_revoke(invite=invite, by=_user(request))
        invite.refresh_from_db()
        return Response(self.get_serializer(invite).data)

    @extend_schema(request=JoinSerializer, responses={201: OpenApiTypes.OBJECT})
    @action(detail=False, methods=["post"], url_path=r"(?P<code>[\w-]{8,32})/join", permission_classes=[AllowAny])
    def join(self, request: Request, code: str = "") -> Response:
        """Take part by an invite code; without an account one is made. The token given may label, and nothing else."""
        joins_count(cast("HttpRequest", request))
        invite = Invite.objects.select_related("campaign").filter(code=code).first()
        if invite is None:
            raise DomainError("There is no such invite: check the code.", field="code")
        values = _checked(JoinSerializer(data=request.data))
        person = _user(request) if request.user.is_authenticated else None
        if not values["consent"]:
            _consent(invite.campaign, cast("User", person), given=False)
        part = participation_join(invite=invite, person=person, display_name=values["display_name"])
        consent_record(campaign=invite.campaign, person=part.person)
        body: dict[str, Any] = {"campaign": invite.campaign_id, "participation": part.pk, "person": part.person_id}
        if person is None:
            _, secret = token_create(
                user=part.person, name=f"Invite to {invite.campaign}"[:80], scopes=[Scope.ANNOTATE], days=TOKEN_DAYS
            )
            body["token"] = secret
        return Response(body, status=status.HTTP_201_CREATED)
