"""Live events: what changed about a job, published to whoever looks at it.

Channel: a Redis pub/sub name. ``falsify:job:<id>`` for a page that shows that job, ``falsify:user:<id>`` for a list of
one's own jobs, ``falsify:jobs`` for an admin's list. An event is the whole job as JSON, so a lost one does no harm.
Ticket: a signed, short-lived token that names the channels its bearer may follow (read by config.asgi).
"""

import json
import logging
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.core import signing

from jobs.models import Job

logger = logging.getLogger(__name__)
PREFIX = "falsify:"
ALL_JOBS = f"{PREFIX}jobs"
TICKET_SALT = "falsify.events"
PAUSE_AFTER_FAILURE_SECONDS = 5.0
_silent_until = 0.0


def job_channel(job_id: object) -> str:
    return f"{PREFIX}job:{job_id}"


def user_channel(user_id: object) -> str:
    return f"{PREFIX}user:{user_id}"


def job_json(job: Job) -> dict[str, Any]:
    """The job as pages and the API show it; times in ISO 8601, ``rate`` in units per second."""
    return {
        "id": str(job.pk),
        "kind": job.kind,
        "title": job.title,
        "subject": job.subject,
        "state": job.state,
        "state_label": job.get_state_display(),
        "ended": job.is_ended,
        "done": job.done,
        "total": job.total,
        "unit": job.unit,
        "percent": job.percent,
        "rate": job.rate,
        "seconds_left": job.seconds_left,
        "message": job.message,
        "error": job.error,
        "attempts": job.attempts,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
    }


def ticket_make(channels: Iterable[str], origin: str) -> str:
    """A ticket for these channels, to be used by a page of ``origin`` (scheme://host:port)."""
    return signing.dumps({"channels": sorted(channels), "origin": origin}, salt=TICKET_SALT, compress=True)


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)


def job_publish(job: Job) -> None:
    """Tell the pages. Best effort: without a server pages poll, so a failure is only noted."""
    global _silent_until
    if not settings.JOBS_EVENTS or time.monotonic() < _silent_until:
        return
    body = json.dumps(job_json(job))
    try:
        pipeline = _client().pipeline(transaction=False)
        for channel in (job_channel(job.pk), user_channel(job.created_by_id), ALL_JOBS):
            pipeline.publish(channel, body)
        pipeline.execute()
    except (redis.RedisError, OSError) as error:
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
        logger.info("live events are off for a moment: %s", error)
