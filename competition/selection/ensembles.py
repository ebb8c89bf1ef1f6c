"""Random ensembles of the pruned variants of one model, the competitors of self-gMAD (arXiv 2105.06747).

The paper says that competitors are random ensembles of variants; how they are drawn is this project's choice: a subset
of two or more, every size and every subset of a size alike, with weights from a flat Dirichlet distribution.
"""

from dataclasses import dataclass

import numpy as np

from competition.selection.columns import SelectionError

LEAST_MEMBERS = 2
_LEAST_WEIGHT = 1e-6  # a weight that rounds to nothing would make no member


@dataclass(frozen=True)
class Ensemble:
    """members: positions among the variants, rising; weights: one each, above 0, summing to 1."""

    members: tuple[int, ...]
    weights: tuple[float, ...]


def random_ensembles(n_variants: int, count: int, *, seed: int) -> list[Ensemble]:
    """``count`` ensembles of ``n_variants`` variants.

    The same arguments give the same ensembles, and more of them begin with the same ones. Raises SelectionError for
    fewer than two variants or a count below one.
    """
    if n_variants < LEAST_MEMBERS:
        raise SelectionError(f"an ensemble has at least {LEAST_MEMBERS} variants, there are {n_variants}: prune more")
    if count < 1:
        raise SelectionError(f"{count} ensembles: at least one is needed")
    return [_draw(n_variants, np.random.default_rng([seed, number])) for number in range(count)]


def _draw(n_variants: int, rng: np.random.Generator) -> Ensemble:
    size = int(rng.integers(LEAST_MEMBERS, n_variants + 1))
    members = np.sort(rng.choice(n_variants, size, replace=False))
    weights = np.maximum(rng.dirichlet(np.ones(size)), _LEAST_WEIGHT)
    return Ensemble(tuple(members.tolist()), tuple((weights / weights.sum()).tolist()))
