"""Corpora and taxonomies for programs: look, import, page through rows, measure distances."""

import shutil
import tempfile
from typing import Any, cast

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from accounts.errors import DomainError
from accounts.models import User
from corpora import reading, taxonomies
from corpora.forms import upload_to
from corpora.models import Corpus, CorpusSource, Taxonomy, TaxonomyKind
from corpora.opinions import NO_OPINION, histogram, summary
from corpora.services import (
    corpus_create,
    corpus_delete,
    corpus_opinions_import,
    corpus_opinions_preview,
    corpus_opinions_upload,
    corpus_update,
    taxonomy_create,
)
from corpora.taxonomy import TaxonomyError
from jobs.models import Job

ROWS_PAGE, ROWS_LIMIT = 100, 1_000


class TaxonomySerializer(serializers.ModelSerializer[Taxonomy]):
    created_by: serializers.StringRelatedField[Taxonomy] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = Taxonomy
        fields = ["id", "name", "kind", "n_classes", "digest", "is_public", "created_by", "created_at"]
        read_only_fields = fields


class TaxonomyCreateSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120)
    kind = serializers.ChoiceField(choices=TaxonomyKind.choices)
    names = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Class names by index, for kind flat"
    )
    file = serializers.FileField(required=False, help_text="The CSV of a hierarchy, for kind tree; send as multipart")
    is_public = serializers.BooleanField(default=False)


class ClassSerializer(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    id = serializers.CharField()
    name = serializers.CharField()
    synonyms = serializers.CharField(help_text='Separated by ", "')
    gloss = serializers.CharField()


class ComparisonSerializer(serializers.Serializer[Any]):
    first = ClassSerializer()
    second = ClassSerializer()
    distance = serializers.FloatField(help_text="Weighted tree distance")
    level = serializers.IntegerField(help_text="Rank among the distinct distances, 0 = the same class")


class TaxonomyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Taxonomy]):
    """Label spaces that you may see."""

    serializer_class = TaxonomySerializer
    filterset_fields = ["kind", "name", "digest"]
    queryset = Taxonomy.objects.none()
    parser_classes = [JSONParser, MultiPartParser]

    def get_queryset(self) -> QuerySet[Taxonomy]:
        found = Taxonomy.objects.visible_to(cast("User", self.request.user)).select_related("created_by")
        return found if self.detail and self.action != "retrieve" else found.light()

    @extend_schema(request=TaxonomyCreateSerializer, responses={201: TaxonomySerializer})
    def create(self, request: Request) -> Response:
        """Add a label space; it never changes afterwards."""
        given = TaxonomyCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        with tempfile.TemporaryDirectory() as folder:
            upload = values.pop("file", None)
            file = upload_to(folder, upload) if upload else None
            taxonomy = taxonomy_create(by=cast("User", request.user), file=file, **values)
        return Response(self.get_serializer(taxonomy).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=ClassSerializer(many=True), parameters=[OpenApiParameter("q", str, description="Search")])
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def classes(self, request: Request, pk: Any = None) -> Response:
        """All classes by index, or those whose name, id or synonym holds `q`."""
        lines = taxonomies.search(self.get_object(), request.query_params.get("q", "").strip())
        return Response(ClassSerializer(lines, many=True).data)

    @extend_schema(
        responses=ComparisonSerializer,
        parameters=[OpenApiParameter(name, str, required=True, description="Index, id or name") for name in "ab"],
    )
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def distance(self, request: Request, pk: Any = None) -> Response:
        """How far apart two classes are."""
        first, second = (request.query_params.get(name, "").strip() for name in "ab")
        if not (first and second):
            raise DomainError("Give two classes: ?a=…&b=….")
        try:
            comparison = taxonomies.compare(self.get_object(), first, second)
        except TaxonomyError as error:
            raise DomainError(f"{error}.") from error
        return Response(ComparisonSerializer(comparison).data)


class CorpusSerializer(serializers.ModelSerializer[Corpus]):
    created_by: serializers.StringRelatedField[Corpus] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = Corpus
        fields = [
            "id", "name", "description", "source", "location", "options", "taxonomy", "state", "n_rows",
            "n_quarantined", "n_labelled", "n_rated", "n_duplicate_groups", "bytes", "is_packed", "digest", "facts",
            "is_public", "created_by", "created_at",
        ]  # fmt: skip
        read_only_fields = [name for name in fields if name not in {"name", "description", "is_public"}]


