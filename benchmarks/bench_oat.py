"""What adjustable robustness costs: a training step, and a folded point beside its plain backbone.

    python -m benchmarks.bench_oat [--turns 7] [--batch 128] [--threads 2] [--dry]

* A step against the obvious loop, which is the published algorithm written down as it reads: FiLM for every image and
  layer anew, batch norm and FiLM one after the other, clean and attacked images in two calls, contiguous tensors; the
  attack in evaluation mode with frozen parameters, as published. Both make the same losses; that is checked first.
* The same step with only one of the changes undone, to see what each is worth.
* A point, folded, against a plain backbone of the same shape, in eager torch and in ONNX Runtime, and against the
  adjustable network at that point. All networks take turns in one process.

Weights and images are random; what is timed does not depend on them.
"""

import argparse
import io
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch.nn import functional

from benchmarks.report import markdown_table, write_section
from models_zoo.architectures import build
from models_zoo.architectures.oat import AdaptiveNorm, Adjustable, Condition, fold
from training.engine import costs
from training.engine.attacks import Attack, attacking, cross_entropy, pgd
from training.methods.oat.learning import Batch, draw, losses

LAMBDAS = (0.0, 0.1, 0.2, 0.3, 0.4, 1.0)
ATTACK = Attack(8 / 255, 7, 2 / 255)
SHAPES = {
    "16-32-64, one block a stage": {"widths": [16, 32, 64], "blocks": [1, 1, 1]},
    "16-32-64, one block a stage, stem of stride 2": {"widths": [16, 32, 64], "blocks": [1, 1, 1], "stem_stride": 2},
}
SIDE = 32
CALLS = 200  # of one image, for latencies
TARGET, ALLOWED = 1.3, 1.05

Step = Callable[[Adjustable, Batch], float]


class Run:
    """What a step needs of a run."""

    autocast = staticmethod(nullcontext)


class ObviousNorm(AdaptiveNorm):
    """Batch norm by branch, then FiLM of every image: two passes, in any mode."""

    def forward(self, x: torch.Tensor, given: Condition) -> torch.Tensor:
        parts = [
            self.branch(number, given.share)(part)
            for part, (n, number) in zip(x.split([n for n, _ in given.groups]), given.groups, strict=True)
            if n
        ]
        x = torch.cat(parts)
        if self.film is None:
            return x
        factor, summand = self.film(given.codes, x.shape[1])
        return x * factor[:, :, None, None] + summand[:, :, None, None]


def by_image(network: Adjustable, which: torch.Tensor) -> Condition:
    """The condition with a code for every image."""
    given = network.mixed(which)
    branches = tuple(given.branches[row] for row in which.tolist())
    return Condition(network.codes[which], branches, torch.arange(len(which)), given.groups, given.share)


def obvious_step(network: Adjustable, batch: Batch) -> float:
    """The published step as it reads; the loss."""
    n_zero = int((batch.which == 0).sum())
    rows, y = batch.which[n_zero:], batch.y[n_zero:]
    given, of_attacked = by_image(network, batch.which), by_image(network, rows)
    with attacking(network):
        moved = pgd(cross_entropy(lambda x: network(x, of_attacked), y), batch.x[n_zero:], ATTACK)
    network.train()
    lam = torch.tensor(LAMBDAS)[batch.which]
    clean = functional.cross_entropy(network(batch.x, given), batch.y, reduction="none")
    attacked = functional.cross_entropy(network(moved, of_attacked), y, reduction="none")
    loss = (((1 - lam) * clean).sum() + (lam[n_zero:] * attacked).sum()) / len(lam)
    network.zero_grad()
    loss.backward()
    return loss.item()


def own_step(network: Adjustable, batch: Batch) -> float:
    run: Any = Run()
    clean, attacked = losses(run, network, network, batch, ATTACK, 0)
    network.zero_grad()
    (clean + attacked).backward()
    return (clean + attacked).item()


def adjustable(shape: dict[str, Any], *, obvious: bool) -> Adjustable:
    torch.manual_seed(0)
    network = build("oat", backbone="wide_resnet", shape=shape, lambdas=LAMBDAS)
    assert isinstance(network, Adjustable)
    for module in network.modules():
        if obvious and isinstance(module, AdaptiveNorm):
            module.__class__ = ObviousNorm
    return network if obvious else network.to(memory_format=torch.channels_last)


