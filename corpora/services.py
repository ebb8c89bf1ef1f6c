"""Writes: corpora, items, taxonomies."""

import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.db.models import Model
from django.utils import timezone
from django.utils.text import Truncator

from accounts.errors import Conflict, DomainError
from accounts.models import Membership
from accounts.permissions import require_edit, require_owner, require_researcher, require_view
from corpora import importing, locations, media, photographs, reading, taxonomies
from corpora.attaching import OpinionPlan, plan_opinions
from corpora.imaging.decode import UndecodableImage, decode_rgb
from corpora.imaging.picture import picture_of
from corpora.importers import ImportRefused, ImportRequest, Options, Pristine, Scale
from corpora.importers.distorted import names_of
from corpora.models import Corpus, CorpusSource, CorpusState, Item, Taxonomy, TaxonomyKind
from corpora.opinions import write_opinions
from corpora.signals import opinions_changed
from corpora.taxonomy import Taxonomy as PureTaxonomy
from corpora.taxonomy import TaxonomyError, flat, from_csv, imagenet1k
from jobs.models import Job
from jobs.services import job_enqueue

if TYPE_CHECKING:
    from accounts.models import User
    from jobs.context import JobContext

logger = logging.getLogger(__name__)
IMPORT_JOB = "corpora.import"
KEPT_SECONDS = 24 * 3600  # for which a table waits to be imported after its preview
_FOLDERS_ONLY = {CorpusSource.FOLDER, CorpusSource.DISTORTED, CorpusSource.MNIST, CorpusSource.SVHN, CorpusSource.STL10}
UPLOADED_SOURCES = {*CorpusSource} - _FOLDERS_ONLY
_FROM_IMPORT = (
    "n_rows", "n_quarantined", "n_labelled", "n_rated", "n_duplicate_groups", "bytes", "is_packed", "digest",
)  # fmt: skip


class RowsUnreadable(DomainError):
    """Rows that cannot be shown any more. Attribute `rows`: why, by row."""

    def __init__(self, corpus: Corpus, rows: dict[int, str]) -> None:
        row, reason = next(iter(rows.items()))
        more = f"; {len(rows) - 1} more like it" if len(rows) > 1 else ""
        super().__init__(
            f'Row {row} of corpus "{corpus}" cannot be shown: {reason}{more}. Put the files back as they were at the '
            "import, or import them again as a new corpus."
        )
        self.rows = rows


# Corpora


def corpus_create(
    *,
    name: str,
    source: str,
    location: str = "",
    by: "User",
    upload: UploadedFile | None = None,
    options: Mapping[str, Any] | None = None,
    taxonomy: Taxonomy | None = None,
    description: str = "",
    is_public: bool = False,
) -> Corpus:
    """Register a corpus and enqueue its import.

    Args:
        source: a `CorpusSource`.
        location: absolute path on the server; or
        upload: an archive, list, shard or CIFAR tar.
        options: see `corpora.importers.Options`. Source "distorted" takes its photographs from `location`, from a
            corpus (option corpus) or from installed packages (option photographs).
        taxonomy: of the labels; None makes a flat one from their names, where they have names.

    Raises:
        DomainError: with the field at fault.
        Denied: no researcher, or a location outside the folders this person may import from.
    """
    require_researcher(by, action="import a corpus")
    name = name.strip()
    if not name:
        raise DomainError("A corpus needs a name.", field="name")
    if source not in CorpusSource.values:
        choices = ", ".join(CorpusSource.values)
        raise DomainError(f'Source "{source}" does not exist: choose one of {choices}.', field="source")
    try:
        chosen = Options.from_dict(dict(options or {}))
    except ImportRefused as error:
        raise DomainError(f"{error}.", field="options") from error
    if taxonomy is not None:
        require_view(by, taxonomy)
    if chosen.root:
        locations.require_location(chosen.root, by, field="root")
    place = _place(source, location, upload, chosen, by)
    try:
        corpus = _corpus_insert(
            name=name,
            source=source,
            location=place,
            options={name: value for name, value in (options or {}).items() if value not in ("", None)},
            taxonomy=taxonomy,
            description=description.strip(),
            is_public=is_public,
            created_by=by,
        )
    except BaseException:
        _forget_upload(place)
        raise
    logger.info("corpus %s created by %s from %s", corpus.pk, by, place or "what its options say")
    return corpus