class CorpusCreateSerializer(serializers.Serializer[Any]):
    """Either `location` or, as multipart, `upload`."""

    name = serializers.CharField(max_length=120)
    source = serializers.ChoiceField(choices=CorpusSource.choices)  # type: ignore[assignment]  # a field of that name
    location = serializers.CharField(max_length=1000, required=False, help_text="Absolute path on the server")
    upload = serializers.FileField(required=False)
    options = serializers.JSONField(
        required=False,
        help_text='All optional: {"labels_from": "folder", "root": "/…", "split": "test|train|both", "mos_low": 1, '
        '"mos_high": 5, "higher_is_worse": "yes"}; of distorted corpora {"corpus": id, "photographs": "packages", '
        '"size": "512x384", "seed": 0}',
    )
    taxonomy = serializers.PrimaryKeyRelatedField(queryset=Taxonomy.objects.all(), required=False, allow_null=True)
    description = serializers.CharField(required=False, allow_blank=True)
    is_public = serializers.BooleanField(default=False)

    def validate_options(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise serializers.ValidationError("options is an object.")
        return value


class CorpusCreatedSerializer(CorpusSerializer):
    job = serializers.UUIDField(help_text="The import; see /jobs/<id>/")

    class Meta(CorpusSerializer.Meta):
        fields = [*CorpusSerializer.Meta.fields, "job"]
        read_only_fields = fields


class RowSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField()
    path = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes")
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    sha256 = serializers.CharField()
    label = serializers.IntegerField(allow_null=True)  # type: ignore[assignment]  # a field of that name
    mos = serializers.FloatField(allow_null=True, help_text="Mean opinion score, higher = better")
    mos_std = serializers.FloatField(allow_null=True, help_text="Standard deviation of the ratings")
    mos_n = serializers.IntegerField(allow_null=True, help_text="How many ratings")
    reference = serializers.CharField(allow_null=True, help_text="Path of the pristine image")
    group = serializers.CharField(allow_null=True, help_text="Source content")
    distortion = serializers.CharField(allow_null=True)
    level = serializers.IntegerField(allow_null=True, help_text="Strength of the distortion; 0 = pristine")
    notes = serializers.CharField(allow_null=True)
    image = serializers.SerializerMethodField(help_text="Address of the picture, upright and without metadata")

    def get_image(self, record: dict[str, Any]) -> str:
        pk = self.context["corpus"].pk
        return reverse("corpora:row_image", args=[pk, record["row"]], request=self.context["request"])


class OpinionsUploadSerializer(serializers.Serializer[Any]):
    """As multipart."""

    file = serializers.FileField(help_text="CSV or Parquet: path, mos, optionally std and n")
    low = serializers.FloatField(required=False, help_text="Lowest score of the scale; found in the file if absent")
    high = serializers.FloatField(required=False)
    higher_is_worse = serializers.BooleanField(default=False, help_text="Turn the scores round, as DMOS need it")
    dry_run = serializers.BooleanField(default=False, help_text="Only say what would happen")


class OpinionPlanSerializer(serializers.Serializer[Any]):
    n_lines = serializers.IntegerField(help_text="Rows of the file")
    n_matched = serializers.IntegerField(help_text="Images that the file rates")
    n_by_name = serializers.IntegerField(help_text="Of them found by their file name alone")
    n_empty = serializers.IntegerField(help_text="Rows without a score")
    n_unmatched = serializers.IntegerField()
    unmatched = serializers.ListField(child=serializers.CharField(), help_text="The first paths not in the corpus")
    n_problems = serializers.IntegerField()
    problems = serializers.ListField(child=serializers.CharField(), help_text="What is wrong, row by row")
    low = serializers.FloatField(help_text="Ends of the scale")
    high = serializers.FloatField()


class BarSerializer(serializers.Serializer[Any]):
    low = serializers.FloatField()
    high = serializers.FloatField()
    count = serializers.IntegerField()


class OpinionsSerializer(serializers.Serializer[Any]):
    n = serializers.IntegerField(help_text="Rated images")
    low = serializers.FloatField(help_text="Ends of the scale; higher = better")
    high = serializers.FloatField()
    mean = serializers.FloatField()
    lowest = serializers.FloatField()
    highest = serializers.FloatField()
    mean_std = serializers.FloatField(allow_null=True, help_text="Mean standard deviation of the ratings")
    ratings = serializers.IntegerField(allow_null=True, help_text="Single ratings")
    histogram = BarSerializer(many=True)


class QuarantinedSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    reason = serializers.CharField()


def _page_of(name: str, serializer: type[serializers.Serializer[Any]]) -> Any:
    fields: dict[str, Any] = {
        "count": serializers.IntegerField(),
        "next": serializers.URLField(allow_null=True),
        "results": serializer(many=True),
    }
    return inline_serializer(name, fields)


_PAGING = [
    OpenApiParameter("start", OpenApiTypes.INT64, description="First row; 0 by default"),
    OpenApiParameter("limit", int, description=f"Rows a page; {ROWS_PAGE} by default, at most {ROWS_LIMIT}"),
]


class CorpusViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.UpdateModelMixin, viewsets.GenericViewSet[Corpus]
):
    """Corpora that you may see."""

    serializer_class = CorpusSerializer
    filterset_fields = ["name", "state", "source", "taxonomy"]
    queryset = Corpus.objects.none()
    parser_classes = [JSONParser, MultiPartParser]
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]

    def get_queryset(self) -> QuerySet[Corpus]:
        return Corpus.objects.visible_to(cast("User", self.request.user)).select_related("created_by")

    @extend_schema(request=CorpusCreateSerializer, responses={201: CorpusCreatedSerializer})
    def create(self, request: Request) -> Response:
        """Register a corpus and start its import; the answer names the job to follow."""
        given = CorpusCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        corpus = corpus_create(by=cast("User", request.user), **given.validated_data)
        job = Job.objects.about(corpus).values_list("pk", flat=True).first()
        body = {**self.get_serializer(corpus).data, "job": str(job)}
        return Response(body, status=status.HTTP_201_CREATED)

    def perform_update(self, serializer: serializers.BaseSerializer[Corpus]) -> None:
        corpus = cast("Corpus", serializer.instance)
        corpus_update(corpus=corpus, by=cast("User", self.request.user), **serializer.validated_data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Delete a corpus that nothing uses; otherwise the answer names what does."""
        corpus_delete(corpus=self.get_object(), by=cast("User", request.user))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(parameters=_PAGING, responses=_page_of("RowPage", RowSerializer))
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def rows(self, request: Request, pk: Any = None) -> Response:
        """Rows `start` to `start + limit` of the manifest."""
        corpus = self.get_object()
        table = reading.manifest_of(corpus)
        start, limit = _window(request)
        records = table.slice(start, start + limit).to_pylist()
        opinions = reading.opinions_of(corpus)
        for record in records:
            record |= opinions.of_row(record["row"]) if opinions else NO_OPINION
        results = RowSerializer(records, many=True, context={"corpus": corpus, "request": request}).data
        return Response(_page(request, len(table), start, limit, results))

    @extend_schema(responses=OpinionsSerializer)
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def opinions(self, request: Request, pk: Any = None) -> Response:
        """The corpus's mean opinion scores, in numbers; the scores themselves are in the rows."""
        table = reading.opinion_table(self.get_object())
        body = {**summary(table), "low": table.low, "high": table.high, "histogram": histogram(table)}
        return Response(OpinionsSerializer(body).data)

    @extend_schema(request=OpinionsUploadSerializer, responses=OpinionPlanSerializer)
    @opinions.mapping.post
    def attach_opinions(self, request: Request, pk: Any = None) -> Response:
        """Attach opinion scores in place of those there are; nothing is changed when anything in the file is wrong."""
        given = OpinionsUploadSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        upload, dry_run = values.pop("file"), values.pop("dry_run")
        corpus, by = self.get_object(), cast("User", request.user)
        file = corpus_opinions_upload(corpus=corpus, upload=upload, by=by)
        try:
            plan = corpus_opinions_preview(corpus=corpus, file=file, by=by, **values)
            if not dry_run:
                corpus_opinions_import(corpus=corpus, file=file, by=by, **values)
        finally:
            shutil.rmtree(file.parent, ignore_errors=True)
        return Response(OpinionPlanSerializer(plan).data)

    @extend_schema(parameters=_PAGING, responses=_page_of("QuarantinePage", QuarantinedSerializer))
    @action(detail=True, pagination_class=None, filterset_fields=[])
    def quarantine(self, request: Request, pk: Any = None) -> Response:
        """Files that could not be taken in, with the reasons."""
        table = reading.quarantine_of(self.get_object())
        start, limit = _window(request)
        files = table.slice(start, start + limit).to_pylist() if table else []
        return Response(_page(request, len(table) if table else 0, start, limit, files))


def _window(request: Request) -> tuple[int, int]:
    values = []
    for name, default in (("start", 0), ("limit", ROWS_PAGE)):
        text = request.query_params.get(name, str(default))
        if not text.isdecimal() or len(text) > 18:
            raise DomainError(f'{name} is "{text}": give a whole number from 0 upwards.', field=name)
        values.append(int(text))
    return values[0], min(max(1, values[1]), ROWS_LIMIT)


def _page(request: Request, count: int, start: int, limit: int, results: Any) -> dict[str, Any]:
    following = start + limit
    address = f"{request.build_absolute_uri(request.path)}?start={following}&limit={limit}"
    return {"count": count, "next": address if following < count else None, "results": results}
