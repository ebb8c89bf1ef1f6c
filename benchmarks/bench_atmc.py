"""What ATMC's quantiser and its training step cost beside the obvious loop, and what its files cost to read.

    python -m benchmarks.bench_atmc [--rounds 7] [--threads 1] [--small] [--dry]

* Quantiser: the N x K table of distances and the N x K table of members, as Lloyd's algorithm is usually written for
  vectors, against the one on sorted values; same values, same first centres, same number of rounds, and then warm.
* Step: every layer composes its own weight in each of its passes, the attack is made by `backward` (which takes the
  gradients of all factors too), the budget is kept by sorting everything; against one composition a step, attacks on
  frozen weights and one threshold. Both with the same network, images, attack and optimiser, in turns.
* Files: bytes, and the time to write, to read and compose, against a dense safetensors file.

Ratios are of medians, in turns of one process.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from benchmarks.report import markdown_table, write_section
from models_zoo.adapters import compact
from models_zoo.architectures import build
from training.engine.attacks import Attack, attacking, cross_entropy, pgd
from training.engine.networks import compact_content
from training.methods.atmc.admm import Admm
from training.methods.atmc.factors import budget_of, exact, project, square_factors, square_form
from training.methods.atmc.kmeans import zero_kmeans

VALUES, CENTRES, ROUNDS = 200_000, 256, 20
RATIO, BATCH, STEPS, EPS = 0.05, 128, 7, 4 / 255
T = TypeVar("T")


class Composing(nn.Module):
    """A layer that composes its weight in every pass: W = (U + I) V + C or U (V + I) + C."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        shape = tuple(layer.weight.shape)
        matrix = layer.weight.detach().reshape(shape[0], -1).clone()
        self.is_left = square_form(shape) == "left"
        side = min(matrix.shape)
        self.square = nn.Parameter(torch.zeros(side, side))
        self.whole = nn.Parameter(matrix)
        self.rest = nn.Parameter(torch.zeros_like(matrix))
        self.register_buffer("eye", torch.eye(side))
        self.layer = layer
        self.layer.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = self.square + self.eye
        weight = (square @ self.whole if self.is_left else self.whole @ square) + self.rest
        weight = weight.view(self.layer.weight.shape)
        if isinstance(self.layer, nn.Linear):
            return functional.linear(x, weight, self.layer.bias)
        return functional.conv2d(x, weight, None, self.layer.stride, self.layer.padding)


def obvious_kmeans(values: torch.Tensor, centres: torch.Tensor, rounds: int) -> torch.Tensor:
    """Lloyd's algorithm with all distances, a fixed centre at zero."""
    for _ in range(rounds):
        codebook = torch.cat((torch.zeros(1), centres))
        nearest = (values[:, None] - codebook[None]).abs().argmin(1)
        members = functional.one_hot(nearest, len(codebook)).float()[:, 1:]
        counts = members.sum(0)
        centres = torch.where(counts > 0, values @ members / counts.clamp(min=1), centres)
    codebook = torch.cat((torch.zeros(1), centres))
    return codebook[(values[:, None] - codebook[None]).abs().argmin(1)]


def quantisers(n: int, k: int) -> str:
    torch.manual_seed(0)
    values = torch.randn(n)
    start = values[torch.randperm(n)[:k]]
    slow_seconds, slow = timed(lambda: obvious_kmeans(values, start, ROUNDS))
    fast_seconds, fast = timed(lambda: zero_kmeans(values, k, start=start, most_rounds=ROUNDS))
    settled = zero_kmeans(values, k, start=start)
    warm_seconds, warm = timed(lambda: zero_kmeans(values + 1e-4, k, start=settled.centres))
    rows = [
        ["all distances", f"{slow_seconds:.3f}", "", f"{error(slow, values):.3e}", ROUNDS],
        ["sorted", f"{fast_seconds:.3f}", f"{slow_seconds / fast_seconds:.0f}", f"{error(fast.values, values):.3e}",
         fast.rounds],
        ["sorted, from the last centres", f"{warm_seconds:.3f}", f"{slow_seconds / warm_seconds:.0f}",
         f"{error(warm.values, values + 1e-4):.3e}", warm.rounds],
    ]  # fmt: skip
    head = ["Quantiser", "s", "times as fast", "mean squared error", "rounds"]
    return f"{n:,} values, {k} centres.\n\n{markdown_table(head, rows)}"


