"""Judgements and votes of any study from files, as `manage.py opinion` reads them; docs/formats.md has every column.

Repeat: a judgement that a person gives of an item once more. The row with the smallest number in `repeat` is the first
judgement, whatever the numbering begins with.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpora.tables import FileError, no_gaps, read_choice, read_numbers, read_table, require_columns

JUDGEMENT_COLUMNS = ("person", "item", "value")
VOTE_COLUMNS = ("person", "a", "b", "winner")
MOS_COLUMNS = {
    "item": pa.string(),
    "n": pa.int64(),
    "mos": pa.float64(),
    "se": pa.float64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "quality_ml": pa.float64(),
}
SCREEN_COLUMNS = {
    "person": pa.string(),
    "n": pa.int64(),
    "bt500_p": pa.int64(),
    "bt500_q": pa.int64(),
    "bt500_rejected": pa.bool_(),
    "bias": pa.float64(),
    "inconsistency": pa.float64(),
    "repeat_error": pa.float64(),
    "reason": pa.string(),
}
AGREEMENT_COLUMNS = {
    "level": pa.string(),
    "alpha": pa.float64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "percent": pa.float64(),
    "n_items": pa.int64(),
    "n_persons": pa.int64(),
    "n_judgements": pa.int64(),
}
PAIRWISE_COLUMNS = {
    "scene": pa.string(),
    "item": pa.string(),
    "score": pa.float64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "rank": pa.int64(),
    "rank_best": pa.int64(),
    "rank_worst": pa.int64(),
}
_WINNERS = {"a": 1.0, "b": 0.0, "tie": 0.5}
_TRUTH = {"": 0, "false": 0, "no": 0, "true": 1, "yes": 1}

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Coded(NamedTuple):
    """A column of names: the names in the order of their first row, and (n,) the number of each row's name."""

    names: list[str]
    code: Integers


@dataclass(frozen=True)
class Judgements:
    """Ratings in long form, one per row; arrays are (n,).

    repeat_of  row of the first judgement that a row repeats, -1 for first judgements
    marked     the row is a repeat because the file says so; unmarked ones are judgements like any other
    answer     known answer of a gold trial, NaN elsewhere
    notes      in words, what was made of the file
    """

    person: Coded
    item: Coded
    value: Floats
    repeat_of: Integers
    marked: npt.NDArray[np.bool_]
    answer: Floats
    notes: tuple[str, ...]

    def of(self, rows: npt.NDArray[np.bool_]) -> "Judgements":
        """The judgements of some rows; repeats must be kept or dropped with their first judgements."""
        number = np.cumsum(rows) - 1
        repeat_of = np.where(self.repeat_of >= 0, number[np.maximum(self.repeat_of, 0)], -1)
        return replace(
            self,
            person=_recoded(self.person, rows),
            item=_recoded(self.item, rows),
            value=self.value[rows],
            repeat_of=repeat_of[rows],
            marked=self.marked[rows],
            answer=self.answer[rows],
        )


@dataclass(frozen=True)
class Votes:
    """Pairwise votes, one per row; arrays are (n,). outcome: 1 = `a` won, 0 = `b` won, 0.5 = tie."""

    scene: Coded
    person: Coded
    item: Coded
    a: Integers
    b: Integers
    outcome: Floats


def read_judgements(path: Path, without: frozenset[str] = frozenset()) -> Judgements:
    """Judgements of a file, the persons `without` left out.

    Raises FileError naming the row for empty or unusable cells, and for persons left out that do not occur.
    """
    table = read_table(path, text=(*JUDGEMENT_COLUMNS, "repeat", "gold"))
    require_columns(path, table, JUDGEMENT_COLUMNS)
    person, item = (_coded(path, table, name) for name in ("person", "item"))
    repeat_of, marked = _repeats(person, item, _repeat_numbers(path, table))
    answer, gold_note = _answers(path, table)
    judgements = Judgements(
        person=person,
        item=item,
        value=read_numbers(path, table["value"], "value"),
        repeat_of=repeat_of,
        marked=marked,
        answer=answer,
        notes=tuple(note for note in (_double_note(path, person, item, repeat_of, marked), gold_note) if note),
    )
    return judgements.of(_kept(path, person, without)) if without else judgements


def read_votes(path: Path, without: frozenset[str] = frozenset()) -> Votes:
    """Votes of a file, the persons `without` left out; a file without `scene` is one scene, named "".

    Raises FileError naming the row for empty cells, an unknown winner, and an item against itself.
    """
    table = read_table(path, text=(*VOTE_COLUMNS, "scene"))
    require_columns(path, table, VOTE_COLUMNS)
    person, a, b = (_coded(path, table, name) for name in ("person", "a", "b"))
    scene = _coded(path, table, "scene") if "scene" in table.column_names else Coded([""], np.zeros_like(a.code))
    number = {name: k for k, name in enumerate(dict.fromkeys([*a.names, *b.names]))}
    first, second = (np.array([number[name] for name in side.names], np.int64)[side.code] for side in (a, b))
    winner = _coded(path, table, "winner")
    wanted = "a, b or tie"
    meaning = [
        read_choice(path, "winner", int((winner.code == k).argmax()), text, _WINNERS, wanted)
        for k, text in enumerate(winner.names)
    ]
    same = first == second
    if same.any():
        row = int(same.argmax())
        raise FileError(f'{path.name}, row {row + 1}: "{a.names[a.code[row]]}" is compared with itself: remove the row')
    votes = Votes(scene, person, Coded(list(number), first), first, second, np.array(meaning)[winner.code])
    if not without:
        return votes
    rows = _kept(path, person, without)
    return Votes(
        scene=_recoded(scene, rows),
        person=_recoded(person, rows),
        item=votes.item,
        a=first[rows],
        b=second[rows],
        outcome=votes.outcome[rows],
    )


