"""A round's selection: reads what the entrants said, asks ``competition.selection``, and keeps duels and exhibits.

Every step looks at what is there and adds what is missing, in one transaction per duel, so a round that is killed and
started again ends with the same rows as one that was not. Pairs that have a duel are never touched again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from django.db import transaction

from competition.models import Competition, Duel, Entrant, Exhibit, ExhibitRole, Round
from corpora import taxonomies
from corpora.models import Item
from corpora.reading import manifest_of
from corpora.services import item_ensure
from labeling.models import Trial
from models_zoo.engine.scores import missing_class
from models_zoo.models import Scores, ScoresState
from models_zoo.reading import score_columns

if TYPE_CHECKING:
    from competition.selection.mad import PairSelection
    from jobs.context import JobContext

CLASSES_PER_TRIAL = 2
Rows = np.ndarray  # (n,) int64, ascending


@dataclass(frozen=True)
class Answers:
    """What the entrants of a round said, memory-mapped: per entrant (n_rows,) classes, and confidences or None."""

    entrants: tuple[Entrant, ...]
    classes: tuple[np.ndarray, ...]
    confidences: tuple[np.ndarray | None, ...]
    incomplete: frozenset[int] = field(default_factory=frozenset)  # positions of entrants without an answer somewhere

    @property
    def n_rows(self) -> int:
        return len(self.classes[0])

    def at(self, position: int, row: int) -> int | None:
        """The class that an entrant says at a row; None where its image could not be read."""
        label = int(self.classes[position][row])
        return None if label == missing_class(self.classes[position].dtype) else label


@dataclass(frozen=True)
class Masked:
    """A class column in which rows that must not be chosen read as class 0, for every model alike: no disagreement.

    hidden: rows left out; together: the columns of the pair, whose unanswered rows are left out too.
    """

    column: np.ndarray
    hidden: Rows
    together: tuple[np.ndarray, ...] = ()

    @property
    def dtype(self) -> Any:
        return self.column.dtype

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        start, stop, _ = rows.indices(len(self.column))
        block = np.array(self.column[start:stop])
        for column in self.together:
            block[column[start:stop] == missing_class(column.dtype)] = 0
        first, last = np.searchsorted(self.hidden, [start, stop])
        block[self.hidden[first:last] - start] = 0
        return block


def answers_read(competition: Competition) -> Answers:
    """The columns of every entrant, in the order of their numbers.

    Raises:
        DomainError: when one is not scored yet.
    """
    return scores_answers(competition, tuple(competition.entrants.select_related("version__model").order_by("number")))


def scores_answers(competition: Competition, entrants: tuple[Entrant, ...]) -> Answers:
    """The columns of these entrants. Raises DomainError when one is not scored yet."""
    found = Scores.objects.filter(corpus=competition.corpus, version__in=[entrant.version_id for entrant in entrants])
    scores = {each.version_id: each for each in found.select_related("version__model", "corpus")}
    columns = [score_columns(_scores_of(entrant, competition, scores)) for entrant in entrants]
    return Answers(
        entrants=entrants,
        classes=tuple(classes for classes, _ in columns),
        confidences=tuple(confidences for _, confidences in columns),
        incomplete=frozenset(at for at, entrant in enumerate(entrants) if scores[entrant.version_id].n_missing),
    )


def _scores_of(entrant: Entrant, competition: Competition, scores: Mapping[int, Scores]) -> Scores:
    """A placeholder without a state makes ``score_columns`` say what is missing."""
    return scores.get(entrant.version_id) or Scores(version=entrant.version, corpus=competition.corpus)


def answers_at(competition: Competition, row: int) -> list[dict[str, Any]]:
    """What every entrant said about one row: {"entrant", "label", "confidence"}; None where there is no answer."""
    found = Scores.objects.filter(corpus=competition.corpus, state=ScoresState.COMPLETE)
    scores = {each.version_id: each for each in found.filter(version__entrants__competition=competition)}
    lines = []
    for entrant in competition.entrants.select_related("version__model").order_by("number"):
        line: dict[str, Any] = {"entrant": entrant, "label": None, "confidence": None}
        if entrant.version_id in scores:
            classes, confidences = score_columns(scores[entrant.version_id])
            label = int(classes[row])
            if label != missing_class(classes.dtype):
                line |= {"label": label, "confidence": None if confidences is None else float(confidences[row])}
        lines.append(line)
    return lines


def pairs_missing(round: Round, entrants: Sequence[Entrant]) -> list[tuple[int, int]]:
    """Positions (i < j) of the pairs of entrants that have no duel in this round yet."""
    known = set(Duel.objects.filter(round=round).values_list("first", "second"))
    return [(i, j) for i, j in combinations(range(len(entrants)), 2) if (entrants[i].pk, entrants[j].pk) not in known]


def rows_asked_before(round: Round) -> Rows:
    """Rows that people were asked about in earlier rounds, ascending."""
    earlier = Exhibit.objects.asked().filter(round__competition=round.competition, round__number__lt=round.number)
    return np.array(sorted(set(earlier.values_list("item__row", flat=True))), dtype=np.int64)


def duels_select(*, round: Round, answers: Answers, context: "JobContext") -> None:
    """Select for every pair without a duel and keep the results."""
    pairs = pairs_missing(round, answers.entrants)
    if not pairs:
        return
    hidden = rows_asked_before(round)
    for selection in selections(round.competition, answers, pairs, hidden, context, k=round.competition.k):
        context.check()
        duel_write(round=round, answers=answers, selection=selection, k=round.competition.k)


def selections(
    competition: Competition, answers: Answers, pairs: Sequence[tuple[int, int]], hidden: Rows, context: "JobContext",
    *, k: int,
) -> Iterator["PairSelection"]:  # fmt: skip
    """Selections in the order of ``pairs``; pairs with unanswered rows one by one, the others together."""
    from competition.selection.mad import select

    settings = {
        "k": k,
        "reserve": competition.reserve,
        "threshold": competition.threshold,
        "per_class_cap": competition.per_class_cap,
        **_hash_settings(competition),
    }
    assert competition.taxonomy is not None  # every MAD competition has one
    levels = taxonomies.levels(competition.taxonomy)
    confidences = _confidences(answers)
    groups = _groups(pairs, answers.incomplete)
    for number, group in enumerate(groups):
        together = tuple(answers.classes[at] for at in group[0]) if len(group) == 1 else ()
        columns = [Masked(column, hidden, together) for column in answers.classes]
        yield from select(
            columns, confidences, levels, pairs=group, progress=_reporter(context, number, len(groups)), **settings
        )  # fmt: skip


def _groups(pairs: Sequence[tuple[int, int]], incomplete: frozenset[int]) -> list[list[tuple[int, int]]]:
    whole = [pair for pair in pairs if not incomplete & set(pair)]
    return ([whole] if whole else []) + [[pair] for pair in pairs if incomplete & set(pair)]


def _hash_settings(competition: Competition) -> dict[str, Any]:
    """Perceptual hashes where the competition wants near-duplicates once and the corpus has hashes."""
    if competition.duplicate_distance is None:
        return {}
    hashes = manifest_of(competition.corpus).column("phash")
    return {"hashes": hashes, "duplicate_distance": competition.duplicate_distance}


def _confidences(answers: Answers) -> list[np.ndarray] | None:
    """None when nobody gave any; an entrant that gave none counts as sure everywhere."""
    if all(column is None for column in answers.confidences):
        return None
    sure = np.broadcast_to(np.float32(1), (answers.n_rows,))
    return [sure if column is None else column for column in answers.confidences]


def _reporter(context: "JobContext", number: int, groups: int) -> Any:
    def report(done: int, total: int) -> None:
        context.report(
            done=number * total + done, total=groups * total, unit="rows", message="Finding the largest disagreements"
        )

    return report


def duel_write(*, round: Round, answers: Answers, selection: "PairSelection", k: int) -> Duel:
    """Keep one pair's selection: the duel, its exhibits and its reserve, all or nothing; the first one kept stays."""
    competition = round.competition
    items = item_ensure(corpus=competition.corpus, rows=selection.rows.tolist())
    first, second = answers.entrants[selection.i], answers.entrants[selection.j]
    n_selected = min(k, len(selection.rows))
    facts = {
        "n_disagree": selection.counts.disagreements,
        "n_confident": selection.counts.confident,
        "n_selected": n_selected,
        "n_reserve": len(selection.rows) - n_selected,
        "shortage": _shortage(selection),
    }
    with transaction.atomic():
        duel, created = Duel.objects.get_or_create(round=round, first=first, second=second, defaults=facts)
        if created:
            Exhibit.objects.bulk_create(_exhibits(round, duel, selection, items))
    return duel


