"""A gMAD round's selection: calibrates the entrants, asks ``competition.selection.gmad``, keeps duels and exhibits.

Everything is kept in one transaction, so a round that is killed and started again ends with the same rows as one that
was not. Duels that exist are never touched again: a newcomer adds its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from django.db import transaction

from accounts.errors import DomainError
from competition.kinds.gmad import GMAD, GmadOptions
from competition.models import Competition, Duel, Entrant, Exhibit, ExhibitRole, Round
from competition.numbers import plain
from corpora.models import Item
from corpora.reading import content_groups, manifest_of, opinion_table
from corpora.services import item_ensure
from models_zoo.models import Scores
from models_zoo.reading import oriented

if TYPE_CHECKING:
    from competition.selection.calibration import Calibrated, QuantileMap
    from competition.selection.gmad import ControlPairs, Selection
    from jobs.context import JobContext
    from labeling.psychometrics.logistic import Logistic

ITEMS_AT_ONCE = 100
SHORTAGE_LENGTH = 300
LEVELS_NAMED = 6


@dataclass(frozen=True)
class Hidden:
    """A column in which the hidden rows (ascending) read as not scored."""

    column: "Calibrated"
    rows: np.ndarray

    @property
    def dtype(self) -> Any:
        return self.column.dtype

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        start, stop, _ = rows.indices(len(self.column))
        block = np.array(self.column[start:stop])
        first, last = np.searchsorted(self.rows, [start, stop])
        block[self.rows[first:last] - start] = np.nan
        return block


@dataclass(frozen=True)
class Field:
    """The entrants of a round in the order of their numbers, with their calibrated columns, higher = better."""

    entrants: tuple[Entrant, ...]
    columns: tuple["Calibrated", ...]
    facts: tuple[dict[str, Any], ...]  # how each was calibrated

    @property
    def names(self) -> list[str]:
        return [str(entrant) for entrant in self.entrants]

    def says(self, position: int, row: int) -> float:
        return float(self.columns[position][row : row + 1][0])


def field_read(competition: Competition) -> Field:
    """Every entrant's scores on the common scale.

    Raises:
        DomainError: one is not scored yet, or cannot be calibrated.
    """
    from competition.selection.calibration import Calibrated

    entrants = tuple(competition.entrants.select_related("version__model").order_by("number"))
    found = Scores.objects.filter(corpus=competition.corpus, version__in=[entrant.version_id for entrant in entrants])
    scores = {each.version_id: each for each in found.select_related("version__model", "corpus")}
    columns, facts = [], []
    for entrant in entrants:
        known = scores.get(entrant.version_id) or Scores(version=entrant.version, corpus=competition.corpus)
        column = oriented(known)
        scale, how = _scale(competition, str(entrant), column)
        columns.append(Calibrated(column, scale))
        facts.append(how)
    return Field(entrants, tuple(columns), tuple(facts))


def _scale(competition: Competition, name: str, column: np.ndarray) -> tuple["Logistic | QuantileMap", dict[str, Any]]:
    """The entrant's map to 0 … 100 and what is recorded of it."""
    from competition.selection.calibration import quantile_map
    from competition.selection.columns import SelectionError
    from labeling.psychometrics.logistic import CalibrationError, fit_logistic

    options: GmadOptions = GMAD.options(competition)
    try:
        if options.calibration == "quantile" or (options.calibration == "auto" and not competition.corpus.n_rated):
            return quantile_map(column, model=name), {"kind": "quantile"}
        rated = opinion_table(competition.corpus)
        ratings = 100 * (rated.mos - rated.low) / (rated.high - rated.low)
        fitted = fit_logistic(column[rated.rows], ratings, model=name)
    except (CalibrationError, SelectionError) as error:
        raise DomainError(_sentence(error), field="versions") from error
    if not fitted.converged:
        raise DomainError(_sentence(fitted.message), field="calibration")
    names = ("b1", "b2", "b3", "b4", "rmse", "explained", "n")
    return fitted, {"kind": "logistic", **{each: plain(getattr(fitted, each)) for each in names}}


