"""A target that was trained on blurred textures, once for all tests of this folder."""

from pathlib import Path

import pytest

from tests.training.builders import blur_data
from training.engine.labels import LabelledData
from training.engine.local import run_method
from training.engine.networks import InputNetwork

SPLITS = {8: "val", 9: "val", 10: "test", 11: "test"}
QUICK = {"epochs": 12, "crop": 40, "rate": 5e-3, "evaluate_every": 4}


@pytest.fixture(scope="session")
def blurs() -> LabelledData:
    return blur_data(range(12), SPLITS)


@pytest.fixture(scope="session")
def target(blurs: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> InputNetwork:
    directory: Path = tmp_path_factory.mktemp("target")
    return run_method("unique", config=QUICK, data=blurs, directory=directory, seed=1).network("network")
