"""What a recipe reported, as facts and tables that a person reads. The report is JSON of any shape.

A value with an interval is ``{"value", "low", "high"}``. Nested objects become a table: the last name of each path is
the column, what comes before it the row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

MOST_COLUMNS = 12
INTERVAL = {"value", "low", "high"}
UPPER = {"srcc", "plcc", "krcc", "rmse", "mos", "macs", "auc", "fid", "map", "psnr", "ssim"}


@dataclass(frozen=True)
class Cell:
    """A value as it is written; ``sort``: as tables sort it; ``interval``: its 95 % interval, empty where none."""

    text: str
    interval: str = ""
    sort: str = ""
    is_number: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    title: str
    rows: list[tuple[str, Cell]]
    kind: str = "facts"


@dataclass(frozen=True)
class Table:
    """``n_names`` columns name a row, then come ``columns``; a row is its names and its cells."""

    title: str
    n_names: int
    columns: list[tuple[str, bool]]  # name, whether of numbers
    rows: list[tuple[list[str], list[Cell]]]
    kind: str = "table"

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
    leaves = list(_leaves(value) if isinstance(value, Mapping) else _listed(value))
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for path, leaf in leaves:
        rows.setdefault(path[:-1], {})[path[-1]] = leaf
    titles = chain([title], repeat(""))  # said once
    alone = rows.pop((), {})
    if alone:
        yield Facts(next(titles), [(words(name), cell(leaf)) for name, leaf in alone.items()])
    for depth in sorted({len(path) for path in rows}):
        yield from _tables(next(titles), {path: values for path, values in rows.items() if len(path) == depth})


def _listed(values: Sequence[Mapping[str, Any]]) -> Iterator[Leaf]:
    """The leaves of a list of objects, under their names or else their numbers."""
    names = [str(part.get("name", "")) for part in values]
    is_named = all(names) and len(set(names)) == len(names)
    for number, (name, part) in enumerate(zip(names, values, strict=True), 1):
        for path, leaf in _leaves(part):
            if not (is_named and path == ("name",)):
                yield (name if is_named else str(number), *path), leaf


def _leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    for name, part in value.items():
        if isinstance(part, Mapping) and not _is_interval(part):
            yield from _leaves(part, (*path, str(name)))
        else:
            yield (*path, str(name)), part


def _tables(title: str, rows: dict[tuple[str, ...], dict[str, Any]]) -> Iterator[Block]:
    """One table of paths of one length; several lists of facts where hardly any column is shared."""
    told = ((name, value) for values in rows.values() for name, value in values.items())
    columns = list(dict.fromkeys(name for name, value in told if value not in (None, "", [])))
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
    yield Table(title, len(telling), heads, lines)


def words(name: str) -> str:
    """A name of the report as a person reads it."""
    text = row_words(name)
    return text[:1].upper() + text[1:]


def row_words(name: str) -> str:
    """As ``words``, but not with a capital: some of them are names of versions."""
    return name.upper() if name.lower() in UPPER else name.replace("_", " ")


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
    return Cell(str(value))


def number(value: float) -> str:
    """Whole numbers in full, others to four figures."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1 else f"{value:.4g}"
