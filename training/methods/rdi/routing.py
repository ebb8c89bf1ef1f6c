"""Which exit answers for an image, what that costs, and thresholds for a budget; plain arrays.

Exits are counted from 0; the last of the E exits takes what no other took. An image leaves at the first exit whose
entropy (nats) is below that exit's threshold; a threshold of 0 or less closes an exit, whose head is then not computed.

Paper's cost: of the layers before the exit at which an image leaves and of that exit's head, convolutions alone. Honest
cost: with the heads that were evaluated on the way and rejected, and with linear layers. Both are MACs of one image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

Rule = Literal["shares", "tuned"]
RULES: tuple[Rule, ...] = ("shares", "tuned")
Floats = npt.NDArray[np.float64]
Thresholds = tuple[float, ...]
POSITIONS = 8.0  # bound of the bisection: exponents of shares and prices
MOST_CHOICES = 127  # of open exits that are tried
_SWEEPS = 20
_HALVINGS = 12


@dataclass(frozen=True)
class Said:
    """What every exit says of some images. entropies: (E, N) nats; right: (E, N) whether its class is the true one."""

    entropies: Floats
    right: npt.NDArray[np.bool_]

    @property
    def n(self) -> int:
        return self.entropies.shape[1]


@dataclass(frozen=True)
class MacTable:
    """Costs of the exits, (E,) each: prefix up to an exit; head with linear layers; convolutions of the head alone."""

    prefix: Floats
    head: Floats
    head_convolutions: Floats

    @property
    def whole(self) -> float:
        """Of the network without early exits."""
        return float(self.prefix[-1] + self.head[-1])

    def paper(self) -> Floats:
        """(E,) the paper's cost by exit."""
        return self.prefix + self.head_convolutions

    def honest(self, thresholds: Sequence[float]) -> Floats:
        """(E,) the honest cost by exit."""
        is_open = np.array([*(each > 0 for each in thresholds), True])
        return self.prefix + np.cumsum(np.where(is_open, self.head, 0.0))


def route(entropies: Floats, thresholds: Sequence[float]) -> npt.NDArray[np.int64]:
    """(E, N) -> (N,) the exit of each image."""
    leaves = entropies < np.array([*thresholds, np.inf])[:, None]
    found: npt.NDArray[np.int64] = leaves.argmax(axis=0)
    return found


def routed_right(said: Said, thresholds: Sequence[float]) -> npt.NDArray[np.bool_]:
    """(N,) whether the exit that answers is right."""
    exits = route(said.entropies, thresholds)
    found: npt.NDArray[np.bool_] = said.right[exits, np.arange(said.n)]
    return found


def shares(said: Said, thresholds: Sequence[float]) -> Floats:
    """(E,) of the images that leave at each exit."""
    return np.bincount(route(said.entropies, thresholds), minlength=len(said.entropies)) / said.n


def mean_macs(said: Said, thresholds: Sequence[float], table: MacTable) -> tuple[float, float]:
    """The paper's cost and the honest one, in the mean over the images."""
    part = shares(said, thresholds)
    return float(part @ table.paper()), float(part @ table.honest(thresholds))


def by_shares(entropies: Floats, wanted: Sequence[float]) -> Thresholds:
    """Thresholds at which given shares of the images leave, exit after exit (MSDNet, arXiv:1703.09844, section 5).

    entropies: (E, N) of validation images; wanted: (E,) shares that sum to 1. A share of less than one image closes an
    exit.
    """
    n = entropies.shape[1]
    waiting = np.arange(n)
    thresholds = []
    for own, share in zip(entropies[:-1], wanted[:-1], strict=True):
        leaving = round(share * n)
        order = waiting[np.argsort(own[waiting], kind="stable")]
        if not leaving or not len(waiting):
            thresholds.append(0.0)
            continue
        is_all = leaving >= len(order)
        threshold = _above(own[order[-1]]) if is_all else float(own[order[leaving]])
        thresholds.append(threshold)
        waiting = waiting[own[waiting] >= threshold]
    return tuple(thresholds)


def equal_shares(entropies: Floats) -> Thresholds:
    """Where the paper begins: as many images at each exit."""
    n_exits = len(entropies)
    return by_shares(entropies, [1 / n_exits] * n_exits)


def tuned(clean: Said, attacked: Sequence[Said], table: MacTable, price: float, start: Thresholds) -> Thresholds:
    """Thresholds that make accuracy - price * honest MACs large, one exit at a time.

    Clean images count as much as all attacked ones together, and each attack as much as another. price: accuracy that a
    MAC has to bring. Each step finds the best cut of one exit exactly, the others being fixed; the value never falls.
    """
    said = [clean, *attacked]
    entropies = np.concatenate([each.entropies for each in said], axis=1)
    right = np.concatenate([each.right for each in said], axis=1)
    counts = [1.0, *[1 / len(attacked)] * len(attacked)]
    weights = np.concatenate([np.full(each.n, count / each.n) for each, count in zip(said, counts, strict=True)])
    thresholds = start
    for _ in range(_SWEEPS):
        before = thresholds
        for number in range(len(thresholds)):
            thresholds = _best_cut(entropies, right, weights, table, price, thresholds, number)
        if thresholds == before:
            break
    return thresholds


