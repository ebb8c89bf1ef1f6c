"""The moves of the state machine: each one conditional UPDATE that says whether it happened."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.db.models import F
from django.utils import timezone

from jobs.models import Job, JobState

_FREE: dict[str, Any] = {"claim": None, "worker": "", "beat_at": None}


def claim(job_id: UUID | str, worker: str) -> Job | None:
    """queued -> running. None when somebody else was faster, or the job waits or is over."""
    now = timezone.now()
    fence = uuid4()
    claimed = (
        Job.objects.startable(now)
        .filter(pk=job_id)
        .update(
            state=JobState.RUNNING,
            claim=fence,
            worker=worker[:120],
            beat_at=now,
            started_at=now,
            attempts=F("attempts") + 1,
            error="",
            traceback="",
        )
    )
    return Job.objects.filter(pk=job_id, claim=fence).first() if claimed else None


def write(job_id: UUID, fence: UUID, **values: Any) -> bool:
    """Write as the holder. False when the claim is lost."""
    return bool(Job.objects.filter(pk=job_id, claim=fence, state__in=JobState.held()).update(**values))


def beat(job_id: UUID, fence: UUID, **news: Any) -> bool:
    """Say that the holder lives. False when the claim is lost."""
    return write(job_id, fence, beat_at=timezone.now(), **news)


def finish(job_id: UUID, fence: UUID, state: JobState, **values: Any) -> bool:
    """running or cancelling -> an end state, by the holder."""
    return write(job_id, fence, state=state, ended_at=timezone.now(), announced_at=None, **_FREE, **values)


def release(job_id: UUID, fence: UUID) -> bool:
    """running -> queued, by a holder that shuts down; the start does not count."""
    held = Job.objects.filter(pk=job_id, claim=fence, state=JobState.RUNNING)
    return bool(
        held.update(state=JobState.QUEUED, attempts=F("attempts") - 1, message_sent_at=None, rate=None, **_FREE)
    )


def take_over(job: Job, before: datetime) -> bool:
    """running -> queued, from a holder whose beat is older than ``before``."""
    stale = Job.objects.filter(pk=job.pk, claim=job.claim, state=JobState.RUNNING, beat_at__lt=before)
    return bool(stale.update(state=JobState.QUEUED, message_sent_at=None, rate=None, **_FREE))


def end_stale(job: Job, before: datetime, state: JobState, error: str = "") -> bool:
    """running or cancelling -> failed or cancelled, from a holder whose beat is older than ``before``."""
    stale = Job.objects.filter(pk=job.pk, claim=job.claim, state=job.state, beat_at__lt=before)
    return bool(stale.update(state=state, ended_at=timezone.now(), announced_at=None, error=error, **_FREE))


def cancel_queued(job_id: UUID) -> bool:
    """queued -> cancelled."""
    queued = Job.objects.filter(pk=job_id, state=JobState.QUEUED)
    return bool(queued.update(state=JobState.CANCELLED, ended_at=timezone.now(), announced_at=None))


def cancel_running(job_id: UUID) -> bool:
    """running -> cancelling; the holder obeys between batches."""
    return bool(Job.objects.filter(pk=job_id, state=JobState.RUNNING).update(state=JobState.CANCELLING))


def requeue(job_id: UUID) -> bool:
    """failed or cancelled -> queued, checkpoint kept."""
    over = Job.objects.filter(pk=job_id, state__in=[JobState.FAILED, JobState.CANCELLED])
    return bool(
        over.update(
            state=JobState.QUEUED,
            attempts=0,
            error="",
            traceback="",
            started_at=None,
            ended_at=None,
            announced_at=None,
            message_sent_at=None,
            not_before=None,
            rate=None,
            message="",
        )
    )
