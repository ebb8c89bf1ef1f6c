"""`manage.py corpus_import LOCATION --name NAME`: import a corpus here and now, with a progress bar."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from accounts.models import User
from corpora.importers.base import SPLITS
from corpora.models import Corpus, CorpusSource, Taxonomy
from corpora.services import corpus_create, corpus_import_enqueue, taxonomy_ensure_imagenet
from jobs.inline import run_inline

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")
_LISTS = (".csv", ".parquet", ".pq")


class Command(BaseCommand):
    help = "Import images from a folder, archive, list, WebDataset shards or CIFAR; goes on with a broken-off import."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("location", help="Folder or file")
        parser.add_argument("--name", required=True)
        parser.add_argument("--source", choices=CorpusSource.values, help="Guessed from the location by default")
        parser.add_argument("--labels-from", choices=["folder"], default="", help="Folder names are the labels")
        parser.add_argument("--root", default="", help="Folder that a list's paths are relative to")
        parser.add_argument("--split", choices=SPLITS, default="", help="Part of CIFAR, MNIST, SVHN or STL-10")
        parser.add_argument("--taxonomy", help='Name of the label space; "imagenet1k" adds it where it is missing')
        parser.add_argument("--description", default="")
        parser.add_argument("--public", action="store_true", help="Every researcher may look at it")
        parser.add_argument("--user", help="Owner; the first admin by default")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            by = owner(options["user"])
            corpus = _corpus(by, options)
            run_inline(corpus_import_enqueue(corpus=corpus, by=by), show=options["verbosity"] > 0)
        except DomainError as error:
            raise CommandError(str(error)) from error
        corpus.refresh_from_db()
        self.stdout.write(
            f'Corpus "{corpus}" ({corpus.pk}): {corpus.n_rows:,} images, {corpus.n_labelled:,} labelled, '
            f"{corpus.n_quarantined:,} quarantined, {corpus.n_duplicate_groups:,} groups of near-duplicates, "
            f"{corpus.facts['images_per_second']:,} images per second"
        )


def owner(username: str | None) -> User:
    """The account that a command acts for."""
    if username:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise DomainError(f'There is no account "{username}".')
        return user
    user = next((user for user in User.objects.filter(is_active=True).order_by("pk") if user.is_admin), None)
    if user is None:
        raise DomainError('There is no admin account: make one with "manage.py createsuperuser", or give --user.')
    return user


def _corpus(by: User, options: dict[str, Any]) -> Corpus:
    """A new corpus, or the one of the same name whose import broke off."""
    location = Path(options["location"]).expanduser().absolute()
    source = options["source"] or guessed_source(location)
    unfinished = Corpus.objects.filter(name=options["name"], location=str(location)).exclude(state="ready").first()
    if unfinished is not None:
        return unfinished
    given = {name: options[name] for name in ("labels_from", "root", "split") if options[name]}
    if "root" in given:
        given["root"] = str(Path(given["root"]).expanduser().absolute())
    return corpus_create(
        name=options["name"],
        source=source,
        location=str(location),
        options=given,
        taxonomy=taxonomy_named(options["taxonomy"], by),
        description=options["description"],
        is_public=options["public"],
        by=by,
    )


def taxonomy_named(name: str | None, by: User) -> Taxonomy | None:
    if not name:
        return None
    if name == "imagenet1k":
        return taxonomy_ensure_imagenet(by=by)
    taxonomy: Taxonomy | None = Taxonomy.objects.visible_to(by).filter(name=name).first()
    if taxonomy is None:
        raise DomainError(f'There is no taxonomy "{name}": add it with "manage.py taxonomy_import".')
    return taxonomy


def guessed_source(location: Path) -> str:
    if location.suffix.lower() in _LISTS:
        return CorpusSource.LIST
    return CorpusSource.ARCHIVE if location.suffix.lower() in _ARCHIVES else CorpusSource.FOLDER
