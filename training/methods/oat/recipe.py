"""Adjustable robustness from top to bottom: the one network, dedicated ones, their judges, what the page shows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from torch import nn

from models_zoo.architectures import build
from models_zoo.architectures.oat import Adjustable, quick_start
from training.engine import costs
from training.engine.adversarial import train_plain
from training.engine.attacks import Attack
from training.engine.context import RunContext, Values
from training.engine.explore import write_explorer
from training.engine.pictures import Pictures, pictures
from training.engine.robustness import Robustness, assess, measured, require_confirmed
from training.methods.oat import OatConfig
from training.methods.oat.learning import at_point, learn
from training.methods.oat.points import folded_point, point_name
from training.methods.oat.shown import gallery

SHOWN = 8  # training images, in the samples


@dataclass(frozen=True)
class Candidate:
    """A network that is judged: a point of the adjustable one, or a dedicated one."""

    name: str
    lam: float
    share: float
    is_trained: bool
    make: Callable[[], nn.Module]


def train(run: RunContext, config: OatConfig) -> None:
    learnt, val, test, n_classes = splits(run, config)
    attack = Attack(config.eps, config.steps, config.step or config.eps / 4)
    shape, ends = shape_of(config), {"in_channels": learnt.shape[0], "num_classes": n_classes}
    described: dict[str, Any] = adjustable_kwargs(config) | ends
    network = build("oat", **described)
    assert isinstance(network, Adjustable)
    if config.start == "quick":
        quick_start(network)
    run.sample("images", list(learnt.x[:SHOWN].permute(0, 2, 3, 1).numpy()), caption="What it learns from")

    seconds = learn(run, network, learnt, val, config=config, attack=attack)
    dedicated: dict[float, nn.Module] = {}
    dedicated_seconds: dict[float, float] = {}
    for lam in config.dedicated:
        dedicated[lam] = build(config.architecture, **shape, **ends)
        dedicated_seconds[lam] = train_plain(
            run, dedicated[lam], learnt, val, stage=f"lambda {lam:g}", lam=lam, attack=attack, epochs=config.epochs,
            batch=config.batch, rate=config.rate, weight_decay=config.weight_decay, warm_up=config.warm_up,
            pad=config.pad, flip=config.flip,
        )  # fmt: skip

    points = [
        Candidate(point_name(network, lam, share), lam, share, is_trained, partial(at_point, run, network, lam, share))
        for share in network.shares
        for lam, is_trained in slider(config)
    ]
    others = [Candidate(f"dedicated, lambda {lam:g}", lam, 1.0, True, module.eval) for lam, module in dedicated.items()]
    judged = judge(run, [*points, *others], test, attack)
    shared = {"training_images": len(learnt), "eps": config.eps}
    slow = latencies(network, dedicated, learnt.shape)

    listed: list[dict[str, Any]] = []
    for point in points:
        module = point.make()
        facts = measured(
            judged[point.name], macs=costs.macs(module, learnt.shape), params=costs.params(module),
            latency_ms=slow[f"width {point.share:g}"], seconds=seconds, lam=point.lam, width=point.share,
        )  # fmt: skip
        listed.append({"lam": point.lam, "width": point.share, "trained": point.is_trained, "measured": facts})
    here = next(each for each in listed if each["width"] == 1 and abs(each["lam"] - described["lam"]) < 1e-6)
    own: dict[str, Any] = here["measured"] | {
        "macs": costs.macs(network, learnt.shape), "params": costs.params(network),
        "latency_ms": slow["adjustable"], "bytes": None,
    }  # fmt: skip
    saved = run.save(
        "adjustable",
        network,
        architecture="oat",
        arch_kwargs=described,
        preprocessing=learnt.preprocessing,
        outputs="logits",
        label="adjustable",
        facts={"measured": own, "points": listed, **shared},
    )
    told: list[dict[str, Any]] = []
    for other in others:
        facts = measured(
            judged[other.name], macs=costs.macs(other.make(), learnt.shape), params=costs.params(other.make()),
            latency_ms=slow[other.name], seconds=dedicated_seconds[other.lam], lam=other.lam,
        )  # fmt: skip
        kept = run.save(
            "dedicated",
            other.make(),
            architecture=config.architecture,
            arch_kwargs=shape | ends,
            preprocessing=learnt.preprocessing,
            outputs="logits",
            label=other.name,
            facts={"measured": facts, **shared},
        )
        told.append({"name": other.name, "lam": other.lam, "measured": kept.facts["measured"]})
    for lam in config.exported:
        folded = folded_point(network, lam, 1.0, listed)
        run.save(
            "point",
            folded.module,
            architecture=folded.architecture,
            arch_kwargs=folded.arch_kwargs,
            preprocessing=learnt.preprocessing,
            outputs="logits",
            label=folded.label,
            facts={**folded.facts, **shared},
        )

    run.report(
        adjustable=saved.facts["measured"],
        points=listed,
        dedicated=told,
        against_dedicated=differences(listed, told),
        seconds={"adjustable": seconds, "dedicated": {f"{lam:g}": taken for lam, taken in dedicated_seconds.items()}},
        robustness={name: each.plain() for name, each in judged.items()},
        **shared,
    )
    pictured = gallery(run, [(point.name, point.make) for point in points], test, attack, n=config.shown)
    write_explorer(
        run,
        {
            "kind": "oat",
            "lambdas": list(network.lambdas),
            "widths": list(network.shares),
            "eps": config.eps,
            "attack": str(attack),
            "continuous": config.between == "interpolated",
            "points": [_drawn(each) for each in listed],
            "dedicated": [
                {"name": each["name"], "lam": each["lam"]}
                | {key: each["measured"][key] for key in ("sa", "ra", "seconds")}
                for each in told
            ],
            "seconds": seconds,
            **pictured.content,
        },
        pictured.sprites,
    )
    require_confirmed(judged)


def splits(run: RunContext, config: OatConfig) -> tuple[Pictures, Pictures, Pictures, int]:
    """Training, validation and test images, of one size, and how many classes they have."""
    assert run.data is not None
    data, grey = run.data, config.grey
    rows = data.require("train", least=2)
    learnt = pictures(data, rows, side=config.side, grey=grey, most=config.most_images, rng=run.rng("images"))
    side = learnt.shape[2]
    val = pictures(data, data.require("val"), side=side, grey=grey)
    test = pictures(data, data.require("test"), side=side, grey=grey, most=config.most_test, rng=run.rng("test"))
    return learnt, val, test, data.n_classes


def shape_of(config: OatConfig) -> dict[str, Any]:
    """What the plain backbone takes, without its ends."""
    extra: dict[str, Any] = {"dropout": config.dropout} if config.architecture == "wide_resnet" else {}
    return {
        "widths": list(config.widths),
        "blocks": list(config.blocks),
        "stem_stride": config.stem_stride,
        **extra,
    }


def adjustable_kwargs(config: OatConfig) -> dict[str, Any]:
    """What the architecture "oat" takes, without its ends."""
    middle = config.lambdas[len(config.lambdas) // 2]
    return {
        "backbone": config.architecture,
        "shape": shape_of(config),
        "lambdas": list(config.lambdas),
        "shares": list(config.shares),
        "encoding": config.encoding,
        "code_size": config.code_size,
        "between": config.between,
        "lam": middle if config.default_lambda is None else config.default_lambda,
    }


def slider(config: OatConfig) -> list[tuple[float, bool]]:
    """Lambdas that are measured, and whether each was trained: with a continuous slider those half-way too."""
    trained = [(lam, True) for lam in config.lambdas]
    if config.between != "interpolated":
        return trained
    wanted = [*config.exported, *([] if config.default_lambda is None else [config.default_lambda])]
    between = [(low + high) / 2 for low, high in pairwise(config.lambdas)]
    new = {lam for lam in (*between, *wanted) if all(abs(lam - own) > 1e-6 for own in config.lambdas)}
    return sorted([*trained, *((lam, False) for lam in new)])


def judge(run: RunContext, candidates: list[Candidate], test: Pictures, attack: Attack) -> dict[str, Robustness]:
    """The robustness of each, as the stage "judging"; every step is one network."""
    found = Values()
    for step in run.steps(len(candidates), "judging", found=found):
        candidate = candidates[step]
        module = candidate.make().to(run.device)
        found[candidate.name] = assess(module, test.x, test.y, attack=attack, check=run.check).plain()
    return {name: Robustness.from_plain(plain) for name, plain in found.items()}


def latencies(network: Adjustable, dedicated: dict[float, nn.Module], shape: tuple[int, int, int]) -> dict[str, float]:
    """Milliseconds of the adjustable network, of each width folded, and of the dedicated ones, measured in turns."""
    folded = {f"width {share:g}": folded_point(network, network.lam, share, []).module for share in network.shares}
    alone = {f"dedicated, lambda {lam:g}": module for lam, module in dedicated.items()}
    return costs.latencies_ms({"adjustable": network, **folded, **alone}, shape)


def differences(points: list[dict[str, Any]], dedicated: list[dict[str, Any]]) -> list[dict[str, float]]:
    """By how much the whole network at each lambda is better than the one dedicated to it: shares of images."""
    own = {each["lam"]: each["measured"] for each in points if each["width"] == 1}
    return [
        {"lam": each["lam"]}
        | {key: own[each["lam"]][key]["value"] - each["measured"][key]["value"] for key in ("sa", "ra", "ra_strong")}
        for each in dedicated
        if each["lam"] in own
    ]


def _drawn(point: dict[str, Any]) -> dict[str, Any]:
    facts = point["measured"]
    known = {key: facts[key] for key in ("sa", "ra", "ra_independent", "macs")}
    return {key: point[key] for key in ("lam", "width", "trained")} | known | {"n": facts["images"]}
