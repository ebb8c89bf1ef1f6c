"""Campaigns in the admin: settings are edited with their history; what people did is looked at and never edited."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from simple_history.admin import SimpleHistoryAdmin
from unfold.admin import ModelAdmin

from accounts.adminsite import SharedAdmin
from accounts.errors import DomainError
from labeling.models import Campaign, CampaignState, Exclusion, Invite, Judgement, Verdict
from labeling.services import campaign_close, campaign_create, campaign_open, campaign_pause, campaign_update
from labeling.services.campaigns import FIXED_ONCE_OPEN


@admin.register(Campaign)
class CampaignAdmin(SimpleHistoryAdmin, SharedAdmin):
    """Settings and moves; trials, people, verdicts and invites are on the campaign's own page."""

    list_display = ["name", "page", "protocol", "state", "overlap", "created_by", "created_at"]
    list_filter = ["state", "protocol", "is_public"]
    list_select_related = ["created_by"]
    search_fields = ["name"]
    fields = ["name", "protocol", "taxonomy", "question", "overlap", "extra_slots", "sampling", "budget", "purpose",
              "instructions", "consent", "gold_share", "gold_warn", "gold_stop", "gold_minimum", "repeat_share",
              "block_minutes", "lease_seconds", "require_viewing", "show_agreement", "seed", "is_public"]  # fmt: skip
    actions = ["open_selected", "pause_selected", "close_selected"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        return rows.with_taxonomy()

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        if not isinstance(obj, Campaign):
            return []
        fixed = ["protocol", "taxonomy"]
        return fixed if obj.state == CampaignState.DRAFT else [*fixed, *FIXED_ONCE_OPEN]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> type[ModelForm]:
        form: type[ModelForm] = super().get_form(request, obj, change, **kwargs)
        if "taxonomy" in form.base_fields:
            field: Any = form.base_fields["taxonomy"]
            field.queryset = field.queryset.visible_to(request.user).light()
        return form

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        try:
            if change:
                changes = {name: form.cleaned_data[name] for name in form.changed_data}
                campaign_update(campaign=Campaign.objects.get(pk=obj.pk), by=self._user(request), **changes)
            else:
                obj.pk = campaign_create(by=self._user(request), **form.cleaned_data).pk
        except DomainError as error:
            self.message_user(request, str(error), messages.ERROR)

    @admin.display(description="Progress and people")
    def page(self, campaign: Campaign) -> SafeString:
        return format_html('<a href="{}">Open page</a>', campaign.get_absolute_url())

    def _move(self, request: HttpRequest, campaigns: QuerySet[Any], move: Any) -> None:
        for campaign in campaigns:
            try:
                move(campaign=campaign, by=self._user(request))
                self.message_user(request, f"“{campaign}” is {campaign.state} now.", messages.SUCCESS)
            except DomainError as error:
                self.message_user(request, str(error), messages.ERROR)

    @admin.action(description="Open")
    def open_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._move(request, queryset, campaign_open)

    @admin.action(description="Pause")
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._move(request, queryset, campaign_pause)

    @admin.action(description="Close for good")
    def close_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._move(request, queryset, campaign_close)


class OfCampaign(ModelAdmin):
    """Base of rows that belong to a campaign and that nobody edits here."""

    campaign_path = "campaign"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        seen = Campaign.objects.visible_to(request.user).values("pk")
        return super().get_queryset(request).filter(**{f"{self.campaign_path}__in": seen})

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


@admin.register(Judgement)
class JudgementAdmin(OfCampaign):
    list_display = ["id", "campaign", "trial", "person", "kind", "value", "milliseconds", "created_at", "superseded_at"]
    list_filter = ["kind", "campaign"]
    list_select_related = ["campaign", "trial", "person"]
    show_full_result_count = False


@admin.register(Verdict)
class VerdictAdmin(OfCampaign):
    list_display = ["trial", "campaign", "outcome", "value", "counts", "n_judgements", "settled_at"]
    list_filter = ["outcome", "campaign"]
    list_select_related = ["campaign", "trial"]


@admin.register(Invite)
class InviteAdmin(OfCampaign):
    list_display = ["campaign", "note", "used", "quota", "expires_at", "revoked_at", "created_by"]
    list_select_related = ["campaign", "created_by"]
    exclude = ["code"]


@admin.register(Exclusion)
class ExclusionAdmin(OfCampaign):
    campaign_path = "participation__campaign"
    list_display = ["participation", "reason", "created_by", "created_at", "lifted_by", "lifted_at"]
    list_select_related = ["participation__campaign", "participation__person", "created_by", "lifted_by"]
