"""Adversarial training of one network, and what a run says that is refuted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.robust_data import DATA, cifar_data, data_of, digits_data
from training.engine import adversarial, context, robustness
from training.engine.adversarial import rate_at
from training.engine.devices import Resources
from training.engine.labels import LabelledData, LabelsError
from training.engine.local import RunResult, failed_report, run_method
from training.engine.registry import BadConfig, MethodConfig, method
from training.engine.robustness import Unconfirmed

CPU = Resources(device="cpu")
TINY: dict[str, Any] = {"widths": (8, 16), "blocks": (1, 1), "stem_stride": 2, "epochs": 2, "most_test": 60}


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return digits_data(train=400, val=60, test=60)


def configured(preset: str = "digits", **values: Any) -> MethodConfig:
    return method("pgdat").configure(preset, **{**TINY, **values})


def trained(directory: Path, data: LabelledData, **values: Any) -> RunResult:
    return run_method("pgdat", config=configured(**values), directory=directory, data=data, resources=CPU)


def test_attacked_images_teach_robustness(tmp_path: Path, digits: LabelledData) -> None:
    options = {"stem_stride": 1, "widths": (16, 32), "epochs": 8, "eps": 0.06, "batch": 32}
    robust = trained(tmp_path / "robust", digits, lam=1.0, **options).network("network")
    plain = trained(tmp_path / "plain", digits, lam=0.0, **options).network("network")
    told, other = robust.facts["measured"], plain.facts["measured"]
    assert told["ra_strong"]["value"] > other["ra_strong"]["value"] + 0.15
    assert other["sa"]["value"] >= told["sa"]["value"] - 0.05
    assert told["confirmed"]
    assert told["bytes"] == Path(robust.spec.weights or "").stat().st_size
    assert (told["images"], told["lam"], told["attack"]) == (60, 1.0, "PGD-5, eps 15.3/255, step 3.82/255")
    assert told["seconds"] > other["seconds"] > 0
    assert told["latency_ms"] > 0
    assert robust.preprocessing.crop == 8
    assert robust.arch_kwargs["num_classes"] == 10


def test_stopped_and_resumed_it_gives_the_same_bytes(tmp_path: Path, digits: LabelledData) -> None:
    whole = trained(tmp_path / "whole", digits, lam=0.5)

    def stop(where: Any) -> None:
        if where.done == 5:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {"config": configured(lam=0.5), "data": digits, "resources": CPU}
    with pytest.raises(KeyboardInterrupt):
        run_method("pgdat", directory=tmp_path / "stopped", progress=stop, **arguments)
    resumed = run_method("pgdat", directory=tmp_path / "stopped", **arguments)
    assert [output.sha256 for output in resumed.outputs] == [output.sha256 for output in whole.outputs]
    assert resumed.report["robustness"] == whole.report["robustness"]


def test_a_step_mixes_both_losses() -> None:
    class Run:
        autocast = staticmethod(torch.enable_grad)

    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    x, attacked, y = torch.rand(5, 3, 2, 2), torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 3, 0])
    for lam in (0.0, 0.3, 1.0):
        expected = (1 - lam) * functional.cross_entropy(net(x), y) + lam * functional.cross_entropy(net(attacked), y)
        got = adversarial.mixed_loss(Run(), net, x, attacked, y, lam)  # type: ignore[arg-type]
        torch.testing.assert_close(got, expected)


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 100, 0.1) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1
    assert np.all(np.diff(rates[:11]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[100] == pytest.approx(0)
    assert rate_at(0, 100, 0.0) == 1


def test_a_refuted_run_fails_and_keeps_its_report(
    tmp_path: Path, digits: LabelledData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "TOLERANCE", -1.0)
    monkeypatch.setattr(robustness, "LEAST_IMAGES", -100)
    with pytest.raises(Unconfirmed, match='"lambda 1" is right on'):
        trained(tmp_path, digits, epochs=1)
    report = failed_report(tmp_path)
    assert report["robustness"]["confirmed"] is False
    assert json.dumps(report)
    monkeypatch.undo()
    assert trained(tmp_path, digits, epochs=1).report["robustness"]["confirmed"]


def test_a_report_that_cannot_be_kept_hides_no_failure(
    tmp_path: Path, digits: LabelledData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(directory: Path, report: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(robustness, "TOLERANCE", -1.0)
    monkeypatch.setattr(robustness, "LEAST_IMAGES", -100)
    monkeypatch.setattr(context, "write_report", full)
    with pytest.raises(Unconfirmed, match='"lambda 1" is right on'):
        trained(tmp_path, digits, epochs=1)
    assert failed_report(tmp_path) == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eps": 0.0}, "epsilon is a radius above 0.*set lambda to 0"),
        ({"eps": 2.0}, "epsilon is a radius above 0"),
        ({"lam": 1.5}, "lam"),
        ({"widths": (8,)}, "1 widths and 2 numbers of blocks"),
        ({"widths": (8, 0)}, "a width is 0: give at least 1"),
        ({"steps": 0}, "steps"),
    ],
)
def test_bad_configs_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        configured(**values)


def test_images_of_several_sizes_are_fitted(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 12, 10, 3)).astype(np.uint8)
    splits = ["train"] * 30 + ["val"] * 30 + ["test"] * 30
    data = data_of(pixels, np.arange(90) % 3, splits, name="noise")
    found = trained(tmp_path, data, epochs=1, grey=True).network("network")
    assert (found.preprocessing.crop, found.preprocessing.channels) == (10, "grey")
    assert found.arch_kwargs["num_classes"] == 3


def test_a_labelled_set_without_test_images_is_refused(tmp_path: Path) -> None:
    data = data_of(np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 2, ["train"] * 15 + ["val"] * 5, name="dark")
    with pytest.raises(LabelsError, match="0 rows in its test"):
        trained(tmp_path, data)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason=f"no CIFAR-10 archives in {DATA}")
def test_it_trains_on_cifar(tmp_path: Path) -> None:
    data = cifar_data(train=2_000, val=200, test=200)
    config = method("pgdat").configure("small", epochs=4, most_test=200)
    found = run_method("pgdat", config=config, directory=tmp_path, data=data, resources=CPU).network("network")
    told = found.facts["measured"]
    assert told["sa"]["value"] > 0.2
    assert 0.1 < told["ra_independent"]["value"] <= told["ra"]["value"]
