"""What a competition does when the rooms below have news: trials end, verdicts change, campaigns complete, jobs end."""

from typing import Any

from django.dispatch import receiver

from competition.models import Exhibit, ExhibitRole, Round
from jobs.models import Job, JobState
from jobs.signals import job_ended
from labeling.models import Campaign, Trial, TrialState, Verdict, VerdictOutcome
from labeling.signals import campaign_closed, campaign_complete, trial_ended, verdicts_changed
from training.models import Run
from training.signals import run_ended

LEARN_JOB = "competition.learn"
INTERIM_STEPS = 10  # interim leaderboards while people label: one at each tenth


@receiver(trial_ended)
def on_trial_ended(*, trial: Trial, verdict: Verdict, **kwargs: Any) -> None:
    """Replace an exhibit that people could not label at once; take an interim leaderboard at each tenth."""
    from competition.rounds import reserves_promote, settle_enqueue, verdicts_copy

    round_ = Round.objects.filter(campaign=trial.campaign_id).select_related("competition__created_by").first()
    if round_ is None:
        return
    verdicts_copy(exhibits=Exhibit.objects.about_trials(pk=trial.pk))
    if verdict.outcome != VerdictOutcome.SETTLED:
        duels = Exhibit.objects.filter(trial=trial, role=ExhibitRole.SELECTED).values_list("duel", flat=True)
        reserves_promote(round=round_, duels=duels)
    elif _is_milestone(trial.campaign_id):
        settle_enqueue(round_)


def _is_milestone(campaign_id: int) -> bool:
    """Whether the trial that just ended made another tenth full."""
    trials = Trial.objects.shared().filter(campaign=campaign_id)
    total, ended = trials.count(), trials.exclude(state=TrialState.OPEN).count()
    return ended * INTERIM_STEPS // total > (ended - 1) * INTERIM_STEPS // total if total else False


@receiver(verdicts_changed)
def on_verdicts_changed(*, campaign: Campaign, **kwargs: Any) -> None:
    """Settle again, after a pause in which more may change."""
    _settle(campaign, soon=False)


@receiver(run_ended)
def on_run_ended(*, run: Run, **kwargs: Any) -> None:
    """A round that waited for variants, or for its target to learn, goes on."""
    from competition.learning import run_over

    run_over(run)


def _learning_ended(job: Job) -> None:
    from competition.learning import learning_stop

    round_ = Round.objects.filter(pk=job.payload["round"]).first()
    if round_ is not None and job.state != JobState.SUCCEEDED:
        learning_stop(round=round_, job=job)


@receiver([campaign_complete, campaign_closed])
def on_campaign_over(*, campaign: Campaign, **kwargs: Any) -> None:
    """Settle with what there is."""
    _settle(campaign, soon=True)


def _settle(campaign: Campaign, *, soon: bool) -> None:
    from competition.rounds import settle_enqueue

    round_ = Round.objects.filter(campaign=campaign).first()
    if round_ is not None:
        settle_enqueue(round_, soon=soon)


@receiver(job_ended)
def on_job_ended(*, job: Job, **kwargs: Any) -> None:
    """A round whose job failed says so; settling that was overtaken by new verdicts is done again."""
    from competition.rounds import SETTLE_JOB, round_stop, settle_enqueue, settle_is_stale
    from competition.services import ROUND_JOB

    if job.kind == LEARN_JOB:
        _learning_ended(job)
    if job.kind not in {ROUND_JOB, SETTLE_JOB}:
        return
    round_ = Round.objects.filter(pk=job.payload["round"]).first()
    if round_ is None:
        return
    if job.state != JobState.SUCCEEDED:
        round_stop(round=round_, job=job)
    elif job.kind == SETTLE_JOB and settle_is_stale(round_, job):
        settle_enqueue(round_)
