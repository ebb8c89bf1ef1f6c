"""The work of a round, done inside jobs: score, select, ask, replace what people cannot label, settle.

Every step adds what is missing and keeps what is there: a job that is killed anywhere and started again ends with the
same exhibits, trials and leaderboard as one that was not.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from accounts.errors import DomainError
from competition.kinds import KINDS
from competition.kinds.base import Kind
from competition.models import Competition, Duel, Exhibit, ExhibitRole, Round, RoundState, Snapshot
from competition.services import round_move
from competition.standings import snapshot_take
from jobs.models import Job
from jobs.services import job_enqueue
from labeling import services as labeling
from labeling.models import Campaign, CampaignState, TrialState
from models_zoo.services import scores_ensure

if TYPE_CHECKING:
    from accounts.models import User
    from jobs.context import JobContext

logger = logging.getLogger(__name__)

SETTLE_JOB = "competition.settle"
SETTLE_PAUSE = timedelta(seconds=10)  # verdicts that change together are settled together
TRIALS_AT_ONCE = 200
VERDICT_OF = ("trial__verdict", "second_trial__verdict", "round__competition")
VERDICT_FIELDS = ["right_first", "right_second", "preference", "preference_low", "preference_high", "dropped"]
WORKING = (RoundState.PREPARING, RoundState.SCORING, RoundState.SELECTING)


def round_work(*, round: Round, context: "JobContext") -> dict[str, Any]:
    """Bring a round from preparing or scoring to labelling, or, when there is nothing to ask, to settling.

    Raises:
        DomainError: when the round was cancelled meanwhile, or a step failed; the message says why.
    """
    competition, kind = round.competition, KINDS[round.competition.kind]
    kind.prepare(round=round, context=context)
    if round.state == RoundState.PREPARING:
        _advance(round, (RoundState.PREPARING,), RoundState.SCORING)
    versions = [entrant.version for entrant in kind.entrants(round)]
    scores_ensure(versions=versions, corpus=competition.corpus, context=context)
    _advance(round, (RoundState.SCORING, RoundState.SELECTING), RoundState.SELECTING)
    kind.select(round=round, context=context)
    n_trials = trials_ask(round=round, context=context)
    if round.campaign and round.campaign.state in {CampaignState.DRAFT, CampaignState.PAUSED}:
        labeling.campaign_open(campaign=round.campaign, by=competition.created_by)
    _advance(round, (RoundState.SELECTING,), RoundState.LABELLING, labelling_at=timezone.now())
    if not _is_awaited(round):
        settle_enqueue(round, by=context.user, soon=True)
    return {"trials": n_trials, "campaign": round.campaign_id}


def _advance(round_: Round, states: Sequence[str], to: RoundState, **fields: Any) -> None:
    if not round_move(round_, states, to, **fields):
        raise DomainError(f"Round {round_.number} is {round_.get_state_display().lower()}: its work stops here.")


def trials_ask(*, round: Round, context: "JobContext | None" = None) -> int:
    """Give every exhibit that people should see a trial, in the order in which labels help most: the best of each duel
    first, control images spread among them. Returns how many exhibits got one."""
    waiting = _without_trial(round)
    if not waiting:
        return 0
    campaign = _campaign_of(round)
    chunks = [waiting[start : start + TRIALS_AT_ONCE] for start in range(0, len(waiting), TRIALS_AT_ONCE)]
    for number, chunk in enumerate(chunks):
        _ask(KINDS[round.competition.kind], campaign, chunk)
        if context is not None:
            context.report(
                done=min(len(waiting), (number + 1) * TRIALS_AT_ONCE), total=len(waiting), unit="exhibits",
                message="Preparing what people will see",
            )  # fmt: skip
    return len(waiting)


def _without_trial(round_: Round) -> list[Exhibit]:
    exhibits = Exhibit.objects.asked().filter(round=round_, trial=None)
    found = list(exhibits.select_related("item", "second_item", "duel__first", "duel__second"))
    competition = round_.competition
    return sorted(found, key=lambda exhibit: KINDS[competition.kind].asking_order(exhibit, competition))


def _ask(kind: Kind, campaign: Campaign, exhibits: Sequence[Exhibit]) -> None:
    """One trial per question: exhibits that ask the same share it."""
    asked = [kind.questions(exhibit) for exhibit in exhibits]
    with transaction.atomic():
        trials = iter(labeling.trials_add(campaign=campaign, trials=[spec for specs in asked for spec in specs]))
        for exhibit, specs in zip(exhibits, asked, strict=True):
            exhibit.trial = next(trials)
            exhibit.second_trial = next(trials) if len(specs) > 1 else None
        Exhibit.objects.bulk_update(exhibits, ["trial", "second_trial"])


def _campaign_of(round_: Round) -> Campaign:
    """The round's campaign, made when there is something to ask."""
    with transaction.atomic():
        locked = Round.objects.select_for_update(of=("self",)).select_related("campaign").get(pk=round_.pk)
        if locked.campaign is None:
            competition = round_.competition
            locked.campaign = labeling.campaign_create(
                name=f"{competition}, round {round_.number}",
                by=competition.created_by,
                overlap=competition.overlap,
                **{
                    **KINDS[competition.kind].campaign_settings(competition),
                    "seed": competition.seed,
                    **competition.campaign_options,
                },
            )
            locked.save(update_fields=["campaign"])
            sharing_copy(competition, locked.campaign)
    round_.campaign = locked.campaign
    return locked.campaign


