"""Where people contradict a model clearly, and how often.

A pair of rated images contradicts the model where the 95 % interval of the difference of their mean opinion scores
excludes what the model says of it. The model attacks: it finds the first better; wholly below zero contradicts it. The
model defends: it finds both equally good; an interval without zero contradicts it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from labeling.psychometrics.intervals import wilson

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Of two mean opinion scores; low, high: its 95 % interval, None where one rests on a single answer."""

    value: float
    low: float | None
    high: float | None

    def contradicts(self, *, attacks: bool) -> bool:
        """Whether it clearly contradicts a model that attacks (says above zero) or defends (says zero)."""
        if self.low is None or self.high is None:
            return False
        return self.high < 0 or (not attacks and self.low > 0)


@dataclass(frozen=True)
class Rated:
    """A mean opinion score: mean, standard deviation of the answers (None of a single one), number of answers."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Share:
    """k of n, with Wilson's 95 % interval; rate is None of nothing."""

    k: int
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        low, high = wilson(self.k, self.n)
        return {"k": self.k, "n": self.n, "rate": self.k / self.n if self.n else None,
                "low": float(low), "high": float(high)}  # fmt: skip


def difference(first: Rated, second: Rated) -> Difference:
    """First minus second with Welch's interval (unequal variances, Satterthwaite's degrees of freedom)."""
    value = first.mean - second.mean
    if first.std is None or second.std is None or min(first.n, second.n) < 2:
        return Difference(value, None, None)
    parts = np.array([first.std**2 / first.n, second.std**2 / second.n])
    total = float(parts.sum())
    if total == 0:
        return Difference(value, value, value)
    freedom = total**2 / float((parts**2 / (np.array([first.n, second.n]) - 1)).sum())
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * total**0.5
    return Difference(value, value - half, value + half)
