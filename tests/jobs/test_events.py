"""Live events, from the worker that reports to the page that reads, through a real Redis."""

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import LazySettings
from django.core import signing
from django.utils import timezone

from config import asgi
from config.supervisor import redis_binary
from jobs import events
from jobs.channels import job_channel, user_channel
from jobs.context import JobContext
from jobs.events import job_publish, ticket_make
from jobs.inline import run_inline
from jobs.models import Job
from jobs.registry import job_handler
from tests.jobs.helpers import enqueue

ORIGIN = "http://falsify.example:8000"


@pytest.fixture
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of this test's own."""
    path = tmp_path_factory.mktemp("redis") / "r.sock"
    server = subprocess.Popen(
        [redis_binary(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(path.parent)],
        stdout=subprocess.DEVNULL,
        env={"LC_ALL": "C"},
    )
    client = redis.Redis(unix_socket_path=str(path))
    for _ in range(200):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    yield f"unix://{path}"
    server.kill()
    server.wait()


@pytest.fixture
def live(redis_url: str, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REDIS_URL = redis_url
    settings.JOBS_EVENTS = True
    settings.JOBS_SYNC_SECONDS = 0
    monkeypatch.setattr(events, "_silent_until", 0.0)
    monkeypatch.setattr(asgi, "_broadcaster", asgi.Broadcaster(redis_url))
    events._client.cache_clear()


class Reader:
    """A browser that follows one stream."""

    def __init__(self, ticket: str) -> None:
        self.scope = {"type": "http", "method": "GET", "path": "/events/", "query_string": f"ticket={ticket}".encode()}
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.text = ""
        self.gone = asyncio.Event()
        self.news = asyncio.Event()

    async def __aenter__(self) -> "Reader":
        self.task = asyncio.create_task(asgi.application(self.scope, self._receive, self._send))
        await asyncio.wait_for(self.news.wait(), 5)
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.gone.set()
        await asyncio.wait_for(self.task, 5)

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.text += message.get("body", b"").decode()
            self.news.set()

    async def until(self, words: str) -> None:
        async with asyncio.timeout(5):
            while words not in self.text:
                self.news.clear()
                await self.news.wait()

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(line[6:]) for line in self.text.splitlines() if line.startswith("data: ")]


def make_job(**values: Any) -> Job:
    return Job(kind="jobs.check", title="Import", created_at=timezone.now(), created_by_id=7, **values)


def test_stream_gets_what_its_ticket_names_and_nothing_else(live: None) -> None:
    mine, other = make_job(done=3, total=4, unit="images"), make_job()

    async def follow() -> Reader:
        async with Reader(ticket_make([job_channel(mine.pk)], ORIGIN)) as reader:
            await asyncio.to_thread(job_publish, other)
            await asyncio.to_thread(job_publish, mine)
            await reader.until(str(mine.pk))
            return reader

    reader = asyncio.run(follow())
    assert reader.status == 200
    assert reader.headers[b"access-control-allow-origin"] == ORIGIN.encode()
    assert reader.headers[b"content-type"].startswith(b"text/event-stream")
    assert [(job["id"], job["percent"]) for job in reader.jobs] == [(str(mine.pk), 75.0)]


def test_list_follows_ones_own_jobs_and_two_readers_share_a_subscription(live: None) -> None:
    async def follow() -> list[Reader]:
        ticket = ticket_make([user_channel(7)], ORIGIN)
        async with Reader(ticket) as first, Reader(ticket) as second:
            await asyncio.to_thread(job_publish, make_job())
            await asyncio.gather(first.until("data:"), second.until("data:"))
            return [first, second]

    assert [len(reader.jobs) for reader in asyncio.run(follow())] == [1, 1]


@pytest.mark.django_db
def test_running_job_pushes_progress_and_end(live: None) -> None:
    @job_handler("test.live")
    def handler(context: JobContext) -> None:
        for _ in context.progress(range(3), total=3, unit="shards"):
            pass

    subscription = redis.Redis.from_url(asgi._shared()._url).pubsub()
    job = enqueue("test.live")
    subscription.subscribe(job_channel(job.pk))
    subscription.get_message(timeout=2)
    run_inline(job)
    seen = []
    while message := subscription.get_message(timeout=0.5):
        body = json.loads(message["data"])
        seen.append((body["state"], body["done"]))
    assert seen[0] == ("running", 0)
    assert seen[-1] == ("succeeded", 3)
    assert [done for _, done in seen] == sorted(done for _, done in seen)


@pytest.mark.parametrize(
    "forge", [lambda: "", lambda: "nonsense", lambda: signing.dumps(["falsify:jobs"], salt="another")]
)
def test_forged_tickets_are_refused(live: None, forge: Callable[[], str]) -> None:
    async def knock() -> Reader:
        async with Reader(forge()) as reader:
            return reader

    reader = asyncio.run(knock())
    assert reader.status == 403
    assert "ask the page for a new one" in reader.text


def test_old_tickets_are_refused(live: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = ticket_make(["falsify:jobs"], ORIGIN)
    monkeypatch.setattr(asgi, "TICKET_SECONDS", -1)
    assert asgi.ticket_read(ticket) is None


def test_stream_ends_when_redis_goes_so_that_the_page_polls(
    live: None, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def follow() -> Reader:
        reader = Reader(ticket_make(["falsify:jobs"], ORIGIN))
        async with reader:
            client = redis.Redis.from_url(redis_url)
            with contextlib.suppress(redis.ConnectionError):
                client.shutdown(nosave=True)
            await asyncio.wait_for(asyncio.shield(reader.task), 10)
        return reader

    assert asyncio.run(follow()).status == 200


def test_no_redis_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(asgi, "_broadcaster", asgi.Broadcaster(f"unix://{tmp_path}/none.sock"))

    async def knock() -> Reader:
        async with Reader(ticket_make([], ORIGIN)) as reader:
            return reader

    assert asyncio.run(knock()).status == 503


def test_comments_keep_a_quiet_stream_open(live: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "COMMENT_SECONDS", 0.02)

    async def follow() -> None:
        async with Reader(ticket_make([], ORIGIN)) as reader:
            await reader.until(": still here")

    asyncio.run(follow())


def test_slow_reader_loses_the_oldest_not_the_newest() -> None:
    queue: asyncio.Queue[str | None] = asyncio.Queue(2)
    for body in ("1", "2", "3"):
        asgi._put(queue, body)
    assert [queue.get_nowait(), queue.get_nowait()] == ["2", "3"]


def test_health_and_other_addresses(live: None) -> None:
    async def get(path: str) -> int:
        reader = Reader("")
        reader.scope["path"] = path
        async with reader:
            return reader.status

    assert asyncio.run(get("/healthz")) == 200
    assert asyncio.run(get("/admin/")) == 404
