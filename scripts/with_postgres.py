"""Runs a command with ``DATABASE_URL`` naming a temporary PostgreSQL cluster: ``with_postgres.py COMMAND [ARG...]``.

The cluster lives in a temporary folder, listens on a Unix socket alone, and is gone afterwards. PostgreSQL refuses to
run as root, so root runs it as the user ``postgres``. Without PostgreSQL nothing is run, the reason is said, and the
exit status is 0.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binary(name: str) -> str | None:
    """On the PATH, or where Debian keeps its versions; the newest."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(kept[-1]) if kept else shutil.which(name)


def why_not() -> str:
    """Why no cluster can be made here; empty when one can."""
    if not (binary("initdb") and binary("pg_ctl")):
        return "there is no PostgreSQL server (Debian: apt-get install postgresql)"
    if os.getuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "root cannot run PostgreSQL and there is no user postgres"
    return ""


@contextmanager
def cluster() -> Iterator[str]:
    """A fresh cluster; gives its URL."""
    folder = Path(tempfile.mkdtemp(prefix="falsify-pg-"))
    data, owner = folder / "data", None
    if os.getuid() == 0:
        owner = "postgres"
        shutil.chown(folder, owner)

    def run(name: str, *arguments: str) -> None:
        command = [str(binary(name)), *arguments]
        subprocess.run(  # noqa: S603 - commands of this module
            command, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"}
        )

    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off -c max_connections=150"
    run("initdb", "--pgdata", str(data), "--username", "postgres", "--auth", "trust", "--no-sync", "--encoding", "UTF8")
    run("pg_ctl", "start", "--wait", "--pgdata", str(data), "--log", str(folder / "log"), "--options", options)
    try:
        yield f"postgres://postgres@/postgres?host={folder}"
    finally:
        run("pg_ctl", "stop", "--mode", "immediate", "--pgdata", str(data))
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    reason = why_not()
    if reason:
        print(f"Skipped on PostgreSQL: {reason}.")
        return 0
    with cluster() as url:
        return subprocess.run(sys.argv[1:], env=os.environ | {"DATABASE_URL": url}, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
