"""What every exit says of images, as they are and attacked, and what a routed network costs by the clock.

Threshold-free attacks: single, average, max-average; what the exits say under them holds for any thresholds. The
routing-aware attack is made anew for each.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models_zoo.architectures.rdi import RdiResNet, entropy
from training.engine.attacks import Attack, attacking, pgd
from training.engine.measures import accuracy
from training.engine.pictures import Pictures, plain_batch
from training.engine.robustness import STRONG_RESTARTS, STRONG_STEPS, Hits, Robustness, foolbox_pgd, still_right
from training.methods.rdi.attacks import (
    Together,
    all_singles,
    average,
    maker,
    routed_and_average,
    routing_aware,
    worst_for_all,
)
from training.methods.rdi.routing import MacTable, Said, routed_right

BATCH = 250
TIMED_IMAGES, TIMED_BATCH, ROUNDS = 300, 100, 3
TIMED_ALONE = 60  # images that go through one by one
Check = Callable[[], None]


@dataclass(frozen=True)
class Heard:
    """said: by all exits; probabilities: (E, N, C) float32 of the first images; images: those, float in [0, 1]."""

    said: Said
    probabilities: npt.NDArray[np.float32]
    images: torch.Tensor


@dataclass(frozen=True)
class Judged:
    """robustness at the default thresholds; attacks: the robust accuracy under each, by name."""

    robustness: Robustness
    attacks: dict[str, Hits]


@contextmanager
def at_thresholds(network: RdiResNet, thresholds: Sequence[float]) -> Iterator[RdiResNet]:
    """The network with other thresholds inside the block."""
    before, network.thresholds = network.thresholds, tuple(thresholds)
    try:
        yield network
    finally:
        network.thresholds = before


@contextmanager
def judged_alone(network: nn.Module, seed: int) -> Iterator[None]:
    """Frozen, in evaluation mode and float32; random starts from a seed, torch's global generator left alone."""
    device = next(network.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), attacking(network), torch.autocast(device.type, enabled=False):
        torch.manual_seed(seed)
        yield


def mac_table(network: RdiResNet, shape: Sequence[int]) -> MacTable:
    """Costs of the exits for images of a shape (C, H, W)."""
    x = torch.zeros((1, *shape), device=next(network.parameters()).device)

    def count(call: Callable[[], torch.Tensor]) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops() // 2

    modes = network.training
    network.eval()
    heads: list[nn.Module] = [*network.heads, network.backbone.linear]
    prefix = [count(lambda at=at: network.prefix(x, at)) for at in range(network.n_exits)]  # type: ignore[misc]
    whole = [count(lambda at=at: network.at(x, at)) for at in range(network.n_exits)]  # type: ignore[misc]
    linear = [sum(m.weight.numel() for m in head.modules() if isinstance(m, nn.Linear)) for head in heads]
    network.train(modes)
    own = np.subtract(whole, prefix)
    return MacTable(np.asarray(prefix, float), own.astype(float), (own - linear).astype(float))


def hear(network: RdiResNet, pictures: Pictures, *, shown: int = 0, check: Check | None = None, seed: int = 0) -> Heard:
    """What the exits say of images as they are."""
    return _heard(network, pictures, {"": lambda x, y: x}, shown, check, seed)[""]