def _coded(path: Path, table: pa.Table, name: str) -> Coded:
    no_gaps(path, table[name], name)
    encoded = table[name].combine_chunks().dictionary_encode()
    return Coded(encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64))


def _recoded(column: Coded, rows: npt.NDArray[np.bool_]) -> Coded:
    """The column at some rows, names that no longer occur left out."""
    present = np.zeros(len(column.names), dtype=np.bool_)
    present[column.code[rows]] = True
    number = np.cumsum(present) - 1
    names = [name for name, there in zip(column.names, present.tolist(), strict=True) if there]
    return Coded(names, number[column.code[rows]])


def _kept(path: Path, person: Coded, without: frozenset[str]) -> npt.NDArray[np.bool_]:
    unknown = sorted(without - set(person.names))
    if unknown:
        raise FileError(f'{path.name} has no person "{unknown[0]}" to leave out')
    kept = np.array([name not in without for name in person.names])[person.code]
    if not kept.any():
        raise FileError(f"{path.name}: nobody is left once {len(without)} persons are left out")
    return kept


def _repeat_numbers(path: Path, table: pa.Table) -> Floats:
    """(n,) what the column "repeat" says: 0 first, 1, 2 ... repeats; zeros without the column."""
    if "repeat" not in table.column_names:
        return np.zeros(table.num_rows)
    encoded = pc.fill_null(table["repeat"], "").combine_chunks().dictionary_encode()
    code = encoded.indices.to_numpy()
    meaning = []
    for k, text in enumerate(encoded.dictionary.to_pylist()):
        word = text.strip().lower()
        try:
            number = float(_TRUTH.get(word, word))
        except ValueError:
            number = -1.0
        if not (number >= 0 and number.is_integer()):
            row = int((code == k).argmax()) + 1
            raise FileError(
                f'{path.name}, row {row}: the column "repeat" holds "{text}"; give 0 for a first judgement and 1 for '
                "its repeat"
            )
        meaning.append(number)
    return np.array(meaning)[code]


def _repeats(person: Coded, item: Coded, number: Floats) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """(n,) first row of the same person and item, -1 for first rows; (n,) whether the file marks it as a repeat."""
    cell = person.code * len(item.names) + item.code
    order = np.lexsort((np.arange(cell.size), number, cell))
    starts = np.concatenate([[True], cell[order][1:] != cell[order][:-1]])
    first = order[np.maximum.accumulate(np.where(starts, np.arange(cell.size), 0))]
    repeat_of = np.full(cell.size, -1, dtype=np.int64)
    repeat_of[order] = np.where(starts, -1, first)
    marked = (repeat_of >= 0) & ((number > 1) | (number > number[np.maximum(repeat_of, 0)]) | (number == 1))
    return repeat_of, marked


def _double_note(path: Path, person: Coded, item: Coded, repeat_of: Integers, marked: npt.NDArray[np.bool_]) -> str:
    doubles = np.flatnonzero((repeat_of >= 0) & ~marked)
    if not doubles.size:
        return ""
    row = int(doubles[0])
    return (
        f"{path.name}: {doubles.size:,} judgements are of an item that the same person had judged before, such as row "
        f'{row + 1} (person "{person.names[person.code[row]]}", item "{item.names[item.code[row]]}", first in row '
        f'{int(repeat_of[row]) + 1}): they count as judgements of their own; a column "repeat" with 1 in them sets '
        "them apart"
    )


def _answers(path: Path, table: pa.Table) -> tuple[Floats, str]:
    """(n,) known answers, NaN elsewhere, and a note where the column holds no answers."""
    unknown = np.full(table.num_rows, np.nan)
    if "gold" not in table.column_names:
        return unknown, ""
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(table["gold"], "")))
    said = set(pc.unique(texts).to_pylist())
    if said <= {"0", "1"} or said <= {"", "true", "false", "yes", "no"}:
        if said & {"1", "true", "yes"}:
            return unknown, f'{path.name}: the column "gold" marks gold trials without their known answers: not checked'
        return unknown, ""
    return read_numbers(path, table["gold"], "gold", gaps=True), ""


def named(names: list[str], codes: Any) -> list[str]:
    """The names of some codes."""
    return [names[code] for code in np.asarray(codes).tolist()]
