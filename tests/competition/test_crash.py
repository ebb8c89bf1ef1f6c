"""kill -9 of the process that works on a round: another one goes on, and every result is the same to the last bit."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone

from accounts.models import User
from competition import exports
from competition.models import Competition, Duel, Round, RoundState, Snapshot
from competition.services import competition_launch
from config.env import BASE_DIR
from corpora.models import Corpus
from jobs.models import Job, JobState
from jobs.services import job_reap
from models_zoo.models import Version
from tests.competition.builders import label_all, make_competition, work

#: A worker process of its own on the test's database, slowed down so that it can be killed in the middle.
WORKER = """
import sys, time
import django
from django.conf import settings
django.setup()
settings.DATABASES["default"]["NAME"] = {name!r}
settings.MEDIA_ROOT = {media!r}
settings.VAR_DIR = __import__("pathlib").Path({var!r})
settings.JOBS_SEND_MESSAGES = settings.JOBS_EVENTS = False
from importlib import import_module
slowed = import_module("competition.{module}")
original = slowed.{function}
def slow(*args, **kwargs):
    result = original(*args, **kwargs)
    print("step", flush=True)
    time.sleep({pause})
    return result
slowed.{function} = slow
from jobs.worker import job_run
job_run({job!r})
"""


def kill_in_the_middle(job: Job, settings: LazySettings, *, module: str, function: str, steps: int) -> None:
    """Start a worker and kill -9 it after the ``steps``-th call of a function, then have the job taken over."""
    code = WORKER.format(
        name=str(connection.settings_dict["NAME"]), media=str(settings.MEDIA_ROOT), var=str(settings.VAR_DIR),
        module=module, function=function, pause=30 if steps == 1 else 0.5, job=str(job.pk),
    )  # fmt: skip
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "VAR_DIR": str(settings.VAR_DIR)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=BASE_DIR, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    seen = 0
    deadline = time.monotonic() + 120
    for line in process.stdout:
        seen += line.strip() == b"step"
        if seen == steps or time.monotonic() > deadline:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    job.refresh_from_db()
    assert (seen, job.state) == (steps, JobState.RUNNING)
    Job.objects.filter(pk=job.pk).update(beat_at=timezone.now() - timedelta(minutes=5))
    assert job_reap()["taken_over"] == 1


def results(competition: Competition) -> str:
    """What a competition amounts to, without database ids and times."""

    def bare(rows: Any) -> list[dict[str, Any]]:
        hidden = {"exhibit", "trial", "settled_at", "created_at", "snapshot"}
        return [{name: value for name, value in row.items() if name not in hidden} for row in rows]

    trials = (
        competition.rounds.get()
        .campaign.trials.order_by("position")
        .values_list("position", "item__row", "kind", "classes")
    )
    tables = [bare(exports.selection_rows(competition)), bare(exports.standing_rows(competition)), list(trials)]
    return json.dumps(tables, default=str)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_kill_9_during_selection_and_settling_changes_no_result(
    corpus: Corpus, versions: list[Version], researcher: User, settings: LazySettings
) -> None:
    outcomes = []
    for disturbed in (False, True):
        competition = make_competition(corpus, versions, by=researcher, name=f"disturbed: {disturbed}")
        round_ = competition_launch(competition=competition, by=researcher)
        if disturbed:
            kill_in_the_middle(round_.job, settings, module="kinds.mad.selecting", function="duel_write", steps=2)
            assert 0 < Duel.objects.filter(round=round_).count() < 3
        work()
        round_.refresh_from_db()
        assert round_.state == RoundState.LABELLING
        label_all(round_.campaign)
        settling = Job.objects.get(kind="competition.settle", state=JobState.QUEUED, payload__round=round_.pk)
        if disturbed:
            Job.objects.filter(pk=settling.pk).update(not_before=None)
            kill_in_the_middle(settling, settings, module="rounds", function="verdicts_copy", steps=1)
            assert not Snapshot.objects.filter(competition=competition).exists()
        work()
        assert Round.objects.get(pk=round_.pk).state == RoundState.COMPLETE
        assert Snapshot.objects.filter(competition=competition).count() == 1
        outcomes.append(results(competition))
    assert outcomes[0] == outcomes[1]