def hear_under_attacks(
    network: RdiResNet, pictures: Pictures, attack: Attack, *, shown: int = 0, check: Check | None = None, seed: int = 0
) -> dict[str, Heard]:
    """By the name of every threshold-free attack: "single, exit 1" … "single, last exit", "average", "max-average"."""
    make = maker("pgd", attack)
    names = [*(f"single, exit {number + 1}" for number in range(network.n_exits - 1)), "single, last exit"]
    singles: dict[int, torch.Tensor] = {}

    def candidate(number: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def craft(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            if not number:
                singles[0] = all_singles(network, x, y, make)
            return singles[0][number]

        return craft

    crafts = {
        **{name: candidate(number) for number, name in enumerate(names)},
        "average": lambda x, y: make(average(network, y), x),
        "max-average": lambda x, y: worst_for_all(network, singles[0], y),
    }
    return _heard(network, pictures, crafts, shown, check, seed)


def judge(
    network: RdiResNet,
    pictures: Pictures,
    clean: Said,
    attacked: Mapping[str, Said],
    attack: Attack,
    *,
    check: Check | None = None,
    seed: int = 0,
) -> Judged:
    """The network at its own thresholds, under every attack, and before an independent judge.

    ra is the worst of the attacks. ra_strong: right under all of them, and under two restarts of an attack on the exit
    that answers and on all exits together. ra_independent: foolbox, against the routed network and against all exits
    together.
    """
    thresholds = network.thresholds
    right = routed_right(clean, thresholds)
    hits = {name: right & routed_right(each, thresholds) for name, each in attacked.items()}
    hits["routing-aware"] = routing_aware_hits(network, pictures, right, attack, check=check, seed=seed)
    standing = np.logical_and.reduce(list(hits.values()))
    strong = Attack(attack.eps, max(STRONG_STEPS, attack.steps), attack.eps / 4)
    standing = still_right(
        network, pictures.x, pictures.y,
        lambda x, y: pgd(routed_and_average(network, y), x, strong, keep="best"),
        times=STRONG_RESTARTS, right=standing, batch=BATCH, check=check, seed=seed,
    )  # fmt: skip
    together = Together(network)
    independent = right
    for target in (together, network):
        independent = still_right(
            network, pictures.x, pictures.y, foolbox_pgd(target, attack.eps, steps=strong.steps),
            times=STRONG_RESTARTS, right=independent, batch=BATCH, check=check, seed=seed, frozen=(together,),
        )  # fmt: skip
    worst = min(hits, key=lambda name: hits[name].mean())
    found = Robustness(
        sa=accuracy(right),
        ra=accuracy(hits[worst]),
        ra_strong=accuracy(standing),
        ra_independent=accuracy(independent),
        n=len(right),
        eps=attack.eps,
        attack=f"{attack}; worst of {len(hits)}: {worst}",
        strong=f"{strong}, all attacks and {STRONG_RESTARTS} restarts on the answering exit and all exits",
        independent=f"foolbox LinfPGD, {strong.steps} steps, {STRONG_RESTARTS} restarts on the routed network and on "
        "all exits together",
    )
    return Judged(found, hits)


def routing_aware_hits(
    network: RdiResNet, pictures: Pictures, right: Hits, attack: Attack, *, check: Check | None = None, seed: int = 0
) -> Hits:
    """(N,) whether images that are right stay so under the routing-aware attack at the network's thresholds."""
    return still_right(
        network, pictures.x, pictures.y, lambda x, y: pgd(routing_aware(network, y), x, attack, keep="best"),
        right=right, batch=BATCH, check=check, seed=seed,
    )  # fmt: skip


def speeds(
    networks: Mapping[str, tuple[nn.Module, Sequence[float] | None]], pictures: Pictures
) -> dict[str, tuple[float, float]]:
    """By name (images per second in batches, milliseconds of one image alone), on one thread of the CPU.

    networks: with thresholds, None for one that has none. Eager float32 in evaluation mode, channels_last, on real
    images, since what leaves early depends on them; the networks take turns, medians of the turns. They are moved to
    the CPU.
    """
    x = plain_batch(pictures, slice(0, TIMED_IMAGES))
    batches, alone = x.split(TIMED_BATCH), x[:TIMED_ALONE].split(1)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for turn in range(ROUNDS + 1):
                for name, (network, thresholds) in networks.items():
                    network.eval().cpu().to(memory_format=torch.channels_last)
                    if thresholds is not None and isinstance(network, RdiResNet):
                        network.thresholds = tuple(thresholds)
                    times = (_seconds(network, batches) / len(x), _seconds(network, alone) / len(alone))
                    if turn:
                        taken[name].append(times)
    finally:
        torch.set_num_threads(threads)
    return {
        name: (1 / median(each for each, _ in times), 1000 * median(each for _, each in times))
        for name, times in taken.items()
    }


def _seconds(network: nn.Module, batches: Sequence[torch.Tensor]) -> float:
    started = time.perf_counter()
    for batch in batches:
        network(batch)
    return time.perf_counter() - started


def _heard(
    network: RdiResNet,
    pictures: Pictures,
    crafts: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
    shown: int,
    check: Check | None,
    seed: int,
) -> dict[str, Heard]:
    device = next(network.parameters()).device
    parts: dict[str, list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]] = {name: [] for name in crafts}
    kept: dict[str, list[tuple[npt.NDArray[np.float32], torch.Tensor]]] = {name: [] for name in crafts}
    with judged_alone(network, seed):
        for start in range(0, len(pictures), BATCH):
            here = slice(start, start + BATCH)
            x, y = plain_batch(pictures, here).to(device), pictures.y[here].to(device)
            for name, craft in crafts.items():
                images = craft(x, y)
                with torch.no_grad():
                    logits = network(images, every=True).float()
                right = (logits.argmax(2) == y).cpu().numpy()
                parts[name].append((entropy(logits).double().cpu().numpy(), right))
                n_shown = max(0, shown - start)
                kept[name].append((logits[:, :n_shown].softmax(2).cpu().numpy(), images[:n_shown].cpu()))
            if check is not None:
                check()
    return {
        name: Heard(
            Said(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts[name], strict=True))),
            np.concatenate([each for each, _ in kept[name]], axis=1),
            torch.cat([each for _, each in kept[name]]),
        )
        for name in crafts
    }
