"""What the tests of competitions share."""

from pathlib import Path

import pytest
from django.conf import LazySettings

from accounts.models import User
from competition.models import Competition
from corpora.models import Corpus
from models_zoo.models import Version
from tests.competition.builders import make_competition, make_pictures_corpus, make_versions


@pytest.fixture
def var_dir(tmp_path_factory: pytest.TempPathFactory, settings: LazySettings) -> Path:
    """Corpora, scores and explorations of one test stay in its own folder."""
    settings.VAR_DIR = tmp_path_factory.mktemp("var")
    return settings.VAR_DIR


@pytest.fixture
def corpus(var_dir: Path, researcher: User) -> Corpus:
    return make_pictures_corpus(researcher)


@pytest.fixture
def versions(corpus: Corpus, researcher: User, tmp_path: Path) -> list[Version]:
    """Three, from good to bad."""
    return make_versions(corpus, tmp_path, by=researcher, accuracies=[0.95, 0.7, 0.4])


@pytest.fixture
def competition(corpus: Corpus, versions: list[Version], researcher: User) -> Competition:
    return make_competition(corpus, versions, by=researcher)
