"""Every way in which a job comes to be, is stopped, is started again, and is rescued."""

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery import current_app
from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from accounts.errors import Conflict, Denied, DomainError
from jobs import moves
from jobs.events import job_publish
from jobs.models import Job, JobState, Queue
from jobs.querysets import subject_of
from jobs.registry import job_kind
from jobs.signals import job_ended

if TYPE_CHECKING:
    from accounts.models import User

logger = logging.getLogger(__name__)
MESSAGE_TRUSTED = timedelta(seconds=60), timedelta(minutes=10)
ANNOUNCE_AFTER = timedelta(seconds=30)


def job_enqueue(
    *,
    kind: str,
    title: str,
    payload: dict[str, Any],
    by: "User | None",
    subject: str | models.Model = "",
    queue: Queue | None = None,
    unique: bool = False,
    not_before: datetime | None = None,
) -> Job:
    """Make a job: the row now, the message when the transaction commits. Callers check permissions.

    Args:
        kind: a registered handler's name.
        title: what a person reads, such as "Import of flickr".
        payload: ids and options as JSON, never data.
        by: who asked; None for the system.
        subject: what it is about: an object, or its "app.model:id".
        queue: where it runs; the kind's own queue by default.
        unique: return the live job of the same kind and subject where there is one.
        not_before: earliest start.

    Raises:
        DomainError: when no such kind is registered.
    """
    registered = job_kind(kind)
    about = subject_of(subject) if isinstance(subject, models.Model) else subject
    try:
        with transaction.atomic():
            job = Job.objects.create(
                kind=kind,
                title=title[:200],
                payload=payload,
                created_by=by,
                subject=about,
                queue=queue or registered.queue,
                max_attempts=registered.max_attempts,
                is_unique=unique,
                not_before=not_before,
            )
    except IntegrityError:
        live = Job.objects.live().filter(kind=kind, subject=about, is_unique=True).first() if unique else None
        if live is None:
            raise
        return live
    logger.info("job %s queued: %s", job.pk, job.title)
    transaction.on_commit(lambda: _tell_workers_and_pages(job))
    return job


def _tell_workers_and_pages(job: Job) -> None:
    message_send(job)
    job_publish(job)


def message_send(job: Job) -> bool:
    """Send the job's id to its queue. False when the broker is away: the reaper sends it later."""
    now = timezone.now()
    if not settings.JOBS_SEND_MESSAGES or (job.not_before and job.not_before > now):
        return False
    try:
        current_app.send_task("jobs.run", args=[str(job.pk)], queue=job.queue, retry=False, ignore_result=True)
    except (BrokerError, OSError) as error:
        logger.info("the message of job %s was not sent, the scheduler will send it: %s", job.pk, error)
        return False
    Job.objects.filter(pk=job.pk, state=JobState.QUEUED).update(message_sent_at=now)
    return True


def _require_change(job: Job, by: "User | None", action: str) -> None:
    """``by`` None is the system itself."""
    if by is not None and not Job.objects.changeable_by(by).filter(pk=job.pk).exists():
        raise Denied(
            f'You may not {action} "{job.title}": that is up to who started it, an editor of its object or an admin.'
        )


def job_cancel(*, job: Job, by: "User | None") -> Job:
    """Cancel: at once while queued, between batches while running; nothing happens when it is over already."""
    _require_change(job, by, "cancel")
    if moves.cancel_queued(job.pk):
        transaction.on_commit(lambda: job_announce(job))
    elif moves.cancel_running(job.pk):
        transaction.on_commit(lambda: job_publish(job))
    job.refresh_from_db()
    logger.info("job %s cancelled by %s: now %s", job.pk, by, job.state)
    return job


def job_retry(*, job: Job, by: "User | None") -> Job:
    """Queue a failed or cancelled job again; it goes on from its checkpoint.

    Raises:
        Conflict: when it has not ended, has succeeded, or a job like it runs already.
    """
    _require_change(job, by, "retry")
    try:
        with transaction.atomic():
            moved = moves.requeue(job.pk)
    except IntegrityError:
        raise Conflict(f'"{job.title}" runs already as another job: wait for it or cancel it first.') from None
    job.refresh_from_db()
    if not moved:
        raise Conflict(f'"{job.title}" is {job.state}: only a failed or cancelled job can be retried.')
    logger.info("job %s queued again by %s", job.pk, by)
    transaction.on_commit(lambda: _tell_workers_and_pages(job))
    return job


def job_announce(job: Job) -> None:
    """Tell upper rooms and pages that the job ended. A receiver's error is logged and harms nobody else."""
    job.refresh_from_db()
    job_ended.send_robust(sender=Job, job=job)
    Job.objects.filter(pk=job.pk, state=job.state, ended_at=job.ended_at).update(announced_at=timezone.now())
    job_publish(job)


def job_reap() -> dict[str, int]:
    """Rescue what crashes left behind; safe to run at any time, anywhere, twice at once.

    Returns:
        How many jobs were taken over, failed, cancelled, announced late, and sent again.
    """
    now = timezone.now()
    counts = {"taken_over": 0, "failed": 0, "cancelled": 0, "announced": 0, "sent": 0}
    stale_after = timedelta(seconds=settings.JOBS_STALE_SECONDS)
    for job in Job.objects.stale(now, stale_after):
        counts[_rescue(job, now - stale_after)] += 1
    for job in Job.objects.unannounced(now, ANNOUNCE_AFTER):
        job_announce(job)
        counts["announced"] += 1
    for job in Job.objects.startable(now).order_by("created_at"):
        if _message_may_be_lost(job, now):
            counts["sent"] += message_send(job)
    return counts


def _rescue(job: Job, before: datetime) -> str:
    """End or requeue a job whose worker went silent; the name of what happened."""
    if job.state == JobState.CANCELLING:
        move, moved = "cancelled", moves.end_stale(job, before, JobState.CANCELLED)
    elif job.attempts >= job.max_attempts:
        error = (
            f"The worker that ran it went silent, {job.attempts} times now (last: {job.worker}). "
            "It may have run out of memory or been stopped: look at its log, then press Retry."
        )
        move, moved = "failed", moves.end_stale(job, before, JobState.FAILED, error)
    else:
        move, moved = "taken_over", moves.take_over(job, before)
    if moved:
        logger.warning("job %s (%s): worker %s went silent: %s", job.pk, job.title, job.worker, move)
        if move != "taken_over":
            job_announce(job)
    return move


def _message_may_be_lost(job: Job, now: datetime) -> bool:
    """Whether to send it again. A message is trusted as long as the job had waited when it was sent, within
    ``MESSAGE_TRUSTED``, so that a long queue is not flooded with doubles."""
    if job.message_sent_at is None:
        return True
    least, most = MESSAGE_TRUSTED
    trusted = min(max(job.message_sent_at - job.created_at, least), most)
    return now - job.message_sent_at > trusted


def job_delete(*, job: Job, by: "User | None") -> None:
    """Forget an ended job.

    Raises:
        DomainError: while it is alive.
    """
    _require_change(job, by, "delete")
    deleted, _ = Job.objects.filter(pk=job.pk, state__in=JobState.ended()).delete()
    if not deleted:
        raise DomainError(f'"{job.title}" is {job.state}: cancel it before deleting it.')
