"""The statements of the annotator's round trip, written out.

Building a query takes Django several times longer than running it, and these few run once per answer: written out, the
round trip takes a third of the processor time (benchmarks/bench_labelling.py). Each is a function that gives model
instances with the columns that the round trip needs; other columns load on access. They run on PostgreSQL and SQLite.

Locks: PostgreSQL locks the row that a statement names (``FOR NO KEY UPDATE``, so that foreign keys to it do not wait),
and passes over rows that others are claiming (``SKIP LOCKED``). SQLite knows neither: its transactions begin IMMEDIATE
and run one after the other.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db import connection
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from corpora.models import Item, Taxonomy
from labeling.models import PICTURES, Campaign, Judgement, Participation, Slot, Trial

PARTICIPATION = ("id", "campaign_id", "person_id", "consented_at", "trained_at", "stopped_at", "served", "viewing")
CAMPAIGN = (
    "id", "name", "protocol", "state", "taxonomy_id", "overlap", "extra_slots", "lease_seconds", "gold_share",
    "gold_warn", "gold_stop", "gold_minimum", "repeat_share", "require_viewing", "seed", "sampling",
)  # fmt: skip
SLOT = ("id", "trial_id", "campaign_id", "state", "person_id", "taken_from_id", "position", "is_shared")
TRIAL = (
    "id",
    "campaign_id",
    "item_id",
    "second_id",
    "reference_id",
    "kind",
    "state",
    "position",
    "classes",
    "expected",
    "explanation",
    "repeat_of_id",
)
ITEM = ("id", "width", "height")
TIMES = {"consented_at", "trained_at", "stopped_at"}
TRUTHS = {"require_viewing", "is_shared"}
OBJECTS = {"viewing", "classes", "expected"}


def _columns(alias: str, names: Sequence[str]) -> str:
    return ", ".join(f"{alias}.{name}" for name in names)


PARTICIPATION_LOCK = f"""
SELECT {_columns("p", PARTICIPATION)}, {_columns("c", CAMPAIGN)}, t.digest,
    EXISTS (SELECT 1 FROM labeling_exclusion e WHERE e.participation_id = p.id AND e.lifted_at IS NULL)
FROM labeling_participation p
JOIN labeling_campaign c ON c.id = p.campaign_id
LEFT JOIN corpora_taxonomy t ON t.id = c.taxonomy_id
WHERE p.campaign_id = %s AND p.person_id = %s
"""  # noqa: S608 - names of columns, nobody's input

SLOT_READ = f"""
SELECT {_columns("s", SLOT)}, {_columns("t", TRIAL)}
FROM labeling_slot s JOIN labeling_trial t ON t.id = s.trial_id
WHERE s.id = %s AND s.campaign_id = %s
"""  # noqa: S608 - names of columns, nobody's input

SLOT_FINISH = """
UPDATE labeling_slot SET state = 'done', leased_until = NULL WHERE id = %s AND person_id = %s AND state = 'leased'
"""

JUDGEMENT = (
    "slot_id", "trial_id", "campaign_id", "person_id", "key", "kind", "value", "presented_at", "milliseconds",
    "viewing", "created_at",
)  # fmt: skip
JUDGEMENT_ADD = f"""
INSERT INTO labeling_judgement ({", ".join(JUDGEMENT)}) VALUES ({", ".join(["%s"] * len(JUDGEMENT))}) RETURNING id
"""  # noqa: S608 - names of columns, nobody's input

VOTES = """
SELECT s.trial_id, s.id, s.number, s.state, j.kind, j.value, e.id
FROM labeling_slot s
LEFT JOIN labeling_judgement j ON j.slot_id = s.id AND j.superseded_at IS NULL
LEFT JOIN labeling_participation p ON p.campaign_id = s.campaign_id AND p.person_id = s.person_id
LEFT JOIN labeling_exclusion e ON e.participation_id = p.id AND e.lifted_at IS NULL
WHERE s.is_shared AND s.trial_id IN ({places})
"""

HELD_COUNT = "SELECT count(*) FROM labeling_slot WHERE campaign_id = %s AND person_id = %s AND state = 'leased'"

HELD = f"""
SELECT {_columns("s", SLOT)}, {_columns("t", TRIAL)},
    {_columns("i", ITEM)}, {_columns("i2", ITEM)}, {_columns("i3", ITEM)}
