"""The corpora and taxonomy pages, row pictures, and media."""

import mimetypes
import shutil
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core import signing
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.core.paginator import Paginator
from django.forms import BaseForm
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import Conflict, DomainError
from accounts.models import User
from accounts.permissions import require_edit, require_researcher
from corpora import browsing, locations, reading, taxonomies
from corpora.files import written_whole
from corpora.forms import CorpusEditForm, CorpusForm, OpinionForm, TaxonomyForm
from corpora.imaging.decode import UndecodableImage, decode_rgb
from corpora.imaging.inspect import TINY_SIDE
from corpora.imaging.picture import picture_of, thumbnail_of
from corpora.models import Corpus, CorpusState, Item, Taxonomy
from corpora.opinions import summary
from corpora.services import (
    KEPT_SECONDS,
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

PAGE = 50
FOREVER = "private, max-age=31536000, immutable"
_OPINIONS_SALT = "corpora.opinions"
_SHOWN_INLINE = {"image/jpeg", "image/png", "image/webp"}


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)


def _number(request: HttpRequest, name: str, default: int | None = None) -> int | None:
    """A whole number of the query; the default when it is absent or no such number."""
    text = request.GET.get(name, "").strip().replace(",", "")
    return int(text) if text.isdecimal() and len(text) < 19 else default


def _blame(form: BaseForm, error: DomainError) -> None:
    form.add_error(error.field if error.field in form.fields else None, str(error))


def _corpus(request: HttpRequest, pk: int) -> Corpus:
    corpus: Corpus = get_object_or_404(
        Corpus.objects.visible_to(_user(request)).select_related("taxonomy", "created_by"), pk=pk
    )
    return corpus


def _ready(request: HttpRequest, pk: int) -> Corpus:
    corpus = _corpus(request, pk)
    if corpus.state != CorpusState.READY:
        raise DomainError(f'Corpus "{corpus}" is not imported: see its page for why, and retry or wait.')
    return corpus


# Corpora


@login_required
@require_GET
def corpus_list(request: HttpRequest) -> HttpResponse:
    found = Corpus.objects.visible_to(_user(request)).for_lists()
    query = request.GET.get("q", "").strip()
    if query:
        found = found.filter(name__icontains=query)
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    return render(request, "corpora/list.html", {"page": page, "query": query})


