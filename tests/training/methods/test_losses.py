"""Losses on pairs against one pair at a time, and their gradients against finite differences and closed forms."""

import math

import numpy as np
import pytest
import torch

from training.methods.unique.losses import fidelity, pair_losses, preference, probability, uncertainty_hinge
from training.methods.unique.pairs import pairs_of


def phi(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def slow(mu: list, sigma: list, mos: list, std: list, held: list) -> tuple[float, float]:
    """Both losses over all pairs, from the formulas; held: deviations of the denominator, which carry no gradient."""
    fidelities, hinges = [], []
    for i in range(len(mu)):
        for j in range(i + 1, len(mu)):
            p = phi((mu[i] - mu[j]) / math.sqrt(held[i] ** 2 + held[j] ** 2 + 1e-8))
            known = [15.0 if math.isnan(each) else each for each in std]
            spread = math.sqrt(known[i] ** 2 + known[j] ** 2)
            g = phi((mos[i] - mos[j]) / spread) if spread else (1 + np.sign(mos[i] - mos[j])) / 2
            fidelities.append(1 - math.sqrt(p * g + 1e-8) - math.sqrt((1 - p) * (1 - g) + 1e-8))
            order = 0.0 if math.isnan(std[i] - std[j]) else float(np.sign(std[i] - std[j]))
            hinges.append(max(0.0, 0.025 - order * (sigma[i] - sigma[j])) if order else 0.0)
    return float(np.mean(fidelities)), float(np.mean(hinges))


@pytest.mark.parametrize("seed", range(4))
def test_losses_and_gradients_are_those_of_the_formulas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 6
    mu, sigma = rng.normal(0, 1, n), rng.uniform(0.3, 1.5, n)
    mos, std = rng.uniform(20, 80, n), rng.choice([0.0, 0.0, 8.0, 12.5, 17.0, np.nan], n)
    outputs = torch.tensor(np.stack([mu, sigma], axis=1), dtype=torch.float32, requires_grad=True)
    first, second = pairs_of(n, "all")
    losses = pair_losses(outputs, torch.tensor(mos), torch.tensor(std), first, second, margin=0.025, unknown_std=15.0)
    expected = slow(mu.tolist(), sigma.tolist(), mos.tolist(), std.tolist(), sigma.tolist())
    assert [loss.item() for loss in losses] == pytest.approx(expected, abs=2e-6)
    for which, loss in enumerate(losses):
        gradient = torch.autograd.grad(loss, outputs, retain_graph=True)[0].numpy()
        for at in range(n):
            for column in (0, 1):
                moved = []
                for step in (1e-5, -1e-5):
                    shifted = [mu.tolist(), sigma.tolist()]
                    shifted[column][at] += step
                    moved.append(slow(*shifted, mos.tolist(), std.tolist(), sigma.tolist())[which])
                assert gradient[at, column] == pytest.approx((moved[0] - moved[1]) / 2e-5, abs=2e-4)


def test_the_gradient_of_the_fidelity_is_the_closed_form() -> None:
    """d/dmu1 = phi(z)/s * (-g / (2 sqrt(pg + e)) + (1 - g) / (2 sqrt((1 - p)(1 - g) + e)))."""
    mu = torch.tensor([0.4, -0.1], dtype=torch.float64, requires_grad=True)
    sigma, g = torch.tensor([0.6, 0.8], dtype=torch.float64), 0.3
    p = probability(mu[0], mu[1], sigma[0], sigma[1])
    fidelity(p, torch.tensor(g, dtype=torch.float64)).backward()
    z = 0.5 / math.sqrt(1 + 1e-8)
    density, value = math.exp(-z * z / 2) / math.sqrt(2 * math.pi), phi(z)
    slope = -g / (2 * math.sqrt(value * g + 1e-8)) + (1 - g) / (2 * math.sqrt((1 - value) * (1 - g) + 1e-8))
    assert mu.grad is not None
    assert mu.grad.tolist() == pytest.approx([density * slope, -density * slope], rel=1e-6)


def test_pseudo_ratings_say_only_which_is_better() -> None:
    mos, nothing = torch.tensor([10.0, 60.0, 60.0]), torch.zeros(3)
    g = preference(mos[[0, 1, 1]], mos[[1, 0, 2]], nothing, nothing)
    assert g.tolist() == [0, 1, 0.5]
    assert uncertainty_hinge(torch.ones(3), torch.zeros(3), nothing, nothing, 0.025).tolist() == [0, 0, 0]
    g = preference(mos[:1], mos[1:2], torch.tensor([30.0]), torch.tensor([40.0]))
    assert g.item() == pytest.approx(phi(-1))


def test_a_perfect_network_has_no_loss() -> None:
    p = torch.linspace(0, 1, 11)
    assert fidelity(p, p).abs().max() < 1e-3
    assert (fidelity(p, 1 - p)[:5] > 0.1).any()
    hinge = uncertainty_hinge(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([9.0]), torch.tensor([3.0]), 0.025)
    assert hinge.item() == 0


def test_pairs_of_a_batch() -> None:
    first, second = pairs_of(5, "drawn")
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (2, 3)]
    assert len(pairs_of(5, "all")[0]) == 10
