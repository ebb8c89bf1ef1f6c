"""Corpora in the admin: descriptions and visibility can be changed; rows, items and taxonomies are looked at."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from accounts.adminsite import SharedAdmin
from corpora.models import Corpus, Item, Taxonomy
from corpora.services import corpus_update


@admin.register(Corpus)
class CorpusAdmin(SharedAdmin):
    """Imports start on the corpora page, which shows what the import will do."""

    list_display = [
        "name",
        "state",
        "n_rows",
        "n_labelled",
        "n_rated",
        "n_quarantined",
        "taxonomy",
        "created_by",
        "created_at",
    ]
    list_filter = ["state", "source", "is_public"]
    search_fields = ["name", "description"]
    fields = ["name", "page", "description", "is_public", "source", "location", "root", "taxonomy", "state", "n_rows",
              "n_labelled", "n_rated", "n_quarantined", "n_duplicate_groups", "bytes", "is_packed",
              "digest"]  # fmt: skip
    readonly_fields = [name for name in fields if name not in {"name", "description", "is_public"}]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found: QuerySet[Any] = Corpus.objects.visible_to(request.user).for_lists()
        return found

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        corpus_update(
            corpus=obj,
            by=self._user(request),
            name=obj.name,
            description=obj.description,
            is_public=obj.is_public,
        )

    @admin.display(description="Rows")
    def page(self, corpus: Corpus) -> SafeString:
        return format_html('<a href="{}">Browse</a>', corpus.get_absolute_url())


@admin.register(Taxonomy)
class TaxonomyAdmin(SharedAdmin):
    """Immutable: models and corpora are checked against it."""

    list_display = ["name", "kind", "n_classes", "is_public", "created_by", "created_at"]
    list_filter = ["kind", "is_public"]
    search_fields = ["name"]
    fields = ["name", "page", "kind", "n_classes", "digest", "is_public", "created_by", "created_at"]
    readonly_fields = [name for name in fields if name != "is_public"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found: QuerySet[Any] = Taxonomy.objects.visible_to(request.user).light().select_related("created_by")
        return found

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description="Classes")
    def page(self, taxonomy: Taxonomy) -> SafeString:
        return format_html('<a href="{}">Look up</a>', taxonomy.get_absolute_url())


@admin.register(Item)
class ItemAdmin(ModelAdmin):
    """Pictures that people look at; made by selections."""

    list_display = ["id", "preview", "corpus", "row", "width", "height"]
    list_filter = ["corpus"]
    list_select_related = ["corpus"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(corpus__in=Corpus.objects.visible_to(request.user))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_authenticated and request.user.is_researcher)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description="Picture")
    def preview(self, item: Item) -> SafeString:
        address = reverse("media", args=[item.thumbnail.name])
        return format_html('<img src="{}" alt="Row {}" style="height: 3rem">', address, item.row)
