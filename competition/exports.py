"""Everything a competition knows, as tables with one schema each (docs/formats.md): CSV, JSON Lines and Parquet."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from django.utils.text import slugify

from accounts.errors import DomainError
from competition.models import Competition, Exhibit, Snapshot
from corpora.reading import records_of
from labeling.exports import ENDINGS
from models_zoo.reading import class_names

AT_ONCE = 2_000

_TEXT, _NUMBER, _COUNT, _YES = pa.string(), pa.float64(), pa.int64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")

SELECTION_SCHEMA = pa.schema(
    [
        ("exhibit", _COUNT), ("round", _COUNT), ("role", _TEXT), ("rank", _COUNT),
        ("model_a", _TEXT), ("model_b", _TEXT), ("row", _COUNT), ("path", _TEXT), ("sha256", _TEXT),
        ("class_a", _COUNT), ("class_b", _COUNT), ("class_name_a", _TEXT), ("class_name_b", _TEXT),
        ("distance", _NUMBER), ("confidence_a", _NUMBER), ("confidence_b", _NUMBER), ("predictions", _TEXT),
        ("trial", _COUNT), ("outcome", _TEXT), ("a_correct", _YES), ("b_correct", _YES), ("dropped", _YES),
        ("settled_at", _TIME),
    ]
)  # fmt: skip
STANDING_SCHEMA = pa.schema(
    [
        ("snapshot", _COUNT), ("round", _COUNT), ("created_at", _TIME), ("counts_everyone", _YES),
        ("model", _TEXT), ("score", _NUMBER), ("low", _NUMBER), ("high", _NUMBER), ("rank", _COUNT),
        ("rank_best", _COUNT), ("rank_worst", _COUNT), ("n_images", _COUNT), ("digest", _TEXT),
    ]
)  # fmt: skip
VERDICT_SCHEMA = pa.schema(
    [("model_a", _TEXT), ("model_b", _TEXT), ("path", _TEXT), ("a_correct", _YES), ("b_correct", _YES)]
)


@dataclass(frozen=True)
class Table:
    """What is exported: its title, its columns and how its rows are read."""

    title: str
    schema: pa.Schema
    rows: Callable[[Competition], Iterable[dict[str, Any]]]


def selection_rows(competition: Competition) -> Iterator[dict[str, Any]]:
    """Every exhibit, reserve and control included, in the order of selection."""
    names = class_names(competition.taxonomy)
    entrants = {entrant.pk: str(entrant) for entrant in competition.entrants.select_related("version__model")}
    related = ("item", "round", "trial__verdict", "duel__first__version__model", "duel__second__version__model")
    order = ("round__number", "duel__first__number", "duel__second__number", "rank", "pk")
    exhibits = Exhibit.objects.filter(round__competition=competition).select_related(*related).order_by(*order)
    for chunk in _chunks(exhibits.iterator(AT_ONCE)):
        paths = records_of(competition.corpus, [exhibit.item.row for exhibit in chunk], ["path"])
        for exhibit, record in zip(chunk, paths, strict=True):
            yield _selection_row(exhibit, record["path"], names, entrants)


def _selection_row(exhibit: Exhibit, path: str, names: list[str], entrants: dict[int, str]) -> dict[str, Any]:
    duel, verdict = exhibit.duel, getattr(exhibit.trial, "verdict", None)
    said = {entrants[int(pk)]: label for pk, label in exhibit.predictions.items()}
    return {
        "exhibit": exhibit.pk,
        "round": exhibit.round.number,
        "role": exhibit.role,
        "rank": exhibit.rank,
        "model_a": str(duel.first) if duel else None,
        "model_b": str(duel.second) if duel else None,
        "row": exhibit.item.row,
        "path": path,
        "sha256": exhibit.item.sha256,
        "class_a": exhibit.class_first,
        "class_b": exhibit.class_second,
        "class_name_a": None if exhibit.class_first is None else names[exhibit.class_first],
        "class_name_b": None if exhibit.class_second is None else names[exhibit.class_second],
        "distance": exhibit.distance,
        "confidence_a": exhibit.confidence_first,
        "confidence_b": exhibit.confidence_second,
        "predictions": json.dumps(said, sort_keys=True) if said else None,
        "trial": exhibit.trial_id,
        "outcome": verdict.outcome if verdict else None,
        "a_correct": exhibit.right_first,
        "b_correct": exhibit.right_second,
        "dropped": exhibit.dropped,
        "settled_at": verdict.settled_at if verdict else None,
    }


def verdict_rows(competition: Competition) -> Iterator[dict[str, Any]]:
    """What ``manage.py mad rank`` takes: one line per exhibit of a duel that people came to a verdict on."""
    for row in selection_rows(competition):
        if row["role"] == "selected" and row["a_correct"] is not None and row["b_correct"] is not None:
            yield {name: row[name] for name in VERDICT_SCHEMA.names}


def standing_rows(competition: Competition) -> Iterator[dict[str, Any]]:
    """Every line of every leaderboard, newest snapshot first."""
    snapshots = Snapshot.objects.filter(competition=competition).select_related("round").order_by("-number")
    for snapshot in snapshots.defer("matrices", "k_curve", "control", "agreement").prefetch_related(
        "standings__entrant__version__model"
    ):
        for standing in snapshot.standings.all():
            yield {
                "snapshot": snapshot.number,
                "round": snapshot.round.number,
                "created_at": snapshot.created_at,
                "counts_everyone": snapshot.counts_everyone,
                "model": str(standing.entrant),
                "score": standing.score,
                "low": standing.low,
                "high": standing.high,
                "rank": standing.rank,
                "rank_best": standing.rank_best,
                "rank_worst": standing.rank_worst,
                "n_images": standing.n_images,
                "digest": snapshot.digest,
            }


TABLES = {
    "selections": Table("Selections: every exhibit with what the models said", SELECTION_SCHEMA, selection_rows),
    "verdicts": Table("Verdicts: who is right on each exhibit", VERDICT_SCHEMA, verdict_rows),
    "standings": Table("Standings: every leaderboard", STANDING_SCHEMA, standing_rows),
}


def export_stream(competition: Competition, table: str, ending: str) -> tuple[str, str, Iterator[bytes]]:
    """(content type, file name, blocks) of one export.

    Raises:
        DomainError: there is no such table or format.
    """
    if table not in TABLES:
        raise DomainError(f'There is no export "{table}": choose from {", ".join(TABLES)}.')
    if ending not in ENDINGS:
        raise DomainError(f'Exports have no format "{ending}": choose from {", ".join(ENDINGS)}.')
    kind, write = ENDINGS[ending]
    chosen = TABLES[table]
    name = f"{slugify(competition.name) or 'competition'}-{table}.{ending}"
    return kind, name, write(chosen.schema, iter(chosen.rows(competition)))


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Lists of at most ``AT_ONCE``."""
    chunk: list[Any] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
