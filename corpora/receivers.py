"""What corpora do when a job ended."""

from typing import Any

from django.dispatch import receiver

from corpora.services import IMPORT_JOB, corpus_import_ended
from jobs.models import Job, JobState
from jobs.signals import job_ended


@receiver(job_ended, dispatch_uid="corpora.import_ended")
def on_job_ended(sender: type[Job], job: Job, **_: Any) -> None:
    if job.kind == IMPORT_JOB:
        corpus_import_ended(corpus_id=job.payload["corpus"], succeeded=job.state == JobState.SUCCEEDED)
