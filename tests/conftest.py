"""Fixtures for every room.

PostgreSQL: the whole suite runs on SQLite. Tests marked ``postgres`` are the ones about concurrency; ``make test`` runs
them a second time with ``DATABASE_URL`` naming a temporary cluster (scripts/with_postgres.py). Such a test is marked
``django_db(transaction=True)``, closes the connections of its threads, and says nothing of the database. By hand:
``python scripts/with_postgres.py python -m pytest -m postgres``.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings, settings
from django.test import Client

from accounts.models import Role, User


@pytest.fixture(autouse=True)
def media(settings: LazySettings, tmp_path: Path) -> Path:
    """Files of one test stay in its own folder."""
    settings.MEDIA_ROOT = tmp_path / "media"
    return settings.MEDIA_ROOT


@pytest.fixture
def admin(db: None) -> User:
    return User.objects.create_superuser("admin", password="admin-password")


@pytest.fixture
def researcher(db: None) -> User:
    return User.objects.create_user("researcher", password="researcher-password", role=Role.RESEARCHER)


@pytest.fixture
def other_researcher(db: None) -> User:
    return User.objects.create_user("other", password="other-password", role=Role.RESEARCHER)


@pytest.fixture
def annotator(db: None) -> User:
    return User.objects.create_user("annotator", password="annotator-password", role=Role.ANNOTATOR)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, the system's (``CHROMIUM`` names another)."""
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not binary:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # its loop runs in the tests' thread
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser_page(chromium: Any, live_server: Any) -> Iterator[Any]:
    """A Playwright page on the live server; relative addresses work; an error in the console fails the test.

    ``browser_page.log_in(user)`` logs somebody in without the form.
    """
    context = chromium.new_context(base_url=live_server.url, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def log_in(user: User) -> None:
        client = Client()
        client.force_login(user)
        value = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": live_server.url}])

    page.log_in = log_in
    yield page
    context.close()
    assert not errors, errors
