"""Competitions in the admin: made, previewed and launched through the same services as everywhere else."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from accounts.adminsite import SharedAdmin
from accounts.errors import DomainError
from accounts.models import User
from competition import planning, services
from competition.forms import COMMON_SETTINGS, CompetitionForm, form_of
from competition.models import Competition, Round, RoundState, Snapshot
from competition.querysets import CompetitionQuerySet
from competition.showing import SHOWS, show_of
from competition.showing.base import Show


class CompetitionAdminForm(CompetitionForm):
    """The page's form with the admin's widgets; what the service would refuse is refused here, at its field."""

    user: User

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, user=self.user, **kwargs)
        if self.instance.pk and self.instance.rounds.exists():
            for name in ("versions", *self.kind.Options.model_fields):
                del self.fields[name]  # entrants of a launched competition are added on its setup page

    class Meta(CompetitionForm.Meta):
        widgets: dict[str, Any] = {}

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if cleaned is None or "versions" not in self.fields:
            return cleaned
        if not cleaned.get("versions"):
            self.add_error("versions", "There are no entrants: choose at least two model versions.")
        plan = self.plan_of(cleaned)
        problems = [*planning.setting_problems(plan), *self._name_problems(cleaned)]
        for problem in problems:
            self.add_error(problem.field if problem.field in self.fields else None, problem.message)
        return cleaned

    def _name_problems(self, cleaned: dict[str, Any]) -> list[planning.Problem]:
        name = (cleaned.get("name") or "").strip()
        if not Competition.objects.filter(name=name).exclude(pk=self.instance.pk).exists():
            return []
        return [planning.Problem("name", f'There is a competition "{name}" already: choose another name.')]


@admin.register(Competition)
class CompetitionAdmin(SharedAdmin):
    form = CompetitionAdminForm
    change_form_outer_before_template = "competition/admin_kinds.html"
    list_display = [
        "name", "kind_shown", "corpus", "entrants_shown", "size_shown", "state_shown", "created_by", "created_at",
    ]  # fmt: skip
    list_filter = ["kind", "is_public"]
    list_select_related = ["corpus", "created_by"]
    search_fields = ["name", "description"]
    actions_detail = ["launch_detail", "open_detail"]
    actions_row = ["launch_row"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return cast("CompetitionQuerySet", super().get_queryset(request)).with_round()

    def _show(self, request: HttpRequest, obj: Competition | None) -> Show:
        """The kind of a competition, or the one that the address of a new one names; MAD where it names none."""
        name = obj.kind if obj else request.GET.get("kind", "mad")
        if name not in SHOWS:
            raise Http404(f'There is no kind of competition "{name}".')
        return SHOWS[name]

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm]:
        kwargs["form"] = form_of(self._show(request, obj), CompetitionAdminForm)
        form: type[CompetitionAdminForm] = super().get_form(request, obj, change, **kwargs)
        form.user = self._user(request)
        if "versions" in form.base_fields:
            form.base_fields["versions"].widget = UnfoldAdminCheckboxSelectMultipleWidget()
        for name in form.kind.Options.model_fields:
            form.base_fields[name].widget = _dressed(form.base_fields[name])
        return form

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        context = {"shows": SHOWS.values(), "chosen": self._show(request, None)}
        return super().add_view(request, form_url, {**(extra_context or {}), **context})

    def get_readonly_fields(self, request: HttpRequest, obj: Competition | None = None) -> list[str]:
        """Once a round has begun, the question and its settings are fixed."""
        if obj is None or not obj.rounds.exists():
            return []
        fixed = [name for name in COMMON_SETTINGS if name != "judgement_budget"]
        return ["corpus", *self._show(request, obj).kind.settings, *fixed, "settings_shown"]

    def get_fieldsets(self, request: HttpRequest, obj: Competition | None = None) -> Any:
        kind = self._show(request, obj).kind
        is_launched = obj is not None and obj.rounds.exists()
        options = ["settings_shown"] if is_launched else [*kind.Options.model_fields]
        options = options if kind.Options.model_fields else []
        selection = [*kind.settings, *options, "duplicate_distance", "control_size"]
        return [
            (None, {"fields": ["name", "corpus", *([] if is_launched else ["versions"])]}),
            ("Selection", {"fields": selection}),
            ("Labelling", {"fields": ["overlap", "judgement_budget"]}),
            ("More", {"fields": ["description", "seed", "is_public"]}),
        ]

    @display(description="Kind", ordering="kind")
    def kind_shown(self, competition: Competition) -> str:
        return str(competition.get_kind_display())

    @display(description="Size")
    def size_shown(self, competition: Competition) -> str:
        return show_of(competition).size(competition)

    @display(description="Settings of its kind")
    def settings_shown(self, competition: Competition) -> str:
        return "; ".join(f"{title}: {value}" for title, value in show_of(competition).settings(competition))

    @display(description="Entrants")
    def entrants_shown(self, competition: Any) -> int:
        return cast("int", competition.n_entrants)

    @display(
        description="State",
        label={"Complete": "success", "Failed": "danger", "Cancelled": "warning", "Not launched": "info"},
    )
    def state_shown(self, competition: Any) -> str:
        return dict(RoundState.choices).get(competition.round_state, "Not launched").split(":")[0]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.rounds.exists():
            return False
        return self.has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Competition, form: Any, change: bool) -> None:
        values = form.values()
        versions, user = list(form.cleaned_data.get("versions", [])), self._user(request)
        if not change:
            made = services.competition_create(by=user, versions=versions, kind=form.kind.name, **values)
            obj.pk = made.pk
            obj._state.adding = False
        elif "versions" in form.cleaned_data:
            services.competition_configure(
                competition=Competition.objects.get(pk=obj.pk), by=user, versions=versions, **values
            )
        else:
            services.competition_update(competition=Competition.objects.get(pk=obj.pk), by=user, **values)
        obj.refresh_from_db()

    def delete_model(self, request: HttpRequest, obj: Competition) -> None:
        services.competition_delete(competition=obj, by=self._user(request))

    def response_add(
        self, request: HttpRequest, obj: Competition, post_url_continue: str | None = None
    ) -> HttpResponse:
        """After saving, what the launch will take."""
        return redirect("admin:competition_competition_launch", object_id=obj.pk)

    def get_urls(self) -> list[URLPattern]:
        address = path(
            "<int:object_id>/launch/",
            self.admin_site.admin_view(self.launch_view),
            name="competition_competition_launch",
        )
        return [address, *super().get_urls()]

    @action(description="Launch…", url_path="to-launch", icon="rocket_launch")
    def launch_detail(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return redirect("admin:competition_competition_launch", object_id=object_id)

    @action(description="Launch…", url_path="row-to-launch", icon="rocket_launch")
    def launch_row(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return redirect("admin:competition_competition_launch", object_id=object_id)

    @action(description="Dashboard", url_path="dashboard", icon="leaderboard")
    def open_detail(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return redirect("competition:detail", pk=object_id)

    def launch_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """What the launch will take, with a button that does it."""
        competition = get_object_or_404(self.get_queryset(request), pk=object_id)
        if request.method == "POST":
            try:
                services.competition_launch(competition=competition, by=self._user(request))
            except DomainError as error:
                messages.error(request, str(error))
                return HttpResponseRedirect(request.path)
            messages.success(request, f'"{competition}" is launched: its entrants are being scored.')
            return redirect("competition:detail", pk=object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Launch {competition}",
            "opts": self.model._meta,
            "competition": competition,
            "preview": services.competition_preview(plan=planning.Plan.of(competition)),
            "is_launched": competition.rounds.exists(),
            "may_edit": self.has_change_permission(request, competition),
            "change_url": reverse("admin:competition_competition_change", args=[object_id]),
        }
        return TemplateResponse(request, "competition/admin_launch.html", context)


def _dressed(field: forms.Field) -> forms.Widget:
    """The admin's widget for a field that is none of the model's."""
    widgets: list[tuple[type[forms.Field], Any]] = [
        (forms.BooleanField, UnfoldBooleanSwitchWidget),
        (forms.FloatField, UnfoldAdminDecimalFieldWidget),
        (forms.IntegerField, UnfoldAdminIntegerFieldWidget),
    ]
    if isinstance(field, forms.ChoiceField):
        return UnfoldAdminSelectWidget(choices=field.choices)
    dress = next((widget for kind, widget in widgets if isinstance(field, kind)), UnfoldAdminTextInputWidget)
    return cast("forms.Widget", dress(attrs=field.widget.attrs))


class LookedAtAdmin(ModelAdmin):
    """Rounds and leaderboards: nobody edits them."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        visible = Competition.objects.visible_to(cast("User", request.user))
        return super().get_queryset(request).filter(competition__in=visible)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_authenticated and request.user.is_researcher

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Round)
class RoundAdmin(LookedAtAdmin):
    list_display = ["competition", "number", "state", "campaign", "started_at", "completed_at"]
    list_filter = ["state"]
    list_select_related = ["competition", "campaign"]


@admin.register(Snapshot)
class SnapshotAdmin(LookedAtAdmin):
    list_display = [
        "competition",
        "number",
        "round",
        "n_exhibits",
        "n_judgements",
        "n_open",
        "counts_everyone",
        "created_at",
    ]
    list_select_related = ["competition", "round__competition"]
    fields = [
        "competition",
        "round",
        "number",
        "created_at",
        "replicates",
        "seed",
        "n_exhibits",
        "n_judgements",
        "digest",
    ]
