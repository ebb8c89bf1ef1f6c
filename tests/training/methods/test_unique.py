"""The UNIQUE recipe on textures: it learns the order of blurs in seconds, and resumes exactly."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.builders import LEVELS, blur_data
from training.engine.labels import LabelledData, LabelsError
from training.engine.local import run_method
from training.engine.registry import BadConfig, method
from training.methods.unique.pairs import Scales

QUICK = {"epochs": 12, "crop": 40, "rate": 5e-3, "evaluate_every": 4}


def test_it_learns_which_texture_is_blurred(blurs: LabelledData, tmp_path: Path) -> None:
    result = run_method("unique", config=QUICK, data=blurs, directory=tmp_path / "run", seed=1)
    measured = result.report["measures"]["test"]
    assert measured["srcc"]["value"] > 0.7
    assert measured["srcc"]["low"] <= measured["srcc"]["value"] <= measured["srcc"]["high"]
    assert result.report["labels"] == {"train": 8 * LEVELS, "val": 2 * LEVELS, "test": 2 * LEVELS}
    network = result.network("network")
    assert network.architecture == "unique_small"
    assert network.spec.is_quality
    losses = [line["loss"] for line in result.metrics if "loss" in line]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_two_phases_and_an_exact_resume(blurs: LabelledData, tmp_path: Path) -> None:
    """First the head alone; a run that is stopped in the second phase ends with the very same weights."""
    config = QUICK | {"epochs": 3, "head_epochs": 1, "head_batch": 32, "evaluate_every": 1}

    class Stopped(Exception):
        pass

    def stop(progress: object) -> None:
        if getattr(progress, "stage", "") == "all" and getattr(progress, "done", 0) == 2:
            raise Stopped

    whole = run_method("unique", config=config, data=blurs, directory=tmp_path / "whole", seed=2)
    with pytest.raises(Stopped):
        run_method("unique", config=config, data=blurs, directory=tmp_path / "parts", seed=2, progress=stop)
    resumed = run_method("unique", config=config, data=blurs, directory=tmp_path / "parts", seed=2)
    assert resumed.network("network").spec.sha256 == whole.network("network").spec.sha256
    assert {line["stage"] for line in whole.metrics} == {"head", "all"}


def test_it_goes_on_from_a_version(blurs: LabelledData, tmp_path: Path) -> None:
    config = QUICK | {"epochs": 1}
    first = run_method("unique", config=config, data=blurs, directory=tmp_path / "first")
    start = {"start": first.network("network")}
    second = run_method("unique", config=config, data=blurs, directory=tmp_path / "second", inputs=start)
    assert second.network("network").architecture == "unique_small"
    assert second.outputs[0].parents == []


def test_what_it_cannot_learn_from(blurs: LabelledData, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="0 rows in its val split"):
        run_method("unique", config=QUICK, data=blur_data(range(3)), directory=tmp_path / "no-val")
    flat = blur_data(range(4), {3: "val"}, mos=[50.0] * 4 * LEVELS)
    with pytest.raises(LabelsError, match="in no scale two of different opinion scores"):
        run_method("unique", config=QUICK, data=flat, directory=tmp_path / "flat")
    with pytest.raises(BadConfig, match="leave nothing of 3 epochs"):
        method("unique").configure(epochs=3, head_epochs=3)
    paper = method("unique").configure("paper")
    assert (paper.architecture, paper.rate, paper.weight_decay) == ("unique_resnet34", 1e-4, 5e-4)  # type: ignore[attr-defined]


def test_batches_are_of_one_scale() -> None:
    scale = [0] * 3 * LEVELS + [1] * LEVELS + [2] * LEVELS
    mos = [float(number) for number in range(4 * LEVELS)] + [7.0] * LEVELS  # nothing to compare in the last one
    rows = blur_data(range(5), scale=scale, mos=mos).rows()
    scales = Scales(rows)
    drawn = [set(rows.scale[scales.draw(8, np.random.default_rng(seed))].tolist()) for seed in range(200)]
    assert all(len(each) == 1 for each in drawn)
    counts = [sum(each == {number} for each in drawn) for number in range(3)]
    assert counts[2] == 0
    assert counts[0] == pytest.approx(150, abs=25)
