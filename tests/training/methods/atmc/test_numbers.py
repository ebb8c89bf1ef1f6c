"""The numerics of ATMC against slow, obvious recomputations."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from models_zoo.adapters.compact import compose
from models_zoo.architectures import build
from training.methods.atmc.factors import (
    Factors,
    Layer,
    TooFew,
    budget_of,
    low_rank_factors,
    plain_factors,
    project,
    ranks_within,
    square_factors,
    weights_to_compress,
)
from training.methods.atmc.kmeans import zero_kmeans


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build("tiny_cnn", widths=[8, 12], num_classes=5)


def slow_kmeans(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Lloyd's algorithm with all distances, a fixed centre at zero, until nothing changes."""
    assigned = None
    while True:
        codebook = np.concatenate([[0.0], centres])
        nearest = np.abs(values[:, None] - codebook[None]).argmin(1)
        if assigned is not None and np.array_equal(nearest, assigned):
            return codebook[nearest]
        assigned = nearest
        centres = np.array(
            [
                values[nearest == at + 1].mean() if (nearest == at + 1).any() else centre
                for at, centre in enumerate(centres)
            ]
        )


@pytest.mark.parametrize("bits", [1, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_zero_kmeans_ends_where_the_slow_form_does(bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=2_000).astype(np.float32) * (rng.random(2_000) < 0.7)
    start = rng.choice(values[values != 0], 2**bits, replace=False)
    fast = zero_kmeans(torch.from_numpy(values), 2**bits, start=torch.from_numpy(start))
    slow = slow_kmeans(values.astype(np.float64), start.astype(np.float64))
    error, slow_error = (float(((found - values) ** 2).mean()) for found in (fast.values.double().numpy(), slow))
    assert error == pytest.approx(slow_error, rel=0.01)
    assert len(np.unique(fast.values[fast.values != 0])) <= 2**bits
    assert (fast.values[torch.from_numpy(values == 0)] == 0).all()
    assert set(fast.values[fast.values != 0].tolist()) <= set(fast.centres.tolist())


def test_zero_kmeans_starts_warm_and_leaves_few_values_alone() -> None:
    torch.manual_seed(0)
    values = torch.randn(60, 50)
    first = zero_kmeans(values, 16)
    again = zero_kmeans(values, 16, start=first.centres)
    assert again.rounds <= 2 < first.rounds
    assert torch.equal(again.values, first.values)
    few = torch.tensor([0.0, 1.5, -2.0, 1.5])
    assert torch.equal(zero_kmeans(few, 2).values, few)
    assert torch.equal(zero_kmeans(torch.zeros(7), 4).values, torch.zeros(7))
    with pytest.raises(ValueError, match="at least 1 bit"):
        zero_kmeans(values, 0)
    with pytest.raises(ValueError, match="diverged"):
        zero_kmeans(torch.tensor([1.0, float("nan")]), 2)


@pytest.mark.parametrize("budget", [1, 10, 57, 100, 200])
def test_exactly_the_budget_is_left(budget: int) -> None:
    torch.manual_seed(budget)
    for flat in (torch.randn(100), torch.randint(1, 4, (100,)).float()):  # many equal ones
        before = flat.clone()
        project(flat, budget)
        kept = flat != 0
        assert int(kept.sum()) == min(budget, 100)
        assert torch.equal(flat[kept], before[kept])
        assert budget >= 100 or before[kept].abs().min() >= before[~kept].abs().max()


def test_at_the_start_the_factors_are_the_dense_network(network: nn.Module) -> None:
    x = torch.rand(4, 3, 16, 16)
    dense, state = network(x), {name: value.clone() for name, value in network.state_dict().items()}
    n_dense = sum(weight.numel() for weight in weights_to_compress(network).values())
    for make in (square_factors, plain_factors):
        factors = make(network)
        assert int((factors.flat != 0).sum()) == n_dense
        for weight in weights_to_compress(network).values():
            weight.data.zero_()
        factors.compose_into(network)
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert torch.equal(network(x), dense)
    forms = {layer.name: layer.form for layer in square_factors(network).layers}
    assert forms["head.weight"] == "left"


@pytest.mark.parametrize(("form", "rank"), [("plain", 0), ("left", 0), ("right", 0), ("product", 3)])
def test_gradients_are_those_of_autograd(form: str, rank: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 7, 3, bias=False))
    factors = Factors([Layer("0.weight", form, (7, 2, 3, 3), rank)])
    with torch.no_grad():
        factors.flat.copy_(torch.randn_like(factors.flat))
    factors.compose_into(network)
    x = torch.rand(3, 2, 6, 6)
    network(x).square().sum().backward()
    factors.take_gradients(network)
    leaf = factors.flat.detach().clone().requires_grad_(True)
    parts = factors.parts(leaf)["0.weight"]
    eye = {"left": (torch.eye(7), torch.zeros(())), "right": (torch.zeros(()), torch.eye(18))}.get(form, (0.0, 0.0))
    whole = parts.get("c", torch.zeros(7, 18))
    if "u" in parts:
        whole = whole + (parts["u"] + eye[0]) @ (parts["v"] + eye[1])
    nn.functional.conv2d(x, whole.view(7, 2, 3, 3)).square().sum().backward()
    assert torch.allclose(factors.flat.grad, leaf.grad, rtol=1e-4, atol=1e-3)
    composed = compose(factors.weights()["0.weight"])
    assert np.allclose(composed, whole.detach().view(7, 2, 3, 3).numpy(), atol=1e-5)


def test_a_copy_of_factors_goes_its_own_way(network: nn.Module) -> None:
    factors = square_factors(network)
    copied = copy.deepcopy(factors)
    with torch.no_grad():
        copied.flat.mul_(2)
    copied.compose_into(network)
    doubled = network.get_parameter("head.weight").detach().clone()
    factors.compose_into(network)
    assert torch.equal(doubled, 2 * network.get_parameter("head.weight"))


def test_low_rank_keeps_the_largest_singular_values_of_all_layers(network: nn.Module) -> None:
    costs = {"a": 10, "b": 5}
    values = {"a": torch.tensor([9.0, 4.0, 1.0]), "b": torch.tensor([0.5, 0.4])}
    assert ranks_within(values, costs, 25) == {"a": 2, "b": 1}
    assert ranks_within(values, costs, 3) == {"a": 1, "b": 1}
    whole = low_rank_factors(network, 10**9)
    before = {name: weight.clone() for name, weight in weights_to_compress(network).items()}
    whole.compose_into(network)
    for name, weight in weights_to_compress(network).items():
        assert torch.allclose(weight, before[name], atol=1e-5)
    small = low_rank_factors(network, 500)
    assert small.flat.numel() <= 500


def test_a_budget_below_the_number_of_layers_is_refused(network: nn.Module) -> None:
    with pytest.raises(TooFew, match=r"leaves 1 of 1,140 weights for 3 layers: give at least"):
        budget_of(network, 0.001)
    assert budget_of(network, 0.1) == 114
    with pytest.raises(ValueError, match="neither convolutions nor linear"):
        budget_of(nn.ReLU(), 0.1)


def test_a_floor_keeps_layers_alive_within_the_same_budget() -> None:
    network = nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 5))
    with torch.no_grad():
        network[1].weight *= 1e-3
    factors = plain_factors(network)
    flat = factors.flat.detach()
    without = flat.clone()
    project(without, 40)
    assert torch.count_nonzero(without[200:]) == 0, "the small weights of the second layer lose against the first's"
    floors = factors.floors(2, 40)
    assert floors == [(0, 200, 13), (200, 250, 6)], "two for each output, cut to half of the budget"
    project(flat, 40, floors)
    assert torch.count_nonzero(flat) == 40
    assert torch.count_nonzero(flat[200:]) == 6
    largest = without.abs().topk(34).indices
    assert torch.equal(flat[largest], without[largest]), "the rest of the budget goes to the largest of all"
    assert factors.floors(0, 40) == []
