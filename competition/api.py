"""Competitions for programs: make, launch, watch, extend, read exhibits and leaderboards."""

from collections.abc import Sequence
from typing import Any, cast

from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpResponseBase, StreamingHttpResponse
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.errors import DomainError
from accounts.models import User
from accounts.option_fields import option_schema
from accounts.permissions import require_researcher
from competition import attacks, exploring, exports, learning, loop, planning, services, troubleshooting
from competition.forms import versions_visible
from competition.kinds import KINDS
from competition.models import Competition, Duel, Entrant, Exhibit, ExhibitRole, Kind, Round, Snapshot, Standing
from competition.showing import SHOWS
from corpora.models import Corpus, Taxonomy
from models_zoo.models import Version
from models_zoo.reading import class_names
from training.models import Edition, LabelledSet

IMMUTABLE = "private, max-age=31536000, immutable"
FRESH = "private, no-cache"
EXPLORED_AT_ONCE = 50
MEASURES = [measure.name for kind in KINDS.values() for measure in kind.measures]
EXPORTS = sorted({table for tables in exports.TABLES.values() for table in tables})


class EntrantSerializer(serializers.ModelSerializer[Entrant]):
    name = serializers.CharField(source="version", read_only=True)

    class Meta:
        model = Entrant
        fields = ["id", "number", "version", "name", "round", "created_at"]
        read_only_fields = fields


class RoundLineSerializer(serializers.ModelSerializer[Round]):
    class Meta:
        model = Round
        fields = [
            "id", "competition", "number", "state", "job", "campaign", "error", "prepare_run", "edition", "learn_run",
            "started_at", "labelling_at", "completed_at",
        ]  # fmt: skip
        read_only_fields = fields


class RoundSerializer(RoundLineSerializer):
    class Meta(RoundLineSerializer.Meta):
        fields = [*RoundLineSerializer.Meta.fields, "facts"]
        read_only_fields = fields
        extra_kwargs = {
            "facts": {
                "help_text": "gMAD: calibration and levels (centre, low, high, count) by entrant, half_width; "
                "self-gMAD: calibration by version, levels by entrant; test: target on its labelled set's test split"
            }
        }


@extend_schema_field({"oneOf": [option_schema(kind.Options, f"Options of {name}") for name, kind in KINDS.items()]})
class OptionsField(serializers.JSONField):
    """Settings of one kind alone; the service checks them and names the one at fault."""


class CompetitionSerializer(serializers.ModelSerializer[Competition]):
    entrants = EntrantSerializer(many=True, read_only=True)
    rounds = RoundLineSerializer(many=True, read_only=True)
    options = OptionsField(read_only=True)
    created_by: serializers.StringRelatedField[Competition] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = Competition
        fields = [
            "id", "name", "description", "kind", "options", "corpus", "taxonomy", "k", "reserve", "threshold",
            "per_class_cap", "duplicate_distance", "control_size", "overlap", "judgement_budget", "seed",
            "campaign_options", "is_public", "created_by", "created_at", "entrants", "rounds",
        ]  # fmt: skip
        read_only_fields = fields


