"""Fine-tuning: half old and half new labels, masks that stay, failures that are unlearnt, and what is forgotten."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models_zoo.adapters.spec import Preprocessing, VersionSpec, file_sha256
from models_zoo.architectures import build
from tests.training.builders import both_data, class_data
from training.engine import masks as masking
from training.engine.labels import LabelledData, LabelsError
from training.engine.local import RunResult, run_method
from training.engine.networks import InputNetwork
from training.engine.registry import BadConfig, method
from training.methods.finetune import recipe
from training.methods.finetune.batches import pairs_within
from training.methods.finetune.losses import with_sigma

CONFIG = {"steps": 40, "batch": 16, "crop": 40, "rate": 2e-3}
SPLITS = {8: "val", 9: "val", 10: "test", 11: "test"}


@pytest.fixture(scope="module")
def both() -> LabelledData:
    return both_data(range(12), range(20, 28), SPLITS)


@pytest.fixture(scope="module")
def variants(target: InputNetwork, blurs: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> list[InputNetwork]:
    config = {"variants": 2, "tolerance": 0.3}
    result = run_method(
        "prune", config=config, data=blurs, directory=tmp_path_factory.mktemp("prune"), inputs={"target": target}
    )
    return result.networks("variant")


@pytest.fixture(scope="module")
def tuned(
    target: InputNetwork, variants: list[InputNetwork], both: LabelledData, tmp_path_factory: pytest.TempPathFactory
) -> RunResult:
    inputs = {"target": target, "variant": variants}
    return run_method("finetune", config=CONFIG, data=both, directory=tmp_path_factory.mktemp("tuned"), inputs=inputs)


def test_failures_are_unlearnt_and_forgetting_is_told(tuned: RunResult) -> None:
    target = tuned.report["networks"][0]["cells"]
    found = target["train found"]
    assert found["before"]["srcc"]["value"] < 0.3
    assert found["after"]["srcc"]["value"] > found["before"]["srcc"]["value"] + 0.4
    assert found["change"]["srcc"]["low"] > 0
    forgetting = tuned.report["forgetting"]
    assert forgetting["cell"] == "test base"
    assert forgetting["after"] == target["test base"]["after"]["srcc"]
    assert forgetting["is_forgotten"] == (forgetting["change"]["value"] < -0.01)
    for name in ("srcc", "plcc", "krcc", "rmse"):
        assert target["test base"]["after"][name]["low"] <= target["test base"]["after"][name]["high"]
    assert {line["stage"] for line in tuned.metrics} == {"train"}
    assert {"loss", "base_loss", "found_loss", "variants_loss"} <= set(tuned.metrics[0])


def test_masks_are_bit_identical_after_it(tuned: RunResult, variants: list[InputNetwork]) -> None:
    outputs = tuned.networks("variant")
    assert len(outputs) == 2
    for was, became in zip(variants, outputs, strict=True):
        old, new = was.arrays(), became.arrays()
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[name], new[name]) for name in old)
        assert was.facts["masks_sha256"] == became.facts["masks_sha256"]
        module, before = became.module(), was.module()
        parameters = dict(module.named_parameters())
        for name, mask in masking.unpacked(new, module, name="new").items():
            assert (parameters[name][~mask] == 0).all()
            assert not torch.equal(parameters[name], dict(before.named_parameters())[name])
    assert tuned.network("target").arrays() == {}
    assert [output.parents for output in tuned.outputs] == [[["target", 0]], [["variant", 0]], [["variant", 1]]]
    assert [output.purpose for output in tuned.outputs] == ["use", "variant", "variant"]


def test_every_batch_is_half_old_half_new_and_pairs_stay_inside(
    target: InputNetwork, both: LabelledData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    original = recipe.crops

    def seen(data: LabelledData, indices: np.ndarray, **more: Any) -> torch.Tensor:
        drawn.append(indices)
        return original(data, indices, **more)

    monkeypatch.setattr(recipe, "crops", seen)
    run_method(
        "finetune", config=CONFIG | {"steps": 6}, data=both, directory=tmp_path / "run", inputs={"target": target}
    )
    rows = both.rows()
    assert len(drawn) >= 6
    for indices in drawn:
        assert rows.origin[indices].tolist() == ["base"] * 8 + ["found"] * 8
        assert set(rows.split[indices]) == {"train"}
        for first, second in zip(*pairs_within(16), strict=True):
            assert (rows.scale[indices[first]] == rows.scale[indices[second]]).all()


def test_a_stopped_run_ends_as_an_undisturbed_one(
    target: InputNetwork, variants: list[InputNetwork], both: LabelledData, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done == 3:
            raise Stopped

    inputs, config = {"target": target, "variant": variants[:1]}, CONFIG | {"steps": 6}
    whole = run_method("finetune", config=config, data=both, directory=tmp_path / "whole", inputs=inputs)
    with pytest.raises(Stopped):
        run_method("finetune", config=config, data=both, directory=tmp_path / "parts", inputs=inputs, progress=stop)
    parts = run_method("finetune", config=config, data=both, directory=tmp_path / "parts", inputs=inputs)
    assert [output.sha256 for output in whole.outputs] == [output.sha256 for output in parts.outputs]
    assert whole.report == parts.report


def input_network(
    folder: Path, architecture: str, outputs: str, preprocessing: Preprocessing, **kwargs: Any
) -> InputNetwork:
    torch.manual_seed(0)
    torch.save(build(architecture, **kwargs).state_dict(), folder / "weights.pt")
    spec = VersionSpec(
        kind="torch", architecture=architecture, arch_kwargs=kwargs, weights=str(folder / "weights.pt"),
        sha256=file_sha256(folder / "weights.pt"), preprocessing=preprocessing, outputs=outputs,  # type: ignore[arg-type]
    )  # fmt: skip
    return InputNetwork(architecture, spec)


def test_classifiers_learn_by_cross_entropy(tmp_path: Path) -> None:
    data = class_data()
    network = input_network(tmp_path, "tiny_cnn", "logits", Preprocessing(resize=16, crop=16), num_classes=3)
    config = {"steps": 60, "rate": 5e-3}
    result = run_method("finetune", config=config, data=data, directory=tmp_path / "run", inputs={"target": network})
    cells = result.report["networks"][0]["cells"]
    assert cells["train found"]["after"]["accuracy"]["value"] > 0.9
    assert cells["val base"]["after"]["accuracy"]["value"] > cells["val base"]["before"]["accuracy"]["value"]
    assert cells["val base"]["won"] > cells["val base"]["lost"]
    assert result.report["forgetting"]["measure"] == "accuracy"
    pruned = run_method(
        "prune", config={"variants": 2, "tolerance": 0.4}, data=data, directory=tmp_path / "prune",
        inputs={"target": result.network("target")},
    )  # fmt: skip
    assert pruned.report["measure"] == "accuracy"
    assert len(pruned.networks("variant")) == 2


def test_networks_without_a_deviation_get_a_fixed_one(both: LabelledData, tmp_path: Path) -> None:
    network = input_network(tmp_path, "cnniqa", "score", Preprocessing(channels="grey"))
    config = CONFIG | {"steps": 2}
    result = run_method("finetune", config=config, data=both, directory=tmp_path / "run", inputs={"target": network})
    assert result.network("target").architecture == "cnniqa"
    marks = []
    for known in (True, False):
        inputs = {"target": replace(network, higher_is_better=known)}
        config = {"variants": 1, "tolerance": 1.0}
        pruned = run_method("prune", config=config, data=both, directory=tmp_path / str(known), inputs=inputs)
        marks.append(pruned.report["target"])
    assert marks[0] == -marks[1]
    scored = with_sigma(torch.tensor([1.0, 2.0]), -1, 0.5)
    assert scored.tolist() == [[-1, 0.5], [-2, 0.5]]
    assert with_sigma(torch.tensor([[1.0, 3.0]]), 1, 0.5).tolist() == [[1, 3]]


def test_what_it_cannot_tune_is_said(
    target: InputNetwork, blurs: LabelledData, both: LabelledData, tmp_path: Path
) -> None:
    with pytest.raises(LabelsError, match='0 rows in its train split of origin "found"'):
        run_method("finetune", config=CONFIG, data=blurs, directory=tmp_path / "a", inputs={"target": target})
    other = input_network(tmp_path, "unique_small", "score", Preprocessing(resize=40))
    inputs = {"target": target, "variant": [other]}
    with pytest.raises(ValueError, match="prepares images unlike"):
        run_method("finetune", config=CONFIG, data=both, directory=tmp_path / "b", inputs=inputs)
    with pytest.raises(BadConfig, match="give an even number"):
        method("finetune").configure(batch=7)
