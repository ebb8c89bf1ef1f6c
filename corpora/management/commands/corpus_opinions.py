"""`manage.py corpus_opinions CORPUS FILE.csv`: attach mean opinion scores to a corpus, in place of those it has."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from corpora.attaching import OpinionPlan
from corpora.management.commands.corpus_import import owner
from corpora.models import Corpus
from corpora.services import corpus_opinions_import, corpus_opinions_preview


class Command(BaseCommand):
    help = "Attach a CSV or Parquet table (path, mos, optionally std and n) to a corpus; refused as a whole or taken."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("corpus", help="Name")
        parser.add_argument("file", type=Path)
        parser.add_argument("--low", type=float, help="Lowest score of the scale; found in the file by default")
        parser.add_argument("--high", type=float, help="Highest score of the scale")
        parser.add_argument("--higher-is-worse", action="store_true", help="Turn the scores round, as DMOS need it")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would happen")
        parser.add_argument("--user", help="Who does it; the first admin by default")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            by = owner(options["user"])
            corpus = Corpus.objects.visible_to(by).filter(name=options["corpus"]).first()
            if corpus is None:
                raise DomainError(f'There is no corpus "{options["corpus"]}".')
            given = {name: options[name] for name in ("file", "low", "high", "higher_is_worse")}
            self._say(corpus_opinions_preview(corpus=corpus, by=by, **given))
            if not options["dry_run"]:
                corpus_opinions_import(corpus=corpus, by=by, **given)
                self.stdout.write(f'Corpus "{corpus}": {corpus.n_rated:,} of {corpus.n_rows:,} images are rated')
        except DomainError as error:
            raise CommandError(str(error)) from error

    def _say(self, plan: OpinionPlan) -> None:
        self.stdout.write(
            f"{plan.n_lines:,} rows: {plan.n_matched:,} matched ({plan.n_by_name:,} by file name alone), "
            f"{plan.n_unmatched:,} not in the corpus, {plan.n_empty:,} without a score, {plan.n_problems:,} wrong; "
            f"scale {plan.low:g} to {plan.high:g}"
        )
        for path in plan.unmatched:
            self.stdout.write(f"  not in the corpus: {path}")
        for problem in plan.problems:
            self.stdout.write(f"  wrong: {problem}")
