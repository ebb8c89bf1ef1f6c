"""The annotator's round trip (submit + lease next) over the real server: processor time, latency, exactness.

    python -m benchmarks.bench_labelling [--seconds 40] [--people 100]

Granian with the real middleware (sessions, CSRF, security headers, request log) on PostgreSQL (a temporary cluster) and
on SQLite. Two phases on loopback:

* human pace: each person answers once per 5 s, at a random phase; latency as the person's browser sees it;
* as fast as it goes: 8 connections without pauses; processor time per round trip.

Afterwards every answer must be stored once, no trial may have more judgements than required, and no person two of one.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any
from uuid import uuid4

import psutil

from benchmarks.report import markdown_table, write_section
from scripts.with_postgres import cluster, why_not

ROOT = Path(__file__).resolve().parent.parent
PACE = 5.0  # seconds per answer of one person
FAST_CONNECTIONS = 8
FAST_SECONDS = 10
WARM_UP_SECONDS = 3  # every worker has imported everything
OVERLAP = 5
TARGET_CPU_MS, TARGET_P95_MS = 8.0, 100.0


# The program under test runs in processes of its own, with this environment.


@contextmanager
def environment(folder: Path, database: str | None) -> Iterator[dict[str, str]]:
    """Environment of the product, with a private Redis."""
    from config.supervisor import redis_binary

    redis = folder / "redis.sock"
    variables = os.environ | {
        "VAR_DIR": str(folder),
        "REDIS_URL": f"unix://{redis}",
        "LOG_LEVEL": "WARNING",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    variables.pop("DATABASE_URL", None)
    if database:
        variables["DATABASE_URL"] = database
    command = [redis_binary(), "--port", "0", "--unixsocket", str(redis), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield variables
    finally:
        server.terminate()
        server.wait()


def prepared(variables: dict[str, str], people: int, trials: int) -> dict[str, Any]:
    """Migrate, and make a campaign and people who are logged in."""
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, env=variables, check=True)
    command = [sys.executable, "-m", "benchmarks.bench_labelling", "--seed", str(people), str(trials)]
    done = subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True, text=True)
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def seed(people: int, trials: int) -> None:
    """Print the campaign's id and each person's session as JSON; runs in a process with the product's environment."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.cached_db import SessionStore
    from django.utils import timezone

    from accounts.models import Role, User
    from corpora.models import Corpus, Item, Taxonomy
    from labeling.models import Participation
    from labeling.services import TrialSpec, campaign_create, campaign_open, trials_add

    owner = User.objects.create_user("owner", role=Role.RESEARCHER)
    classes = [{"id": str(n), "name": f"class {n}", "synonyms": [], "gloss": "a gloss " * 8} for n in range(1000)]
    taxonomy = Taxonomy.objects.create(
        name="t", kind="flat", n_classes=1000, classes=classes, digest="0", created_by=owner
    )
    corpus = Corpus.objects.create(name="c", source="folder", state="ready", n_rows=trials, created_by=owner)
    items = Item.objects.bulk_create(
        Item(corpus=corpus, row=n, sha256=f"{n:064x}", width=500, height=375, image=f"items/{n}.jpg")
        for n in range(trials)
    )
    campaign = campaign_create(name="c", taxonomy=taxonomy, by=owner, overlap=OVERLAP)
    trials_add(campaign=campaign, trials=[TrialSpec(item, [item.row % 999, 999]) for item in items])
    campaign_open(campaign=campaign, by=owner)
    sessions = []
    for number in range(people):
        person = User.objects.create_user(f"person-{number}")
        Participation.objects.create(campaign=campaign, person=person, consented_at=timezone.now())
        store = SessionStore()
        store[SESSION_KEY] = str(person.pk)
        store[BACKEND_SESSION_KEY] = "accounts.backends.AccountBackend"
        store[HASH_SESSION_KEY] = person.get_session_auth_hash()
        store.save()
        sessions.append(store.session_key)
    print(json.dumps({"campaign": campaign.pk, "sessions": sessions}))


