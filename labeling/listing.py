"""Lists of trials written by hand: one line a trial, checked as a whole before anything is added.

Columns: path (or row), of a pair path_b (or row_b), reference (or row_reference), kind, explanation, and those of the
protocol (``Protocol.columns``). docs/formats.md describes them.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from accounts.errors import DomainError
from corpora import reading
from corpora.models import Corpus
from labeling.models import Campaign, TrialKind, size_note
from labeling.presentation import class_names
from labeling.protocols import PROTOCOLS
from labeling.services.asking import RowSpec
from labeling.services.campaigns import asked_clean

Pairing = Literal["every", "neighbours", "content"]
MOST_LINES = 5_000
MOST_PROBLEMS = 20
RANGE = re.compile(r"^(\d+)(?:\s*[-–]\s*(\d+))?$")


@dataclass
class Listed:
    """What a list asks for.

    specs     the trials of the lines that are right
    problems  (line, what is wrong); line 1 holds the names of the columns
    notes     what is odd but allowed
    paths     path of every row that is named
    """

    specs: list[RowSpec] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Size:
    width: int
    height: int


def rows_of(text: str, n_rows: int) -> list[int]:
    """Row numbers of a text such as "0-9, 15", each once and in its order.

    Raises:
        DomainError: no number, or no such row.
    """
    rows: dict[int, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = RANGE.match(part)
        if found is None:
            raise DomainError(f'"{part}" is no row and no range of rows: write 0-9, 15.', field="rows")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last >= n_rows:
            raise DomainError(f'"{part}" is no range of rows: the corpus has rows 0 to {n_rows - 1}.', field="rows")
        if len(rows) + last - first >= MOST_LINES:
            raise DomainError(f"At most {MOST_LINES:,} rows can be chosen at once.", field="rows")
        rows.update(dict.fromkeys(range(first, last + 1)))
    return list(rows)


def text_of_rows(
    campaign: Campaign, corpus: Corpus, rows: Sequence[int], *, pairing: Pairing = "every", classes: str = ""
) -> str:
    """A list that asks about these rows: each of them, or pairs of them.

    Args:
        pairing: every two of them; each with the next; or every two of the same content group.
        classes: one or two classes to ask about, separated by ";".
    """
    asked = [word.strip() for word in classes.split(";") if word.strip()]
    extra = {f"class_{side}": word for side, word in zip("ab", asked, strict=False)}
    if PROTOCOLS[campaign.protocol].n_pictures == 2:
        pairs = list(_pairs(corpus, rows, pairing))
        if len(pairs) > MOST_LINES:
            raise DomainError(
                f"That makes {len(pairs):,} pairs; at most {MOST_LINES:,} can be added at once: choose fewer rows, "
                "pair within content groups, or let active sampling choose the pairs.",
                field="rows",
            )
        lines = [{"row": first, "row_b": second, **extra} for first, second in pairs]
    else:
        lines = [{"row": row, **extra} for row in rows]
    names = list(lines[0]) if lines else ["row"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _pairs(corpus: Corpus, rows: Sequence[int], pairing: Pairing) -> Iterable[tuple[int, int]]:
    if pairing == "neighbours":
        return pairwise(rows)
    every = ((first, second) for at, first in enumerate(rows) for second in rows[at + 1 :])
    if pairing == "every":
        return every
    group = reading.content_groups(corpus)
    return (pair for pair in every if group[pair[0]] >= 0 and group[pair[0]] == group[pair[1]])


def list_read(campaign: Campaign, corpus: Corpus, text: str) -> Listed:
    """What a list asks for, and everything that is wrong with it."""
    lines = list(_lines(text))
    listed = Listed()
    if not lines:
        listed.problems.append((1, "The list is empty: the first line names the columns, each other line is a trial."))
        return listed
    if unknown := _unknown_columns(campaign, lines[0][1]):
        listed.problems.append((1, unknown))
        return listed
    if len(lines) > MOST_LINES:
        listed.problems.append((1, f"There are {len(lines):,} lines; at most {MOST_LINES:,} can be added at once."))
        return listed
    rows = _rows_of_paths(corpus, lines)
    names = class_names(campaign.taxonomy)
    for number, fields in lines:
        try:
            listed.specs.append(_spec(campaign, corpus, fields, rows, names))
        except DomainError as error:
            if len(listed.problems) < MOST_PROBLEMS:
                listed.problems.append((number, str(error)))
    _describe(corpus, listed)
    return listed


def _lines(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff")))
    header = [name.strip().lower() for name in next(reader, [])]
    for cells in reader:
        if any(cell.strip() for cell in cells):
            fields = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
            yield reader.line_num, fields


def _unknown_columns(campaign: Campaign, fields: Mapping[str, str]) -> str:
    """What is wrong with the columns, in words."""
    protocol = PROTOCOLS[campaign.protocol]
    pair = ["path_b", "row_b"] if protocol.n_pictures == 2 else []
    own = [name for name, _ in protocol.columns]
    known = ["path", "row", *pair, "reference", "row_reference", "kind", "explanation", *own]
    unknown = [name for name in fields if name not in known]
    if unknown:
        return f'There is no column "{unknown[0]}" here: choose from {", ".join(known)}.'
    if not {"path", "row"} & set(fields):
        return "A list needs a column path (or row)."
    if protocol.n_pictures == 2 and not {"path_b", "row_b"} & set(fields):
        return f'"{protocol.title}" shows two pictures: the list needs a column path_b (or row_b).'
    return ""


def _rows_of_paths(corpus: Corpus, lines: Sequence[tuple[int, Mapping[str, str]]]) -> dict[str, int]:
    names = ("path", "path_b", "reference")
    paths = sorted({fields[name] for _, fields in lines for name in names if fields.get(name)})
    found = reading.manifest_of(corpus).rows_of_paths(paths)
    return {path: int(row) for path, row in zip(paths, found, strict=True) if row >= 0}


def _spec(
    campaign: Campaign,
    corpus: Corpus,
    fields: Mapping[str, str],
    rows: Mapping[str, int],
    names: Sequence[Mapping[str, Any]],
) -> RowSpec:
    protocol = PROTOCOLS[campaign.protocol]
    row = _row(corpus, fields, rows, "path", "row")
    second = _row(corpus, fields, rows, "path_b", "row_b") if protocol.n_pictures == 2 else None
    reference = _row(corpus, fields, rows, "reference", "row_reference")
    if row is None or (protocol.n_pictures == 2 and second is None):
        raise DomainError("A picture is missing: give its path or row.")
    if row == second:
        raise DomainError("A pair must be of two different pictures.")
    classes, expected = protocol.listed(fields, names)
    kind = fields.get("kind") or TrialKind.ORDINARY
    kept_classes, kept = asked_clean(campaign, classes=classes, kind=kind, expected=expected)
    return RowSpec(row, second, reference, kept_classes, kind, kept, fields.get("explanation", ""))


def _row(corpus: Corpus, fields: Mapping[str, str], rows: Mapping[str, int], path: str, row: str) -> int | None:
    """The row that a line names by its number or by its path; None where it names none."""
    if text := fields.get(row, ""):
        if not text.isdigit() or int(text) >= corpus.n_rows:
            raise DomainError(f'Row "{text}" does not exist: the corpus has rows 0 to {corpus.n_rows - 1}.')
        return int(text)
    if text := fields.get(path, ""):
        if text not in rows:
            raise DomainError(f'The corpus has no picture "{text}": paths are relative to its root.')
        return rows[text]
    return None


def _describe(corpus: Corpus, listed: Listed) -> None:
    """Adds paths, and notes about pairs of very different sizes and about pairs that are listed twice."""
    rows = sorted({row for spec in listed.specs for row in spec.rows})
    sizes: dict[int, _Size] = {}
    for record in reading.records_of(corpus, rows, ["row", "path", "width", "height"]):
        listed.paths[record["row"]] = record["path"]
        sizes[record["row"]] = _Size(record["width"], record["height"])
    pairs = [spec for spec in listed.specs if spec.second is not None]
    uneven = [note for spec in pairs if (note := size_note(sizes[spec.row], sizes[spec.second or 0]))]
    if uneven:
        listed.notes.append(uneven[0] if len(uneven) == 1 else f"{len(uneven)} pairs are like this one: {uneven[0]}")
    asked = {(frozenset(spec.rows[:2]), spec.kind, tuple(spec.classes)) for spec in listed.specs}
    if len(asked) < len(listed.specs):
        listed.notes.append(f"{len(listed.specs) - len(asked)} lines repeat earlier ones: each is asked once.")
