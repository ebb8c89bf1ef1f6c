"""Majority with veto: what an exhibit's judgements amount to, or what is still missing.

Terms
    overlap   judgements wanted of an exhibit
    cap       most judgements an exhibit may cost, ties included
    veto      share of "cannot tell" from which the exhibit is dropped: 3 of 5
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from labeling.psychometrics.intervals import PsychometricsError

Outcome = Literal["settled", "waiting", "more", "dropped"]

VETO = Fraction(3, 5)
# Judgements beyond the overlap that ties may open: two odd-even rounds settle nearly every tie of honest people.
EXTRA_SLOTS = 2


@dataclass(frozen=True)
class Decision:
    """What to do with an exhibit now.

    outcome  "settled": `answers` holds the majority of each question; "waiting": judgements already asked for are
             missing; "more": open one more slot; "dropped": take the next reserve exhibit
    answers  majority per question, None unless settled
    missing  judgements to wait for ("waiting") or to open ("more"), else 0
    reason   in words
    """

    outcome: Outcome
    answers: tuple[bool, ...] | None
    missing: int
    reason: str


def decide(
    yes: Sequence[int], no: Sequence[int], cannot_tell: int, *, overlap: int = 5, cap: int | None = None
) -> Decision:
    """Settles, extends or drops an exhibit.

    yes, no: answers per question, one entry a question, each summing to the judgements that answer; cannot_tell:
    judgements that answer none. overlap >= 1; cap >= overlap, by default overlap + 2.
    "Cannot tell" by 3 of 5 (3/5 of the overlap, rounded up; of all judgements once there are more) drops at once,
    whatever is still missing. An exact tie on any question asks for one more judgement until the cap, where the
    exhibit is dropped: people do not agree on it.
    Raises PsychometricsError on counts that contradict each other.
    """
    limit = overlap + EXTRA_SLOTS if cap is None else cap
    _check(yes, no, cannot_tell, overlap, limit)
    answered = yes[0] + no[0]
    judged = answered + cannot_tell
    hard = ceil(VETO * max(overlap, judged))
    if cannot_tell >= hard:
        return Decision("dropped", None, 0, f"{cannot_tell} of {judged} could not tell ({hard} are enough)")
    if judged < overlap:
        return Decision("waiting", None, overlap - judged, f"{judged} of {overlap} judgements")
    ties = [question for question, (a, b) in enumerate(zip(yes, no, strict=True), start=1) if a == b]
    if not ties:
        return Decision("settled", tuple(a > b for a, b in zip(yes, no, strict=True)), 0, f"majority of {answered}")
    where = "question " + " and ".join(map(str, ties))
    if judged < limit:
        return Decision("more", None, 1, f"tie on {where} after {judged} judgements")
    return Decision("dropped", None, 0, f"still a tie on {where} after {judged} judgements, the most allowed")


def _check(yes: Sequence[int], no: Sequence[int], cannot_tell: int, overlap: int, cap: int) -> None:
    if overlap < 1 or cap < overlap:
        raise PsychometricsError(f"need overlap >= 1 and cap >= overlap, got overlap {overlap} and cap {cap}")
    if not yes or len(yes) != len(no):
        raise PsychometricsError(f"yes and no must have one entry per question, got {len(yes)} and {len(no)}")
    if min(*yes, *no, cannot_tell) < 0:
        raise PsychometricsError(f"counts must be 0 or more, got yes {yes}, no {no}, cannot tell {cannot_tell}")
    if len({a + b for a, b in zip(yes, no, strict=True)}) > 1:
        raise PsychometricsError(f"every question needs the same number of answers, got yes {yes} and no {no}")
