"""The training of an adjustable network: lambdas by image, attacks at the same lambda, one step for all widths."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models_zoo.architectures.oat import Adjustable, fold
from training.engine.adversarial import rate_at, watch
from training.engine.attacks import Attack, attacking, cross_entropy, pgd
from training.engine.batches import Shuffled, prefetch
from training.engine.context import RunContext, Values
from training.engine.pictures import Pictures, augmented
from training.methods.oat import OatConfig


@dataclass(frozen=True)
class Batch:
    """x: (N, C, H, W) in [0, 1]; y: (N,) classes; which: (N,) index of each image's lambda, those of lambda 0 first."""

    x: torch.Tensor
    y: torch.Tensor
    which: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(part.to(device, non_blocking=True) for part in (self.x, self.y, self.which)))


def draw(
    n: int, lambdas: tuple[float, ...], rng: np.random.Generator, *, clean_share: float | None = None
) -> npt.NDArray[np.int64]:
    """(n,) index of a lambda for each image of a batch (arXiv:2010.11828, section 3).

    The first ceil(n / number of lambdas), or ceil(clean_share * n), get lambda 0 where it is one of them; the others
    one of the others, evenly drawn.
    """
    zero = [at for at, lam in enumerate(lambdas) if lam == 0]
    others = [at for at, lam in enumerate(lambdas) if lam > 0]
    if not others:
        return np.zeros(n, np.int64)
    share = 1 / len(lambdas) if clean_share is None else clean_share
    n_zero = min(n, math.ceil(share * n - 1e-9)) if zero else 0
    return np.concatenate([np.full(n_zero, zero[0] if zero else 0), rng.choice(others, n - n_zero)]).astype(np.int64)


def learn(
    run: RunContext, network: Adjustable, train: Pictures, val: Pictures, *, config: OatConfig, attack: Attack
) -> float:
    """Train in place, as the stage "oat"; the seconds that it took, over all starts of the run.

    It ends in evaluation mode, in channels_last, on the run's device. val: what the curves follow, and what chooses the
    weights where the config keeps the best.
    """
    network.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    order = Shuffled(len(train), config.batch, run.seed)
    total = config.epochs * len(order)
    optimiser = torch.optim.SGD(network.parameters(), lr=config.rate, momentum=0.9, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, total, config.warm_up))
    model, optimiser = run.prepare(network, optimiser)
    told = Values(seconds=0.0)
    state: dict[str, Any] = {"network": network, "optimiser": optimiser, "schedule": schedule, "told": told}
    best = run.early_stop(patience=config.epochs + 1, keep=network)
    if config.keep == "best":
        state["best"] = best

    def batch_at(step: int) -> Batch:
        chosen = run.share(order.at(step))
        x = augmented(train, chosen, pad=config.pad, flip=config.flip, rng=run.rng("oat", "augment", step))
        which = draw(len(chosen), network.lambdas, run.rng("oat", "lambda", step), clean_share=config.clean_share)
        return Batch(x, train.y[torch.from_numpy(chosen)], torch.from_numpy(which))

    began = time.monotonic()
    for step, drawn in prefetch(batch_at, run.steps(total, "oat", **state)):
        batch = drawn.to(run.device)
        optimiser.zero_grad()
        clean_loss, attacked_loss = accumulate(run, model, network, batch, attack, joint_loss=config.joint_loss)
        optimiser.step()
        schedule.step()
        run.log(step, loss=clean_loss + attacked_loss, clean_loss=clean_loss, attacked_loss=attacked_loss)
        told["seconds"] += time.monotonic() - began
        if (step + 1) % len(order) == 0:
            lambdas = network.lambdas if config.keep == "best" else (network.lambdas[0], network.lambdas[-1])
            seen = [watch(at_point(run, network, lam), val, attack) for lam in lambdas]
            run.log(step, **_curves(seen), rate=optimiser.param_groups[0]["lr"])
            best.update(step, float(np.mean([(each["val_sa"] + each["val_ra"]) / 2 for each in seen])))
        began = time.monotonic()
    if config.keep == "best":
        best.restore()
    network.eval()
    return float(told["seconds"])


def accumulate(
    run: RunContext, model: nn.Module, network: Adjustable, batch: Batch, attack: Attack, *, joint_loss: str = "mean"
) -> tuple[float, float]:
    """Add the gradients of every width, from the widest to the narrowest; the shares of clean and attacked images in
    the loss, mean over widths. model: the network as `run.prepare` gave it."""
    n = len(network.shares)
    told = np.zeros(2)
    for share in reversed(range(n)):
        clean, attacked = losses(run, model, network, batch, attack, share)
        run.backward((clean + attacked) / (n if joint_loss == "mean" else 1))
        told += (clean.item() / n, attacked.item() / n)
    return float(told[0]), float(told[1])


def losses(
    run: RunContext, model: nn.Module, network: Adjustable, batch: Batch, attack: Attack, share: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What clean and attacked images add to mean_i[(1 - lambda_i) CE(x_i) + lambda_i CE(x_i')], two scalars.

    x_i' is attacked under the image's own lambda; images of lambda 0 are not attacked. All go through in one call, in
    which norms take clean and attacked images apart.
    """
    given = network.mixed(batch.which, share)
    n, n_zero = len(batch.x), given.groups[0][0]
    x = batch.x
    if n_zero < n:
        x = torch.cat([x, attacked_images(run, network, batch, attack, share, n_zero)])
        given = given.and_attacked(n_zero)
    network.train()
    with run.autocast():
        logits = model(x, given)
    each = functional.cross_entropy(logits.float(), torch.cat([batch.y, batch.y[n_zero:]])[: len(x)], reduction="none")
    lam = torch.tensor(network.lambdas, dtype=each.dtype, device=each.device)[batch.which]
    return ((1 - lam) * each[:n]).sum() / n, (lam[n_zero:] * each[n:]).sum() / n if n_zero < n else each.new_zeros(())


def attacked_images(
    run: RunContext, network: Adjustable, batch: Batch, attack: Attack, share: int, n_zero: int
) -> torch.Tensor:
    """The images above lambda 0, each attacked under its own lambda; norm and FiLM are computed once for all steps."""
    with attacking(network):
        given = network.tabled(network.mixed(batch.which[n_zero:], share))
        with run.autocast():
            return pgd(cross_entropy(lambda x: network(x, given), batch.y[n_zero:]), batch.x[n_zero:], attack)


def at_point(run: RunContext, network: Adjustable, lam: float, share: float = 1.0) -> nn.Module:
    """The plain network of a point, in evaluation mode on the run's device."""
    module = fold(network, lam, share).module
    return module.to(run.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def _curves(seen: list[dict[str, float]]) -> dict[str, float]:
    ends = {"least": seen[0], "most": seen[-1]}
    return {f"{name}_{key.removeprefix('val_')}": value for name, each in ends.items() for key, value in each.items()}