def steps(shape: dict[str, Any], turns: int, n: int) -> list[tuple[str, float, float]]:
    """(way, ms, times as fast as the obvious loop), medians of turns. Raises SystemExit when the losses differ."""
    torch.manual_seed(1)
    x, y = torch.rand(n, 3, SIDE, SIDE), torch.randint(10, (n,))
    which = torch.from_numpy(draw(n, LAMBDAS, np.random.default_rng(0)))
    contiguous, last = Batch(x, y, which), Batch(x.to(memory_format=torch.channels_last), y, which)
    ways: dict[str, tuple[Step, Adjustable, Batch]] = {
        "obvious loop": (obvious_step, adjustable(shape, obvious=True), contiguous),
        "obvious loop, channels_last": (
            obvious_step, adjustable(shape, obvious=True).to(memory_format=torch.channels_last), last,
        ),
        "this method, contiguous": (
            own_step, adjustable(shape, obvious=False).to(memory_format=torch.contiguous_format), contiguous,
        ),
        "this method": (own_step, adjustable(shape, obvious=False), last),
    }  # fmt: skip
    found = {}
    for name, (step, network, batch) in ways.items():
        torch.manual_seed(2)
        found[name] = step(network, batch)
    if not np.allclose(list(found.values()), found["obvious loop"], rtol=1e-3):
        raise SystemExit(f"the ways do not compute the same loss: {found}")
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, (step, network, batch) in ways.items():
            began = time.perf_counter()
            step(network, batch)
            taken[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    return [(name, value, medians["obvious loop"] / value) for name, value in medians.items()]


def latencies(shape: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(network, ms of one image, of the plain backbone's) in eager torch and in ONNX Runtime."""
    network = adjustable(shape, obvious=False).eval()
    folded = fold(network, 0.2)
    plain = build(folded.architecture, **folded.arch_kwargs)
    eager = costs.latencies_ms(
        {"plain": plain, "folded": folded.module, "adjustable": network}, (3, SIDE, SIDE), rounds=CALLS
    )
    rows = [(f"{name}, eager", ms, ms / eager["plain"]) for name, ms in eager.items()]
    sessions = {name: session(module) for name, module in (("plain", plain), ("folded", folded.module))}
    sessions["adjustable"] = session(network)
    x = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(CALLS):
        for name, each in sessions.items():
            began = time.perf_counter()
            each.run(None, {"x": x})
            taken[name].append(1000 * (time.perf_counter() - began))
    ort = {name: statistics.median(each[10:]) for name, each in taken.items()}
    return rows + [(f"{name}, ONNX Runtime", ms, ms / ort["plain"]) for name, ms in ort.items()]


def session(module: torch.nn.Module) -> onnxruntime.InferenceSession:
    file, options = io.BytesIO(), onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(1, 3, SIDE, SIDE),)
        torch.onnx.export(module.eval(), example, file, dynamo=False, opset_version=17, input_names=["x"])
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = []
    for name, shape in SHAPES.items():
        lines = [(way, f"{ms:.0f}", f"{ratio:.2f}") for way, ms, ratio in steps(shape, options.turns, options.batch)]
        parts.append(f"{name}:\n\n{markdown_table(['step', 'ms', 'times as fast'], lines)}")
    found = latencies(SHAPES["16-32-64, one block a stage"])
    lines = [(network, f"{ms:.3f}", f"{ratio:.3f}") for network, ms, ratio in found]
    text = (
        "## Adjustable robustness: steps and folded points\n\n"
        f"`python -m benchmarks.bench_oat --threads {options.threads}`\n\n"
        f"One step of {options.batch} images of {SIDE} x {SIDE}, {len(LAMBDAS)} lambdas, {ATTACK}, float32, "
        f"{options.threads} threads, medians of {options.turns} turns. Wanted: at least {TARGET} times the obvious "
        f"loop.\n\n{chr(10).join(part + chr(10) for part in parts)}\n"
        f"One image, one thread, 16-32-64, medians of {CALLS} turns. Wanted: a folded point within "
        f"{100 * (ALLOWED - 1):.0f} % of the plain backbone.\n\n"
        f"{markdown_table(['network', 'ms', 'of the plain one'], lines)}\n"
    )
    if options.dry:
        print(text)
    else:
        write_section("oat", text)


if __name__ == "__main__":
    main()
