"""What corpora do in the background."""

from typing import Any

from corpora.models import Corpus
from corpora.services import IMPORT_JOB, corpus_import
from jobs.context import JobContext
from jobs.registry import job_handler


@job_handler(IMPORT_JOB)
def import_corpus(context: JobContext) -> dict[str, Any]:
    corpus = Corpus.objects.select_related("taxonomy", "created_by").get(pk=context.payload["corpus"])
    return corpus_import(corpus=corpus, context=context)
