"""Runs: started, carried out, registered, retried."""

from pathlib import Path

import pytest
from django.conf import LazySettings

from accounts.models import User
from jobs.inline import run_inline
from jobs.models import JobState
from models_zoo.models import Version
from training.models import Run
from training.services import run_create


@pytest.fixture(autouse=True)
def var_dir(tmp_path: Path, settings: LazySettings) -> Path:
    settings.VAR_DIR = tmp_path / "var"
    settings.VAR_DIR.mkdir()
    return settings.VAR_DIR


@pytest.mark.django_db
def test_a_run_gives_verified_versions(researcher: User, wobble: str, start: Version):
    run = run_create(method=wobble, by=researcher, inputs={"start": start})
    job = run_inline(run.job)
    run.refresh_from_db()
    assert job.state == JobState.SUCCEEDED
    output = run.outputs.get()
    assert output.version.state == "verified"
    assert list(output.version.parents.all()) == [start]
    assert Run.objects.get().finished_at is not None
