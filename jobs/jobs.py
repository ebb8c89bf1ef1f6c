"""The jobs room's own job: the check that messages, workers and pages work together (``manage.py jobs_check``)."""

import time
from typing import Any

from jobs.context import JobContext
from jobs.registry import job_handler


@job_handler("jobs.check")
def check(context: JobContext) -> dict[str, Any]:
    """Add up ``payload["steps"]`` numbers with a pause of ``payload["pause"]`` seconds after each."""
    steps, pause = context.payload["steps"], context.payload["pause"]
    start, total = context.checkpoint.get("next", 0), context.checkpoint.get("sum", 0)
    with context.progress(range(start, steps), total=steps, unit="steps", message="Checking", done=start) as bar:
        for number in bar:
            time.sleep(pause)
            total += number
            context.save_checkpoint({"next": number + 1, "sum": total})
    return {"sum": total}
