"""Pages of the zoo. Nothing here runs a network: that is a worker's business."""

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError
from accounts.models import User
from accounts.permissions import require_edit, require_researcher
from corpora.models import Corpus
from jobs.models import Job
from models_zoo import charts, quality_charts, services
from models_zoo.adapters.spec import QUALITY_SIZE, Preprocessing
from models_zoo.appearances import appearances_of
from models_zoo.architectures import ArchitectureCard, UnknownArchitecture, architecture_card, list_architectures
from models_zoo.forms import (
    CompareForm,
    ModelForm,
    PictureForm,
    PreprocessingForm,
    ScoreForm,
    VersionForm,
    ZooFilterForm,
)
from models_zoo.lineage import deeds_of
from models_zoo.metrics import MetricCard, MetricError
from models_zoo.metrics import get as metric_card
from models_zoo.models import Model, Purpose, Scores, Task, Version, VersionKind, VersionState
from models_zoo.presets import preset_of, presets_for
from models_zoo.reading import class_names, ensemble_members

PAGE = 50
FOUND = 40


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)


def _model(request: HttpRequest, pk: int) -> Model:
    model: Model = get_object_or_404(
        Model.objects.visible_to(_user(request)).select_related("taxonomy", "created_by"), pk=pk
    )
    return model


def _version(request: HttpRequest, pk: int) -> Version:
    version: Version = get_object_or_404(Version.objects.visible_to(_user(request)).for_lists(), pk=pk)
    return version


def _may_edit(request: HttpRequest, model: Model) -> bool:
    return Model.objects.editable_by(_user(request)).filter(pk=model.pk).exists()


def _blame(form: BaseForm, error: DomainError) -> None:
    """Show a service's error at the field it names."""
    form.add_error(error.field if error.field in form.fields else None, str(error))


@login_required
@require_GET
def zoo(request: HttpRequest) -> HttpResponse:
    """All models that the person may see: filtered, sorted, a page at a time."""
    user = _user(request)
    form = ZooFilterForm(request.GET, user=user)
    page = Paginator(form.apply(Model.objects.visible_to(user).for_lists()), PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "form": form,
        "page": page,
        "corpus": form.cleaned_data.get("corpus"),
        "query": query.urlencode(),
        "is_filtered": any(value for name, value in query.items() if name != "sort"),
    }
    return render(request, "models_zoo/list.html", context)


@login_required
@require_GET
def model(request: HttpRequest, pk: int) -> HttpResponse:
    """A model's card: what it is, its versions, what they scored, where they competed."""
    shown = _model(request, pk)
    made = list(shown.versions.select_related("corpus").prefetch_related("parents__model").order_by("-id"))
    for version in made:
        version.model = shown
    versions = [version for version in made if version.purpose == Purpose.USE]
    scores = Scores.objects.visible_to(_user(request)).filter(version__in=versions).select_related("corpus")
    by_version = {version.pk: version for version in versions}
    context = {
        "model": shown,
        "versions": versions,
        "folded": [version for version in made if version.purpose != Purpose.USE],
        "scores": [(by_version[row.version_id], row) for row in scores.order_by("corpus__name", "-accuracy", "-srcc")],
        "appearances": [(by_version[a.version_id], a) for a in appearances_of(versions, _user(request))],
        "may_edit": _may_edit(request, shown),
        "class_names": class_names(shown.taxonomy)[:12],
        "is_quality": shown.task == Task.QUALITY,
    }
    return render(request, "models_zoo/model.html", context)