FROM labeling_slot s
JOIN labeling_trial t ON t.id = s.trial_id
JOIN corpora_item i ON i.id = t.item_id
LEFT JOIN corpora_item i2 ON i2.id = t.second_id
LEFT JOIN corpora_item i3 ON i3.id = t.reference_id
WHERE s.campaign_id = %s AND s.person_id = %s AND s.state = 'leased'
ORDER BY s.leased_until, s.position, s.id
"""  # noqa: S608 - names of columns, nobody's input

# The first candidate that is new to the person; what it had been is checked again when it is taken.
CLAIM = """
UPDATE labeling_slot
SET state = 'leased', taken_from_id = COALESCE(person_id, taken_from_id), person_id = %s, leased_until = %s
WHERE id = (
    SELECT s.id FROM labeling_slot s
    WHERE s.campaign_id = %s AND {candidate} AND s.is_shared
        AND NOT EXISTS (SELECT 1 FROM labeling_slot o WHERE o.trial_id = s.trial_id AND o.person_id = %s)
        AND NOT EXISTS (SELECT 1 FROM labeling_skip k WHERE k.trial_id = s.trial_id AND k.person_id = %s)
    ORDER BY s.position, s.id LIMIT 1 {skip_locked}
) AND {again}
RETURNING id
"""
OPEN = ("s.state = 'open' AND s.position > %s", "state = 'open'")
RUN_OUT = ("s.state = 'leased' AND s.leased_until < %s", "state = 'leased' AND leased_until < %s")


def _plain(name: str, value: Any) -> Any:
    """A column as the model would give it, from what the driver gives."""
    if value is None:
        return None
    if name in TIMES and isinstance(value, str):
        moment = parse_datetime(value)
        return moment and timezone.make_aware(moment, timezone.get_default_timezone())
    if name in OBJECTS and isinstance(value, str):
        return json.loads(value)
    return bool(value) if name in TRUTHS else value


@cache
def _order(model: Any, names: tuple[str, ...]) -> tuple[list[str], list[int]]:
    """The columns in the order of the model's fields, and their places in ``names``."""
    known = [field.attname for field in model._meta.concrete_fields if field.attname in names]
    return known, [names.index(name) for name in known]


def _instance(model: Any, names: tuple[str, ...], values: Sequence[Any]) -> Any:
    """An instance with these columns; the others are deferred."""
    known, places = _order(model, names)
    return model.from_db(connection.alias, known, [_plain(names[place], values[place]) for place in places])


def _lock(clause: str) -> str:
    return clause if connection.features.has_select_for_update else ""


