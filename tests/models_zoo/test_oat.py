"""Adjustable networks: branches by lambda, FiLM on unique codes, slimmed widths, and points folded into plain ones."""

import io
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import scipy.fft
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from models_zoo.adapters.load import through_onnxruntime
from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.spec import Preprocessing, VersionSpec
from models_zoo.architectures import UnknownArchitecture, build
from models_zoo.architectures.oat import (
    CLEAN,
    ROBUST,
    AdaptiveNorm,
    Adjustable,
    Condition,
    UntrainedPoint,
    codes_of,
    fold,
    quick_start,
    slimmed,
)
from training.engine import costs

LAMBDAS = (0, 0.1, 0.4, 1)
SHAPES = {
    "basic_resnet": {"widths": [8, 12], "blocks": [1, 2]},
    "wide_resnet": {"widths": [8, 12], "blocks": [1, 2], "stem_width": 8},
}


def small(backbone: str = "basic_resnet", *, seed: int = 0, settled: bool = True, **options: object) -> Adjustable:
    """A small network; settled: with norms and FiLM as training might leave them, far from where they begin."""
    torch.manual_seed(seed)
    given = {"lambdas": LAMBDAS, "shares": (0.5, 1), "code_size": 16, "in_channels": 3, **options}
    network = Adjustable(backbone=backbone, shape=SHAPES[backbone], **given)  # type: ignore[arg-type]
    if settled:
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.3)
                    module.running_var.uniform_(0.5, 2)
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0, 0.3)
                if isinstance(module, AdaptiveNorm) and module.film is not None:
                    module.film.out.bias[: module.film.out.bias.numel() // 2].add_(0.5)
    return network.eval()


def statistics(network: Adjustable, branch: str, share: int) -> list[torch.Tensor]:
    norms = [module for module in network.modules() if isinstance(module, AdaptiveNorm)]
    return [getattr(norm, branch)[share].running_mean.clone() for norm in norms]


def same(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("backbone", "shape", "options", "side", "parameters", "macs"),
    [
        ("basic_resnet", {"widths": [64, 128, 256, 512], "blocks": [3, 4, 6, 3]}, {}, 32, 33.3555, [1171.4]),
        (
            "basic_resnet", {"widths": [64, 128, 256, 512], "blocks": [3, 4, 6, 3]}, {"shares": (0.5, 0.75, 1)}, 32,
            33.398, [293.8, 659.6, 1171.4],
        ),
        ("wide_resnet", {"widths": [128, 256, 512], "blocks": [2, 2, 2]}, {}, 32, 16.2289, [1553.4]),
        ("wide_resnet", {"widths": [32, 64, 128], "blocks": [6, 6, 6]}, {}, 96, 3.8864, [2950.0]),
    ],
)  # fmt: skip
def test_published_sizes(
    backbone: str, shape: dict, options: dict, side: int, parameters: float, macs: list[float]
) -> None:
    """In millions: the definitions published with arXiv:2010.11828, d = 128, doubled norms."""
    network = build("oat", backbone=backbone, shape=shape, **options)
    assert costs.params(network) / 1e6 == pytest.approx(parameters, abs=6e-5)
    for share, expected in zip(network.shares, macs, strict=True):
        network.share = share
        assert costs.macs(network, (3, side, side)) / 1e6 == pytest.approx(expected, abs=0.06)


def test_the_branch_follows_lambda_and_leaves_the_other_alone() -> None:
    network, x = small(), torch.rand(6, 3, 8, 8)
    for which, touched, untouched in (([0] * 6, "clean", "robust"), ([1, 2, 3, 3, 2, 1], "robust", "clean")):
        before = {branch: statistics(network, branch, 1) for branch in (touched, untouched)}
        network.train()
        network(x, network.mixed(torch.tensor(which)))
        network.eval()
        assert same(before[untouched], statistics(network, untouched, 1))
        assert not same(before[touched], statistics(network, touched, 1))
    clean, robust = network(x, network.at(0)), network(x, network.at(0.1))
    for module in network.modules():
        if isinstance(module, AdaptiveNorm):
            module.robust[1].bias.data.add_(1)
    assert torch.equal(network(x, network.at(0)), clean)  # clean and attacked images alike go by lambda
    assert not torch.allclose(network(x, network.at(0.1)), robust)


def test_a_mixed_batch_norms_each_group_by_itself() -> None:
    """In training the part of lambda 0 and the part above it are what they would be alone."""
    which = torch.tensor([0, 0, 0, 1, 3, 2, 1])
    x = torch.rand(7, 3, 8, 8)
    one, two = small(), small()
    one.train()
    two.train()
    whole = one(x, one.mixed(which))
    parts = torch.cat([two(x[:3], two.mixed(which[:3])), two(x[3:], two.mixed(which[3:]))])
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", list(SHAPES))
@pytest.mark.parametrize("training", [False, True])
def test_unique_codes_give_what_every_images_own_code_gives(backbone: str, training: bool) -> None:
    network, x = small(backbone), torch.rand(6, 3, 8, 8)
    which = torch.tensor([0, 0, 3, 1, 1, 2])
    unique = network.mixed(which)
    each = Condition(
        codes=network.codes[which],
        branches=tuple(CLEAN if LAMBDAS[at] == 0 else ROBUST for at in which),
        rows=torch.arange(6),
        groups=unique.groups,
    )
    network.train(training)
    torch.testing.assert_close(network(x, unique), network(x, each), rtol=1e-5, atol=1e-6)
    if not training:
        singly = torch.cat([network(x[at : at + 1], network.at(LAMBDAS[row])) for at, row in enumerate(which)])
        torch.testing.assert_close(network(x, unique), singly, rtol=1e-4, atol=1e-5)


def test_norm_then_film_as_the_paper_states_it() -> None:
    """Against the layers in a row: batch norm, two linear layers with LeakyReLU, factor and summand."""
    network = small()
    layer = network.backbone.norm
    assert isinstance(layer, AdaptiveNorm)
    assert layer.film is not None
    x, code = torch.randn(4, 8, 5, 5), network.codes[2]
    h = functional.leaky_relu(layer.film.out(functional.leaky_relu(layer.film.hidden(code), 0.01)), 0.01)
    wanted = layer.robust[1](x) * h[:8].view(1, 8, 1, 1) + h[8:].view(1, 8, 1, 1)
    torch.testing.assert_close(layer(x, network.at(0.4)), wanted, rtol=1e-5, atol=1e-5)
    blocks = network.backbone.blocks
    assert blocks[0].norm2.film is not None
    assert blocks[1].shortcut_norm.film is None
    wide = small("wide_resnet").backbone
    assert wide.norm.film is None
    assert wide.blocks[0].norm1.film is not None


@pytest.mark.parametrize("backbone", list(SHAPES))
@pytest.mark.parametrize("share", [0.5, 1])
@pytest.mark.parametrize("lam", LAMBDAS)
def test_a_folded_point_is_the_network_at_that_point(backbone: str, share: float, lam: float) -> None:
    network, x = small(backbone), torch.rand(4, 3, 16, 16)
    folded = fold(network, lam, share)
    with torch.no_grad():
        torch.testing.assert_close(folded.module(x), network(x, network.at(lam, share)), rtol=1e-4, atol=1e-5)
    plain = build(folded.architecture, **folded.arch_kwargs)
    plain.load_state_dict(folded.module.state_dict())  # nothing of the condition is left
    assert costs.params(plain) < costs.params(network)
    assert folded.arch_kwargs["widths"] == [slimmed(width, share) for width in (8, 12)]


def test_tables_hold_for_the_steps_of_an_attack() -> None:
    network, x = small("wide_resnet"), torch.rand(5, 3, 8, 8)
    given = network.mixed(torch.tensor([0, 1, 1, 2, 3]))
    tabled = network.tabled(given)
    torch.testing.assert_close(network(x, tabled), network(x, given), rtol=1e-5, atol=1e-6)
    x.requires_grad_(True)
    own = torch.autograd.grad(network(x, given).square().sum(), x)[0]
    torch.testing.assert_close(torch.autograd.grad(network(x, tabled).square().sum(), x)[0], own, rtol=1e-4, atol=1e-6)
    network(x, network.tabled(given)).sum().backward()
    films = [parameter for name, parameter in network.named_parameters() if "film" in name]
    assert films
    assert all(parameter.grad is None for parameter in films)


@pytest.mark.parametrize("which", [[0], [3], [0, 2], [0, 0, 0], [1, 1, 2]])
def test_short_batches_and_empty_branches_can_be_learnt_from(which: list[int]) -> None:
    network = small()
    network.train()
    loss = network(torch.rand(len(which), 3, 4, 4), network.mixed(torch.tensor(which))).square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_codes_travel_with_the_weights(tmp_path: Path) -> None:
    network, x = small(seed=1), torch.rand(2, 3, 8, 8)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, tmp_path / "weights")
    other = small(seed=2, settled=False)
    assert not torch.equal(other.codes, network.codes)
    other.load_state_dict(load_file(tmp_path / "weights"))
    assert torch.equal(other(x, other.at(0.4)), network(x, network.at(0.4)))