def _sentence(message: object) -> str:
    text = str(message).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def round_select(*, round: Round, context: "JobContext") -> None:
    """Select for the entrants without a duel in this round, and keep the result.

    Raises:
        DomainError: an entrant cannot be calibrated, or scores everything alike.
    """
    from competition.selection.columns import SelectionError
    from competition.selection.mad import SelectionCancelled

    field = field_read(round.competition)
    known = set(Duel.objects.filter(round=round).values_list("first", flat=True))
    newcomers = [at for at, entrant in enumerate(field.entrants) if entrant.pk not in known]
    if not newcomers:
        return
    columns = _hidden(round, field)
    try:
        selection = _selection(round, columns, field, newcomers if known else None, context)
        control = None if known else _control(round.competition, columns, selection, context)
    except SelectionCancelled:
        context.check()
        raise
    except SelectionError as error:
        raise DomainError(_sentence(error), field="versions") from error
    items = _items(round.competition, selection, control, context)
    with transaction.atomic():
        locked = Round.objects.select_for_update().get(pk=round.pk)
        if set(Duel.objects.filter(round=locked).values_list("first", flat=True)) == known:
            _keep(locked, field, selection, control, items, newcomers)
    round.refresh_from_db()


def _hidden(round_: Round, field: Field) -> list[Any]:
    """The columns without the rows that earlier rounds asked about."""
    earlier = Exhibit.objects.asked().filter(round__competition=round_.competition, round__number__lt=round_.number)
    rows = {row for pair in earlier.values_list("item__row", "second_item__row") for row in pair}
    hidden = np.array(sorted(rows), dtype=np.int64)
    return [Hidden(column, hidden) for column in field.columns] if len(hidden) else list(field.columns)


def _selection(
    round_: Round, columns: Sequence[Any], field: Field, newcomers: list[int] | None, context: "JobContext"
) -> "Selection":
    from competition.selection.gmad import select

    options: GmadOptions = GMAD.options(round_.competition)
    taken = Exhibit.objects.filter(round=round_).values_list("item__row", "second_item__row").distinct()
    return select(
        columns,
        names=field.names,
        levels=options.levels,
        half_width=options.half_width if options.level_kind == "equal_width" else None,
        top=options.top,
        cap=options.image_cap,
        taken=sorted({(min(pair), max(pair)) for pair in taken}),
        newcomers=newcomers,
        progress=_reporter(context, "Finding the strongest counterexamples"),
        cancel=_canceller(context),
        **_apart(round_.competition),
    )


def _apart(competition: Competition) -> dict[str, Any]:
    """What keeps alike images apart: hashes and sources, where wanted and known."""
    settings: dict[str, Any] = {}
    if competition.duplicate_distance is not None:
        hashes = manifest_of(competition.corpus).column("phash")
        settings |= {"hashes": hashes, "duplicate_distance": competition.duplicate_distance}
    if GMAD.options(competition).same_source:
        settings["groups"] = content_groups(competition.corpus)
    return settings