@login_required
def corpus_new(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    require_researcher(user, action="import a corpus")
    form = CorpusForm(request.POST or None, request.FILES or None, user=user)
    if form.is_valid():
        try:
            corpus = corpus_create(by=user, **form.creation())
        except DomainError as error:
            _blame(form, error)
        else:
            return redirect(corpus)
    return render(request, "corpora/new.html", {"form": form})


@login_required
@require_GET
def corpus_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Facts, the import's job while it matters, and a first look."""
    corpus = _corpus(request, pk)
    is_ready = corpus.state == CorpusState.READY
    quarantine = reading.quarantine_of(corpus)
    is_upload = bool(corpus.location) and Path(corpus.location).is_relative_to(locations.uploads())
    context = {
        "corpus": corpus,
        "tab": "overview",
        "location": f"{Path(corpus.location).name} (uploaded)" if is_upload else corpus.location,
        "options": [(name.replace("_", " ").capitalize(), value) for name, value in corpus.options.items()],
        "distortions": corpus.facts.get("distortions"),
        "job": None if is_ready else Job.objects.about(corpus).first(),
        "page": browsing.row_page(corpus, 1, size=24) if is_ready else None,
        "labels": sorted(browsing.label_counts(corpus), key=lambda entry: -entry[2])[:12] if is_ready else [],
        "n_bad": len(quarantine) if quarantine else 0,
        "may_edit": Corpus.objects.editable_by(_user(request)).filter(pk=pk).exists(),
    }
    return render(request, "corpora/detail.html", context)


@login_required
def corpus_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Name, description, visibility; and deletion, for owners."""
    corpus = _corpus(request, pk)
    user = _user(request)
    require_edit(user, corpus, action="change")
    form = CorpusEditForm(request.POST or None, instance=Corpus.objects.get(pk=pk))
    if form.is_valid():
        try:
            corpus_update(corpus=corpus, by=user, **form.cleaned_data)
        except DomainError as error:
            _blame(form, error)
        else:
            return redirect(corpus)
    owns = Corpus.objects.owned_by(user).filter(pk=pk).exists()
    return render(request, "corpora/edit.html", {"corpus": corpus, "form": form, "owns": owns})


@login_required
@require_POST
def corpus_remove(request: HttpRequest, pk: int) -> HttpResponse:
    corpus = _corpus(request, pk)
    name = str(corpus)
    try:
        corpus_delete(corpus=corpus, by=_user(request))
    except Conflict as error:
        messages.error(request, str(error))
        return redirect("corpora:edit", pk=pk)
    messages.success(request, f'"{name}" is deleted.')
    return redirect("corpora:list")


@login_required
@require_GET
def corpus_rows(request: HttpRequest, pk: int) -> HttpResponse:
    """Browse: by page, by label, or from a row on."""
    corpus = _ready(request, pk)
    label = _number(request, "label")
    number = _number(request, "page", 1) or 1
    wanted = _number(request, "row")
    if wanted is not None:
        wanted, label = min(wanted, corpus.n_rows - 1), None
        number = wanted // browsing.PAGE + 1
    context = {
        "corpus": corpus,
        "tab": "rows",
        "page": browsing.row_page(corpus, number, label),
        "labels": browsing.label_counts(corpus),
        "label": label,
        "wanted": wanted,
    }
    return render(request, "corpora/rows.html", context)


@login_required
@require_GET
def corpus_row(request: HttpRequest, pk: int, row: int) -> HttpResponse:
    """One image with everything the manifest says about it."""
    corpus = _ready(request, pk)
    record = _record(corpus, row)
    context = {
        "corpus": corpus,
        "tab": "rows",
        "record": record,
        "opinion": table.of_row(row) if (table := reading.opinions_of(corpus)) else None,
        "reference": browsing.reference_of(corpus, row),
        "class_name": browsing.class_name(corpus, record["label"]),
        "phash": f"{record['phash']:016x}",
        "page_number": row // browsing.PAGE + 1,
        "is_tiny": max(record["width"], record["height"]) <= TINY_SIDE,
        "is_item": Item.objects.filter(corpus=corpus, row=row).exists(),
    }
    return render(request, "corpora/row.html", context)


@login_required
def corpus_opinions(request: HttpRequest, pk: int) -> HttpResponse:
    """Opinion scores: what there are, and, for editors, a form that previews a table before anything changes."""
    corpus = _ready(request, pk)
    user = _user(request)
    may_edit = Corpus.objects.editable_by(user).filter(pk=pk).exists()
    form = OpinionForm(request.POST or None, request.FILES or None) if may_edit else None
    plan = token = None
    if form is not None and form.is_valid():
        try:
            file = corpus_opinions_upload(corpus=corpus, upload=form.cleaned_data["upload"], by=user)
            plan = corpus_opinions_preview(corpus=corpus, file=file, by=user, **form.attachment())
        except DomainError as error:
            _blame(form, error)
        else:
            kept = {"corpus": pk, "user": user.pk, "file": str(file), **form.attachment()}
            token = signing.dumps(kept, salt=_OPINIONS_SALT)
    table = reading.opinions_of(corpus)
    context = {
        "corpus": corpus,
        "tab": "opinions",
        "facts": corpus.facts.get("opinions"),
        "summary": summary(table) if table else None,
        "histogram": browsing.histogram_plot(table) if table else None,
        "form": form,
        "plan": plan,
        "token": token,
    }
    return render(request, "corpora/opinions.html", context)


@login_required
@require_POST
def corpus_opinions_attach(request: HttpRequest, pk: int) -> HttpResponse:
    """Take the table that was previewed."""
    corpus = _ready(request, pk)
    user = _user(request)
    try:
        kept = signing.loads(request.POST.get("token", ""), salt=_OPINIONS_SALT, max_age=KEPT_SECONDS)
    except signing.BadSignature:
        kept = {}
    file = Path(kept.pop("file", ""))
    if (kept.pop("corpus", None), kept.pop("user", None)) != (pk, user.pk) or not file.is_file():
        raise DomainError("The table is not here any more: upload it again.")
    corpus_opinions_import(corpus=corpus, file=file, by=user, **kept)
    shutil.rmtree(file.parent, ignore_errors=True)
    messages.success(request, f"{corpus.n_rated:,} images are rated now.")
    return redirect("corpora:opinions", pk=pk)


@login_required
@require_GET
def corpus_quarantine(request: HttpRequest, pk: int) -> HttpResponse:
    corpus = _corpus(request, pk)
    table = reading.quarantine_of(corpus)
    n_files = len(table) if table else 0
    n_pages = max(1, -(-n_files // PAGE))
    number = min(max(1, _number(request, "page", 1) or 1), n_pages)
    files = table.slice((number - 1) * PAGE, number * PAGE).to_pylist() if table else []
    context = {"corpus": corpus, "tab": "quarantine", "files": files, "n_files": n_files}
    return render(request, "corpora/quarantine.html", context | {"number": number, "n_pages": n_pages})


@login_required
@require_GET
def corpus_duplicates(request: HttpRequest, pk: int) -> HttpResponse:
    corpus = _ready(request, pk)
    groups, number, n_pages = browsing.duplicate_page(corpus, _number(request, "page", 1) or 1)
    context = {"corpus": corpus, "tab": "duplicates", "groups": groups, "number": number, "n_pages": n_pages}
    return render(request, "corpora/duplicates.html", context)


# Pictures


def _record(corpus: Corpus, row: int) -> dict[str, Any]:
    if not 0 <= row < corpus.n_rows:
        raise Http404(f"corpus {corpus} has rows 0 to {corpus.n_rows - 1}")
    return reading.records_of(corpus, [row])[0]


def _picture(view: Callable[[Corpus, int], tuple[bytes, str]]) -> Callable[..., HttpResponseBase]:
    """A view of one row's picture: visible corpora only, cached for ever because rows never change."""

    @login_required
    @require_GET
    @wraps(view)
    def respond(request: HttpRequest, pk: int, row: int) -> HttpResponse:
        found = Corpus.objects.visible_to(_user(request)).ready().only(*_PICTURE_FIELDS)
        corpus: Corpus = get_object_or_404(found, pk=pk)
        try:
            data, kind = view(corpus, row)
        except UndecodableImage as error:
            return HttpResponse(error.reason, status=410, content_type="text/plain; charset=utf-8")
        headers = {"Cache-Control": FOREVER, "X-Content-Type-Options": "nosniff"}
        return HttpResponse(data, content_type=kind, headers=headers)

    return respond


_PICTURE_FIELDS = ("pk", "name", "state", "root", "n_rows", "is_packed", "digest")


@_picture
def row_thumbnail(corpus: Corpus, row: int) -> tuple[bytes, str]:
    """Made at the first look and kept beside the corpus."""
    file = corpus.directory / "thumbnails" / str(row // 1_000) / f"{row}.webp"
    if not file.exists():
        content = reading.content_of(corpus, row, _record(corpus, row)["path"])
        pixels = decode_rgb(content, pixel_limit=settings.PIXEL_LIMIT) if isinstance(content, bytes) else content
        data = thumbnail_of(pixels).data
        with written_whole(file) as target:
            target.write(data)
        return data, "image/webp"
    return file.read_bytes(), "image/webp"


@_picture
def row_image(corpus: Corpus, row: int) -> tuple[bytes, str]:
    """The picture as a model sees it and an annotator would: upright, without metadata."""
    content = reading.content_of(corpus, row, _record(corpus, row)["path"])
    picture, _ = picture_of(content, pixel_limit=settings.PIXEL_LIMIT)
    return picture.data, "image/jpeg" if picture.ending == "jpg" else "image/png"


@login_required
@require_GET
def media(request: HttpRequest, name: str) -> HttpResponseBase:
    """A stored file, for people who are logged in. Names are content hashes: they cannot be guessed, nor change.

    Only pictures are shown in the page; whatever else there may be is sent as a download.
    """
    try:
        file = default_storage.open(name)
    except (OSError, ValueError, SuspiciousFileOperation) as error:
        raise Http404(name) from error
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    is_picture = kind in _SHOWN_INLINE
    response = FileResponse(
        file, content_type=kind if is_picture else "application/octet-stream", as_attachment=not is_picture
    )
    response["Cache-Control"] = FOREVER
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Disposition"] = "inline" if is_picture else "attachment"
    return response


# Taxonomies


@login_required
@require_GET
def taxonomy_list(request: HttpRequest) -> HttpResponse:
    found = Taxonomy.objects.visible_to(_user(request)).light().select_related("created_by")
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    return render(request, "corpora/taxonomy_list.html", {"page": page})


@login_required
def taxonomy_new(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    require_researcher(user, action="add a taxonomy")
    form = TaxonomyForm(request.POST or None, request.FILES or None)
    if form.is_valid():
        with tempfile.TemporaryDirectory() as folder:
            try:
                taxonomy = taxonomy_create(by=user, **form.creation(folder))
            except DomainError as error:
                _blame(form, error)
            else:
                messages.success(request, f'"{taxonomy}" has {taxonomy.n_classes} classes.')
                return redirect(taxonomy)
    return render(request, "corpora/taxonomy_new.html", {"form": form})


@login_required
@require_GET
def taxonomy_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Classes, searched by name, and the distance of any two of them with the paths it comes from."""
    taxonomy: Taxonomy = get_object_or_404(
        Taxonomy.objects.visible_to(_user(request)).select_related("created_by"), pk=pk
    )
    query = request.GET.get("q", "").strip()
    page = Paginator(taxonomies.search(taxonomy, query), PAGE * 2).get_page(request.GET.get("page"))
    first, second = request.GET.get("a", "").strip(), request.GET.get("b", "").strip()
    comparison = problem = None
    if first and second:
        try:
            comparison = taxonomies.compare(taxonomy, first, second)
        except TaxonomyError as error:
            problem = f"{error}."
    context = {
        "taxonomy": taxonomy,
        "page": page,
        "query": query,
        "first": first,
        "second": second,
        "comparison": comparison,
        "problem": problem,
        "corpora": Corpus.objects.visible_to(_user(request)).filter(taxonomy=taxonomy)[:20],
    }
    return render(request, "corpora/taxonomy.html", context)
