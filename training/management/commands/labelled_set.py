"""`manage.py labelled_set create|add|show`: labelled sets and their editions."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from accounts.models import User
from corpora.management.commands.corpus_import import owner, taxonomy_named
from models_zoo.models import Task
from training.engine.labels import SPLITS
from training.labelled import edition_add, labelled_set_create
from training.models import Edition, LabelledSet

_EXAMPLES = """examples:
  manage.py labelled_set create "photographs with MOS" --task quality
  manage.py labelled_set add "photographs with MOS" --corpus 3 --campaign 12 --seed 1
  manage.py labelled_set add "photographs with MOS" --source '{"kind": "scores", "version": 5, "corpus": 4}'
  manage.py labelled_set show "photographs with MOS"
"""


class Command(BaseCommand):
    help = "Make labelled sets and their editions, and show what is in them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog = _EXAMPLES
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="Make a labelled set, without an edition yet")
        create.add_argument("name")
        create.add_argument("--task", choices=Task.values, default=Task.QUALITY)
        create.add_argument("--taxonomy", help="Label space of class labels")
        create.add_argument("--description", default="")
        create.add_argument("--public", action="store_true", help="Every researcher may look at it")
        add = actions.add_parser("add", help="Make the next edition from sources")
        add.add_argument("name")
        add.add_argument("--corpus", type=int, action="append", default=[], help="Labels of this corpus, by id")
        add.add_argument("--campaign", type=int, action="append", default=[], help="Verdicts of this campaign, by id")
        add.add_argument("--source", type=json.loads, action="append", default=[], help="A source as JSON")
        add.add_argument("--found", action="store_true", help='Labels of the campaigns are of origin "found"')
        add.add_argument("--based-on", type=int, help="Number of the edition whose sources and splits are kept")
        add.add_argument("--seed", type=int, default=0, help="Of the split by content")
        add.add_argument("--fractions", type=float, nargs=3, metavar=("TRAIN", "VAL", "TEST"), help="0.6 0.2 0.2")
        show = actions.add_parser("show", help="List labelled sets, or the editions of one")
        show.add_argument("name", nargs="?")
        for each in (create, add, show):
            each.add_argument("--user", help="Account to act for; the first admin by default")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(owner(options["user"]), options)
        except DomainError as error:
            raise CommandError(str(error)) from error

    def _create(self, by: User, options: dict[str, Any]) -> None:
        made = labelled_set_create(
            name=options["name"],
            task=options["task"],
            taxonomy=taxonomy_named(options["taxonomy"], by),
            description=options["description"],
            is_public=options["public"],
            by=by,
        )
        self.stdout.write(f'Labelled set "{made}" ({made.pk}) is made: add an edition to it.')

    def _add(self, by: User, options: dict[str, Any]) -> None:
        labelled_set = _named(options["name"], by)
        older = _edition(labelled_set, options["based_on"]) if options["based_on"] else None
        origin = "found" if options["found"] else "base"
        sources = [
            *(older.sources if older else []),
            *({"kind": "corpus", "corpus": number} for number in options["corpus"]),
            *({"kind": "campaign", "campaign": number, "origin": origin} for number in options["campaign"]),
            *options["source"],
        ]
        edition = edition_add(
            labelled_set=labelled_set,
            sources=sources,
            by=by,
            seed=options["seed"],
            fractions=options["fractions"],
            based_on=older,
        )
        self._describe(edition)

    def _show(self, by: User, options: dict[str, Any]) -> None:
        if options["name"]:
            for edition in _named(options["name"], by).editions.order_by("number"):
                self._describe(edition)
            return
        for labelled_set in LabelledSet.objects.visible_to(by):
            self.stdout.write(
                f"{labelled_set} ({labelled_set.get_task_display()}, {labelled_set.editions.count()} editions)"
            )

    def _describe(self, edition: Edition) -> None:
        counts = edition.counts
        splits = ", ".join(f"{counts['split'].get(name, 0):,} {name}" for name in SPLITS)
        groups = f"{counts['groups']:,} groups of like content"
        self.stdout.write(f'"{edition}" ({edition.pk}): {edition.n_rows:,} labels in {groups}: {splits}')
        for source, count in counts["source"].items():
            self.stdout.write(f"  {source}: {count:,} labels")
        for reason, count in counts["left_out"].items():
            self.stdout.write(f"  left out: {count:,} {reason}")


def _named(name: str, by: User) -> LabelledSet:
    found: LabelledSet | None = LabelledSet.objects.visible_to(by).filter(name=name).first()
    if found is None:
        raise DomainError(f'There is no labelled set "{name}": make it with "manage.py labelled_set create".')
    return found


def _edition(labelled_set: LabelledSet, number: int) -> Edition:
    found = labelled_set.editions.filter(number=number).first()
    if found is None:
        raise DomainError(f'"{labelled_set}" has no edition {number}.')
    return found
