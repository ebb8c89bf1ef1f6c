"""docs/methods.md: the method that it builds works, as a library and in the application."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from config.env import BASE_DIR
from jobs.inline import run_inline
from models_zoo.adapters.spec import Preprocessing, VersionSpec
from models_zoo.models import VersionState
from tests.models_zoo.builders import make_corpus, make_model, make_version, save_weights
from tests.training.builders import class_data
from training.engine.local import run_method
from training.engine.networks import InputNetwork
from training.engine.registry import method
from training.services import edition_add, labelled_set_create, run_create

PAGE = (BASE_DIR / "docs" / "methods.md").read_text()


def block(name: str) -> str:
    """The code on the page that begins with this name in a comment."""
    found = re.search(rf"```python\n# {re.escape(name)}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, f"docs/methods.md has no block {name}"
    return found[1]


@pytest.fixture
def smooth(methods_folder: Callable[[Path], None], tmp_path: Path) -> str:
    folder = tmp_path / "methods" / "smooth"
    folder.mkdir(parents=True)
    for file in ("__init__.py", "recipe.py"):
        (folder / file).write_text(block(f"training/methods/smooth/{file}"))
    methods_folder(folder.parent)
    return "smooth"


@pytest.fixture
def target(tmp_path: Path) -> InputNetwork:
    weights = save_weights(tmp_path / "target.safetensors", num_classes=3)
    spec = VersionSpec(
        kind="torch",
        architecture="tiny_cnn",
        arch_kwargs={"num_classes": 3},
        weights=str(weights),
        preprocessing=Preprocessing(resize=16, crop=16, mean=(0.5,), std=(0.25,)),
        num_classes=3,
    )
    return InputNetwork("target", spec)


def test_the_page_names_what_the_engine_has():
    from training.engine.context import RunContext

    names = set(re.findall(r"`run\.(\w+)", PAGE))
    assert names - {"data", "device", "seed"} <= set(dir(RunContext))


def test_the_method_learns(smooth: str, target: InputNetwork, tmp_path: Path):
    assert method(smooth).configure("paper").epochs == 100
    arguments = {"config": {"epochs": 8, "batch": 8, "rate": 0.05}, "data": class_data(), "inputs": {"target": target}}
    result = run_method(smooth, directory=tmp_path / "run", device="cpu", **arguments)
    assert result.report["val_accuracy"] > 0.8
    losses = [line["loss"] for line in result.metrics if "loss" in line]
    assert losses[-1] < losses[0]


def test_the_test_on_the_page_passes(smooth: str, target: InputNetwork, tmp_path: Path):
    names: dict[str, Any] = {"pytest": pytest, "run_method": run_method}
    exec(block("tests/training/methods/test_smooth.py"), names)
    names["test_resumes_exactly"](tmp_path, class_data(), target)


@pytest.mark.django_db
def test_the_method_runs_in_the_application(admin: User, smooth: str, tmp_path: Path):
    corpus = make_corpus(admin, tmp_path, n=36)
    labels = labelled_set_create(name="animals", task="classification", taxonomy=corpus.taxonomy, by=admin)
    edition = edition_add(labelled_set=labels, sources=[{"kind": "corpus", "corpus": corpus.pk}], by=admin)
    version = make_version(make_model(admin), tmp_path, by=admin)
    run = run_create(
        method=smooth, by=admin, inputs={"target": version}, edition=edition, config={"epochs": 2}, device="cpu"
    )
    run_inline(run.job)
    made = run.outputs.get().version
    assert (made.state, made.model, list(made.parents.all())) == (VersionState.VERIFIED, version.model, [version])
    assert made.preprocessing == version.preprocessing