def for_budget(rule: Rule, clean: Said, attacked: Sequence[Said], table: MacTable, budget: float) -> Thresholds:
    """Thresholds whose mean honest MACs on clean validation images come close to a budget from below, by bisection.

    rule: "shares": the images that leave fall or rise geometrically from exit to exit. "tuned": of what `tuned` and the
    shares over every choice of open exits give, the largest sum of the accuracy on clean images and of that under the
    worst attack. attacked: the same images under each attack. A budget of the whole network or more closes every early
    exit. Raises ValueError for one below the first exit.
    """
    n_early = len(table.prefix) - 1
    if budget >= table.whole:
        return (0.0,) * n_early
    least = float(table.prefix[0] + table.head[0])
    if budget < least:
        raise ValueError(
            f"a budget of {budget:,.0f} MACs is below {least:,.0f}, what the first exit alone costs: give more"
        )

    def fits(thresholds: Thresholds) -> bool:
        return mean_macs(clean, thresholds, table)[1] <= budget

    def of_shares(is_open: Sequence[bool], position: float) -> Thresholds:
        wanted = np.exp(position * np.arange(n_early + 1) - max(0.0, position * n_early)) * [*is_open, True]
        return by_shares(clean.entropies, (wanted / wanted.sum()).tolist())

    def of_price(start: Thresholds, position: float) -> Thresholds:
        return tuned(clean, attacked, table, math.exp(-position) / table.whole, start)

    if rule == "shares":
        return _bisected(partial(of_shares, [True] * n_early), fits)
    choices = [each for each in product((True, False), repeat=n_early) if any(each)]
    if len(choices) > MOST_CHOICES:
        choices = [tuple(at >= first for at in range(n_early)) for first in range(n_early)]
    starts = ((0.0,) * n_early, equal_shares(clean.entropies))
    found = [
        *(_bisected(partial(of_shares, each), fits) for each in choices),
        *(_bisected(partial(of_price, start), fits) for start in starts),
    ]
    fitting = [each for each in found if fits(each)]
    return max(fitting, key=lambda each: both_accuracies(clean, attacked, each))


def both_accuracies(clean: Said, attacked: Sequence[Said], thresholds: Sequence[float]) -> float:
    """The accuracy on clean images and that under the worst attack, summed."""
    right = routed_right(clean, thresholds)
    worst = min((float((right & routed_right(each, thresholds)).mean()) for each in attacked), default=0.0)
    return float(right.mean()) + worst


def _bisected(make: Callable[[float], Thresholds], fits: Callable[[Thresholds], bool]) -> Thresholds:
    """The thresholds of the largest position found that fit; those of the lowest where none do."""
    low, high = -POSITIONS, POSITIONS
    best = make(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = make(middle)
        if fits(found):
            best, low = found, middle
        else:
            high = middle
    return best


def _best_cut(
    entropies: Floats,
    right: npt.NDArray[np.bool_],
    weights: Floats,
    table: MacTable,
    price: float,
    thresholds: Thresholds,
    number: int,
) -> Thresholds:
    """The thresholds with that of one exit at its best."""
    closed = (*thresholds[:number], 0.0, *thresholds[number + 1 :])
    exits = route(entropies, closed)
    reaches = np.flatnonzero(exits > number)
    if not len(reaches):
        return thresholds
    costs = table.honest(closed)  # of those that stay while this exit is shut
    later = exits[reaches]
    stay = weights[reaches] * (right[later, reaches] - price * costs[later])
    before = costs[number] - table.prefix[number]
    leave = weights[reaches] * (right[number, reaches] - price * (table.prefix[number] + before + table.head[number]))
    toll = weights[reaches] * price * table.head[number]  # a head that was evaluated and rejected
    order = np.argsort(entropies[number, reaches], kind="stable")
    own = entropies[number, reaches][order]
    gains = np.concatenate([[0.0], np.cumsum((leave - (stay - toll))[order])]) - toll.sum()
    is_cut = np.concatenate([[False], own[1:] > own[:-1], [True]])  # equal entropies leave together
    gains[~is_cut] = -np.inf
    cut = int(gains.argmax())
    if gains[cut] <= 0:
        return closed
    threshold = _above(own[-1]) if cut == len(own) else float(own[cut])
    return (*thresholds[:number], threshold, *thresholds[number + 1 :])


def _above(entropy: float) -> float:
    """A threshold that this entropy just passes, in float32 too, in which networks compare."""
    return float(np.nextafter(np.float32(entropy), np.float32(np.inf)))
