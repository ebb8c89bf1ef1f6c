"""One stage of compression: a network's factors are trained under attack while a constraint holds.

A step composes the weights once, attacks with them, takes the loss and its gradients with them, and carries these back
to the factors; then the optimiser steps and the constraint is put in force.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.engine.adversarial import mixed_loss, rate_at, watch
from training.engine.attacks import Attack, attacking, cross_entropy, pgd
from training.engine.batches import Shuffled, prefetch
from training.engine.context import RunContext, Values
from training.engine.pictures import Pictures, augmented
from training.methods.atmc.admm import Admm
from training.methods.atmc.factors import Factors

MOMENTUM = 0.9
Hold = Callable[[torch.Tensor, float], None]  # flat factors (n,), share of the stage that is done
WARM_UP = 0.05  # share of a phase in which its rate rises: the momentum starts anew


@dataclass(frozen=True)
class Phase:
    """Epochs at one rate, from which it falls along a cosine."""

    epochs: int
    rate: float


@dataclass(frozen=True)
class Schooling:
    """What all stages share. lam: weight of attacked images in the loss."""

    train: Pictures
    val: Pictures
    attack: Attack
    lam: float
    batch: int
    weight_decay: float
    pad: int
    flip: bool


@dataclass(frozen=True)
class Pull:
    """Quantisation by ADMM: rho, and the steps between two updates of the copy."""

    admm: Admm
    rho: float
    interval: int


def train_factors(
    run: RunContext,
    network: nn.Module,
    factors: Factors,
    schooling: Schooling,
    *,
    stage: str,
    phases: Sequence[Phase],
    hold: Hold,
    lam: float | None = None,
    pull: Pull | None = None,
) -> float:
    """Train factors and the rest of a network (norms, biases) in place, as one stage of a run; its seconds.

    The network ends in evaluation mode with the composed weights. hold: puts the constraint in force on the flat
    factors, in place, before the first step and after each. lam: instead of the schooling's.
    """
    lam = schooling.lam if lam is None else lam
    with torch.no_grad():
        hold(factors.flat, 0.0)
    rest = [parameter for name, parameter in network.named_parameters() if name not in factors.composed]
    optimiser = torch.optim.SGD(
        [{"params": [factors.flat]}, {"params": rest}], lr=0.1, momentum=MOMENTUM, weight_decay=schooling.weight_decay
    )
    model, optimiser = run.prepare(network, optimiser)
    order = Shuffled(len(schooling.train), schooling.batch, run.seed)
    told = Values(seconds=0.0)
    state = {"network": network, "factors": factors, "optimiser": optimiser, "told": told}
    total = sum(phase.epochs for phase in phases) * len(order)
    steps = run.steps(total, stage, **(state | {"admm": pull.admm} if pull else state))
    began = time.monotonic()
    for step, (pixels, labels) in prefetch(_batches(run, schooling, order, stage), steps):
        x, y = pixels.to(run.device, non_blocking=True), labels.to(run.device, non_blocking=True)
        rate = rate_of(phases, step, len(order))
        for group in optimiser.param_groups:
            group["lr"] = rate
        factors.compose_into(network)
        attacked = x
        if lam:
            with attacking(network), run.autocast():
                attacked = pgd(cross_entropy(network, y), x, schooling.attack)
        model.train()
        loss = mixed_loss(run, model, x, attacked, y, lam)
        network.zero_grad()
        run.backward(loss)
        factors.take_gradients(network)
        if pull is not None:
            pull.admm.add_gradient(pull.rho * _scale(run))
        optimiser.step()
        with torch.no_grad():
            hold(factors.flat, (step + 1) / total)
        if pull is not None and (step + 1) % pull.interval == 0:
            pull.admm.update()
            run.log(step, copy_distance=pull.admm.distance())
        run.log(step, loss=loss.item())
        told["seconds"] += time.monotonic() - began
        if (step + 1) % len(order) == 0:
            factors.compose_into(network)
            nonzeros = int(torch.count_nonzero(factors.flat.detach()))
            run.log(step, **watch(network, schooling.val, schooling.attack), nonzeros=nonzeros, rate=rate)
        began = time.monotonic()
    factors.compose_into(network)
    network.zero_grad()
    network.eval()
    return float(told["seconds"])


def rate_of(phases: Sequence[Phase], step: int, per_epoch: int) -> float:
    """The rate of a step: in each phase it rises for a moment, then falls to 0 along a cosine."""
    for phase in phases:
        total = phase.epochs * per_epoch
        if step < total:
            return phase.rate * rate_at(step, total, WARM_UP)
        step -= total
    return 0.0


def refresh_norms(run: RunContext, network: nn.Module, schooling: Schooling, *, lam: float, batches: int = 20) -> None:
    """Re-estimate the running statistics of batch norms with the weights that the network has now, on images as it
    learnt them; the mean over the batches. Draws from a generator of its own."""
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    order = Shuffled(len(schooling.train), schooling.batch, run.seed)
    make = _batches(run, schooling, order, "norms")
    made = []
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        torch.manual_seed(run.seed)
        for number in range(min(batches, len(order))):
            x, y = (tensor.to(run.device) for tensor in make(number))
            if lam:
                with attacking(network):
                    x = pgd(cross_entropy(network, y), x, schooling.attack)
            made.append(x)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    with torch.no_grad():
        for x in made:
            network(x)
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _batches(
    run: RunContext, schooling: Schooling, order: Shuffled, stage: str
) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    def batch_at(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = run.share(order.at(step))
        rng = run.rng(stage, "augment", step)
        x = augmented(schooling.train, chosen, pad=schooling.pad, flip=schooling.flip, rng=rng)
        return x, schooling.train.y[torch.from_numpy(chosen)]

    return batch_at


def _scale(run: RunContext) -> float:
    """By which float16 scales gradients until the optimiser takes them."""
    scaler = getattr(run.accelerator, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())
