"""What several test modules of jobs use."""

from typing import Any

from jobs.models import Job
from jobs.services import job_enqueue


def enqueue(kind: str, **payload: Any) -> Job:
    return job_enqueue(kind=kind, title=f"Test of {kind}", payload=payload, by=None)
