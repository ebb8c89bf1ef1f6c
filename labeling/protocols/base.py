"""What every protocol is made of.

Picture: a trial shows one, or two side by side, and where the campaign has them a reference.
Place: 0 and 1 are a trial's first and second picture, 2 its reference, wherever a person sees them.
Shown order: what a person sees from left to right, drawn from the campaign's seed, the person and the trial, so that it
is the same after a reload and can be recomputed by anybody.
Action: what one key does; an answer action carries an answer in shown order.
Ballot: (kind, value) of a judgement that counts. Ruling: what a trial's ballots amount to.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import Any, Literal

from accounts.errors import DomainError
from labeling.psychometrics import majority

Outcome = Literal["settled", "undecided", "dropped", "waiting", "more"]
Ballots = Sequence[tuple[str, Mapping[str, Any]]]
Level = Literal["nominal", "ordinal", "interval"]
Names = Sequence[Mapping[str, Any]]  # the classes of a taxonomy by index; empty without one
Cell = Literal["integer", "number", "text", "truth"]

UNABLE = {"cannot_tell", "broken"}


@dataclass(frozen=True)
class Action:
    """One thing a person may do. ``answer`` is in shown order and of the protocol's own form; None where the action
    gives none."""

    name: str
    label: str
    code: str  # default key, by position: KeyboardEvent.code
    kind: Literal["answer", "cannot_tell", "broken", "skip", "undo", "zoom", "flicker", "reference", "move", "submit"]
    answer: Any = None


COMMON = (
    Action("cannot_tell", "Cannot tell", "KeyC", "cannot_tell"),
    Action("broken", "Broken image", "KeyB", "broken"),
    Action("skip", "Skip", "KeyS", "skip"),
    Action("undo", "Undo", "Backspace", "undo"),
    Action("zoom", "Zoom", "KeyZ", "zoom"),
)


@dataclass(frozen=True)
class Ruling:
    """What to do with a trial, and its verdict once it has ended.

    outcome        "waiting"/"more": ``missing`` judgements are still required; else the verdict's outcome
    value, counts  of the protocol's own form, as ``Verdict`` keeps them
    """

    outcome: Outcome
    missing: int
    value: dict[str, Any]
    counts: dict[str, Any]
    n_judgements: int
    n_cannot_tell: int
    n_broken: int

    @property
    def is_final(self) -> bool:
        return self.outcome in {"settled", "undecided", "dropped"}


class Protocol(ABC):
    """How people are asked, and what their answers amount to. One folder a protocol, found by its name.

    Beside the Python module a folder holds ``page/``, fragments of pages: for annotators ``answer.html`` (fills the
    blocks of ``labeling/annotate.html``: the controls under the stage), ``answer.js`` (a module that turns keys and
    pointers into answers; static/labeling/annotate.js says how) and ``consent.html`` (what to do, in general); for
    researchers ``tile.html`` (what people said, in a gallery), ``verdict.html`` (the same at length, on the trial's
    page) and ``expected.html`` (fields for the right answers). Where a folder lacks one, that of its ``family`` in
    ``pages/`` is taken.

    Attributes:
        family: folder of ``pages/`` with the fragments that several protocols share; empty where there is none.
        task: what a person will do, in a sentence for their invitation.
        purpose: what it is for, where the campaign does not say.
        n_pictures: pictures judged in a trial: 1 or 2.
        needs_taxonomy: asks about classes of a label space.
        level: of measurement, for the agreement between people.
        question: asked under the stage where the campaign has no question of its own.
        has_numbers: the answer is one number, ``{"value": number}``; expected answers are a zone, ``{"low", "high"}``.
        defaults: settings of a campaign that says nothing of them.
        columns: of a list of trials beyond their pictures, as (name, meaning).
        judgement_columns, verdict_columns: of exports, as (name, type), where ``exports`` has the others.
        tables: exports beside judgements and verdicts.
    """

    name: str
    title: str
    family = ""
    task: str
    purpose: str
    n_pictures: Literal[1, 2] = 1
    needs_taxonomy = False
    has_numbers = False
    level: Level = "interval"
    question = ""
    defaults: Mapping[str, Any] = {}
    columns: tuple[tuple[str, str], ...] = ()
    judgement_columns: tuple[tuple[str, Cell], ...]
    verdict_columns: tuple[tuple[str, Cell], ...]
    tables: tuple[str, ...] = ()

    def fragment(self, name: str) -> list[str]:
        """Templates of a page fragment, the first that exists to be taken."""
        own = f"{self.name}/page/{name}.html"
        return [own, f"pages/{self.family}/{name}.html"] if self.family else [own]

    @abstractmethod
    def variants(self) -> dict[str, tuple[Action, ...]]:
        """Every set of actions that the page may need, in the order of the legend, by the key ``variant`` gives."""

    def variant(self, classes: Sequence[int]) -> str:
        """Which of ``variants`` a trial has."""
        del classes
        return "all"

    @abstractmethod
    def shown_order(self, classes: Sequence[int], *, seed: int, person: int, trial: int) -> list[int]:
        """What a person sees from left to right: class indices or places."""

    def present(self, order: Sequence[int], names: Names) -> dict[str, Any]:
        """What the page is told beyond the pictures."""
        del order, names
        return {}

    def scale(self) -> dict[str, Any]:
        """What the page draws: the ends of the scale and its words; empty where there is none."""
        return {}

    def clean_classes(self, classes: Sequence[int], n_classes: int) -> list[int]:
        """Class indices as a trial keeps them; raises DomainError."""
        del n_classes
        if classes:
            raise DomainError(f'The protocol "{self.name}" asks about no classes: leave them out.', field="classes")
        return []

    @abstractmethod
    def clean_answer(self, classes: Sequence[int], value: object) -> dict[str, Any]:
        """An answer's value as it is kept; raises DomainError."""

    def clean_expected(self, classes: Sequence[int], expected: object) -> dict[str, Any]:
        """The answers that are right in a gold or training trial, as it keeps them; raises DomainError."""
        return self.clean_answer(classes, expected)

    def expected_of(self, verdict: Mapping[str, Any]) -> dict[str, Any]:
        """The right answers where a settled verdict is taken for the truth."""
        return dict(verdict)

    def clean_value(self, classes: Sequence[int], kind: str, value: object) -> dict[str, Any]:
        """The value of a judgement as it is kept; empty unless ``kind`` is "answer".

        Raises:
            DomainError: it does not answer what was asked.
        """
        if kind in UNABLE:
            if value not in ({}, None):
                raise DomainError(f'"{kind}" carries no answers: leave value empty.', field="value")
            return {}
        if kind != "answer":
            raise DomainError(f'"{kind}" is no kind of judgement: answer, cannot_tell or broken.', field="kind")
        return self.clean_answer(classes, value)

    def mirrored(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """An answer, or expected answers, when the two pictures of a trial change places."""
        return dict(value)

    def matches(self, value: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
        """Whether an answer is an expected one."""
        return dict(value) == dict(expected)

    def agrees(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Whether a person who is asked twice says the same."""
        return dict(first) == dict(second)

    def agreeing(self, value: Mapping[str, Any], verdict: Mapping[str, Any]) -> tuple[int, int]:
        """Of how many questions an answer says what the settled verdict says, and how many can be compared."""
        del value, verdict
        return 0, 0

    @abstractmethod
    def pressed(self, value: Mapping[str, Any], order: Sequence[int]) -> str:
        """The answer as it was given on the screen, for finding people who always press the same."""

    def chose_left(self, value: Mapping[str, Any], order: Sequence[int]) -> bool | None:
        """Whether the left one was preferred; None where neither was, or nothing is left or right."""
        del value, order
        return None

    def as_shown(self, number: float, order: Sequence[int]) -> float:
        """A number in the order of the trial as it was on the screen, and the other way round."""
        del order
        return number

    def votes(self, value: Mapping[str, Any]) -> dict[str, int]:
        """The answer as votes for (1), against (-1) or neither (0), by question; empty where it is no choice."""
        del value
        return {}

    @abstractmethod
    def numbers(self, value: Mapping[str, Any]) -> dict[str, float]:
        """The answer as numbers, by question: what agreement, screening and opinion scores are computed of."""

    @abstractmethod
    def words(self, value: Mapping[str, Any], names: Names = ()) -> str:
        """An answer, expected answers or a verdict's value in words for researchers; places are called A (first) and
        B (second)."""

    @abstractmethod
    def sides(self, order: Sequence[int], names: Names = ()) -> str:
        """What stood on the left, in words; empty where there is nothing to tell."""

    @abstractmethod
    def described(
        self, classes: Sequence[int], value: Mapping[str, Any], counts: Mapping[str, Any], names: Names
    ) -> dict[str, Any]:
        """What researchers' fragments show of a verdict (its value and counts) or of expected answers."""

    @abstractmethod
    def expected_posted(self, classes: Sequence[int], fields: Mapping[str, str]) -> dict[str, Any]:
        """The right answers as the fields of ``expected.html`` say, to be cleaned; raises DomainError."""

    @abstractmethod
    def listed(self, fields: Mapping[str, str], names: Names) -> tuple[list[int], dict[str, Any] | None]:
        """Classes and expected answers (None: not given) of a line in a list of trials; raises DomainError."""

    @abstractmethod
    def judgement_cells(
        self,
        classes: Sequence[int],
        value: Mapping[str, Any],
        order: Sequence[int],
        expected: Mapping[str, Any] | None,
        names: Names,
    ) -> dict[str, Any]:
        """``judgement_columns`` of a judgement; ``value`` is empty unless it is an answer, ``order`` where unknown."""

    @abstractmethod
    def verdict_cells(
        self, classes: Sequence[int], value: Mapping[str, Any], counts: Mapping[str, Any], names: Names
    ) -> dict[str, Any]:
        """``verdict_columns`` of one verdict."""

    @abstractmethod
    def decide(self, classes: Sequence[int], ballots: Ballots, *, overlap: int, cap: int) -> Ruling:
        """What a trial's ballots amount to, or what is missing; a broken image counts as one that people cannot label.

        Args:
            ballots: (kind, value) of every judgement that counts.
            overlap: judgements wanted.
            cap: most judgements, those opened by ties included.
        """


def is_mirrored(*, seed: int, person: int, trial: int) -> bool:
    """Whether left and right are exchanged for this person; each order has the same chance."""
    digest = blake2b(f"{seed}:{person}:{trial}:sides".encode(), digest_size=1).digest()
    return bool(digest[0] & 1)


def is_vetoed(ballots: Ballots, overlap: int) -> bool:
    """Whether so many could not tell, or saw no picture, that the trial is dropped."""
    n_unable = sum(kind in UNABLE for kind, _ in ballots)
    return n_unable >= ceil(majority.VETO * max(overlap, len(ballots)))
