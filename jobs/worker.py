"""Running a job: claim, call the handler, keep the claim alive meanwhile, write the end.

Hold: a claim in this process's hand. A thread of its own beats, writes progress at most once a second and learns
whether somebody cancelled; the handler only sets and reads fields, so reporting costs next to nothing.
"""

import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection

from jobs import moves
from jobs.context import JobCancelled, JobContext, JobInterrupt, JobLost, JobReleased, Progress
from jobs.errors import explain
from jobs.events import job_publish
from jobs.models import Job, JobState
from jobs.registry import job_kind
from jobs.services import job_announce

logger = logging.getLogger(__name__)
_stopping = threading.Event()


def worker_stop() -> None:
    """This process shuts down: every job in hand goes back to the queue at its next check."""
    _stopping.set()


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.current_thread().name}"


class Hold:
    """Keeps one claim alive until left.

    Inside a transaction (tests) a second connection would see nothing, so there the handler's own calls do the work.
    """

    def __init__(self, job: Job, watcher: Callable[[Job], None] | None = None) -> None:
        if job.claim is None:
            raise ValueError(f"job {job.pk} is not claimed")
        self.job = job
        self.fence: UUID = job.claim
        self.interrupt: type[JobInterrupt] | None = None
        self.progress = Progress()
        self._watcher = watcher
        self._written = 0
        self._synced = time.monotonic()
        self._beaten = time.monotonic()
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if not connection.in_atomic_block:
            self._thread = threading.Thread(target=self._keep, name=f"beat-{self.job.pk}", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        if self._thread:
            self._thread.join()

    def _keep(self) -> None:
        try:
            while not self._left.wait(settings.JOBS_SYNC_SECONDS):
                try:
                    self.sync()
                except DatabaseError as error:
                    logger.warning("job %s: beat not written, trying again: %s", self.job.pk, error)
                    connection.close()
        finally:
            connection.close()

    def news(self) -> dict[str, Any]:
        """Progress as column values."""
        state = self.progress
        return {
            "done": max(0, state.done),
            "total": state.total,
            "unit": state.unit[:24],
            "rate": state.rate,
            "message": state.message[:300],
        }

    def sync(self) -> None:
        """Beat when due, write news, learn whether to stop."""
        self._synced = now = time.monotonic()
        changed = self.progress.changed
        has_news = changed != self._written
        if has_news or now - self._beaten >= settings.JOBS_HEARTBEAT_SECONDS:
            moves.beat(self.job.pk, self.fence, **(self.news() if has_news else {}))
            self._beaten = now
        row = Job.objects.filter(pk=self.job.pk, claim=self.fence, state__in=JobState.held()).first()
        if row is None:
            self.interrupt = JobLost
            return
        if row.state == JobState.CANCELLING:
            self.interrupt = JobCancelled
        if has_news:
            self._written = changed
            job_publish(row)
            if self._watcher:
                self._watcher(row)

    def check(self) -> None:
        """Raise what the handler must obey."""
        if self._thread is None and time.monotonic() - self._synced >= settings.JOBS_SYNC_SECONDS:
            self.sync()
        if self.interrupt:
            raise self.interrupt(f"job {self.job.pk}")
        if _stopping.is_set():
            raise JobReleased(f"job {self.job.pk}")

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not moves.write(self.job.pk, self.fence, checkpoint=checkpoint):
            self.interrupt = JobLost
            raise JobLost(f"job {self.job.pk}")

    def context(self) -> JobContext:
        job = self.job
        return JobContext(
            job_id=job.pk,
            kind=job.kind,
            subject=job.subject,
            payload=job.payload,
            checkpoint=job.checkpoint,
            attempt=job.attempts,
            progress=self.progress,
            user=lambda: job.created_by,
            write_checkpoint=self.save_checkpoint,
            on_check=self.check,
        )


def job_run(job_id: UUID | str, *, watcher: Callable[[Job], None] | None = None) -> Job | None:
    """Claim the job and run it to an end.

    Args:
        watcher: called with the job about once a second while it makes progress.

    Returns:
        The job as it stands then; None when it could not be claimed (a double message, cancelled, not due).
    """
    job = moves.claim(job_id, worker_name())
    if job is None:
        return None
    logger.info("job %s starts (%s, start %d of %d): %s", job.pk, job.kind, job.attempts, job.max_attempts, job.title)
    job_publish(job)
    with Hold(job, watcher) as hold:
        end, values = _outcome(hold)
    if end is None:
        _release(hold)
    elif moves.finish(job.pk, hold.fence, end, **{**hold.news(), **values}):
        logger.info("job %s %s: %s", job.pk, end, job.title)
        job_announce(job)
    else:
        logger.warning("job %s was taken over meanwhile: nothing written", job.pk)
    job.refresh_from_db()
    return job


def _outcome(hold: Hold) -> tuple[JobState | None, dict[str, Any]]:
    """Call the handler; the end state with its columns, or None when the job is not over."""
    job = hold.job
    try:
        result = job_kind(job.kind).handler(hold.context())
    except JobCancelled:
        return JobState.CANCELLED, {"message": ""}
    except JobInterrupt as interrupt:
        logger.warning("job %s stops: %s", job.pk, type(interrupt).__name__)
        return None, {}
    except KeyboardInterrupt:
        return JobState.CANCELLED, {"message": "Stopped from the keyboard"}
    except Exception as error:
        logger.exception("job %s failed: %s", job.pk, job.title)
        return JobState.FAILED, {"error": explain(error), "traceback": traceback.format_exc()}
    return JobState.SUCCEEDED, {"result": result or {}}


def _release(hold: Hold) -> None:
    """Give a job back whose claim is still ours; one that was being cancelled is over instead."""
    if moves.release(hold.job.pk, hold.fence):
        job = Job.objects.get(pk=hold.job.pk)
        logger.info("job %s goes back to the queue", job.pk)
        job_publish(job)
    elif moves.finish(hold.job.pk, hold.fence, JobState.CANCELLED):
        job_announce(hold.job)
