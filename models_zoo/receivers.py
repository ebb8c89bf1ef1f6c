"""What the zoo does when a job ends."""

from typing import Any

from django.dispatch import receiver

from jobs.models import Job, JobState
from jobs.signals import job_ended
from models_zoo.models import Version
from models_zoo.running import version_refuse


@receiver(job_ended, dispatch_uid="models_zoo.check_ended")
def check_ended(sender: type[Job], job: Job, **kwargs: Any) -> None:
    """A check that broke off refuses its version, so that nobody waits for it for ever."""
    if job.kind != "models_zoo.verify" or job.state == JobState.SUCCEEDED:
        return
    version = Version.objects.filter(pk=job.payload["version"]).first()
    if version is None:
        return
    ending = f"The check failed: {job.error}" if job.state == JobState.FAILED else "The check was cancelled."
    version_refuse(version=version, reason=f"{ending} Check it again from its page.")
