"""Verify labels: one picture, one or two classes, a yes/no question about each.

Shown order: the trial's classes as this person sees them (left to right), drawn from the campaign's seed, the person
and the trial, so that it is the same after a reload and can be recomputed by anybody.
Action: what one key does; an answer action carries the yes/no of each class in shown order.

The task, five judgements per picture, majority per question, and the veto of those who cannot tell are those of the MAD
competition (arXiv 2002.10648, section 2.2 and appendix).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import Any, Literal

from accounts.errors import DomainError
from labeling.psychometrics import majority

Outcome = Literal["settled", "undecided", "dropped", "waiting", "more"]


@dataclass(frozen=True)
class Action:
    """One thing a person may do. ``answer`` is yes/no per class in shown order; None where the action gives none."""

    name: str
    label: str
    code: str  # default key, by position: KeyboardEvent.code
    kind: Literal["answer", "cannot_tell", "broken", "skip", "undo", "zoom"]
    answer: tuple[bool, ...] | None = None


_COMMON = (
    Action("cannot_tell", "Cannot tell", "KeyC", "cannot_tell"),
    Action("broken", "Broken image", "KeyB", "broken"),
    Action("skip", "Skip", "KeyS", "skip"),
    Action("undo", "Undo", "Backspace", "undo"),
    Action("zoom", "Zoom", "KeyZ", "zoom"),
)
_ONE = (
    Action("yes", "Yes", "ArrowUp", "answer", (True,)),
    Action("no", "No", "ArrowDown", "answer", (False,)),
)
_TWO = (
    Action("left", "Only left", "ArrowLeft", "answer", (True, False)),
    Action("right", "Only right", "ArrowRight", "answer", (False, True)),
    Action("both", "Both", "ArrowUp", "answer", (True, True)),
    Action("neither", "Neither", "ArrowDown", "answer", (False, False)),
)


def actions(n_classes: int) -> tuple[Action, ...]:
    """Everything a person may do about a trial of one or two classes, in the order of the legend."""
    return (_ONE if n_classes == 1 else _TWO) + _COMMON


def action_names() -> list[str]:
    """Every action that a key can be bound to."""
    return [action.name for action in _ONE + _TWO + _COMMON]


def shown_order(classes: Sequence[int], *, seed: int, person: int, trial: int) -> list[int]:
    """The classes left to right as this person sees them; each order has the same chance."""
    digest = blake2b(f"{seed}:{person}:{trial}:sides".encode(), digest_size=1).digest()
    return list(reversed(classes)) if digest[0] & 1 else list(classes)


def present(order: Sequence[int], names: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The class cards in shown order; ``names`` are the classes of the taxonomy by index."""
    return [
        {
            "index": index,
            "name": names[index]["name"],
            "synonyms": [word for word in names[index].get("synonyms", []) if word != names[index]["name"]],
            "gloss": names[index].get("gloss", ""),
        }
        for index in order
    ]


def clean_value(classes: Sequence[int], kind: str, value: object) -> dict[str, bool]:
    """The answer as it is kept, ``{class index: true|false}``; empty unless ``kind`` is "answer".

    Raises:
        DomainError: when it does not answer exactly the questions asked.
    """
    if kind in {"cannot_tell", "broken"}:
        if value not in ({}, None):
            raise DomainError(f'"{kind}" carries no answers: leave value empty.', field="value")
        return {}
    if kind != "answer":
        raise DomainError(f'"{kind}" is no kind of judgement: answer, cannot_tell or broken.', field="kind")
    wanted = {str(index) for index in classes}
    if not isinstance(value, dict) or set(value) != wanted or not all(type(v) is bool for v in value.values()):
        asked = ", ".join(sorted(wanted, key=int))
        raise DomainError(f"The value must say true or false for each class asked about ({asked}).", field="value")
    return {key: value[key] for key in sorted(wanted, key=int)}


def clean_classes(classes: Sequence[int], n_classes: int) -> list[int]:
    """One or two different class indices, ascending, as a trial keeps them.

    Raises:
        DomainError: for another number of classes, a repeated one, or one the taxonomy lacks.
    """
    kept = sorted(int(index) for index in classes)
    if len(kept) not in {1, 2} or len(set(kept)) != len(kept):
        raise DomainError(f"A trial asks about one or two different classes, not {list(classes)}.", field="classes")
    outside = [index for index in kept if not 0 <= index < n_classes]
    if outside:
        raise DomainError(
            f"Class {outside[0]} is not in the taxonomy: it has classes 0 to {n_classes - 1}.", field="classes"
        )
    return kept


def matches(value: Mapping[str, bool], expected: Mapping[str, bool]) -> bool:
    """Whether an answer is the expected one, on every question."""
    return dict(value) == dict(expected)


@dataclass(frozen=True)
class Ruling:
    """What to do with a trial, and its verdict once it has ended.

    outcome  "waiting"/"more": ``missing`` judgements are still required; else the verdict's outcome
    value    {class index: true|false|null}; null where tied
    counts   {class index: [yes, no]}
    """

    outcome: Outcome
    missing: int
    value: dict[str, bool | None]
    counts: dict[str, list[int]]
    n_judgements: int
    n_cannot_tell: int
    n_broken: int

    @property
    def is_final(self) -> bool:
        return self.outcome in {"settled", "undecided", "dropped"}


def decide(
    classes: Sequence[int], ballots: Sequence[tuple[str, Mapping[str, bool]]], *, overlap: int, cap: int
) -> Ruling:
    """Majority per question with veto; a broken image counts as one that people cannot label.

    Args:
        ballots: (kind, value) of every judgement that counts.
        overlap: judgements wanted.
        cap: most judgements, those opened by ties included.
    """
    answers = [value for kind, value in ballots if kind == "answer"]
    keys = [str(index) for index in classes]
    yes = [sum(value[key] for value in answers) for key in keys]
    no = [len(answers) - count for count in yes]
    n_broken = sum(kind == "broken" for kind, _ in ballots)
    n_unable = len(ballots) - len(answers)
    decision = majority.decide(yes, no, n_unable, overlap=overlap, cap=cap)
    vetoed = n_unable >= ceil(majority.VETO * max(overlap, len(ballots)))
    outcome: Outcome = "undecided" if decision.outcome == "dropped" and not vetoed else decision.outcome
    value: dict[str, bool | None] = {key: None if a == b else a > b for key, a, b in zip(keys, yes, no, strict=True)}
    return Ruling(
        outcome=outcome,
        missing=decision.missing,
        value=value if outcome in {"settled", "undecided"} else {},
        counts={key: [a, b] for key, a, b in zip(keys, yes, no, strict=True)},
        n_judgements=len(ballots),
        n_cannot_tell=n_unable - n_broken,
        n_broken=n_broken,
    )
