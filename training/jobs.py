"""What workers do for training."""

from typing import Any

from jobs.context import JobContext
from jobs.models import Queue
from jobs.registry import job_handler
from training.models import Run, VersionPoint


@job_handler("training.run", queue=Queue.TRAIN, max_attempts=20)
def run(context: JobContext) -> dict[str, Any]:
    from training.services import run_execute

    done = run_execute(run=Run.objects.select_related("created_by").get(pk=context.payload["run"]), context=context)
    return {"outputs": [output.version_id for output in done.outputs.all()]}


@job_handler("training.point", queue=Queue.SCORE)
def point(context: JobContext) -> dict[str, Any]:
    from training.points import point_execute

    wanted = VersionPoint.objects.select_related("version__model", "made", "created_by").get(
        pk=context.payload["point"]
    )
    return {"version": point_execute(point=wanted, context=context).pk}
