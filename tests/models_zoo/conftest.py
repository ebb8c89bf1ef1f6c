"""What the zoo's tests share."""

from pathlib import Path

import pytest
from django.conf import LazySettings

from accounts.models import User
from corpora.models import Corpus
from models_zoo.models import Model, Version
from tests.models_zoo.builders import make_corpus, make_model, make_version
from tests.models_zoo.quality_builders import photographs_corpus


@pytest.fixture(autouse=True)
def var_dir(tmp_path_factory: pytest.TempPathFactory, settings: LazySettings) -> Path:
    """Weights, scores and corpora of one test stay in its own folder."""
    settings.VAR_DIR = tmp_path_factory.mktemp("var")
    return settings.VAR_DIR


@pytest.fixture
def corpus(admin: User, tmp_path: Path) -> Corpus:
    return make_corpus(admin, tmp_path)


@pytest.fixture
def model(admin: User) -> Model:
    return make_model(admin)


@pytest.fixture
def version(admin: User, model: Model, tmp_path: Path) -> Version:
    return make_version(model, tmp_path, by=admin)


@pytest.fixture
def photographs(admin: User, tmp_path: Path) -> Corpus:
    return photographs_corpus(admin, tmp_path / "photographs")
