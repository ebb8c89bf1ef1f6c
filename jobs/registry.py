"""Handlers by kind.

A room declares what its jobs do in its ``jobs.py`` (found at start; import heavy libraries inside the functions)::

    @job_handler("corpora.import", queue=Queue.DEFAULT)
    def corpus_import(context: JobContext) -> dict | None:
        with context.progress(files, total=len(files), unit="images") as bar:
            for file in bar:
                ...

The handler may be started again after a crash: it reads ``context.checkpoint`` and goes on from there. What it returns
becomes the job's ``result``. It fails by raising: a ``DomainError``'s or ``ValueError``'s message is shown to the user.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from accounts.errors import DomainError
from jobs.context import JobContext
from jobs.models import Queue

Handler = Callable[[JobContext], dict[str, Any] | None]


@dataclass(frozen=True)
class JobKind:
    """A registered kind of job: what runs it, where, and how many starts it is given."""

    name: str
    handler: Handler
    queue: Queue
    max_attempts: int


_KINDS: dict[str, JobKind] = {}


def job_handler(kind: str, *, queue: Queue = Queue.DEFAULT, max_attempts: int = 5) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of ``kind`` ("app.verb").

    Args:
        queue: where its jobs run unless ``job_enqueue`` says otherwise.
        max_attempts: starts (the first one included) before a job whose workers keep dying fails for good.
    """

    def register(handler: Handler) -> Handler:
        known = _KINDS.get(kind)
        if known is not None and known.handler.__module__ != handler.__module__:
            raise ValueError(f'job kind "{kind}" is registered twice: {known.handler.__module__}, {handler.__module__}')
        _KINDS[kind] = JobKind(kind, handler, queue, max_attempts)
        return handler

    return register


def job_kind(name: str) -> JobKind:
    """The kind of this name.

    Raises:
        DomainError: when no room registered it.
    """
    try:
        return _KINDS[name]
    except KeyError:
        known = ", ".join(sorted(_KINDS)) or "none"
        raise DomainError(f'There is no job kind "{name}"; known: {known}.') from None


def job_kinds() -> list[str]:
    return sorted(_KINDS)
