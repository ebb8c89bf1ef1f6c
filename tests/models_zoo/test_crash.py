"""kill -9 of a worker in mid scoring: the next one goes on, and the columns are the bytes of an undisturbed run."""

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

from accounts.models import User
from config.env import BASE_DIR
from jobs.context import JobCancelled
from jobs.inline import run_inline
from jobs.models import Job, JobState
from jobs.services import job_reap
from jobs.worker import job_run
from models_zoo import running
from models_zoo.models import Scores
from models_zoo.services import scores_request
from tests.models_zoo.builders import make_corpus, make_model, make_version

ROWS, SHARD = 60, 4
#: A worker process of its own, on the test's database, that is slow enough to be killed between two shards.
WORKER = """
import time
import django
from django.conf import settings
django.setup()
settings.DATABASES["default"]["NAME"] = {name!r}
settings.JOBS_SEND_MESSAGES = settings.JOBS_EVENTS = False
from jobs.worker import job_run
from models_zoo import running
from models_zoo.engine.scores import ScoreStore
running.SHARD_ROWS = {shard}
write = ScoreStore.write_shard
def write_slowly(*args):
    time.sleep(0.1)
    write(*args)
ScoreStore.write_shard = write_slowly
job_run({job!r})
"""


def start_worker(job: Job, var_dir: Path) -> subprocess.Popen[bytes]:
    code = WORKER.format(name=str(connection.settings_dict["NAME"]), job=str(job.pk), shard=SHARD)
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "VAR_DIR": str(var_dir)}
    return subprocess.Popen([sys.executable, "-c", code], cwd=BASE_DIR, env=environment)


@pytest.mark.django_db(transaction=True)
def test_kill_9_in_mid_scoring_leaves_the_same_bytes(
    admin: User, var_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(running, "SHARD_ROWS", SHARD)
    corpus = make_corpus(admin, tmp_path, n=ROWS)
    model = make_model(admin)
    killed = make_version(model, tmp_path, by=admin, label="killed")
    file = killed.path
    undisturbed = make_version(model, tmp_path, by=admin, label="undisturbed", file=file)
    job = scores_request(versions=[killed], corpus=corpus, by=admin)
    parts = Scores(version=killed, corpus=corpus).directory / "parts"

    process = start_worker(job, var_dir)
    deadline = time.monotonic() + 200
    while len(list(parts.glob("*.npy"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {part.name: part.stat().st_mtime_ns for part in parts.glob("*.npy")}
    assert 3 <= len(finished) < ROWS / SHARD
    assert Scores.objects.get().state == "partial"

    Job.objects.filter(pk=job.pk).update(beat_at=timezone.now() - timedelta(minutes=1))
    assert job_reap()["taken_over"] == 1
    ended = job_run(job.pk)
    assert ended is not None
    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 2), ended.error

    run_inline(scores_request(versions=[undisturbed], corpus=corpus, by=admin))
    resumed, plain = (Scores.objects.get(version=version) for version in (killed, undisturbed))
    assert resumed.digest == plain.digest
    assert resumed.summary == plain.summary
    for name in ("scores.json", "classes.npy", "confidences.npy"):
        assert (resumed.directory / name).read_bytes() == (plain.directory / name).read_bytes()


class Watched:
    """A job's context as the zoo uses it; cancels when ``stop_at`` images are done."""

    def __init__(self, stop_at: int | None) -> None:
        self.stop_at = stop_at
        self.seen: list[int] = []

    def report(self, done: int | None = None, total: int | None = None, **words: str) -> None:
        if done is None:
            return
        self.seen.append(done)
        if self.stop_at is not None and done >= self.stop_at:
            raise JobCancelled


@pytest.mark.django_db
def test_a_cancelled_scoring_keeps_its_shards_and_goes_on_later(
    admin: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(running, "SHARD_ROWS", SHARD)
    corpus = make_corpus(admin, tmp_path, n=ROWS)
    version = make_version(make_model(admin), tmp_path, by=admin)
    with pytest.raises(JobCancelled):
        running.scores_ensure(versions=[version], corpus=corpus, context=Watched(stop_at=2 * SHARD))
    kept = len(list((Scores.objects.get().directory / "parts").glob("*.npy")))
    assert 1 <= kept < ROWS / SHARD
    watched = Watched(stop_at=None)
    scores = running.scores_ensure(versions=[version], corpus=corpus, context=watched)
    assert scores[0].state == "complete"
    assert min(done for done in watched.seen if done) > kept * SHARD
    assert watched.seen[-1] == ROWS
