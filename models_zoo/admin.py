"""The zoo in the admin: cards are edited with their history, versions and scores are looked at."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model as DjangoModel
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from simple_history.admin import SimpleHistoryAdmin
from unfold.admin import ModelAdmin

from accounts.adminsite import SharedAdmin
from accounts.errors import DomainError
from models_zoo.models import Model, Scores, Version
from models_zoo.services import version_recheck


@admin.register(Model)
class ZooModelAdmin(SimpleHistoryAdmin, SharedAdmin):
    """Cards. Task, label space and direction are chosen once: versions are checked against them."""

    list_display = ["name", "task", "taxonomy", "licence", "is_public", "created_by", "created_at"]
    list_filter = ["task", "is_public"]
    list_select_related = ["taxonomy", "created_by"]
    search_fields = ["name", "description"]
    history_list_display = ["licence", "is_public"]
    fields = [
        "name", "task", "taxonomy", "higher_is_better", "score_low", "score_high", "description", "licence",
        "source_url", "is_public",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        models: Any = super().get_queryset(request)
        found: QuerySet[Any] = models.for_lists()
        return found

    def get_readonly_fields(self, request: HttpRequest, obj: DjangoModel | None = None) -> list[str]:
        return ["task", "taxonomy", "higher_is_better"] if obj else []

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> type[ModelForm]:
        form: type[ModelForm] = super().get_form(request, obj, change, **kwargs)
        if "taxonomy" in form.base_fields:
            field: Any = form.base_fields["taxonomy"]
            field.queryset = field.queryset.visible_to(request.user).light()
        return form


class LookedAt(ModelAdmin):
    """Base of rows that nobody edits: versions never change, scores are computed."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).visible_to(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_authenticated and request.user.is_researcher)

    def has_view_permission(self, request: HttpRequest, obj: DjangoModel | None = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: DjangoModel | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: DjangoModel | None = None) -> bool:
        return False


@admin.register(Version)
class VersionAdmin(LookedAt):
    list_display = [
        "model",
        "label",
        "kind",
        "architecture",
        "state",
        "parameters",
        "milliseconds",
        "created_by",
        "created_at",
    ]
    list_filter = ["state", "kind", "model__task"]
    list_select_related = ["model", "created_by"]
    search_fields = ["model__name", "label", "architecture"]
    actions = ["recheck"]

    @admin.action(description="Check refused versions again", permissions=["view"])
    def recheck(self, request: HttpRequest, versions: QuerySet[Version]) -> None:
        for version in versions.select_related("model"):
            try:
                version_recheck(version=version, by=request.user)  # type: ignore[arg-type]  # logged in
            except DomainError as error:
                messages.error(request, str(error))


@admin.register(Scores)
class ScoresAdmin(LookedAt):
    list_display = ["version", "corpus", "state", "accuracy", "srcc", "n_missing", "images_per_second", "completed_at"]
    list_filter = ["state", "version__model__task"]
    list_select_related = ["version__model", "corpus"]
    search_fields = ["version__model__name", "version__label", "corpus__name"]
