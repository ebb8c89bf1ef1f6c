"""From verdicts to a leaderboard: what was judged is ranked and kept as an immutable snapshot.

Everyone: the other view, in which the judgements of excluded people count as well. Interim: a snapshot taken while
exhibits are still without a verdict.
"""

import logging

from django.db import transaction
from django.db.models import Max

from competition.kinds import KINDS
from competition.kinds.base import Evidence, Leaderboard
from competition.models import Competition, Round, Snapshot, Standing

logger = logging.getLogger(__name__)

REPLICATES = 1000


def snapshot_take(*, round: Round, everyone: bool = False, replicates: int = REPLICATES) -> Snapshot | None:
    """Rank what has been judged and keep it: the newest snapshot when nothing changed since, None without verdicts.

    The same evidence gives the same numbers to the last bit.
    """
    competition = round.competition
    evidence = KINDS[competition.kind].evidence(round=round, everyone=everyone)
    if evidence.is_empty:
        return None
    digest = evidence.digest(replicates=replicates, seed=competition.seed, everyone=everyone)
    latest = Snapshot.objects.latest_of(competition, counts_everyone=everyone)
    if latest is not None and latest.digest == digest:
        return latest
    ranked = evidence.rank(replicates=replicates, seed=competition.seed)
    return _write(round, evidence, ranked, digest=digest, everyone=everyone, replicates=replicates)


def _write(
    round_: Round, evidence: Evidence, ranked: Leaderboard, *, digest: str, everyone: bool, replicates: int
) -> Snapshot:
    competition = round_.competition
    with transaction.atomic():
        Competition.objects.select_for_update().get(pk=competition.pk)
        last = Snapshot.objects.filter(competition=competition).aggregate(last=Max("number"))["last"] or 0
        snapshot = Snapshot.objects.create(
            competition=competition,
            round=round_,
            number=last + 1,
            replicates=replicates,
            seed=competition.seed,
            n_exhibits=evidence.n_exhibits,
            n_judgements=evidence.n_judgements,
            n_open=evidence.n_open,
            excluded_people=list(evidence.excluded_people),
            counts_everyone=everyone,
            digest=digest,
            matrices=ranked.matrices,
            k_curve=ranked.k_curve,
            control=ranked.control,
            agreement=evidence.agreement,
        )
        Standing.objects.bulk_create(Standing(snapshot=snapshot, **vars(place)) for place in ranked.places)
    logger.info("snapshot %d of competition %s: %s", snapshot.number, competition.pk, digest)
    return snapshot
