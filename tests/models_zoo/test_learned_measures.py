"""LPIPS against torchmetrics with its published learned weights; pyiqa where it is not installed, and a stand-in."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from django.core.management import CommandError, call_command

from accounts.errors import DomainError
from accounts.models import User
from models_zoo.metrics import MissingPackage, UnsuitableParams, get
from models_zoo.metrics.lpips import NETWORKS
from models_zoo.metrics.registry import MetricError
from models_zoo.services import model_create, version_add
from tests.models_zoo.quality_builders import photograph


def judge(network: str) -> torch.nn.Module:
    """torchmetrics' LPIPS: its published learned weights over a seeded network, whose own ones it would download."""
    from torchmetrics.functional.image import lpips

    torch.manual_seed(3)
    model = lpips._LPIPS(pretrained=True, net=network, pnet_rand=True, use_dropout=True)
    return model.eval()


def published(network: str) -> Path:
    import torchmetrics

    return Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / f"{network}.pth"


def backbone_of(judge: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The judge's network under torchvision's names."""
    state = {}
    for name, value in judge.net.state_dict().items():
        _, *rest = name.split(".")
        index = rest if name.startswith("slice1") or not name.startswith("slices") else rest[1:]
        state["features." + ".".join(index)] = value
    return state


@pytest.mark.parametrize("network", ["alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_lpips_agrees_with_torchmetrics(network: str, tmp_path: Path) -> None:
    reference = judge(network)
    torch.save(backbone_of(reference), tmp_path / "backbone.pth")
    call_command(
        "metric_params", "lpips", "--network", network, "--backbone", str(tmp_path / "backbone.pth"),
        "--linear", str(published(network)), "--out", str(tmp_path / "p.safetensors"),
    )  # fmt: skip
    measure = get(f"lpips_{network}").build(tmp_path / "p.safetensors")
    image, other = photograph(4, 97, 80), photograph(1, 97, 80)
    tensors = [torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1 for pixels in (image, other)]
    with torch.inference_mode():
        expected = float(reference(*tensors))
    assert expected > 0.001
    assert measure(image, other) == pytest.approx(expected, rel=1e-4)
    assert measure(image, image) == 0


def test_lpips_parameters_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "b.pth")
    with pytest.raises(CommandError, match="does not fit LPIPS over vgg16"):
        call_command(
            "metric_params", "lpips", "--network", "vgg", "--backbone", str(tmp_path / "b.pth"),
            "--linear", str(published("alex")), "--out", str(tmp_path / "p.safetensors"),
        )  # fmt: skip
    assert not (tmp_path / "p.safetensors").exists()
    (tmp_path / "text.safetensors").write_text("nothing")
    with pytest.raises(UnsuitableParams, match="metric_params lpips"):
        get("lpips_alex").build(tmp_path / "text.safetensors")
    assert set(NETWORKS) == {"alex", "vgg", "squeeze"}


@pytest.mark.skipif("pyiqa" in sys.modules, reason="pyiqa is installed here")
def test_without_pyiqa_its_measures_say_what_is_missing(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    card = get("pyiqa_musiq")
    assert "noncommercial" in card.licence
    if card.is_available:
        pytest.skip("pyiqa is installed here")
    with pytest.raises(MissingPackage, match=r"pip install -r requirements-pyiqa\.txt"):
        card.build()
    model = model_create(name="MUSIQ", task="quality", by=admin)
    with pytest.raises(DomainError, match="needs the package pyiqa"):
        version_add(model=model, label="v1", kind="metric", architecture="pyiqa_musiq", by=admin)


def test_pyiqa_measures_see_pixels_in_0_to_1_and_must_agree_with_their_card(monkeypatch: pytest.MonkeyPatch) -> None:
    class Metric:
        lower_better = False
        metric_mode = "NR"

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape == (1, 3, 40, 50)
            return x.mean()

    package = ModuleType("pyiqa")
    package.create_metric = lambda name, device: Metric()  # type: ignore[attr-defined]
    package.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "pyiqa", package)
    pixels = photograph(2, 50, 40)
    assert get("pyiqa_musiq").build()(pixels) == pytest.approx(np.mean(pixels) / 255, rel=1e-5)
    with pytest.raises(MetricError, match="differ on"):
        get("pyiqa_dists").build()
