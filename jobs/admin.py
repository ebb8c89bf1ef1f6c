"""Jobs in the admin, to be looked at; cancel and retry are actions that call the services."""

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from accounts.errors import DomainError
from jobs.models import Job
from jobs.services import job_cancel, job_retry


@admin.register(Job)
class JobAdmin(ModelAdmin):
    list_display = ["title", "kind", "state", "queue", "created_by", "created_at", "ended_at", "attempts"]
    list_filter = ["state", "queue", "kind"]
    list_select_related = ["created_by"]
    search_fields = ["title", "kind", "subject"]
    actions = ["cancel", "retry"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return super().get_queryset(request).visible_to(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_authenticated and request.user.is_researcher

    def has_view_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    def _each(self, request: HttpRequest, jobs: QuerySet[Job], service: Callable[..., Job]) -> None:
        for job in jobs:
            try:
                service(job=job, by=request.user)
            except DomainError as error:
                messages.error(request, str(error))

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        self._each(request, jobs, job_cancel)

    @admin.action(description="Retry", permissions=["view"])
    def retry(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        self._each(request, jobs, job_retry)
