"""Gradient attacks on images in [0, 1], each with any loss.

Loss: takes x (N, C, H, W) in [0, 1] and gives (N,) losses that the attack makes large. Epsilon: the radius of the
L-infinity ball around each image, in units of the same scale. Nothing is normalised: what a network needs is inside it.

Attacks neither change modes nor touch parameters; make them inside `attacking`, which is how they are meant.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Loss = Callable[[torch.Tensor], torch.Tensor]
Keep = Literal["last", "best"]
_ROUNDING = 1e-6  # by which an image may leave [0, 1]: what float32 sums cost


class BadAttack(ValueError):
    """An attack that cannot be made, or images that it cannot be made on."""


@dataclass(frozen=True)
class Attack:
    """Projected gradient ascent in the L-infinity ball (arXiv:1706.06083).

    eps: radius, in [0, 1] pixel values. step: of one ascent, likewise. random_start: begin at a point drawn evenly from
    the ball, else at the image. restarts: attempts, of which each image keeps the one of largest loss.
    """

    eps: float
    steps: int
    step: float
    restarts: int = 1
    random_start: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eps) and 0 < self.eps <= 1):
            raise BadAttack(
                f"the attack's eps is {self.eps:g}: give a radius above 0 and up to 1, such as 8/255 = 0.0314; for no "
                "attack at all, train in the standard way (lam 0)"
            )
        if not (math.isfinite(self.step) and self.step > 0):
            raise BadAttack(f"the attack's step is {self.step:g}: give more than 0, such as eps / 4")
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise BadAttack(f"the attack's {name} is {getattr(self, name)}: give at least 1")
        if self.restarts > 1 and not self.random_start:
            raise BadAttack(f"{self.restarts} restarts from the image itself are all the same: set random_start")

    def __str__(self) -> str:
        several = f", {self.restarts} restarts" if self.restarts > 1 else ""
        start = "" if self.random_start else ", from the image"
        return f"PGD-{self.steps}, eps {in_255(self.eps)}, step {in_255(self.step)}{several}{start}"


def in_255(value: float) -> str:
    """A pixel difference in words: 0.0314 is "8/255"."""
    return f"{value * 255:.3g}/255"


@contextmanager
def attacking(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside the block; each module's mode and each parameter's
    ``requires_grad`` are put back, whatever happens. Gradients that parameters hold stay as they are."""
    modes = [(part, part.training) for part in module.modules()]
    open_parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.eval()
    for parameter in open_parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter in open_parameters:
            parameter.requires_grad_(True)


def cross_entropy(network: Callable[[torch.Tensor], torch.Tensor], labels: torch.Tensor) -> Loss:
    """The loss of a classifier. network: x -> logits (N, K); labels: (N,) int64 of the images that are attacked."""

    def loss(x: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(network(x).float(), labels, reduction="none")

    return loss


def pgd(
    loss: Loss, x: torch.Tensor, attack: Attack, *, keep: Keep = "last", generator: torch.Generator | None = None
) -> torch.Tensor:
    """Images within `attack.eps` of x and within [0, 1] that make the loss large: (N, C, H, W), detached.

    keep: "last" the end of the ascent, as for training, or "best" the point of largest loss on the way; of several
    restarts each image keeps the better. generator: of the random starts; None draws from torch's global one, which
    the checkpoints of a run keep.

    Raises BadAttack when x is not float or leaves [0, 1].
    """
    _require_unit(x)
    low, high = (x - attack.eps).clamp_(min=0), (x + attack.eps).clamp_(max=1)
    if attack.restarts == 1 and keep == "last":
        return _ascend(loss, _start(x, low, high, attack, generator), low, high, attack, None)
    best = _Best(x)
    for _ in range(attack.restarts):
        ended = _ascend(
            loss, _start(x, low, high, attack, generator), low, high, attack, best if keep == "best" else None
        )
        with torch.no_grad():
            best.offer(ended, loss(ended))
    return best.x


def fgsm(loss: Loss, x: torch.Tensor, eps: float) -> torch.Tensor:
    """One step of length eps along the gradient's signs (arXiv:1412.6572); within [0, 1]. Raises BadAttack."""
    return pgd(loss, x, Attack(eps=eps, steps=1, step=eps, random_start=False))


def wrm(loss: Loss, x: torch.Tensor, *, gamma: float = 1.3, steps: int = 7) -> torch.Tensor:
    """The attack of distributionally robust training (arXiv:1710.10571): ascent on gamma * loss - |x' - x|^2 / 2.

    It starts at x, step t = 1, 2, ... has length 1 / sqrt(t), and the result is cut to [0, 1]; no ball bounds it. gamma
    weighs the loss, as in the authors' code; the paper's penalty is 1 / (2 gamma). Raises BadAttack.
    """
    if not gamma > 0 or steps < 1:
        raise BadAttack(f"WRM with gamma {gamma:g} and {steps} steps: give a gamma above 0 and at least 1 step")
    _require_unit(x)
    moved = x.detach().clone()
    for number in range(1, steps + 1):
        gradient = gamma * _gradient(loss, moved)[0] - (moved - x)
        moved = (moved + gradient / math.sqrt(number)).clamp_(0, 1)
    return moved


class _Best:
    """Of each image the point of largest loss so far."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x.detach().clone()
        self.losses = torch.full((len(x),), -torch.inf, device=x.device)

    def offer(self, x: torch.Tensor, losses: torch.Tensor) -> None:
        better = losses.detach() > self.losses
        self.losses = torch.where(better, losses.detach().to(self.losses.dtype), self.losses)
        self.x = torch.where(better[:, None, None, None], x.detach(), self.x)


def _start(
    x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, attack: Attack, generator: torch.Generator | None
) -> torch.Tensor:
    if not attack.random_start:
        return x.detach().clone()
    noise = torch.empty_like(x).uniform_(-attack.eps, attack.eps, generator=generator)
    return torch.clamp(x.detach() + noise, low, high)


def _ascend(
    loss: Loss, start: torch.Tensor, low: torch.Tensor, high: torch.Tensor, attack: Attack, best: _Best | None
) -> torch.Tensor:
    moved = start
    for _ in range(attack.steps):
        gradient, losses = _gradient(loss, moved)
        if best is not None:
            best.offer(moved, losses)
        moved = torch.clamp(moved.add(gradient.sign_(), alpha=attack.step), low, high)
    return moved


def _gradient(loss: Loss, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, C, H, W) gradient of the summed loss at x, and the losses (N,), detached."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        losses = loss(x)
        if losses.shape != (len(x),):
            raise BadAttack(f"the loss gave {tuple(losses.shape)} for {len(x)} images: give one number an image")
        return torch.autograd.grad(losses.sum(), x)[0], losses.detach()


def _require_unit(x: torch.Tensor) -> None:
    if not x.is_floating_point():
        raise BadAttack(f"images to attack are {x.dtype}: give floats in [0, 1] (divide bytes by 255)")
    if not x.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(x.detach()))
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise BadAttack(
            f"images to attack lie in [{low:.4g}, {high:.4g}], not in [0, 1]: divide bytes by 255, and leave mean and "
            "deviation to a layer inside the network"
        )
