"""What a recipe reported, as facts and tables that a person reads. The report is JSON of any shape.

A value with an interval is ``{"value", "low", "high"}``. Nested objects become a table: the last name of each path is
the column, what comes before it the row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

MOST_COLUMNS = 12
DIGEST = 40  # letters without a space
NOTES = "notes"  # of a row: said once, under the table
INTERVAL = {"value", "low", "high"}
FOLD_FROM = 4  # entries of a list: from so many on only the first is open
UPPER = {"srcc", "plcc", "krcc", "rmse", "mos", "macs", "auc", "fid", "map", "psnr", "ssim", "sa", "ra"}


@dataclass(frozen=True)
class Cell:
    """A value as it is written; ``sort``: as tables sort it; ``interval``: its 95 % interval, empty where none;
    ``full``: of a digest, of which the text is the beginning."""

    text: str
    interval: str = ""
    sort: str = ""
    is_number: bool = False
    full: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    title: str
    rows: list[tuple[str, Cell]]
    kind: str = "facts"
    is_folded: bool = False


@dataclass(frozen=True)
class Table:
    """``n_names`` columns name a row, then come ``columns``; a row is its names and its cells."""

    title: str
    n_names: int
    columns: list[tuple[str, bool]]  # name, whether of numbers
    rows: list[tuple[list[str], list[Cell]]]
    notes: list[str] = field(default_factory=list)
    kind: str = "table"
    is_folded: bool = False

    @property
    def name_heads(self) -> list[str]:
        """Empty heads of the columns that name a row."""
        return [""] * self.n_names


Block = Facts | Table
Leaf = tuple[tuple[str, ...], Any]


def report_blocks(report: Mapping[str, Any]) -> list[Block]:
    """The report in the order in which it was made; single values first."""
    single = [(words(name), cell(value)) for name, value in report.items() if not _is_nested(value)]
    blocks: list[Block] = [Facts("", single)] if single else []
    for name, value in report.items():
        if _is_nested(value):
            blocks.extend(_nested(words(name), value))
    return blocks


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return not _is_interval(value) and bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(part, Mapping) for part in value)


def _is_interval(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) >= INTERVAL


def _nested(title: str, value: Any) -> Iterator[Block]:
    if isinstance(value, Mapping):
        yield from _blocks(title, list(_leaves(value)))
        return
    names = [str(part.get("name", "")) for part in value]
    is_named = all(names) and len(set(names)) == len(names)
    parts = [
        (name if is_named else str(number), [leaf for leaf in _leaves(part) if not (is_named and leaf[0] == ("name",))])
        for number, (name, part) in enumerate(zip(names, value, strict=True), 1)
    ]
    if all(len(path) == 1 for _, leaves in parts for path, _ in leaves):
        yield from _blocks(title, [((name, *path), leaf) for name, leaves in parts for path, leaf in leaves])
        return
    for number, (name, leaves) in enumerate(parts):
        for at, block in enumerate(_blocks("", leaves)):
            is_folded = number > 0 and (block.kind == "table" or len(parts) >= FOLD_FROM)
            later = "In detail" if is_folded else ""
            yield replace(block, title=later if at else f"{title}: {name}", is_folded=is_folded)


def _blocks(title: str, leaves: list[Leaf]) -> Iterator[Block]:
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for path, leaf in leaves:
        rows.setdefault(path[:-1], {})[path[-1]] = leaf
    _drop_repeated(rows)
    titles = chain([title], repeat(""))  # said once
    alone = rows.pop((), {})
    if alone:
        yield Facts(next(titles), [(words(name), cell(leaf)) for name, leaf in alone.items()])
    for depth in sorted({len(path) for path in rows}):
        yield from _tables(next(titles), {path: values for path, values in rows.items() if len(path) == depth})


def _drop_repeated(rows: dict[tuple[str, ...], dict[str, Any]]) -> None:
    """Forget values that the rows below say as well, such as how many images there are."""
    for path in list(rows):
        below = {name for other, values in rows.items() if len(other) > len(path) > 0 and other[: len(path)] == path
                 for name in values}  # fmt: skip
        rows[path] = {name: value for name, value in rows[path].items() if name not in below}
        if not rows[path]:
            del rows[path]


def _leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    for name, part in value.items():
        if isinstance(part, Mapping) and not _is_interval(part):
            yield from _leaves(part, (*path, str(name)))
        else:
            yield (*path, str(name)), part


def _tables(title: str, rows: dict[tuple[str, ...], dict[str, Any]]) -> Iterator[Block]:
    """One table of paths of one length; several lists of facts where hardly any column is shared."""
    told = [(name, value) for values in rows.values() for name, value in values.items() if value not in (None, "", [])]
    columns = list(dict.fromkeys(name for name, value in told if name != NOTES))
    notes = list(dict.fromkeys(note for name, value in told if name == NOTES for note in _texts(value)))
    paths = list(rows)
    telling = [at for at in range(len(paths[0])) if len(rows) == 1 or len({path[at] for path in paths}) > 1]
    if len(columns) > MOST_COLUMNS:
        for path, values in rows.items():
            named = " · ".join([*([title] if title else []), *(words(path[at]) for at in telling)])
            yield Facts(named, [(words(name), cell(values[name])) for name in columns if name in values])
        return
    lines = [
        ([row_words(path[at]) for at in telling], [cell(values.get(name)) for name in columns])
        for path, values in rows.items()
    ]
    heads = [(words(name), any(line[1][at].is_number for line in lines)) for at, name in enumerate(columns)]
    aligned = [
        (names, [replace(each, is_number=is_number) for each, (_, is_number) in zip(cells, heads, strict=True)])
        for names, cells in lines
    ]
    yield Table(title, len(telling), heads, aligned, notes)


def _texts(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]


def words(name: str) -> str:
    """A name of the report as a person reads it."""
    text = row_words(name)
    return text[:1].upper() + text[1:]


def row_words(name: str) -> str:
    """As ``words``, but not with a capital: some of them are names of versions."""
    return " ".join(part.upper() if part.lower() in UPPER else part for part in name.split("_"))


def cell(value: Any) -> Cell:
    """One value; absent ones are a dash."""
    if value is None:
        return Cell("—")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        return Cell(number(value), sort=repr(value), is_number=True)
    if _is_interval(value):
        if value["value"] is None:
            return Cell("—", is_number=True)
        known = value["low"] is not None and value["high"] is not None
        interval = f"{number(value['low'])} to {number(value['high'])}" if known else ""
        return Cell(number(value["value"]), interval, repr(value["value"]), True)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return Cell(", ".join(cell(part).text for part in value) or "none")
    text = str(value)
    is_digest = len(text) >= DIGEST and " " not in text
    return Cell(f"{text[:12]}…", full=text) if is_digest else Cell(text)


def number(value: float) -> str:
    """Whole numbers in full, others to four figures."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1 else f"{value:.4g}"
