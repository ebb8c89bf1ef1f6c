"""Verify labels: one picture, one or two classes, a yes/no question about each.

The task, five judgements per picture, majority per question, and the veto of those who cannot tell are those of the MAD
competition (arXiv 2002.10648, section 2.2 and appendix).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from accounts.errors import DomainError
from labeling.protocols.base import COMMON, Action, Ballots, Names, Outcome, Protocol, Ruling, is_mirrored, is_vetoed
from labeling.psychometrics import majority

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
SAID = {True: "yes", False: "no", None: "undecided"}
TRUTHS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class Verify(Protocol):
    """Shown order: the classes. Value: ``{class index: true|false}``; of a verdict, null where undecided."""

    name = "verify"
    title = "Verify labels: does the image contain these classes?"
    task = "You will look at pictures and say what they contain."
    purpose = (
        "These pictures are where image classifiers disagree most. Your answers show which of them are wrong, and how."
    )
    columns = (
        ("class_a", "index or name of a class asked about"),
        ("class_b", "of the second class, if any"),
        ("expected_a", "gold and training: yes or no"),
        ("expected_b", "of the second class"),
    )
    judgement_columns = (
        ("class_a", "integer"), ("name_a", "text"), ("answer_a", "truth"),
        ("class_b", "integer"), ("name_b", "text"), ("answer_b", "truth"), ("class_left", "integer"),
    )  # fmt: skip
    verdict_columns = (
        ("class_a", "integer"), ("name_a", "text"), ("verdict_a", "truth"), ("yes_a", "integer"), ("no_a", "integer"),
        ("class_b", "integer"), ("name_b", "text"), ("verdict_b", "truth"), ("yes_b", "integer"), ("no_b", "integer"),
    )  # fmt: skip
    needs_taxonomy = True
    level = "nominal"

    def variants(self) -> dict[str, tuple[Action, ...]]:
        return {"one": _ONE + COMMON, "two": _TWO + COMMON}

    def variant(self, classes: Sequence[int]) -> str:
        return "one" if len(classes) == 1 else "two"

    def shown_order(self, classes: Sequence[int], *, seed: int, person: int, trial: int) -> list[int]:
        return list(reversed(classes)) if is_mirrored(seed=seed, person=person, trial=trial) else list(classes)

    def present(self, order: Sequence[int], names: Names) -> dict[str, Any]:
        """The class cards in shown order."""
        cards = [
            {
                "index": index,
                "name": names[index]["name"],
                "synonyms": [word for word in names[index].get("synonyms", []) if word != names[index]["name"]],
                "gloss": names[index].get("gloss", ""),
            }
            for index in order
        ]
        return {"classes": cards}

    def clean_classes(self, classes: Sequence[int], n_classes: int) -> list[int]:
        """One or two different class indices, ascending."""
        kept = sorted(int(index) for index in classes)
        if len(kept) not in {1, 2} or len(set(kept)) != len(kept):
            raise DomainError(f"A trial asks about one or two different classes, not {list(classes)}.", field="classes")
        outside = [index for index in kept if not 0 <= index < n_classes]
        if outside:
            raise DomainError(
                f"Class {outside[0]} is not in the taxonomy: it has classes 0 to {n_classes - 1}.", field="classes"
            )
        return kept

    def clean_answer(self, classes: Sequence[int], value: object) -> dict[str, bool]:
        wanted = {str(index) for index in classes}
        given = {str(key): said for key, said in value.items()} if isinstance(value, Mapping) else {}
        if set(given) != wanted or not all(type(said) is bool for said in given.values()):
            asked = ", ".join(sorted(wanted, key=int))
            raise DomainError(f"The value must say true or false for each class asked about ({asked}).", field="value")
        return {key: given[key] for key in sorted(wanted, key=int)}

    def agreeing(self, value: Mapping[str, Any], verdict: Mapping[str, Any]) -> tuple[int, int]:
        decided = [said == verdict[index] for index, said in value.items() if verdict.get(index) is not None]
        return sum(decided), len(decided)

    def pressed(self, value: Mapping[str, Any], order: Sequence[int]) -> str:
        return "".join("y" if value[str(index)] else "n" for index in order)

    def chose_left(self, value: Mapping[str, Any], order: Sequence[int]) -> bool | None:
        if len(order) != 2 or value[str(order[0])] == value[str(order[1])]:
            return None
        return bool(value[str(order[0])])

    def votes(self, value: Mapping[str, Any]) -> dict[str, int]:
        return {index: 1 if said else -1 for index, said in value.items()}

    def numbers(self, value: Mapping[str, Any]) -> dict[str, float]:
        return {index: float(said) for index, said in value.items() if said is not None}

    def words(self, value: Mapping[str, Any], names: Names = ()) -> str:
        return ", ".join(f"{_name(int(index), names)}: {SAID[answer]}" for index, answer in value.items())

    def sides(self, order: Sequence[int], names: Names = ()) -> str:
        return f"{_name(order[0], names)} on the left" if len(order) == 2 else ""

    def described(
        self, classes: Sequence[int], value: Mapping[str, Any], counts: Mapping[str, Any], names: Names
    ) -> dict[str, Any]:
        """``questions``: name, gloss, verdict (None: tied or none) and [yes, no] of each class."""
        questions = [
            {
                "index": index,
                "name": _name(index, names),
                "gloss": names[index].get("gloss", ""),
                "verdict": value.get(str(index)),
                "counts": counts.get(str(index)),
            }
            for index in classes
        ]
        return {"questions": questions}

    def expected_posted(self, classes: Sequence[int], fields: Mapping[str, str]) -> dict[str, Any]:
        return {str(index): fields.get(f"class_{index}") == "yes" for index in classes}

    def listed(self, fields: Mapping[str, str], names: Names) -> tuple[list[int], dict[str, Any] | None]:
        asked: dict[int, str] = {}
        for side in ("a", "b"):
            if text := fields.get(f"class_{side}", ""):
                asked[_index(text, names)] = fields.get(f"expected_{side}", "").lower()
        if not any(asked.values()):
            return sorted(asked), None
        unknown = next((said for said in asked.values() if said not in TRUTHS), None)
        if unknown is not None:
            raise DomainError(f'The expected answer is "{unknown}": it must be yes or no.', field="expected")
        return sorted(asked), {str(index): TRUTHS[said] for index, said in asked.items()}

    def judgement_cells(
        self,
        classes: Sequence[int],
        value: Mapping[str, Any],
        order: Sequence[int],
        expected: Mapping[str, Any] | None,
        names: Names,
    ) -> dict[str, Any]:
        """Class a is the lower of the class indices asked about, b the higher; empty where there is one class."""
        cells: dict[str, Any] = {"class_left": order[0] if order else None}
        for side, index in zip("ab", (*classes, None), strict=False):
            name = None if index is None else _name(index, names)
            cells |= {f"class_{side}": index, f"name_{side}": name, f"answer_{side}": value.get(str(index))}
        return cells

    def verdict_cells(
        self, classes: Sequence[int], value: Mapping[str, Any], counts: Mapping[str, Any], names: Names
    ) -> dict[str, Any]:
        """Sides as of a judgement."""
        cells: dict[str, Any] = {}
        for side, index in zip("ab", (*classes, None), strict=False):
            yes, no = counts.get(str(index), [None, None])
            cells |= {
                f"class_{side}": index,
                f"name_{side}": None if index is None else _name(index, names),
                f"verdict_{side}": value.get(str(index)),
                f"yes_{side}": yes,
                f"no_{side}": no,
            }
        return cells

    def decide(self, classes: Sequence[int], ballots: Ballots, *, overlap: int, cap: int) -> Ruling:
        """Majority per question with veto."""
        answers = [value for kind, value in ballots if kind == "answer"]
        keys = [str(index) for index in classes]
        yes = [sum(value[key] for value in answers) for key in keys]
        no = [len(answers) - count for count in yes]
        n_broken = sum(kind == "broken" for kind, _ in ballots)
        n_unable = len(ballots) - len(answers)
        decision = majority.decide(yes, no, n_unable, overlap=overlap, cap=cap)
        is_tied = decision.outcome == "dropped" and not is_vetoed(ballots, overlap)
        outcome: Outcome = "undecided" if is_tied else decision.outcome
        value: dict[str, Any] = {key: None if a == b else a > b for key, a, b in zip(keys, yes, no, strict=True)}
        return Ruling(
            outcome=outcome,
            missing=decision.missing,
            value=value if outcome in {"settled", "undecided"} else {},
            counts={key: [a, b] for key, a, b in zip(keys, yes, no, strict=True)},
            n_judgements=len(ballots),
            n_cannot_tell=n_unable - n_broken,
            n_broken=n_broken,
        )


def _name(index: int, names: Names) -> str:
    return str(names[index]["name"]) if index < len(names) else f"class {index}"


def _index(text: str, names: Names) -> int:
    """A class by its index, or by a name that one class alone has."""
    if text.isdigit():
        return int(text)
    found = [index for index, row in enumerate(names) if text.lower() in {row["name"].lower(), str(row["id"]).lower()}]
    if len(found) != 1:
        what = "no class" if not found else "several classes"
        raise DomainError(f'"{text}" names {what} of the taxonomy: give its index.', field="classes")
    return found[0]


PROTOCOL = Verify()