class CompetitionWriteSerializer(serializers.ModelSerializer[Competition]):
    """What a competition is made of. Sense is checked by the service, which names the field at fault."""

    corpus = serializers.PrimaryKeyRelatedField(queryset=Corpus.objects.none())
    kind = serializers.ChoiceField(
        choices=Kind.choices, required=False, help_text="By default mad; it cannot change later"
    )
    options = OptionsField(required=False, help_text="Settings of the kind alone; what is left out has its default")
    taxonomy = serializers.PrimaryKeyRelatedField(
        queryset=Taxonomy.objects.none(), required=False, help_text="MAD: by default that of the first version's model"
    )
    versions = serializers.PrimaryKeyRelatedField(
        queryset=Version.objects.none(), many=True, help_text="Entrants in the order in which they enter"
    )

    class Meta:
        model = Competition
        fields = [
            "name", "description", "kind", "options", "corpus", "taxonomy", "versions", "k", "reserve", "threshold",
            "per_class_cap", "duplicate_distance", "control_size", "overlap", "judgement_budget", "seed",
            "campaign_options", "is_public",
        ]  # fmt: skip
        extra_kwargs: dict[str, Any] = {
            name: {"validators": []}
            for name in ("name", "k", "reserve", "threshold", "per_class_cap", "control_size", "overlap")
        }

    def get_fields(self) -> dict[str, Any]:
        """Only what the caller may see can be named."""
        fields = super().get_fields()
        request = self.context.get("request")
        user = cast("User", request.user) if request else None
        if user is not None and user.is_authenticated:
            fields["corpus"].queryset = Corpus.objects.visible_to(user)  # type: ignore[attr-defined]
            fields["taxonomy"].queryset = Taxonomy.objects.visible_to(user)  # type: ignore[attr-defined]
            fields["versions"].child_relation.queryset = versions_visible(user)  # type: ignore[attr-defined]
        return fields


class TroubleshootSerializer(serializers.Serializer[Any]):
    """A version to troubleshoot, over which images, with which labels; the rest has defaults."""

    version = serializers.PrimaryKeyRelatedField(queryset=Version.objects.none())
    corpus = serializers.PrimaryKeyRelatedField(queryset=Corpus.objects.none())
    edition = serializers.PrimaryKeyRelatedField(
        queryset=Edition.objects.none(), help_text="Edition of the labelled set that the version was trained on"
    )
    name = serializers.CharField(required=False, default="", allow_blank=True, max_length=120)
    options = OptionsField(required=False, help_text="Settings of the kind alone; what is left out has its default")
    control_size = serializers.IntegerField(required=False, help_text="Random images beside the selected ones")
    overlap = serializers.IntegerField(required=False, help_text="People per image")
    judgement_budget = serializers.IntegerField(required=False, allow_null=True)
    seed = serializers.IntegerField(required=False, min_value=0)

    def get_fields(self) -> dict[str, Any]:
        """Only what the caller may see can be named."""
        fields = super().get_fields()
        request = self.context.get("request")
        user = cast("User", request.user) if request else None
        if user is not None and user.is_authenticated:
            fields["version"].queryset = versions_visible(user)  # type: ignore[attr-defined]
            fields["corpus"].queryset = Corpus.objects.visible_to(user)  # type: ignore[attr-defined]
            editions = Edition.objects.filter(labelled_set__in=LabelledSet.objects.visible_to(user))
            fields["edition"].queryset = editions  # type: ignore[attr-defined]
        return fields


class ReadingSerializer(serializers.Serializer[Any]):
    """One round of a competition that troubleshoots a version."""

    round = serializers.IntegerField(source="round.number")
    state = serializers.CharField(source="round.state")
    target = serializers.IntegerField(source="target.version_id", default=None, help_text="Id of a version")
    test = serializers.JSONField(help_text="Measures on the labelled set's test split: {value, low, high} by name")
    failures = serializers.JSONField(help_text="k of n, rate, low, high")
    as_attacker = serializers.JSONField(help_text="self-gMAD: the same of pairs with which the target attacks")
    as_defender = serializers.JSONField()
    fresh = serializers.JSONField(
        help_text="The selection, labelled before anything was trained on it: new, old, change"
    )
    control = serializers.JSONField(help_text="The same on random images")


class ProblemSerializer(serializers.Serializer[Any]):
    field = serializers.CharField()
    message = serializers.CharField(help_text="Names the thing, the value and the remedy")


class PreviewSerializer(serializers.Serializer[Any]):
    """What launching (or adding an entrant) will take; exhibits and judgements are upper bounds."""

    n_entrants = serializers.IntegerField()
    n_duels = serializers.IntegerField()
    n_exhibits = serializers.IntegerField()
    n_control = serializers.IntegerField(help_text="Questions about random images")
    n_judgements = serializers.IntegerField()
    n_rows = serializers.IntegerField(help_text="Images in the corpus")
    unscored = serializers.ListField(child=serializers.CharField(), help_text="Versions that must be scored first")
    scoring_seconds = serializers.FloatField(allow_null=True, help_text="CPU time of one core; null where unknown")
    can_launch = serializers.BooleanField()
    problems = ProblemSerializer(many=True)
    warnings = serializers.ListField(child=serializers.CharField())


class EntrantAddSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField(
        help_text="Id of a verified version that fits: of the same label space, or a quality model"
    )


class StandingSerializer(serializers.ModelSerializer[Standing]):
    name = serializers.CharField(source="entrant.version", read_only=True)
    version = serializers.IntegerField(source="entrant.version_id", read_only=True)

    class Meta:
        model = Standing
        fields = [
            "entrant", "version", "name", "measure", "score", "low", "high", "rank", "rank_best", "rank_worst",
            "n_images",
        ]  # fmt: skip
        read_only_fields = fields


class SnapshotLineSerializer(serializers.ModelSerializer[Snapshot]):
    class Meta:
        model = Snapshot
        fields = [
            "number", "competition", "round", "created_at", "replicates", "seed", "n_exhibits", "n_judgements",
            "n_open", "counts_everyone", "digest",
        ]  # fmt: skip
        read_only_fields = fields


class SnapshotSerializer(SnapshotLineSerializer):
    standings = StandingSerializer(many=True, read_only=True)

    class Meta(SnapshotLineSerializer.Meta):
        fields = [
            *SnapshotLineSerializer.Meta.fields, "excluded_people", "standings", "matrices", "k_curve", "control",
            "agreement",
        ]  # fmt: skip
        read_only_fields = fields


class DuelSerializer(serializers.ModelSerializer[Duel]):
    """gMAD: the first attacks the second."""

    class Meta:
        model = Duel
        fields = [
            "id", "round", "first", "second", "n_disagree", "n_confident", "n_selected", "n_reserve", "shortage",
        ]  # fmt: skip
        read_only_fields = fields


class ExhibitSerializer(serializers.ModelSerializer[Exhibit]):
    """MAD: one image. gMAD: a pair, of which ``row`` is what the attacker finds better."""

    row = serializers.IntegerField(source="item.row", read_only=True)
    sha256 = serializers.CharField(source="item.sha256", read_only=True)
    image = serializers.FileField(source="item.image", read_only=True)
    thumbnail = serializers.FileField(source="item.thumbnail", read_only=True)
    second_row = serializers.IntegerField(source="second_item.row", read_only=True, default=None)
    second_sha256 = serializers.CharField(source="second_item.sha256", read_only=True, default=None)
    second_image = serializers.FileField(source="second_item.image", read_only=True, default=None)
    second_thumbnail = serializers.FileField(source="second_item.thumbnail", read_only=True, default=None)
    first = serializers.IntegerField(source="duel.first_id", read_only=True, default=None)
    second = serializers.IntegerField(source="duel.second_id", read_only=True, default=None)
    case = serializers.SerializerMethodField(
        help_text="MAD: i, ii, iii, open or dropped; gMAD: falsified, held, attacker (falsified itself), open or "
        "dropped; null in the control arm"
    )

    class Meta:
        model = Exhibit
        fields = [
            "id", "round", "duel", "trial", "role", "rank", "level", "first", "second", "row", "sha256", "image",
            "thumbnail", "second_row", "second_sha256", "second_image", "second_thumbnail", "class_first",
            "class_second", "confidence_first", "confidence_second", "distance", "predictions", "right_first",
            "right_second", "preference", "dropped", "case",
        ]  # fmt: skip
        read_only_fields = fields

    def get_case(self, exhibit: Exhibit) -> str | None:
        return SHOWS[exhibit.round.competition.kind].case(exhibit) if exhibit.duel_id else None


def _cases() -> list[tuple[str, str]]:
    """The outcomes of all kinds; equal ones once."""
    return list({key: words for show in SHOWS.values() for key, words in show.cases.items()}.items())


