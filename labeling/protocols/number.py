"""Protocols whose answer is one number, ``{"value": number}``: ratings of one picture, comparisons of two.

A comparison's number is in the order of the trial: above zero the first picture is the better one, on whatever side it
was shown. As shown, a negative number means that the left one is better, a positive one the right one.

A verdict's value: ``{"mean", "std", "n", "low", "high"}``, the 95 % interval of the mean from the trial's own answers
(t distribution; null with fewer than two).
"""

import json
from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from statistics import fmean, stdev
from typing import Any, cast

from scipy.special import stdtrit

from accounts.errors import DomainError
from labeling.protocols.base import (
    COMMON,
    UNABLE,
    Action,
    Ballots,
    Cell,
    Names,
    Protocol,
    Ruling,
    is_mirrored,
    is_vetoed,
)

FLICKER = Action("flicker", "Flicker (hold)", "KeyX", "flicker")
REFERENCE = Action("reference", "Reference (hold)", "KeyR", "reference")


class NumberProtocol(Protocol):
    """``low`` … ``high`` in steps of ``step`` (0: any number between). ``labels``: (number, word) along the scale."""

    family = "rating"
    task = "You will look at pictures one by one and say how good each looks."
    purpose = (
        "Your answers show how good these pictures look to people. Models that predict it are checked against them."
    )
    has_numbers = True
    low: float
    high: float
    step: float = 0
    labels: tuple[tuple[float, str], ...] = ()
    answers: tuple[Action, ...] = ()
    tolerance: float = 0  # answers this close count as the same
    defaults = {"overlap": 15, "repeat_share": 0.1}
    judgement_columns: tuple[tuple[str, Cell], ...] = (
        ("value", "number"), ("expected_low", "number"), ("expected_high", "number"), ("right", "truth"),
    )  # fmt: skip
    verdict_columns: tuple[tuple[str, Cell], ...] = (
        ("mean", "number"), ("std", "number"), ("n", "integer"), ("low", "number"), ("high", "number"),
        ("counts", "text"),
    )  # fmt: skip
    tables: tuple[str, ...] = ("mos", "opinions")
    columns = (("expected_low", "low end of the right answers"), ("expected_high", "high end of the right answers"))

    def variants(self) -> dict[str, tuple[Action, ...]]:
        return {"all": (*self.answers, *COMMON, REFERENCE)}

    def shown_order(self, classes: Sequence[int], *, seed: int, person: int, trial: int) -> list[int]:
        del classes, seed, person, trial
        return [0]

    def present(self, order: Sequence[int], names: Names) -> dict[str, Any]:
        del names
        return {"order": list(order)}

    def scale(self) -> dict[str, Any]:
        """In shown order: of a comparison, negative numbers stand on the left."""
        return {"low": self.low, "high": self.high, "step": self.step, "labels": self.labels, "zone": 0}

    def clean_answer(self, classes: Sequence[int], value: object) -> dict[str, Any]:
        del classes
        if not isinstance(value, Mapping) or set(value) != {"value"}:
            raise DomainError(
                f'The answer must be {{"value": number from {self.low:g} to {self.high:g}}}.', field="value"
            )
        return {"value": self._number(value["value"])}

    def clean_expected(self, classes: Sequence[int], expected: object) -> dict[str, Any]:
        """The zone of right answers, ``{"low", "high"}``."""
        del classes
        if not isinstance(expected, Mapping) or set(expected) != {"low", "high"}:
            raise DomainError('The expected answers must be a zone {"low": number, "high": number}.', field="expected")
        zone = {name: self._within(expected[name]) for name in ("low", "high")}
        if zone["low"] > zone["high"]:
            raise DomainError(
                f"The zone's low end ({zone['low']:g}) lies above its high end ({zone['high']:g}).", field="expected"
            )
        return zone

    def expected_of(self, verdict: Mapping[str, Any]) -> dict[str, Any]:
        """The zone of two standard deviations of a single answer about the mean, at least a step wide."""
        half = max(2 * (verdict["std"] or 0), self.step or (self.high - self.low) / 10)
        low, high = max(self.low, verdict["mean"] - half), min(self.high, verdict["mean"] + half)
        return {"low": low, "high": high}

    def _within(self, number: object) -> float:
        is_number = isinstance(number, int | float) and not isinstance(number, bool) and isfinite(number)
        if not is_number or not self.low <= cast("float", number) <= self.high:
            raise DomainError(
                f"The answer is {number!r}: it must be a number from {self.low:g} to {self.high:g}.", field="value"
            )
        return cast("float", number)

    def _number(self, given: object) -> float:
        number = self._within(given)
        if self.step and (number - self.low) % self.step:
            raise DomainError(
                f"The answer is {number!r}: it must be {self.low:g} plus a multiple of {self.step:g}.", field="value"
            )
        return number

    def matches(self, value: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
        return bool(expected["low"] <= value["value"] <= expected["high"])

    def agrees(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        return bool(abs(first["value"] - second["value"]) <= self.tolerance)

    def pressed(self, value: Mapping[str, Any], order: Sequence[int]) -> str:
        return f"{self.as_shown(value['value'], order):g}"

    def numbers(self, value: Mapping[str, Any]) -> dict[str, float]:
        return {"value": float(value["value"])}

    def words(self, value: Mapping[str, Any], names: Names = ()) -> str:
        del names
        if "value" in value:
            return f"{value['value']:g}"
        if "mean" not in value:
            return f"{value['low']:g} to {value['high']:g}"
        interval = f" ({value['low']:.1f} to {value['high']:.1f})" if value["low"] is not None else ""
        return f"{value['mean']:.1f}{interval}"

    def sides(self, order: Sequence[int], names: Names = ()) -> str:
        del order, names
        return ""

    def described(
        self, classes: Sequence[int], value: Mapping[str, Any], counts: Mapping[str, Any], names: Names
    ) -> dict[str, Any]:
        """``words``; ``bars``: (answer, count, share of the largest) where answers are few; the scale's ends."""
        del classes
        most = max(counts.values(), default=0) or 1
        return {
            "words": self.words(value, names) if value else "",
            "value": value,
            "bars": [(self.answer_words(key), count, count / most) for key, count in counts.items()],
            "zone": value if "mean" not in value else self.expected_of(value),
            "low": self.low,
            "high": self.high,
            "step": self.step or "any",
        }

    def answer_words(self, key: str) -> str:
        """A key of ``counts`` in words."""
        return next((word for number, word in self.labels if f"{number:g}" == key), key)

    def expected_posted(self, classes: Sequence[int], fields: Mapping[str, str]) -> dict[str, Any]:
        del classes
        return {name: _float(fields.get(name, ""), name) for name in ("low", "high")}

    def listed(self, fields: Mapping[str, str], names: Names) -> tuple[list[int], dict[str, Any] | None]:
        del names
        given = {name: fields.get(f"expected_{name}", "") for name in ("low", "high")}
        if not any(given.values()):
            return [], None
        return [], {name: _float(text, f"expected_{name}") for name, text in given.items()}

    def counts(self, numbers: Sequence[float]) -> dict[str, Any]:
        """How often each answer was given, where there are few of them."""
        return {f"{number:g}": numbers.count(number) for number in sorted(set(numbers))} if self.step else {}

    def judgement_cells(
        self,
        classes: Sequence[int],
        value: Mapping[str, Any],
        order: Sequence[int],
        expected: Mapping[str, Any] | None,
        names: Names,
    ) -> dict[str, Any]:
        """``right``: within the zone of expected answers; empty where there is none."""
        del classes, order, names
        return {
            "value": float(value["value"]) if value else None,
            "expected_low": float(expected["low"]) if expected else None,
            "expected_high": float(expected["high"]) if expected else None,
            "right": self.matches(value, expected) if expected and value else None,
        }

    def verdict_cells(
        self, classes: Sequence[int], value: Mapping[str, Any], counts: Mapping[str, Any], names: Names
    ) -> dict[str, Any]:
        """``counts``: JSON, answer to number of answers, where answers are few."""
        del classes, names
        cells = {name: value.get(name) for name in ("mean", "std", "n", "low", "high")}
        return cells | {"counts": json.dumps(counts) if counts else None}

    def decide(self, classes: Sequence[int], ballots: Ballots, *, overlap: int, cap: int) -> Ruling:
        """The mean once enough have answered, with veto; a mean has no ties, so no extra judgements."""
        del classes, cap
        numbers = [value["value"] for kind, value in ballots if kind == "answer"]
        n_broken = sum(kind == "broken" for kind, _ in ballots)
        is_dropped = is_vetoed(ballots, overlap)
        is_waiting = not is_dropped and len(ballots) < overlap
        return Ruling(
            outcome="dropped" if is_dropped else "waiting" if is_waiting else "settled",
            missing=overlap - len(ballots) if is_waiting else 0,
            value={} if is_dropped or is_waiting else mean_of(numbers),
            counts=self.counts(numbers),
            n_judgements=len(ballots),
            n_cannot_tell=sum(kind in UNABLE for kind, _ in ballots) - n_broken,
            n_broken=n_broken,
        )


class ComparisonProtocol(NumberProtocol):
    """Two pictures side by side; ``zone``: answers from ``-zone`` to ``zone`` prefer neither."""

    family = "comparison"
    task = "You will look at pictures two by two and say which of them looks better."
    judgement_columns = (
        ("left", "text"), *NumberProtocol.judgement_columns, ("value_shown", "number"), ("preferred", "text"),
    )  # fmt: skip
    tables = ("preferences", "scale", "votes", "opinions")
    n_pictures = 2
    zone: float = 0
    question = "Which picture has the better quality?"

    def variants(self) -> dict[str, tuple[Action, ...]]:
        return {"all": (*self.answers, *COMMON, FLICKER, REFERENCE)}

    def shown_order(self, classes: Sequence[int], *, seed: int, person: int, trial: int) -> list[int]:
        """Places from left to right."""
        del classes
        return [1, 0] if is_mirrored(seed=seed, person=person, trial=trial) else [0, 1]

    def scale(self) -> dict[str, Any]:
        return super().scale() | {"zone": self.zone}

    def mirrored(self, value: Mapping[str, Any]) -> dict[str, Any]:
        if "value" in value:
            return {"value": 0 - value["value"]}
        return {"low": 0 - value["high"], "high": 0 - value["low"]}

    def as_shown(self, number: float, order: Sequence[int]) -> float:
        return 0 - number if list(order) == [0, 1] else number

    def preferred(self, number: float) -> int | None:
        """The place of the better picture, or None within the zone of uncertainty."""
        return None if abs(number) <= self.zone else 0 if number > 0 else 1

    def agrees(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        return self.preferred(first["value"]) == self.preferred(second["value"])

    def agreeing(self, value: Mapping[str, Any], verdict: Mapping[str, Any]) -> tuple[int, int]:
        preferred = self.preferred(verdict["mean"])
        return (0, 0) if preferred is None else (int(self.preferred(value["value"]) == preferred), 1)

    def chose_left(self, value: Mapping[str, Any], order: Sequence[int]) -> bool | None:
        place = self.preferred(value["value"])
        return None if place is None else place == order[0]

    def votes(self, value: Mapping[str, Any]) -> dict[str, int]:
        place = self.preferred(value["value"])
        return {"value": 0 if place is None else 1 - 2 * place}

    def words(self, value: Mapping[str, Any], names: Names = ()) -> str:
        number = value.get("mean", value.get("value"))
        if number is None:
            return super().words(value, names)
        place = self.preferred(number)
        said = "no clear difference" if place is None else f"{'AB'[place]} is better"
        return f"{said}: {super().words(value, names)}"

    def judgement_cells(
        self,
        classes: Sequence[int],
        value: Mapping[str, Any],
        order: Sequence[int],
        expected: Mapping[str, Any] | None,
        names: Names,
    ) -> dict[str, Any]:
        """``left``: a where the first stood on the left; ``value_shown``: below zero where the left one was better."""
        place = self.preferred(value["value"]) if value else None
        return {
            **super().judgement_cells(classes, value, order, expected, names),
            "left": "ab"[order[0]] if order else None,
            "value_shown": float(self.as_shown(value["value"], order)) if value and order else None,
            "preferred": None if not value else "tie" if place is None else "ab"[place],
        }

    def sides(self, order: Sequence[int], names: Names = ()) -> str:
        del names
        return f"{'AB'[order[0]]} on the left"

    def answer_words(self, key: str) -> str:
        return {"first": "A is better", "neither": "no clear difference", "second": "B is better"}[key]

    def counts(self, numbers: Sequence[float]) -> dict[str, Any]:
        """Answers that prefer the first, neither and the second picture."""
        places = [self.preferred(number) for number in numbers]
        return {"first": places.count(0), "neither": places.count(None), "second": places.count(1)}


def _float(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DomainError(f'{name} is "{text}": it must be a number.', field="expected") from None


def mean_of(numbers: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation, count and the 95 % interval of the mean of at least one answer."""
    n, mean = len(numbers), fmean(numbers)
    if n < 2:
        return {"mean": mean, "std": None, "n": n, "low": None, "high": None}
    std = stdev(numbers)
    half = float(stdtrit(n - 1, 0.975)) * std / sqrt(n)
    return {"mean": mean, "std": std, "n": n, "low": mean - half, "high": mean + half}
