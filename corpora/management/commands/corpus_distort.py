"""`manage.py corpus_distort (FOLDER | --corpus NAME | --packages) --name NAME`: a corpus of distorted photographs."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from accounts.models import User
from corpora.management.commands.corpus_import import owner
from corpora.models import Corpus, CorpusSource
from corpora.services import corpus_create, corpus_import_enqueue
from jobs.inline import run_inline


class Command(BaseCommand):
    help = "Distort pristine photographs in four ways and five strengths, here and now; goes on where it broke off."

    def add_arguments(self, parser: CommandParser) -> None:
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("folder", nargs="?", default="", help="Folder of photographs")
        source.add_argument("--corpus", default="", help="Name of a corpus of photographs")
        source.add_argument("--packages", action="store_true", help="Those inside scikit-image and scikit-learn")
        parser.add_argument("--name", required=True)
        parser.add_argument("--size", default="", help="WIDTHxHEIGHT that pictures are scaled down and cropped to")
        parser.add_argument("--seed", type=int, default=0, help="Of the noise; the same seed gives the same files")
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
        groups = corpus.facts["contents"]["groups"]
        self.stdout.write(f'Corpus "{corpus}" ({corpus.pk}): {corpus.n_rows:,} images of {groups:,} photographs')


def _corpus(by: User, options: dict[str, Any]) -> Corpus:
    """A new corpus, or the one of the same name whose making broke off."""
    unfinished = Corpus.objects.filter(name=options["name"], source=CorpusSource.DISTORTED).exclude(state="ready")
    if (corpus := unfinished.first()) is not None:
        return corpus
    return corpus_create(
        name=options["name"],
        source=CorpusSource.DISTORTED,
        location=str(Path(options["folder"]).expanduser().absolute()) if options["folder"] else "",
        options={
            "corpus": _corpus_named(options["corpus"], by).pk if options["corpus"] else "",
            "photographs": "packages" if options["packages"] else "",
            "size": options["size"],
            "seed": options["seed"],
        },
        description=options["description"],
        is_public=options["public"],
        by=by,
    )


def _corpus_named(name: str, by: User) -> Corpus:
    corpus: Corpus | None = Corpus.objects.visible_to(by).filter(name=name).first()
    if corpus is None:
        raise DomainError(f'There is no corpus "{name}": give the name of an imported corpus.')
    return corpus
