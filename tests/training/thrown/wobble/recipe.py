"""Two loops; between them a narrower network is cut out of the one that was trained."""

import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from training.methods.wobble import WobbleConfig

from models_zoo.architectures import build
from training.engine.batches import Shuffled, prefetch
from training.engine.context import RunContext, Values
from training.engine.explore import Point
from training.engine.networks import InputNetwork

N, SIZE = 20, 6
SHAPE = {"input_size": 3, "in_channels": 1, "num_classes": 3}
FAILURES: list[int] = []  # steps at which the second stage fails once, set by tests


def train(run: RunContext, config: WobbleConfig) -> None:
    x, y = examples(run)
    wide = build("mlp", hidden=[16], **SHAPE)
    fit(run, config, "wide", wide, x, y)
    run.report(wide=float(wide.layers[1].weight.detach().abs().sum()))
    run.log(config.steps, between=float(torch.rand(())))

    kept = wide.layers[1].weight.detach().abs().sum(1).argsort(descending=True)[:8].sort().values
    slim = run.input("start").module() if run.inputs("start") else build("mlp", hidden=[8], **SHAPE)
    with torch.no_grad():
        slim.layers[1].weight.copy_(wide.layers[1].weight[kept])
    fit(run, config, "slim", slim, x, y)
    run.report(slim=float(slim.layers[1].weight.detach().abs().sum()))
    for number in range(config.n_outputs):
        run.save(
            "slim",
            slim,
            architecture="mlp",
            arch_kwargs={"hidden": [8], **SHAPE},
            preprocessing={"resize": 3, "crop": 3, "channels": "grey"},
            outputs="logits",
            label="same" if config.same_label else "",
            facts={"kept": kept.tolist()},
            arrays={"kept": kept.numpy()} if number == 0 else None,
        )


def scaled(network: InputNetwork, point: Mapping[str, Any]) -> Point:
    """The network with its last layer scaled."""
    scale = float(point["scale"])
    if not 0 < scale <= 2:
        raise ValueError(f"scale is {scale:g}: choose one above 0 and at most 2")
    module = network.module()
    with torch.no_grad():
        module.layers[-1].weight.mul_(scale)
    facts = {"scale": scale, "kept": network.facts["kept"]}
    return Point(module, network.architecture, network.arch_kwargs, "logits", f"scale {scale:g}", facts)


def examples(run: RunContext) -> tuple[torch.Tensor, torch.Tensor]:
    rng = run.rng("examples")
    x = torch.from_numpy(rng.normal(size=(N, 1, 3, 3)).astype(np.float32))
    return x, torch.from_numpy(rng.integers(0, 3, N))


def fit(
    run: RunContext, config: WobbleConfig, stage: str, network: nn.Module, x: torch.Tensor, y: torch.Tensor
) -> None:
    """Adam, a schedule, numbers of every generator, and a dict of its own."""
    optimiser = torch.optim.Adam(network.parameters(), lr=config.rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [2, 4])
    network, optimiser = run.prepare(network.train(), optimiser)
    seen = Values(losses=[], buffer=np.zeros(3, np.int16))
    order = Shuffled(N, SIZE, run.seed)
    steps = run.steps(config.steps, stage, network=network, optimiser=optimiser, schedule=schedule, seen=seen)
    for step, batch in prefetch(order.at, steps):
        rows = run.share(batch)
        noise = torch.randn(len(rows), 1, 3, 3) * random.random() + float(np.random.rand())  # noqa: NPY002
        with run.autocast():
            loss = functional.cross_entropy(network(x[rows] + 0.1 * noise), y[rows])
        optimiser.zero_grad()
        run.backward(loss)
        optimiser.step()
        schedule.step()
        seen["losses"].append(loss.item())
        seen["buffer"][step % 3] += 1
        spoilt = stage == "wide" and step == config.spoil_at
        run.log(step, loss=float("nan") if spoilt else loss.item(), mean_loss=float(np.mean(seen["losses"])))
        if step % 3 == 0:
            run.sample("noise", (noise[0, 0].numpy() * 40 + 128).clip(0, 255).astype(np.uint8), caption=stage)
        if stage == "wide" and config.stop_at is not None and step >= config.stop_at:
            run.stop()
        if stage == "slim" and (step == config.fail_at or step in FAILURES):
            raise RuntimeError(f"failed at step {step}")
        time.sleep(config.pause)