class ExhibitFilter(filters.FilterSet):
    competition = filters.NumberFilter(field_name="round__competition")
    round = filters.NumberFilter(field_name="round")
    trial = filters.NumberFilter(field_name="trial", label="Exhibits that ask this")
    entrant = filters.NumberFilter(method="of_entrant", label="Exhibits of the duels of this entrant")
    opponent = filters.NumberFilter(method="of_entrant", label="… against this one")
    attacker = filters.NumberFilter(field_name="duel__first", label="gMAD: pairs with which this entrant attacks")
    defender = filters.NumberFilter(field_name="duel__second", label="gMAD: pairs with which this entrant is attacked")
    level = filters.NumberFilter(field_name="level", label="gMAD: level of the defender, from 1 (worst)")
    preference = filters.RangeFilter(field_name="preference", label="gMAD: what people said")
    role = filters.ChoiceFilter(choices=ExhibitRole.choices)
    case = filters.ChoiceFilter(choices=_cases(), method="of_case")

    def of_entrant(self, exhibits: QuerySet[Exhibit], name: str, value: Any) -> QuerySet[Exhibit]:
        return exhibits.filter(Q(duel__first=value) | Q(duel__second=value))

    def of_case(self, exhibits: QuerySet[Exhibit], name: str, value: str) -> QuerySet[Exhibit]:
        """Outcomes of the kinds that have one of this name."""
        wanted = Q(pk__in=[])
        for kind, show in SHOWS.items():
            if value in show.cases:
                wanted |= Q(round__competition__kind=kind) & show.case_filter(value)
        return exhibits.filter(wanted)


class ExploreQuerySerializer(serializers.Serializer[Any]):
    corpus = serializers.IntegerField()
    first = serializers.IntegerField(help_text="Id of a version")
    second = serializers.IntegerField(help_text="Id of another version of the same label space (or quality model)")
    class_index = serializers.IntegerField(required=False, help_text="One of the two predicts this class")
    level = serializers.IntegerField(required=False, help_text="Rank of the distance among the distinct ones")
    least = serializers.FloatField(required=False, min_value=0, max_value=1, help_text="Both are this confident")
    start = serializers.IntegerField(required=False, default=0, min_value=0)


class ExploredSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField()
    path = serializers.CharField()
    thumbnail = serializers.CharField()
    distance = serializers.FloatField()
    said = serializers.ListField(child=serializers.DictField(), help_text="version, label, class_name, confidence")


class ExplorationSerializer(serializers.Serializer[Any]):
    n_rows = serializers.IntegerField(help_text="Images in the corpus")
    n_disagree = serializers.IntegerField(help_text="Images with different predictions")
    n_matching = serializers.IntegerField(help_text="Kept rows that pass the filters")
    results = ExploredSerializer(many=True)


class AttackQuerySerializer(serializers.Serializer[Any]):
    corpus = serializers.IntegerField()
    first = serializers.IntegerField(help_text="Id of a version of a quality model")
    second = serializers.IntegerField(help_text="Id of another one")
    attacker = serializers.IntegerField(required=False, help_text="One of the two: only its attacks")
    level = serializers.IntegerField(required=False, help_text="Of the defender, from 1 (worst)")
    start = serializers.IntegerField(required=False, default=0, min_value=0)


class AttackPictureSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField()
    path = serializers.CharField()
    thumbnail = serializers.CharField()


class AttackSerializer(serializers.Serializer[Any]):
    attacker = serializers.IntegerField(source="attacker.pk", help_text="Id of a version")
    defender = serializers.IntegerField(source="defender.pk")
    level = serializers.IntegerField()
    rank = serializers.IntegerField(help_text="Within its level: 1 has the widest gap")
    best = AttackPictureSerializer(help_text="What the attacker finds best in the level")
    worst = AttackPictureSerializer()
    attacker_best = serializers.FloatField(help_text="On the common scale of 0 to 100")
    attacker_worst = serializers.FloatField()
    defender_best = serializers.FloatField()
    defender_worst = serializers.FloatField()


