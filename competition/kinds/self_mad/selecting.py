"""A self-MAD round's selection: MAD's, of the target against each ensemble, within a budget of images."""

from typing import TYPE_CHECKING

import numpy as np

from competition.kinds.mad.selecting import (
    Answers,
    control_select,
    duel_write,
    rows_asked_before,
    scores_answers,
    selections,
)
from competition.kinds.self_gmad.selecting import rows_held_out, rows_labelled
from competition.kinds.self_mad import SELF_MAD, SelfMadOptions
from competition.kinds.troubleshooting import edition_require
from competition.models import Duel, Round
from corpora.reading import manifest_of

if TYPE_CHECKING:
    from jobs.context import JobContext


def round_select(*, round: Round, context: "JobContext") -> None:
    """Select for every ensemble that the target has no duel with, and draw the control arm."""
    competition = round.competition
    options: SelfMadOptions = SELF_MAD.options(competition)
    answers: Answers = scores_answers(competition, tuple(SELF_MAD.entrants(round)))
    known = set(Duel.objects.filter(round=round).values_list("second", flat=True))
    pairs = [(0, at) for at in range(1, len(answers.entrants)) if answers.entrants[at].pk not in known]
    hidden = rows_hidden(round)
    k = min(competition.k, max(1, options.budget // options.ensembles))
    for selection in selections(competition, answers, pairs, hidden, context, k=k) if pairs else ():
        context.check()
        duel_write(round=round, answers=answers, selection=selection, k=k)
    control_select(round=round, answers=answers, hidden=hidden)


def rows_hidden(round_: Round) -> np.ndarray:
    """Rows that must not be chosen, ascending: labelled, asked about before, alike to either, or held out."""
    from competition.selection.sparing import rows_near

    competition = round_.competition
    edition = edition_require(SELF_MAD.options(competition))
    known = np.union1d(rows_labelled(edition, competition), rows_asked_before(round_))
    near = np.empty(0, np.int64)
    if competition.duplicate_distance is not None and len(known):
        near = rows_near(manifest_of(competition.corpus).column("phash"), known, competition.duplicate_distance)
    return np.union1d(np.union1d(known, near), rows_held_out(edition, competition))
