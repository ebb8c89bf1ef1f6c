"""The zoo for programs: models, versions, scores."""

from collections.abc import Iterator
from typing import Any, ClassVar, cast

import django_filters
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from accounts.permissions import require_view
from corpora.locations import require_location
from corpora.models import Corpus, Taxonomy
from jobs.api import JobSerializer
from models_zoo import services
from models_zoo.export import prediction_lines
from models_zoo.models import ADDED_KINDS, Model, Outputs, Scores, Version, VersionKind
from models_zoo.presets import PRESETS, PRESETS_BY_KEY


def _user(request: Request) -> User:
    return cast("User", request.user)


class ModelSerializer(serializers.ModelSerializer[Model]):
    taxonomy = serializers.PrimaryKeyRelatedField(
        queryset=Taxonomy.objects.light(), required=False, allow_null=True, help_text="Of a classifier: its label space"
    )
    taxonomy_name = serializers.CharField(source="taxonomy.name", read_only=True, allow_null=True, default=None)
    created_by: serializers.StringRelatedField[Model] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = Model
        fields = [
            "id", "name", "task", "taxonomy", "taxonomy_name", "higher_is_better", "score_low", "score_high",
            "description", "licence", "source_url", "is_public", "created_by", "created_at",
        ]  # fmt: skip
        read_only_fields = ["created_at"]
        extra_kwargs: ClassVar[dict[str, Any]] = {"name": {"validators": []}}  # the service says it better


class ModelChangeSerializer(serializers.Serializer[Model]):
    """What of a card can be changed."""

    name = serializers.CharField(max_length=120, required=False)
    description = serializers.CharField(required=False, allow_blank=True)
    licence = serializers.CharField(max_length=120, required=False, allow_blank=True)
    source_url = serializers.CharField(max_length=500, required=False, allow_blank=True)
    is_public = serializers.BooleanField(required=False)
    score_low = serializers.FloatField(required=False, allow_null=True)
    score_high = serializers.FloatField(required=False, allow_null=True)


class VersionSerializer(serializers.ModelSerializer[Version]):
    name = serializers.CharField(source="__str__", read_only=True, help_text='"model label", as commands take it')
    created_by: serializers.StringRelatedField[Version] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = Version
        fields = [
            "id", "name", "model", "label", "kind", "purpose", "architecture", "arch_kwargs", "preprocessing",
            "outputs", "corpus", "parents", "state", "refusal", "notes", "sha256", "size_bytes", "parameters", "macs",
            "milliseconds", "megabytes", "created_by", "created_at", "verified_at",
        ]  # fmt: skip
        read_only_fields = fields


