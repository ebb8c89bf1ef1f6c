"""Judgements, verdicts and what they amount to as CSV, JSON Lines and Parquet, streamed; docs/formats.md describes the
columns.

Tables beside judgements and verdicts are those of the campaign's protocol. Those that rest on the answers that count
leave excluded people out, or, for everyone, count them as well.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from accounts.errors import DomainError
from labeling.models import PICTURES, TRIAL_PICTURES, Campaign, Judgement, JudgementKind, Trial, TrialKind, Verdict
from labeling.presentation import class_names
from labeling.protocols import PROTOCOLS
from labeling.protocols.base import Cell
from labeling.protocols.number import ComparisonProtocol
from labeling.querysets import exclusion_in_force
from labeling.results import Names, answers_read, opinion_scores, preferences, scales, winners

CHUNK = 2000
Row = dict[str, Any]
_TIME = pa.timestamp("us", tz="UTC")
_CELLS: dict[Cell, pa.DataType] = {
    "integer": pa.int32(), "number": pa.float64(), "text": pa.string(), "truth": pa.bool_(),
}  # fmt: skip
_ITEM = [("item_id", pa.int64()), ("corpus", pa.string()), ("row", pa.int64()), ("path", pa.string()),
         ("sha256", pa.string())]  # fmt: skip
_SECOND = [(f"{name}_b", kind) for name, kind in _ITEM]
_TRIAL = [("trial_id", pa.int64()), ("campaign_id", pa.int64()), ("trial_kind", pa.string())]


def _own(columns: tuple[tuple[str, Cell], ...]) -> list[tuple[str, pa.DataType]]:
    return [(name, _CELLS[kind]) for name, kind in columns]


def _items(campaign: Campaign) -> list[tuple[str, pa.DataType]]:
    return [*_ITEM, *_SECOND] if PROTOCOLS[campaign.protocol].n_pictures == 2 else _ITEM


def judgement_schema(campaign: Campaign) -> pa.Schema:
    return pa.schema(
        [
            ("judgement_id", pa.int64()), *_TRIAL, ("repeat_of", pa.int64()), *_items(campaign),
            ("reference_id", pa.int64()), ("person_id", pa.int64()), ("excluded", pa.bool_()),
            ("session", pa.string()), ("order", pa.int32()), ("kind", pa.string()),
            *_own(PROTOCOLS[campaign.protocol].judgement_columns), ("presented_at", _TIME),
            ("milliseconds", pa.int32()), ("created_at", _TIME), ("superseded_at", _TIME), ("device", pa.string()),
            ("window_width", pa.int32()), ("window_height", pa.int32()), ("pixel_ratio", pa.float64()),
            ("zoom", pa.float64()), ("scale", pa.float64()),
        ]
    )  # fmt: skip


def verdict_schema(campaign: Campaign) -> pa.Schema:
    return pa.schema(
        [
            *_TRIAL, *_items(campaign), ("outcome", pa.string()),
            *_own(PROTOCOLS[campaign.protocol].verdict_columns), ("n_judgements", pa.int32()),
            ("n_cannot_tell", pa.int32()), ("n_broken", pa.int32()), ("settled_at", _TIME),
        ]
    )  # fmt: skip


def _trial_cells(trial: Trial, paths: dict[int, str]) -> Row:
    cells: Row = {"trial_id": trial.pk, "campaign_id": trial.campaign_id, "trial_kind": trial.kind}
    for ending, item in (("", trial.item), ("_b", trial.second)):
        if item is not None:
            cells |= {
                f"item_id{ending}": item.pk,
                f"corpus{ending}": item.corpus.name,
                f"row{ending}": item.row,
                f"path{ending}": paths.get(item.pk),
                f"sha256{ending}": item.sha256,
            }
    return cells


def _with_paths(rows: Iterator[Any], trial_of: Callable[[Any], Trial]) -> Iterator[tuple[Any, dict[int, str]]]:
    """Each row with the paths of the pictures of its chunk."""
    while chunk := list(islice(rows, CHUNK)):
        items = [getattr(trial_of(row), place) for row in chunk for place in PICTURES]
        paths = Names.of(item for item in items if item is not None).paths
        yield from ((row, paths) for row in chunk)


_RELATED = tuple(f"{place}__corpus" for place in TRIAL_PICTURES)


def judgement_rows(campaign: Campaign, everyone: bool = True) -> Iterator[Row]:
    """Every judgement, superseded and excluded ones and those of the training included, oldest first."""
    del everyone
    rows = (
        Judgement.objects.filter(campaign=campaign)
        .select_related(*_RELATED)
        .annotate(left_out=exclusion_in_force())
        .order_by("pk")
    )
    protocol, names = PROTOCOLS[campaign.protocol], class_names(campaign.taxonomy)
    given: Counter[int] = Counter()
    for judgement, paths in _with_paths(rows.iterator(chunk_size=CHUNK), lambda row: cast("Trial", row.trial)):
        trial, viewing = judgement.trial, judgement.viewing
        given[judgement.person_id] += 1
        yield {
            "judgement_id": judgement.pk,
            **_trial_cells(trial, paths),
            "repeat_of": trial.repeat_of_id,
            "reference_id": trial.reference_id,
            "person_id": judgement.person_id,
            "excluded": judgement.left_out,
            "session": viewing.get("session"),
            "order": given[judgement.person_id],
            "kind": judgement.kind,
            **protocol.judgement_cells(
                trial.classes, judgement.value, viewing.get("sides") or [], trial.expected, names
            ),
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


def verdict_rows(campaign: Campaign, everyone: bool = False) -> Iterator[Row]:
    """The verdict of every trial that has ended, in the order of trials."""
    del everyone
    rows = Verdict.objects.filter(campaign=campaign).select_related(*_RELATED).order_by("trial_id")
    protocol, names = PROTOCOLS[campaign.protocol], class_names(campaign.taxonomy)
    for verdict, paths in _with_paths(rows.iterator(chunk_size=CHUNK), lambda row: cast("Trial", row.trial)):
        yield {
            **_trial_cells(verdict.trial, paths),
            "outcome": verdict.outcome,
            **protocol.verdict_cells(verdict.trial.classes, verdict.value, verdict.counts, names),
            "n_judgements": verdict.n_judgements,
            "n_cannot_tell": verdict.n_cannot_tell,
            "n_broken": verdict.n_broken,
            "settled_at": verdict.settled_at,
        }


MOS = pa.schema(
    [
        ("path", pa.string()), ("mos", pa.float64()), ("std", pa.float64()), ("n", pa.int32()), ("low", pa.float64()),
        ("high", pa.float64()), ("quality_ml", pa.float64()), ("quality_ml_low", pa.float64()),
        ("quality_ml_high", pa.float64()), ("corpus", pa.string()), ("row", pa.int64()), ("sha256", pa.string()),
    ]
)  # fmt: skip
PREFERENCES = pa.schema(
    [
        ("trial_id", pa.int64()), ("path", pa.string()), ("path_b", pa.string()), ("mean", pa.float64()),
        ("std", pa.float64()), ("n", pa.int32()), ("low", pa.float64()), ("high", pa.float64()),
        ("prefer_a", pa.int32()), ("prefer_neither", pa.int32()), ("prefer_b", pa.int32()),
    ]
)  # fmt: skip
SCALE = pa.schema(
    [
        ("scene", pa.string()), ("path", pa.string()), ("score", pa.float64()), ("low", pa.float64()),
        ("high", pa.float64()), ("rank", pa.int32()), ("rank_best", pa.int32()), ("rank_worst", pa.int32()),
        ("votes", pa.int32()), ("component", pa.int32()),
    ]
)  # fmt: skip
VOTES = pa.schema(
    [("person", pa.int64()), ("a", pa.string()), ("b", pa.string()), ("winner", pa.string()), ("scene", pa.string())]
)
OPINIONS = pa.schema(
    [
        ("person", pa.int64()), ("item", pa.string()), ("value", pa.float64()), ("repeat", pa.bool_()),
        ("gold", pa.float64()),
    ]
)  # fmt: skip


def mos_rows(campaign: Campaign, everyone: bool = False) -> Iterator[Row]:
    """Mean opinion scores of rated pictures."""
    lines = opinion_scores(campaign, everyone=everyone).lines
    names = Names.of_ids(line["item"] for line in lines)
    for line in lines:
        item = names.items[line["item"]]
        yield {
            **{name: line[name] for name in ("mos", "std", "n", "low", "high")},
            **{f"quality_ml{end}": line[f"quality{end}"] for end in ("", "_low", "_high")},
            "path": names.label(item.pk),
            "corpus": item.corpus.name,
            "row": item.row,
            "sha256": item.sha256,
        }


def preference_rows(campaign: Campaign, everyone: bool = False) -> Iterator[Row]:
    """Mean preferences of compared pairs."""
    lines = preferences(campaign, everyone=everyone)
    names = Names.of_ids(item for line in lines for item in (line["item"], line["second"]))
    for line in lines:
        yield {
            **{name: line[name] for name in ("mean", "std", "n", "low", "high")},
            "trial_id": line["trial"],
            "path": names.label(line["item"]),
            "path_b": names.label(line["second"]),
            "prefer_a": line["first"],
            "prefer_neither": line["neither"],
            "prefer_b": line["last"],
        }


def scale_rows(campaign: Campaign, everyone: bool = False) -> Iterator[Row]:
    """Bradley-Terry scales of compared pictures."""
    found = scales(campaign, everyone=everyone)
    names = Names.of_ids(line["item"] for scene in found for line in scene.lines)
    for scene in found:
        yield from ({**line, "scene": scene.name, "path": names.label(line["item"])} for line in scene.lines)


def vote_rows(campaign: Campaign, everyone: bool = False) -> Iterator[Row]:
    """Every comparison that counts as a vote, in the order in which it was given."""
    answers = answers_read(campaign, everyone=everyone)
    protocol = cast("ComparisonProtocol", PROTOCOLS[campaign.protocol])
    names = Names.of_ids([*answers.item.tolist(), *answers.second.tolist()])
    scenes = names.scenes(answers).tolist() if len(answers) else []
    winner = {1.0: "a", 0.0: "b", 0.5: "tie"}
    won = winners(protocol, answers.value).tolist()
    columns = (answers.person.tolist(), answers.item.tolist(), answers.second.tolist(), won, scenes)
    for person, first, second, outcome, scene in zip(*columns, strict=True):
        yield {
            "person": person,
            "a": names.label(first),
            "b": names.label(second),
            "winner": winner[outcome],
            "scene": scene,
        }


def opinion_rows(campaign: Campaign, everyone: bool = False) -> Iterator[Row]:
    """Every answer as a person's number for an item (of a pair, both), with repeats and gold, oldest first."""
    rows = Judgement.objects.in_force().filter(campaign=campaign, kind=JudgementKind.ANSWER)
    rows = rows.exclude(trial__kind=TrialKind.TRAINING).order_by("pk")
    if not everyone:
        rows = rows.filter(~exclusion_in_force())
    pairs = Trial.objects.filter(campaign=campaign).values_list("item_id", "second_id")
    names = Names.of_ids(item for pair in pairs for item in pair if item)
    columns = rows.values_list(
        "person_id", "value", "trial__kind", "trial__expected", "trial__item_id", "trial__second_id"
    )
    for person, value, kind, expected, item, second in columns.iterator(CHUNK):
        yield {
            "person": person,
            "item": " | ".join(names.label(each) for each in (item, second) if each),
            "value": float(value["value"]),
            "repeat": kind == TrialKind.REPEAT,
            "gold": (expected["low"] + expected["high"]) / 2 if kind == TrialKind.GOLD and expected else None,
        }


