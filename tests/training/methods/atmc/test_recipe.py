"""ATMC as a run: both constraints hold in what is kept, files are small and exact, a stopped run goes on exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.robust_data import digits_data
from models_zoo.adapters import compact
from models_zoo.adapters.weights import read_state_dict
from models_zoo.architectures import build
from training.engine.checkpoints import CheckpointError
from training.engine.explore import check_explorer, read_explorer
from training.engine.labels import LabelledData
from training.engine.local import RunResult, run_method
from training.engine.networks import InputNetwork
from training.engine.registry import BadConfig, method
from training.methods.atmc.factors import TooFew, budget_of, weights_to_compress

SHORT = {
    "architecture": "tiny_cnn", "widths": (8, 12), "eps": 0.1, "pad": 1, "flip": False, "steps": 2, "side": 8,
    "ratios": (0.3,), "bits": (32, 3), "dense_epochs": 2, "prune_epochs": 1, "factor_epochs": 1, "bits_epochs": 1,
    "batch": 32, "interval": 2, "most_test": 40,
}  # fmt: skip
ALL = ("ATMC", "A-l0", "AP", "ALR", "NAP", "DA")


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return digits_data(train=128, val=40, test=40)


def compressed(directory: Path, data: LabelledData, **changes: object) -> RunResult:
    return run_method("atmc", config=method("atmc").configure("digits", **SHORT | changes), data=data,
                      directory=directory, device="cpu")  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, digits: LabelledData) -> RunResult:
    return compressed(tmp_path_factory.mktemp("atmc") / "run", digits, families=ALL)


def outputs(result: RunResult) -> dict[str, InputNetwork]:
    return {output.label: output.network(result.directory) for output in result.outputs}


def test_every_family_gives_its_networks(result: RunResult) -> None:
    assert set(outputs(result)) == {"DA", "ATMC-32 0.3", "ATMC-3 0.3", "A-l0 0.3", "AP 0.3", "ALR 0.3", "NAP 0.3"}
    for output in result.outputs:
        measured = output.facts["measured"]
        assert measured["bytes"] == (result.directory / output.file).stat().st_size
        assert measured["ra_independent"]["value"] <= measured["sa"]["value"]
        assert output.file.endswith(".safetensors" if output.label == "DA" else ".compact")


def test_the_budget_and_the_bits_hold_in_what_is_kept(result: RunResult) -> None:
    budget = budget_of(outputs(result)["DA"].module(), 0.3)
    for name, network in outputs(result).items():
        if name in {"DA", "ALR 0.3"}:
            continue
        weights, _ = compact.decode(Path(network.spec.weights or "").read_bytes())
        nonzeros = sum(np.count_nonzero(part) for weight in weights.values() for part in weight.parts.values())
        assert nonzeros <= budget
        if name != "ATMC-3 0.3":
            assert nonzeros == budget
        for weight in weights.values():
            for part in weight.parts.values():
                assert name != "ATMC-3 0.3" or len(np.unique(part[part != 0])) <= 2**3
    forms = {name: {weight.form for weight in compact.decode(Path(network.spec.weights or "").read_bytes())[0].values()}
             for name, network in outputs(result).items() if name != "DA"}  # fmt: skip
    assert forms["ATMC-3 0.3"] <= {"left", "right"}
    assert forms["A-l0 0.3"] == {"plain"}
    assert forms["ALR 0.3"] == {"product"}


def test_files_are_really_small(result: RunResult) -> None:
    sizes = {output.label: output.facts["measured"] for output in result.outputs}
    assert sizes["ATMC-3 0.3"]["bytes"] < sizes["ATMC-32 0.3"]["bytes"] / 1.8 < sizes["DA"]["bytes"] / 3
    for name, said in sizes.items():
        assert said["true_bits"] <= 8 * said["bytes"]
        assert name == "DA" or said["paper_bits"] <= said["true_bits"]
    assert sizes["AP 0.3"]["macs_nonzero"] < sizes["AP 0.3"]["macs"] == sizes["DA"]["macs_nonzero"]


def test_a_file_gives_back_exactly_what_was_judged(result: RunResult, digits: LabelledData) -> None:
    network = outputs(result)["ATMC-3 0.3"]
    state = read_state_dict(Path(network.spec.weights or ""))
    weights, _ = compact.decode(Path(network.spec.weights or "").read_bytes())
    module = network.module()
    for name, weight in weights.items():
        assert torch.equal(state[name], torch.from_numpy(compact.compose(weight)))
        assert torch.equal(module.state_dict()[name], state[name])
    test = digits.rows("test")
    pixels = np.stack([digits.pixels(int(at)) for at in test.indices]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        said = module.eval()(torch.from_numpy(pixels.astype(np.float32) / 255)).argmax(1).numpy()
    told = next(output for output in result.outputs if output.label == "ATMC-3 0.3").facts["measured"]["sa"]["value"]
    assert float(np.mean(said == test.label)) == pytest.approx(told)


def test_the_page_has_what_it_shows(result: RunResult) -> None:
    found = read_explorer(result.directory)
    assert found is not None
    check_explorer(found)
    assert {point["name"] for point in found["points"]} == set(outputs(result))
    layers = [layer for layer in found["layers"] if layer["point"] == "ATMC-3 0.3"]
    assert [layer["name"] for layer in layers] == ["features.0", "features.4", "head"]
    assert all(0 < len(layer["codebook"]) <= 3 * 8 and layer["rank"] <= 12 for layer in layers)
    assert json.dumps(result.report)
    metrics = result.metrics
    assert any(line.get("copy_distance") for line in metrics if line["stage"] == "3 bits 0.3")
    assert {line["nonzeros"] for line in metrics if line["stage"] == "AP 0.3" and "nonzeros" in line} == {
        budget_of(outputs(result)["DA"].module(), 0.3)
    }


def test_a_version_can_be_compressed_and_a_compressed_one_go_on(
    result: RunResult, digits: LabelledData, tmp_path: Path
) -> None:
    for number, start in enumerate(("DA", "ATMC-3 0.3")):
        again = run_method(
            "atmc", config=method("atmc").configure("digits", **SHORT | {"bits": (3,)}), data=digits,
            directory=tmp_path / str(number), inputs={"start": outputs(result)[start]}, device="cpu",
        )  # fmt: skip
        assert [output.label for output in again.outputs] == ["ATMC-3 0.3"]
        assert not any(line["stage"] == "dense" for line in again.metrics)


@pytest.mark.parametrize("at", [("dense", 5), ("3 bits 0.3", 3), ("judge", 1)])
def test_resumes_exactly(result: RunResult, digits: LabelledData, tmp_path: Path, at: tuple[str, int]) -> None:
    def stop(where: object) -> None:
        if (where.stage, where.done) == at:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    arguments = {"config": method("atmc").configure("digits", **SHORT), "data": digits, "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        run_method("atmc", directory=tmp_path / "run", progress=stop, **arguments)
    resumed = run_method("atmc", directory=tmp_path / "run", **arguments)
    whole = {output.label: output.sha256 for output in result.outputs}
    assert {output.label: output.sha256 for output in resumed.outputs} == {
        name: whole[name] for name in ("ATMC-32 0.3", "ATMC-3 0.3")
    }


def test_another_config_is_no_resumption(digits: LabelledData, tmp_path: Path) -> None:
    def stop(where: object) -> None:
        if where.done == 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_method("atmc", config=method("atmc").configure("digits", **SHORT), data=digits,
                   directory=tmp_path / "run", device="cpu", progress=stop)  # fmt: skip
    with pytest.raises(CheckpointError):
        compressed(tmp_path / "run", digits, bits=(4,))


def test_what_makes_no_sense_is_refused(digits: LabelledData, tmp_path: Path) -> None:
    refused = {
        "bits are 0: give 1 to 16, or 32": {"bits": (0,)},
        "bits are 20": {"bits": (20,)},
        r"a ratio is 0: give shares above 0": {"ratios": (0.0,)},
        r"a ratio is 1\.5": {"ratios": (1.5,)},
        "ratio 0.1 is there twice": {"ratios": (0.1, 0.1)},
        "epsilon is a radius above 0": {"eps": 0.0},
        "2 widths and 1 numbers of blocks": {"architecture": "wide_resnet", "widths": (8, 8), "blocks": (1,)},
        "families": {"families": ("AB",)},
        "families: ": {"families": ()},
    }
    for message, changes in refused.items():
        with pytest.raises(BadConfig, match=message):
            method("atmc").configure(**changes)
    with pytest.raises(TooFew, match=r"leaves 1 of .* weights for 3 layers"):
        compressed(tmp_path / "few", digits, ratios=(0.001,))


def test_a_start_that_normalises_its_images_is_refused(digits: LabelledData, tmp_path: Path, result: RunResult) -> None:
    from dataclasses import replace

    from models_zoo.adapters.spec import Preprocessing

    dense = outputs(result)["DA"]
    other = replace(dense, spec=replace(dense.spec, preprocessing=Preprocessing(resize=8, crop=8, mean=0.5)))
    with pytest.raises(ValueError, match=r'"DA" takes its images as .* start from a version that was trained so'):
        run_method("atmc", config=method("atmc").configure("digits", **SHORT), data=digits,
                   directory=tmp_path / "run", inputs={"start": other}, device="cpu")  # fmt: skip


def test_every_preset_is_a_config() -> None:
    found = method("atmc")
    for preset in found.card.presets:
        found.configure(preset)
    for family in ("nap", "ap", "al0", "alr", "da"):
        assert len(found.configure(family).families) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("architecture", "arguments", "bits"),
    [
        ("lenet_caffe", {}, 13_776_000),
        ("basic_resnet", {}, 680_482_816),
        ("basic_resnet", {"num_classes": 100}, 681_957_376),
        ("wide_resnet", {"widths": (128, 256, 512), "blocks": (2, 2, 2)}, 350_533_120),
    ],
)
def test_sizes_are_those_of_the_papers_table(architecture: str, arguments: dict[str, object], bits: int) -> None:
    with torch.device("meta"):
        network = build(architecture, **arguments)
    assert 32 * sum(weight.numel() for weight in weights_to_compress(network).values()) == bits
