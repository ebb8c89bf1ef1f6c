"""Pruned variants: admitted by the rule, determined by the seed, and truly masked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from models_zoo.architectures import build
from tests.training.builders import LEVELS, blur_data, class_data
from training.engine import masks as masking
from training.engine.labels import LabelledData, LabelsError
from training.engine.local import RunResult, run_method
from training.engine.masks import MaskError
from training.engine.needs import NotWhatIsNeeded
from training.engine.networks import InputNetwork
from training.engine.registry import BadConfig, method
from training.methods.prune.cuts import Cut, cuts, masks_of, stages
from training.methods.prune.recipe import NotPrunable


def pruned(target: InputNetwork, data: LabelledData, directory: Path, seed: int = 0, **config: object) -> RunResult:
    return run_method("prune", config=config, data=data, directory=directory, inputs={"target": target}, seed=seed)


def test_variants_are_admitted_and_masked(target: InputNetwork, blurs: LabelledData, tmp_path: Path) -> None:
    result = pruned(target, blurs, tmp_path / "run", variants=5, tolerance=0.2)
    assert len(result.outputs) == 5
    bar = result.report["bar"]
    assert bar == pytest.approx(result.report["target"] - 0.2)
    digests = set()
    for output, network in zip(result.outputs, result.networks("variant"), strict=True):
        module = network.module()
        masks = masking.unpacked(network.arrays(), module, name="variant")
        zeros = {name: (dict(module.named_parameters())[name] == 0) for name in masks}
        assert all(bool((zeros[name] | masks[name]).all()) for name in masks)
        assert masking.digest(masks) == output.facts["masks_sha256"]
        assert output.facts["mark"] >= bar
        assert 0 < output.facts["sparsity"] < 1
        assert output.purpose == "variant"
        assert output.parents == [["target", 0]]
        digests.add(output.facts["masks_sha256"])
    assert len(digests) == 5
    kinds = {output.facts["kind"] for output in result.outputs}
    assert kinds == {"structured", "unstructured"}


def test_the_seed_decides_the_variants(target: InputNetwork, blurs: LabelledData, tmp_path: Path) -> None:
    first, again, other = (
        pruned(target, blurs, tmp_path / str(at), seed=seed, variants=4, tolerance=0.3)
        for at, seed in enumerate((3, 3, 4))
    )
    assert [output.sha256 for output in first.outputs] == [output.sha256 for output in again.outputs]
    assert [output.sha256 for output in first.outputs] != [output.sha256 for output in other.outputs]


def test_a_strict_rule_lowers_the_ratios(target: InputNetwork, blurs: LabelledData, tmp_path: Path) -> None:
    result = pruned(target, blurs, tmp_path / "run", variants=3, tolerance=0.0, ratios=(0.9,), least=0.001)
    assert any(output.facts["ratio"] < output.facts["asked_ratio"] for output in result.outputs)
    assert all(output.facts["mark"] >= result.report["target"] for output in result.outputs)


def test_what_cannot_be_pruned_to_the_rule_is_said(target: InputNetwork, blurs: LabelledData, tmp_path: Path) -> None:
    with pytest.raises(NotPrunable, match=r'"network 1" has \d+ of 40 variants that reach SRCC .* all 5 ways'):
        pruned(target, blurs, tmp_path / "many", variants=40, ratios=(0.3,))
    flat = blur_data(range(4), dict.fromkeys(range(4), "val"), mos=[50.0] * 4 * LEVELS)
    with pytest.raises(LabelsError, match="one score, or they have one label"):
        pruned(target, flat, tmp_path / "flat")
    with pytest.raises(NotWhatIsNeeded, match="holds labels for classification"):
        pruned(target, class_data(), tmp_path / "classes")
    with pytest.raises(BadConfig, match=r"a ratio is 1\.5"):
        method("prune").configure(ratios=(1.5,))


def test_masks_are_those_of_torch() -> None:
    torch.manual_seed(0)
    network = build("unique_small", widths=[8, 8, 8])
    masks = masks_of(network, Cut("unstructured", 0.4))
    weights = torch.cat([dict(network.named_parameters())[name].flatten().abs() for name in masks])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert weights[~kept].max() <= weights[kept].min()
    assert masking.sparsity(masks) == pytest.approx(0.4, abs=1e-3)
    name = "backbone.1"
    ((parameter, mask),) = masks_of(network, Cut("structured", 0.5, name)).items()
    layer = nn.Conv2d(8, 8, 3, bias=False)
    layer.load_state_dict({"weight": dict(network.named_parameters())[parameter].detach()})
    torch_prune.ln_structured(layer, "weight", amount=0.5, n=1, dim=0)
    assert torch.equal(layer.get_buffer("weight_mask").bool(), mask)
    assert not any("mask" in key for key in network.state_dict())  # the network stayed as it was


def test_stages_follow_the_names_of_layers() -> None:
    resnet = stages(build("unique_resnet18"))
    assert list(resnet) == ["backbone.conv1", *(f"backbone.layer{number}" for number in range(1, 5))]
    assert not any("fc" in name for names in resnet.values() for name in names)
    assert list(stages(build("unique_small"))) == [f"backbone.{number}" for number in range(4)]
    ways = cuts(build("unique_small"), (0.3, 0.5), np.random.default_rng(0))
    assert len(set(ways)) == len(ways) == 2 + 2 * 4
    assert [way.kind for way in ways[:4]] == ["unstructured", "structured"] * 2


def test_masks_that_do_not_fit_are_refused() -> None:
    network = build("unique_small")
    with pytest.raises(MaskError, match='masks of "other" do not fit'):
        masking.unpacked({"backbone.9.weight": np.zeros(3, np.uint8)}, network, name="other")
