"""Background work of competitions."""

from typing import Any

from competition.models import Round
from jobs.context import JobContext
from jobs.models import Queue
from jobs.registry import job_handler


def _round(context: JobContext) -> Round:
    rounds = Round.objects.select_related(
        "competition__corpus", "competition__taxonomy", "competition__created_by", "campaign", "edition"
    )
    return rounds.get(pk=context.payload["round"])


@job_handler("competition.round", queue=Queue.SCORE)
def round_job(context: JobContext) -> dict[str, Any]:
    """Score, select and ask."""
    from competition.rounds import round_work

    return round_work(round=_round(context), context=context)


@job_handler("competition.settle")
def settle_job(context: JobContext) -> dict[str, Any]:
    """Replace what was dropped, rank what was judged."""
    from competition.rounds import round_settle

    return round_settle(round=_round(context), context=context)


@job_handler("competition.learn")
def learn_job(context: JobContext) -> dict[str, Any]:
    """Put old and new labels together and start the run that learns from them."""
    from competition.learning import learning_begin

    return learning_begin(round=_round(context), context=context)


@job_handler("competition.explore", queue=Queue.SCORE)
def explore_job(context: JobContext) -> dict[str, Any]:
    """Find where two versions differ most."""
    from competition.exploring import exploration_compute

    return exploration_compute(corpus=context.payload["corpus"], versions=context.payload["versions"], context=context)


@job_handler("competition.demo", queue=Queue.SCORE)
def demo_job(context: JobContext) -> dict[str, Any]:
    """Build one of the demos that need nothing."""
    from competition.demo import digits_seed, photographs_seed, seeding

    seeds = {"digits": digits_seed.seed, "photographs": photographs_seed.seed}
    return seeds[context.payload["demo"]](by=seeding.demo_owner(), context=context)
