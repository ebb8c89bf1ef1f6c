"""Training of one network at one trade-off between standard and robust accuracy (PGD adversarial training).

The loss of an image is (1 - lam) CE(f(x), y) + lam CE(f(x'), y), x' being x under attack (arXiv:1706.06083 has lam 1):
lam 0 is standard training and makes no attacks. Images are attacked in evaluation mode with frozen parameters; where
both terms count, clean and attacked images go through the network in one call and share the statistics of batch norms.

The method "pgdat" trains with this, and other methods train the networks that they compare themselves with.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training.engine.attacks import Attack, attacking, cross_entropy, pgd
from training.engine.batches import Shuffled, prefetch
from training.engine.context import RunContext, Values
from training.engine.pictures import Pictures, augmented
from training.engine.robustness import still_right

WATCHED = 250  # validation images that the curves follow


def train_plain(
    run: RunContext,
    network: nn.Module,
    train: Pictures,
    val: Pictures,
    *,
    stage: str,
    lam: float,
    attack: Attack,
    epochs: int,
    batch: int = 128,
    rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    warm_up: float = 0.1,
    pad: int = 4,
    flip: bool = True,
    after_step: Callable[[], None] | None = None,
) -> float:
    """Train a network in place, as one stage of a run; the seconds that it took, over all starts of the run.

    It ends in evaluation mode, with the weights of the last step, in channels_last, on the run's device.

    Args:
        network: x in [0, 1] -> logits (N, K).
        val: what the curves follow after each epoch (`val_sa`, `val_ra`); nothing is chosen by it.
        lam: weight of the attacked images, 0 to 1.
        rate: after the warm-up, from where it falls to 0 along a cosine. warm_up: share of the steps in which it rises.
        pad, flip: as `pictures.augmented`.
        after_step: called after each step of the optimiser, for what has to hold of the weights.

    Raises ValueError for a lam outside [0, 1]; otherwise what `RunContext.steps` raises.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam is {lam:g}: give the weight of attacked images, from 0 (none) to 1 (they alone)")
    network.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    order = Shuffled(len(train), batch, run.seed)
    total = epochs * len(order)
    optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, total, warm_up))
    model, optimiser = run.prepare(network, optimiser)
    told = Values(seconds=0.0)

    def batch_at(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = run.share(order.at(step))
        x = augmented(train, chosen, pad=pad, flip=flip, rng=run.rng(stage, "augment", step))
        return x, train.y[torch.from_numpy(chosen)]

    steps = run.steps(total, stage, network=network, optimiser=optimiser, schedule=schedule, told=told)
    began = time.monotonic()
    for step, (pixels, labels) in prefetch(batch_at, steps):
        x, y = pixels.to(run.device, non_blocking=True), labels.to(run.device, non_blocking=True)
        attacked = x
        if lam:
            with attacking(network), run.autocast():
                attacked = pgd(cross_entropy(network, y), x, attack)
        model.train()
        loss = mixed_loss(run, model, x, attacked, y, lam)
        optimiser.zero_grad()
        run.backward(loss)
        optimiser.step()
        if after_step is not None:
            after_step()
        schedule.step()
        run.log(step, loss=loss.item())
        is_epoch = (step + 1) % len(order) == 0
        told["seconds"] += time.monotonic() - began
        if is_epoch:
            run.log(step, **watch(network, val, attack), rate=optimiser.param_groups[0]["lr"])
        began = time.monotonic()
    network.eval()
    return float(told["seconds"])


def mixed_loss(
    run: RunContext, model: nn.Module, x: torch.Tensor, attacked: torch.Tensor, y: torch.Tensor, lam: float
) -> torch.Tensor:
    """The mean loss of a batch, a scalar: (1 - lam) of x and lam of x attacked, in the run's precision."""
    parts = [(1 - lam, x), (lam, attacked)]
    told = [(weight, images) for weight, images in parts if weight]
    with run.autocast():
        logits = model(torch.cat([images for _, images in told]))
    losses = functional.cross_entropy(logits.float(), y.repeat(len(told)), reduction="none")
    weights = torch.tensor([weight for weight, _ in told], device=y.device)
    return weights @ losses.view(len(told), -1).mean(dim=1)


def rate_at(step: int, total: int, warm_up: float) -> float:
    """Factor of the rate: rises to 1 in a line over the share `warm_up` of the steps, then falls to 0 on a cosine."""
    rising = math.ceil(warm_up * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def watch(network: nn.Module, val: Pictures, attack: Attack) -> dict[str, float]:
    """`val_sa` and `val_ra` on the first validation images, for the curves; the network comes back as it was."""
    some = val.first(WATCHED)
    right = still_right(network, some.x, some.y)
    stood = still_right(network, some.x, some.y, lambda x, y: pgd(cross_entropy(network, y), x, attack), right=right)
    return {"val_sa": float(np.mean(right)), "val_ra": float(np.mean(stood))}
