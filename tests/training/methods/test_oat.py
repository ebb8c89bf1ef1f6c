"""Adjustable robustness: lambdas by image, attacks at the same lambda, one step for all widths, and what comes out."""

import copy
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.robust_data import digits_data
from models_zoo.architectures.oat import AdaptiveNorm, Adjustable, Condition
from training.engine.attacks import Attack
from training.engine.devices import Resources
from training.engine.explore import Point, read_explorer
from training.engine.labels import LabelledData
from training.engine.local import RunResult, run_method
from training.engine.networks import InputNetwork
from training.engine.registry import BadConfig, MethodConfig, method
from training.methods.oat.learning import Batch, accumulate, attacked_images, draw, losses
from training.methods.oat.points import point
from training.methods.oat.recipe import slider
from training.methods.oat.shown import by_turns

CPU = Resources(device="cpu")
LAMBDAS = (0.0, 0.2, 1.0)
TINY: dict[str, Any] = {
    "widths": (8, 16), "blocks": (1, 1), "stem_stride": 2, "epochs": 2, "most_test": 20, "shown": 5,
    "lambdas": LAMBDAS, "shares": (0.5, 1.0), "dedicated": (1.0,), "exported": (0.0,), "code_size": 8,
}  # fmt: skip
ATTACK = Attack(0.1, 3, 0.05)


class PlainRun:
    """What a step needs of a run."""

    autocast = staticmethod(nullcontext)

    @staticmethod
    def backward(loss: torch.Tensor) -> None:
        loss.backward()


RUN: Any = PlainRun()


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return digits_data(train=300, val=40, test=40)


def configured(**values: Any) -> MethodConfig:
    return method("oat").configure("digits", **{**TINY, **values})


def trained(directory: Path, data: LabelledData, **values: Any) -> RunResult:
    return run_method("oat", config=configured(**values), directory=directory, data=data, resources=CPU)


