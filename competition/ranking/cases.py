"""How often a duel's images falsify nobody, one model, or both (arXiv 2002.10648, section 2.1).

Case I: both models are right; says little. Case II: exactly one is right; falsifies the other. Case III: both are
wrong; counts against both.
"""

from dataclasses import dataclass

from competition.ranking.bootstrap import Duels
from competition.ranking.matrices import IntArray


@dataclass(frozen=True)
class Cases:
    """One entry per duel that has labelled images, in the order of (first, second).

    first, second   (d,) model numbers, first < second
    images          (d,) labelled images; the sum of the four counts below
    both_right      (d,) case I
    only_first, only_second  (d,) case II, by which model was right
    both_wrong      (d,) case III
    """

    first: IntArray
    second: IntArray
    images: IntArray
    both_right: IntArray
    only_first: IntArray
    only_second: IntArray
    both_wrong: IntArray

    @property
    def one_right(self) -> IntArray:
        """(d,) case II: exactly one model is right."""
        return self.only_first + self.only_second

    def totals(self) -> tuple[int, int, int]:
        """Images of case I, II and III over all duels."""
        return int(self.both_right.sum()), int(self.one_right.sum()), int(self.both_wrong.sum())


def count_cases(duels: Duels) -> Cases:
    """The case counts of every duel."""
    return Cases(duels.first, duels.second, duels.images, *duels.outcomes.T)