def _shortage(selection: "PairSelection") -> str:
    """In words, why there are fewer than k; empty when there are k (a short reserve is no shortage)."""
    return "; ".join(selection.reasons)[:300] if len(selection.rows) < selection.k else ""


def _exhibits(round_: Round, duel: Duel, selection: "PairSelection", items: Mapping[int, Item]) -> Iterator[Exhibit]:
    for at, row in enumerate(selection.rows.tolist()):
        yield Exhibit(
            round=round_,
            duel=duel,
            item=items[row],
            role=ExhibitRole.SELECTED if at < duel.n_selected else ExhibitRole.RESERVE,
            rank=at + 1,
            class_first=int(selection.class_i[at]),
            class_second=int(selection.class_j[at]),
            confidence_first=_number(selection.confidence_i, at),
            confidence_second=_number(selection.confidence_j, at),
            distance=float(selection.distance[at]),
        )


def _number(column: np.ndarray | None, at: int) -> float | None:
    return None if column is None else float(column[at])


def control_select(*, round: Round, answers: Answers, hidden: Rows | None = None) -> None:
    """The control arm: random rows, each entrant's answer to them, the distinct answers cut into trials of two classes.

    Entrants that were there before keep their exhibits; a newcomer adds a question only where its answer was not asked.
    hidden: rows left out; by default those of earlier rounds.
    """
    competition = round.competition
    present = list(
        Exhibit.objects.filter(round=round, role=ExhibitRole.CONTROL).select_related("item", "trial").order_by("pk")
    )
    known = {int(entrant) for exhibit in present for entrant in exhibit.predictions}
    new = [at for at, entrant in enumerate(answers.entrants) if entrant.pk not in known]
    if not new or not competition.control_size:
        return
    order = _control_rows(round, answers, present, rows_asked_before(round) if hidden is None else hidden)
    items = item_ensure(corpus=competition.corpus, rows=order)
    asked: dict[int, list[Exhibit]] = {}
    for exhibit in present:
        asked.setdefault(exhibit.item.row, []).append(exhibit)
    exhibits = [
        exhibit
        for rank, row in enumerate(order, start=1)
        for exhibit in _control_exhibits(round, items[row], rank, _said(answers, new, row), asked.get(row, []))
    ]
    with transaction.atomic():
        Round.objects.select_for_update().get(pk=round.pk)
        if Exhibit.objects.filter(round=round, role=ExhibitRole.CONTROL).count() == len(present):
            Exhibit.objects.bulk_create(exhibits)


