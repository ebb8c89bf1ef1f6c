"""What a network costs to run: multiply-accumulates, parameters, time.

MACs count convolutions and linear layers (matrix products) only, one per product, for one image; batch norms, biases,
activations, poolings and sums are left out. They are those of the path that was run, so that a network which leaves
early costs what it computed. A profiler's FLOPs are twice as many; papers that count batch norms have a little more.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

WARM_UP = 3
ROUNDS = 30


def macs(module: nn.Module, shape: Sequence[int]) -> int:
    """Of one black image. shape: (C, H, W). The module comes back in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    first = next(module.parameters(), torch.empty(0))
    module.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(torch.zeros((1, *shape), device=first.device))
    finally:
        for part, mode in modes:
            part.training = mode
    return counter.get_total_flops() // 2


def params(module: nn.Module) -> int:
    """Trainable numbers; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def latency_ms(module: nn.Module, shape: Sequence[int], *, batch: int = 1, rounds: int = ROUNDS) -> float:
    """Milliseconds of one call; see `latencies_ms`."""
    return latencies_ms({"it": module}, shape, batch=batch, rounds=rounds)["it"]


def latencies_ms(
    modules: Mapping[str, nn.Module], shape: Sequence[int], *, batch: int = 1, rounds: int = ROUNDS
) -> dict[str, float]:
    """Milliseconds of one call of each: median of `rounds` calls, the networks taking turns.

    Eager float32 on one thread of the CPU, in evaluation mode, channels_last. shape: (C, H, W); batch: images a call.
    The modules themselves are left alone: copies are timed.
    """
    own = {name: copy.deepcopy(module).cpu().float().eval() for name, module in modules.items()}
    for module in own.values():
        module.to(memory_format=torch.channels_last)
    x = torch.rand((batch, *shape), generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    taken: dict[str, list[float]] = {name: [] for name in own}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for number in range(WARM_UP + rounds):
                for name, module in own.items():
                    started = time.perf_counter()
                    module(x)
                    if number >= WARM_UP:
                        taken[name].append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return {name: 1000 * median(seconds) for name, seconds in taken.items()}
