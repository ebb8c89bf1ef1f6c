"""The command line of jobs, and the clock."""

import threading
import time
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from jobs import schedule
from jobs.context import JobContext
from jobs.management.commands import jobs_check
from jobs.models import Job, JobState
from jobs.registry import job_handler
from jobs.schedule import periodic, run_due, run_until
from jobs.services import job_reap
from tests.jobs.helpers import enqueue


@pytest.fixture
def no_chores(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_CHORES", {})


@pytest.mark.django_db
def test_jobs_run_runs_all_and_reports_failures() -> None:
    @job_handler("test.fails")
    def fails(context: JobContext) -> None:
        raise ValueError("row 7 has no path")

    enqueue("test.fails")
    good = enqueue("jobs.check", steps=3, pause=0)
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 job failed"):
        call_command("jobs_run", quiet=True, stdout=out, stderr=err)
    good.refresh_from_db()
    assert good.result == {"sum": 3}
    assert "succeeded" in out.getvalue()
    assert "row 7 has no path" in err.getvalue()


@pytest.mark.django_db
def test_jobs_check_names_the_silent_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_check, "POLL_SECONDS", 0.01)
    with pytest.raises(CommandError, match="No success on default, score, train"):
        call_command("jobs_check", timeout=0.02, stdout=StringIO())
    assert set(Job.objects.values_list("state", flat=True)) == {JobState.CANCELLED}


@pytest.mark.django_db(transaction=True)
def test_jobs_check_succeeds_with_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_check, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(
        jobs_check.time, "sleep", lambda seconds: call_command("jobs_run", quiet=True, stdout=StringIO())
    )
    out = StringIO()
    call_command("jobs_check", stdout=out)
    assert out.getvalue().split("\n")[:3] == ["default: succeeded", "score: succeeded", "train: succeeded"]


def test_reaper_is_on_the_clock() -> None:
    assert any(chore.run is job_reap for chore in schedule._CHORES.values())


@pytest.mark.django_db
def test_chores_run_when_due_and_a_broken_one_harms_nobody(no_chores: None) -> None:
    ran: list[str] = []

    @periodic(seconds=10)
    def broken() -> None:
        raise RuntimeError("no")

    @periodic(seconds=1)
    def sound() -> None:
        ran.append("sound")

    assert len(run_due(100.0)) == 2
    assert run_due(100.5) == []
    assert [name.rpartition(".")[2] for name in run_due(101.0)] == ["sound"]
    assert len(run_due(110.0)) == 2
    assert ran == ["sound"] * 3


def test_clock_stops_when_told(no_chores: None) -> None:
    stop = threading.Event()
    ran: list[Any] = []

    @periodic(seconds=0.01)
    def count() -> None:
        ran.append(1)
        if len(ran) == 3:
            stop.set()

    started = time.monotonic()
    run_until(stop)
    assert len(ran) == 3
    assert time.monotonic() - started < 5
