"""The loop of a competition that troubleshoots one version: prune, learn, go on with what was learnt.

The training runs are jobs of their own; when one ends, its round goes on (``receivers``). Every step looks at what is
there: a click too many, a kill or a message that comes twice starts nothing twice.
"""

import logging
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Max

from accounts.errors import Conflict, DomainError
from accounts.permissions import require_edit
from competition.kinds import KINDS
from competition.kinds.troubleshooting import SelfOptions, edition_require, round_before, target_of, targets
from competition.kinds.troubleshooting.preparing import variants_of
from competition.models import Competition, Entrant, Round, RoundState
from competition.services import ROUND_JOB, round_move
from jobs.models import Job
from jobs.services import job_enqueue
from labeling.models import TrialKind, Verdict, VerdictOutcome
from labeling.services import campaign_close
from training.labelled import edition_add, labelled_set_create
from training.models import Edition, LabelledSet, Run, RunOutput
from training.services import run_create, run_retry

if TYPE_CHECKING:
    from accounts.models import User
    from jobs.context import JobContext

logger = logging.getLogger(__name__)

LEARN_JOB = "competition.learn"
RUN_JOB = "training.run"
SET_NAME_LENGTH = 120


def round_open(*, round: Round, by: "User") -> None:
    """Enter the target of a round that has just begun, and start what it needs: pruning in the first, then its own job.

    Inside the transaction that made the round.
    """
    before = round_before(round)
    if before is None:
        Entrant.objects.filter(pk=targets(round.competition)[0].pk).update(round=round)
    else:
        learnt = RunOutput.objects.select_related("version").get(run=before.learn_run, role="target")
        last = round.competition.entrants.aggregate(last=Max("number"))["last"] or 0
        Entrant.objects.create(competition=round.competition, version=learnt.version, round=round, number=last + 1)
    round_continue(round=round, by=by)


def round_continue(*, round: Round, by: "User") -> None:
    """Enqueue what a round that is preparing waits for: its pruning run, or its own work."""
    if round.number == 1:
        run = _pruning(round, by)
        if run.finished_at is None:
            Round.objects.filter(pk=round.pk).update(job=run.job)
            round.refresh_from_db()
            return
    round.job = job_enqueue(
        kind=ROUND_JOB, title=str(round), payload={"round": round.pk}, by=by, subject=round, unique=True
    )
    round.save(update_fields=["job"])


def _pruning(round_: Round, by: "User") -> Run:
    """The run that prunes the target: made, retried, or as it is."""
    if round_.prepare_run is not None:
        run = round_.prepare_run
        return run if run.finished_at else run_retry(run=run, by=by)
    competition = round_.competition
    options: SelfOptions = KINDS[competition.kind].options(competition)
    round_.prepare_run = run_create(
        method="prune",
        by=by,
        name=f"Variants of {target_of(round_).version}",
        preset=options.prune_preset,
        config={"variants": options.variants},
        inputs={"target": target_of(round_).version},
        edition=edition_require(options),
        seed=competition.seed,
    )
    round_.save(update_fields=["prepare_run"])
    return round_.prepare_run


def round_learn(*, round: Round, by: "User") -> Round:
    """Fine-tune the target and its variants on the old labels and all that people said in the rounds so far.

    Raises:
        Conflict: when the round is not complete, has learnt already, or a later one has begun.
        DomainError: when nobody rated an image of it.
    """
    require_edit(by, round.competition, action="train the target of")
    with transaction.atomic():
        Competition.objects.select_for_update().get(pk=round.competition_id)
        round.refresh_from_db()
        _require_learnable(round)
        if not round_move(round, (RoundState.COMPLETE,), RoundState.LEARNING, error=""):
            raise Conflict(f"Round {round.number} is {round.state}: it can learn once it is complete.")
        round.job = job_enqueue(
            kind=LEARN_JOB, title=f"Learn from {round}", payload={"round": round.pk}, by=by, subject=round, unique=True
        )
        round.save(update_fields=["job"])
    logger.info("round %s learns, asked by %s", round.pk, by)
    return round


def _require_learnable(round_: Round) -> None:
    if not KINDS[round_.competition.kind].troubleshoots:
        raise Conflict(f'"{round_.competition}" compares models: it has no target that could learn.')
    if has_learnt(round_):
        raise Conflict(f"Round {round_.number} has been learnt from already: start the next round.")
    if round_.competition.rounds.filter(number__gt=round_.number).exists():
        raise Conflict(f"Round {round_.number} is history: a later round has begun.")
    if round_.state == RoundState.COMPLETE and not _labelled(round_):
        raise DomainError(
            f"Nobody has come to a verdict on an image of round {round_.number}: there is nothing to learn. "
            "Have some labelled first, or start a new competition."
        )


def _labelled(round_: Round) -> bool:
    found = Verdict.objects.filter(campaign=round_.campaign_id, outcome=VerdictOutcome.SETTLED)
    return found.filter(trial__kind=TrialKind.ORDINARY).exists()