@login_required
def model_add(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    require_researcher(user, action="add models")
    form = ModelForm(request.POST or None, user=user)
    if form.is_valid():
        try:
            made = services.model_create(by=user, **form.cleaned_data)
        except DomainError as error:
            _blame(form, error)
        else:
            messages.success(request, f'"{made}" is in the zoo. Now add its first version.')
            return redirect("models_zoo:version_add", pk=made.pk)
    return render(request, "models_zoo/model_form.html", {"form": form, "tasks_of_field": form.tasks_of_field})


@login_required
def model_change(request: HttpRequest, pk: int) -> HttpResponse:
    user, shown = _user(request), _model(request, pk)
    require_edit(user, shown, action="change the model")
    form = ModelForm(request.POST or None, instance=shown, user=user)
    if form.is_valid():
        services.model_update(model=shown, by=user, **form.cleaned_data)
        messages.success(request, "Saved.")
        return redirect(shown)
    return render(request, "models_zoo/model_form.html", {"form": form, "model": Model.objects.get(pk=pk)})


@login_required
def version_add(request: HttpRequest, pk: int) -> HttpResponse:
    user, parent = _user(request), _model(request, pk)
    require_edit(user, parent, action="add versions to")
    form = VersionForm(request.POST or None, request.FILES or None, user=user, task=parent.task)
    if form.is_valid():
        try:
            made = services.version_add(model=parent, by=user, **form.service_arguments())
        except DomainError as error:
            _blame(form, error)
        else:
            messages.success(request, f'"{made}" is stored and being checked.')
            return redirect(made)
    task = parent.task
    context = {
        "form": form,
        "model": parent,
        "is_quality": task == Task.QUALITY,
        "presets": {
            preset.key: PreprocessingForm.values_of(preset.preprocessing, task) for preset in presets_for(task)
        },
        "kinds_of_field": form.kinds_of_field,
    }
    return render(request, "models_zoo/version_form.html", context)


@login_required
@require_GET
def architectures(request: HttpRequest) -> HttpResponse:
    """Names that contain what was typed, as options of a datalist; and the card of an exact match."""
    text = request.GET.get("architecture", "").strip().lower()
    plain = "".join(letter for letter in text if letter.isalnum() or letter in "_-./")
    names = list_architectures(f"*{plain}*", task=request.GET.get("task") or None)
    try:
        card = architecture_card(plain) if plain in names else None
    except UnknownArchitecture:
        card = None
    context = {"names": names[:FOUND], "n_more": max(0, len(names) - FOUND), "card": card, "text": text}
    return render(request, "models_zoo/_architectures.html", context)


@login_required
@require_GET
def version(request: HttpRequest, pk: int) -> HttpResponse:
    """One version: what it is, what was measured, what it scored, what can be done with it."""
    shown = _version(request, pk)
    user = _user(request)
    score_form = ScoreForm(user=user, version=shown)
    context = {
        **_version_facts(shown),
        "version": shown,
        "can_train": shown.kind == VersionKind.TORCH
        and shown.state == VersionState.VERIFIED
        and shown.purpose == Purpose.USE,
        "job": _verify_job(shown),
        "parents": shown.parents.select_related("model"),
        "children": shown.children.select_related("model"),
        "scores": Scores.objects.visible_to(user)
        .filter(version=shown)
        .select_related("corpus")
        .order_by("corpus__name"),
        "appearances": appearances_of([shown], user),
        "deeds": deeds_of([shown], user),
        "may_edit": _may_edit(request, shown.model),
        "score_form": score_form,
        "is_quality": shown.model.task == Task.QUALITY,
        "measured_on": f"{QUALITY_SIZE[1]} × {QUALITY_SIZE[0]} px",
    }
    return render(request, "models_zoo/version.html", context)


@login_required
@require_GET
def version_state(request: HttpRequest, pk: int) -> HttpResponse:
    """How far the check is; asks the page to reload once it has ended."""
    shown = _version(request, pk)
    response = render(request, "models_zoo/_version_state.html", {"version": shown, "job": _verify_job(shown)})
    if shown.state != VersionState.CHECKING:
        response["HX-Refresh"] = "true"
    return response


@login_required
@require_POST
def version_recheck(request: HttpRequest, pk: int) -> HttpResponse:
    shown = _version(request, pk)
    try:
        services.version_recheck(version=shown, by=_user(request))
    except DomainError as error:
        messages.error(request, str(error))
    return redirect(shown)


@login_required
@require_POST
def version_delete(request: HttpRequest, pk: int) -> HttpResponse:
    shown = _version(request, pk)
    name = str(shown)
    try:
        services.version_delete(version=shown, by=_user(request))
    except DomainError as error:
        messages.error(request, str(error))
        return redirect(shown)
    messages.success(request, f'"{name}" is deleted.')
    return redirect("models_zoo:model", pk=shown.model_id)


@login_required
@require_POST
def version_score(request: HttpRequest, pk: int) -> HttpResponse:
    """Start scoring on the chosen corpus."""
    shown, user = _version(request, pk), _user(request)
    form = ScoreForm(request.POST, user=user, version=shown)
    if not form.is_valid():
        messages.error(
            request, "That corpus is scored already, not imported yet, or not shared with you: choose another."
        )
        return redirect(shown)
    corpus = form.cleaned_data["corpus"]
    try:
        services.scores_request(versions=[shown], corpus=corpus, by=user)
    except DomainError as error:
        messages.error(request, str(error))
        return redirect(shown)
    return redirect("models_zoo:scores", pk=shown.pk, corpus_pk=corpus.pk)


@login_required
@require_GET
def scores(request: HttpRequest, pk: int, corpus_pk: int) -> HttpResponse:
    """What a version says about a corpus: accuracy, classes, confidence; or how far scoring is."""
    shown = _version(request, pk)
    corpus = get_object_or_404(Corpus.objects.visible_to(_user(request)), pk=corpus_pk)
    row = Scores.objects.filter(version=shown, corpus=corpus).first()
    job = _score_job(shown, corpus)
    context = {"version": shown, "corpus": corpus, "scores": row, "job": job}
    if row is not None and row.completed_at:
        row.version = shown
        if shown.model.task == Task.QUALITY:
            context |= quality_charts.scores_context(row)
        else:
            context |= charts.scores_context(row, class_names(shown.model.taxonomy))
    return render(request, "models_zoo/scores.html", context)


@login_required
@require_GET
def scores_state(request: HttpRequest, pk: int, corpus_pk: int) -> HttpResponse:
    shown = _version(request, pk)
    corpus = get_object_or_404(Corpus.objects.visible_to(_user(request)), pk=corpus_pk)
    job = _score_job(shown, corpus)
    response = render(request, "models_zoo/_scores_state.html", {"version": shown, "corpus": corpus, "job": job})
    if job is None or job.is_ended:
        response["HX-Refresh"] = "true"
    return response


@login_required
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Two versions side by side, and how they did on the corpora that both scored."""
    user = _user(request)
    chosen = bool(request.GET.get("first") and request.GET.get("second"))
    form = CompareForm(request.GET if chosen else None, user=user, initial=request.GET.dict())
    context: dict[str, Any] = {"form": form}
    if chosen and form.is_valid():
        pair = [form.cleaned_data["first"], form.cleaned_data["second"]]
        context |= {
            "pair": pair,
            "facts": charts.compare_facts(*pair),
            "scores": _common_scores(pair, user),
            "is_quality": pair[0].model.task == Task.QUALITY,
        }
    return render(request, "models_zoo/compare.html", context)


@login_required
def try_picture(request: HttpRequest, pk: int) -> HttpResponse:
    """Upload a picture; a worker looks at it."""
    shown, user = _version(request, pk), _user(request)
    form = PictureForm(request.POST or None, request.FILES or None, user=user, version=shown)
    context = {"version": shown, "form": form, "is_quality": shown.model.task == Task.QUALITY}
    if form.is_valid():
        beside = form.cleaned_data["beside"]
        try:
            job = services.picture_try_request(
                versions=[shown, *([beside] if beside else [])], picture=form.cleaned_data["picture"], by=user
            )
        except DomainError as error:
            _blame(form, error)
        else:
            if request.headers.get("HX-Request"):
                return render(request, "models_zoo/_try_result.html", {"job": job})
            return redirect("models_zoo:try_result", pk=job.pk)
    if request.headers.get("HX-Request") and form.errors:
        return render(request, "models_zoo/_try_errors.html", context)
    return render(request, "models_zoo/try.html", context)


@login_required
@require_GET
def try_result(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What the worker saw, or that it is not done yet."""
    job = get_object_or_404(Job, pk=pk, kind="models_zoo.try", created_by=_user(request))
    template = "_try_result.html" if request.headers.get("HX-Request") else "try_result.html"
    return render(request, f"models_zoo/{template}", {"job": job})


def _verify_job(version: Version) -> Job | None:
    """The newest check of a version; not asked for once it is verified."""
    if version.state == VersionState.VERIFIED:
        return None
    job: Job | None = Job.objects.about(version).filter(kind="models_zoo.verify").first()
    return job


def _score_job(version: Version, corpus: Corpus) -> Job | None:
    """The newest job that scores this version on this corpus, alone or among others."""
    for job in Job.objects.filter(kind="models_zoo.score", payload__corpus=corpus.pk).order_by("-created_at")[:20]:
        if version.pk in job.payload["versions"]:
            return job
    return None


def _version_facts(version: Version) -> dict[str, Any]:
    """How the input is prepared, and the card of the architecture."""
    if version.kind == VersionKind.ENSEMBLE:
        return {"members": ensemble_members(version)}
    if version.kind == VersionKind.PREDICTIONS:
        return {}
    preprocessing = Preprocessing.from_dict(version.preprocessing)
    is_measure = version.kind == VersionKind.METRIC
    return {
        "preprocessing": charts.input_steps(version),
        "preset": None if is_measure else preset_of(preprocessing, version.model.task),
        "card": _card(version),
    }


def _card(version: Version) -> ArchitectureCard | MetricCard | None:
    """The card of the version's architecture or measure; None where this server has no such."""
    try:
        if version.kind == VersionKind.METRIC:
            return metric_card(version.architecture)
        return architecture_card(version.architecture) if version.architecture else None
    except (UnknownArchitecture, MetricError):
        return None


def _common_scores(pair: list[Version], user: User) -> list[dict[str, Any]]:
    """Per corpus that both scored: the two rows of scores, in the order of the pair."""
    rows = Scores.objects.visible_to(user).complete().filter(version__in=pair).select_related("corpus")
    shared = rows.values("corpus").annotate(n=Count("version", distinct=True)).filter(n=2).values("corpus")
    found: dict[Corpus, dict[int, Scores]] = {}
    for row in rows.filter(corpus__in=shared):
        found.setdefault(row.corpus, {})[row.version_id] = row
    return [{"corpus": corpus, "pair": [by[version.pk] for version in pair]} for corpus, by in found.items()]
