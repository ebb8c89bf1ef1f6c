"""Training in the admin: what is shared and renamed here is made on the pages, whose forms know the methods."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.decorators import action, display

from accounts.adminsite import SharedAdmin
from jobs.models import JobState
from training.models import LabelledSet, Run


class PageMadeAdmin(SharedAdmin):
    """Base: "Add" leads to the page that makes it; only the fields of ``changeable`` are edited."""

    adding = ""
    changeable: tuple[str, ...] = ()
    actions_detail = ["open_page"]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return redirect(self.adding)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        shown = self.get_fields(request, obj)
        return [str(name) for name in shown if name not in self.changeable]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @action(description="Its page", url_path="page", icon="open_in_new")
    def open_page(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return redirect(self.get_queryset(request).get(pk=object_id))


@admin.register(Run)
class RunAdmin(PageMadeAdmin):
    adding = "training:methods"
    changeable = ("name", "is_public")
    list_display = [
        "name", "method", "preset", "state_shown", "edition", "seed", "created_by", "created_at", "finished_at",
    ]  # fmt: skip
    list_filter = ["method", "job__state"]
    search_fields = ["name"]
    fields = [
        "name", "is_public", "method", "preset", "config", "edition", "seed", "device", "resources", "state_shown",
        "report", "seconds", "created_by", "created_at", "finished_at",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        runs: Any = super().get_queryset(request)
        found: QuerySet[Any] = runs.for_lists()
        return found

    @display(
        description="State",
        ordering="job__state",
        label={"Succeeded": "success", "Failed": "danger", "Cancelled": "warning", "Running": "info"},
    )
    def state_shown(self, run: Run) -> str:
        return str(JobState(run.job.state).label) if run.job else "No job"


@admin.register(LabelledSet)
class LabelledSetAdmin(PageMadeAdmin):
    adding = "training:set_new"
    changeable = ("name", "description", "is_public")
    list_display = ["name", "task", "taxonomy", "is_public", "created_by", "created_at"]
    list_filter = ["task", "is_public"]
    search_fields = ["name", "description"]
    fields = ["name", "description", "is_public", "task", "taxonomy", "created_by", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        sets: Any = super().get_queryset(request)
        found: QuerySet[Any] = sets.for_lists()
        return found