class AttacksSerializer(serializers.Serializer[Any]):
    n_rows = serializers.IntegerField(help_text="Images in the corpus")
    calibration = serializers.CharField(help_text="logistic, to the corpus's opinion scores, or quantile")
    n_matching = serializers.IntegerField(help_text="Kept pairs that pass the filters")
    results = AttackSerializer(many=True)


class ResearchViewSet(viewsets.GenericViewSet[Any]):
    """Base: model names and answers are for researchers, not for annotators."""

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        require_researcher(cast("User", request.user), action="look at competitions")

    @property
    def person(self) -> User:
        return cast("User", self.request.user)


class CompetitionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ResearchViewSet):
    """Competitions that you may see: their entrants, rounds and leaderboards."""

    serializer_class = CompetitionSerializer
    filterset_fields = ["name", "corpus", "kind"]
    queryset = Competition.objects.none()
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]

    def get_queryset(self) -> QuerySet[Competition]:
        visible = Competition.objects.visible_to(self.person).for_lists()
        return visible.prefetch_related("entrants__version__model", "rounds")

    def _answer(self, competition: Competition, code: int = status.HTTP_200_OK) -> Response:
        fresh = self.get_queryset().get(pk=competition.pk)
        return Response(CompetitionSerializer(fresh, context=self.get_serializer_context()).data, status=code)

    @extend_schema(request=CompetitionWriteSerializer, responses={201: CompetitionSerializer})
    def create(self, request: Request) -> Response:
        """Make a competition; nothing runs until it is launched."""
        given = CompetitionWriteSerializer(data=request.data, context=self.get_serializer_context())
        given.is_valid(raise_exception=True)
        made = services.competition_create(by=self.person, **given.validated_data)
        return self._answer(made, status.HTTP_201_CREATED)

    @extend_schema(request=CompetitionWriteSerializer, responses=CompetitionSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change settings: all before the launch, afterwards name, description, budget and who may look."""
        competition = self.get_object()
        given = CompetitionWriteSerializer(data=request.data, context=self.get_serializer_context(), partial=True)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        if values.pop("kind", competition.kind) != competition.kind:
            raise DomainError(f'"{competition}" is of the kind {competition.kind}: make another one.', field="kind")
        if (versions := values.pop("versions", None)) is not None:
            services.competition_configure(competition=competition, by=self.person, versions=versions, **values)
        else:
            services.competition_update(competition=competition, by=self.person, **values)
        return self._answer(competition)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Delete a competition that was never launched."""
        services.competition_delete(competition=self.get_object(), by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        responses=PreviewSerializer,
        parameters=[OpenApiParameter("newcomer", int, description="Id of a version: what would adding it take?")],
    )
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def preview(self, request: Request, pk: Any = None) -> Response:
        """What launching will take: exhibits, judgements, scoring time; and what stands in its way."""
        newcomers = []
        if (number := request.query_params.get("newcomer", "")).isdecimal():
            newcomers = [get_object_or_404(versions_visible(self.person), pk=int(number))]
        shown = services.competition_preview(plan=planning.Plan.of(self.get_object(), newcomers=newcomers))
        return Response(PreviewSerializer(shown).data)

    @extend_schema(request=None, responses={201: RoundSerializer})
    @action(detail=True, methods=["post"], pagination_class=None, filterset_fields=[])
    def launch(self, request: Request, pk: Any = None) -> Response:
        """Begin round 1. A refusal names the field at fault and the remedy."""
        begun = services.competition_launch(competition=self.get_object(), by=self.person)
        return Response(RoundSerializer(begun).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=TroubleshootSerializer, responses={201: CompetitionSerializer})
    @action(detail=False, methods=["post"], pagination_class=None, filterset_fields=[])
    def troubleshoot(self, request: Request) -> Response:
        """Troubleshoot a version: prune it, find where it fails against ensembles of its variants, and ask people. The
        same request again, while that is under way, answers with the same competition."""
        given = TroubleshootSerializer(data=request.data, context=self.get_serializer_context())
        given.is_valid(raise_exception=True)
        made = troubleshooting.troubleshoot(by=self.person, **given.validated_data)
        return self._answer(made, status.HTTP_201_CREATED)

    @extend_schema(responses=ReadingSerializer(many=True))
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def readings(self, request: Request, pk: Any = None) -> Response:
        """self-gMAD, self-MAD: per round the target's test split, its failures, the fresh selection and the control
        arm, each with 95 % intervals."""
        return Response(ReadingSerializer(loop.loop_read(self.get_object()), many=True).data)

    @extend_schema(request=EntrantAddSerializer, responses={201: EntrantSerializer})
    @action(detail=True, methods=["post"], pagination_class=None, filterset_fields=[])
    def entrants(self, request: Request, pk: Any = None) -> Response:
        """Enter one more version; after the launch it costs exhibits against each earlier entrant (MAD: k, gMAD: two
        pairs per level) and changes nothing that is there."""
        given = EntrantAddSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        version = get_object_or_404(versions_visible(self.person), pk=given.validated_data["version"])
        entrant = services.entrant_add(competition=self.get_object(), version=version, by=self.person)
        return Response(EntrantSerializer(entrant).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        responses={200: SnapshotSerializer, 304: OpenApiResponse(description="Unchanged since the ETag you sent")},
        parameters=[
            OpenApiParameter("everyone", bool, description="Count the judgements of excluded people as well"),
            OpenApiParameter("measure", str, description="Only the lines of this measure", enum=MEASURES),
            OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="ETag of what you have"),
        ],
    )
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def leaderboard(self, request: Request, pk: Any = None) -> Response:
        """The newest leaderboard. Its ETag is the digest of what it rests on: send it back as If-None-Match."""
        everyone = request.query_params.get("everyone", "").lower() in {"1", "true", "yes"}
        snapshot = Snapshot.objects.latest_of(self.get_object(), counts_everyone=everyone)
        if snapshot is None:
            raise NoLeaderboard("There is no leaderboard yet: it appears when the first exhibits have a verdict.")
        return _snapshot_response(request, snapshot, FRESH, measure=request.query_params.get("measure"))

    @extend_schema(responses=SnapshotLineSerializer(many=True))
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def snapshots(self, request: Request, pk: Any = None) -> Response:
        """Every leaderboard, newest first, without its contents."""
        found = self.get_object().snapshots.defer("matrices", "k_curve", "control", "agreement")
        return Response(SnapshotLineSerializer(found, many=True).data)

    @extend_schema(
        responses=SnapshotSerializer, parameters=[OpenApiParameter("number", OpenApiTypes.INT, OpenApiParameter.PATH)]
    )
    @action(
        detail=True,
        url_path=r"snapshots/(?P<number>\d+)",
        url_name="snapshot",
        pagination_class=None,
        filterset_fields=[],
    )
    def snapshot(self, request: Request, pk: Any = None, number: str = "") -> Response:
        """One leaderboard; immutable, so it may be cached for good."""
        found = get_object_or_404(Snapshot, competition=self.get_object(), number=int(number))
        return _snapshot_response(request, found, IMMUTABLE)

    @extend_schema(
        responses={200: OpenApiTypes.BINARY},
        parameters=[
            OpenApiParameter("table", str, OpenApiParameter.PATH, enum=EXPORTS),
            OpenApiParameter("ending", str, OpenApiParameter.PATH, enum=list(exports.ENDINGS)),
        ],
    )
    @action(detail=True, url_path=r"export/(?P<table>\w+)\.(?P<ending>\w+)", pagination_class=None, filterset_fields=[])
    def export(self, request: Request, pk: Any = None, table: str = "", ending: str = "") -> HttpResponseBase:
        """A table as CSV, JSON Lines or Parquet. MAD: selections, verdicts, standings; gMAD: selections, judgements,
        levels, standings."""
        kind, name, blocks = exports.export_stream(self.get_object(), table, ending)
        response = StreamingHttpResponse(blocks, content_type=kind)
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    @extend_schema(request=None, responses={201: RoundSerializer})
    @action(detail=True, methods=["post"], url_path="rounds", pagination_class=None, filterset_fields=[])
    def start_round(self, request: Request, pk: Any = None) -> Response:
        """Begin the next round: the same question about images that were not asked about before."""
        begun = services.round_start(competition=self.get_object(), by=self.person)
        return Response(RoundSerializer(begun).data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[ExploreQuerySerializer], responses=ExplorationSerializer)
    @action(detail=False, pagination_class=None, filterset_fields=[])
    def explore(self, request: Request) -> Response:
        """Where two versions differ most, before any label is spent. POST first: a worker compares them once."""
        corpus, pair, given = self._pair(ExploreQuerySerializer, request.query_params)
        space = exploring.label_space(pair)
        found = exploring.exploration_read(corpus=corpus, versions=pair)
        if found is None:
            raise _not_compared(corpus, pair)
        at = found.filtered(label=given.get("class_index"), level=given.get("level"), least=given.get("least"))
        shown = at[given["start"] : given["start"] + EXPLORED_AT_ONCE]
        tiles = exploring.tiles(corpus, found, shown, class_names(space), pair)
        for tile in tiles:
            tile["said"] = [{**line, "version": line["version"].pk} for line in tile["said"]]
        counts = {"n_rows": found.n_rows, "n_disagree": found.n_disagree, "n_matching": len(at)}
        return Response(ExplorationSerializer({**counts, "results": tiles}).data)

    @extend_schema(request=ExploreQuerySerializer, responses={202: OpenApiTypes.OBJECT})
    @explore.mapping.post
    def explore_start(self, request: Request) -> Response:
        """Have a worker compare two versions; the answer names the job."""
        corpus, pair, _ = self._pair(ExploreQuerySerializer, request.data)
        job = exploring.exploration_request(corpus=corpus, versions=pair, by=self.person)
        return Response({"job": str(job.pk)}, status=status.HTTP_202_ACCEPTED)

    @extend_schema(parameters=[AttackQuerySerializer], responses=AttacksSerializer)
    @action(detail=False, url_path="explore/attacks", pagination_class=None, filterset_fields=[])
    def attacks(self, request: Request) -> Response:
        """The pairs with which two quality models would falsify each other, before any label is spent. POST the
        parameters to ``explore`` first: a worker finds them once."""
        corpus, pair, given = self._pair(AttackQuerySerializer, request.query_params)
        found = exploring.attacks_read(corpus=corpus, versions=pair)
        if found is None:
            raise _not_compared(corpus, pair)
        chosen = given.get("attacker")
        places = {version.pk: place for place, version in enumerate(pair)}
        if chosen is not None and chosen not in places:
            raise DomainError(f"Version {chosen} is none of the two: choose one of them.", field="attacker")
        at = found.filtered(attacker=None if chosen is None else places[chosen], level=given.get("level"))
        shown = attacks.tiles(corpus, found, at[given["start"] : given["start"] + EXPLORED_AT_ONCE], pair)
        counts = {"n_rows": found.n_rows, "calibration": found.calibration, "n_matching": len(at)}
        return Response(AttacksSerializer({**counts, "results": shown}).data)

    def _pair(
        self, serializer: type[serializers.Serializer[Any]], said: Any
    ) -> tuple[Corpus, list[Version], dict[str, Any]]:
        given = serializer(data=said)
        given.is_valid(raise_exception=True)
        values = given.validated_data
        corpus = get_object_or_404(Corpus.objects.visible_to(self.person), pk=values["corpus"])
        visible = Version.objects.visible_to(self.person).select_related("model__taxonomy")
        pair = [get_object_or_404(visible, pk=values[name]) for name in ("first", "second")]
        exploring.pair_require(corpus=corpus, versions=pair)
        return corpus, exploring.pair_ordered(pair), values


