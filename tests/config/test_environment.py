"""The environment: clear words for bad values, paths that work anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.env import BASE_DIR, Environment


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from config.env import environment; environment()"],
        cwd=BASE_DIR, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_bad_values_stop_the_start_with_one_line_each() -> None:
    ended = start(PORT="eighty", JOBS_STALE_SECONDS="-1", SECRET_KEY="hunter2")
    assert ended.returncode == 1
    lines = ended.stderr.strip().splitlines()
    assert lines[0] == "Falsify cannot start, the environment has bad values:"
    assert any("PORT = 'eighty'" in line for line in lines)
    assert any("JOBS_STALE_SECONDS = '-1'" in line for line in lines)
    assert any("SECRET_KEY" in line for line in lines)
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_stale_must_exceed_the_heartbeat() -> None:
    ended = start(JOBS_STALE_SECONDS="2", JOBS_HEARTBEAT_SECONDS="3")
    assert ended.returncode == 1
    assert "JOBS_STALE_SECONDS" in ended.stderr


def test_var_dir_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAR_DIR", "mine")
    assert tmp_path / "mine" == Environment().VAR_DIR


def test_long_var_dir_gets_a_socket_that_the_kernel_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VAR_DIR", str(tmp_path / ("x" * 100)))
    assert len(os.fsencode(Environment().redis_socket)) < 108
    monkeypatch.setenv("VAR_DIR", "/srv/falsify")
    assert Environment().redis_socket == Path("/srv/falsify/run/redis.sock")


def test_spaces_and_accents_in_var_dir_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAR_DIR", "/srv/my été 100%")
    assert Environment().redis_url == "unix:///srv/my%20%C3%A9t%C3%A9%20100%25/run/redis.sock"
    assert Environment().database_url == "sqlite:////srv/my%20%C3%A9t%C3%A9%20100%25/db.sqlite3"


def test_secret_key_is_made_once_and_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    key = Environment().secret_key()
    assert len(key) >= 50
    assert Environment().secret_key() == key
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
