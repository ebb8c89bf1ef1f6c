"""Every move of the state machine, and the moves that must not happen."""

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone

from accounts.errors import Conflict, DomainError
from jobs import moves, worker
from jobs.context import JobContext, JobLost
from jobs.inline import run_all_inline, run_inline
from jobs.models import Job, JobState, Queue
from jobs.registry import job_handler
from jobs.services import job_cancel, job_delete, job_enqueue, job_reap, job_retry
from jobs.signals import job_ended
from jobs.worker import job_run
from tests.jobs.helpers import enqueue

pytestmark = pytest.mark.django_db


def silence(job: Job, seconds: float = 3600) -> None:
    """Make the last beat that old."""
    Job.objects.filter(pk=job.pk).update(beat_at=timezone.now() - timedelta(seconds=seconds))


def test_runs_to_success_with_result_and_progress(counting: list[int]) -> None:
    job = run_inline(enqueue("test.count", to=5))
    assert counting == [0, 1, 2, 3, 4]
    assert (job.state, job.result, job.done, job.total) == (JobState.SUCCEEDED, {"counted": 5}, 5, 5)
    assert job.percent == 100
    assert job.claim is None
    assert job.worker == ""
    assert job.started_at <= job.ended_at


def test_kind_gives_queue_and_attempts_unless_told_otherwise() -> None:
    job_handler("test.score", queue=Queue.SCORE, max_attempts=2)(lambda context: None)
    assert (enqueue("test.score").queue, enqueue("test.score").max_attempts) == (Queue.SCORE, 2)
    job = job_enqueue(kind="test.score", title="t", payload={}, by=None, queue=Queue.TRAIN)
    assert job.queue == Queue.TRAIN


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(DomainError, match=r'no job kind "test\.missing"'):
        enqueue("test.missing")


def test_same_kind_in_two_modules_is_refused() -> None:
    job_handler("test.twice")(lambda context: None)

    def elsewhere(context: JobContext) -> None: ...

    elsewhere.__module__ = "somewhere.else"
    with pytest.raises(ValueError, match="registered twice"):
        job_handler("test.twice")(elsewhere)


def test_double_message_runs_once(counting: list[int]) -> None:
    job = enqueue("test.count", to=2)
    assert job_run(job.pk) is not None
    assert job_run(job.pk) is None
    assert counting == [0, 1]


def test_unique_returns_the_live_job_and_a_new_one_after_its_end(counting: list[int]) -> None:
    def again() -> Job:
        return job_enqueue(kind="test.count", title="t", payload={"to": 1}, by=None, subject="a.b:1", unique=True)

    first = again()
    assert again() == first
    run_inline(first)
    assert again() != first


def test_retry_is_refused_while_a_unique_twin_lives(counting: list[int]) -> None:
    def make() -> Job:
        return job_enqueue(kind="test.count", title="t", payload={"to": 1}, by=None, subject="a.b:1", unique=True)

    first = job_cancel(job=make(), by=None)
    make()
    with pytest.raises(Conflict, match="runs already"):
        job_retry(job=first, by=None)


def test_not_before_waits(counting: list[int]) -> None:
    soon = timezone.now() + timedelta(hours=1)
    job = job_enqueue(kind="test.count", title="t", payload={"to": 1}, by=None, not_before=soon)
    assert job_run(job.pk) is None
    assert run_all_inline() == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DomainError('corpus "x" is empty'), 'corpus "x" is empty'),
        (ValueError("k = 0: choose at least 1"), "k = 0: choose at least 1"),
        (OSError(28, "No space left on device"), "The disk is full"),
        (MemoryError(), "ran out of memory"),
        (KeyError("row"), "Something unexpected happened (KeyError: 'row')"),
    ],
)
def test_failure_says_why_and_keeps_the_traceback(error: Exception, words: str) -> None:
    @job_handler("test.fail")
    def fail(context: JobContext) -> None:
        raise error

    job = enqueue("test.fail")
    with pytest.raises(DomainError) as caught:
        run_inline(job)
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert words in job.error
    assert words in str(caught.value)
    assert "Traceback" in job.traceback
    assert "test_states.py" in job.traceback


