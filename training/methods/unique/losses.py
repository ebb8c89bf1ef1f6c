"""Losses on pairs of images (UNIQUE, arXiv:2005.13983, section III)."""

import torch

EPSILON = 1e-8


def preference(mos_1: torch.Tensor, mos_2: torch.Tensor, std_1: torch.Tensor, std_2: torch.Tensor) -> torch.Tensor:
    """g, the probability that people find the first better; any shape. Without deviations it is 0, 1/2 or 1."""
    spread = torch.sqrt(std_1**2 + std_2**2)
    gap = mos_1 - mos_2
    return torch.where(spread > 0, torch.special.ndtr(gap / spread.clamp_min(1e-12)), 0.5 * (1 + torch.sign(gap)))


def probability(mu_1: torch.Tensor, mu_2: torch.Tensor, sigma_1: torch.Tensor, sigma_2: torch.Tensor) -> torch.Tensor:
    """p, the probability that the network finds the first better. No gradient flows into the deviations."""
    spread = torch.sqrt(sigma_1**2 + sigma_2**2 + EPSILON).detach()
    return torch.special.ndtr((mu_1 - mu_2) / spread)


def fidelity(p: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """1 - sqrt(p g + 1e-8) - sqrt((1 - p)(1 - g) + 1e-8), 0 where p = g; any shape."""
    return 1 - torch.sqrt(p * g + EPSILON) - torch.sqrt((1 - p) * (1 - g) + EPSILON)


def uncertainty_hinge(
    sigma_1: torch.Tensor, sigma_2: torch.Tensor, std_1: torch.Tensor, std_2: torch.Tensor, margin: float
) -> torch.Tensor:
    """max(0, margin - sign(std_1 - std_2) (sigma_1 - sigma_2)); 0 where the order of the deviations is not known."""
    order = torch.nan_to_num(torch.sign(std_1 - std_2))
    loss = torch.relu(margin - order * (sigma_1 - sigma_2))
    return torch.where(order != 0, loss, torch.zeros_like(loss))


def pair_losses(
    outputs: torch.Tensor,
    mos: torch.Tensor,
    std: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    margin: float,
    unknown_std: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(fidelity, hinge), each the mean over pairs.

    outputs: (n, 2), mu and sigma; mos, std: (n,), std NaN where unknown; first, second: (pairs,) places in the batch.
    """
    mu, sigma = outputs.float().unbind(dim=1)
    known = torch.where(torch.isnan(std), torch.full_like(std, unknown_std), std)
    p = probability(mu[first], mu[second], sigma[first], sigma[second])
    g = preference(mos[first], mos[second], known[first], known[second])
    hinge = uncertainty_hinge(sigma[first], sigma[second], std[first], std[second], margin)
    return fidelity(p, g).mean(), hinge.mean()