def _place(source: str, location: str, upload: UploadedFile | None, options: Options, by: "User") -> str:
    """The path to read from; empty where the options say where the photographs are."""
    if source != CorpusSource.DISTORTED:
        path = _keep_upload(upload, source) if upload is not None else locations.require_location(location, by)
        return str(path)
    given = [bool(location.strip()), bool(options.corpus), bool(options.photographs)]
    if upload is not None or sum(given) != 1:
        raise DomainError(
            "Say once where the photographs to distort are: a folder on the server, a corpus, or installed packages.",
            field="location",
        )
    if options.corpus:
        _pristine_corpus(options.corpus, by)
    return str(locations.require_location(location, by)) if location.strip() else ""


def _pristine_corpus(pk: str, by: "User") -> Corpus:
    """The imported corpus to distort. Raises DomainError where there is none that this person may see."""
    found: Corpus | None = Corpus.objects.visible_to(by).ready().filter(pk=pk).first()
    if found is None:
        raise DomainError(f"There is no imported corpus {pk} that you may see: choose another one.", field="corpus")
    return found


def _corpus_insert(**values: Any) -> Corpus:
    try:
        with transaction.atomic():
            corpus = Corpus.objects.create(**values)
            corpus_import_enqueue(corpus=corpus, by=values["created_by"])
    except IntegrityError:
        raise Conflict(
            f'There is a corpus named "{values["name"]}" already: choose another name.', field="name"
        ) from None
    return corpus


def corpus_import_enqueue(*, corpus: Corpus, by: "User") -> "Job":
    """The job that imports this corpus; the one that is alive already, if there is one."""
    return job_enqueue(
        kind=IMPORT_JOB,
        title=f"Import of {corpus.name}",
        payload={"corpus": corpus.pk},
        by=by,
        subject=corpus,
        unique=True,
    )


def corpus_import(*, corpus: Corpus, context: "JobContext") -> dict[str, Any]:
    """Carry the import out, or go on with it after a crash. Runs inside a job.

    Returns:
        Rows, quarantined files, images per second.

    Raises:
        ImportRefused: the source as a whole cannot be imported; the next start begins anew.
    """
    if corpus.state == CorpusState.READY:
        return _summary(corpus)
    Corpus.objects.filter(pk=corpus.pk).update(state=CorpusState.IMPORTING)
    place = importing.Place(corpus.directory)
    place.directory.mkdir(parents=True, exist_ok=True)
    place.clean()
    started = time.monotonic()
    try:
        listed = importing.write_listing(place, corpus.source, _request(corpus, context))
        importing.write_parts(place, listed, report=context.report, pixel_limit=settings.PIXEL_LIMIT)
        seconds = time.monotonic() - started
        taxonomy, label_index = _labels(corpus, listed, importing.label_names(place, listed))
        imported = importing.merge(place, listed, label_index, report=context.report)
    except ImportRefused:
        place.forget_work()
        raise
    corpus.root = listed.root
    corpus.taxonomy = taxonomy
    corpus.facts = {
        **listed.facts,
        "skipped": listed.skipped,
        "notes": dict(imported.notes),
        "unknown_labels": importing.unknown_examples(imported.unknown_labels),
        "images_per_second": round(listed.n_candidates / seconds, 1) if seconds else None,
        **({"opinions": imported.opinions} if imported.opinions else {}),
        **({"contents": imported.contents} if imported.contents else {}),
    }
    for field in _FROM_IMPORT:
        setattr(corpus, field, getattr(imported, field))
    corpus.state = CorpusState.READY
    corpus.save()
    place.forget_work()
    _forget_upload(corpus.location)
    return _summary(corpus)


def corpus_import_ended(*, corpus_id: int, succeeded: bool) -> None:
    """The import's job is over: a corpus that did not become ready has failed."""
    if not succeeded:
        Corpus.objects.filter(pk=corpus_id, state=CorpusState.IMPORTING).update(state=CorpusState.FAILED)