def test_unregistered_kind_fails_in_words() -> None:
    job = Job.objects.create(kind="old.kind", title="From an older version")
    assert 'no job kind "old.kind"' in job_run(job.pk).error


def test_cancel_while_queued(counting: list[int]) -> None:
    job = job_cancel(job=enqueue("test.count", to=1), by=None)
    assert job.state == JobState.CANCELLED
    assert job.ended_at
    assert job_run(job.pk) is None


def test_cancel_while_running_is_obeyed_between_batches(settings: LazySettings) -> None:
    settings.JOBS_SYNC_SECONDS = 0
    seen = []

    @job_handler("test.cancelled")
    def handler(context: JobContext) -> None:
        for number in context.progress(range(100)):
            seen.append(number)
            if number == 2:
                job_cancel(job=Job.objects.get(pk=context.job_id), by=None)

    job = job_run(enqueue("test.cancelled").pk)
    assert job.state == JobState.CANCELLED
    assert seen == [0, 1, 2]


def test_cancel_passes_through_a_handler_that_catches_exceptions(settings: LazySettings) -> None:
    settings.JOBS_SYNC_SECONDS = 0

    @job_handler("test.tolerant")
    def handler(context: JobContext) -> None:
        job_cancel(job=Job.objects.get(pk=context.job_id), by=None)
        for _ in range(3):
            try:
                context.check()
            except Exception:
                pytest.fail("the cancel was swallowed")

    assert job_run(enqueue("test.tolerant").pk).state == JobState.CANCELLED


def test_cancel_that_comes_too_late_leaves_the_success() -> None:
    @job_handler("test.quick")
    def handler(context: JobContext) -> None:
        moves.cancel_running(context.job_id)

    assert job_run(enqueue("test.quick").pk).state == JobState.SUCCEEDED


def test_retry_goes_on_from_the_checkpoint(counting: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    @job_handler("test.breaks")
    def breaks(context: JobContext) -> dict[str, Any]:
        start = context.checkpoint.get("next", 0)
        for number in range(start, 6):
            if number == 3 and start == 0:
                raise ValueError("broken at 3")
            counting.append(number)
            context.save_checkpoint({"next": number + 1})
        return {"from": start}

    job = job_run(enqueue("test.breaks").pk)
    assert job.state == JobState.FAILED
    job = job_retry(job=job, by=None)
    assert (job.state, job.error, job.traceback, job.attempts) == (JobState.QUEUED, "", "", 0)
    job = job_run(job.pk)
    assert (job.state, job.result) == (JobState.SUCCEEDED, {"from": 3})
    assert counting == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING, JobState.SUCCEEDED])
def test_retry_of_what_has_not_failed_is_refused(state: JobState) -> None:
    job = Job.objects.create(kind="test.any", title="Nightly import", state=state)
    with pytest.raises(Conflict, match=f'"Nightly import" is {state}'):
        job_retry(job=job, by=None)
    job.refresh_from_db()
    assert job.state == state


def test_stale_beat_is_taken_over_and_the_first_worker_can_write_nothing(counting: list[int]) -> None:
    job = enqueue("test.count", to=1)
    first = moves.claim(job.pk, "first")
    silence(first)
    assert job_reap()["taken_over"] == 1
    second = moves.claim(job.pk, "second")
    assert second.attempts == 2
    assert not moves.beat(job.pk, first.claim, done=99)
    assert not moves.write(job.pk, first.claim, checkpoint={"next": 99})
    assert not moves.finish(job.pk, first.claim, JobState.FAILED, error="from the dead")
    assert not moves.release(job.pk, first.claim)
    job.refresh_from_db()
    assert (job.state, job.claim, job.checkpoint, job.done) == (JobState.RUNNING, second.claim, {}, 0)


def test_worker_that_lost_its_claim_stops_and_writes_nothing(settings: LazySettings) -> None:
    settings.JOBS_SYNC_SECONDS = 0
    steps = []

    @job_handler("test.lost")
    def handler(context: JobContext) -> dict[str, Any]:
        for step in context.progress(range(10), unit="steps"):
            steps.append(step)
            if step == 1:
                Job.objects.filter(pk=context.job_id).update(claim=uuid.uuid4(), worker="second", done=7)
        return {"never": True}

    job = job_run(enqueue("test.lost").pk)
    assert steps == [0, 1]
    assert (job.state, job.worker, job.done, job.result) == (JobState.RUNNING, "second", 7, {})