def _control_rows(round_: Round, answers: Answers, present: Sequence[Exhibit], hidden: Rows) -> list[int]:
    """The rows drawn at the round's first selection, in the order in which they were drawn."""
    from competition.selection.control import control_rows

    if present:
        return list(dict.fromkeys(exhibit.item.row for exhibit in sorted(present, key=lambda each: each.rank)))
    drawn = control_rows(
        answers.n_rows,
        round_.competition.control_size,
        seed=round_.competition.seed + round_.number,
        exclude=hidden,
    )
    return [int(row) for row in drawn]


def _said(answers: Answers, positions: Sequence[int], row: int) -> dict[int, int]:
    """{entrant id: class} of the entrants at these positions; those without an answer are left out."""
    said = {answers.entrants[at].pk: answers.at(at, row) for at in positions}
    return {entrant: label for entrant, label in said.items() if label is not None}


def _control_exhibits(
    round_: Round, item: Item, rank: int, said: Mapping[int, int], asked: Sequence[Exhibit]
) -> Iterator[Exhibit]:
    """Exhibits for these answers to one picture: on a trial that asks about them already, or on a new one."""
    waiting = dict(said)
    for exhibit in asked:
        classes = [label for label in (exhibit.class_first, exhibit.class_second) if label is not None]
        if part := {str(entrant): label for entrant, label in waiting.items() if label in classes}:
            waiting = {entrant: label for entrant, label in waiting.items() if label not in classes}
            yield _control_exhibit(round_, item, rank, classes, part, exhibit.trial)
    distinct = sorted(set(waiting.values()))
    for start in range(0, len(distinct), CLASSES_PER_TRIAL):
        classes = distinct[start : start + CLASSES_PER_TRIAL]
        part = {str(entrant): label for entrant, label in waiting.items() if label in classes}
        yield _control_exhibit(round_, item, rank, classes, part, None)


def _control_exhibit(
    round_: Round, item: Item, rank: int, classes: Sequence[int], said: dict[str, int], trial: Trial | None
) -> Exhibit:
    first, second = (*classes, None)[:2]
    return Exhibit(
        round=round_, item=item, role=ExhibitRole.CONTROL, rank=rank, class_first=first, class_second=second,
        predictions=said, trial=trial,
    )  # fmt: skip
