from pathlib import Path

import pytest

from accounts.models import Role, User
from corpora.services import corpus_create
from jobs.inline import run_inline
from jobs.models import Job
from tests.corpora.pictures import encoded, photograph


@pytest.fixture(autouse=True)
def var_dir(tmp_path_factory, settings) -> Path:
    """Corpora, uploads and media of one test."""
    folder = tmp_path_factory.mktemp("var")
    settings.VAR_DIR = folder
    settings.MEDIA_ROOT = folder / "media"
    settings.JOBS_SEND_MESSAGES = False
    return folder


@pytest.fixture
def researcher(db) -> User:
    return User.objects.create_user("rosalind", role=Role.RESEARCHER)


@pytest.fixture
def admin_user(db) -> User:
    return User.objects.create_user("ada", role=Role.ADMIN)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six photographs in two folders, named as classes."""
    for number, name in enumerate(["cat/a.jpg", "cat/b.png", "cat/c.jpg", "dog/d.jpg", "dog/e f.jpg", "dog/é.jpg"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photograph(number), "PNG" if name.endswith("png") else "JPEG"))
    return tmp_path / "photos"


@pytest.fixture
def imported(admin_user):
    """Import a location and wait for it: imported(folder, source="folder", **values) -> Corpus."""

    def run(location, *, source="folder", name="birds", by=None, **values):
        corpus = corpus_create(name=name, source=source, location=str(location), by=by or admin_user, **values)
        run_inline(Job.objects.about(corpus).get())
        corpus.refresh_from_db()
        return corpus

    return run