@dataclass(frozen=True)
class Table:
    """An export. ``rows(campaign, everyone)``; ``has_views``: whether it differs with excluded people counted."""

    about: str
    schema: Callable[[Campaign], pa.Schema]
    rows: Callable[[Campaign, bool], Iterator[Row]]
    has_views: bool = True


TABLES = {
    "judgements": Table("every answer ever given", judgement_schema, judgement_rows, has_views=False),
    "verdicts": Table("what each trial amounts to", verdict_schema, verdict_rows, has_views=False),
    "mos": Table("mean opinion score of each picture", lambda _: MOS, mos_rows),
    "preferences": Table("mean preference in each pair", lambda _: PREFERENCES, preference_rows),
    "scale": Table("Bradley-Terry score of each picture", lambda _: SCALE, scale_rows),
    "votes": Table("comparisons as votes", lambda _: VOTES, vote_rows),
    "opinions": Table("answers as numbers of persons for items", lambda _: OPINIONS, opinion_rows),
}


def tables_of(campaign: Campaign) -> dict[str, Table]:
    """The exports that a campaign has."""
    return {name: TABLES[name] for name in ("judgements", "verdicts", *PROTOCOLS[campaign.protocol].tables)}


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
        yield json.dumps({name: _plain(row.get(name)) for name in schema.names}, ensure_ascii=False).encode() + b"\n"


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


def export_stream(
    campaign: Campaign, table: str, ending: str, *, everyone: bool = False
) -> tuple[str, str, Iterator[bytes]]:
    """(content type, file name, blocks) of one export.

    Args:
        everyone: count the answers of excluded people as well, in tables that rest on the answers that count.

    Raises:
        DomainError: there is no such table or format.
    """
    tables = tables_of(campaign)
    if table not in tables:
        raise DomainError(f'This campaign has no export "{table}": choose from {", ".join(tables)}.')
    if ending not in ENDINGS:
        raise DomainError(f'Exports have no format "{ending}": choose from {", ".join(ENDINGS)}.')
    kind, write = ENDINGS[ending]
    view = "-everyone" if everyone and tables[table].has_views else ""
    rows = tables[table].rows(campaign, everyone)
    return kind, f"campaign-{campaign.pk}-{table}{view}.{ending}", write(tables[table].schema(campaign), rows)
