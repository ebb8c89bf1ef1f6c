"""Everything a competition knows, as tables with one schema each (docs/formats.md): CSV, JSON Lines and Parquet."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from django.utils.text import slugify

from accounts.errors import DomainError
from competition import loop
from competition.kinds import KINDS
from competition.kinds.gmad import preference_of
from competition.models import Competition, Exhibit, Snapshot
from corpora.reading import records_of
from labeling.exports import ENDINGS
from labeling.models import Judgement, JudgementKind
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
        ("model", _TEXT), ("measure", _TEXT), ("score", _NUMBER), ("low", _NUMBER), ("high", _NUMBER), ("rank", _COUNT),
        ("rank_best", _COUNT), ("rank_worst", _COUNT), ("n_images", _COUNT), ("digest", _TEXT),
    ]
)  # fmt: skip
VERDICT_SCHEMA = pa.schema(
    [("model_a", _TEXT), ("model_b", _TEXT), ("path", _TEXT), ("a_correct", _YES), ("b_correct", _YES)]
)
PAIR_SCHEMA = pa.schema(
    [
        ("exhibit", _COUNT), ("round", _COUNT), ("role", _TEXT), ("attacker", _TEXT), ("defender", _TEXT),
        ("level", _COUNT), ("rank", _COUNT),
        ("worst_row", _COUNT), ("worst_path", _TEXT), ("worst_sha256", _TEXT),
        ("best_row", _COUNT), ("best_path", _TEXT), ("best_sha256", _TEXT),
        ("attacker_worst", _NUMBER), ("attacker_best", _NUMBER), ("defender_worst", _NUMBER),
        ("defender_best", _NUMBER), ("predictions", _TEXT),
        ("trial", _COUNT), ("outcome", _TEXT), ("preference", _NUMBER), ("dropped", _YES), ("settled_at", _TIME),
    ]
)  # fmt: skip
PREFERENCE_SCHEMA = pa.schema(
    [("attacker", _TEXT), ("defender", _TEXT), ("level", _COUNT), ("person", _COUNT), ("score", _NUMBER)]
)
LEVEL_SCHEMA = pa.schema([("defender", _TEXT), ("level", _COUNT), ("centre", _NUMBER), ("count", _COUNT)])


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
                "measure": standing.measure,
                "score": standing.score,
                "low": standing.low,
                "high": standing.high,
                "rank": standing.rank,
                "rank_best": standing.rank_best,
                "rank_worst": standing.rank_worst,
                "n_images": standing.n_images,
                "digest": snapshot.digest,
            }


def pair_rows(competition: Competition) -> Iterator[dict[str, Any]]:
    """Every exhibit of a gMAD competition, control included, in the order of selection."""
    entrants = {entrant.pk: str(entrant) for entrant in competition.entrants.select_related("version__model")}
    related = ("item", "second_item", "round", "trial__verdict", "duel")
    order = ("round__number", "duel__first__number", "duel__second__number", "level", "rank", "pk")
    exhibits = Exhibit.objects.filter(round__competition=competition).select_related(*related).order_by(*order)
    for chunk in _chunks(exhibits.iterator(AT_ONCE)):
        rows = sorted({item.row for exhibit in chunk for item in (exhibit.item, exhibit.second_item) if item})
        records = records_of(competition.corpus, rows, ["path"])
        paths = dict(zip(rows, (record["path"] for record in records), strict=True))
        for exhibit in chunk:
            yield dict.fromkeys(PAIR_SCHEMA.names) | _pair_row(exhibit, paths, entrants)


def _pair_row(exhibit: Exhibit, paths: Mapping[int, str], entrants: Mapping[int, str]) -> dict[str, Any]:
    duel, verdict = exhibit.duel, getattr(exhibit.trial, "verdict", None)
    roles = {"attacker": duel.first_id, "defender": duel.second_id} if duel else {}
    said = {role: exhibit.predictions.get(str(pk), (None, None)) for role, pk in roles.items()}
    everyone = {entrants[int(pk)]: scores for pk, scores in exhibit.predictions.items()}
    return {
        "exhibit": exhibit.pk,
        "round": exhibit.round.number,
        "role": exhibit.role,
        **{role: entrants[pk] for role, pk in roles.items()},
        "level": exhibit.level,
        "rank": exhibit.rank,
        **{
            f"{end}_{name}": value
            for end, item in (("best", exhibit.item), ("worst", exhibit.second_item))
            if item
            for name, value in (("row", item.row), ("path", paths[item.row]), ("sha256", item.sha256))
        },
        **{f"{role}_{end}": scores[at] for role, scores in said.items() for at, end in enumerate(("best", "worst"))},
        "predictions": None if duel else json.dumps(everyone, sort_keys=True),
        "trial": exhibit.trial_id,
        "outcome": verdict.outcome if verdict else None,
        "preference": exhibit.preference,
        "dropped": exhibit.dropped,
        "settled_at": verdict.settled_at if verdict else None,
    }


def preference_rows(competition: Competition) -> Iterator[dict[str, Any]]:
    """What ``manage.py gmad rank`` takes: every answer that counts, once for each cell that asked for its pair, of the
    pairs that people came to a verdict on."""
    options = KINDS[competition.kind].options(competition)
    asked: defaultdict[int, list[tuple[Exhibit, int, dict[str, Any]]]] = defaultdict(list)
    exhibits = Exhibit.objects.counted().filter(round__competition=competition)
    related = ("round", "trial", "duel__first__version__model", "duel__second__version__model")
    for exhibit in exhibits.select_related(*related):
        level = _level_over_rounds(exhibit.round.number, exhibit.level or 1, options.levels)
        duel, trial = exhibit.duel, exhibit.trial
        if duel is not None and trial is not None:
            cell = {"attacker": str(duel.first), "defender": str(duel.second), "level": level}
            asked[trial.pk].append((exhibit, trial.item_id, cell))
    campaigns = competition.rounds.exclude(campaign=None).values("campaign")
    judgements = Judgement.objects.counted().filter(campaign__in=campaigns, kind=JudgementKind.ANSWER).order_by("pk")
    for answered, person, value in judgements.values_list("trial", "person", "value").iterator(AT_ONCE):
        for exhibit, first_item, cell in asked.get(answered, ()):
            score = preference_of(exhibit, first_item, value["value"], options.protocol)
            yield {**cell, "person": person, "score": score}


def level_rows(competition: Competition) -> Iterator[dict[str, Any]]:
    """The levels that ``manage.py gmad rank`` takes beside the judgements; a round before an entrant's first has none
    of its images."""
    n_levels = KINDS[competition.kind].options(competition).levels
    entrants = list(competition.entrants.select_related("version__model").order_by("number"))
    for round_ in competition.rounds.order_by("number"):
        described = round_.facts.get("entrants", {})
        for entrant in entrants:
            facts = described.get(str(entrant.pk)) or {"centre": [None] * n_levels, "count": [0] * n_levels}
            for at, (centre, count) in enumerate(zip(facts["centre"], facts["count"], strict=True), start=1):
                level = _level_over_rounds(round_.number, at, n_levels)
                yield {"defender": str(entrant), "level": level, "centre": centre, "count": count}


def _level_over_rounds(number: int, level: int, n_levels: int) -> int:
    """Levels of later rounds count on behind those of earlier ones: they hold other images."""
    return (number - 1) * n_levels + level


READING_SCHEMA = pa.schema(
    [
        ("round", _COUNT), ("target", _TEXT), ("reading", _TEXT), ("measure", _TEXT), ("images", _COUNT),
        ("value", _NUMBER), ("low", _NUMBER), ("high", _NUMBER),
    ]
)  # fmt: skip


def reading_rows(competition: Competition) -> Iterator[dict[str, Any]]:
    """What the rounds of a competition that troubleshoots a version measured: a row per reading and measure."""
    for line in loop.loop_read(competition):
        head = {"round": line["round"].number, "target": str(line["target"] or "")}
        share = line["failures"]
        if share:
            yield {**head, "reading": "failures", "measure": "rate", "images": share["n"],
                   "value": share["rate"], "low": share["low"], "high": share["high"]}  # fmt: skip
        fresh, control = line["fresh"] or {}, line["control"] or {}
        parts = {"test": line["test"], "fresh": fresh.get("new"), "fresh, target before": fresh.get("old"),
                 "control": control.get("new"), "control, target before": control.get("old")}  # fmt: skip
        for name, reading in parts.items():
            for measure, found in (reading or {}).items():
                if isinstance(found, dict) and "value" in found:
                    n = (fresh if name.startswith("fresh") else control if name.startswith("control") else reading).get(
                        "n"
                    )
                    yield {**head, "reading": name, "measure": measure, "images": n, **found}


_READINGS = Table("Readings: failures and agreement of each round's target", READING_SCHEMA, reading_rows)
_STANDINGS = Table("Standings: every leaderboard", STANDING_SCHEMA, standing_rows)
TABLES: dict[str, dict[str, Table]] = {
    "mad": {
        "selections": Table("Selections: every exhibit with what the models said", SELECTION_SCHEMA, selection_rows),
        "verdicts": Table("Verdicts: who is right on each exhibit", VERDICT_SCHEMA, verdict_rows),
        "standings": _STANDINGS,
    },
    "gmad": {
        "selections": Table("Selections: every pair with what the models said", PAIR_SCHEMA, pair_rows),
        "judgements": Table("Judgements: every answer, by the cell that asked", PREFERENCE_SCHEMA, preference_rows),
        "levels": Table("Levels: centre and number of images", LEVEL_SCHEMA, level_rows),
        "standings": _STANDINGS,
    },
    "self_gmad": {
        "selections": Table("Selections: every pair with what target and ensembles said", PAIR_SCHEMA, pair_rows),
        "readings": _READINGS,
    },
    "self_mad": {
        "selections": Table(
            "Selections: every exhibit with what target and ensembles said", SELECTION_SCHEMA, selection_rows
        ),
        "readings": _READINGS,
    },
}
"""By kind and name."""


def export_stream(competition: Competition, table: str, ending: str) -> tuple[str, str, Iterator[bytes]]:
    """(content type, file name, blocks) of one export.

    Raises:
        DomainError: there is no such table or format.
    """
    tables = TABLES[competition.kind]
    if table not in tables:
        raise DomainError(f'There is no export "{table}" of such a competition: choose from {", ".join(tables)}.')
    if ending not in ENDINGS:
        raise DomainError(f'Exports have no format "{ending}": choose from {", ".join(ENDINGS)}.')
    kind, write = ENDINGS[ending]
    chosen = tables[table]
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