def _moment(value: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(value)


def _all(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def participation_locked(campaign_id: int, person_id: int) -> Participation | None:
    """A person's part with campaign, digest of the taxonomy, and ``is_excluded``; locked."""
    rows = _all(PARTICIPATION_LOCK + _lock("FOR NO KEY UPDATE OF p"), [campaign_id, person_id])
    if not rows:
        return None
    row, cut = rows[0], len(PARTICIPATION)
    participation: Participation = _instance(Participation, PARTICIPATION, row[:cut])
    campaign: Campaign = _instance(Campaign, CAMPAIGN, row[cut : cut + len(CAMPAIGN)])
    if campaign.taxonomy_id is not None:
        campaign.taxonomy = _instance(Taxonomy, ("id", "digest"), (campaign.taxonomy_id, row[-2]))
    participation.campaign = campaign
    participation.is_excluded = bool(row[-1])
    return participation


def slot_read(slot_id: int, campaign_id: int) -> Slot | None:
    """A slot with its trial; the trial is locked."""
    rows = _all(SLOT_READ + _lock("FOR NO KEY UPDATE OF t"), [slot_id, campaign_id])
    return _slot(rows[0]) if rows else None


def _slot(row: Sequence[Any]) -> Slot:
    slot: Slot = _instance(Slot, SLOT, row[: len(SLOT)])
    slot.trial = _instance(Trial, TRIAL, row[len(SLOT) : len(SLOT) + len(TRIAL)])
    return slot


def slot_finish(slot_id: int, person_id: int) -> bool:
    """Leased to this person -> done; whether it was."""
    with connection.cursor() as cursor:
        cursor.execute(SLOT_FINISH, [slot_id, person_id])
        return bool(cursor.rowcount == 1)


def judgement_add(judgement: Judgement) -> None:
    """Insert a judgement; gives it its id and time of creation. Raises IntegrityError as saving it would."""
    judgement.created_at = timezone.now()
    ops, key = connection.ops, judgement.key
    adapted = {
        "key": key if connection.features.has_native_uuid_field else key.hex,
        "value": ops.adapt_json_value(judgement.value, None),
        "viewing": ops.adapt_json_value(judgement.viewing, None),
        "presented_at": _moment(judgement.presented_at),
        "created_at": _moment(judgement.created_at),
    }
    values = [adapted[name] if name in adapted else getattr(judgement, name) for name in JUDGEMENT]
    judgement.pk = int(_all(JUDGEMENT_ADD, values)[0][0])
    judgement._state.adding, judgement._state.db = False, connection.alias


def votes_read(trial_ids: Sequence[int]) -> list[tuple[int, int, int, str, str | None, Any, bool]]:
    """(trial, slot, number, state, kind, value, is excluded) of the shared slots of trials; judgements in force."""
    if not trial_ids:
        return []
    rows = _all(VOTES.format(places=", ".join(["%s"] * len(trial_ids))), list(trial_ids))
    return [(*row[:5], json.loads(row[5]) if isinstance(row[5], str) else row[5], row[6] is not None) for row in rows]


def held_count(campaign_id: int, person_id: int) -> int:
    """How many trials a person holds."""
    return int(_all(HELD_COUNT, [campaign_id, person_id])[0][0])


def held_read(campaign_id: int, person_id: int) -> list[Slot]:
    """What a person holds, with trial and pictures, in the order in which it was handed out."""
    slots = []
    for row in _all(HELD, [campaign_id, person_id]):
        slot = _slot(row)
        for place, name in enumerate(PICTURES):
            end = len(row) - (len(PICTURES) - 1 - place) * len(ITEM)
            values = row[end - len(ITEM) : end]
            setattr(slot.trial, name, None if values[0] is None else _instance(Item, ITEM, values))
        slots.append(slot)
    return slots


def slot_claim_open(campaign_id: int, person_id: int, until: datetime, *, after: int = -1) -> bool:
    """Lease the first open shared slot behind position ``after`` to the person; whether there was one."""
    return _claim(OPEN, campaign_id, person_id, until, [after], [])


def slot_claim_run_out(campaign_id: int, person_id: int, until: datetime, *, now: datetime) -> bool:
    """Lease the first shared slot whose lease ran out to the person; whether there was one."""
    return _claim(RUN_OUT, campaign_id, person_id, until, [_moment(now)], [_moment(now)])


def _claim(
    which: tuple[str, str], campaign_id: int, person_id: int, until: datetime, inner: list[Any], outer: list[Any]
) -> bool:
    sql = CLAIM.format(candidate=which[0], again=which[1], skip_locked=_lock("FOR NO KEY UPDATE SKIP LOCKED"))
    parameters = [person_id, _moment(until), campaign_id, *inner, person_id, person_id, *outer]
    return bool(_all(sql, parameters))
