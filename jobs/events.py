"""Live events: what changed about a job, published to whoever looks at it.

``falsify:job:<id>`` is followed by pages that show that job, ``falsify:user:<id>`` by a list of one's own jobs,
``falsify:jobs`` by an admin's list. An event is the whole job as JSON, so a lost one does no harm.
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

from jobs.channels import ALL_JOBS, TICKET_SALT, job_channel, user_channel
from jobs.models import Job
from jobs.words import numbers

logger = logging.getLogger(__name__)
PAUSE_AFTER_FAILURE_SECONDS = 5.0
_silent_until = 0.0


def job_json(job: Job) -> dict[str, Any]:
    """The job as pages and the API show it; times in ISO 8601, ``rate`` in units per second."""
    return {
        "id": str(job.pk),
        "kind": job.kind,
        "title": job.title,
        "subject": job.subject,
        "state": job.state,
        "state_label": job.get_state_display(),
        "tone": job.tone,
        "ended": job.is_ended,
        "done": job.done,
        "total": job.total,
        "unit": job.unit,
        "percent": job.percent,
        "rate": job.rate,
        "seconds_left": job.seconds_left,
        "message": job.message,
        "numbers": numbers(job),
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
        logger.debug("live events are off for a moment: %s", error)
