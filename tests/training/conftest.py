"""What the tests of training share.

Throw-away methods: a folder of packages that stands beside those of the product while a test runs.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.cache import cache

import training.methods
from accounts.models import User
from models_zoo.models import Version
from tests.models_zoo.builders import make_model, make_version, save_weights
from tests.training.throwing import THROWN, add_methods
from training.engine import registry


@pytest.fixture(autouse=True)
def var_dir(tmp_path_factory: pytest.TempPathFactory, settings: LazySettings) -> Path:
    """Editions, runs, weights and corpora of one test stay in its own folder."""
    cache.clear()
    settings.VAR_DIR = tmp_path_factory.mktemp("var")
    return settings.VAR_DIR


@pytest.fixture
def methods_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Call it with a folder of method packages; they are forgotten after the test."""
    registry.methods()
    known = set(sys.modules)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(training.methods, "__path__", list(training.methods.__path__))
    yield add_methods
    for name in set(sys.modules) - known:
        if name.startswith("training.methods."):
            del sys.modules[name]
            delattr(training.methods, name.split(".")[2]) if name.count(".") == 2 else None
    registry._discover.cache_clear()


@pytest.fixture
def wobble(methods_folder: Callable[[Path], None]) -> str:
    """The name of a method with two stages and no need of data; see thrown/wobble."""
    methods_folder(THROWN)
    return "wobble"


@pytest.fixture
def start(researcher: User, tmp_path: Path) -> Version:
    """A verified network that "wobble" can go on from."""
    return make_version(
        make_model(researcher),
        tmp_path,
        by=researcher,
        file=save_weights(tmp_path / "start.safetensors", architecture="mlp", hidden=[8], input_size=3, in_channels=1),
        architecture="mlp",
        arch_kwargs={"hidden": [8], "input_size": 3, "in_channels": 1},
        preprocessing={"resize": 3, "crop": 3, "channels": "grey"},
    )
