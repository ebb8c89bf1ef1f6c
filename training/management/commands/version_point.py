"""`manage.py version_point VERSION --set lam=0.3 --set width=0.5`: a version of one point of an adjustable version."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from corpora.management.commands.corpus_import import owner
from jobs.inline import run_inline
from models_zoo.management.commands.score import version_named
from training.management.commands.train import key_value, parsed
from training.points import point_request


class Command(BaseCommand):
    help = "Make a version of one point of an adjustable version, such as an OAT network at one lambda and width."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", help='The adjustable version, "model label" or its number')
        parser.add_argument(
            "--set", action="append", default=[], type=key_value, metavar="KEY=VALUE",
            help="A setting of the point, such as lam=0.3 or thresholds=0.2,0.4; repeat it",
        )  # fmt: skip
        parser.add_argument("--enqueue", action="store_true", help="Leave it to a worker")
        parser.add_argument("--user", help="Who makes it; the first admin by default")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["enqueue"]:
            settings.JOBS_SEND_MESSAGES = False  # no worker is called: this process does the work
        try:
            version = version_named(options["version"], options["user"])
            point = {key: parsed(value) for key, value in options["set"]}
            wanted = point_request(version=version, point=point, by=owner(options["user"]))
            if wanted.made is None and wanted.job is not None and not options["enqueue"]:
                run_inline(wanted.job)
                wanted.refresh_from_db()
        except (DomainError, ValueError) as error:
            raise CommandError(str(error)) from error
        if wanted.made is None:
            self.stdout.write(f'"{wanted}" waits for a worker.')
        else:
            self.stdout.write(f'"{wanted.made}" (version {wanted.made.pk})')
