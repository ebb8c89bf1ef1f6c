"""``manage.py jobs_run``: runs queued jobs here, without Redis or workers."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from jobs.inline import queued_jobs, run_inline
from jobs.services import job_reap


class Command(BaseCommand):
    help = "Run the queued jobs, and those they enqueue, in the foreground until none is left; no Redis is needed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--quiet", action="store_true", help="no progress bars")

    def handle(self, *args: Any, **options: Any) -> None:
        job_reap()  # what a crashed process left in hand
        failed = 0
        for job in queued_jobs():
            try:
                run_inline(job, show=not options["quiet"])
                self.stdout.write(f"{job.title}: succeeded")
            except DomainError as error:
                failed += 1
                self.stderr.write(f"{job.title}: {error}")
        if failed:
            raise CommandError(f"{failed} job{'s' if failed > 1 else ''} failed; retry on the jobs page or by the API.")
