"""``manage.py jobs_check``: sends a small job through every queue and waits for it."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.models import Job, JobState, Queue
from jobs.services import job_cancel, job_enqueue

POLL_SECONDS = 0.3


class Command(BaseCommand):
    help = "Send a small job through every queue and wait until workers have done them: does this installation work?"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--timeout", type=float, default=60, help="seconds to wait (default 60)")

    def handle(self, *args: Any, **options: Any) -> None:
        payload = {"steps": 5, "pause": 0.1}
        jobs = [
            job_enqueue(kind="jobs.check", title=f"Check of queue {queue}", payload=payload, by=None, queue=queue)
            for queue in Queue
        ]
        deadline = time.monotonic() + options["timeout"]
        while Job.objects.live().filter(pk__in=[job.pk for job in jobs]).exists() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        for job in jobs:
            job.refresh_from_db()
            self.stdout.write(f"{job.queue}: {job.state} {job.error}".rstrip())
            if not job.is_ended:
                job_cancel(job=job, by=None)
        silent = [job.queue for job in jobs if job.state != JobState.SUCCEEDED]
        if silent:
            raise CommandError(f"No success on {', '.join(silent)}: is a worker running for that queue? See its log.")
