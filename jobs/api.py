"""Jobs for programs: look, cancel, retry."""

from typing import Any, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from accounts.pagination import NewestFirst
from jobs.models import Job
from jobs.services import job_cancel, job_retry


class JobPages(NewestFirst):
    ordering = "-created_at"  # ids are random


class JobSerializer(serializers.ModelSerializer[Job]):
    percent = serializers.FloatField(read_only=True, allow_null=True, help_text="0 to 100; null without a total")
    seconds_left = serializers.FloatField(read_only=True, allow_null=True, help_text="Estimated from the rate")
    created_by: serializers.StringRelatedField[Job] = serializers.StringRelatedField(read_only=True)

    class Meta:
        model = Job
        fields = [
            "id", "kind", "title", "subject", "queue", "state", "payload", "created_by", "created_at", "started_at",
            "ended_at", "not_before", "attempts", "max_attempts", "done", "total", "unit", "percent", "rate",
            "seconds_left", "message", "result", "error",
        ]  # fmt: skip
        read_only_fields = fields


class JobViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Job]):
    """Background work: your own, and what is about objects that you may see."""

    serializer_class = JobSerializer
    pagination_class = JobPages
    filterset_fields = ["state", "kind", "subject", "queue"]
    queryset = Job.objects.none()

    def get_queryset(self) -> QuerySet[Job]:
        return Job.objects.visible_to(cast("User", self.request.user)).select_related("created_by")

    def _after(self, job: Job) -> Response:
        return Response(self.get_serializer(job).data)

    @extend_schema(request=None, responses=JobSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Cancel it: at once while queued, between batches while running."""
        return self._after(job_cancel(job=self.get_object(), by=cast("User", request.user)))

    @extend_schema(request=None, responses=JobSerializer)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: Any = None) -> Response:
        """Queue a failed or cancelled job again; it goes on from its checkpoint."""
        return self._after(job_retry(job=self.get_object(), by=cast("User", request.user)))