def steps(rounds: int, batch: int, widths: list[int]) -> str:
    """A step on the factors under a budget, and one with an update of the quantised copy every five."""
    torch.manual_seed(0)
    x, y = torch.rand(batch, 3, 32, 32), torch.randint(10, (batch,))
    attack = Attack(EPS, STEPS, 1.25 * EPS / STEPS)
    network = build("basic_resnet", widths=widths, blocks=[2, 2, 2])
    budget = budget_of(network, RATIO)
    ways = {
        "obvious": obvious_step(network, x, y, attack, budget),
        "composed once": our_step(network, x, y, attack, budget),
        "composed once, 8 bits": our_step(network, x, y, attack, budget, bits=8),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, step in ways.items():
            seconds, _ = timed(step)
            if number:
                taken[name].append(seconds)
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    rows = [[name, f"{1000 * seconds:.0f}", f"{median['obvious'] / seconds:.2f}"] for name, seconds in median.items()]
    said = f"ResNet-14 of widths {', '.join(map(str, widths))}, {batch} images, PGD-{STEPS}, ratio {RATIO:g}."
    return f"{said}\n\n{markdown_table(['Step', 'ms', 'times as fast'], rows)}"


def obvious_step(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Attack, budget: int
) -> Callable[[], None]:
    own = copy.deepcopy(network)
    for name, layer in list(own.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parent, _, last = name.rpartition(".")
            setattr(own.get_submodule(parent), last, Composing(layer))
    factors = [part for name, part in own.named_parameters() if name.rsplit(".", 1)[-1] in {"square", "whole", "rest"}]
    learnt = [part for part in own.parameters() if part.requires_grad]
    optimiser = torch.optim.SGD(learnt, 0.01, 0.9, weight_decay=1e-4)

    def step() -> None:
        own.train()
        moved = x.clone()
        for _ in range(attack.steps):
            moved.requires_grad_(True)
            functional.cross_entropy(own(moved), y, reduction="sum").backward()
            assert moved.grad is not None
            moved = moved.detach() + attack.step * moved.grad.sign()
            moved = torch.min(torch.max(moved, x - attack.eps), x + attack.eps).clamp(0, 1)
        optimiser.zero_grad()
        functional.cross_entropy(own(moved), y).backward()
        optimiser.step()
        with torch.no_grad():
            magnitudes = torch.cat([part.abs().flatten() for part in factors])
            threshold = magnitudes.sort(descending=True).values[budget - 1]
            for part in factors:
                part[part.abs() < threshold] = 0

    return step


def our_step(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Attack, budget: int, *, bits: int | None = None
) -> Callable[[], None]:
    own = copy.deepcopy(network).to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    factors = square_factors(own)
    project(factors.flat.detach(), budget)
    rest = [part for name, part in own.named_parameters() if name not in factors.composed]
    optimiser = torch.optim.SGD([factors.flat, *rest], 0.01, 0.9, weight_decay=1e-4)
    admm = Admm(factors, bits=bits) if bits else None
    done = 0

    def step() -> None:
        nonlocal done
        factors.compose_into(own)
        with attacking(own):
            moved = pgd(cross_entropy(own, y), x, attack)
        own.train()
        own.zero_grad()
        functional.cross_entropy(own(moved), y).backward()
        factors.take_gradients(own)
        if admm is not None:
            admm.add_gradient(0.1)
        optimiser.step()
        project(factors.flat.detach(), budget)
        done += 1
        if admm is not None and done % 5 == 0:
            admm.update()

    return step


def files(folder: Path, rounds: int) -> str:
    torch.manual_seed(0)
    network = build("basic_resnet", widths=[64, 128, 256, 512], blocks=[3, 4, 6, 3])
    factors = square_factors(network)
    project(factors.flat.detach(), budget_of(network, 0.005))
    with torch.no_grad():
        for part in factors.split():
            part.copy_(zero_kmeans(part, 256, most_rounds=ROUNDS).values)
    weights = factors.weights()
    exact(weights, network)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    small, dense = folder / "w.compact", folder / "w.safetensors"
    ways: dict[str, tuple[Callable[[], object], Callable[[], object], Path]] = {
        "compact": (lambda: small.write_bytes(compact_content(state, weights)), partial(compact.read, small), small),
        "safetensors": (lambda: save_file(state, dense), lambda: load_file(dense), dense),
    }
    rows = []
    for name, (write, read, file) in ways.items():
        writing, reading = (statistics.median(timed(what)[0] for _ in range(rounds)) for what in (write, read))
        rows.append([name, f"{file.stat().st_size / 1e3:,.0f}", f"{1000 * writing:.0f}", f"{1000 * reading:.0f}"])
    same = all(np.array_equal(array, state[name].numpy()) for name, array in compact.read(small).items())
    assert same, "the compact file does not give back what was written"
    said = "ResNet-34 (64-128-256-512), ratio .005, 8 bits; writing checks every weight to the bit."
    return f"{said}\n\n{markdown_table(['File', 'kB', 'write, ms', 'read, ms'], rows)}"


def timed(what: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    found = what()
    return time.perf_counter() - started, found


def error(found: torch.Tensor, values: torch.Tensor) -> float:
    return float((found - values).square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a tenth of everything, to see that it runs")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds = 1 if options.small else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        text = "\n\n".join(
            [
                f"## ATMC: quantiser, step, files\n\n`python -m benchmarks.bench_atmc`, {options.threads} threads.",
                quantisers(VALUES // 10 if options.small else VALUES, CENTRES),
                steps(rounds, 16 if options.small else BATCH, [8, 16, 32] if options.small else [16, 32, 64]),
                files(Path(folder), 1 if options.small else 3),
            ]
        )
    if options.dry or options.small:
        print(text)
    else:
        write_section("atmc", text)


if __name__ == "__main__":
    main()
