"""Logging in: pages, limits, and doors that stay shut."""

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.models import User


@pytest.fixture(autouse=True)
def _fresh_limits() -> None:
    cache.clear()


def login(client: Client, username: str, password: str) -> str:
    answer = client.post("/accounts/login/", {"login": username, "password": password}, follow=False)
    return answer.headers.get("Location", "") or answer.content.decode()


def test_log_in_by_name(client: Client, researcher: User) -> None:
    assert login(client, "researcher", "researcher-password") == "/"


def test_wrong_passwords_are_limited_per_account(client: Client, researcher: User) -> None:
    for _ in range(5):
        assert "not correct" in login(client, "researcher", "guess")
    assert "Too many failed login attempts" in login(client, "researcher", "researcher-password")


def test_strangers_cannot_sign_up(client: Client, db: None) -> None:
    page = client.post(
        "/accounts/signup/", {"username": "me", "password1": "a-good-one-1", "password2": "a-good-one-1"}
    )
    assert not User.objects.exists()
    assert "Closed" in page.content.decode()


def test_posts_without_the_csrf_token_are_refused(researcher: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(researcher)
    assert client.post("/account/", {"theme": "dark"}).status_code == 403
    researcher.refresh_from_db()
    assert researcher.preferences == {}


def test_pages_ask_for_a_log_in_and_send_strict_headers(client: Client, researcher: User) -> None:
    assert client.get("/account/").headers["Location"].startswith("/accounts/login/")
    client.force_login(researcher)
    page = client.get("/account/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["X-Frame-Options"] == "DENY"


def test_annotators_do_not_enter_the_admin(client: Client, annotator: User) -> None:
    client.force_login(annotator)
    assert client.get("/admin/").status_code == 302


def test_metrics_are_for_admins(client: Client, admin: User, researcher: User) -> None:
    client.force_login(researcher)
    assert client.get("/metrics").status_code == 403
    client.force_login(admin)
    text = client.get("/metrics").content.decode()
    assert "falsify_jobs" in text
    assert 'falsify_slots{state="open"} 0.0' in text