@pytest.fixture(scope="module")
def result(digits: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return trained(tmp_path_factory.mktemp("oat"), digits)


def network(shares: tuple[float, ...] = (1.0,)) -> Adjustable:
    torch.manual_seed(0)
    shape = {"widths": [8, 12], "blocks": [1, 1], "stem_width": 8}
    return Adjustable(backbone="wide_resnet", shape=shape, lambdas=LAMBDAS, shares=shares, code_size=8)


def batch(which: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(1)
    n = len(which)
    return Batch(
        torch.rand(n, 3, 8, 8, generator=generator), torch.arange(n) % 10, torch.tensor(which, dtype=torch.int64)
    )


def test_lambdas_of_a_batch() -> None:
    lambdas = (0.0, 0.1, 0.2, 0.3, 0.4, 1.0)
    drawn = draw(128, lambdas, np.random.default_rng(0))
    assert (drawn == 0).sum() == math.ceil(128 / 6) == 22
    assert (drawn[:22] == 0).all()
    many = draw(60_000, lambdas, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(many), 10_000, rtol=0.03)
    for n in (1, 2, 5, 7):
        assert len(draw(n, lambdas, np.random.default_rng(n))) == n
    assert (draw(10, lambdas, np.random.default_rng(0), clean_share=0.5) == 0).sum() == 5
    assert (draw(10, lambdas, np.random.default_rng(0), clean_share=1) == 0).all()
    assert set(draw(50, (0.5, 1.0), np.random.default_rng(0))) == {0, 1}
    assert (draw(9, (0.0,), np.random.default_rng(0)) == 0).all()
    assert (draw(9, (0.3,), np.random.default_rng(0)) == 0).all()


@pytest.mark.parametrize("which", [[0, 0, 1, 2, 2], [0, 0, 0], [1, 2, 1], [0], [2]])
def test_the_loss_is_the_papers_in_the_obvious_form(which: list[int]) -> None:
    """Clean images in one call and attacked ones in another, FiLM for every image, losses one by one; the same loss,
    gradients and running statistics."""
    fast, given = network(), batch(which)
    slow = copy.deepcopy(fast)
    torch.manual_seed(3)
    clean, attacked = losses(RUN, fast, fast, given, ATTACK, 0)
    (clean + attacked).backward()

    torch.manual_seed(3)
    n, n_zero = len(which), which.count(0)

    def said(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        condition = Condition(
            slow.codes[rows], tuple(int(LAMBDAS[row] > 0) for row in rows), torch.arange(len(rows)),
            tuple((int((rows == 0).sum() if branch == 0 else (rows > 0).sum()), branch) for branch in (0, 1)),
        )  # fmt: skip
        return slow(x, condition)

    slow.eval()
    adversaries = torch.empty(0, 3, 8, 8)
    if n_zero < n:
        x, y, rows = given.x[n_zero:], given.y[n_zero:], given.which[n_zero:]
        moved = (x + torch.empty_like(x).uniform_(-0.1, 0.1)).clamp(0, 1)
        for _ in range(3):
            moved.requires_grad_(True)
            (gradient,) = torch.autograd.grad(functional.cross_entropy(said(moved, rows), y, reduction="sum"), moved)
            moved = (moved.detach() + 0.05 * gradient.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
        adversaries = moved.detach()
    slow.train()
    total = torch.zeros(())
    logits = said(given.x, given.which)
    for at, row in enumerate(which):
        total = total + (1 - LAMBDAS[row]) * functional.cross_entropy(logits[at], given.y[at]) / n
    if n_zero < n:
        logits = said(adversaries, given.which[n_zero:])
        for at, row in enumerate(which[n_zero:]):
            total = total + LAMBDAS[row] * functional.cross_entropy(logits[at], given.y[n_zero + at]) / n
    total.backward()

    torch.testing.assert_close(clean + attacked, total, rtol=1e-4, atol=1e-5)
    for (name, own), other in zip(fast.named_parameters(), slow.parameters(), strict=True):
        wanted = torch.zeros_like(own) if other.grad is None else other.grad
        got = torch.zeros_like(own) if own.grad is None else own.grad
        torch.testing.assert_close(got, wanted, rtol=2e-3, atol=2e-5, msg=name)
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


def test_lambda_zero_touches_one_branch_and_the_others_the_other() -> None:
    for which, branch in (([0, 0, 0, 0], "robust"), ([1, 2, 2, 1], "clean")):
        net = network()
        losses(RUN, net, net, batch(which), ATTACK, 0)
        norms = [module for module in net.modules() if isinstance(module, AdaptiveNorm)]
        for norm in norms:
            untouched = getattr(norm, branch)[0]
            assert untouched.num_batches_tracked == 0
            assert torch.equal(untouched.running_mean, torch.zeros_like(untouched.running_mean))


def test_the_attack_stays_in_the_ball_and_leaves_the_network_alone() -> None:
    net, given = network(), batch([0, 1, 2, 2])
    net.train()
    before = copy.deepcopy(net.state_dict())
    found = attacked_images(RUN, net, given, ATTACK, 0, 1)
    assert found.shape == (3, 3, 8, 8)
    assert (found - given.x[1:]).abs().max() <= 0.1 + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert not found.requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_each_width_learns_from_its_own_attacks_and_the_mean_is_stepped() -> None:
    net, given = network((0.5, 1.0)), batch([0, 1, 2, 2])
    alone = copy.deepcopy(net)
    torch.manual_seed(5)
    told = accumulate(RUN, net, net, given, ATTACK)
    torch.manual_seed(5)
    parts = [losses(RUN, alone, alone, given, ATTACK, share) for share in (1, 0)]  # the widest first
    (sum(clean + attacked for clean, attacked in parts) / 2).backward()
    for own, other in zip(net.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)
    assert told[0] == pytest.approx(sum(clean.item() for clean, _ in parts) / 2, rel=1e-5)
    net.zero_grad()
    torch.manual_seed(5)
    accumulate(RUN, net, net, given, ATTACK, joint_loss="sum")
    gradient = next(parameter.grad for parameter in net.parameters() if parameter.grad is not None)
    reference = next(parameter.grad for parameter in alone.parameters() if parameter.grad is not None)
    assert gradient.norm() > 1.2 * reference.norm()


def test_what_comes_out(result: RunResult) -> None:
    roles = [(output.role, output.label) for output in result.outputs]
    assert roles == [
        ("adjustable", "adjustable"), ("dedicated", "dedicated, lambda 1"), ("point", "lambda 0, width 1"),
    ]  # fmt: skip
    for output in result.outputs:
        facts = output.facts["measured"]
        assert facts["confirmed"]
        assert facts["images"] == 20
        assert facts["bytes"] == pytest.approx((result.directory / output.file).stat().st_size, abs=200)
        assert min(facts["macs"], facts["params"], facts["latency_ms"], facts["seconds"]) > 0
    assert [(each["lam"], each["width"]) for each in result.report["points"]] == [
        (lam, share) for share in (0.5, 1.0) for lam in LAMBDAS
    ]
    assert set(result.report["seconds"]["dedicated"]) == {"1"}
    (compared,) = result.report["against_dedicated"]
    assert compared["lam"] == 1
    assert -1 <= compared["ra"] <= 1


def test_the_page_has_all_points_and_images(result: RunResult) -> None:
    content = read_explorer(result.directory)
    assert content is not None
    assert (content["kind"], content["lambdas"], content["widths"]) == ("oat", list(LAMBDAS), [0.5, 1.0])
    assert len(content["points"]) == 6
    assert not content["continuous"]
    assert content["sprites"]["clean"]["n"] == 5
    assert content["sprites"]["attacked"]["n"] == 30
    net = result.network("adjustable").module()
    assert isinstance(net, Adjustable)
    folded = point(result.network("adjustable"), {"lam": 0.2, "width": 0.5}).module
    assert content["points"][1]["macs"] == result.report["points"][1]["measured"]["macs"]
    assert folded(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
    first = content["dedicated"][0]
    assert (first["lam"], first["seconds"]) == (1, result.report["seconds"]["dedicated"]["1"])


@pytest.mark.parametrize("asked", [{"lam": 0, "width": 0.5}, {"lam": 0.2}, {"lam": 1, "width": 1}])
def test_a_point_is_a_plain_network_that_says_the_same(result: RunResult, asked: dict[str, float]) -> None:
    adjustable, x = result.network("adjustable"), torch.rand(6, 3, 8, 8)
    made = point(adjustable, asked)
    assert isinstance(made, Point)
    net = adjustable.module()
    assert isinstance(net, Adjustable)
    with torch.no_grad():
        wanted = net(x, net.at(asked["lam"], asked.get("width", 1)))
        torch.testing.assert_close(made.module(x), wanted, rtol=1e-4, atol=1e-4)
    assert made.architecture == "wide_resnet"
    assert made.facts["measured"]["sa"]["value"] == next(
        each["measured"]["sa"]["value"]
        for each in result.report["points"]
        if (each["lam"], each["width"]) == (asked["lam"], asked.get("width", 1))
    )
    assert not any(isinstance(module, AdaptiveNorm) for module in made.module.modules())


def test_points_that_are_not_there_are_refused(result: RunResult) -> None:
    adjustable = result.network("adjustable")
    for asked, message in (
        ({"lam": 0.3}, r"lambda 0\.3 is not one that the network was trained for: choose 0, 0\.2, 1"),
        ({"lam": 1, "width": 0.75}, r"no sub-network of width 0\.75: choose 0\.5, 1"),
        ({"lam": "half"}, "lam is 'half': give a number"),
        ({"lam": math.nan}, "lambda nan is not one"),
        ({"width": 1}, "the point has no lambda"),
        ({"lam": 1, "depth": 2}, '"depth" is not part of a point'),
    ):
        with pytest.raises(ValueError, match=message):
            point(adjustable, asked)
    with pytest.raises(ValueError, match="is a wide_resnet: only networks of the method"):
        point(result.network("dedicated"), {"lam": 1})


def test_stopped_three_times_and_resumed_it_gives_the_same_bytes(
    tmp_path: Path, digits: LabelledData, result: RunResult
) -> None:
    arguments: dict[str, Any] = {"config": configured(), "data": digits, "resources": CPU, "directory": tmp_path}
    for where in (("oat", 3), ("lambda 1", 2), ("judging", 4)):

        def stop(progress: Any, where: tuple[str, int] = where) -> None:
            if (progress.stage, progress.done) == where:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_method("oat", progress=stop, **arguments)
    resumed = run_method("oat", **arguments)
    assert [output.sha256 for output in resumed.outputs] == [output.sha256 for output in result.outputs]
    assert resumed.report["robustness"] == result.report["robustness"]


def test_a_continuous_slider_is_measured_between_and_the_best_weights_may_be_kept(
    tmp_path: Path, digits: LabelledData
) -> None:
    found = trained(
        tmp_path, digits, between="interpolated", keep="best", shares=(1.0,), dedicated=(), exported=(0.5,), epochs=1,
        default_lambda=0.5, grey=True, batch=299,
    )  # fmt: skip
    content = read_explorer(found.directory)
    assert content is not None
    assert [(each["lam"], each["trained"]) for each in content["points"]] == [
        (0.0, True), (0.1, False), (0.2, True), (0.5, False), (0.6, False), (1.0, True),
    ]  # fmt: skip
    assert content["continuous"]
    assert found.network("adjustable").preprocessing.channels == "grey"
    assert found.outputs[1].facts["trained"] is False
    assert point(found.network("adjustable"), {"lam": 0.77}).label == "lambda 0.77"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eps": 0}, 'to train without attacks take the method "pgdat"'),
        ({"lambdas": (0.0, 1.2)}, r"a lambda is 1\.2"),
        ({"lambdas": (0.0, 0.2, 0.2)}, "a lambda is there twice"),
        ({"lambdas": ()}, "lambdas"),
        ({"shares": (0.5,)}, "have to hold 1, the whole network"),
        ({"shares": (0.01, 1.0)}, r"a width of 0\.01 leaves none of 8 channels: give at least 0\.125"),
        ({"shares": (0.0, 1.0)}, "a width is 0"),
        ({"code_size": 2}, "codes of 2 numbers cannot tell 3 lambdas apart"),
        ({"exported": (0.3,)}, r"lambda 0\.3 is to be kept .* not trained: choose from 0, 0\.2, 1"),
        ({"default_lambda": 0.3, "between": "snapped"}, r"lambda 0\.3 is to be kept or to be the default"),
        ({"blocks": (1,)}, "2 widths and 1 numbers of blocks"),
        ({"architecture": "mlp"}, "architecture: Input should be 'wide_resnet' or 'basic_resnet'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        configured(**values)


def test_presets() -> None:
    for preset in method("oat").card.presets:
        configure = method("oat").configure(preset)
        assert len(slider(configure)) == 6  # type: ignore[arg-type]
    paper = method("oat").configure("paper").model_dump()
    assert (paper["eps"], paper["steps"], paper["step"], paper["epochs"]) == (8 / 255, 7, 2 / 255, 200)


def test_images_are_shown_by_turns_of_their_classes() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    order = by_turns(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(7))
    assert sorted(labels[order[:3]]) == [0, 1, 2]
    assert sorted(labels[order[3:5]]) == [0, 1]


@pytest.mark.slow
def test_accuracy_and_robustness_are_traded_by_lambda(tmp_path: Path) -> None:
    """On digits: every lambda is accurate, and every lambda above 0 is more robust than 0."""
    found = run_method(
        "oat", config=method("oat").configure("digits", epochs=10, dedicated=(), exported=(), lambdas=LAMBDAS),
        directory=tmp_path, data=digits_data(), resources=CPU,
    )  # fmt: skip
    points = [each["measured"] for each in found.report["points"]]
    robust = [each["ra_strong"]["value"] for each in points]
    assert robust[-1] > robust[0] + 0.03
    assert robust[1] > robust[0]
    assert min(each["sa"]["value"] for each in points) > 0.85


def test_networks_are_named_where_they_are_refused(result: RunResult) -> None:
    named = InputNetwork("my network", result.network("dedicated").spec)
    with pytest.raises(ValueError, match='"my network" is a wide_resnet'):
        point(named, {"lam": 1})
    assert isinstance(named.module(), nn.Module)