def sharing_copy(competition: Competition, campaign: Campaign) -> None:
    """Whoever may look at or edit a competition may do so with its campaigns."""
    from django.contrib.contenttypes.models import ContentType

    from accounts.models import Membership

    kinds = ContentType.objects.get_for_models(Competition, Campaign)
    for membership in Membership.objects.filter(content_type=kinds[Competition], object_id=competition.pk):
        Membership.objects.update_or_create(
            user_id=membership.user_id, content_type=kinds[Campaign], object_id=campaign.pk,
            defaults={"role": membership.role},
        )  # fmt: skip


def verdicts_copy(*, exhibits: QuerySet[Exhibit]) -> int:
    """Bring what exhibits say about their verdict up to date; returns how many changed."""
    changed = []
    for exhibit in exhibits.filter(trial__isnull=False).select_related(*VERDICT_OF):
        facts = KINDS[exhibit.round.competition.kind].verdict_facts(exhibit)
        if any(getattr(exhibit, name) != value for name, value in facts.items()):
            for name, value in facts.items():
                setattr(exhibit, name, value)
            changed.append(exhibit)
    Exhibit.objects.bulk_update(changed, VERDICT_FIELDS, batch_size=500)
    return len(changed)


def reserves_promote(*, round: Round, duels: Iterable[int] | None = None) -> int:
    """Put the next of the reserve in the place of exhibits that people could not label or decide.

    The first so many of a reserve are promoted as there are dropped exhibits, so the order in which people gave up
    changes nothing. Returns how many new exhibits are asked about.
    """
    with transaction.atomic():
        Round.objects.select_for_update().get(pk=round.pk)
        alive = Count("exhibits", filter=Q(exhibits__role=ExhibitRole.SELECTED, exhibits__dropped=False))
        short = Duel.objects.filter(round=round).annotate(n_alive=alive).filter(n_alive__lt=F("n_selected"))
        if duels is not None:
            short = short.filter(pk__in=list(duels))
        promoted = [pk for duel in short.order_by("pk") for pk in _next_reserves(duel, duel.n_selected - duel.n_alive)]
        Exhibit.objects.filter(pk__in=promoted).update(role=ExhibitRole.SELECTED)
        if promoted:
            trials_ask(round=round)
            logger.info("round %s: %d reserve exhibits promoted", round.pk, len(promoted))
    return len(promoted)


def _next_reserves(duel: Duel, wanted: int) -> list[int]:
    reserve = Exhibit.objects.filter(duel=duel, role=ExhibitRole.RESERVE).order_by("rank")
    return list(reserve.values_list("pk", flat=True)[:wanted])


def settle_enqueue(round: Round, *, by: "User | None" = None, soon: bool = False) -> Job:
    """Enqueue settling; one live job per round is enough, it reads what is there when it starts."""
    Round.objects.filter(pk=round.pk).update(changed_at=timezone.now())
    return job_enqueue(
        kind=SETTLE_JOB,
        title=f"Settle {round}",
        payload={"round": round.pk},
        by=by,
        subject=round,
        unique=True,
        not_before=None if soon else timezone.now() + SETTLE_PAUSE,
    )


def round_settle(*, round: Round, context: "JobContext") -> dict[str, Any]:
    """Replace what was dropped, rank what was judged, and complete the round when nothing is awaited any more."""
    seen = round.changed_at
    context.report(message="Replacing exhibits that people could not label")
    verdicts_copy(exhibits=Exhibit.objects.filter(round=round))
    reserves_promote(round=round)
    if _is_awaited(round):
        round_move(round, (RoundState.SETTLING, RoundState.COMPLETE), RoundState.LABELLING, completed_at=None)
    else:
        round_move(round, (RoundState.LABELLING,), RoundState.SETTLING)
    context.report(message="Ranking the entrants")
    snapshots = _snapshots(round)
    round_move(round, (RoundState.SETTLING,), RoundState.COMPLETE, completed_at=timezone.now())
    return {
        "changed_at": seen.isoformat() if seen else None,
        "snapshots": [snapshot.number for snapshot in snapshots],
        "digests": [snapshot.digest for snapshot in snapshots],
    }


def _snapshots(round_: Round) -> list[Snapshot]:
    """The leaderboard, and where people were excluded, the other view beside it."""
    main = snapshot_take(round=round_)
    if main is None or not main.excluded_people:
        return [main] if main else []
    other = snapshot_take(round=round_, everyone=True)
    return [main, other] if other else [main]


def _is_awaited(round_: Round) -> bool:
    """Whether people still have something to judge for this round; nothing, once its campaign is closed."""
    if round_.campaign and round_.campaign.state == CampaignState.CLOSED:
        return False
    return Exhibit.objects.asked().about_trials(state=TrialState.OPEN).filter(round=round_).exists()


def settle_is_stale(round: Round, job: Job) -> bool:
    """Whether verdicts changed after the settling job had looked."""
    looked = job.result.get("changed_at")
    return bool(round.changed_at and (looked is None or round.changed_at > datetime.fromisoformat(looked)))


def round_stop(*, round: Round, job: Job) -> None:
    """The job that worked on a round failed or was cancelled: the round says so."""
    if job.kind == SETTLE_JOB:
        round_move(round, (RoundState.SETTLING, RoundState.LABELLING), RoundState.FAILED, error=job.error)
    elif round.job_id == job.pk:
        to = RoundState.CANCELLED if job.state == "cancelled" else RoundState.FAILED
        round_move(round, WORKING, to, error=job.error)
