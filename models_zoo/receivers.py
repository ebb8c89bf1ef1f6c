"""What the zoo does when a job ends, and when people's opinions of a corpus change."""

from typing import Any

from django.dispatch import receiver

from accounts.models import User
from corpora.models import Corpus
from corpora.signals import opinions_changed
from jobs.models import Job, JobState
from jobs.services import job_enqueue
from jobs.signals import job_ended
from models_zoo.models import Scores, Task, Version
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


@receiver(opinions_changed, dispatch_uid="models_zoo.opinions_changed")
def compare_with_opinions(sender: type[Corpus], corpus: Corpus, by: User, **kwargs: Any) -> None:
    """Scores of that corpus were compared with the opinions that it had before."""
    if Scores.objects.complete().filter(corpus=corpus, version__model__task=Task.QUALITY).exists():
        job_enqueue(
            kind="models_zoo.correlate",
            title=f"Compare scores with the opinions of {corpus}",
            payload={"corpus": corpus.pk},
            by=by,
            subject=corpus,
            unique=True,
        )
