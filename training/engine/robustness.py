"""How right a classifier stays under attack: its method's own attack, a stronger one, and an independent judge's.

sa: standard accuracy, of images as they are. ra: robust accuracy, under the attack that the method names. ra_strong:
under more steps and restarts of the same code. ra_independent: under another library's attack (foolbox) on the same
images, with at least as many steps and restarts.

A network can look robust because its gradients lead nowhere (gradient masking, arXiv:1802.00420), or because an attack
has a fault. Then the independent judge finds more errors than our strong attack: more than two points, and the numbers
are not to be believed.

An image counts as right under attack when it is right as it is and no attempt makes it wrong: only images that are
right get attacked. Everything is computed in float32, whatever the precision of the run.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.engine.attacks import Attack, Loss, attacking, cross_entropy, pgd
from training.engine.measures import Measured, accuracy
from training.engine.pictures import unit

TOLERANCE = 0.02  # by which the independent judge may find fewer right than our strong attack
LEAST_IMAGES = 2  # of fewer than a hundred images, one or two more that fall say nothing
STRONG_STEPS = 20
STRONG_RESTARTS = 2

Hits = npt.NDArray[np.bool_]
Craft = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # images in [0, 1], labels -> attacked images
Check = Callable[[], None]


class Unconfirmed(ValueError):
    """Robust accuracies that an independent attack refutes; the message names the networks and the numbers."""


@dataclass(frozen=True)
class Robustness:
    """Accuracies with 95 % Wilson intervals, on n images; eps: radius of all attacks, in pixel values from 0 to 1;
    attack, strong, independent: what attacked, in words.

    ra_independent: None where it was not asked for.
    """

    sa: Measured
    ra: Measured
    ra_strong: Measured
    ra_independent: Measured | None
    n: int
    eps: float
    attack: str
    strong: str
    independent: str

    @property
    def gap(self) -> float | None:
        """By how much the independent judge finds fewer right than our strong attack."""
        return None if self.ra_independent is None else self.ra_strong.value - self.ra_independent.value

    @property
    def is_confirmed(self) -> bool | None:
        """Whether the gap is at most two points, or at most two images where they are few; None where nobody else
        judged."""
        return None if self.gap is None else self.gap <= max(TOLERANCE, LEAST_IMAGES / self.n) + 1e-9

    def plain(self) -> dict[str, Any]:
        """JSON."""
        return {
            "images": self.n,
            "sa": self.sa.plain(),
            "ra": self.ra.plain(),
            "ra_strong": self.ra_strong.plain(),
            "ra_independent": None if self.ra_independent is None else self.ra_independent.plain(),
            "eps": self.eps,
            "attack": self.attack,
            "strong": self.strong,
            "independent": self.independent,
            "gap": self.gap,
            "confirmed": self.is_confirmed,
        }

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> Self:
        """What `plain` gave, such as from a checkpoint."""
        judged = said["ra_independent"]
        return cls(
            sa=Measured(**said["sa"]),
            ra=Measured(**said["ra"]),
            ra_strong=Measured(**said["ra_strong"]),
            ra_independent=None if judged is None else Measured(**judged),
            n=said["images"],
            eps=said["eps"],
            attack=said["attack"],
            strong=said["strong"],
            independent=said["independent"],
        )


def assess(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    attack: Attack,
    strong: Attack | None = None,
    independent: bool = True,
    batch: int = 250,
    check: Check | None = None,
    loss: Callable[[torch.Tensor], Loss] | None = None,
    surrogate: nn.Module | None = None,
    seed: int = 0,
) -> Robustness:
    """Accuracies of a network on images, as they are and attacked. The network comes back as it was.

    Args:
        network: x in [0, 1] -> logits (N, K); on its own device.
        images: uint8 (N, C, H, W), or float in [0, 1]; labels: int64 (N,).
        attack: the method's own. strong: ours to compare with the independent judge; 20 steps of eps / 4 and 2
            restarts within the same eps by default.
        check: called after each batch; what it raises ends the assessment (`run.check`).
        loss: labels of a batch -> the loss that our attacks make large; cross-entropy of `network` by default.
        surrogate: what the independent library takes gradients of where those of `network` lead nowhere (early exits);
            what it finds is judged on `network`.
        seed: of the random starts; torch's global generator is left as it was.
    """
    strong = strong or Attack(attack.eps, STRONG_STEPS, attack.eps / 4, STRONG_RESTARTS)
    loss_of = loss or (lambda y: cross_entropy(network, y))
    attempts: dict[str, tuple[Craft, int]] = {
        "ra": (lambda x, y: pgd(loss_of(y), x, attack), 1),
        "ra_strong": (lambda x, y: pgd(loss_of(y), x, _once(strong), keep="best"), strong.restarts),
    }
    steps, restarts = max(strong.steps, STRONG_STEPS), max(strong.restarts, STRONG_RESTARTS)
    if independent:
        attempts["ra_independent"] = (foolbox_pgd(surrogate or network, strong.eps, steps=steps), restarts)
    right = still_right(network, images, labels, batch=batch, check=check, seed=seed)
    found: dict[str, Measured] = {}
    for name, (craft, times) in attempts.items():
        under = still_right(
            network, images, labels, craft, times=times, right=right, batch=batch, check=check, seed=seed,
            frozen=(surrogate,) if surrogate is not None else (),
        )  # fmt: skip
        found[name] = accuracy(under)
    return Robustness(
        sa=accuracy(right),
        ra=found["ra"],
        ra_strong=found["ra_strong"],
        ra_independent=found.get("ra_independent"),
        n=len(labels),
        eps=strong.eps,
        attack=str(attack),
        strong=str(strong),
        independent=f"foolbox LinfPGD, {steps} steps, {restarts} restarts" if independent else "",
    )


def still_right(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    craft: Craft | None = None,
    *,
    times: int = 1,
    right: Hits | None = None,
    batch: int = 250,
    check: Check | None = None,
    seed: int = 0,
    frozen: tuple[nn.Module, ...] = (),
) -> Hits:
    """(N,) whether each image is right, and stays so under `times` attempts of an attack; as `assess` takes them.

    craft: (images, labels) -> attacked images; None leaves them as they are. right: what was right without an attack,
    if that is known. frozen: other networks that the attack uses.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    hits = np.ones(len(labels), np.bool_) if right is None else right.copy()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _frozen(network, *frozen), torch.autocast(device.type, enabled=False):
        torch.manual_seed(seed)
        for start in range(0, len(labels), batch):
            here = np.arange(start, min(start + batch, len(labels)))
            if right is None:
                hits[here] = _is_right(network, *_batch(images, labels, here, device))
            for _ in range(times if craft is not None else 0):
                standing = here[hits[here]]
                if len(standing):
                    x, y = _batch(images, labels, standing, device)
                    assert craft is not None
                    hits[standing] = _is_right(network, craft(x, y), y)
            if check is not None:
                check()
    return hits