def corpus_update(
    *,
    corpus: Corpus,
    by: "User",
    name: str | None = None,
    description: str | None = None,
    is_public: bool | None = None,
) -> Corpus:
    """Change what is said about a corpus; its rows never change.

    Raises:
        Conflict: another corpus has the name.
    """
    require_edit(by, corpus, action="change")
    if name is not None:
        corpus.name = name.strip()
        if not corpus.name:
            raise DomainError("A corpus needs a name.", field="name")
    if description is not None:
        corpus.description = description.strip()
    if is_public is not None:
        corpus.is_public = is_public
    try:
        with transaction.atomic():
            corpus.save(update_fields=["name", "description", "is_public"])
    except IntegrityError:
        raise Conflict(f'There is a corpus named "{corpus.name}" already: choose another name.', field="name") from None
    return corpus


def corpus_delete(*, corpus: Corpus, by: "User") -> None:
    """Remove a corpus that nothing uses, with its files; a folder that it was imported from stays as it is.

    Raises:
        Denied: for people who do not own it.
        Conflict: names what uses it.
    """
    require_owner(by, corpus, action="delete")
    name, directory, number = str(corpus), corpus.directory, corpus.pk
    with transaction.atomic():
        locked: Corpus = Corpus.objects.select_for_update().get(pk=corpus.pk)
        uses = _uses(locked)
        if uses:
            raise Conflict(f'"{name}" cannot be deleted: it is used by {"; ".join(uses)}.')
        pictures = {file for item in Item.objects.filter(corpus=locked) for file in (item.image, item.thumbnail)}
        names = {str(picture) for picture in pictures}
        Item.objects.filter(corpus=locked).delete()
        kind = ContentType.objects.get_for_model(Corpus)
        Membership.objects.filter(content_type=kind, object_id=number).delete()
        locked.delete()
        transaction.on_commit(lambda: _discard(directory, corpus.location, names))
    logger.info("corpus %s (%s) deleted by %s", number, name, by)


def _uses(corpus: Corpus) -> list[str]:
    """What hangs on a corpus or its items, in whatever app, in words; and jobs that are at work on it."""
    found = []
    holders: list[tuple[type[Model], str]] = [
        (relation.related_model, path)
        for model, prefix in ((Corpus, ""), (Item, "__corpus"))
        for relation in model._meta.related_objects
        if relation.related_model is not Item and (path := relation.field.name + prefix)
    ]
    for model, path in holders:
        rows = model._base_manager.filter(**{path: corpus})
        count = rows.count()
        if count:
            kind = model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural
            found.append(f'{count:,} {kind}, such as "{rows.first()}"')
    if Job.objects.about(corpus).live().exists():
        found.append("its import, which is under way: cancel it first")
    made = Corpus.objects.filter(source=CorpusSource.DISTORTED, state=CorpusState.IMPORTING)
    found += [f'corpus "{other}", which is being made from it' for other in made if _is_made_from(other, corpus)]
    return found


def _is_made_from(other: Corpus, corpus: Corpus) -> bool:
    return str(other.options.get("corpus", "")) == str(corpus.pk)


def _discard(directory: Path, location: str, pictures: set[str]) -> None:
    """Remove a deleted corpus's own files, and pictures that no item shows any more."""
    shutil.rmtree(directory, ignore_errors=True)
    _forget_upload(location)
    shown = set(Item.objects.filter(image__in=pictures).values_list("image", flat=True))
    shown |= set(Item.objects.filter(thumbnail__in=pictures).values_list("thumbnail", flat=True))
    for name in pictures - shown:
        default_storage.delete(name)


def corpus_opinions_preview(
    *,
    corpus: Corpus,
    file: Path,
    by: "User",
    low: float | None = None,
    high: float | None = None,
    higher_is_worse: bool = False,
) -> OpinionPlan:
    """What `corpus_opinions_import` would do; changes nothing.

    Raises:
        DomainError: the file is no table of scores, or the scale makes no sense.
    """
    require_edit(by, corpus, action="attach opinion scores to")
    try:
        scale = Scale(low, high, higher_is_worse, source=file.name)
        return plan_opinions(reading.manifest_of(corpus), Path(corpus.root), file, scale)
    except ImportRefused as error:
        raise DomainError(f"{error}.", field="file") from error


