"""Early exits: leaving early gives what computing everything and routing gives; the published weights load."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models_zoo.adapters import Preprocessing, VersionSpec
from models_zoo.adapters.load import load, through_onnxruntime, torch_module
from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.spec import file_sha256
from models_zoo.architectures import UnknownArchitecture, build
from models_zoo.architectures.rdi import RdiResNet, choose, entropy

SHARED = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
WEIGHTS = SHARED / "cifar10" / "weights" / "rdi_resnet38_maxavg_60000.pth.tar"
OFFICIAL = (0.26419, 0.36976, 0.36145, 0.76639, 1.03506, 1.30606)
SMALL = {"widths": [8, 16, 32], "blocks": [2, 2, 2], "exits": [1, 3, 5], "num_classes": 10}
needs_weights = pytest.mark.skipif(not WEIGHTS.exists(), reason="the RDI-Nets checkpoint is not in the data folder")


def network(**values: object) -> RdiResNet:
    """A small network whose batch norms have seen something, so that its exits disagree."""
    torch.manual_seed(0)
    made = build("rdi_resnet", **{**SMALL, **values})
    assert isinstance(made, RdiResNet)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.weight, 0.5, 2)
    return made


def images(n: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand((n, 3, side, side), generator=torch.Generator().manual_seed(seed))


def slow_route(logits: np.ndarray, thresholds: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """One image after the other: (N, C) logits and (N,) exits."""
    answers, exits = [], []
    for image in range(logits.shape[1]):
        at = len(thresholds)
        for number, threshold in enumerate(thresholds):
            shifted = np.exp(logits[number, image] - logits[number, image].max())
            p = shifted / shifted.sum()
            if -(p * np.log(np.maximum(p, 1e-30))).sum() < threshold:
                at = number
                break
        answers.append(logits[at, image])
        exits.append(at)
    return np.array(answers), np.array(exits)


@pytest.mark.parametrize("heads", ["paper", "light"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_leaving_early_gives_what_routing_afterwards_gives(heads: str, layout: torch.memory_format) -> None:
    net = network(heads=heads).to(memory_format=layout)
    x = images(60).to(memory_format=layout)
    with torch.no_grad():
        every = net(x, every=True)
        sure = entropy(every)[:3]
        for shares in ((0.5, 0.5, 0.5), (0.25, 0.7, 0.4), (0, 0.5, 0), (0, 0, 0.5), (0.9, 0, 0.3)):
            net.thresholds = tuple(
                float(each.quantile(share)) if share else 0.0 for each, share in zip(sure, shares, strict=True)
            )
            early, after = net.routed(x), choose(every, net.thresholds)
            answers, exits = slow_route(every.double().numpy(), list(net.thresholds))
            assert torch.equal(early.exit, after.exit)
            assert early.exit.tolist() == exits.tolist()
            assert len(set(exits.tolist())) > 1
            torch.testing.assert_close(early.logits, after.logits)
            np.testing.assert_allclose(after.logits.numpy(), answers, rtol=1e-6)
            torch.testing.assert_close(net(x), after.logits)


def test_thresholds_at_their_ends() -> None:
    x = images(9)
    with torch.no_grad():
        shut = network(thresholds=[0, 0, 0])
        assert shut.routed(x).exit.tolist() == [3] * 9
        torch.testing.assert_close(shut(x), shut.backbone(x))
        open_ = network(thresholds=[math.log(10) + 1, 0.5, 0.5])
        assert open_.routed(x).exit.tolist() == [0] * 9
        torch.testing.assert_close(open_(x), open_.at(x, 0))
        certain = torch.zeros(4, 2, 10)
        certain[..., 3] = 1e4  # an entropy of exactly zero does not pass a closed exit
        assert choose(certain, (0.0, 0.0, 0.0)).exit.tolist() == [3, 3]


def test_what_is_closed_or_left_is_not_computed() -> None:
    net = network()

    def macs(*thresholds: float) -> int:
        net.thresholds = thresholds
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net.routed(images(1))
        return counter.get_total_flops() // 2

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.backbone(images(1))
    whole = counter.get_total_flops() // 2
    assert macs(0, 0, 0) == whole
    assert macs(9, 9, 9) < macs(0, 9, 9) < macs(0, 0, 9) < whole
    assert macs(1e-9, 1e-9, 1e-9) > whole  # heads that were evaluated and rejected


def test_each_copy_is_computed_up_to_its_exit() -> None:
    net, x = network(), images(5)
    copies = torch.cat([images(5, seed=seed) for seed in range(4)])
    with torch.no_grad():
        own = net.each_at_its_exit(copies)
        for number, part in enumerate(copies.split(5)):
            torch.testing.assert_close(own[5 * number : 5 * number + 5], net.at(part, number))
            torch.testing.assert_close(net.at(part, number), net(part, every=True)[number])
    assert net(x, every=True).shape == (4, 5, 10)


def test_gradients_flow_through_the_exit_that_was_taken() -> None:
    net = network()
    x = images(12).requires_grad_(True)
    with torch.no_grad():
        net.thresholds = tuple(entropy(net(x, every=True)).quantile(0.5, dim=1)[:3].tolist())
    early = torch.autograd.grad(net.routed(x).logits.logsumexp(1).sum(), x)[0]
    after = torch.autograd.grad(choose(net(x, every=True), net.thresholds).logits.logsumexp(1).sum(), x)[0]
    torch.testing.assert_close(early, after)


@pytest.mark.parametrize("side", [32, 8, 5])
def test_any_side_and_one_channel(side: int) -> None:
    for heads in ("paper", "light"):
        net = network(in_channels=1, stem_stride=2, heads=heads, thresholds=[1.0, 1.0, 1.0])
        assert net(images(2, side)[:, :1]).shape == (2, 10)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exits": [1, 2, 3, 4, 5, 6]}, "6 early exits in a network of 6 blocks: give at most 5"),
        ({"exits": []}, "no early exit"),
        ({"exits": [3, 2]}, "ascending"),
        ({"exits": [6]}, "from 1 to 5"),
        ({"thresholds": [1.0]}, "1 thresholds for 3 early exits"),
        ({"thresholds": [1.0, math.nan, 1.0]}, "not a number"),
        ({"heads": "wide"}, "choose one of paper, light"),
        ({"widths": [8, 0, 8]}, "a width is 0"),
    ],
)
def test_what_makes_no_network_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownArchitecture, match=message):
        build("rdi_resnet", **{**SMALL, **values})


def test_the_export_routes_alike(tmp_path: Path) -> None:
    net = network()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        every = Prepared(net, Preprocessing())(torch.from_numpy(pixels))  # closed: the last exit
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        net.thresholds = tuple(entropy(net(x, every=True)).quantile(0.5, dim=1)[:3].tolist())
        wanted = net.routed(x)
    assert len(set(wanted.exit.tolist())) > 1
    assert not torch.allclose(every, wanted.logits)
    spec = VersionSpec(kind="torch", architecture="rdi_resnet")
    run = through_onnxruntime(spec, Prepared(net, Preprocessing()).eval(), None, [pixels], any_size=False)
    assert run is not None
    np.testing.assert_allclose(run(pixels), wanted.logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(run(pixels[:1]), wanted.logits[:1].numpy(), atol=1e-4)


@needs_weights
def test_the_published_checkpoint_is_a_version(tmp_path: Path) -> None:
    spec = VersionSpec(
        kind="torch",
        architecture="rdi_resnet",
        arch_kwargs={"thresholds": list(OFFICIAL)},
        weights=str(WEIGHTS),
        sha256=file_sha256(WEIGHTS),
        preprocessing=Preprocessing(resize=32, crop=32),
        num_classes=10,
    )
    net, _ = torch_module(spec)
    assert sum(parameter.numel() for parameter in net.parameters()) == 692_310
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    for n_images in (4, None):
        scores = load(spec, n_images=n_images, cache_dir=tmp_path)(pixels)
        np.testing.assert_allclose(scores, net(x).numpy(), atol=2e-3)
