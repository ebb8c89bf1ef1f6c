"""Judgements and verdicts as CSV, JSON Lines and Parquet, streamed; docs/formats.md describes the columns.

Class a is the lower of the class indices asked about, class b the higher; a trial about one class leaves b empty.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from accounts.errors import DomainError
from labeling.models import Campaign, Judgement, Verdict
from labeling.presentation import class_names
from labeling.querysets import exclusion_in_force

CHUNK = 2000
Row = dict[str, Any]
_TIME = pa.timestamp("us", tz="UTC")

JUDGEMENTS = pa.schema(
    [
        ("judgement_id", pa.int64()), ("campaign_id", pa.int64()), ("trial_id", pa.int64()),
        ("trial_kind", pa.string()), ("repeat_of", pa.int64()), ("item_id", pa.int64()), ("corpus", pa.string()),
        ("row", pa.int64()), ("sha256", pa.string()), ("person_id", pa.int64()), ("excluded", pa.bool_()),
        ("kind", pa.string()),
        ("class_a", pa.int32()), ("name_a", pa.string()), ("answer_a", pa.bool_()),
        ("class_b", pa.int32()), ("name_b", pa.string()), ("answer_b", pa.bool_()),
        ("class_left", pa.int32()), ("presented_at", _TIME), ("milliseconds", pa.int32()), ("created_at", _TIME),
        ("superseded_at", _TIME), ("device", pa.string()), ("window_width", pa.int32()), ("window_height", pa.int32()),
        ("pixel_ratio", pa.float64()), ("zoom", pa.float64()), ("scale", pa.float64()),
    ]
)  # fmt: skip
VERDICTS = pa.schema(
    [
        ("trial_id", pa.int64()), ("campaign_id", pa.int64()), ("trial_kind", pa.string()), ("item_id", pa.int64()),
        ("corpus", pa.string()), ("row", pa.int64()), ("sha256", pa.string()), ("outcome", pa.string()),
        ("class_a", pa.int32()), ("name_a", pa.string()), ("verdict_a", pa.bool_()), ("yes_a", pa.int32()),
        ("no_a", pa.int32()), ("class_b", pa.int32()), ("name_b", pa.string()), ("verdict_b", pa.bool_()),
        ("yes_b", pa.int32()), ("no_b", pa.int32()), ("n_judgements", pa.int32()), ("n_cannot_tell", pa.int32()),
        ("n_broken", pa.int32()), ("settled_at", _TIME),
    ]
)  # fmt: skip


def _classes(campaign: Campaign, classes: Sequence[int]) -> Iterator[tuple[str, int | None, str | None]]:
    """(side, class index, name) for a and b."""
    names = class_names(campaign.taxonomy)
    for side, place in (("a", 0), ("b", 1)):
        index = classes[place] if place < len(classes) else None
        yield side, index, None if index is None else names[index]["name"]


def judgement_rows(campaign: Campaign) -> Iterator[Row]:
    """Every judgement, superseded and excluded ones included, oldest first; training is left out."""
    rows = (
        Judgement.objects.filter(campaign=campaign)
        .exclude(trial__kind="training")
        .select_related("trial__item__corpus")
        .annotate(left_out=exclusion_in_force())
        .order_by("pk")
    )
    for judgement in rows.iterator(chunk_size=CHUNK):
        trial, viewing = judgement.trial, judgement.viewing
        row: Row = {
            "judgement_id": judgement.pk,
            "campaign_id": campaign.pk,
            "trial_id": trial.pk,
            "trial_kind": trial.kind,
            "repeat_of": trial.repeat_of_id,
            "item_id": trial.item_id,
            "corpus": trial.item.corpus.name,
            "row": trial.item.row,
            "sha256": trial.item.sha256,
            "person_id": judgement.person_id,
            "excluded": judgement.left_out,
            "kind": judgement.kind,
        }
        for side, index, name in _classes(campaign, trial.classes):
            row |= {f"class_{side}": index, f"name_{side}": name, f"answer_{side}": judgement.value.get(str(index))}
        sides = viewing.get("sides") or [None]
        yield row | {
            "class_left": sides[0],
            "presented_at": judgement.presented_at,
            "milliseconds": judgement.milliseconds,
            "created_at": judgement.created_at,
            "superseded_at": judgement.superseded_at,
            "device": viewing.get("device"),
            "window_width": viewing.get("width"),
            "window_height": viewing.get("height"),
            "pixel_ratio": viewing.get("pixel_ratio"),
            "zoom": viewing.get("zoom"),
            "scale": viewing.get("scale"),
        }


def verdict_rows(campaign: Campaign) -> Iterator[Row]:
    """The verdict of every trial that has ended, in the order of trials."""
    rows = Verdict.objects.filter(campaign=campaign).select_related("trial__item__corpus").order_by("trial_id")
    for verdict in rows.iterator(chunk_size=CHUNK):
        trial = verdict.trial
        row: Row = {
            "trial_id": trial.pk,
            "campaign_id": campaign.pk,
            "trial_kind": trial.kind,
            "item_id": trial.item_id,
            "corpus": trial.item.corpus.name,
            "row": trial.item.row,
            "sha256": trial.item.sha256,
            "outcome": verdict.outcome,
        }
        for side, index, name in _classes(campaign, trial.classes):
            yes, no = verdict.counts.get(str(index), [None, None])
            row |= {
                f"class_{side}": index,
                f"name_{side}": name,
                f"verdict_{side}": verdict.value.get(str(index)),
                f"yes_{side}": yes,
                f"no_{side}": no,
            }
        yield row | {
            "n_judgements": verdict.n_judgements,
            "n_cannot_tell": verdict.n_cannot_tell,
            "n_broken": verdict.n_broken,
            "settled_at": verdict.settled_at,
        }


TABLES: dict[str, tuple[pa.Schema, Callable[[Campaign], Iterator[Row]]]] = {
    "judgements": (JUDGEMENTS, judgement_rows),
    "verdicts": (VERDICTS, verdict_rows),
}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


class _Echo:
    """A file that gives back what is written to it, so that csv can be streamed."""

    def write(self, line: str) -> str:
        return line


def _csv(schema: pa.Schema, rows: Iterator[Row]) -> Iterator[bytes]:
    writer = csv.writer(_Echo())
    yield writer.writerow(schema.names).encode()
    for row in rows:
        cells = (_plain(row[name]) for name in schema.names)
        yield writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in cells]).encode()


def _jsonl(schema: pa.Schema, rows: Iterator[Row]) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps({name: _plain(row[name]) for name in schema.names}, ensure_ascii=False).encode() + b"\n"


def _parquet(schema: pa.Schema, rows: Iterator[Row]) -> Iterator[bytes]:
    """Written to a temporary file a chunk at a time, because a Parquet file ends with its table of contents."""
    with TemporaryFile() as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            while chunk := list(islice(rows, CHUNK)):
                writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
        file.seek(0)
        yield from _blocks(file)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(1 << 18):
        yield block


ENDINGS: dict[str, tuple[str, Callable[[pa.Schema, Iterator[Row]], Iterator[bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", _csv),
    "jsonl": ("application/x-ndjson", _jsonl),
    "parquet": ("application/vnd.apache.parquet", _parquet),
}


def export_stream(campaign: Campaign, table: str, ending: str) -> tuple[str, str, Iterator[bytes]]:
    """(content type, file name, blocks) of one export.

    Raises:
        DomainError: there is no such table or format.
    """
    if table not in TABLES:
        raise DomainError(f'There is no export "{table}": choose from {", ".join(TABLES)}.')
    if ending not in ENDINGS:
        raise DomainError(f'Exports have no format "{ending}": choose from {", ".join(ENDINGS)}.')
    schema, rows = TABLES[table]
    kind, write = ENDINGS[ending]
    return kind, f"campaign-{campaign.pk}-{table}.{ending}", write(schema, rows(campaign))