def corpus_opinions_upload(*, corpus: Corpus, upload: UploadedFile, by: "User") -> Path:
    """Keep an uploaded table between its preview and its import; one that nobody imports is removed after a day."""
    require_edit(by, corpus, action="attach opinion scores to")
    folder = locations.uploads() / "opinions"
    for old in folder.glob("*/"):
        if old.stat().st_mtime < time.time() - KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    return _store_upload(upload, folder)


def corpus_opinions_import(
    *,
    corpus: Corpus,
    file: Path,
    by: "User",
    low: float | None = None,
    high: float | None = None,
    higher_is_worse: bool = False,
) -> Corpus:
    """Attach mean opinion scores in place of all that the corpus has. Paths that it does not have are passed over.

    Args:
        file: CSV or Parquet, see `corpora.attaching`.
        low, high: ends of the scale; the scores give them where absent.
        higher_is_worse: turn the scores round, so that higher means better.

    Raises:
        DomainError: nothing was changed; says what is wrong with the first few scores.
    """
    plan = corpus_opinions_preview(corpus=corpus, file=file, by=by, low=low, high=high, higher_is_worse=higher_is_worse)
    if plan.n_problems:
        more = f"; {plan.n_problems - 3} more like it" if plan.n_problems > 3 else ""
        raise DomainError(f'"{file.name}" cannot be used: {"; ".join(plan.problems[:3])}{more}.', field="file")
    if not plan.n_matched:
        raise DomainError(
            f'No path of "{file.name}" is a row of corpus "{corpus}"; the first is "{plan.unmatched[0]}": write paths '
            "as the corpus has them, or file names alone.",
            field="file",
        )
    facts = importing.opinion_facts(plan.scale, plan.low, plan.high) | {
        "attached_by": str(by),
        "attached_at": timezone.now().isoformat(timespec="seconds"),
        "unmatched": plan.n_unmatched,
    }
    with transaction.atomic():
        locked: Corpus = Corpus.objects.select_for_update().get(pk=corpus.pk)
        locked.facts = {**locked.facts, "opinions": facts}
        locked.n_rated = write_opinions(corpus.directory, plan.table, plan.low, plan.high)
        locked.save(update_fields=["facts", "n_rated"])
        transaction.on_commit(lambda: opinions_changed.send_robust(sender=Corpus, corpus=locked, by=by))
    corpus.facts, corpus.n_rated = locked.facts, locked.n_rated
    logger.info("corpus %s: %s opinion scores attached by %s", corpus.pk, corpus.n_rated, by)
    return corpus


def _summary(corpus: Corpus) -> dict[str, Any]:
    return {
        "corpus": corpus.pk,
        "rows": corpus.n_rows,
        "quarantined": corpus.n_quarantined,
        "images_per_second": corpus.facts.get("images_per_second"),
    }


def _request(corpus: Corpus, context: "JobContext") -> ImportRequest:
    roots = locations.import_roots(corpus.created_by)
    files = corpus.directory / "files"
    return ImportRequest(
        location=Path(corpus.location),
        unpacked=files,
        pixels=corpus.directory / importing.PACKED,
        options=Options.from_dict(corpus.options),
        within=None if roots is None else tuple(root.resolve() for root in roots),
        tick=lambda count, unit, total=None: context.report(count, total, unit=unit, message="Listing"),
        pristine=_pristine(corpus),
    )


def _pristine(corpus: Corpus) -> Callable[[], list[Pristine]] | None:
    """The photographs to distort, where they do not lie in a folder."""
    options = Options.from_dict(corpus.options)
    if corpus.source != CorpusSource.DISTORTED or corpus.location:
        return None
    if options.photographs:
        return _package_photographs
    return partial(_corpus_photographs, _pristine_corpus(options.corpus, corpus.created_by))


def _package_photographs() -> list[Pristine]:
    return [Pristine(name, load, credit) for name, load, credit in photographs.photograph_loaders()]