def foolbox_pgd(network: nn.Module, eps: float, *, steps: int = STRONG_STEPS) -> Craft:
    """The independent judge: foolbox's own projected gradient ascent, random start, steps of eps / 4."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # foolbox imports GitPython, which else demands a git program
    import foolbox

    def craft(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1), device=x.device)
        judge = foolbox.attacks.LinfPGD(abs_stepsize=eps / 4, steps=steps, random_start=True)
        found: torch.Tensor = judge.run(model, x, foolbox.criteria.Misclassification(y), epsilon=eps)
        return found.detach()

    return craft


def require_confirmed(found: Mapping[str, Robustness]) -> None:
    """Raises Unconfirmed when the independent judge refutes the robust accuracy of any of these networks."""
    refuted = {name: each for name, each in found.items() if each.is_confirmed is False}
    if not refuted:
        return
    said = "; ".join(
        f'"{name}" is right on {100 * each.ra_strong.value:.1f} % under our {each.strong}, but on '
        f"{100 * each.ra_independent.value:.1f} % under {each.independent}"
        for name, each in refuted.items()
        if each.ra_independent is not None
    )
    raise Unconfirmed(
        f"An independent attack refutes the robustness: {said}. A gap of more than two points means that the network's "
        "gradients lead our attack astray (gradient masking), or that the attack is faulty: the robust accuracies of "
        "this run are not to be believed. The report keeps the numbers. Train with more attack steps, a random start "
        "or a lower rate, and run it again."
    )


def measured(
    robustness: Robustness,
    *,
    macs: float,
    params: int,
    latency_ms: float,
    seconds: float,
    bytes: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What every output of a robust method carries as ``facts["measured"]``, and comparisons of runs read.

    macs: multiply-accumulates per image (`training.engine.costs`). seconds: of its training. bytes: of the
    weights file; None leaves them to `run.save`. more: facts of the method.
    """
    known = robustness.plain()
    names = ("images", "sa", "ra", "ra_strong", "ra_independent", "eps", "attack", "confirmed")
    return {
        **{name: known[name] for name in names},
        "macs": macs,
        "params": params,
        "latency_ms": latency_ms,
        "bytes": bytes,
        "seconds": seconds,
        **more,
    }


def _once(attack: Attack) -> Attack:
    """One attempt of an attack: the next one is for the images that stand it."""
    return Attack(attack.eps, attack.steps, attack.step, 1, attack.random_start)


def _frozen(*networks: nn.Module) -> ExitStack:
    stack = ExitStack()
    for network in networks:
        stack.enter_context(attacking(network))
    return stack


def _batch(
    images: torch.Tensor, labels: torch.Tensor, chosen: npt.NDArray[np.int64], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    picked = torch.from_numpy(chosen)
    x = images[picked]
    x = unit(x.to(device)) if x.dtype == torch.uint8 else x.to(device)
    return x, labels[picked].to(device)


def _is_right(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Hits:
    with torch.no_grad():
        found: Hits = (network(x).argmax(1) == y).cpu().numpy()
    return found
