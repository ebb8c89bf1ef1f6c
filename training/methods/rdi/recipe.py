"""RDI-Nets from top to bottom: the network, its thresholds, the networks it is compared with, and the judges."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from models_zoo.architectures import build
from models_zoo.architectures.rdi import RdiResNet
from training.engine import costs
from training.engine.attacks import Attack
from training.engine.context import RunContext
from training.engine.explore import write_explorer
from training.engine.measures import accuracy
from training.engine.pictures import Pictures, pictures
from training.engine.robustness import Robustness, assess, measured, require_confirmed
from training.methods.rdi import RdiConfig
from training.methods.rdi.attacks import DEFENCES, maker
from training.methods.rdi.defence import single_exit, train_exits
from training.methods.rdi.judging import (
    Heard,
    Judged,
    at_thresholds,
    hear,
    hear_under_attacks,
    judge,
    mac_table,
    routing_aware_hits,
    speeds,
)
from training.methods.rdi.routing import (
    MacTable,
    Thresholds,
    equal_shares,
    for_budget,
    mean_macs,
    routed_right,
    shares,
)

SHOWN = 32  # test images on the page
IN_SAMPLES = 8
SHOWN_ATTACK = "max-average"  # for which the page shows entropies, predictions and shares
NARROWER = np.arange(0.98, 0.2, -0.02)  # factors of the widths that are tried


@dataclass(frozen=True)
class Images:
    """learnt: what is learnt from; val: for curves and thresholds; test: for the judges alone."""

    learnt: Pictures
    val: Pictures
    test: Pictures


@dataclass(frozen=True)
class Trained:
    """A network with exits and its choice of thresholds. seconds: of training."""

    network: RdiResNet
    kwargs: dict[str, Any]
    seconds: float
    table: MacTable
    thresholds: Thresholds
    curve: list[tuple[float, Thresholds]]  # budget in MACs


def train(run: RunContext, config: RdiConfig) -> None:
    images, n_classes = read(run, config)
    attack = Attack(config.eps, config.test_steps, config.step or config.eps / 4)
    run.sample("images", list(images.learnt.x[:IN_SAMPLES].permute(0, 2, 3, 1).numpy()), caption="It learns from these")

    own = with_exits(run, config, images, config.defence, n_classes, stage="exits")
    plain = without_exits(run, config, images, own, n_classes) if config.baselines else {}
    others = {
        defence: with_exits(run, config, images, defence, n_classes, stage=f"exits, {defence} defence")
        for defence in dict.fromkeys(config.compare)
        if defence != config.defence
    }

    found = {config.defence: examined(run, own, images, attack)}
    found |= {defence: examined(run, other, images, attack) for defence, other in others.items()}
    judged = {
        name: assess(network, images.test.x, images.test.y, attack=attack, check=run.check, seed=run.seed)
        for name, (network, _, _) in plain.items()
    }
    clock = speeds(
        {"own": (own.network, own.thresholds)}
        | {f"point {at}": (own.network, each) for at, (_, each) in enumerate(own.curve)}
        | {name: (network, None) for name, (network, _, _) in plain.items()}
        | {f"defence {name}": (other.network, other.thresholds) for name, other in others.items()},
        images.test,
    )
    for each in (own, *others.values()):
        each.network.to(run.device).thresholds = each.thresholds

    report: dict[str, Any] = {}
    for defence, each in {config.defence: own, **others}.items():
        is_own = each is own
        facts = facts_of(each, found[defence], defence, clock["own" if is_own else f"defence {defence}"])
        saved = run.save(
            "network" if is_own else "other defence",
            each.network,
            architecture="rdi_resnet",
            arch_kwargs={**each.kwargs, "thresholds": list(each.thresholds)},
            preprocessing=images.learnt.preprocessing,
            outputs="logits",
            label=f"early exits, {defence} defence",
            facts=facts,
        )
        report[saved.label] = saved.facts
    for name, (network, kwargs, seconds) in plain.items():
        facts = measured(
            judged[name], macs=costs.macs(network, images.learnt.shape), params=costs.params(network),
            latency_ms=clock[name][1], seconds=seconds, images_per_second=clock[name][0],
        )  # fmt: skip
        saved = run.save(
            name,
            network,
            architecture="basic_resnet",
            arch_kwargs=kwargs,
            preprocessing=images.learnt.preprocessing,
            outputs="logits",
            label={"single": "without early exits", "narrow": "without early exits, narrower"}[name],
            facts={"measured": facts},
        )
        report[saved.label] = saved.facts
    run.report(networks=report, training_images=len(images.learnt))
    show(run, config, own, found[config.defence], judged, plain, clock, images)
    require_confirmed({f"early exits, {name} defence": each.judged.robustness for name, each in found.items()} | judged)


def read(run: RunContext, config: RdiConfig) -> tuple[Images, int]:
    """The images and the number of classes."""
    assert run.data is not None
    data = run.data
    form = partial(pictures, data, grey=config.grey)
    learnt = form(data.require("train", least=2), side=config.side, most=config.most_images, rng=run.rng("images"))
    side = learnt.shape[2]
    val = form(data.require("val", least=10), side=side, most=config.most_val, rng=run.rng("val"))
    test = form(data.require("test"), side=side, most=config.most_test, rng=run.rng("test"))
    return Images(learnt, val, test), data.n_classes


def with_exits(
    run: RunContext, config: RdiConfig, images: Images, defence: str, n_classes: int, *, stage: str
) -> Trained:
    """Train a network with exits against one form of attack; its thresholds follow from validation images."""
    kwargs = {
        "widths": list(config.widths), "blocks": list(config.blocks), "exits": list(config.exits),
        "heads": config.heads, "stem_stride": config.stem_stride, "in_channels": images.learnt.shape[0],
        "num_classes": n_classes,
    }  # fmt: skip
    torch.manual_seed(run.seed)
    network = build("rdi_resnet", **kwargs)
    assert isinstance(network, RdiResNet)
    attack = Attack(config.eps, config.steps, config.step or config.eps / 4)
    make = maker(config.crafted, attack)
    craft = None if defence == "none" else (lambda x, y: DEFENCES[defence](network, x, y, make))
    seconds = train_exits(
        run, network, images.learnt, images.val, config, stage=stage, craft=craft, call={"every": True},
        weights=config.weights or (1.0,) * network.n_exits,
    )  # fmt: skip
    table = mac_table(network, images.learnt.shape)
    clean = hear(network, images.val, check=run.check).said
    under = hear_under_attacks(network, images.val, attack, check=run.check, seed=run.seed)
    attacked = [each.said for each in under.values()]
    least = float(table.prefix[0] + table.head[0])
    budgets = sorted({max(least, share * table.whole) for share in config.budgets})
    curve = [(budget, for_budget(config.rule, clean, attacked, table, budget)) for budget in budgets]
    if config.default_budget is None:
        thresholds = equal_shares(clean.entropies)
    else:
        budget = max(least, config.default_budget * table.whole)
        thresholds = for_budget(config.rule, clean, attacked, table, budget)
    network.thresholds = thresholds
    return Trained(network, kwargs, seconds, table, thresholds, curve)


def without_exits(
    run: RunContext, config: RdiConfig, images: Images, own: Trained, n_classes: int
) -> dict[str, tuple[nn.Module, dict[str, Any], float]]:
    """By role ("single", "narrow"): the network without early exits, and one as narrow as the other's mean cost on
    validation images; with their arguments and seconds of training."""
    budget = mean_macs(hear(own.network, images.val, check=run.check).said, own.thresholds, own.table)[1]
    found = {}
    for role in ("single", "narrow"):
        kwargs = {name: own.kwargs[name] for name in ("widths", "blocks", "stem_stride", "in_channels", "num_classes")}
        if role == "narrow":
            kwargs["widths"] = narrower(kwargs, images.learnt.shape, budget)
        torch.manual_seed(run.seed)
        network = build("basic_resnet", **kwargs)
        seconds = train_exits(
            run, network, images.learnt, images.val, config, stage=role, craft=single_exit(network, config), call={},
            weights=(1.0,),
        )  # fmt: skip
        found[role] = (network, kwargs, seconds)
    return found


def narrower(kwargs: Mapping[str, Any], shape: tuple[int, int, int], budget: float) -> list[int]:
    """The widths of the widest network of at most so many MACs."""
    for factor in NARROWER:
        widths = [max(1, round(float(factor) * width)) for width in kwargs["widths"]]
        if costs.macs(build("basic_resnet", **{**kwargs, "widths": widths}), shape) <= budget:
            return widths
    return widths


@dataclass(frozen=True)
class Examined:
    """What the test images showed: as they are, under each threshold-free attack, and at the default point."""

    clean: Heard
    attacked: dict[str, Heard]
    judged: Judged


def examined(run: RunContext, trained: Trained, images: Images, attack: Attack) -> Examined:
    clean = hear(trained.network, images.test, shown=SHOWN, check=run.check)
    attacked = hear_under_attacks(trained.network, images.test, attack, shown=SHOWN, check=run.check, seed=run.seed)
    said = {name: each.said for name, each in attacked.items()}
    judged = judge(trained.network, images.test, clean.said, said, attack, check=run.check, seed=run.seed)
    return Examined(clean, attacked, judged)


def facts_of(trained: Trained, found: Examined, defence: str, clock: tuple[float, float]) -> dict[str, Any]:
    paper, honest = mean_macs(found.clean.said, trained.thresholds, trained.table)
    under = mean_macs(found.attacked[SHOWN_ATTACK].said, trained.thresholds, trained.table)
    return {
        "measured": measured(
            found.judged.robustness, macs=honest, params=costs.params(trained.network), latency_ms=clock[1],
            seconds=trained.seconds, images_per_second=clock[0], macs_paper=paper, macs_attacked=under[1],
            macs_whole=trained.table.whole,
            ra_by_attack={name: float(hits.mean()) for name, hits in found.judged.attacks.items()},
        ),
        "defence": defence,
        "thresholds": list(trained.thresholds),
        "shares": shares(found.clean.said, trained.thresholds).tolist(),
        "shares_attacked": shares(found.attacked[SHOWN_ATTACK].said, trained.thresholds).tolist(),
    }  # fmt: skip


def show(
    run: RunContext,
    config: RdiConfig,
    own: Trained,
    found: Examined,
    judged: Mapping[str, Robustness],
    plain: Mapping[str, tuple[nn.Module, dict[str, Any], float]],
    clock: Mapping[str, tuple[float, float]],
    images: Images,
) -> None:
    """Write what the page shows: the exits, the curve, the attacks, and some test images."""
    attacked = found.attacked[SHOWN_ATTACK]
    measured_at = {each: point(run, config, own, found, images, each) for _, each in own.curve}
    names = [*(f"after block {place}" for place in config.exits), "last"]
    every_open = own.table.honest([1.0] * len(config.exits))
    exits = [
        {
            "name": name,
            "macs_paper": own.table.paper()[at],
            "macs_honest": every_open[at],
            "accuracy": accuracy(found.clean.said.right[at]).plain(),
            "accuracy_attacked": accuracy(attacked.said.right[at]).plain(),
        }
        for at, name in enumerate(names)
    ]
    points = [
        {"budget": budget, **measured_at[thresholds], "images_per_second": clock[f"point {at}"][0]}
        for at, (budget, thresholds) in enumerate(own.curve)
    ]
    content: dict[str, Any] = {
        "kind": "rdi",
        "exits": exits,
        "points": points,
        "attacks": [{"name": name, "ra": accuracy(hits).plain()} for name, hits in found.judged.attacks.items()],
        "default": {"thresholds": list(own.thresholds)},
        "labels": images.test.y[: len(found.clean.images)].tolist(),
        "entropies": found.clean.said.entropies[:, :SHOWN].T.tolist(),
        "predictions": said_of(found.clean),
        "entropies_attacked": attacked.said.entropies[:, :SHOWN].T.tolist(),
        "predictions_attacked": said_of(attacked),
    }
    if "single" in judged:
        single = judged["single"].plain()
        content["single"] = {
            "macs": costs.macs(plain["single"][0], images.learnt.shape),
            "sa": single["sa"],
            "ra": single["ra"],
            "images_per_second": clock["single"][0],
        }
    write_explorer(run, content, {"clean": tiles(found.clean.images), "attacked": tiles(attacked.images)})


def point(
    run: RunContext,
    config: RdiConfig,
    own: Trained,
    found: Examined,
    images: Images,
    thresholds: Thresholds,
) -> dict[str, Any]:
    """A place on the curve: ra is the worst of all attacks, the routing-aware one made for its thresholds."""
    right = routed_right(found.clean.said, thresholds)
    hits = [right & routed_right(each.said, thresholds) for each in found.attacked.values()]
    attack = Attack(config.eps, config.test_steps, config.step or config.eps / 4)
    with at_thresholds(own.network, thresholds):
        hits.append(routing_aware_hits(own.network, images.test, right, attack, check=run.check, seed=run.seed))
    paper, honest = mean_macs(found.clean.said, thresholds, own.table)
    return {
        "thresholds": list(thresholds),
        "macs_paper": paper,
        "macs_honest": honest,
        "sa": accuracy(right).plain(),
        "ra": accuracy(min(hits, key=np.mean)).plain(),
        "share": shares(found.clean.said, thresholds).tolist(),
        "share_attacked": shares(found.attacked[SHOWN_ATTACK].said, thresholds).tolist(),
    }


def said_of(heard: Heard) -> list[list[tuple[int, float]]]:
    """[image][exit] -> (class, probability)."""
    classes, sure = heard.probabilities.argmax(2), np.clip(heard.probabilities.max(2), 0, 1)
    return [
        [(int(classes[at, image]), float(sure[at, image])) for at in range(len(classes))]
        for image in range(classes.shape[1])
    ]


def tiles(images: torch.Tensor) -> list[np.ndarray]:
    """float (n, C, H, W) in [0, 1] -> uint8 (H, W, 3) or (H, W) each."""
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return [each[..., 0] if each.shape[2] == 1 else each for each in pixels]