def test_checkpoint_of_a_lost_claim_raises() -> None:
    @job_handler("test.lost_checkpoint")
    def handler(context: JobContext) -> None:
        Job.objects.filter(pk=context.job_id).update(claim=uuid.uuid4())
        with pytest.raises(JobLost):
            context.save_checkpoint({"next": 1})

    assert job_run(enqueue("test.lost_checkpoint").pk).checkpoint == {}


def test_fresh_beat_is_left_alone(counting: list[int]) -> None:
    job = moves.claim(enqueue("test.count", to=1).pk, "alive")
    assert job_reap() == {"taken_over": 0, "failed": 0, "cancelled": 0, "announced": 0, "sent": 0}
    job.refresh_from_db()
    assert job.state == JobState.RUNNING


def test_fails_after_its_last_attempt_naming_the_worker(counting: list[int]) -> None:
    job = enqueue("test.count", to=1)
    Job.objects.filter(pk=job.pk).update(max_attempts=2)
    for _ in range(2):
        silence(moves.claim(job.pk, "gpu-7:4242"))
        job_reap()
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "2 times" in job.error
    assert "gpu-7:4242" in job.error


def test_cancelling_and_stale_is_cancelled(counting: list[int]) -> None:
    job = moves.claim(enqueue("test.count", to=1).pk, "dead")
    job_cancel(job=job, by=None)
    silence(job)
    assert job_reap()["cancelled"] == 1
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED


