"""What happens by the clock, apart from jobs: quick, repeatable chores such as ending leases that ran out.

A room declares its chores in its ``jobs.py``::

    @periodic(seconds=30)
    def leases_expire() -> None: ...

One process runs them all (``manage.py jobs_scheduler``). Several such processes do no harm, since every chore is
repeatable, so no lock and no broker is needed. What takes longer than a second enqueues a job instead.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import close_old_connections, connection

from jobs.services import job_reap

logger = logging.getLogger(__name__)
REAP_SECONDS = 3.0


@dataclass
class Chore:
    run: Callable[[], Any]
    seconds: float
    due: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.run.__module__}.{self.run.__name__}"


_CHORES: dict[str, Chore] = {}


def periodic(*, seconds: float) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Run the decorated function about every ``seconds`` seconds."""

    def register(run: Callable[[], Any]) -> Callable[[], Any]:
        chore = Chore(run, seconds)
        _CHORES[chore.name] = chore
        return run

    return register


periodic(seconds=REAP_SECONDS)(job_reap)


def run_due(now: float) -> list[str]:
    """Run what is due at ``now`` (monotonic seconds); the names of what was run. An error is logged and forgotten."""
    due = [chore for chore in _CHORES.values() if chore.due <= now]
    for chore in due:
        chore.due = now + chore.seconds
        close_old_connections()
        try:
            chore.run()
        except Exception:
            logger.exception("chore %s failed", chore.name)
            if not connection.in_atomic_block:
                connection.close()
    return [chore.name for chore in due]


def run_until(stop: threading.Event) -> None:
    """Run chores as they become due until ``stop`` is set."""
    while not stop.is_set():
        run_due(time.monotonic())
        soonest = min(chore.due for chore in _CHORES.values())
        stop.wait(max(0.05, soonest - time.monotonic()))