def check() -> None:
    """Print what is stored, as JSON; runs in a process with the product's environment."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.db.models import Count

    from labeling.models import Judgement, Slot

    judged = Judgement.objects.in_force()
    over = judged.order_by().values("trial").annotate(n=Count("pk")).filter(n__gt=OVERLAP + 2).count()
    twice = judged.order_by().values("trial", "person").annotate(n=Count("pk")).filter(n__gt=1).count()
    shared = Slot.objects.filter(is_shared=True, number__lt=OVERLAP)
    extra = shared.order_by().values("trial").annotate(n=Count("pk")).filter(n__gt=OVERLAP).count()
    print(json.dumps({"judgements": judged.count(), "over": over + extra, "twice": twice}))


@contextmanager
def server(variables: dict[str, str]) -> Iterator[tuple[int, psutil.Process]]:
    """Granian as the supervisor starts it; gives its port and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "2", "--http", "1", "--no-ws", "--blocking-threads", "4", "--log-level", "warning",
        "config.wsgi:application",
    ]  # fmt: skip
    log = (Path(variables["VAR_DIR"]) / "granian.log").open("w+")
    running = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                connection = HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                break
            except OSError:
                time.sleep(0.2)
        else:
            log.seek(0)
            sys.exit(f"The server does not answer:\n{log.read()}")
        yield port, psutil.Process(running.pid)
    finally:
        for process in [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]:
            process.kill()
        running.wait()


def processor_seconds(web: psutil.Process, database: psutil.Process | None) -> tuple[float, float]:
    """Processor seconds used so far by the web processes, and by PostgreSQL with its processes that live."""

    def used(processes: list[psutil.Process]) -> float:
        total = 0.0
        for process in processes:
            try:
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
            except psutil.NoSuchProcess:
                continue
        return total

    servers = [database, *database.children()] if database else []
    return used([web, *web.children(recursive=True)]), used(servers)


def postmaster(variables: dict[str, str]) -> psutil.Process | None:
    """The server of the temporary cluster that DATABASE_URL names."""
    if "DATABASE_URL" not in variables:
        return None
    folder = Path(variables["DATABASE_URL"].partition("host=")[2])
    return psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))


