"""What both ways of scoring share: how a corpus is cut, how threads work ahead, what a report says."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from models_zoo.engine.scores import ScoreStore

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]
Task = TypeVar("Task")
Result = TypeVar("Result")


class Stored(Protocol):
    """A version on its way: `store` is where its scores go."""

    @property
    def store(self) -> ScoreStore: ...


Entry = TypeVar("Entry", bound=Stored)


class ScoringCancelled(Exception):
    """Somebody asked to stop; finished shards are kept and a later call goes on from there."""


@dataclass(frozen=True)
class ScoringReport:
    """`n_scored`: (row, version) pairs computed now; `n_kept`: pairs found finished. `failures`: a reason by row, for
    the images that this call could not decode or that a version gave no finite score (their rows are `missing`)."""

    n_scored: int
    n_kept: int
    seconds: float
    backends: tuple[str, ...]
    failures: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch(Generic[Entry]):
    """A run of rows inside one shard, and the versions that still lack this shard."""

    shard: int
    rows: range
    entries: tuple[Entry, ...]
    is_last: bool


def batches(entries: Sequence[Entry], size: int) -> Iterator[Batch[Entry]]:
    """All batches of all shards that some version lacks, in row order."""
    lacking: dict[int, list[Entry]] = {}
    for entry in entries:
        for shard in entry.store.unfinished_shards():
            lacking.setdefault(shard, []).append(entry)
    for shard in sorted(lacking):
        whole = lacking[shard][0].store.header.rows_of(shard)
        for start in range(whole.start, whole.stop, size):
            part = range(start, min(start + size, whole.stop))
            yield Batch(shard, part, tuple(lacking[shard]), part.stop == whole.stop)


def n_finished(entries: Sequence[Stored]) -> int:
    """(row, version) pairs that lie in finished shards."""
    return sum(len(entry.store.header.rows_of(shard)) for entry in entries for shard in entry.store.finished_shards())


def in_order(
    executor: ThreadPoolExecutor, work: Callable[[Task], Result], tasks: Iterator[Task], *, window: int
) -> Iterator[tuple[Task, Result]]:
    """Results in the order of the tasks, at most `window` of them ahead; what is pending is dropped on an exception."""
    pending: deque[tuple[Task, Future[Result]]] = deque()
    try:
        for task in tasks:
            pending.append((task, executor.submit(work, task)))
            if len(pending) >= window:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        for _, future in pending:
            future.cancel()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