class VersionAddSerializer(serializers.Serializer[Version]):
    """A new version; JSON with ``path``, or a multipart form with ``file`` (nested values as JSON texts).

    A measure (kind metric, ``architecture`` is its name) that takes no parameters has neither.
    """

    model = serializers.PrimaryKeyRelatedField(queryset=Model.objects.all())
    label = serializers.CharField(max_length=60)  # type: ignore[assignment]  # hides the field's own, unused label
    kind = serializers.ChoiceField(choices=ADDED_KINDS)
    file = serializers.FileField(required=False, allow_empty_file=True)
    path = serializers.CharField(required=False, help_text="Instead of file: a path on the server")
    architecture = serializers.CharField(required=False, default="", allow_blank=True)
    arch_kwargs = serializers.JSONField(required=False, default=dict)
    preprocessing = serializers.JSONField(required=False, help_text="Fields of Preprocessing, or the name of a preset")
    outputs = serializers.ChoiceField(choices=Outputs.choices, required=False, default=Outputs.LOGITS)
    corpus = serializers.PrimaryKeyRelatedField(queryset=Corpus.objects.all(), required=False, allow_null=True)
    parents = serializers.PrimaryKeyRelatedField(queryset=Version.objects.all(), many=True, required=False)

    def validate_preprocessing(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS_BY_KEY:
            known = ", ".join(preset.key for preset in PRESETS)
            raise serializers.ValidationError(f'There is no preset "{value}"; known: {known}.')
        return PRESETS_BY_KEY[value].preprocessing

    def validate_arch_kwargs(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise serializers.ValidationError('Give an object, such as {"num_classes": 10}.')
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        n_given = bool(attrs.get("file")) + bool(attrs.get("path"))
        if n_given > 1 or (n_given == 0 and attrs["kind"] != VersionKind.METRIC):
            raise serializers.ValidationError({"file": "Give one of file and path."})
        return attrs


class ScoresSerializer(serializers.ModelSerializer[Scores]):
    version_name = serializers.CharField(source="version.__str__", read_only=True)
    corpus_name = serializers.CharField(source="corpus.name", read_only=True)

    class Meta:
        model = Scores
        fields = [
            "id", "version", "version_name", "corpus", "corpus_name", "state", "has_confidence", "n_missing",
            "accuracy", "srcc", "krcc", "images_per_second", "summary", "digest", "created_at", "completed_at",
        ]  # fmt: skip
        read_only_fields = fields


class ScoresRequestSerializer(serializers.Serializer[Scores]):
    versions = serializers.PrimaryKeyRelatedField(queryset=Version.objects.select_related("model__taxonomy"), many=True)
    corpus = serializers.PrimaryKeyRelatedField(queryset=Corpus.objects.all())


class ModelFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name")

    class Meta:
        model = Model
        fields = ["task", "taxonomy", "is_public"]


class ModelViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.CreateModelMixin, viewsets.GenericViewSet[Model]
):
    """Cards of the zoo."""

    serializer_class = ModelSerializer
    filterset_class = ModelFilter
    queryset = Model.objects.none()

    def get_queryset(self) -> QuerySet[Model]:
        found: QuerySet[Model] = Model.objects.visible_to(_user(self.request)).for_lists()
        return found

    def perform_create(self, serializer: Any) -> None:
        taxonomy = serializer.validated_data.get("taxonomy")
        if taxonomy is not None:
            require_view(_user(self.request), taxonomy)
        serializer.instance = services.model_create(by=_user(self.request), **serializer.validated_data)

    @extend_schema(request=ModelChangeSerializer, responses=ModelSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change what the card says; task, label space and direction stay."""
        change = ModelChangeSerializer(data=request.data)
        change.is_valid(raise_exception=True)
        model = services.model_update(model=self.get_object(), by=_user(request), **change.validated_data)
        return Response(self.get_serializer(model).data)


class VersionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Version]):
    """Versions: immutable; added, checked by a worker, scored."""

    serializer_class = VersionSerializer
    filterset_fields = ["model", "state", "kind", "purpose", "architecture"]
    queryset = Version.objects.none()

    def get_queryset(self) -> QuerySet[Version]:
        found: QuerySet[Version] = Version.objects.visible_to(_user(self.request)).for_lists()
        return found.prefetch_related("parents")

    @extend_schema(request=VersionAddSerializer, responses={201: VersionSerializer})
    def create(self, request: Request) -> Response:
        """Add a version; a worker checks it: watch its state."""
        said = VersionAddSerializer(data=request.data)
        said.is_valid(raise_exception=True)
        values = dict(said.validated_data)
        user = _user(request)
        require_view(user, values["model"])
        path = values.pop("path", None)
        if path:
            values["file"] = require_location(path, user, field="path")
        version = services.version_add(by=user, **values)
        return Response(self.get_serializer(version).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={202: JobSerializer})
    @action(detail=True, methods=["post"])
    def recheck(self, request: Request, pk: Any = None) -> Response:
        """Check a refused version again."""
        job = services.version_recheck(version=self.get_object(), by=_user(request))
        return Response(JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Delete a version that nothing was made with."""
        services.version_delete(version=self.get_object(), by=_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class ScoresViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Scores]):
    """What versions say about corpora."""

    serializer_class = ScoresSerializer
    filterset_fields = ["version", "version__model", "corpus", "state"]
    queryset = Scores.objects.none()

    def get_queryset(self) -> QuerySet[Scores]:
        found: QuerySet[Scores] = Scores.objects.visible_to(_user(self.request))
        return found.select_related("version__model", "corpus")

    @extend_schema(request=ScoresRequestSerializer, responses={202: JobSerializer})
    def create(self, request: Request) -> Response:
        """Have versions scored on a corpus; watch the job."""
        said = ScoresRequestSerializer(data=request.data)
        said.is_valid(raise_exception=True)
        job = services.scores_request(by=_user(request), **said.validated_data)
        return Response(JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    @action(detail=True, methods=["get"])
    def predictions(self, request: Request, pk: Any = None) -> StreamingHttpResponse:
        """The predictions as CSV: per image path, class and confidence, or path and score; others are left out."""
        scores = self.get_object()
        return csv_response(scores)


def csv_response(scores: Scores) -> StreamingHttpResponse:
    """Complete scores as a CSV download, streamed.

    Raises:
        DomainError: while the scores are incomplete.
    """
    lines: Iterator[str] = prediction_lines(scores)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in str(scores))
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response
