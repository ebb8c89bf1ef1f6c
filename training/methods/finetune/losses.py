"""The losses of both halves of a batch, base and found, of networks of either task."""

import torch
from torch.nn import functional

from training.methods.finetune import FinetuneConfig
from training.methods.finetune.batches import Batch, pairs_within
from training.methods.unique.losses import pair_losses


def with_sigma(outputs: torch.Tensor, orientation: int, sigma: float) -> torch.Tensor:
    """(n,), (n, 1) or (n, 2) -> (n, 2) float32: the score, higher = better, and the given deviation where there is
    none."""
    flat = outputs.float().reshape(len(outputs), -1)
    deviation = flat[:, 1] if flat.shape[1] == 2 else torch.full_like(flat[:, 0], sigma)
    return torch.stack((orientation * flat[:, 0], deviation), dim=1)


def quality_losses(
    outputs: torch.Tensor, batch: Batch, config: FinetuneConfig, *, orientation: int, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(base, found): fidelity and hinge over the pairs inside each half."""
    scored = with_sigma(outputs, orientation, sigma)
    first, second = (each.to(scored.device) for each in pairs_within(len(scored)))
    losses = []
    for half in range(2):
        fidelity, hinge = pair_losses(
            scored,
            batch.mos,
            batch.std,
            first[half],
            second[half],
            margin=config.margin,
            unknown_std=config.unknown_std,
        )
        losses.append(fidelity + config.hinge * hinge)
    return losses[0], losses[1]


def class_losses(outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(base, found): cross-entropy over each half."""
    base, found = functional.cross_entropy(outputs.float(), batch.label, reduction="none").chunk(2)
    return base.mean(), found.mean()
