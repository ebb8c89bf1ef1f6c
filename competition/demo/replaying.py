"""Labels a campaign with recorded answers of real people, through the requests that the annotator's page makes."""

import json
import logging
import re
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode

import numpy as np
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connection

from accounts.errors import DomainError
from competition.models import Round, RoundState
from jobs.inline import run_all_inline
from labeling.services import invite_create

THREADS = 4
PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0  # beyond the end of leases that an interrupted replay left behind

Answering = Callable[[dict[str, Any]], dict[str, Any]]
"""From the card of a trial, as the page gets it, to the value of an answer."""


class Person:
    """One simulated annotator with a browser's cookies."""

    def __init__(self, server: str, number: int) -> None:
        self.number = number
        self._server = server
        self._jar = CookieJar()
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar)).open
        self.campaign = 0
        self.seconds: list[float] = []

    def join(self, code: str) -> None:
        """Follow the invite link and agree."""
        form = self._page(f"/invite/{code}/")
        page = self._page(f"/invite/{code}/", self._form(form, display_name=f"Recorded person {self.number}"))
        found = re.search(r"/label/(\d+)/", page.geturl())
        if not found:
            raise DomainError(f"The invite led to {page.geturl()} instead of the labelling page.")
        self.campaign = int(found[1])
        self._page(f"/label/{self.campaign}/", self._form(page, agree="yes"))

    def label(self, answer: Answering) -> int:
        """Answer until nothing is left for this person; returns how many answers were given."""
        turn = self._post("next/", {})
        given = 0
        while turn["trials"]:
            trial = turn["trials"][0]
            value = answer(trial)
            started = time.perf_counter()
            turn = self._post(
                "answer/",
                {
                    "slot": trial["slot"], "kind": "answer", "value": value, "key": str(uuid.uuid4()),
                    "presented_at": datetime.now(UTC).isoformat(), "milliseconds": 1500, "viewing": {},
                },
            )  # fmt: skip
            self.seconds.append(time.perf_counter() - started)
            given += 1
        return given

    def _token(self) -> str:
        return next(cookie.value or "" for cookie in self._jar if cookie.name == "csrftoken")

    def _form(self, page: Any, **fields: str) -> bytes:
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.read().decode())
        return urlencode({"csrfmiddlewaretoken": found[1] if found else self._token(), **fields}).encode()

    def _page(self, path: str, form: bytes | None = None) -> Any:
        headers = {"Referer": self._server}
        return self._open(urllib.request.Request(self._server + path, data=form, headers=headers))  # noqa: S310 - http

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "X-CSRFToken": self._token(), "Referer": self._server}
        address = f"{self._server}/label/{self.campaign}/{path}"
        request = urllib.request.Request(address, data=json.dumps(body).encode(), headers=headers)  # noqa: S310 - http
        try:
            with self._open(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise DomainError(f"{address} answered {error.code}: {error.read().decode()[:300]}") from error


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """One line per request would bury the progress."""


@contextmanager
def own_server() -> Iterator[str]:
    """The whole site on a free local port, for as long as the block lasts."""
    logging.getLogger("django_structlog").setLevel(logging.WARNING)
    server = ThreadedWSGIServer(("127.0.0.1", 0), _QuietHandler)
    server.set_app(StaticFilesHandler(get_wsgi_application()))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def replay(
    round: Round,
    answer_for: Callable[[int], Answering],
    *,
    people: int,
    note: str,
    server: str,
    say: Callable[[str], object],
) -> int:
    """Label the round's campaign to its end; returns the number of answers given.

    Args:
        answer_for: how each of the ``people``, numbered from 0, answers.
        note: where their answers come from, kept with the invite.
        server: address of a running site, whose workers then settle the round; empty: a server of its own, and
            settling happens here.

    Raises:
        DomainError: when the round does not come to its end.
    """
    if round.state == RoundState.COMPLETE:
        return 0
    if server and not server.startswith(("http://", "https://")):
        raise DomainError(f'"{server}" is no web address: give one such as http://127.0.0.1:8000.')
    if round.campaign is None:
        raise DomainError(f"{round} has nothing to label: it is {round.get_state_display().lower()}.")
    invite = invite_create(campaign=round.campaign, by=round.competition.created_by, quota=people, note=note)
    how = [answer_for(number) for number in range(people)]
    if server:
        return _label_all(round, server.rstrip("/"), invite.code, how, say, settle=lambda: time.sleep(2))
    with own_server() as own:
        return _label_all(round, own, invite.code, how, say, settle=run_all_inline)


def _label_all(
    round_: Round,
    server: str,
    code: str,
    how: Sequence[Answering],
    say: Callable[[str], object],
    *,
    settle: Callable[[], object],
) -> int:
    people = [Person(server, number) for number in range(len(how))]
    for person in people:
        person.join(code)

    def work(person: Person) -> int:
        try:
            return person.label(how[person.number])
        finally:
            connection.close()

    assert round_.campaign is not None
    patience = round_.campaign.lease_seconds + PATIENCE_SECONDS
    given, quiet_since = 0, time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        while time.monotonic() - quiet_since < patience:
            new = sum(pool.map(work, people))
            if new:
                given, quiet_since = given + new, time.monotonic()
                say(f"{given} answers given")
            settle()
            time.sleep(0 if new else PAUSE_SECONDS)
            round_.refresh_from_db()
            if round_.state == RoundState.COMPLETE:
                times = np.concatenate([person.seconds for person in people]) * 1000
                say(f"Complete: {given} answers; round trip median {np.median(times):.0f} ms")
                return given
    raise DomainError(f"{round_} is still {round_.get_state_display().lower()} after {given} answers.")
