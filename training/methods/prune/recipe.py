"""Pruned variants from top to bottom: the target's mark, then passes over the validation split until enough are in."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from torch import nn

from training.engine import masks as masking
from training.engine.context import RunContext, Values
from training.engine.judging import Judge
from training.engine.labels import LabelsError
from training.methods.prune import PruneConfig
from training.methods.prune.cuts import Cut, cuts, masks_of

NAMED = {"quality": "SRCC", "classification": "accuracy"}


class NotPrunable(ValueError):
    """The target has no variants that the rule admits; the message says how far it got."""


def prune(run: RunContext, config: PruneConfig) -> None:
    assert run.data is not None
    target = run.input("target")
    judge = Judge.of(run, target)
    rows = run.data.require("val", least=3)
    if len(rows) > config.most_images:
        rows = rows.where(np.sort(run.rng("images").choice(len(rows), config.most_images, replace=False)))
    network = target.module().to(run.device)
    mark = judge.marks([network], rows)[0]
    bar = mark - config.tolerance
    if np.isnan(mark):
        raise LabelsError(
            f'"{target.name}" gives the {len(rows)} images of the validation split one score, or they have one label: '
            "it cannot be said how good a variant is"
        )

    ways = cuts(network, config.ratios, run.rng("cuts"))
    begun = [{"way": way, "ratio": ways[way].ratio} for way in range(min(config.variants, len(ways)))]
    state = Values(pending=begun, admitted=[], next=len(begun), given_up=0)
    for step in run.steps(_most_passes(config, len(ways)), "prune", state=state):
        pending = state["pending"]
        tried = [masks_of(network, _cut(ways, each)) for each in pending]
        marks = judge.marks([_masked(network, masks) for masks in tried], rows)
        still: list[dict[str, Any]] = []
        for each, masks, found in zip(pending, tried, marks, strict=True):
            digest = masking.digest(masks)
            is_new = all(digest != other["digest"] for other in state["admitted"])
            if found >= bar and is_new:
                state["admitted"].append(each | {"mark": found, "digest": digest})
            elif each["ratio"] * config.lower >= config.least:
                still.append(each | {"ratio": each["ratio"] * config.lower})
            else:
                state["given_up"] += 1
                if state["next"] < len(ways):
                    still.append({"way": state["next"], "ratio": ways[state["next"]].ratio})
                    state["next"] += 1
        state["pending"] = still
        run.log(
            step, admitted=len(state["admitted"]), pending=len(still), bar=bar,
            best=np.nanmax([*marks, -1.0]), worst=np.nanmin([*marks, 1.0]),
        )  # fmt: skip
        if not still:
            run.stop()

    admitted = sorted(state["admitted"], key=lambda each: each["way"])
    name = NAMED[run.data.task]
    if len(admitted) < config.variants:
        raise NotPrunable(
            f'"{target.name}" has {len(admitted)} of {config.variants} variants that reach {name} {bar:.3f} on the '
            f"validation split (its own {mark:.3f} less {config.tolerance:g}); all {len(ways)} ways to mask it were "
            f"tried down to {100 * config.least:g} % of the weights. Ask for fewer variants, allow a larger tolerance, "
            "or train the target further."
        )
    told = []
    for each in admitted:
        cut = _cut(ways, each)
        masks = masks_of(network, cut)
        facts = {
            **asdict(cut),
            "words": str(cut),
            "asked_ratio": ways[each["way"]].ratio,
            "sparsity": masking.sparsity(masks),
            "mark": each["mark"],
            "target_mark": mark,
            "masks_sha256": each["digest"],
        }
        told.append(facts)
        run.save(
            "variant",
            _masked(network, masks),
            architecture=target.architecture,
            arch_kwargs=target.arch_kwargs,
            preprocessing=target.preprocessing,
            outputs="score" if target.spec.is_quality else "logits",
            facts=facts,
            arrays=masking.packed(masks),
            parents=[target],
            purpose="variant",
        )
    run.report(
        measure=name, target=mark, bar=bar, images=len(rows), variants=told, given_up=state["given_up"],
        passes_per_image=len(admitted) + 1,
    )  # fmt: skip


def _cut(ways: list[Cut], each: Mapping[str, Any]) -> Cut:
    return replace(ways[each["way"]], ratio=each["ratio"])


def _masked(network: nn.Module, masks: masking.Masks) -> nn.Module:
    """A copy whose masked weights are zero."""
    variant = copy.deepcopy(network)
    masking.apply(masks, variant)
    return variant


def _most_passes(config: PruneConfig, n_ways: int) -> int:
    """Passes after which every way was tried at every ratio."""
    lowerings = int(np.ceil(np.log(config.least / max(config.ratios)) / np.log(config.lower)))
    return (max(lowerings, 0) + 1) * n_ways
