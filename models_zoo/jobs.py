"""What workers do for the zoo; each handler hands on to one service, which imports torch when it needs it."""

from typing import Any

from corpora.models import Corpus
from jobs.context import JobContext
from jobs.models import Queue
from jobs.registry import job_handler
from models_zoo.models import Version


@job_handler("models_zoo.verify")
def verify(context: JobContext) -> dict[str, Any]:
    from models_zoo.running import version_verify

    context.report(message="Building and running it")
    version = version_verify(
        version=Version.objects.select_related("model__taxonomy").get(pk=context.payload["version"])
    )
    return {"state": version.state, "refusal": version.refusal}


@job_handler("models_zoo.score", queue=Queue.SCORE, max_attempts=20)
def score(context: JobContext) -> dict[str, Any]:
    from models_zoo.running import scores_ensure

    versions = list(Version.objects.filter(pk__in=context.payload["versions"]).select_related("model__taxonomy"))
    scores = scores_ensure(versions=versions, corpus=Corpus.objects.get(pk=context.payload["corpus"]), context=context)
    return {"scores": [row.pk for row in scores]}


@job_handler("models_zoo.try", max_attempts=2)
def picture(context: JobContext) -> dict[str, Any]:
    from models_zoo.running import picture_try

    versions = list(Version.objects.filter(pk__in=context.payload["versions"]).select_related("model__taxonomy"))
    return picture_try(versions=versions, file=context.payload["file"], context=context)


@job_handler("models_zoo.correlate")
def correlate(context: JobContext) -> dict[str, Any]:
    from models_zoo.running import scores_correlate

    return {"compared": scores_correlate(corpus=Corpus.objects.get(pk=context.payload["corpus"]))}
