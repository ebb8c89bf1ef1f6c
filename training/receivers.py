"""What training does when a job ends."""

from typing import Any

from django.dispatch import receiver

from jobs.models import Job, JobState
from jobs.signals import job_ended
from training.models import Run
from training.services import run_announce


@receiver(job_ended, dispatch_uid="training.job_ended")
def on_job_ended(sender: type[Job], job: Job, **kwargs: Any) -> None:
    """A run whose job failed or was cancelled is over; one that succeeded said so itself."""
    if job.state == JobState.SUCCEEDED:
        return
    for run in Run.objects.filter(job=job, finished_at=None):
        run_announce(run)
