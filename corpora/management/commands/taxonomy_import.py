"""`manage.py taxonomy_import imagenet1k | FILE.csv | FILE.txt`: add a label space."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from accounts.models import User
from corpora.management.commands.corpus_import import owner
from corpora.models import Taxonomy, TaxonomyKind
from corpora.services import taxonomy_create, taxonomy_ensure_imagenet


class Command(BaseCommand):
    help = "Add a taxonomy: imagenet1k, the CSV of a hierarchy, or a text file of class names, one a line."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="imagenet1k, a .csv or a .txt")
        parser.add_argument("--name", help="The file's name by default")
        parser.add_argument("--public", action="store_true", help="Every researcher may look at it")
        parser.add_argument("--user", help="Owner; the first admin by default")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            taxonomy = _taxonomy(options, owner(options["user"]))
        except (DomainError, OSError, UnicodeDecodeError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f'Taxonomy "{taxonomy}" ({taxonomy.pk}): {taxonomy.n_classes:,} classes')


def _taxonomy(options: dict[str, Any], by: User) -> Taxonomy:
    if options["file"] == "imagenet1k":
        return taxonomy_ensure_imagenet(by=by)
    file = Path(options["file"])
    name = options["name"] or file.stem
    if file.suffix.lower() == ".csv":
        return taxonomy_create(name=name, kind=TaxonomyKind.TREE, file=file, by=by, is_public=options["public"])
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return taxonomy_create(name=name, kind=TaxonomyKind.FLAT, names=names, by=by, is_public=options["public"])
