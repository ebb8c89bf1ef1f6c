"""Attacks on a network with several exits (RDI-Nets, arXiv:2002.10025, section 3.2).

Single: makes the loss of one exit large. Average: the mean loss of all exits. Max-average: of every exit's single
attack, each image keeps the one under which all exits together lose most. Routing-aware: at each step the loss of the
exit at which the thresholds let the image leave now; the paper has none like it.

Maker: (loss, x) -> attacked x: what makes one attack of a loss, such as projected gradient ascent. Make them all inside
`training.engine.attacks.attacking`, which is also what lets the network route.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from models_zoo.architectures.rdi import RdiResNet
from training.engine.attacks import Attack, Loss, cross_entropy, fgsm, pgd, wrm

Maker = Callable[[Loss, torch.Tensor], torch.Tensor]
IMAGES_AT_ONCE = 512  # copies that are computed together


class Together(nn.Module):
    """The exits' votes as one smooth classifier: x -> the mean of all exits' log-probabilities, (N, C).

    For attacks of others: the routed network jumps from exit to exit, this does not.
    """

    def __init__(self, network: RdiResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x, every=True).float().log_softmax(2).mean(0)


def maker(kind: str, attack: Attack) -> Maker:
    """kind: "pgd", "fgsm" (one step of eps) or "wrm" (no ball: eps does not bound it)."""
    makers: dict[str, Maker] = {
        "pgd": lambda loss, x: pgd(loss, x, attack),
        "fgsm": lambda loss, x: fgsm(loss, x, attack.eps),
        "wrm": lambda loss, x: wrm(loss, x, steps=attack.steps),
    }
    return makers[kind]


def losses_of_all(network: RdiResNet, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(exits, N) cross-entropies in nats."""
    logits = network(x, every=True).float()
    return functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none").view(-1, len(y))


def single(network: RdiResNet, y: torch.Tensor, number: int) -> Loss:
    """Of one exit, counted from 0; nothing beyond it is computed."""
    return cross_entropy(lambda x: network.at(x, number), y)


def average(network: RdiResNet, y: torch.Tensor) -> Loss:
    return lambda x: losses_of_all(network, x, y).mean(0)


def routing_aware(network: RdiResNet, y: torch.Tensor) -> Loss:
    return cross_entropy(lambda x: network.routed(x).logits, y)


def routed_and_average(network: RdiResNet, y: torch.Tensor) -> Loss:
    """The exit that answers, and all of them with as much weight: images that change their exit stay wrong."""

    def loss(x: torch.Tensor) -> torch.Tensor:
        return routing_aware(network, y)(x) + average(network, y)(x)

    return loss


def all_singles(network: RdiResNet, x: torch.Tensor, y: torch.Tensor, make: Maker) -> torch.Tensor:
    """(exits, N, C, H, W): the single attack of every exit, each from its own random start; all in one batch, in which
    a copy is computed up to its exit alone."""
    copies = x.repeat(network.n_exits, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    found = make(cross_entropy(network.each_at_its_exit, y.repeat(network.n_exits)), copies)
    return found.view(network.n_exits, *x.shape)


def worst_for_all(network: RdiResNet, candidates: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of each image the candidate under which the exits lose most in sum. candidates: (K, N, C, H, W) -> (N, ...)."""
    n_candidates, n = candidates.shape[:2]
    flat, labels = candidates.flatten(0, 1), y.repeat(n_candidates)
    with torch.no_grad():
        parts = zip(flat.split(IMAGES_AT_ONCE), labels.split(IMAGES_AT_ONCE), strict=True)
        total = torch.cat([losses_of_all(network, *part).sum(0) for part in parts])
    chosen = total.view(n_candidates, n).argmax(0)
    return candidates[chosen, torch.arange(n, device=y.device)]


def max_average(network: RdiResNet, x: torch.Tensor, y: torch.Tensor, make: Maker) -> torch.Tensor:
    return worst_for_all(network, all_singles(network, x, y, make), y)


DEFENCES: dict[str, Callable[[RdiResNet, torch.Tensor, torch.Tensor, Maker], torch.Tensor]] = {
    "main": lambda network, x, y, make: make(single(network, y, network.n_exits - 1), x),
    "average": lambda network, x, y, make: make(average(network, y), x),
    "max-average": max_average,
}
