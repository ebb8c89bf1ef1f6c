"""ASGI entry point: live events and nothing else. Neither Django nor the database is loaded.

``GET /events/?ticket=…`` streams server-sent events; ``GET /healthz`` says ok. The ticket (jobs.events) names the
channels and the origin of the page that may read them. One Redis subscription serves every stream of the process.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import redis.asyncio
from django.core import signing

from config.env import environment
from config.guard import die_with_parent
from jobs.channels import PATTERN, TICKET_SALT, TICKET_SECONDS

die_with_parent()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

logger = logging.getLogger(__name__)
COMMENT_SECONDS = 15.0
WAITING_EVENTS = 200  # a reader slower than that loses the oldest; every event carries the whole job


class Broadcaster:
    """One subscription to Redis, fanned out to the queues of those who listen.

    A queue that receives None must end: the server went away, and the page polls until it comes back.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._listeners: dict[str, set[asyncio.Queue[str | None]]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def join(self, channels: list[str]) -> "asyncio.Queue[str | None]":
        """A queue of what these channels say from now on.

        Raises:
            redis.RedisError: when the server is away.
        """
        if self._task is None or self._task.done():
            pubsub = redis.asyncio.Redis.from_url(self._url).pubsub()
            await pubsub.psubscribe(PATTERN)
            self._task = asyncio.create_task(self._pump(pubsub))
        queue: asyncio.Queue[str | None] = asyncio.Queue(WAITING_EVENTS)
        for channel in channels:
            self._listeners[channel].add(queue)
        return queue

    def leave(self, channels: list[str], queue: "asyncio.Queue[str | None]") -> None:
        for channel in channels:
            self._listeners[channel].discard(queue)
            if not self._listeners[channel]:
                del self._listeners[channel]

    async def _pump(self, pubsub: Any) -> None:
        try:
            async for message in pubsub.listen():
                if message["type"] == "pmessage":
                    self._give(message["channel"].decode(), message["data"].decode())
        except (redis.RedisError, OSError) as error:
            logger.info("the subscription ended: %s", error)
        finally:
            for queue in {queue for listeners in self._listeners.values() for queue in listeners}:
                _put(queue, None)
            with suppress(redis.RedisError, OSError):
                await pubsub.aclose()

    def _give(self, channel: str, body: str) -> None:
        for queue in self._listeners.get(channel, ()):
            _put(queue, body)


def _put(queue: "asyncio.Queue[str | None]", body: str | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(body)


def ticket_read(ticket: str) -> dict[str, Any] | None:
    """What the ticket allows, as ``{"channels": [...], "origin": "scheme://host:port"}``; None when bad or too old."""
    try:
        key = environment().secret_key()
        return signing.loads(ticket, key=key, salt=TICKET_SALT, max_age=TICKET_SECONDS, fallback_keys=[])
    except signing.BadSignature:
        return None


_broadcaster: Broadcaster | None = None


def _shared() -> Broadcaster:
    global _broadcaster
    if _broadcaster is None:
        _broadcaster = Broadcaster(environment().redis_url)
    return _broadcaster


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http":
        await _http(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/healthz":
        await _answer(send, 200, "ok")
        return
    if scope["path"] != "/events/" or scope["method"] != "GET":
        await _answer(send, 404, "There is nothing here but GET /events/?ticket=…")
        return
    ticket = parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [""])[0]
    allowed = ticket_read(ticket)
    if allowed is None:
        await _answer(send, 403, "The ticket is missing, forged or too old: ask the page for a new one.")
        return
    try:
        queue = await _shared().join(allowed["channels"])
    except (redis.RedisError, OSError) as error:
        logger.info("no live events: %s", error)
        await _answer(send, 503, "Live events are away: poll instead.", allowed["origin"])
        return
    try:
        await _stream(queue, allowed["origin"], receive, send)
    finally:
        _shared().leave(allowed["channels"], queue)


async def _answer(send: Send, status: int, text: str, origin: str | None = None) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _headers("text/plain", origin)})
    await send({"type": "http.response.body", "body": text.encode()})


def _headers(content_type: str, origin: str | None) -> list[tuple[bytes, bytes]]:
    headers = {"content-type": f"{content_type}; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}
    if origin:
        headers |= {"access-control-allow-origin": origin, "vary": "origin"}
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def _stream(queue: "asyncio.Queue[str | None]", origin: str, receive: Receive, send: Send) -> None:
    """Send what the queue holds until the reader leaves or the queue ends; a comment now and then keeps it open."""
    await send({"type": "http.response.start", "status": 200, "headers": _headers("text/event-stream", origin)})
    await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
    gone = asyncio.create_task(_disconnected(receive))
    try:
        while not gone.done():
            waiting = asyncio.create_task(queue.get())
            await asyncio.wait({waiting, gone}, timeout=COMMENT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                chunk = ": still here\n\n"
            elif (body := waiting.result()) is None:
                break
            else:
                chunk = f"event: job\ndata: {body}\n\n"
            if not gone.done():
                await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
