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
from corpora.models import Corpus
from jobs.models import JobState
from models_zoo.models import Version
from tests.models_zoo.builders import make_model, make_version, save_weights
from tests.models_zoo.quality_builders import quality_model
from tests.training.builders import blur_corpus
from tests.training.page_builders import (
    REPORT,
    SKETCH,
    SketchConfig,
    make_run,
    write_metrics,
    write_samples,
)
from tests.training.throwing import THROWN, add_methods
from training.engine import registry
from training.engine.registry import Method
from training.labelled import edition_add, labelled_set_create
from training.models import Edition, Run, RunInput, RunOutput


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


@pytest.fixture
def sketch(monkeypatch: pytest.MonkeyPatch) -> Method:
    """The method "sketch" with every kind of setting; its recipe is never run."""
    registry.methods()
    method = Method(SKETCH, SketchConfig)
    monkeypatch.setitem(registry._registered, "sketch", method)
    return method


@pytest.fixture
def blurred(admin: User, tmp_path: Path) -> Corpus:
    return blur_corpus(admin, tmp_path)


@pytest.fixture
def edition(admin: User, blurred: Corpus) -> Edition:
    made = labelled_set_create(name="Blurred textures", task="quality", by=admin)
    return edition_add(labelled_set=made, sources=[{"kind": "corpus", "corpus": blurred.pk}], by=admin)


@pytest.fixture
def network(admin: User) -> Version:
    """A verified quality network, entered without a file: nothing runs it."""
    return Version.objects.create(
        model=quality_model(admin, "unique"), label="v1", kind="torch", architecture="unique_small", outputs="score",
        state="verified", parameters=68_882, macs=1_000, milliseconds=2.0, megabytes=3.0, created_by=admin,
    )  # fmt: skip


@pytest.fixture
def finished(admin: User, edition: Edition, network: Version, sketch: Method) -> Run:
    """A run that took a version and gave one."""
    run = make_run(admin, edition, state=JobState.SUCCEEDED, config={"rate": 0.002}, report=REPORT, seconds=190.0)
    write_metrics(run.directory)
    write_samples(run.directory)
    RunInput.objects.create(run=run, role="start", version=network)
    RunOutput.objects.create(run=run, role="target", version=network, facts={"sparsity": 0.3})
    return run
