"""What the browse pages show: a page of rows, by number or by label, at a cost that does not grow with the corpus."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from corpora import grouped, reading
from corpora.models import Corpus
from corpora.opinions import Bar, OpinionTable, histogram

PAGE = 60
COLUMNS = ("row", "path", "width", "height", "label", "distortion", "level")


@dataclass(frozen=True)
class RowPage:
    """records: manifest rows, with "class_name" added. number, n_pages: from 1. n_rows: in all pages."""

    records: list[dict[str, Any]]
    number: int
    n_pages: int
    n_rows: int

    @property
    def previous(self) -> int | None:
        return self.number - 1 if self.number > 1 else None

    @property
    def next(self) -> int | None:
        return self.number + 1 if self.number < self.n_pages else None


def row_page(corpus: Corpus, number: int, label: int | None = None, size: int = PAGE) -> RowPage:
    """Page `number`, cut to the pages there are; with a label, only the rows that have it."""
    n_rows = corpus.n_rows if label is None else _label_size(corpus, label)
    n_pages = max(1, -(-n_rows // size))
    number = min(max(1, number), n_pages)
    start = (number - 1) * size
    stop = min(start + size, n_rows)
    if label is None:
        rows: Any = range(start, stop)
    else:
        groups = reading.groups_of(corpus, grouped.LABELS)
        rows = groups.rows(label, start, stop) if groups else []
    return RowPage(_records(corpus, rows), number, n_pages, n_rows)


def label_counts(corpus: Corpus) -> list[tuple[int, str, int]]:
    """(class index, name, rows) of every class that has rows; kept by corpus, which never changes."""
    return _label_counts(_Key(corpus))


def class_name(corpus: Corpus, label: int | None) -> str:
    """What a label is called; its index where the corpus has no taxonomy."""
    if label is None:
        return ""
    names = _names(_Key(corpus))
    return names[label] if 0 <= label < len(names) else f"class {label}"


def duplicate_page(corpus: Corpus, number: int, size: int = 12) -> tuple[list[list[dict[str, Any]]], int, int]:
    """(groups of near-duplicates as records, page number, number of pages); of large groups the first rows."""
    groups = reading.groups_of(corpus, grouped.DUPLICATES)
    n_groups = len(groups) if groups else 0
    n_pages = max(1, -(-n_groups // size))
    number = min(max(1, number), n_pages)
    if groups is None:
        return [], number, n_pages
    members = [groups.rows(index, 0, size) for index in range((number - 1) * size, min(number * size, n_groups))]
    records = {record["row"]: record for record in _records(corpus, [int(row) for rows in members for row in rows])}
    return [[records[int(row)] for row in rows] for rows in members], number, n_pages


def reference_of(corpus: Corpus, row: int) -> int | None:
    """The row of a row's pristine reference; None where it has none."""
    references = reading.reference_rows(corpus)
    return int(references[row]) if references[row] >= 0 else None


@dataclass(frozen=True)
class HistogramPlot:
    """A histogram as SVG. bars: (x, y, width, height, Bar); ticks: (position, text); lengths in user units."""

    bars: list[tuple[float, float, float, float, Bar]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = 560
    height: int = 240
    left: int = 56
    top: int = 28
    bottom: int = 196


def histogram_plot(table: OpinionTable) -> HistogramPlot:
    """How many images have which MOS, over the whole scale."""
    bars = histogram(table)
    plot = HistogramPlot([], [], [])
    wide, high = (plot.width - plot.left - 12) / len(bars), plot.bottom - plot.top
    tallest = max(bar.count for bar in bars)
    for number, bar in enumerate(bars):
        length = round(bar.share * high, 2)
        plot.bars.append((round(plot.left + number * wide, 2), plot.bottom - length, round(wide - 1, 2), length, bar))
    for share in (0, 0.25, 0.5, 0.75, 1):
        value = bars[0].low + share * (bars[-1].high - bars[0].low)
        plot.x_ticks.append((round(plot.left + share * wide * len(bars), 2), f"{value:.4g}"))
    for count in sorted({0, tallest // 2, tallest}):
        plot.y_ticks.append((round(plot.bottom - count / tallest * high, 2), f"{count:,}"))
    return plot


def _records(corpus: Corpus, rows: Any) -> list[dict[str, Any]]:
    records = reading.records_of(corpus, rows, COLUMNS)
    for record in records:
        record["class_name"] = class_name(corpus, record["label"])
    return records


def _label_size(corpus: Corpus, label: int) -> int:
    groups = reading.groups_of(corpus, grouped.LABELS)
    return groups.size(label) if groups else 0


class _Key:
    """A ready corpus: its rows and labels never change."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.identity = (corpus.directory, corpus.digest, corpus.taxonomy_id)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.identity == other.identity


@lru_cache(maxsize=32)
def _names(key: _Key) -> tuple[str, ...]:
    taxonomy = key.corpus.taxonomy
    return tuple(item["name"] for item in taxonomy.classes) if taxonomy else ()


@lru_cache(maxsize=32)
def _label_counts(key: _Key) -> list[tuple[int, str, int]]:
    groups = reading.groups_of(key.corpus, grouped.LABELS)
    if groups is None:
        return []
    return [(label, class_name(key.corpus, label), int(n)) for label, n in enumerate(groups.sizes()) if n]