def _corpus_photographs(corpus: Corpus) -> list[Pristine]:
    """All images of a corpus; of one with references, the references."""
    references = reading.reference_rows(corpus)
    rows = np.unique(references[references >= 0]) if (references >= 0).any() else np.arange(corpus.n_rows)
    paths = reading.manifest_of(corpus).read(rows, ["path"])["path"].to_pylist()
    return [
        Pristine(name, partial(_row_pixels, corpus, int(row), path))
        for name, row, path in zip(names_of(paths), rows, paths, strict=True)
    ]


def _row_pixels(corpus: Corpus, row: int, path: str) -> npt.NDArray[np.uint8]:
    content = reading.content_of(corpus, row, path)
    return decode_rgb(content, pixel_limit=settings.PIXEL_LIMIT) if isinstance(content, bytes) else content


def _labels(corpus: Corpus, listed: importing.Listed, names: set[str]) -> tuple[Taxonomy | None, dict[str, int]]:
    """The corpus's label space, and the class index of every label as the source writes it."""
    if corpus.taxonomy is not None:
        return corpus.taxonomy, _find_all(taxonomies.pure(corpus.taxonomy), names)
    numbers = {name: int(name) for name in names if name.isdecimal() and int(name) < importing.MAX_CLASSES}
    if listed.label_names:
        taxonomy = taxonomy_ensure_flat(names=listed.label_names, by=corpus.created_by, title=corpus.name)
        return taxonomy, {name: index for name, index in numbers.items() if index < taxonomy.n_classes}
    if len(numbers) == len(names):
        return None, numbers
    ordered = sorted(names)
    taxonomy = taxonomy_ensure_flat(names=ordered, by=corpus.created_by, title=corpus.name)
    return taxonomy, {name: index for index, name in enumerate(ordered)}


