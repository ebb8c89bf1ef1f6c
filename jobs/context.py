"""What a handler gets: its payload, its checkpoint, progress, and word when it should stop."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from accounts.models import User

T = TypeVar("T")
RATE_WINDOW_SECONDS = 20.0


class JobInterrupt(BaseException):
    """The handler must stop now. No ``Exception``, so that ``except Exception`` around one bad file lets it pass."""


class JobCancelled(JobInterrupt):
    """Somebody cancelled the job."""


class JobLost(JobInterrupt):
    """Another worker holds the job now: nothing more may be written."""


class JobReleased(JobInterrupt):
    """This worker is shutting down: the job goes back to the queue."""


@dataclass
class Progress:
    """How far the handler is. ``changed`` counts reports, so that a writer can see whether there is news."""

    done: int = 0
    total: int | None = None
    unit: str = ""
    message: str = ""
    changed: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=64))

    def update(self, done: int | None, total: int | None, unit: str | None, message: str | None) -> None:
        if unit is not None and unit != self.unit:
            self._samples.clear()
            self.unit = unit
        if total is not None:
            self.total = total
        if message is not None:
            self.message = message
        if done is not None:
            if done < self.done:
                self._samples.clear()
            self.done = done
            self._sample(time.monotonic())
        self.changed += 1

    def _sample(self, now: float) -> None:
        if self._samples and now - self._samples[-1][0] < RATE_WINDOW_SECONDS / 60 and len(self._samples) > 1:
            self._samples.pop()
        self._samples.append((now, self.done))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Units per second over the last seconds; None until two reports are apart."""
        if len(self._samples) < 2:
            return None
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / (end - start) if end > start and after > before else None


class ProgressLoop(AbstractContextManager["ProgressLoop[T]"], Generic[T]):
    """Iterates and counts; obeys cancel between the steps. ``advance`` counts a step that was worth more than one."""

    def __init__(self, context: "JobContext", iterable: Iterable[T], done: int) -> None:
        self._context = context
        self._iterable = iterable
        self.done = done
        self._extra = 0

    def __enter__(self) -> Self:
        self._context.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._context.report(done=self.done)

    def advance(self, units: int) -> None:
        """Count the step in hand as ``units`` instead of one."""
        self._extra += units - 1

    def __iter__(self) -> Iterator[T]:
        for value in self._iterable:
            yield value
            self.done += 1 + self._extra
            self._extra = 0
            self._context.report(done=self.done)


class JobContext:
    """Handed to the handler.

    Attributes:
        job_id: the job's id.
        kind, subject: as enqueued.
        payload: what ``job_enqueue`` was given; read only.
        checkpoint: what ``save_checkpoint`` kept at the last start of this job; empty at first.
        attempt: 1 at the first start.
    """

    def __init__(
        self,
        *,
        job_id: UUID,
        kind: str,
        subject: str,
        payload: dict[str, Any],
        checkpoint: dict[str, Any],
        attempt: int,
        progress: Progress,
        user: "Callable[[], User | None]",
        write_checkpoint: Callable[[dict[str, Any]], None],
        on_check: Callable[[], None],
    ) -> None:
        self.job_id = job_id
        self.kind = kind
        self.subject = subject
        self.payload = payload
        self.checkpoint = checkpoint
        self.attempt = attempt
        self._state = progress
        self._user = user
        self._write_checkpoint = write_checkpoint
        self._on_check = on_check

    @property
    def user(self) -> "User | None":
        """Who enqueued it; None for the system's own jobs."""
        return self._user()

    def check(self) -> None:
        """Call between batches.

        Raises:
            JobCancelled: somebody cancelled the job.
            JobLost: another worker took it over.
            JobReleased: this worker shuts down.
        """
        self._on_check()

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep a small JSON object for the next start. Written at once; raises ``JobLost`` when the claim is lost."""
        self._write_checkpoint(checkpoint)
        self.checkpoint = checkpoint

    def report(
        self,
        done: int | None = None,
        total: int | None = None,
        *,
        unit: str | None = None,
        message: str | None = None,
    ) -> None:
        """Say how far the work is. Cheap: written at most once a second. Obeys cancel like ``check``."""
        self._state.update(done, total, unit, message)
        self._on_check()

    def progress(
        self, iterable: Iterable[T], *, total: int | None = None, unit: str = "", message: str = "", done: int = 0
    ) -> ProgressLoop[T]:
        """Loop over ``iterable``, counting; ``done`` is what an earlier start had finished::

        with context.progress(rows, total=len(rows), unit="images", message="Reading") as bar:
            for row in bar:
                ...
        """
        self.report(done=done, total=total, unit=unit, message=message)
        return ProgressLoop(self, iterable, done)
