"""Training for programs: methods with the schema of their configs, runs, labelled sets and their editions."""

from typing import Any, cast

from django.db.models import QuerySet
from django.http import HttpResponseBase, StreamingHttpResponse
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.errors import Conflict, DomainError
from accounts.models import User
from accounts.option_fields import option_schema
from accounts.permissions import require_researcher
from corpora.models import Taxonomy
from jobs.models import JobState
from jobs.services import job_cancel
from models_zoo.models import Task, Version
from training import curves, downloads, explorers, labelled, points, reading, services, summaries
from training.comparing import MEASURES
from training.engine.registry import Method, UnknownMethod, methods
from training.engine.registry import method as method_named
from training.forms import CompareForm
from training.models import Edition, LabelledSet, Run, RunInput, RunOutput, VersionPoint
from training.sets import FRACTIONS

SOURCE = {
    "type": "object",
    "required": ["kind"],
    "properties": {
        "kind": {"type": "string", "enum": ["corpus", "campaign", "scores"]},
        "corpus": {"type": "integer", "description": "Of kinds corpus and scores"},
        "campaign": {"type": "integer", "description": "Of kind campaign"},
        "kinds": {"type": "array", "items": {"type": "string", "enum": ["ordinary", "control"]}},
        "version": {"type": "integer", "description": "Of kind scores: a version of a quality model or measure"},
        "origin": {"type": "string", "enum": ["base", "found"], "default": "base"},
        "split": {"type": "string", "enum": ["by_group", "train"], "default": "by_group"},
        "contents": {"type": "array", "items": {"type": "string"}, "description": "Only these content groups"},
        "rows": {"type": "array", "items": {"type": "integer"}, "description": "Only these rows of the corpus"},
    },
}
NUMBERS = {"oneOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}


def _config_schema() -> dict[str, Any]:
    """The configs of all methods of the product."""
    return {"oneOf": [option_schema(each.config, f"Config of {name}") for name, each in methods().items()]}


@extend_schema_field(_config_schema())
class ConfigField(serializers.JSONField):
    """Values of a method's config; the service checks them and names the one at fault."""


@extend_schema_field({"type": "array", "items": SOURCE})
class SourcesField(serializers.JSONField):
    """What an edition is made of."""


@extend_schema_field({"type": "object", "additionalProperties": NUMBERS})
class InputsField(serializers.JSONField):
    """Ids of versions by role."""


class InputSlotSerializer(serializers.Serializer[Any]):
    role = serializers.CharField()
    title = serializers.CharField()
    help = serializers.CharField()
    task = serializers.CharField(allow_null=True, help_text="quality or classification; null for any")
    required = serializers.BooleanField()  # type: ignore[assignment]  # hides the field's own argument
    many = serializers.BooleanField(help_text="Several versions, in order")  # type: ignore[assignment]


class CurveSerializer(serializers.Serializer[Any]):
    title = serializers.CharField()
    unit = serializers.CharField()
    metrics = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField()), help_text="Name in the stream, and label"
    )


class MethodSerializer(serializers.Serializer[Any]):
    """A training method: what it is for, and what its config takes."""

    name = serializers.CharField(source="card.name")
    title = serializers.CharField(source="card.title")
    summary = serializers.CharField(source="card.summary")
    source = serializers.CharField(source="card.source", help_text="Paper and section")  # type: ignore[assignment]
    ours = serializers.ListField(source="card.ours", child=serializers.CharField(), help_text="What differs from it")
    data = serializers.CharField(source="card.data", allow_null=True, help_text="quality, classification, any, or null")  # type: ignore[assignment]
    inputs = InputSlotSerializer(source="card.inputs", many=True)
    presets = serializers.SerializerMethodField(help_text="All values by preset; the first is the default")
    curves = CurveSerializer(source="card.curves", many=True)
    is_listed = serializers.BooleanField(source="card.is_listed", help_text="False: competitions start it")
    config_schema = serializers.SerializerMethodField(help_text="JSON Schema of the config")

    @extend_schema_field({"type": "object", "additionalProperties": {"type": "object"}})
    def get_presets(self, method: Method) -> dict[str, Any]:
        return {name: method.configure(name).model_dump(mode="json") for name in method.card.presets}

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_config_schema(self, method: Method) -> dict[str, Any]:
        return method.config.model_json_schema()