def has_learnt(round_: Round) -> bool:
    """Whether the target was fine-tuned on what its round found."""
    return bool(round_.learn_run and round_.learn_run.finished_at)


def learning_begin(*, round: Round, context: "JobContext") -> dict[str, Any]:
    """Make the edition of old and new labels, and start the run that learns from it; what is there is kept."""
    by = round.competition.created_by
    if round.state != RoundState.LEARNING:
        raise DomainError(f"Round {round.number} is {round.get_state_display().lower()}: it does not learn now.")
    if round.edition is None:
        context.report(message="Putting old and new labels together")
        round.edition = _edition(round, by)
        round.save(update_fields=["edition"])
    if round.learn_run is not None and round.learn_run.finished_at is not None:
        run_over(round.learn_run)
        return {"edition": round.edition.pk, "run": round.learn_run.pk}
    with transaction.atomic():
        locked = Round.objects.select_for_update(of=("self",)).select_related("competition", "edition").get(pk=round.pk)
        run = run_retry(run=locked.learn_run, by=by) if locked.learn_run else _learning_run(locked, by)
        Round.objects.filter(pk=round.pk).update(learn_run=run, job=run.job)
    return {"edition": round.edition.pk, "run": run.pk}


def _learning_run(round_: Round, by: "User") -> Run:
    competition = round_.competition
    options: SelfOptions = KINDS[competition.kind].options(competition)
    steps = {} if options.finetune_steps is None else {"steps": options.finetune_steps}
    return run_create(
        method="finetune",
        by=by,
        name=f"{target_of(round_).version} after round {round_.number}",
        preset=options.finetune_preset,
        config=steps,
        inputs={"target": target_of(round_).version, "variant": variants_of(round_)},
        edition=round_.edition,
        seed=competition.seed + round_.number,
    )


def _edition(round_: Round, by: "User") -> Edition:
    """The labelled set's edition and all that this competition found so far, without its control arms."""
    competition = round_.competition
    base = edition_require(KINDS[competition.kind].options(competition))
    before = round_before(round_)
    rounds = competition.rounds.filter(number__lte=round_.number, campaign__isnull=False).order_by("number")
    found = [
        {"kind": "campaign", "campaign": each.campaign_id, "kinds": [TrialKind.ORDINARY], "origin": "found",
         "split": "train"}
        for each in rounds
        if _labelled(each)
    ]  # fmt: skip
    return edition_add(
        labelled_set=_labelled_set(competition, base, by),
        sources=[*base.sources, *found],
        by=by,
        seed=base.seed,
        based_on=before.edition if before and before.edition else base,
    )


def _labelled_set(competition: Competition, base: Edition, by: "User") -> LabelledSet:
    """The competition's own labelled set, made when it first learns."""
    name = f"Found by {competition}"[:SET_NAME_LENGTH]
    known = LabelledSet.objects.filter(name=name, created_by=by).first()
    return known or labelled_set_create(
        name=name,
        task=base.labelled_set.task,
        by=by,
        taxonomy=base.labelled_set.taxonomy,
        description=f"“{base}” and what people said in the rounds of the competition “{competition}”.",
    )


def round_close(*, round: Round, by: "User") -> Round:
    """Close the campaign of a round half-way: it settles what is there. Waiting for the rest is the other way.

    Raises:
        Conflict: when people are not labelling.
    """
    require_edit(by, round.competition, action="close a round of")
    if round.state != RoundState.LABELLING or round.campaign is None:
        raise Conflict(f"Round {round.number} is {round.state}: there is no campaign to close.")
    campaign_close(campaign=round.campaign, by=by)
    round.refresh_from_db()
    return round


def run_over(run: Run) -> None:
    """A run ended: the round that waits for it goes on, or says why it cannot."""
    for round_ in Round.objects.filter(prepare_run=run, state=RoundState.PREPARING).select_related(*_RELATED):
        if run.finished_at is not None:
            round_continue(round=round_, by=round_.competition.created_by)
        else:
            round_move(round_, (RoundState.PREPARING,), _stopped(run), error=_why(run, "Pruning"))
    for round_ in Round.objects.filter(learn_run=run, state=RoundState.LEARNING).select_related(*_RELATED):
        error = "" if run.finished_at is not None else _why(run, "Fine-tuning")
        round_move(round_, (RoundState.LEARNING,), RoundState.COMPLETE, error=error)


_RELATED = ("competition__created_by", "competition__corpus", "prepare_run", "learn_run")


def _stopped(run: Run) -> RoundState:
    return RoundState.CANCELLED if run.job and run.job.state == "cancelled" else RoundState.FAILED


def _why(run: Run, what: str) -> str:
    error = run.job.error if run.job else ""
    return f"{what} stopped: {error or 'it was cancelled'}"


def learning_stop(*, round: Round, job: Job) -> None:
    """The job that prepared learning failed or was cancelled: the round is complete as before, and says why."""
    round_move(round, (RoundState.LEARNING,), RoundState.COMPLETE, error=job.error or "Learning was cancelled.")