def _not_compared(corpus: Corpus, pair: Sequence[Version]) -> DomainError:
    return DomainError(
        f'"{pair[0]}" and "{pair[1]}" have not been compared on "{corpus}": POST the same parameters, '
        "then wait for the job."
    )


class NoLeaderboard(DomainError):
    """There is nothing to show yet."""

    status_code = status.HTTP_404_NOT_FOUND


def _snapshot_response(request: Request, snapshot: Snapshot, caching: str, measure: str | None = None) -> Response:
    if measure and measure not in MEASURES:
        raise DomainError(f'There is no measure "{measure}": choose from {", ".join(MEASURES)}.', field="measure")
    etag = f'"{snapshot.digest}-{snapshot.number}"'
    sent = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    headers = {"ETag": etag, "Cache-Control": caching}
    if etag in sent or "*" in sent:
        return Response(status=status.HTTP_304_NOT_MODIFIED, headers=headers)
    lines = Standing.objects.select_related("entrant__version__model").order_by("measure", "rank", "entrant__number")
    lines = lines.filter(measure=measure) if measure else lines
    found = Snapshot.objects.prefetch_related(Prefetch("standings", lines)).get(pk=snapshot.pk)
    return Response(SnapshotSerializer(found).data, headers=headers)


class RoundViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ResearchViewSet):
    """Rounds of the competitions that you may see."""

    serializer_class = RoundSerializer
    filterset_fields = ["competition", "state", "number"]
    queryset = Round.objects.none()

    def get_queryset(self) -> QuerySet[Round]:
        return Round.objects.visible_to(self.person)

    @extend_schema(responses=DuelSerializer(many=True))
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def duels(self, request: Request, pk: Any = None) -> Response:
        """Every pair of entrants: how many exhibits there are, and why fewer than were wanted."""
        found = Duel.objects.filter(round=self.get_object()).order_by("first__number", "second__number")
        return Response(DuelSerializer(found, many=True).data)

    @extend_schema(request=None, responses=RoundSerializer)
    @action(detail=True, methods=["post"], pagination_class=None, filterset_fields=[])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Stop; what is finished stays."""
        return Response(RoundSerializer(services.round_cancel(round=self.get_object(), by=self.person)).data)

    @extend_schema(request=None, responses=RoundSerializer)
    @action(detail=True, methods=["post"], pagination_class=None, filterset_fields=[])
    def retry(self, request: Request, pk: Any = None) -> Response:
        """Go on with a failed or cancelled round."""
        return Response(RoundSerializer(services.round_retry(round=self.get_object(), by=self.person)).data)

    @extend_schema(request=None, responses=RoundSerializer)
    @action(detail=True, methods=["post"], pagination_class=None, filterset_fields=[])
    def learn(self, request: Request, pk: Any = None) -> Response:
        """self-gMAD, self-MAD: fine-tune the target on what a complete round found; watch its ``learn_run``."""
        return Response(RoundSerializer(learning.round_learn(round=self.get_object(), by=self.person)).data)

    @extend_schema(request=None, responses=RoundSerializer)
    @action(detail=True, methods=["post"], pagination_class=None, filterset_fields=[])
    def close(self, request: Request, pk: Any = None) -> Response:
        """self-gMAD, self-MAD: close the campaign half-way and settle what is there."""
        return Response(RoundSerializer(learning.round_close(round=self.get_object(), by=self.person)).data)

    @extend_schema(request=None, responses={202: OpenApiTypes.OBJECT})
    @action(detail=True, methods=["post"], pagination_class=None, filterset_fields=[])
    def settle(self, request: Request, pk: Any = None) -> Response:
        """Compute a leaderboard from what has been labelled so far; the answer names the job."""
        job = services.round_settle_now(round=self.get_object(), by=self.person)
        return Response({"job": str(job.pk)}, status=status.HTTP_202_ACCEPTED)


class ExhibitViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ResearchViewSet):
    """What people are shown, with what each model said."""

    serializer_class = ExhibitSerializer
    filterset_class = ExhibitFilter
    queryset = Exhibit.objects.none()

    def get_queryset(self) -> QuerySet[Exhibit]:
        return Exhibit.objects.filter(round__in=Round.objects.visible_to(self.person)).select_related(
            "item", "second_item", "duel", "round__competition"
        )
