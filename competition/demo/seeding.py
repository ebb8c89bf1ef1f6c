"""Builds a demo through the same services that pages and API call; every step may be repeated."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from accounts.errors import DomainError
from accounts.models import User
from competition.models import Competition, Round, RoundState
from competition.services import competition_create, competition_launch
from corpora.models import Corpus, CorpusState, Taxonomy
from corpora.services import corpus_create, corpus_import_enqueue, taxonomy_create
from jobs.inline import run_inline
from jobs.models import Job
from jobs.querysets import subject_of
from jobs.services import job_enqueue
from models_zoo.models import Model, Version, VersionState
from models_zoo.services import model_create, version_add, version_recheck

if TYPE_CHECKING:
    from jobs.context import JobContext


def demo_folder(name: str) -> Path:
    folder = Path(settings.VAR_DIR) / "demo" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def demo_owner() -> User:
    """The first admin; demos belong to them.

    Raises:
        DomainError: when there is no admin account yet.
    """
    owner = User.objects.filter(is_superuser=True).order_by("pk").first()
    if owner is None:
        raise DomainError('There is no admin account: run "manage.py admin_ensure" first.')
    return owner


def taxonomy_ensure(name: str, rows: Sequence[tuple[str, str, int | None, str]], *, by: User) -> Taxonomy:
    """A public taxonomy from rows (child, parent, class index or None, gloss)."""
    known = Taxonomy.objects.filter(name=name).first()
    if known is not None:
        return known
    file = demo_folder("taxonomies") / f"{name}.csv"
    lines = [f'"{child}","{parent}",{"" if index is None else index},"{gloss}"' for child, parent, index, gloss in rows]
    file.write_text("\n".join(["child,parent,class,gloss", *lines]) + "\n", encoding="utf-8")
    return taxonomy_create(name=name, kind="tree", file=file, by=by, is_public=True)


def corpus_ensure(name: str, *, by: User, make: Callable[[], Any], **import_options: Any) -> Corpus:
    """An imported corpus; ``make`` writes the files before the first import."""
    corpus = Corpus.objects.filter(name=name).first()
    if corpus is None:
        make()
        corpus = corpus_create(name=name, by=by, is_public=True, **import_options)
    if corpus.state != CorpusState.READY:
        run_inline(corpus_import_enqueue(corpus=corpus, by=by))
        corpus.refresh_from_db()
    return corpus


def version_ensure(
    name: str,
    *,
    by: User,
    make: Callable[[], Path] | None,
    card: dict[str, Any],
    taxonomy: Taxonomy | None = None,
    **version: Any,
) -> Version:
    """A verified version of a model of its own; ``make`` gives its file, where it has one.

    Raises:
        DomainError: when it is refused.
    """
    model = Model.objects.filter(name=name).first() or model_create(
        name=name, taxonomy=taxonomy, by=by, is_public=True, **card
    )
    found = model.versions.first()
    if found is None:
        found = version_add(model=model, label="v1", by=by, file=make() if make else None, **version)
    if found.state != VersionState.VERIFIED:
        checking = Job.objects.live().filter(subject=subject_of(found)).first()
        run_inline(checking or version_recheck(version=found, by=by))
        found.refresh_from_db()
    if found.state != VersionState.VERIFIED:
        raise DomainError(f'"{found}" was refused: {found.refusal}')
    return found


def competition_ensure(
    name: str, *, corpus: Corpus, versions: Sequence[Version], by: User, context: "JobContext | None", **options: Any
) -> Round:
    """A launched competition whose round has selected and asks people."""
    competition = Competition.objects.filter(name=name).first() or competition_create(
        name=name, corpus=corpus, versions=versions, by=by, is_public=True, **options
    )
    round_ = competition.rounds.first() or competition_launch(competition=competition, by=by)
    round_.refresh_from_db()
    if round_.job and round_.state in {RoundState.SCORING, RoundState.SELECTING}:
        run_inline(round_.job)
    round_.refresh_from_db()
    return round_


DEMOS = {"digits": "handwritten digits", "photographs": "distorted photographs"}
"""The demos that need nothing, and what they show."""


def demo_enqueue(name: str, *, by: User) -> Job:
    """The job that seeds one of ``DEMOS``; the one that is alive already, if there is one."""
    return job_enqueue(
        kind="competition.demo",
        title=f"Demo: {DEMOS[name]}",
        payload={"demo": name},
        by=by,
        subject=f"demo:{name}",
        unique=True,
    )
