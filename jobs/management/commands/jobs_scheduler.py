"""``manage.py jobs_scheduler``: runs what happens by the clock, until stopped."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from jobs.schedule import run_until


class Command(BaseCommand):
    help = "Run what happens by the clock: rescuing jobs, ending leases. One such process is enough; more do no harm."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        run_until(stop)
