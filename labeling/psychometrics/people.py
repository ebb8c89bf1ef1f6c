"""One line per person with everything that speaks for or against their judgements.

The figures come from `screening` (rules, each with its reason in words) and from the likelihood of `mos` (bias and
inconsistency). Nothing is decided here: excluding is the researcher's act.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labeling.psychometrics.intervals import FloatArray
from labeling.psychometrics.mos import maximum_likelihood_scores
from labeling.psychometrics.screening import (
    FEWEST_NORMAL,
    FEWEST_OTHERWISE,
    Screening,
    bt500,
    gold,
    repeat_consistency,
    side_bias,
    speed,
    straight_lining,
)

CANNOT_REJECT = (
    f"bt500 cannot reject: fewer than two of the items judged have enough judgements to stand out in ({FEWEST_NORMAL}, "
    f"or {FEWEST_OTHERWISE} where they are not near normal)"
)


@dataclass(frozen=True)
class PersonMeasures:
    """What the judgements say about one person; None where there is nothing to measure.

    judged                    judgements, repeats left out
    above, below              BT.500: how often far above, far below the others
    rejected, rejectable      BT.500: whether it rejects the person, and whether it could
    bias, inconsistency       P.910: how far above the others; standard deviation of what is left
    repeat_error, repeats     mean absolute difference of repeats to the first judgement, and how many
    gold_share, gold_low, gold_high, gold_judged  right on gold trials, with the 95 % Wilson interval
    median_seconds, fast_share  answer times
    run, run_chance, entropy  straight-lining: longest run of one answer, its chance, bits of the answers
    left_share, left_chance, sided  share of "left" among `sided` answers that chose a side, exact binomial p
    reasons                   what rules say against the person, in words
    warnings                  below a bar, but not against the person
    """

    person: Any
    judged: int
    above: int
    below: int
    rejected: bool
    rejectable: bool
    bias: float
    inconsistency: float | None
    repeat_error: float | None
    repeats: int
    gold_share: float | None
    gold_low: float | None
    gold_high: float | None
    gold_judged: int
    median_seconds: float | None
    fast_share: float | None
    run: int | None
    run_chance: float
    entropy: float
    left_share: float | None
    left_chance: float | None
    sided: int
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everybody in the order of the sorted labels, and in words what the rules could not tell."""

    people: tuple[PersonMeasures, ...]
    notes: tuple[str, ...]


def report(
    person: ArrayLike,
    item: ArrayLike,
    value: ArrayLike,
    *,
    repeat_of: ArrayLike | None = None,
    right: ArrayLike | None = None,
    seconds: ArrayLike | None = None,
    order: ArrayLike | None = None,
    pressed: ArrayLike | None = None,
    chose_left: ArrayLike | None = None,
    gold_bars: tuple[float, float] = (0.8, 0.6),
    gold_fewest: int = 5,
    floor: float = 0.5,
) -> Report:
    """Every measure of every person, from judgements in long form, one row each; optional columns are (n,).

    repeat_of   row of the first judgement that a row repeats, -1 otherwise; repeats count for consistency, gold,
                speed, runs and sides, not for quality
    right       gold trials: 1 right, 0 wrong; NaN elsewhere. gold_bars: warn below the first, flag below the second
    seconds     from presentation to answer, NaN where unknown; floor: below it an answer is too fast
    order       sorts a person's judgements in time; without it only one answer all along counts as straight-lining
    pressed     what was answered as it was shown, for runs; the value by default
    chose_left  1 left, 0 right; NaN where neither was chosen or sides were not drawn at random
    Raises PsychometricsError for columns that cannot be used.
    """
    who, values = np.asarray(person), np.asarray(value, dtype=np.float64)
    again = np.full(who.shape, -1) if repeat_of is None else np.asarray(repeat_of, dtype=np.int64)
    first = again < 0
    far = bt500(who[first], np.asarray(item)[first], values[first])
    _, people = maximum_likelihood_scores(who[first], np.asarray(item)[first], values[first])
    rules = {
        "bt500": far,
        "repeats": repeat_consistency(who, values, again) if (again >= 0).any() else None,
        "gold": _known(
            who, right, lambda rows, x: gold(rows, x, bar=gold_bars[0], lower_bar=gold_bars[1], fewest=gold_fewest)
        ),
        "speed": _known(who, seconds, lambda rows, x: speed(rows, x, floor=floor)),
        "runs": straight_lining(who, order, values if pressed is None else pressed),
        "sides": _known(who, chose_left, side_bias),
    }
    figures = {name: _by_person(rule) for name, rule in rules.items()}
    persons = far.persons.tolist()
    lines = tuple(
        _measures(label, {name: of.get(label, {}) for name, of in figures.items()}, bias, inconsistency)
        for label, bias, inconsistency in zip(persons, people.bias.tolist(), people.inconsistency.tolist(), strict=True)
    )
    present = [rule for rule in rules.values() if rule is not None]
    return Report(lines, tuple(f"{rule.rule}: {rule.note}" for rule in present if rule.note))


def _known(
    who: NDArray, column: ArrayLike | None, rule: Callable[[NDArray, FloatArray], Screening]
) -> Screening | None:
    """The rule over the rows where the column is known; None where it never is."""
    if column is None:
        return None
    values = np.asarray(column, dtype=np.float64)
    known = ~np.isnan(values)
    return rule(who[known], values[known]) if known.any() else None


def _by_person(rule: Screening | None) -> dict[Any, dict[str, Any]]:
    """Label -> figures of a rule, with the reason under "reason" or "warning"."""
    if rule is None:
        return {}
    found: dict[Any, dict[str, Any]] = {}
    for p, label in enumerate(rule.persons.tolist()):
        figures: dict[str, Any] = {name: _number(column[p]) for name, column in rule.figures.items()}
        figures["flagged"], figures["able"] = bool(rule.flagged[p]), bool(rule.able[p])
        if rule.reasons[p]:
            figures["reason" if rule.flagged[p] else "warning"] = f"{rule.rule}: {rule.reasons[p]}"
        found[label] = figures
    return found


def _measures(label: Any, of: dict[str, dict[str, Any]], bias: float, inconsistency: float) -> PersonMeasures:
    said = of.values()
    return PersonMeasures(
        person=label,
        judged=int(of["bt500"]["judged"]),
        above=int(of["bt500"]["above"]),
        below=int(of["bt500"]["below"]),
        rejected=of["bt500"]["flagged"],
        rejectable=of["bt500"]["able"],
        bias=bias,
        inconsistency=_number(inconsistency),
        repeat_error=of["repeats"].get("difference"),
        repeats=int(of["repeats"].get("repeats") or 0),
        gold_share=of["gold"].get("share"),
        gold_low=of["gold"].get("low"),
        gold_high=of["gold"].get("high"),
        gold_judged=int(of["gold"].get("judged") or 0),
        median_seconds=of["speed"].get("median"),
        fast_share=of["speed"].get("fast"),
        run=None if of["runs"]["run"] is None else int(of["runs"]["run"]),
        run_chance=of["runs"]["chance"],
        entropy=of["runs"]["entropy"],
        left_share=of["sides"].get("left"),
        left_chance=of["sides"].get("p"),
        sided=int(of["sides"].get("judged") or 0),
        reasons=tuple(_texts(said, "reason")),
        warnings=tuple(_texts(said, "warning")),
    )


def _texts(said: Iterable[dict[str, Any]], kind: str) -> list[str]:
    return [figures[kind] for figures in said if kind in figures]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