class RunInputSerializer(serializers.ModelSerializer[RunInput]):
    name = serializers.CharField(source="version", read_only=True)

    class Meta:
        model = RunInput
        fields = ["role", "number", "version", "name"]
        read_only_fields = fields


class RunOutputSerializer(serializers.ModelSerializer[RunOutput]):
    name = serializers.CharField(source="version", read_only=True)

    class Meta:
        model = RunOutput
        fields = ["role", "number", "version", "name", "facts"]
        read_only_fields = fields


class RunSerializer(serializers.ModelSerializer[Run]):
    state = serializers.CharField(source="job.state", read_only=True, allow_null=True, default=None)
    error = serializers.CharField(source="job.error", read_only=True, default="", help_text="Why it failed, in words")
    config = ConfigField(read_only=True)
    inputs = RunInputSerializer(many=True, read_only=True)
    outputs = RunOutputSerializer(many=True, read_only=True)
    created_by: serializers.StringRelatedField[Run] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = Run
        fields = [
            "id", "name", "method", "preset", "config", "inputs", "edition", "seed", "device", "resources", "job",
            "state", "error", "report", "outputs", "seconds", "is_public", "created_by", "created_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields


class RunCreateSerializer(serializers.Serializer[Any]):
    """What to train. The service checks sense and names the field at fault."""

    method = serializers.CharField(help_text="A name of /methods/")
    name = serializers.CharField(required=False, default="", allow_blank=True, max_length=160)
    preset = serializers.CharField(required=False, default="", allow_blank=True, help_text="Empty: the method's first")
    config = ConfigField(required=False, default=dict, help_text="Values that differ from the preset")
    inputs = InputsField(required=False, default=dict, help_text="Ids of versions by role, one or a list")
    edition = serializers.IntegerField(
        required=False, allow_null=True, default=None, help_text="Of a labelled set, where the method needs one"
    )
    seed = serializers.IntegerField(required=False, default=0, min_value=0, max_value=2**63 - 1)
    device = serializers.CharField(required=False, default="auto", help_text="auto, cpu, cuda, cuda:1")
    resources = serializers.JSONField(
        required=False, default=dict, help_text="precision, compiled, time_limit_seconds, memory_limit_gb and the like"
    )

    def validate_config(self, value: Any) -> dict[str, Any]:
        return _object(value, '{"steps": 100}')

    def validate_inputs(self, value: Any) -> dict[str, list[int]]:
        given = {role: ids if isinstance(ids, list) else [ids] for role, ids in _object(value, '{"target": 5}').items()}
        if not all(type(number) is int for ids in given.values() for number in ids):
            raise serializers.ValidationError('Name versions by id, such as {"target": 5, "variant": [6, 7]}.')
        return given

    def validate_resources(self, value: Any) -> dict[str, Any]:
        return _object(value, '{"precision": "fp32"}')


def _object(value: Any, example: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise serializers.ValidationError(f"Give an object, such as {example}.")
    return value


class VersionPointSerializer(serializers.ModelSerializer[VersionPoint]):
    """A point of an adjustable version, and the version that was made of it."""

    point = serializers.JSONField(read_only=True)
    facts = serializers.JSONField(read_only=True)
    state = serializers.CharField(source="job.state", read_only=True, allow_null=True, default=None)
    error = serializers.CharField(source="job.error", read_only=True, default="", help_text="Why it failed, in words")

    class Meta:
        model = VersionPoint
        fields = ["id", "version", "point", "made", "facts", "job", "state", "error", "created_at"]
        read_only_fields = fields


class PointCreateSerializer(serializers.Serializer[Any]):
    point = serializers.JSONField(help_text='What the method takes, such as {"lam": 0.3, "width": 0.5}')

    def validate_point(self, value: Any) -> dict[str, Any]:
        return _object(value, '{"lam": 0.3, "width": 0.5}')


class SeriesSerializer(serializers.Serializer[Any]):
    stage = serializers.CharField()
    name = serializers.CharField()
    points = serializers.ListField(child=serializers.ListField(child=serializers.FloatField()), help_text="Step, value")
    n_points = serializers.IntegerField(help_text="Before thinning")


class MetricsSerializer(serializers.Serializer[Any]):
    position = serializers.IntegerField(help_text="Send it back as ?after= to read on from here")
    restarted = serializers.BooleanField(
        help_text="The run went on from an earlier checkpoint: forget what you had, this begins at the start"
    )
    series = SeriesSerializer(many=True)


class EditionSerializer(serializers.ModelSerializer[Edition]):
    sources = SourcesField(read_only=True)
    created_by: serializers.StringRelatedField[Edition] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = Edition
        fields = [
            "id", "labelled_set", "number", "sources", "seed", "n_rows", "counts", "digest", "created_by", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class EditionCreateSerializer(serializers.Serializer[Any]):
    sources = SourcesField(help_text="All of them; an edition that goes on from another repeats those of that one")
    seed = serializers.IntegerField(required=False, default=0, min_value=0, max_value=2**63 - 1)
    fractions = serializers.ListField(
        child=serializers.FloatField(), required=False, default=list(FRACTIONS), help_text="Train, val, test"
    )
    based_on = serializers.IntegerField(
        required=False, allow_null=True, default=None, help_text="Id of an edition whose splits are kept"
    )

    def validate_sources(self, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(source, dict) for source in value):
            raise serializers.ValidationError('Give a list of objects, such as [{"kind": "corpus", "corpus": 3}].')
        return value


class LabelledSetSerializer(serializers.ModelSerializer[LabelledSet]):
    taxonomy = serializers.PrimaryKeyRelatedField(
        queryset=Taxonomy.objects.light(), required=False, allow_null=True, help_text="Of class labels"
    )
    task = serializers.ChoiceField(choices=Task.choices)
    editions = EditionSerializer(many=True, read_only=True)
    created_by: serializers.StringRelatedField[LabelledSet] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = LabelledSet
        fields = [
            "id", "name", "task", "taxonomy", "description", "is_public", "editions", "created_by", "created_at",
        ]  # fmt: skip
        read_only_fields = ["created_at"]
        extra_kwargs: dict[str, Any] = {"name": {"validators": []}}  # the service says it better


class ResearchViewSet(viewsets.GenericViewSet[Any]):
    """Base: training is for researchers."""

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        require_researcher(cast("User", request.user), action="look at training")

    @property
    def person(self) -> User:
        return cast("User", self.request.user)


class MethodViewSet(viewsets.ViewSet):
    """Training methods of this server, with the JSON Schema of their configs."""

    lookup_field = "name"
    lookup_value_regex = r"[a-z0-9_\-]+"

    @extend_schema(responses=MethodSerializer(many=True), operation_id="methods_list")
    def list(self, request: Request) -> Response:
        require_researcher(cast("User", request.user), action="look at training")
        return Response(MethodSerializer(list(methods().values()), many=True).data)

    @extend_schema(
        responses=MethodSerializer, parameters=[OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH)]
    )
    def retrieve(self, request: Request, name: str = "") -> Response:
        require_researcher(cast("User", request.user), action="look at training")
        try:
            return Response(MethodSerializer(method_named(name)).data)
        except UnknownMethod as error:
            raise NotFound(str(error)) from None


class RunFilter(filters.FilterSet):
    state = filters.ChoiceFilter(field_name="job__state", choices=JobState.choices)
    version = filters.NumberFilter(method="of_version", label="Runs that took or made this version")

    class Meta:
        model = Run
        fields = ["method", "preset", "edition", "state"]

    def of_version(self, runs: QuerySet[Run], name: str, value: Any) -> QuerySet[Run]:
        taken = RunInput.objects.filter(version=value).values("run")
        made = RunOutput.objects.filter(version=value).values("run")
        return runs.filter(pk__in=taken) | runs.filter(pk__in=made)


class RunViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ResearchViewSet):
    """Training runs that you may see."""

    serializer_class = RunSerializer
    filterset_class = RunFilter
    queryset = Run.objects.none()

    def get_queryset(self) -> QuerySet[Run]:
        visible = Run.objects.visible_to(self.person).for_lists()
        return visible.prefetch_related("inputs__version__model", "outputs__version__model")

    def _answer(self, run: Run, code: int = status.HTTP_200_OK) -> Response:
        return Response(RunSerializer(self.get_queryset().get(pk=run.pk)).data, status=code)

    @extend_schema(request=RunCreateSerializer, responses={201: RunSerializer})
    def create(self, request: Request) -> Response:
        """Start a run; asked for the same twice while it is under way, it answers with the one there is."""
        given = RunCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        values["inputs"] = {role: self._versions(role, ids) for role, ids in values["inputs"].items()}
        if values["edition"] is not None:
            values["edition"] = self._edition(values["edition"])
        return self._answer(services.run_create(by=self.person, **values), status.HTTP_201_CREATED)

    def _versions(self, role: str, ids: list[int]) -> list[Version]:
        visible = Version.objects.visible_to(self.person).select_related("model__taxonomy")
        found = {version.pk: version for version in visible.filter(pk__in=ids)}
        missing = [number for number in ids if number not in found]
        if missing:
            raise DomainError(f"There is no version {missing[0]} that you may see: choose another one.", field=role)
        return [found[number] for number in ids]

    def _edition(self, number: int) -> Edition:
        found = reading.editions_visible(self.person).filter(pk=number).first()
        if found is None:
            raise DomainError(f"There is no edition {number} that you may see: choose another one.", field="edition")
        return found

    @extend_schema(
        responses=MetricsSerializer,
        parameters=[OpenApiParameter("after", int, description="Position of an earlier answer; without: the start")],
    )
    @action(detail=True, pagination_class=None, filterset_class=None)
    def metrics(self, request: Request, pk: Any = None) -> Response:
        """The curves so far: every metric of every stage over its steps, thinned where there are many."""
        after = request.query_params.get("after", "0")
        part = curves.read(self.get_object().directory, int(after) if after.isdecimal() else 0)
        return Response(part.plain())

    @extend_schema(request=None, responses=RunSerializer)
    @action(detail=True, methods=["post"], pagination_class=None, filterset_class=None)
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Stop between two steps; the checkpoint stays."""
        run = self.get_object()
        if run.job is None:
            raise Conflict(f'"{run}" has no job: there is nothing to cancel.')
        job_cancel(job=run.job, by=self.person)
        return self._answer(run)

    @extend_schema(request=None, responses=RunSerializer)
    @action(detail=True, methods=["post"], pagination_class=None, filterset_class=None)
    def retry(self, request: Request, pk: Any = None) -> Response:
        """Go on from the checkpoint of a failed or cancelled run."""
        return self._answer(services.run_retry(run=self.get_object(), by=self.person))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def explorer(self, request: Request, pk: Any = None) -> Response:
        """What was measured at the points of an adjustable result; its pictures are artifacts of the run."""
        run = self.get_object()
        return Response(self._explorer(run))

    @extend_schema(methods=["get"], responses=VersionPointSerializer(many=True))
    @extend_schema(methods=["post"], request=PointCreateSerializer, responses={201: VersionPointSerializer})
    @action(detail=True, methods=["get", "post"], pagination_class=None, filterset_class=None)
    def points(self, request: Request, pk: Any = None) -> Response:
        """Points of the run's adjustable version that were made versions, newest first; POST makes another one, in a
        job, or gives the one there is."""
        run = self.get_object()
        adjustable = explorers.adjustable_of(run, self._explorer(run))
        if adjustable is None:
            raise NotFound(f'"{run}" left nothing adjustable.')
        if request.method == "GET":
            made = adjustable.version.points.select_related("job").order_by("-id")
            return Response(VersionPointSerializer(made, many=True).data)
        given = PointCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = points.point_request(version=adjustable.version, by=self.person, **given.validated_data)
        return Response(VersionPointSerializer(wanted).data, status=status.HTTP_201_CREATED)

    def _explorer(self, run: Run) -> dict[str, Any]:
        found = explorers.explorer_of(run)
        if found is None:
            raise NotFound(f'"{run}" left nothing to explore (yet).')
        return found


class IntervalSerializer(serializers.Serializer[Any]):
    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)


class LineSerializer(serializers.Serializer[Any]):
    """A measured version, or the mean of those that differ in nothing but the seed."""

    name = serializers.CharField()
    role = serializers.CharField()
    run = serializers.IntegerField(help_text="The newest one, of a mean")
    method = serializers.CharField()
    preset = serializers.CharField()
    seeds = serializers.ListField(child=serializers.IntegerField())
    edition = serializers.IntegerField(allow_null=True)
    version = serializers.IntegerField(allow_null=True, help_text="Null for a mean over seeds")
    attack = serializers.CharField(help_text="Of the method itself, in words")
    eps = serializers.FloatField(allow_null=True, help_text="Radius of the attacks, in pixel values from 0 to 1")
    images = serializers.IntegerField(allow_null=True)
    confirmed = serializers.BooleanField(allow_null=True, help_text="By the independent attack")
    measured = serializers.DictField(
        child=IntervalSerializer(), help_text=", ".join(f"{each.name}: {each.meaning}" for each in MEASURES.values())
    )


class ComparisonViewSet(viewsets.ViewSet):
    """What robust methods measured, side by side."""

    @extend_schema(
        operation_id="comparison_list",
        responses=LineSerializer(many=True),
        parameters=[
            OpenApiParameter("edition", int, description="Only of runs that learnt from it"),
            OpenApiParameter("method", str, many=True),
            OpenApiParameter("run", int, many=True),
            OpenApiParameter("seeds", bool, description="Means over seeds"),
        ],
    )
    def list(self, request: Request) -> Response:
        user = cast("User", request.user)
        require_researcher(user, action="look at training")
        form = CompareForm(request.query_params, user=user)
        if not form.is_valid():
            return Response(form.errors, status=status.HTTP_400_BAD_REQUEST)
        return Response([line.plain() for line in form.lines()])


class LabelledSetViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ResearchViewSet):
    """Named unions of labels, with their editions, newest first."""

    serializer_class = LabelledSetSerializer
    filterset_fields = ["name", "task"]
    queryset = LabelledSet.objects.none()

    def get_queryset(self) -> QuerySet[LabelledSet]:
        visible = LabelledSet.objects.visible_to(self.person).for_lists()
        found: QuerySet[LabelledSet] = visible.prefetch_related("editions__created_by")
        return found

    @extend_schema(request=LabelledSetSerializer, responses={201: LabelledSetSerializer})
    def create(self, request: Request) -> Response:
        """Enter a labelled set, without an edition yet."""
        given = LabelledSetSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        made = labelled.labelled_set_create(by=self.person, **given.validated_data)
        return Response(LabelledSetSerializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=EditionCreateSerializer, responses={201: EditionSerializer})
    @action(detail=True, methods=["post"], pagination_class=None, filterset_fields=[])
    def editions(self, request: Request, pk: Any = None) -> Response:
        """Make the next edition from its sources; every content is in one split alone."""
        given = EditionCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        if values["based_on"] is not None:
            values["based_on"] = get_object_or_404(reading.editions_visible(self.person), pk=values["based_on"])
        made = labelled.edition_add(labelled_set=self.get_object(), by=self.person, **values)
        return Response(EditionSerializer(made).data, status=status.HTTP_201_CREATED)


class EditionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ResearchViewSet):
    """Immutable states of labelled sets."""

    serializer_class = EditionSerializer
    filterset_fields = ["labelled_set", "number"]
    queryset = Edition.objects.none()

    def get_queryset(self) -> QuerySet[Edition]:
        return reading.editions_visible(self.person).select_related("created_by")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def summary(self, request: Request, pk: Any = None) -> Response:
        """Rows, contents and labels by split, and how many contents are in several splits (none should be)."""
        return Response(summaries.edition_summary(self.get_object()))

    @extend_schema(
        responses={200: OpenApiTypes.BINARY},
        parameters=[OpenApiParameter("ending", str, OpenApiParameter.PATH, enum=list(downloads.ENDINGS))],
    )
    @action(detail=True, url_path=r"labels\.(?P<ending>\w+)", pagination_class=None, filterset_fields=[])
    def labels(self, request: Request, pk: Any = None, ending: str = "") -> HttpResponseBase:
        """The rows as CSV or Parquet."""
        kind, name, blocks = downloads.edition_stream(self.get_object(), ending)
        response = StreamingHttpResponse(blocks, content_type=kind)
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response