def _control(
    competition: Competition, columns: Sequence[Any], selection: "Selection", context: "JobContext"
) -> "ControlPairs | None":
    """Random pairs within levels, at least so many that ``control_size`` of them can be kept."""
    from competition.selection.gmad import control_pairs

    if not competition.control_size:
        return None
    per_level = -(-competition.control_size // max(1, int((selection.levels.count > 1).sum())))
    return control_pairs(
        columns,
        selection.levels,
        per_level=per_level,
        seed=competition.seed,
        progress=_reporter(context, "Drawing the control pairs"),
        cancel=_canceller(context),
        **_apart(competition),
    )


def _reporter(context: "JobContext", message: str) -> Any:
    def report(done: int, total: int) -> None:
        context.report(done=done, total=total, unit="rows", message=message)

    return report


def _canceller(context: "JobContext") -> Any:
    def cancel() -> bool:
        context.check()
        return False

    return cancel


def _items(
    competition: Competition, selection: "Selection", control: "ControlPairs | None", context: "JobContext"
) -> dict[int, Item]:
    """The pictures that people will see, copied."""
    parts = [selection.pairs.worst, selection.pairs.best]
    if control is not None:
        parts += [control.first, control.second]
    rows = np.unique(np.concatenate(parts)).tolist()
    items: dict[int, Item] = {}
    for start in range(0, len(rows), ITEMS_AT_ONCE):
        context.check()
        items |= item_ensure(corpus=competition.corpus, rows=rows[start : start + ITEMS_AT_ONCE])
        context.report(done=len(items), total=len(rows), unit="images", message="Copying what people will see")
    return items


def _keep(
    round_: Round,
    field: Field,
    selection: "Selection",
    control: "ControlPairs | None",
    items: Mapping[int, Item],
    newcomers: Sequence[int],
) -> None:
    """Write duels, exhibits and facts, inside a transaction that holds the round."""
    duels = _duels_write(round_, field, selection, newcomers)
    exhibits = list(_exhibits(round_, field, selection, duels, items))
    if control is not None:
        exhibits += _control_exhibits(round_, field, control, items)
    else:
        _control_extend(round_, field, newcomers)
    Exhibit.objects.bulk_create(exhibits, batch_size=1000)
    levels = selection.levels
    described = round_.facts.get("entrants", {})
    for at in newcomers:
        described[str(field.entrants[at].pk)] = {
            "calibration": field.facts[at],
            **{name: plain(getattr(levels, name)[at]) for name in ("centre", "low", "high", "count")},
        }
    round_.facts = {**round_.facts, "entrants": described, "half_width": levels.half_width}
    round_.save(update_fields=["facts"])


def _duels_write(
    round_: Round, field: Field, selection: "Selection", newcomers: Sequence[int]
) -> dict[tuple[int, int], Duel]:
    """A duel for each asked (attacker, defender), with how many pairs it has and why not more."""
    new, everyone = set(newcomers), range(len(field.entrants))
    found: dict[tuple[int, int], int] = {}
    for attacker, defender in zip(selection.pairs.attacker.tolist(), selection.pairs.defender.tolist(), strict=True):
        found[attacker, defender] = found.get((attacker, defender), 0) + 1
    asked = [(a, d) for a in everyone for d in everyone if a != d and (a in new or d in new)]
    made = Duel.objects.bulk_create(
        Duel(
            round=round_,
            first=field.entrants[attacker],
            second=field.entrants[defender],
            n_selected=found.get((attacker, defender), 0),
            shortage=_shortage(selection, attacker, defender),
        )
        for attacker, defender in asked
    )
    return dict(zip(asked, made, strict=True))


def _shortage(selection: "Selection", attacker: int, defender: int) -> str:
    """Why some levels of a duel gave no (or not every) pair, in words; equal reasons named once."""
    levels: dict[str, list[int]] = {}
    for missing in selection.missing:
        if missing.defender == defender and missing.attacker in {attacker, None}:
            levels.setdefault(missing.reason, []).append(missing.level)
    parts = [f"level {', '.join(map(str, numbers[:LEVELS_NAMED]))}: {reason}" for reason, numbers in levels.items()]
    return "; ".join(parts)[:SHORTAGE_LENGTH]


def _exhibits(
    round_: Round,
    field: Field,
    selection: "Selection",
    duels: Mapping[tuple[int, int], Duel],
    items: Mapping[int, Item],
) -> Iterator[Exhibit]:
    pairs = selection.pairs
    for at in range(len(pairs)):
        attacker, defender = int(pairs.attacker[at]), int(pairs.defender[at])
        yield Exhibit(
            round=round_,
            duel=duels[attacker, defender],
            item=items[int(pairs.best[at])],
            second_item=items[int(pairs.worst[at])],
            level=int(pairs.level[at]),
            role=ExhibitRole.SELECTED,
            rank=int(pairs.rank[at]),
            predictions={
                str(field.entrants[attacker].pk): [float(pairs.attacker_best[at]), float(pairs.attacker_worst[at])],
                str(field.entrants[defender].pk): [float(pairs.defender_best[at]), float(pairs.defender_worst[at])],
            },
        )


def _control_exhibits(
    round_: Round, field: Field, control: "ControlPairs", items: Mapping[int, Item]
) -> Iterator[Exhibit]:
    """As many as wanted of the pairs drawn, each once, in an order drawn from the seed."""
    order = np.random.default_rng(round_.competition.seed + round_.number).permutation(len(control))
    seen: set[tuple[int, int]] = set()
    for at in order.tolist():
        first, second = int(control.first[at]), int(control.second[at])
        pair = (min(first, second), max(first, second))
        if pair in seen:
            continue
        seen.add(pair)
        yield Exhibit(
            round=round_,
            item=items[first],
            second_item=items[second],
            level=int(control.level[at]),
            role=ExhibitRole.CONTROL,
            rank=len(seen),
            predictions=_said(field, range(len(field.entrants)), first, second),
        )
        if len(seen) == round_.competition.control_size:
            return


def _control_extend(round_: Round, field: Field, newcomers: Sequence[int]) -> None:
    """What newcomers say about the control pairs that are there."""
    present = list(Exhibit.objects.filter(round=round_, role=ExhibitRole.CONTROL).select_related("item", "second_item"))
    for exhibit in present:
        second = exhibit.second_item.row if exhibit.second_item else exhibit.item.row
        exhibit.predictions |= _said(field, newcomers, exhibit.item.row, second)
    Exhibit.objects.bulk_update(present, ["predictions"], batch_size=500)


def _said(field: Field, positions: Sequence[int], first: int, second: int) -> dict[str, list[float | None]]:
    """{entrant id: [score of the first, score of the second]}, calibrated; None where there is no score."""
    return {str(field.entrants[at].pk): plain([field.says(at, first), field.says(at, second)]) for at in positions}
