"""A self-gMAD round's selection: the target against each ensemble, both roles, within a budget of images.

Left out are rows that are labelled already or were asked about before, their near-duplicates, and rows of the content
of the labelled set's validation and test images, whose labels could not be learnt from. Everything is kept in one
transaction, so a round that is killed and started again ends with the same rows as one that was not.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from django.db import transaction

from accounts.errors import DomainError
from competition.kinds.gmad.selecting import Field, Hidden
from competition.kinds.gmad.selecting import _canceller as canceller
from competition.kinds.gmad.selecting import _reporter as reporter
from competition.kinds.gmad.selecting import _sentence as sentence
from competition.kinds.self_gmad import SELF_GMAD, SelfGmadOptions
from competition.kinds.troubleshooting import edition_require
from competition.models import Competition, Duel, Entrant, Exhibit, ExhibitRole, Round
from competition.numbers import plain
from corpora.models import Item
from corpora.reading import content_groups, manifest_of
from corpora.services import item_ensure
from models_zoo.models import Scores
from models_zoo.reading import oriented
from training.models import Edition

if TYPE_CHECKING:
    from competition.selection.gmad import Pairs, Selection
    from jobs.context import JobContext

TARGET = 0  # position among the entrants of a round
ITEMS_AT_ONCE = 100
Rows = np.ndarray


def round_select(*, round: Round, context: "JobContext") -> None:
    """Select for a round that has no duel yet, and keep the result.

    Raises:
        DomainError: a network scores everything alike.
    """
    from competition.selection.columns import SelectionError
    from competition.selection.gmad import select
    from competition.selection.mad import SelectionCancelled
    from competition.selection.sparing import within_budget

    if Duel.objects.filter(round=round).exists():
        return
    competition = round.competition
    options: SelfGmadOptions = SELF_GMAD.options(competition)
    field = field_read(round)
    hidden = rows_hidden(round)
    columns = [Hidden(column, hidden) for column in field.columns]
    try:
        selection = select(
            columns,
            names=field.names,
            levels=options.levels,
            half_width=options.half_width,
            top=options.top,
            cap=options.image_cap,
            newcomers=[TARGET],
            progress=reporter(context, "Finding where the target fails"),
            cancel=canceller(context),
            **apart(competition),
        )
    except SelectionCancelled:
        context.check()
        raise
    except SelectionError as error:
        raise DomainError(sentence(error)) from error
    kept = within_budget(selection.pairs, options.budget)
    shown = np.concatenate([selection.pairs.best[kept], selection.pairs.worst[kept]])
    control = control_rows_of(round, np.union1d(hidden, shown))
    items = items_copy(competition, np.union1d(shown, control), context)
    with transaction.atomic():
        locked = Round.objects.select_for_update().get(pk=round.pk)
        if not Duel.objects.filter(round=locked).exists():
            _keep(locked, field, selection, kept, control, items)
    round.refresh_from_db()


def field_read(round_: Round) -> Field:
    """Target first, then the ensembles: their columns on the common scale.

    The target's is calibrated as it is read, with the scale in the round's facts; an ensemble's was when it was mixed.
    """
    from competition.selection.calibration import Calibrated
    from labeling.psychometrics.logistic import Logistic

    entrants = tuple(SELF_GMAD.entrants(round_))
    found = Scores.objects.filter(corpus=round_.competition.corpus, version__in=[each.version_id for each in entrants])
    scores = {each.version_id: each for each in found.select_related("version__model", "corpus")}
    facts = round_.facts["calibration"][str(entrants[TARGET].version_id)]
    scale = Logistic(converged=True, message="", **facts)
    columns: list[Any] = [
        oriented(scores.get(entrant.version_id) or Scores(version=entrant.version, corpus=round_.competition.corpus))
        for entrant in entrants
    ]
    columns[TARGET] = Calibrated(columns[TARGET], scale)
    return Field(entrants, tuple(columns), tuple({} for _ in entrants))


def rows_hidden(round_: Round) -> Rows:
    """Rows that must not be chosen, ascending."""
    from competition.selection.sparing import rows_near

    competition = round_.competition
    edition = edition_require(SELF_GMAD.options(competition))
    labelled = rows_labelled(edition, competition)
    earlier = Exhibit.objects.asked().filter(round__competition=competition, round__number__lt=round_.number)
    asked = {row for pair in earlier.values_list("item__row", "second_item__row") for row in pair if row is not None}
    known = np.union1d(labelled, np.array(sorted(asked), dtype=np.int64))
    near = np.empty(0, np.int64)
    if competition.duplicate_distance is not None and len(known):
        near = rows_near(manifest_of(competition.corpus).column("phash"), known, competition.duplicate_distance)
    return np.union1d(np.union1d(known, near), rows_held_out(edition, competition))


def rows_labelled(edition: Edition, competition: Competition) -> Rows:
    """Rows of the competition's corpus with a label in the edition, ascending."""
    table = pq.read_table(edition.path, columns=["corpus", "row"])
    here = table["corpus"].to_numpy() == competition.corpus_id
    return np.unique(table["row"].to_numpy()[here]).astype(np.int64)


