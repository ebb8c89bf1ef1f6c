"""Fixtures for every room.

PostgreSQL: the whole suite runs on SQLite. Tests marked ``postgres`` are the ones about concurrency; ``make test`` runs
them a second time with ``DATABASE_URL`` naming a temporary cluster (scripts/with_postgres.py). Such a test is marked
``django_db(transaction=True)``, closes the connections of its threads, and says nothing of the database. By hand:
``python scripts/with_postgres.py python -m pytest -m postgres``.
"""

from pathlib import Path

import pytest
from django.conf import LazySettings

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
