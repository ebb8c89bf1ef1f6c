"""Fine-tuning from top to bottom: measure, tune all networks on the same batches, measure again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from models_zoo.adapters.prepare import Prepared
from training.engine import masks as masking
from training.engine.batches import prefetch
from training.engine.context import RunContext
from training.engine.images import crops, freeze_norms
from training.engine.judging import Judge, Outputs
from training.engine.labels import ORIGINS, SPLITS, LabelledRows, Origin, Split
from training.engine.networks import InputNetwork
from training.methods.finetune import FinetuneConfig
from training.methods.finetune.batches import Batch, Half
from training.methods.finetune.losses import class_losses, quality_losses

SHOWN = 8  # crops of the first batch, in the samples
VARIANT_REPLICATES = 200  # of the intervals of variants; the target's have more
OF_THE_MASKS = ("kind", "ratio", "asked_ratio", "stage", "words", "sparsity")  # facts of a variant that stay true
Cell = tuple[Split, Origin]


@dataclass
class Learner:
    """A network on its way. sigma: its deviation, where it gives none itself."""

    given: InputNetwork
    network: nn.Module
    masks: masking.Masks
    sigma: float = 1.0


def finetune(run: RunContext, config: FinetuneConfig) -> None:
    assert run.data is not None
    data, target = run.data, run.input("target")
    judge = Judge.of(run, target)
    halves = [
        Half.of(
            data.require("train", origin, least=2 if judge.is_quality else 1),
            what=f'the training split of origin "{origin}"',
            is_quality=judge.is_quality,
        )
        for origin in ORIGINS
    ]
    learners = [_learner(run, given, target) for given in (target, *run.inputs("variant"))]
    networks = [learner.network for learner in learners]

    cells = _cells(run)
    before = {cell: judge.outputs(networks, rows) for cell, rows in cells.items()}
    if judge.is_quality:
        _set_sigmas(learners, judge, halves[0].rows, config)

    models, optimisers, schedules = _prepared(run, config, learners)
    state: dict[str, Any] = {f"network_{at}": network for at, network in enumerate(networks)}
    state |= {f"optimiser_{at}": optimiser for at, optimiser in enumerate(optimisers)}
    state |= {f"schedule_{at}": schedule for at, schedule in enumerate(schedules)}
    batch_of = _batches(run, config, judge, halves)
    for step, drawn in prefetch(batch_of, run.steps(config.steps, "train", **state), threads=2):
        if step == 0:
            run.sample("batch", list(drawn.pixels[:SHOWN].numpy()), caption="Base labels; the other half is found ones")
        batch, losses = drawn.to(run.device), []
        for learner, model, optimiser, schedule in zip(learners, models, optimisers, schedules, strict=True):
            model.train()
            if config.freeze_norms:
                freeze_norms(learner.network)
            with run.autocast():
                outputs = model(batch.pixels)
            base, found = (
                quality_losses(outputs, batch, config, orientation=judge.orientation, sigma=learner.sigma)
                if judge.is_quality
                else class_losses(outputs, batch)
            )
            optimiser.zero_grad()
            run.backward((base + found) / 2)
            optimiser.step()
            schedule.step()
            masking.apply(learner.masks, learner.network)
            losses.append((base.item(), found.item()))
        run.log(step, **_curves(losses))
    for network in networks:
        network.eval()

    after = {cell: judge.outputs(networks, rows) for cell, rows in cells.items()}
    told = [_told(judge, at, learner, cells, before, after) for at, learner in enumerate(learners)]
    run.report(
        networks=told,
        forgetting=_forgetting(judge, told[0], config),
        labels={origin: len(half.rows) for origin, half in zip(ORIGINS, halves, strict=True)},
    )
    for at, learner in enumerate(learners):
        facts = {name: learner.given.facts[name] for name in OF_THE_MASKS if name in learner.given.facts}
        run.save(
            "target" if at == 0 else "variant",
            learner.network,
            architecture=learner.given.architecture,
            arch_kwargs=learner.given.arch_kwargs,
            preprocessing=learner.given.preprocessing,
            outputs="score" if judge.is_quality else "logits",
            facts=facts | {"masks_sha256": masking.digest(learner.masks), "measures": told[at]["cells"]},
            arrays=masking.packed(learner.masks) or None,
            parents=[learner.given],
            purpose="use" if at == 0 else "variant",
        )


def _learner(run: RunContext, given: InputNetwork, target: InputNetwork) -> Learner:
    """A network with its masks applied. Raises ValueError for one that sees images unlike the target."""
    if given.preprocessing != target.preprocessing:
        raise ValueError(
            f'"{given.name}" prepares images unlike "{target.name}": networks that are tuned together share their '
            "batches; prune the target anew"
        )
    network = given.module()
    masks = masking.unpacked(given.arrays(), network, name=given.name)
    masking.apply(masks, network)
    return Learner(given, network.to(run.device), {name: mask.to(run.device) for name, mask in masks.items()})


def _cells(run: RunContext) -> dict[Cell, LabelledRows]:
    """Rows that are measured, by split and origin; of the training split only what was found."""
    assert run.data is not None
    rows = {(split, origin): run.data.rows(split, origin) for split in SPLITS for origin in ORIGINS}
    del rows["train", "base"]
    return {cell: found for cell, found in rows.items() if len(found)}


def _set_sigmas(learners: Sequence[Learner], judge: Judge, rows: LabelledRows, config: FinetuneConfig) -> None:
    """A share of how far the scores of base images lie apart."""
    some = rows.where(judge.run.rng("sigma").permutation(len(rows))[:200])
    said = judge.outputs([learner.network for learner in learners], some)
    for learner, outputs in zip(learners, said, strict=True):
        learner.sigma = max(config.fixed_sigma * float(outputs[:, 0].std()), 1e-6)


def _prepared(
    run: RunContext, config: FinetuneConfig, learners: Sequence[Learner]
) -> tuple[list[nn.Module], list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
    """What each learner is trained through: model, optimiser and schedule."""
    models: list[nn.Module] = []
    optimisers: list[torch.optim.Optimizer] = []
    schedules: list[torch.optim.lr_scheduler.LRScheduler] = []
    for learner in learners:
        optimiser = torch.optim.Adam(learner.network.parameters(), lr=config.rate, weight_decay=config.weight_decay)
        schedules.append(torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / config.steps))
        model, prepared = run.prepare(Prepared(learner.network, learner.given.preprocessing), optimiser)
        models.append(model)
        optimisers.append(prepared)
    return models, optimisers, schedules


def _batches(run: RunContext, config: FinetuneConfig, judge: Judge, halves: Sequence[Half]) -> Callable[[int], Batch]:
    """The batch of a step, the first half of it base labels."""

    def batch_of(step: int) -> Batch:
        rng = run.rng("batch", step)
        places = [run.share(half.draw(config.batch // 2, rng)) for half in halves]
        both = [half.rows.where(own) for half, own in zip(halves, places, strict=True)]
        pixels = crops(
            judge.data,
            np.concatenate([rows.indices for rows in both]),
            preprocessing=judge.preprocessing,
            crop=config.crop if judge.is_quality else None,
            flip=config.flip,
            rng=rng,
        )
        mos, std, label = (np.concatenate([getattr(rows, name) for rows in both]) for name in ("mos", "std", "label"))
        return Batch(
            pixels,
            torch.from_numpy(mos.astype(np.float32)),
            torch.from_numpy(std.astype(np.float32)),
            torch.from_numpy(label.astype(np.int64)),
        )

    return batch_of


def _curves(losses: Sequence[tuple[float, float]]) -> dict[str, float]:
    base, found = losses[0]
    curves = {"loss": (base + found) / 2, "base_loss": base, "found_loss": found}
    return curves | ({"variants_loss": float(np.mean(losses[1:]))} if len(losses) > 1 else {})


def _told(
    judge: Judge,
    at: int,
    learner: Learner,
    cells: Mapping[Cell, LabelledRows],
    before: Mapping[Cell, Outputs],
    after: Mapping[Cell, Outputs],
) -> dict[str, Any]:
    """What became of one network: measures before and after by split and origin."""
    replicates = {} if at == 0 else {"replicates": VARIANT_REPLICATES}
    compared = {
        f"{split} {origin}": judge.compare(before[split, origin][at], after[split, origin][at], rows, **replicates)
        for (split, origin), rows in cells.items()
    }
    role, number = ("target", 0) if at == 0 else ("variant", at - 1)
    return {"role": role, "number": number, "name": learner.given.name, "cells": compared}


def _forgetting(judge: Judge, told: Mapping[str, Any], config: FinetuneConfig) -> dict[str, Any]:
    """What the target lost on the labels the set began with: of the test split, else of the validation split."""
    measure = "srcc" if judge.is_quality else "accuracy"
    cell = next((name for name in ("test base", "val base") if name in told["cells"]), None)
    if cell is None:
        return {"measure": measure, "cell": None}
    found = told["cells"][cell]
    lost = found["change"][measure]["value"]
    return {
        "measure": measure,
        "cell": cell,
        "before": found["before"][measure],
        "after": found["after"][measure],
        "change": found["change"][measure],
        "bar": -config.forgetting,
        "is_forgotten": lost is not None and lost < -config.forgetting,
    }
