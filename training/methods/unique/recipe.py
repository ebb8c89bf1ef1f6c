"""UNIQUE from top to bottom: the head, then all layers; the best weights are kept and measured."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.spec import IMAGENET_MEAN, IMAGENET_STD, LONG_SIDE, Preprocessing
from models_zoo.architectures import build
from training.engine.batches import prefetch
from training.engine.context import RunContext
from training.engine.images import crops, evaluate
from training.engine.labels import LabelledData, LabelledRows
from training.engine.measures import Agreement, agreement, srcc
from training.methods.unique import UniqueConfig
from training.methods.unique.losses import pair_losses
from training.methods.unique.pairs import Scales, pairs_of

SHOWN = 6  # crops of the first batch, in the samples


def train(run: RunContext, config: UniqueConfig) -> None:
    assert run.data is not None
    data = run.data
    rows, val = data.require("train", least=2), data.require("val", least=3)
    scales = Scales(rows)
    network, architecture, arch_kwargs, preprocessing = _network(run, config)
    model = Prepared(network, preprocessing)
    best = run.early_stop(patience=config.patience or 10**9, mode="max", keep=network)

    for stage, epochs, size in (
        ("head", config.head_epochs, config.head_batch),
        ("all", config.epochs - config.head_epochs, config.batch),
    ):
        if not epochs:
            continue
        is_head = stage == "head"
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not is_head or name.startswith("fc."))
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(learning, lr=config.rate, weight_decay=config.weight_decay)
        per_epoch = max(1, -(-(config.images_per_epoch or len(rows)) // size))
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, config.decay_epochs * per_epoch, config.decay)
        prepared, optimiser = run.prepare(model, optimiser)
        batch_of = _batches(run, config, data, rows, scales, preprocessing, stage, size)
        steps = run.steps(epochs * per_epoch, stage, network=network, optimiser=optimiser, schedule=schedule, best=best)
        for step, (pixels, mos, std) in prefetch(batch_of, steps, threads=2):
            if step == 0 and not is_head:
                run.sample("crops", list(pixels[:SHOWN].numpy()), caption="What it learns from")
            prepared.train()
            if is_head:
                network.get_submodule("backbone").eval()
            with run.autocast():
                outputs = prepared(pixels.to(run.device))
            first, second = pairs_of(len(pixels), config.pairs)
            fidelity_loss, hinge_loss = pair_losses(
                outputs, mos.to(run.device), std.to(run.device), first.to(run.device), second.to(run.device),
                margin=config.margin, unknown_std=config.unknown_std,
            )  # fmt: skip
            loss = fidelity_loss + config.hinge * hinge_loss
            optimiser.zero_grad()
            run.backward(loss)
            optimiser.step()
            rate = optimiser.param_groups[0]["lr"]
            schedule.step()
            run.log(step, loss=loss.item(), fidelity_loss=fidelity_loss.item(), hinge_loss=hinge_loss.item(), rate=rate)
            if (step + 1) % (config.evaluate_every * per_epoch) == 0 or step + 1 == epochs * per_epoch:
                val_srcc = _srcc(run, model, data, val, preprocessing)
                run.log(step, val_srcc=val_srcc)
                if best.update(step, val_srcc) and not is_head:
                    run.stop()
    best.restore()

    network.requires_grad_(True)
    measured = {split: _measured(run, model, data, data.rows(split), preprocessing) for split in ("val", "test")}
    run.report(
        measures={split: found.plain() for split, found in measured.items()},
        best_step=best.best_step,
        labels={"train": len(rows), "val": len(val), "test": len(data.rows("test"))},
    )
    run.save(
        "network",
        network,
        architecture=architecture,
        arch_kwargs=arch_kwargs,
        preprocessing=preprocessing,
        outputs="score",
        facts={"srcc": {split: found.srcc.plain() for split, found in measured.items()}},
    )


def _network(run: RunContext, config: UniqueConfig) -> tuple[nn.Module, str, dict[str, object], Preprocessing]:
    """The network to train, and what describes it: the start's, or a new one of the config's architecture."""
    if not run.inputs("start"):
        preprocessing = Preprocessing(resize=config.resize, mean=IMAGENET_MEAN, std=IMAGENET_STD, long_side=LONG_SIDE)
        return build(config.architecture), config.architecture, {}, preprocessing
    start = run.input("start")
    if not start.architecture.startswith("unique"):
        raise ValueError(
            f'"{start.name}" is a {start.architecture}: this method trains networks that give a score and its '
            "deviation; start from a version of a unique architecture, or from none"
        )
    if start.higher_is_better is False:
        raise ValueError(
            f'of "{start.name}" lower scores are better, but this method trains scores of which higher ones are: start '
            "from another version, or from none"
        )
    return start.module(), start.architecture, dict(start.arch_kwargs), start.preprocessing


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _batches(
    run: RunContext,
    config: UniqueConfig,
    data: LabelledData,
    rows: LabelledRows,
    scales: Scales,
    preprocessing: Preprocessing,
    stage: str,
    size: int,
) -> Callable[[int], Batch]:
    """The batch of a step: crops uint8 (n, h, w, 3), MOS and deviations (n,)."""

    def batch_of(step: int) -> Batch:
        rng = run.rng("batch", stage, step)
        places = run.share(scales.draw(size, rng))
        pixels = crops(
            data, rows.indices[places], preprocessing=preprocessing, crop=config.crop, flip=config.flip, rng=rng
        )
        mos, std = (torch.from_numpy(column[places].astype(np.float32)) for column in (rows.mos, rows.std))
        return pixels, mos, std

    return batch_of


def _scores(
    run: RunContext, model: Prepared, data: LabelledData, rows: LabelledRows, preprocessing: Preprocessing
) -> np.ndarray:
    said = evaluate([model], data, rows.indices, preprocessing=preprocessing, device=run.device, check=run.check)
    return said[0, :, 0]


def _srcc(
    run: RunContext, model: Prepared, data: LabelledData, rows: LabelledRows, preprocessing: Preprocessing
) -> float:
    return srcc(_scores(run, model, data, rows, preprocessing), rows.mos, scale=rows.scale)


def _measured(
    run: RunContext, model: Prepared, data: LabelledData, rows: LabelledRows, preprocessing: Preprocessing
) -> Agreement:
    scores = _scores(run, model, data, rows, preprocessing)
    return agreement(scores, rows.mos, scale=rows.scale, groups=rows.group, seed=run.seed)