class Annotator:
    """One person's browser: keeps its connection, its cookies and what it holds."""

    def __init__(self, port: int, campaign: int, session: str, number: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=60)
        token = f"{number:032d}"
        self.path = f"/label/{campaign}/"
        self.headers = {
            "Content-Type": "application/json",
            "Cookie": f"sessionid={session}; csrftoken={token}",
            "X-CSRFToken": token,
            "Connection": "keep-alive",
        }
        self.random = Random(number)
        self.held: list[dict[str, Any]] = []
        self.latencies: list[float] = []
        self.errors: list[str] = []
        self.answers = 0

    def post(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.connection.request("POST", self.path + name, json.dumps(body), self.headers)
        response = self.connection.getresponse()
        text = response.read()
        if response.status != 200:
            self.errors.append(f"{response.status} {text[:200]!r}")
            return {}
        answer: dict[str, Any] = json.loads(text)
        return answer

    def start(self) -> None:
        self.held = self.post("next/", {"count": 3}).get("trials", [])

    def answer(self) -> bool:
        """One round trip; False when nothing is left."""
        if not self.held:
            return False
        trial = self.held[0]
        value = {str(card["index"]): self.random.random() < 0.8 for card in trial["classes"]}
        body = {
            "slot": trial["slot"],
            "key": str(uuid4()),
            "kind": "answer",
            "value": value,
            "presented_at": datetime.now(UTC).isoformat(),
            "milliseconds": 1500,
            "viewing": {"width": 1280, "height": 800, "pixel_ratio": 1, "zoom": 1, "scale": 1, "device": "keyboard"},
            "count": 3,
        }
        begun = time.perf_counter()
        reply = self.post("answer/", body)
        self.latencies.append(time.perf_counter() - begun)
        self.answers += bool(reply)
        self.held = reply.get("trials", [])
        return bool(reply)


def at_human_pace(people: list[Annotator], seconds: float) -> None:
    """Everybody answers once per ``PACE`` seconds, from a phase of their own."""
    begun = time.monotonic()

    def live(person: Annotator) -> None:
        due = begun + person.random.random() * PACE
        while due < begun + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            if not person.answer():
                return
            due += PACE * (0.6 + 0.8 * person.random.random())

    _together(people, live)


def as_fast_as_it_goes(people: list[Annotator], seconds: float) -> None:
    end = time.monotonic() + seconds

    def live(person: Annotator) -> None:
        while time.monotonic() < end and person.answer():
            pass

    _together(people, live)


def _together(people: list[Annotator], live: Any) -> None:
    threads = [threading.Thread(target=live, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measured(name: str, variables: dict[str, str], people: int, seconds: float) -> dict[str, Any]:
    print(f"{name}: making a campaign", flush=True)
    made = prepared(variables, people, trials=4000)
    with server(variables) as (port, web):
        crowd = [Annotator(port, made["campaign"], key, number) for number, key in enumerate(made["sessions"])]
        _together(crowd, Annotator.start)
        as_fast_as_it_goes(crowd[:FAST_CONNECTIONS], WARM_UP_SECONDS)
        for person in crowd:
            person.latencies.clear()
        print(f"{name}: {people} people for {seconds:.0f} s", flush=True)
        at_human_pace(crowd, seconds)
        paced = sorted(latency for person in crowd for latency in person.latencies)
        fast = crowd[:FAST_CONNECTIONS]
        database = postmaster(variables)
        before, count, begun = processor_seconds(web, database), sum(p.answers for p in fast), time.time()
        as_fast_as_it_goes(fast, FAST_SECONDS)
        after, trips, wall = processor_seconds(web, database), sum(p.answers for p in fast), time.time()
        trips -= count
    command = [sys.executable, "-m", "benchmarks.bench_labelling", "--check"]
    done = subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True, text=True)
    stored = json.loads(done.stdout.splitlines()[-1])
    errors = [error for person in crowd for error in person.errors]
    answers = sum(person.answers for person in crowd)
    centiles = quantiles(paced, n=100)
    result = {
        "database": name,
        "web_ms": 1000 * (after[0] - before[0]) / trips,
        "database_ms": 1000 * (after[1] - before[1]) / trips,
        "rate": trips / (wall - begun),
        "paced": len(paced),
        "p50": 1000 * centiles[49],
        "p95": 1000 * centiles[94],
        "p99": 1000 * centiles[98],
        "errors": errors,
        "lost": answers - stored["judgements"],
        "over": stored["over"] + stored["twice"],
    }
    print(result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--seed", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="print, and leave docs/benchmarks.md alone")
    options = parser.parse_args()
    if options.seed:
        return seed(*options.seed)
    if options.check:
        return check()
    results = []
    if why_not():
        print(f"Without PostgreSQL: {why_not()}")
    else:
        with cluster() as url, tempfile.TemporaryDirectory() as folder, environment(Path(folder), url) as variables:
            results.append(measured("PostgreSQL", variables, options.people, options.seconds))
    with tempfile.TemporaryDirectory() as folder, environment(Path(folder), None) as variables:
        results.append(measured("SQLite", variables, options.people, options.seconds))
    text = report(results, options.people)
    print(text)
    if not options.dry:
        write_section("labelling", text)
    for result in results:
        assert not result["errors"], result["errors"][:3]
        assert (result["lost"], result["over"]) == (0, 0), result
    return None


def report(results: list[dict[str, Any]], people: int) -> str:
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "database": lambda r: r["database"],
        "web processes, ms CPU": lambda r: f"**{r['web_ms']:.1f}**",
        "database, ms CPU": lambda r: f"{r['database_ms']:.1f}" if r["database_ms"] else "in process",
        "round trips/s": lambda r: f"{r['rate']:.0f}",
        "p50, ms": lambda r: f"{r['p50']:.0f}",
        "p95, ms": lambda r: f"**{r['p95']:.0f}**",
        "p99, ms": lambda r: f"{r['p99']:.0f}",
        "answers": lambda r: r["paced"],
        "errors": lambda r: str(len(r["errors"])),
        "lost or doubled": lambda r: r["lost"],
        "over-allocated": lambda r: r["over"],
    }
    table = markdown_table(list(columns), [[cell(result) for cell in columns.values()] for result in results])
    return (
        "## Labelling\n\n`python -m benchmarks.bench_labelling`\n\n"
        f"Submit + lease next in one request, through the real server and middleware. Processor time and rate: "
        f"{FAST_CONNECTIONS} connections without pauses. Latency: {people} people at one answer per {PACE:.0f} s. "
        f"Targets on PostgreSQL: under {TARGET_CPU_MS:.0f} ms CPU, p95 under {TARGET_P95_MS:.0f} ms, no error, "
        f"no over-allocation.\n\n{table}"
    )


if __name__ == "__main__":
    main()
