"""Pages of training. Nothing here trains, imports torch, or reads images."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError
from accounts.models import User
from accounts.permissions import require_edit, require_researcher
from jobs.services import job_cancel
from models_zoo.models import Model, Version
from models_zoo.reading import class_names
from training import (
    charts,
    comparing,
    curves,
    downloads,
    explorers,
    labelled,
    notes,
    offers,
    points,
    reading,
    reports,
    services,
    summaries,
)
from training.engine.labels import SPLITS
from training.engine.metrics import FILE as METRICS_FILE
from training.engine.registry import Method, UnknownMethod, methods
from training.engine.registry import method as method_named
from training.engine.samples import FOLDER as SAMPLES_FOLDER
from training.forms import CompareForm, EditionForm, RunFilterForm, RunForm, SetForm
from training.models import Edition, LabelledSet, Run, RunInput, VersionPoint

PAGE = 50
RUNS_OF_METHOD = 20


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)


def _researcher(request: HttpRequest, action: str = "look at training") -> User:
    user = _user(request)
    require_researcher(user, action=action)
    return user


def _run(request: HttpRequest, pk: int) -> Run:
    visible = Run.objects.visible_to(_researcher(request)).for_lists()
    found: Run = get_object_or_404(visible, pk=pk)
    return found


def _set(request: HttpRequest, pk: int) -> LabelledSet:
    visible = LabelledSet.objects.visible_to(_researcher(request)).for_lists()
    found: LabelledSet = get_object_or_404(visible, pk=pk)
    return found


def _method(name: str) -> Method:
    try:
        return method_named(name)
    except UnknownMethod as error:
        raise Http404(str(error)) from None


def _may_edit(request: HttpRequest, target: Run | LabelledSet) -> bool:
    return type(target).objects.editable_by(_user(request)).filter(pk=target.pk).exists()


# Methods


@login_required
@require_GET
def method_list(request: HttpRequest) -> HttpResponse:
    """What can be trained here, and what runs now."""
    user = _researcher(request)
    visible = Run.objects.visible_to(user)
    counts = dict(visible.values_list("method").annotate(n=Count("pk")).order_by())
    shown = [(each, counts.get(name, 0)) for name, each in methods().items()]
    live = visible.for_lists().filter(job__state__in=["queued", "running", "cancelling"])[:RUNS_OF_METHOD]
    return render(request, "training/methods.html", {"methods": shown, "live": live, "tab": "methods"})


@login_required
@require_GET
def method(request: HttpRequest, name: str) -> HttpResponse:
    """One method: its card, its config, its runs."""
    user, of = _researcher(request), _method(name)
    found = (
        Run.objects.visible_to(user)
        .filter(method=name)
        .for_lists()
        .annotate(n_outputs=Count("outputs"))
        .order_by("-id")
    )
    context = {
        "method": of,
        "card": of.card,
        "lines": reading.config_lines(of),
        "plots": reading.plots(of),
        "has_notes": notes.document(name) is not None,
        "runs": found[:RUNS_OF_METHOD],
        "tab": "methods",
    }
    return render(request, "training/method.html", context)


@login_required
@require_GET
def method_notes(request: HttpRequest, name: str) -> HttpResponse:
    """The document of a method: idea, what is faithful and what differs, results."""
    _researcher(request)
    of, document = _method(name), notes.document(name)
    if document is None:
        raise Http404(f'Method "{name}" has no document.')

    def address(picture: str) -> str:
        return reverse("training:method_picture", args=[picture])

    text = notes.page(document.read_text().partition("\n")[2], address)  # without its title
    return render(request, "training/notes.html", {"card": of.card, "notes": text, "tab": "methods"})


@login_required
@require_GET
def method_picture(request: HttpRequest, file: str) -> HttpResponse | FileResponse:
    """A picture of the documents of methods."""
    _researcher(request)
    path = notes.picture(file)
    if path is None:
        raise Http404(f"There is no picture {file}.")
    return _file(path, "", notes.PICTURES[path.suffix])


# Runs


@login_required
@require_GET
def runs(request: HttpRequest) -> HttpResponse:
    """The runs that the person may see, newest first."""
    form = RunFilterForm(request.GET)
    visible = (
        form.apply(Run.objects.visible_to(_researcher(request)).for_lists())
        .annotate(n_outputs=Count("outputs"))
        .order_by("-id")
    )
    page = Paginator(visible, PAGE).get_page(request.GET.get("page"))
    titles = {name: each.card.title for name, each in methods().items()}
    for each in cast("Iterable[Any]", page.object_list):
        each.method_title = titles.get(each.method, each.method)
    query = request.GET.copy()
    query.pop("page", None)
    is_filtered = any(query.values())
    context = {"form": form, "page": page, "query": query.urlencode(), "is_filtered": is_filtered, "tab": "runs"}
    return render(request, "training/runs.html", context)


@login_required
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """What the runs of several methods measured, side by side, with a plot of two measures."""
    user = _researcher(request)
    form = _compare_form(request, user)
    lines = form.lines()
    x, y = form.axes()
    context = {
        "form": form,
        "lines": [(number, line, _cells_of(line)) for number, line in enumerate(lines, 1)],
        "measures": comparing.MEASURES.values(),
        "plot": charts.scatter(lines, x, y),
        "x": x,
        "y": y,
        "attacks": sorted({line.attack for line in lines if line.attack}),
        "radii": [comparing.radius(eps) for eps in sorted({line.eps for line in lines if line.eps is not None})],
        "query": form.data.urlencode(),  # type: ignore[attr-defined]  # a QueryDict
        "has_any": bool(lines) or form.runs.exists(),
        "tab": "compare",
    }
    return render(request, "training/compare.html", context)


def _compare_form(request: HttpRequest, user: User) -> CompareForm:
    """As the address says; without choices, the labelled set of the newest measured run."""
    data = request.GET.copy()
    newest = comparing.runs_measured(user).filter(edition__isnull=False).order_by("-id").first()
    if not {"edition", "run"} & set(data) and newest is not None:
        data["edition"] = str(newest.edition_id)
    for name, default in zip(("x", "y"), comparing.AXES, strict=True):
        data.setdefault(name, default)
    return CompareForm(data, user=user)


def _cells_of(line: comparing.Line) -> list[tuple[str, str, float | None]]:
    """Value, its interval and what it is sorted by, of each measure."""
    cells: list[tuple[str, str, float | None]] = []
    for measure in comparing.MEASURES.values():
        value = line.values.get(measure.name)
        if value is None:
            cells.append(("—", "", None))
        else:
            cells.append((comparing.written(measure, value.value), comparing.around(measure, value), value.value))
    return cells


@login_required
@require_GET
def compare_file(request: HttpRequest) -> HttpResponse:
    """The same as CSV."""
    form = _compare_form(request, _researcher(request))
    response = HttpResponse(comparing.csv_of(form.lines()), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="comparison.csv"'
    return response


@login_required
def run_new(request: HttpRequest, name: str) -> HttpResponse:
    """The form of a run, made from the method's card and config; ``?preset=`` fills it in, ``?like=`` repeats a run."""
    user, of = _researcher(request, "start training"), _method(name)
    preset = request.POST.get("preset") or request.GET.get("preset") or reading.default_preset(of)
    if preset and preset not in of.card.presets:
        raise Http404(f'Method "{name}" has no preset "{preset}".')
    like = _like(request, of)
    if like is not None and "preset" not in request.GET and like.preset in of.card.presets:
        preset = like.preset
    initial = {**(RunForm.initial_of(like) if like else {}), **request.GET.dict()}
    form = RunForm(request.POST or None, method=of, user=user, preset=preset, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            made = services.run_create(by=user, **form.service_arguments())
        except DomainError as error:
            form.blame(error)
        else:
            messages.success(request, f'"{made}" waits for a worker.')
            return redirect(made)
    context = {"method": of, "card": of.card, "form": form, "preset": preset, "like": like, "tab": "methods"}
    return render(request, "training/run_form.html", context)


def _like(request: HttpRequest, of: Method) -> Run | None:
    """The run of this method that the address names."""
    number = request.GET.get("like", "")
    if not number.isdecimal():
        return None
    visible = Run.objects.visible_to(_user(request)).filter(method=of.card.name)
    found: Run = get_object_or_404(visible.prefetch_related("inputs"), pk=int(number))
    return found


@login_required
@require_GET
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """One run: how far it is, its curves and samples, what it was made with, what came out."""
    shown = _run(request, pk)
    of = reading.method_of(shown)
    user = _user(request)
    inputs = list(shown.inputs.select_related("version__model"))
    outputs = list(shown.outputs.select_related("version__model"))
    origins = reading.input_origins([entry.version for entry in inputs], user)
    heirs = Run.objects.visible_to(user).filter(
        pk__in=RunInput.objects.filter(version__in=[entry.version_id for entry in outputs]).values("run")
    )
    context = {
        "run": shown,
        "job": shown.job,
        "card": of.card if of else None,
        "plots": reading.plots(of),
        "config": reading.run_config(shown, of),
        "inputs": [(entry, origins.get(entry.version_id)) for entry in inputs],
        "outputs": [(entry, reports.report_blocks(entry.facts)) for entry in outputs],
        "heirs": heirs[:RUNS_OF_METHOD],
        "samples": reading.samples(shown.directory),
        "blocks": reports.report_blocks(shown.report),
        "artifacts": explorers.artifacts(shown),
        "has_explorer": explorers.has_explorer(shown),
        "is_measured": any(comparing.MEASURED in entry.facts for entry in outputs),
        "may_edit": _may_edit(request, shown),
        "tab": "runs",
    }
    return render(request, "training/run.html", context)


@login_required
@require_GET
@never_cache
def run_metrics(request: HttpRequest, pk: int) -> JsonResponse:
    """What the metrics say after a position (``?after=``, from an earlier answer), thinned."""
    after = request.GET.get("after", "0")
    return JsonResponse(curves.read(_run(request, pk).directory, int(after) if after.isdecimal() else 0).plain())


@login_required
@require_GET
def run_stream(request: HttpRequest, pk: int) -> HttpResponse | FileResponse:
    """All metrics as they were written, as a download."""
    shown = _run(request, pk)
    return _file(shown.directory / METRICS_FILE, f"run-{shown.pk}-metrics.jsonl", "application/x-ndjson")


@login_required
@require_GET
def run_sample(request: HttpRequest, pk: int, file: str) -> HttpResponse | FileResponse:
    """A picture that the run showed."""
    folder = _run(request, pk).directory / SAMPLES_FOLDER
    if file not in {entry.name for entry in folder.glob("*.png")} if folder.is_dir() else set():
        raise Http404(f"There is no sample {file}.")
    response = _file(folder / file, "", "image/png")
    response["Cache-Control"] = "private, max-age=86400"
    return response


@login_required
@require_GET
def run_artifact(request: HttpRequest, pk: int, file: str) -> HttpResponse | FileResponse:
    """A file that the recipe kept: pictures are shown, everything else is a download."""
    path = explorers.artifact_path(_run(request, pk), file)
    if path is None:
        raise Http404(f"The run kept no file {file}.")
    is_picture = path.suffix == ".png"
    response = _file(path, "" if is_picture else file, "image/png" if is_picture else "application/octet-stream")
    response["Cache-Control"] = "private, no-cache"
    return response


@login_required
@require_GET
def run_explore(request: HttpRequest, pk: int) -> HttpResponse:
    """An adjustable result: what was measured at each of its points, with a slider; versions of points."""
    shown = _run(request, pk)
    explorer = explorers.explorer_of(shown)
    if explorer is None:
        raise Http404(f'"{shown}" left nothing to explore (yet).')
    adjustable = explorers.adjustable_of(shown, explorer)
    user = _user(request)
    may_make = (
        adjustable is not None
        and points.is_adjustable(adjustable.version)
        and Model.objects.editable_by(user).filter(pk=adjustable.version.model_id).exists()
    )
    of = reading.method_of(shown)
    context = {
        "run": shown,
        "card": of.card if of else None,
        "kind": explorer["kind"],
        "adjustable": adjustable,
        "may_make": may_make,
        "made": _points_made(adjustable.version) if adjustable else [],
        "tab": "runs",
    }
    return render(request, f"training/explore/{explorer['kind']}.html", context)


def _points_made(version: Version) -> QuerySet[VersionPoint]:
    """The points of a version that were asked for, newest first."""
    asked: QuerySet[VersionPoint] = version.points.select_related("made__model", "job").order_by("-id")
    return asked


@login_required
@require_GET
@never_cache
def run_explorer(request: HttpRequest, pk: int) -> JsonResponse:
    """What the explorer's page draws."""
    explorer = explorers.explorer_of(_run(request, pk))
    if explorer is None:
        raise Http404("There is nothing to explore (yet).")
    return JsonResponse(explorer)


@login_required
@require_POST
def point_make(request: HttpRequest, pk: int) -> HttpResponse:
    """Have a version made of a point of the run's adjustable version."""
    shown = _run(request, pk)
    explorer = explorers.explorer_of(shown)
    adjustable = explorers.adjustable_of(shown, explorer) if explorer else None
    if adjustable is None:
        raise Http404(f'"{shown}" left nothing adjustable.')
    back = redirect("training:run_explore", pk=shown.pk)
    try:
        made = points.point_request(version=adjustable.version, point=_point(request), by=_user(request))
    except DomainError as error:
        messages.error(request, str(error))
        return back
    if made.made is not None:
        messages.info(request, f'"{made.made}" is this point already.')
        return redirect(made.made)
    messages.success(request, f'A worker makes "{made}"; it is listed below the point.')
    return back


def _point(request: HttpRequest) -> dict[str, Any]:
    """The point that a form names."""
    try:
        point = json.loads(request.POST.get("point", ""))
    except ValueError:
        point = None
    if not isinstance(point, dict):
        raise DomainError('Name the point, such as {"lam": 0.3, "width": 1}.', field="point")
    return point


def _file(path: Any, name: str, kind: str) -> FileResponse:
    try:
        return FileResponse(path.open("rb"), as_attachment=bool(name), filename=name, content_type=kind)
    except FileNotFoundError:
        raise Http404("There is no such file (yet).") from None


@login_required
@require_POST
def run_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    shown = _run(request, pk)
    try:
        if shown.job is not None:
            job_cancel(job=shown.job, by=_user(request))
    except DomainError as error:
        messages.error(request, str(error))
    return redirect(shown)


@login_required
@require_POST
def run_retry(request: HttpRequest, pk: int) -> HttpResponse:
    shown = _run(request, pk)
    try:
        services.run_retry(run=shown, by=_user(request))
    except DomainError as error:
        messages.error(request, str(error))
    return redirect(shown)


# Labelled sets


@login_required
@require_GET
def sets(request: HttpRequest) -> HttpResponse:
    """The labelled sets that the person may see."""
    newest = Edition.objects.filter(labelled_set=OuterRef("pk")).order_by("-number")
    visible = LabelledSet.objects.visible_to(_researcher(request)).for_lists()
    of_newest = {"number": Subquery(newest.values("number")[:1]), "n_rows": Subquery(newest.values("n_rows")[:1])}
    visible = visible.annotate(**of_newest)
    page = Paginator(visible, PAGE).get_page(request.GET.get("page"))
    return render(request, "training/sets.html", {"page": page, "query": "", "tab": "sets"})


@login_required
def set_new(request: HttpRequest) -> HttpResponse:
    user = _researcher(request, "make labelled sets")
    form = SetForm(request.POST or None, user=user)
    if form.is_valid():
        try:
            made = labelled.labelled_set_create(by=user, **form.cleaned_data)
        except DomainError as error:
            form.add_error(error.field if error.field in form.fields else None, str(error))
        else:
            return redirect("training:edition_new", pk=made.pk)
    return render(request, "training/set_form.html", {"form": form, "tab": "sets"})


@login_required
@require_GET
def labelled_set(request: HttpRequest, pk: int) -> HttpResponse:
    """A labelled set and one of its editions (``?edition=``, the newest by default)."""
    shown = _set(request, pk)
    editions = list(shown.editions.select_related("created_by").annotate(n_runs=Count("runs")).order_by("-number"))
    edition = _chosen(request, editions)
    context = {"set": shown, "editions": editions, "edition": edition, "tab": "sets"}
    context |= {"may_edit": _may_edit(request, shown), "splits": SPLITS}
    if edition is not None:
        context |= _edition_context(edition, shown)
        visible = Run.objects.visible_to(_user(request)).filter(edition=edition)
        context["runs"] = visible.for_lists().annotate(n_outputs=Count("outputs")).order_by("-id")[:RUNS_OF_METHOD]
    return render(request, "training/set.html", context)


def _chosen(request: HttpRequest, editions: Sequence[Edition]) -> Edition | None:
    number = request.GET.get("edition", "")
    if not number.isdecimal():
        return editions[0] if editions else None
    found = next((edition for edition in editions if edition.number == int(number)), None)
    if found is None:
        raise Http404(f"There is no edition {number}.")
    return found


def _edition_context(edition: Edition, of: LabelledSet) -> dict[str, Any]:
    try:
        summary = summaries.edition_summary(edition)
    except DomainError as error:
        return {"sources": offers.source_lines(edition.sources), "missing": str(error)}
    context: dict[str, Any] = {
        "sources": offers.source_lines(edition.sources),
        "summary": summary,
        "cells": _cells(edition),
        "left_out": edition.counts.get("left_out", {}),
    }
    if summary["is_quality"]:
        return context | {"plot": summaries.mos_plot(summary)}
    lines = summaries.class_lines(summary, class_names(of.taxonomy) if of.taxonomy else [])
    return context | {"classes": lines}


def _cells(edition: Edition) -> list[dict[str, Any]]:
    """Rows by origin, and of each source: one line each, with the counts of the splits where they are known."""
    cells: dict[str, dict[str, int]] = edition.counts.get("cells", {})
    return [
        {"origin": origin, "counts": [counts.get(split, 0) for split in SPLITS], "total": sum(counts.values())}
        for origin, counts in cells.items()
    ]


@login_required
def edition_new(request: HttpRequest, pk: int) -> HttpResponse:
    """Add an edition: what the newest one was made from, and more."""
    shown, user = _set(request, pk), _user(request)
    require_edit(user, shown, action="add editions to")
    newest = shown.editions.first()
    form = EditionForm(request.POST or None, labelled_set=shown, based_on=newest, user=user)
    if request.method == "POST" and form.is_valid():
        try:
            made = labelled.edition_add(labelled_set=shown, by=user, **form.service_arguments())
        except DomainError as error:
            form.blame(error)
        else:
            messages.success(request, f"Edition {made.number} has {made.n_rows:,} rows.")
            return redirect(shown)
    context = {"set": shown, "form": form, "based_on": newest, "tab": "sets"}
    return render(request, "training/edition_form.html", context)


@login_required
@require_GET
def edition_file(request: HttpRequest, pk: int, ending: str) -> HttpResponse | StreamingHttpResponse:
    """The rows of an edition as CSV or Parquet."""
    edition = get_object_or_404(reading.editions_visible(_researcher(request)), pk=pk)
    kind, name, blocks = downloads.edition_stream(edition, ending)
    response = StreamingHttpResponse(blocks, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
