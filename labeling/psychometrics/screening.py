"""Who can be trusted: figures per person, and flags with their reason in words.

Every rule returns a `Screening`: figures for everybody, a flag for those it would exclude, why, and a note whenever
the rule could not have flagged anybody (or some) with the data at hand; "nobody flagged" never stands for "too few
judgements to tell". Excluding is the researcher's act: nothing here removes a judgement.

Judgements come in long form, one per row: person, item, value, and what the rule needs besides.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from labeling.psychometrics.intervals import FloatArray, PsychometricsError, wilson

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# BT.500-14 annex 1 section 2.3.1: what counts as normal, how far is far, how often is too often, how even is even.
NORMAL_KURTOSIS = (2.0, 4.0)
FAR_NORMAL = 2.0
FAR_OTHERWISE = 20**0.5
TOO_OFTEN = 0.05
BOTH_SIDES = 0.3
# The largest |z| among n judgements is sqrt(n - 1): fewer than these cannot reach the thresholds above.
FEWEST_NORMAL = 5
FEWEST_OTHERWISE = 21
# The largest z-score among p persons is (p - 1) / sqrt(p) in sample standard deviations: 6 persons first exceed 2.
FEWEST_PERSONS = 6
ROUNDING = 1e-9


@dataclass(frozen=True)
class Screening:
    """What one rule says.

    rule      name of the rule
    persons   (p,) sorted labels
    figures   figures of each person by name, each (p,)
    flagged   (p,) whether the rule would exclude the person
    able      (p,) whether the rule could have flagged this person at all
    reasons   (p,) why, in words; empty for those not flagged
    warned    (p,) below the bar but not excluded; all False for rules without a bar
    note      what the rule could not tell, in words; empty when it could judge everybody
    """

    rule: str
    persons: NDArray
    figures: dict[str, FloatArray]
    flagged: BoolArray
    able: BoolArray
    reasons: tuple[str, ...]
    warned: BoolArray
    note: str = field(default="")


def bt500(person: ArrayLike, item: ArrayLike, value: ArrayLike) -> Screening:
    """Rejects people who are often far from the others, on both sides (ITU-R BT.500-14, annex 1, section 2.3.1).

    An item's threshold is 2 standard deviations (of its own judgements, divisor n) if their kurtosis lies in [2, 4],
    else sqrt(20). P, Q = times above, below. Rejected: (P + Q) / n > 0.05 and |P - Q| / (P + Q) < 0.3, n = items that
    this person judged.
    Figures: above, below, share = (P + Q) / n, evenness = |P - Q| / (P + Q), judged.
    """
    names, people = _labels(person)
    _, items = _labels(item)
    values = _column(value, people.shape, "value")
    count = np.bincount(items)
    mean = np.bincount(items, values) / count
    deviation = values - mean[items]
    variance = np.bincount(items, deviation**2) / count
    varied = variance > (ROUNDING * np.abs(values).max()) ** 2
    kurtosis = np.bincount(items, deviation**4) / count / np.where(varied, variance, 1.0) ** 2
    normal = (kurtosis >= NORMAL_KURTOSIS[0]) & (kurtosis <= NORMAL_KURTOSIS[1])
    threshold = np.where(normal, FAR_NORMAL, FAR_OTHERWISE) - ROUNDING
    z = np.where(varied[items], deviation / np.sqrt(np.where(varied, variance, 1.0))[items], 0.0)
    above = np.bincount(people, z >= threshold[items]).astype(np.float64)
    below = np.bincount(people, z <= -threshold[items]).astype(np.float64)
    judged = np.bincount(people).astype(np.float64)
    far = above + below
    share = far / judged
    evenness = np.divide(np.abs(above - below), far, out=np.ones_like(far), where=far > 0)
    flagged = (share > TOO_OFTEN) & (evenness < BOTH_SIDES)
    sharp = count >= np.where(normal, FEWEST_NORMAL, FEWEST_OTHERWISE)
    able = np.bincount(people, sharp[items]) >= 2  # one far judgement is never on both sides
    reasons = [
        f"far from the others on {int(far[p])} of {int(judged[p])} items ({100 * share[p]:.0f} %), "
        f"{int(above[p])} times above and {int(below[p])} times below"
        for p in range(names.size)
    ]
    figures = {"above": above, "below": below, "share": share, "evenness": evenness, "judged": judged}
    return _screening("bt500", names, figures, flagged, able, reasons, _bt500_note(count, sharp, able))


def repeat_consistency(person: ArrayLike, value: ArrayLike, repeat_of: ArrayLike) -> Screening:
    """Flags people whose repeated judgements differ more than the group's: above mean + 2 standard deviations.

    repeat_of: (n,) row of the judgement that this row repeats, -1 for first judgements.
    Figures: difference = mean absolute difference between repeat and first (NaN without repeats), repeats.
    """
    names, people = _labels(person)
    values = _column(value, people.shape, "value")
    original = np.asarray(repeat_of, dtype=np.int64)
    again = np.flatnonzero(original >= 0)
    if original.shape != people.shape or (original >= people.size).any():
        raise PsychometricsError(f"repeat_of must hold row numbers below {people.size} or -1 for each of the rows")
    if (people[again] != people[original[again]]).any():
        row = int(again[people[again] != people[original[again]]][0])
        raise PsychometricsError(f"row {row} repeats a judgement of another person: check repeat_of")
    repeats = np.bincount(people[again], minlength=names.size).astype(np.float64)
    differences = np.bincount(people[again], np.abs(values[again] - values[original[again]]), names.size)
    difference = np.divide(differences, repeats, out=np.full(names.size, np.nan), where=repeats > 0)
    known = repeats > 0
    group = difference[known]
    limit = group.mean() + 2 * group.std(ddof=1) if group.size > 1 else np.inf
    able = known & (group.size >= FEWEST_PERSONS)
    flagged = able & (np.nan_to_num(difference) > limit + ROUNDING)
    reasons = [
        f"repeats differ by {difference[p]:.2f} on average over {int(repeats[p])} repeats; the group's limit is "
        f"{limit:.2f}"
        for p in range(names.size)
    ]
    note = ""
    if group.size < FEWEST_PERSONS:
        note = (
            f"{group.size} persons judged repeats: with fewer than {FEWEST_PERSONS} nobody can lie 2 standard "
            "deviations above the mean, so this rule can flag nobody"
        )
    elif not known.all():
        note = f"{(~known).sum()} of {names.size} persons judged no repeat and cannot be flagged"
    figures = {"difference": difference, "repeats": repeats}
    return _screening("repeat consistency", names, figures, flagged, able, reasons, note)


def gold(
    person: ArrayLike, correct: ArrayLike, *, bar: float = 0.8, lower_bar: float = 0.6, fewest: int = 5
) -> Screening:
    """Share right on gold trials: warns below `bar`, flags (stop serving) below `lower_bar`.

    One row per judged gold trial. Nobody is flagged or warned on fewer than `fewest` trials.
    Figures: share, low, high (95 % Wilson interval), judged.
    """
    if not 0 <= lower_bar <= bar <= 1:
        raise PsychometricsError(f"need 0 <= lower bar <= bar <= 1, got lower bar {lower_bar} and bar {bar}")
    names, people = _labels(person)
    right = np.bincount(people, _column(correct, people.shape, "correct"))
    judged = np.bincount(people).astype(np.float64)
    share = right / judged
    low, high = wilson(right, judged)
    able = judged >= fewest
    flagged = able & (share < lower_bar)
    warned = able & (share < bar) & ~flagged
    reasons = [
        f"right on {int(right[p])} of {int(judged[p])} gold trials ({100 * share[p]:.0f} %, 95 % interval "
        f"{100 * low[p]:.0f}-{100 * high[p]:.0f} %); the bar is {100 * (lower_bar if flagged[p] else bar):.0f} %"
        for p in range(names.size)
    ]
    note = _unable_note(able, f"judged fewer than {fewest} gold trials")
    figures = {"share": share, "low": low, "high": high, "judged": judged}
    return _screening("gold", names, figures, flagged, able, reasons, note, warned)


def speed(
    person: ArrayLike, seconds: ArrayLike, *, floor: float = 0.5, too_many: float = 0.1, fewest: int = 10
) -> Screening:
    """Flags people who answer faster than `floor` seconds in more than the share `too_many` of their judgements.

    seconds: (n,) from presentation to answer. Figures: median (s), fast (share below the floor), judged.
    """
    names, people = _labels(person)
    times = _column(seconds, people.shape, "seconds")
    if (times < 0).any():
        row = int(np.flatnonzero(times < 0)[0])
        raise PsychometricsError(f"judgement {row} was answered {-times[row]} s before it was shown: check the clocks")
    judged = np.bincount(people).astype(np.float64)
    fast = np.bincount(people, times < floor) / judged
    median = _medians(people, times)
    able = judged >= fewest
    flagged = able & (fast > too_many)
    reasons = [
        f"{100 * fast[p]:.0f} % of {int(judged[p])} answers came in under {floor:g} s (median {median[p]:.2f} s)"
        for p in range(names.size)
    ]
    figures = {"median": median, "fast": fast, "judged": judged}
    note = _unable_note(able, f"gave fewer than {fewest} answers")
    return _screening("speed", names, figures, flagged, able, reasons, note)


def straight_lining(person: ArrayLike, order: ArrayLike | None, value: ArrayLike, *, alpha: float = 0.001) -> Screening:
    """Flags runs of one answer that independent answers would hardly give.

    order: (n,) anything that sorts a person's judgements in time; None where the order is not known, and then only one
    answer all along counts as a run. A run of length L of an answer that the whole group
    gives with share q has a chance of at most (n - L + 1) q^L in n judgements, times the number of different answers;
    below `alpha` (divided by the number of persons) the person is flagged. Judging by the group's shares keeps
    campaigns with one frequent answer fair.
    Figures: run (longest; NaN where only the order could tell), chance (of such a run, of the least likely answer),
    entropy (bits of the own answers), judged.
    """
    names, people = _labels(person)
    _, codes = _labels(value)
    when = np.zeros(codes.size) if order is None else np.asarray(order)
    if not when.shape == codes.shape == people.shape:
        raise PsychometricsError(
            f"columns differ in shape: person {people.shape}, order {when.shape}, value {codes.shape}"
        )
    share = np.bincount(codes) / codes.size
    judged = np.bincount(people)
    entropy = _entropies(people, codes, share.size)
    longest, chances = _runs(people, codes, when, share)
    if order is None:
        longest[entropy > 0], chances[entropy > 0] = np.nan, 1.0
    limit = alpha / names.size
    able = share.size * share.min() ** judged < limit
    flagged = chances < limit
    reasons = [
        f"gave one answer {longest[p]:.0f} times running in {int(judged[p])} judgements; independent answers would do "
        f"so with chance {chances[p]:.1g}"
        for p in range(names.size)
    ]
    note = _unable_note(able, "gave too few answers for any run to be unlikely")
    figures = {
        "run": longest,
        "chance": chances,
        "entropy": entropy,
        "judged": judged.astype(np.float64),
    }
    return _screening("straight-lining", names, figures, flagged, able, reasons, note)


def side_bias(person: ArrayLike, chose_left: ArrayLike, *, alpha: float = 0.01) -> Screening:
    """Flags people who favour a side of pairs whose sides were drawn at random (exact two-sided binomial test).

    chose_left: (n,) whether the left one was chosen; leave ties out. The level alpha is shared among the persons
    (Bonferroni). Figures: left (share), p, judged.
    """
    names, people = _labels(person)
    lefts = np.bincount(people, _column(chose_left, people.shape, "chose_left"))
    judged = np.bincount(people).astype(np.float64)
    chance = np.minimum(1.0, 2 * bdtr(np.minimum(lefts, judged - lefts), judged.astype(np.int64), 0.5))
    limit = alpha / names.size
    able = 2 * 0.5**judged < limit
    flagged = chance < limit
    reasons = [
        f"chose the {'left' if 2 * lefts[p] > judged[p] else 'right'} side in "
        f"{int(max(lefts[p], judged[p] - lefts[p]))} of {int(judged[p])} pairs (p = {chance[p]:.1g})"
        for p in range(names.size)
    ]
    figures = {"left": lefts / judged, "p": chance, "judged": judged}
    note = _unable_note(able, "judged too few pairs for any preference of a side to be unlikely")
    return _screening("side bias", names, figures, flagged, able, reasons, note)


def _screening(
    rule: str,
    names: NDArray,
    figures: dict[str, FloatArray],
    flagged: BoolArray,
    able: BoolArray,
    reasons: list[str],
    note: str,
    warned: BoolArray | None = None,
) -> Screening:
    warnings = np.zeros(names.size, dtype=np.bool_) if warned is None else warned
    said = tuple(reason if flagged[p] or warnings[p] else "" for p, reason in enumerate(reasons))
    return Screening(rule, names, figures, flagged, able, said, warnings, note)


def _bt500_note(count: IntArray, sharp: BoolArray, able: BoolArray) -> str:
    if count.max() < FEWEST_NORMAL:
        return (
            f"no item has {FEWEST_NORMAL} judgements (the most is {count.max()}): no judgement can lie 2 standard "
            "deviations from the mean, so this rule can reject nobody"
        )
    if not able.any():
        return (
            f"no person judged two items on which anybody could stand out (that takes {FEWEST_NORMAL} judgements, or "
            f"{FEWEST_OTHERWISE} where they are not near normal): this rule can reject nobody"
        )
    parts = []
    if not sharp.all():
        parts.append(f"on {(~sharp).sum()} of {sharp.size} items nobody can stand out: too few judgements")
    if not able.all():
        parts.append(f"{(~able).sum()} of {able.size} persons cannot be rejected")
    return "; ".join(parts)


def _unable_note(able: BoolArray, why: str) -> str:
    if able.all():
        return ""
    if not able.any():
        return f"everybody {why}: this rule can flag nobody"
    return f"{(~able).sum()} of {able.size} persons {why} and cannot be flagged"


def _medians(people: IntArray, values: FloatArray) -> FloatArray:
    """(p,) median of each person's values."""
    ordered = values[np.lexsort((values, people))]
    count = np.bincount(people)
    start = np.cumsum(count) - count
    return (ordered[start + (count - 1) // 2] + ordered[start + count // 2]) / 2


def _runs(people: IntArray, codes: IntArray, when: NDArray, share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(p,) longest run of one answer, and (p,) a bound on the chance of the least likely run, any answer counted."""
    order = np.lexsort((np.arange(people.size), np.unique(when, return_inverse=True)[1], people))
    who, what = people[order], codes[order]
    first = np.flatnonzero(np.concatenate([[True], (who[1:] != who[:-1]) | (what[1:] != what[:-1])]))
    length = np.diff(np.append(first, who.size))
    owner, answer = who[first], what[first]
    judged = np.bincount(people)
    chance = np.minimum(1.0, share.size * (judged[owner] - length + 1) * share[answer] ** length)
    longest, least = np.zeros(judged.size), np.ones(judged.size)
    np.maximum.at(longest, owner, length)
    np.minimum.at(least, owner, chance)
    return longest, least


def _entropies(people: IntArray, codes: IntArray, n_codes: int) -> FloatArray:
    """(p,) entropy in bits of each person's answers."""
    cells, count = np.unique(people * n_codes + codes, return_counts=True)
    owner = cells // n_codes
    share = count / np.bincount(people)[owner]
    return np.bincount(owner, -share * np.log2(share)).astype(np.float64)


def _labels(column: ArrayLike) -> tuple[NDArray, IntArray]:
    array = np.asarray(column)
    if array.ndim != 1 or not array.size:
        raise PsychometricsError("there are no judgements to screen")
    names, codes = np.unique(array, return_inverse=True)
    return names, codes


def _column(values: ArrayLike, shape: tuple[int, ...], name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise PsychometricsError(f"columns differ in shape: {name} {array.shape}, person {shape}")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise PsychometricsError(f"{name} of row {row} is {array[row]}: leave missing judgements out")
    return array