def rows_held_out(edition: Edition, competition: Competition) -> Rows:
    """Rows that share their content with a validation or test image of the edition: of one source on this corpus."""
    groups = content_groups(competition.corpus)
    if groups is None:
        return np.empty(0, np.int64)
    table = pq.read_table(edition.path, columns=["corpus", "row", "split"])
    held = (table["corpus"].to_numpy() == competition.corpus_id) & (table["split"].to_numpy() != "train")
    rows = table["row"].to_numpy()[held].astype(np.int64)
    column = np.asarray(groups)
    of = np.unique(column[rows])
    return np.flatnonzero(np.isin(column, of[of >= 0]))


def apart(competition: Competition) -> dict[str, Any]:
    """What keeps alike images apart: hashes and sources, where wanted and known."""
    settings: dict[str, Any] = {"groups": content_groups(competition.corpus)}
    if competition.duplicate_distance is not None:
        hashes = manifest_of(competition.corpus).column("phash")
        settings |= {"hashes": hashes, "duplicate_distance": competition.duplicate_distance}
    return settings


def control_rows_of(round_: Round, exclude: Rows) -> Rows:
    """The control arm: random rows in the order in which they were drawn, that nothing else asks about."""
    from competition.selection.control import control_rows

    competition = round_.competition
    return control_rows(
        competition.corpus.n_rows, competition.control_size, seed=competition.seed + round_.number, exclude=exclude
    )


def items_copy(competition: Competition, rows: Rows, context: "JobContext") -> dict[int, Item]:
    """The pictures that people will see, copied."""
    items: dict[int, Item] = {}
    wanted = rows.tolist()
    for start in range(0, len(wanted), ITEMS_AT_ONCE):
        context.check()
        items |= item_ensure(corpus=competition.corpus, rows=wanted[start : start + ITEMS_AT_ONCE])
        context.report(done=len(items), total=len(wanted), unit="images", message="Copying what people will see")
    return items


def _keep(
    round_: Round, field: Field, selection: "Selection", kept: np.ndarray, control: Rows, items: dict[int, Item]
) -> None:
    """Write duels, exhibits and facts, inside a transaction that holds the round."""
    pairs = selection.pairs
    duels = {(int(a), int(d)): None for a, d in _asked(len(field.entrants))}
    made = Duel.objects.bulk_create(
        Duel(
            round=round_,
            first=field.entrants[attacker],
            second=field.entrants[defender],
            n_selected=int(((pairs.attacker == attacker) & (pairs.defender == defender) & kept).sum()),
            shortage=_shortage(pairs, kept, selection, attacker, defender),
        )
        for attacker, defender in duels
    )
    by_pair = dict(zip(duels, made, strict=True))
    exhibits = [_exhibit(round_, field, pairs, at, by_pair, items) for at in np.flatnonzero(kept).tolist()]
    exhibits += [
        Exhibit(
            round=round_, item=items[row], role=ExhibitRole.CONTROL, rank=rank,
            predictions={str(each.pk): plain(field.says(at, row)) for at, each in enumerate(field.entrants)},
        )
        for rank, row in enumerate(control.tolist(), start=1)
    ]  # fmt: skip
    Exhibit.objects.bulk_create(exhibits, batch_size=1000)
    levels = selection.levels
    described = {
        str(entrant.pk): {name: plain(getattr(levels, name)[at]) for name in ("centre", "low", "high", "count")}
        for at, entrant in enumerate(field.entrants)
    }
    facts = {"entrants": described, "half_width": levels.half_width, "found": len(pairs), "kept": int(kept.sum())}
    round_.facts = {**round_.facts, **facts}
    round_.save(update_fields=["facts"])


def _asked(n_entrants: int) -> list[tuple[int, int]]:
    """(attacker, defender) positions: the target and each ensemble, both ways."""
    others = range(1, n_entrants)
    return [(TARGET, other) for other in others] + [(other, TARGET) for other in others]


def _shortage(pairs: "Pairs", kept: np.ndarray, selection: "Selection", attacker: int, defender: int) -> str:
    """Why some levels of a duel gave fewer pairs, in words; and how many the budget left out."""
    mine = (pairs.attacker == attacker) & (pairs.defender == defender)
    short = [
        f"level {missing.level}: {missing.reason}"
        for missing in selection.missing
        if missing.defender == defender and missing.attacker in {attacker, None}
    ]
    if left := int((mine & ~kept).sum()):
        short.insert(0, f"{left} more pairs were beyond the budget of images")
    return "; ".join(short)[:300]


def _exhibit(
    round_: Round, field: Field, pairs: "Pairs", at: int, duels: dict[tuple[int, int], Duel], items: dict[int, Item]
) -> Exhibit:
    attacker, defender = int(pairs.attacker[at]), int(pairs.defender[at])
    entrants: Sequence[Entrant] = field.entrants
    return Exhibit(
        round=round_,
        duel=duels[attacker, defender],
        item=items[int(pairs.best[at])],
        second_item=items[int(pairs.worst[at])],
        level=int(pairs.level[at]),
        role=ExhibitRole.SELECTED,
        rank=int(pairs.rank[at]),
        predictions={
            str(entrants[attacker].pk): [float(pairs.attacker_best[at]), float(pairs.attacker_worst[at])],
            str(entrants[defender].pk): [float(pairs.defender_best[at]), float(pairs.defender_worst[at])],
        },
    )
