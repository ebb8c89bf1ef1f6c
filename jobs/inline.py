"""Running jobs in this process: management commands, and tests."""

import time
from collections.abc import Callable, Iterator
from uuid import UUID

from django.utils import timezone
from tqdm import tqdm

from accounts.errors import DomainError
from jobs.models import Job, JobState
from jobs.worker import job_run

POLL_SECONDS = 0.5


def run_inline(job: Job, *, show: bool = False) -> Job:
    """Run a queued job here and now; when a worker was faster, watch it to its end.

    Args:
        show: draw a progress bar on the terminal.

    Returns:
        The job, succeeded.

    Raises:
        DomainError: with the job's error when it failed or was cancelled.
    """
    with tqdm(disable=not show, desc=job.title, leave=True) as bar:
        watcher = _watcher(bar)
        ended = job_run(job.pk, watcher=watcher) or _watch(job, watcher)
        watcher(ended)
    if ended.state != JobState.SUCCEEDED:
        raise DomainError(ended.error or f'"{ended.title}" was {ended.state}.')
    return ended


def queued_jobs() -> Iterator[Job]:
    """Jobs that may start, oldest first, each once, those enqueued meanwhile included."""
    seen: set[UUID] = set()
    while job := Job.objects.startable(timezone.now()).exclude(pk__in=seen).order_by("created_at").first():
        seen.add(job.pk)
        yield job


def run_all_inline() -> list[Job]:
    """Run queued jobs, and those that they enqueue, until none is left; as they ended. Failures stand in the jobs."""
    return [ended for job in queued_jobs() if (ended := job_run(job.pk)) is not None]


def _watcher(bar: "tqdm[object]") -> Callable[[Job], None]:
    def watch(job: Job) -> None:
        bar.total, bar.unit = job.total, f" {job.unit}" if job.unit else "it"
        bar.set_postfix_str(job.message, refresh=False)
        bar.update(job.done - bar.n)

    return watch


def _watch(job: Job, watcher: Callable[[Job], None]) -> Job:
    """Follow a job that a worker runs."""
    job.refresh_from_db()
    while not job.is_ended:
        watcher(job)
        time.sleep(POLL_SECONDS)
        job.refresh_from_db()
    return job
