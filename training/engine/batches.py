"""Batches as a function of the step, so that the place in the data is the step's number and nothing else."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Shuffled:
    """Indices of ``n`` examples in a new order each epoch, cut into batches of ``size``.

    The last batch of an epoch is short, unless ``drop_last``; then what is left over waits for another epoch's order.
    Raises ValueError when there is nothing to draw from.
    """

    def __init__(self, n: int, size: int, seed: int, *, drop_last: bool = False) -> None:
        if n < 1:
            raise ValueError("there are no examples to draw batches from: the labelled set's training split is empty")
        if size < 1:
            raise ValueError(f"a batch has {size} examples: give at least 1")
        self.n = n
        self.size = min(size, n)
        self.seed = seed
        self.per_epoch = n // self.size if drop_last else -(-n // self.size)
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.per_epoch

    def at(self, step: int) -> np.ndarray:
        """(size,) int64, at most: the indices of a step's batch."""
        epoch, batch = divmod(step, self.per_epoch)
        order = self._epoch(epoch)
        return order[batch * self.size : (batch + 1) * self.size]

    def _epoch(self, epoch: int) -> np.ndarray:
        kept = self._order  # read once: two threads may ask for different epochs
        if kept is None or kept[0] != epoch:
            kept = self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(self.n))
        return kept[1]


def prefetch(
    make: Callable[[int], T], steps: Iterable[int], *, ahead: int = 2, threads: int = 1
) -> Iterator[tuple[int, T]]:
    """``(step, make(step))`` of each step, the batches of the next steps being made meanwhile::

        for step, batch in prefetch(batch_of, run.steps(n, network=network)):

    ``make`` depends on the step alone: it draws from ``run.rng("augment", step)``, never from a global generator. It is
    asked for steps beyond the last one too, and what it raises there is ignored. Steps ascend by one.
    """
    waiting: dict[int, Future[T]] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        for step in steps:
            for number in range(step, step + ahead + 1):
                if number not in waiting:
                    waiting[number] = pool.submit(make, number)
            yield step, waiting.pop(step).result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