def test_stopping_worker_gives_the_job_back_with_its_checkpoint(
    counting: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_stopping", threading.Event())

    @job_handler("test.released")
    def handler(context: JobContext) -> None:
        start = context.checkpoint.get("next", 0)
        for number in context.progress(range(start, 4)):
            counting.append(number)
            context.save_checkpoint({"next": number + 1})
            if number == 1:
                worker.worker_stop()

    job = job_run(enqueue("test.released").pk)
    assert (job.state, job.checkpoint, job.attempts, job.claim) == (JobState.QUEUED, {"next": 2}, 0, None)
    monkeypatch.setattr(worker, "_stopping", threading.Event())
    assert run_inline(job).state == JobState.SUCCEEDED
    assert counting == [0, 1, 2, 3]


def test_lost_message_is_sent_again_and_a_fresh_one_is_not(
    counting: list[int], settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr("celery.current_app.send_task", lambda name, args, **options: sent.append(args[0]))
    settings.JOBS_SEND_MESSAGES = True
    job = enqueue("test.count", to=1)
    assert sent == []  # not before the transaction commits
    assert job_reap()["sent"] == 1
    assert job_reap()["sent"] == 0
    Job.objects.filter(pk=job.pk).update(message_sent_at=timezone.now() - timedelta(minutes=2))
    assert job_reap()["sent"] == 1
    assert sent == [str(job.pk)] * 2


def test_message_goes_out_on_commit_with_the_id_alone(
    counting: list[int],
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(
        "celery.current_app.send_task", lambda name, args, queue, **options: sent.append((name, args, queue))
    )
    settings.JOBS_SEND_MESSAGES = True
    with django_capture_on_commit_callbacks(execute=True):
        job = enqueue("test.count", to=1)
        assert sent == []
    assert sent == [("jobs.run", [str(job.pk)], "default")]
    job.refresh_from_db()
    assert job.message_sent_at


def test_broker_that_is_away_costs_nothing_but_time(
    counting: list[int], settings: LazySettings, django_capture_on_commit_callbacks: Any
) -> None:
    settings.JOBS_SEND_MESSAGES = settings.JOBS_EVENTS = True
    with django_capture_on_commit_callbacks(execute=True):
        job = enqueue("test.count", to=1)
    job.refresh_from_db()
    assert (job.state, job.message_sent_at) == (JobState.QUEUED, None)


def test_signal_tells_the_end_and_a_crashing_receiver_harms_nobody(counting: list[int]) -> None:
    heard = []

    def crash(**_: Any) -> None:
        raise RuntimeError("receiver is broken")

    def hear(job: Job, **_: Any) -> None:
        heard.append(job.state)

    job_ended.connect(crash)
    job_ended.connect(hear)
    try:
        job = run_inline(enqueue("test.count", to=1))
    finally:
        job_ended.disconnect(crash)
        job_ended.disconnect(hear)
    assert heard == [JobState.SUCCEEDED]
    assert job.announced_at or Job.objects.get(pk=job.pk).announced_at


def test_end_that_nobody_heard_of_is_announced_later(counting: list[int]) -> None:
    heard = []

    def hear(job: Job, **_: Any) -> None:
        heard.append(job.pk)

    job = run_inline(enqueue("test.count", to=1))
    Job.objects.filter(pk=job.pk).update(announced_at=None, ended_at=timezone.now() - timedelta(minutes=1))
    job_ended.connect(hear)
    try:
        assert job_reap()["announced"] == 1
        assert job_reap()["announced"] == 0
    finally:
        job_ended.disconnect(hear)
    assert heard == [job.pk]


def test_run_all_runs_what_jobs_enqueue(counting: list[int]) -> None:
    @job_handler("test.parent")
    def parent(context: JobContext) -> None:
        enqueue("test.count", to=2)

    enqueue("test.parent")
    assert [job.kind for job in run_all_inline()] == ["test.parent", "test.count"]
    assert counting == [0, 1]


def test_live_job_cannot_be_deleted_an_ended_one_can(counting: list[int]) -> None:
    job = enqueue("test.count", to=1)
    with pytest.raises(DomainError, match="cancel it before"):
        job_delete(job=job, by=None)
    job_delete(job=run_inline(job), by=None)
    assert not Job.objects.exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_racing_claims_one_wins() -> None:
    """Sixteen threads claim each of ten jobs: every job gets exactly one holder."""
    for _ in range(10):
        job = Job.objects.create(kind="test.any", title="race")
        barrier = threading.Barrier(16)
        won: list[str] = []

        def claim(name: str, job: Job = job, barrier: threading.Barrier = barrier, won: list[str] = won) -> None:
            barrier.wait()
            try:
                if moves.claim(job.pk, name):
                    won.append(name)
            finally:
                connection.close()

        threads = [threading.Thread(target=claim, args=(f"w{i}",)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        job.refresh_from_db()
        assert won == [job.worker]
        assert job.attempts == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_racing_unique_enqueues_make_one_job() -> None:
    job_handler("test.unique")(lambda context: None)
    made: list[Any] = []

    def make() -> None:
        try:
            job = job_enqueue(kind="test.unique", title="t", payload={}, by=None, subject="a.b:1", unique=True)
            made.append(job.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_beat_thread_keeps_a_silent_handler_alive_and_notices_a_cancel(settings: LazySettings) -> None:
    settings.JOBS_SYNC_SECONDS = settings.JOBS_HEARTBEAT_SECONDS = 0.02
    beats = set()

    @job_handler("test.silent")
    def handler(context: JobContext) -> None:
        deadline = timezone.now() + timedelta(seconds=10)
        while len(beats) < 3 and timezone.now() < deadline:
            beats.add(Job.objects.get(pk=context.job_id).beat_at)
        moves.cancel_running(context.job_id)
        while timezone.now() < deadline:
            context.check()

    job = job_run(enqueue("test.silent").pk)
    assert len(beats) == 3
    assert job.state == JobState.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_progress_is_written_while_it_runs_with_rate_and_time_left(settings: LazySettings) -> None:
    settings.JOBS_SYNC_SECONDS = 0.02
    views: list[Job] = []

    @job_handler("test.progress")
    def handler(context: JobContext) -> None:
        pause = threading.Event()
        with context.progress(range(100), total=100, unit="images", message="Reading") as bar:
            for _ in bar:
                pause.wait(0.005)

    job = job_run(enqueue("test.progress").pk, watcher=views.append)
    assert len(views) >= 3
    assert [view.done for view in views] == sorted(view.done for view in views)
    middle = views[len(views) // 2]
    assert (middle.unit, middle.message, middle.total) == ("images", "Reading", 100)
    assert 20 < middle.rate < 220
    assert 0 < middle.seconds_left < 5
    assert (job.done, job.seconds_left) == (100, None)