def test_codes() -> None:
    torch.manual_seed(0)
    random = codes_of(LAMBDAS, "random", 128)
    torch.testing.assert_close(random @ random.T, torch.eye(4), atol=1e-5, rtol=0)
    wanted = scipy.fft.dct(np.eye(16), type=2, axis=0)[:4]
    np.testing.assert_allclose(codes_of(LAMBDAS, "dct", 16).numpy(), wanted, atol=1e-6)
    assert torch.equal(codes_of(LAMBDAS, "onehot", 5), torch.eye(5)[:4])
    assert codes_of(LAMBDAS, "scalar", 128).flatten().tolist() == pytest.approx(LAMBDAS)


@pytest.mark.parametrize("backbone", list(SHAPES))
def test_a_quick_start_is_nearly_the_plain_backbone(backbone: str) -> None:
    network, x = small(backbone, settled=False), torch.rand(8, 3, 16, 16)
    quick_start(network)
    plain = fold(network, 0.1).module
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        own, other = network(x, network.at(0.1)), plain(x)
    assert torch.corrcoef(torch.stack([own.flatten(), other.flatten()]))[0, 1] > 0.8
    torch.testing.assert_close(network.codes.square().mean(dim=1), torch.ones(4))


def test_the_slider_between_trained_lambdas() -> None:
    network = small(between="interpolated")
    torch.testing.assert_close(network.at(0.25).codes[0], (network.codes[1] + network.codes[2]) / 2)
    assert network.at(0.05).branches == (ROBUST,)
    assert small(encoding="scalar", between="interpolated").at(0.7).codes.item() == pytest.approx(0.7)
    snapped = small(between="snapped")
    assert torch.equal(snapped.at(0.35).codes[0], snapped.codes[2])
    assert snapped.at(0.01).branches == (CLEAN,)
    with pytest.raises(UntrainedPoint, match=r"lambda 0\.25 is not one .* trained for: choose 0, 0\.1, 0\.4, 1, or"):
        small().at(0.25)
    with pytest.raises(UntrainedPoint, match=r"lambda 1\.5"):
        network.at(1.5)
    with pytest.raises(UntrainedPoint, match=r"no sub-network of width 0\.75: choose 0\.5, 1"):
        small().at(1, 0.75)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "mlp"}, r'backbone "mlp" cannot be made adjustable.*choose basic_resnet or wide_resnet'),
        ({"lambdas": ()}, "there is no lambda"),
        ({"lambdas": (0, 1.5)}, r"a lambda is 1\.5: give weights from 0"),
        ({"lambdas": (0, 0.1, 0.1)}, r"lambda 0\.1 is there twice"),
        ({"shares": (0.5,)}, r"the largest width is 0\.5: the whole network, width 1"),
        ({"shares": (0, 1)}, "a width is 0: give shares"),
        ({"shares": (0.01, 1)}, r"a width of 0\.01 leaves none of 8 channels: give at least 0\.125"),
        ({"code_size": 2}, "codes of 2 numbers cannot tell 4 lambdas apart"),
        ({"encoding": "fourier"}, 'no encoding "fourier"'),
        ({"lam": 0.5}, r"lambda 0\.5 is not one"),
    ],
)
def test_what_makes_no_adjustable_network_is_refused(options: dict, message: str) -> None:
    given = {"shape": SHAPES["basic_resnet"], "lambdas": LAMBDAS, **options}
    with pytest.raises(UnknownArchitecture, match=message):
        build("oat", **given)


def test_exports_agree_with_the_network() -> None:
    """Through the zoo's own exporter, and a point's export by itself."""
    network, pixels = small(lam=0.4), np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    spec = VersionSpec(kind="torch", architecture="oat", preprocessing=Preprocessing(resize=16, crop=16))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        wanted = network(x, network.at(0.4)).numpy()
    prepared = Prepared(network, spec.preprocessing).eval()
    exported = through_onnxruntime(spec, prepared, None, [pixels], any_size=False)
    assert exported is not None
    np.testing.assert_allclose(exported(pixels), wanted, atol=1e-4)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(fold(network, 0.4).module, (x,), file, dynamo=False, opset_version=17, input_names=["x"])
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], wanted, atol=1e-4)
