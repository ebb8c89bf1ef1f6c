"""What a recipe reported, as facts and tables that a person reads. The report is JSON of any shape.

A value with an interval is ``{"value", "low", "high"}``. Nested objects become a table: the last name of each path is
the column, what comes before it the row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    if isinstance(value, list):
        leaves: list[Leaf] = [
            ((str(number), *path), leaf) for number, part in enumerate(value, 1) for path, leaf in _leaves(part)
        ]
    else:
        leaves = list(_leaves(value))
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for path, leaf in leaves:
        rows.setdefault(path[:-1], {})[path[-1]] = leaf
    alone = rows.pop((), {})
    if alone:
        yield Facts(title, [(words(name), cell(leaf)) for name, leaf in alone.items()])
        title = ""
    if rows:
        yield from _tables(title, rows)


def _leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    for name, part in value.items():
        if isinstance(part, Mapping) and not _is_interval(part):
            yield from _leaves(part, (*path, str(name)))
        else:
            yield (*path, str(name)), part


def _tables(title: str, rows: dict[tuple[str, ...], dict[str, Any]]) -> Iterator[Block]:
    columns = list(dict.fromkeys(name for values in rows.values() for name in values))
    if len(columns) > MOST_COLUMNS:
        for path, values in rows.items():
            named = " · ".join([*([title] if title else []), *map(words, path)])
            yield Facts(named, [(words(name), cell(leaf)) for name, leaf in values.items()])
        return
    n_names = max(map(len, rows))
    lines = []
    for path, values in rows.items():
        names = [*map(words, path), *[""] * (n_names - len(path))]
        lines.append((names, [cell(values.get(name)) for name in columns]))
    heads = [(words(name), any(line[1][at].is_number for line in lines)) for at, name in enumerate(columns)]
    yield Table(title, n_names, heads, lines)


def words(name: str) -> str:
    """A name of the report as a person reads it."""
    if name.lower() in UPPER:
        return name.upper()
    text = str(name).replace("_", " ")
    return text[:1].upper() + text[1:]


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