def _find_all(taxonomy: PureTaxonomy, names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        try:
            found[name] = taxonomy.find(name)
        except TaxonomyError:
            continue  # the row keeps no label; the corpus page says how many and which
    return found


def _keep_upload(upload: UploadedFile, source: str) -> Path:
    """Store an uploaded file under a directory of its own; its name is only the last part of what was sent."""
    if source not in UPLOADED_SOURCES:
        raise DomainError("A folder cannot be uploaded: upload it as a zip or tar archive.", field="upload")
    return _store_upload(upload, locations.uploads())


def _store_upload(upload: UploadedFile, folder: Path) -> Path:
    if (upload.size or 0) > settings.UPLOAD_LIMIT_BYTES:
        limit = settings.UPLOAD_LIMIT_BYTES // 2**20
        raise DomainError(
            f'"{upload.name}" is larger than {limit:,} MB: put it into {locations.inbox()} on the server instead.',
            field="upload",
        )
    name = PurePath(upload.name or "upload").name.lstrip(".")[-200:] or "upload"
    target = folder / uuid.uuid4().hex / name
    target.parent.mkdir(parents=True)
    with target.open("wb") as file:
        for chunk in upload.chunks():
            file.write(chunk)
    return target


def _forget_upload(location: str) -> None:
    """Remove a file that was uploaded for an import; anything else stays."""
    path = Path(location)
    if path.is_relative_to(locations.uploads()):
        shutil.rmtree(path.parent, ignore_errors=True)


# Items


def item_ensure(*, corpus: Corpus, rows: Sequence[int]) -> dict[int, Item]:
    """The items of these rows; pictures and thumbnails that are not in media yet are copied there.

    Safe to call twice and from several processes at once.

    Raises:
        RowsUnreadable: after the other rows are done, for files that vanished or changed since the import.
        DomainError: for a row that does not exist.
    """
    wanted = sorted({int(row) for row in rows})
    existing = set(Item.objects.filter(corpus=corpus, row__in=wanted).values_list("row", flat=True))
    missing = [row for row in wanted if row not in existing]
    unreadable: dict[int, str] = {}
    made = []
    for record in reading.records_of(corpus, missing, ["row", "path", "sha256"]):
        try:
            made.append(_item_of(corpus, record))
        except UndecodableImage as error:
            unreadable[record["row"]] = error.reason
    Item.objects.bulk_create(made, ignore_conflicts=True)
    if unreadable:
        raise RowsUnreadable(corpus, unreadable)
    return {item.row: item for item in Item.objects.filter(corpus=corpus, row__in=wanted).order_by("row")}


def _item_of(corpus: Corpus, record: dict[str, Any]) -> Item:
    content = reading.content_of(corpus, record["row"], record["path"])
    if isinstance(content, bytes) and reading.sha256_of(content) != record["sha256"]:
        raise UndecodableImage("the file has changed since the import")
    picture, thumbnail = picture_of(content, pixel_limit=settings.PIXEL_LIMIT)
    return Item(
        corpus=corpus,
        row=record["row"],
        sha256=record["sha256"],
        width=picture.width,
        height=picture.height,
        image=media.store("items", picture.data, picture.ending),
        thumbnail=media.store("thumbnails", thumbnail.data, thumbnail.ending),
    )


# Taxonomies


def taxonomy_create(
    *, name: str, kind: str, by: "User", file: Path | None = None, names: Sequence[str] = (), is_public: bool = False
) -> Taxonomy:
    """Add a label space.

    Args:
        kind: a `TaxonomyKind`: "tree" from `file` (the CSV of docs/formats.md), "flat" from `names`, "imagenet1k".

    Raises:
        DomainError: with what is wrong in the file, or a name that is taken.
    """
    require_researcher(by, action="add a taxonomy")
    try:
        value = _taxonomy_value(name.strip(), kind, file, names)
    except TaxonomyError as error:
        raise DomainError(f"{error}.", field="file" if kind == TaxonomyKind.TREE else "names") from error
    return _taxonomy_insert(name.strip(), kind, value, by, is_public)


def taxonomy_ensure_imagenet(*, by: "User") -> Taxonomy:
    """ImageNet-1k over WordNet's nouns, for everybody."""
    known = Taxonomy.objects.filter(kind=TaxonomyKind.IMAGENET, is_public=True).order_by("pk").first()
    if known is not None:
        return known
    return _taxonomy_insert("ImageNet-1k", TaxonomyKind.IMAGENET, imagenet1k(), by, is_public=True)


def taxonomy_ensure_flat(*, names: Sequence[str], by: "User", title: str = "") -> Taxonomy:
    """A flat taxonomy with these class names by index: one that this person may see, or a new one."""
    require_researcher(by, action="add a taxonomy")
    try:
        value = flat(names)
    except TaxonomyError as error:
        raise DomainError(f"{error}.", field="names") from error
    same = Taxonomy.objects.visible_to(by).filter(kind=TaxonomyKind.FLAT, digest=value.digest)
    known = same.order_by("pk").first()
    if known is not None:
        return known
    wished = f"{title}: {len(names)} classes" if title else Truncator(", ".join(names)).chars(80)
    return _taxonomy_insert(_free_name(wished), TaxonomyKind.FLAT, value, by, is_public=False)


def _taxonomy_value(name: str, kind: str, file: Path | None, names: Sequence[str]) -> PureTaxonomy:
    if not name:
        raise DomainError("A taxonomy needs a name.", field="name")
    if kind == TaxonomyKind.IMAGENET:
        return imagenet1k()
    if kind == TaxonomyKind.FLAT:
        return flat(names, name)
    if kind != TaxonomyKind.TREE:
        choices = ", ".join(TaxonomyKind.values)
        raise DomainError(f'Kind "{kind}" does not exist: choose one of {choices}.', field="kind")
    if file is None:
        raise DomainError("An own hierarchy needs its CSV file.", field="file")
    return from_csv(file, name)


def _taxonomy_insert(name: str, kind: str, value: PureTaxonomy, by: "User", is_public: bool) -> Taxonomy:
    try:
        with transaction.atomic():
            return Taxonomy.objects.create(
                name=name, kind=kind, created_by=by, is_public=is_public, **taxonomies.row_values(value)
            )
    except IntegrityError:
        raise Conflict(f'There is a taxonomy named "{name}" already: choose another name.', field="name") from None


def _free_name(wished: str) -> str:
    wished = wished[:110]
    taken = set(Taxonomy.objects.filter(name__startswith=wished).values_list("name", flat=True))
    if wished not in taken:
        return wished
    return next(name for number in range(2, len(taken) + 3) if (name := f"{wished} ({number})") not in taken)
