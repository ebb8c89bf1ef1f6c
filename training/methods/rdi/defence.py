"""Training against attacks on several exits (arXiv:2002.10025, equation 4), and of one exit in the same way."""

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from training.engine.attacks import Attack, attacking, cross_entropy, pgd
from training.engine.batches import Shuffled, prefetch
from training.engine.context import RunContext, Values
from training.engine.pictures import Pictures, augmented, plain_batch
from training.methods.rdi import RdiConfig

WATCHED = 250  # validation images that the curves follow
Craft = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # images, labels -> attacked images


def train_exits(
    run: RunContext,
    network: nn.Module,
    train: Pictures,
    val: Pictures,
    config: RdiConfig,
    *,
    stage: str,
    craft: Craft | None,
    call: dict[str, bool],
    weights: Sequence[float],
) -> float:
    """Train in place as one stage of a run; the seconds that it took, over all starts of the run.

    The loss of an image is the sum or mean over exits of w_i (CE(f_i(x), y) + CE(f_i(x'), y)) / 2; without attacks of
    w_i CE(f_i(x), y). Clean and attacked images go through the network in one call.

    craft: makes x'; None for standard training. call: what `network` is called with beside x to give the logits of all
    exits, (E, N, C); a network of one exit gives (N, C). weights: (E,).
    """
    network.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    order = Shuffled(len(train), config.batch, run.seed)
    total = config.epochs * len(order)
    optimiser = torch.optim.SGD(network.parameters(), lr=config.rate, momentum=0.9, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_at(step, total, config.warm_up, config.schedule)
    )
    model, optimiser = run.prepare(network, optimiser)
    told = Values(seconds=0.0)
    scale = torch.tensor(weights, device=run.device)
    if config.exit_loss == "mean":
        scale = scale / scale.sum()

    def batch_at(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = run.share(order.at(step))
        x = augmented(train, chosen, pad=config.pad, flip=config.flip, rng=run.rng(stage, "augment", step))
        return x, train.y[torch.from_numpy(chosen)]

    steps = run.steps(total, stage, network=network, optimiser=optimiser, schedule=schedule, told=told)
    began = time.monotonic()
    for step, (pixels, labels) in prefetch(batch_at, steps):
        x, y = pixels.to(run.device, non_blocking=True), labels.to(run.device, non_blocking=True)
        seen = [x]
        if craft is not None and step >= config.standard_epochs * len(order):
            with attacking(network), run.autocast():
                seen.append(craft(x, y))
        model.train()
        with run.autocast():
            logits = model(torch.cat(seen), **call)
        loss = scale @ _losses(logits, y.repeat(len(seen))).mean(1)
        optimiser.zero_grad()
        run.backward(loss)
        if config.clip:
            run.accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        run.log(step, loss=loss.item())
        told["seconds"] += time.monotonic() - began
        if (step + 1) % len(order) == 0:
            run.log(step, **watch(run, network, val, config, call), rate=optimiser.param_groups[0]["lr"])
        began = time.monotonic()
    network.eval()
    return float(told["seconds"])


def rate_at(step: int, total: int, warm_up: int, schedule: str) -> float:
    """Factor of the rate: a tenth for `warm_up` steps (at most a tenth of all), then along the schedule."""
    rising = min(warm_up, total // 10)
    if step < rising:
        return 0.1
    if schedule == "steps":
        return 0.1 ** ((2 * step >= total) + (4 * step >= 3 * total))
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def watch(
    run: RunContext, network: nn.Module, val: Pictures, config: RdiConfig, call: dict[str, bool]
) -> dict[str, float]:
    """`val_sa` and `val_ra`, means over the exits on the first validation images, for the curves."""
    some = slice(0, WATCHED)
    x, y = plain_batch(val, some).to(run.device), val.y[some].to(run.device)
    attack = Attack(config.eps, config.steps, config.step or config.eps / 4)
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []), attacking(network):
        torch.manual_seed(run.seed)

        def together(images: torch.Tensor) -> torch.Tensor:
            return _losses(network(images, **call), y).mean(0)

        with run.autocast():
            attacked = pgd(together, x, attack)
        found = []
        with torch.no_grad():
            for images in (x, attacked):
                logits = network(images, **call).float()
                found.append((logits.argmax(-1) == y).float().mean().item())
    return {"val_sa": found[0], "val_ra": found[1]}


def single_exit(network: nn.Module, config: RdiConfig) -> Craft | None:
    """The attack that a network of one exit learns against; None where the defence is none."""
    from training.methods.rdi.attacks import maker

    if config.defence == "none":
        return None
    make = maker(config.crafted, Attack(config.eps, config.steps, config.step or config.eps / 4))
    return lambda x, y: make(cross_entropy(network, y), x)


def _losses(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(E, N, C), or (N, C) of one exit -> (E, N) cross-entropies."""
    stacked = logits.float() if logits.dim() == 3 else logits.float()[None]
    flat = functional.cross_entropy(stacked.flatten(0, 1), y.repeat(len(stacked)), reduction="none")
    return flat.view(len(stacked), len(y))
