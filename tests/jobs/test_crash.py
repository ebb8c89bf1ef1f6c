"""kill -9 of the process that runs a job: another one goes on from the checkpoint, with the same result."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from config.env import BASE_DIR
from jobs.models import Job, JobState
from jobs.services import job_reap
from jobs.worker import job_run
from tests.jobs.helpers import enqueue

STEPS = 30
#: A worker process of its own, on the test's database.
WORKER = """
import django
from django.conf import settings
django.setup()
settings.DATABASES["default"]["NAME"] = {name!r}
settings.JOBS_SYNC_SECONDS = 0.05
from jobs.worker import job_run
job_run({job!r})
"""


def start_worker(job: Job, tmp_path: Path) -> subprocess.Popen[bytes]:
    code = WORKER.format(name=str(connection.settings_dict["NAME"]), job=str(job.pk))
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "VAR_DIR": str(tmp_path)}
    return subprocess.Popen([sys.executable, "-c", code], cwd=BASE_DIR, env=environment)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_kill_9_in_mid_job_costs_nothing_but_time(tmp_path: Path) -> None:
    job = enqueue("jobs.check", steps=STEPS, pause=0.05)
    process = start_worker(job, tmp_path)
    deadline = time.monotonic() + 60
    while job.checkpoint.get("next", 0) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
        job.refresh_from_db()
    process.send_signal(signal.SIGKILL)
    process.wait()
    job.refresh_from_db()
    reached = job.checkpoint["next"]
    assert (job.state, 3 <= reached < STEPS) == (JobState.RUNNING, True)
    assert str(process.pid) in job.worker

    Job.objects.filter(pk=job.pk).update(beat_at=timezone.now() - timedelta(minutes=1))
    assert job_reap()["taken_over"] == 1
    job = job_run(job.pk)
    assert (job.state, job.result, job.attempts) == (JobState.SUCCEEDED, {"sum": sum(range(STEPS))}, 2)
