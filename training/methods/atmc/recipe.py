"""ATMC and its baselines from top to bottom: the dense networks, the compressed ones, the judges.

Point: one network that comes out: a family at a ratio and bits. Each ratio goes dense -> l0 on the weights -> l0 on the
factors -> quantised, one stage after another; families that begin alike share their stages.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from safetensors.torch import save as dense_content
from torch import nn

from models_zoo.adapters.compact import Weight
from models_zoo.architectures import build
from training.engine import costs
from training.engine.adversarial import WATCHED, train_plain
from training.engine.attacks import Attack
from training.engine.context import RunContext, Values
from training.engine.explore import write_explorer
from training.engine.networks import compact_content, weights_of
from training.engine.pictures import Pictures, pictures
from training.engine.robustness import Robustness, assess, measured, require_confirmed
from training.methods.atmc import DENSE_BITS, AtmcConfig
from training.methods.atmc.admm import Admm
from training.methods.atmc.factors import (
    Factors,
    Floors,
    budget_of,
    exact,
    low_rank_factors,
    plain_factors,
    project,
    square_factors,
    weights_to_compress,
)
from training.methods.atmc.sizes import dense_sizes, layer_rows, nonzero_macs, sizes
from training.methods.atmc.stages import Phase, Pull, Schooling, refresh_norms, train_factors


@dataclass(frozen=True)
class Start:
    """What the dense network is: its architecture, how its input is prepared. network: on the run's device."""

    network: nn.Module
    architecture: str
    arch_kwargs: dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A point. weights: what its compact file keeps; None for a dense network. seconds: of all its stages."""

    name: str
    family: str
    ratio: float | None
    bits: int | None
    network: nn.Module
    weights: dict[str, Weight] | None
    seconds: float


def train(run: RunContext, config: AtmcConfig) -> None:
    start, schooling, test = _begin(run, config)
    budgets = {ratio: budget_of(start.network, ratio) for ratio in config.ratios}
    made: list[Made] = []
    needs_robust = set(config.families) != {"NAP"}
    dense, seconds = _dense(run, config, start, schooling) if needs_robust else (start.network, 0.0)
    if "DA" in config.families:
        made.append(Made("DA", "DA", None, None, dense, None, seconds))
    for ratio, budget in budgets.items():
        made += _compressed(run, config, schooling, dense, ratio, budget, seconds)
    if "NAP" in config.families:
        plain, seconds = _dense(run, config, start, schooling, lam=0.0)
        for ratio, budget in budgets.items():
            made.append(_masked(run, config, schooling, plain, "NAP", ratio, budget, seconds, lam=0.0))

    found = _judged(run, made, test, schooling.attack)
    _keep(run, start, made, found, test)
    require_confirmed(found)


# The stages


def _begin(run: RunContext, config: AtmcConfig) -> tuple[Start, Schooling, Pictures]:
    """The network to begin with, the images, and the test images."""
    assert run.data is not None
    data = run.data
    given = run.input("start") if run.inputs("start") else None
    side, grey = config.side, config.grey
    if given is not None:
        side, grey = given.preprocessing.input_size, given.preprocessing.channels == "grey"
    take = partial(pictures, data, grey=grey)
    learnt = take(data.require("train", least=2), side=side, most=config.most_images, rng=run.rng("images"))
    side = learnt.shape[2]
    val = take(data.require("val"), side=side, most=WATCHED, rng=run.rng("val"))
    test = take(data.require("test"), side=side, most=config.most_test, rng=run.rng("test"))
    attack = Attack(config.eps, config.steps, 1.25 * config.eps / config.steps)
    schooling = Schooling(
        learnt, val, attack, 1 - config.clean_weight, config.batch, config.weight_decay, config.pad, config.flip
    )
    if given is None:
        kwargs = _described(config, learnt, data.n_classes)
        return Start(build(config.architecture, **kwargs), config.architecture, kwargs), schooling, test
    if given.preprocessing != learnt.preprocessing:
        raise ValueError(
            f'"{given.name}" takes its images as {given.preprocessing}: ATMC attacks images in [0, 1] and needs a '
            f"network that takes them as {learnt.preprocessing}; start from a version that was trained so, or from none"
        )
    network = given.module().to(run.device).to(memory_format=torch.channels_last)
    return Start(network, given.architecture, dict(given.arch_kwargs)), schooling, test


def _described(config: AtmcConfig, learnt: Pictures, n_classes: int) -> dict[str, Any]:
    channels, side, _ = learnt.shape
    common: dict[str, Any] = {"in_channels": channels, "num_classes": n_classes}
    staged: dict[str, Any] = {
        "widths": list(config.widths),
        "blocks": list(config.blocks),
        "stem_stride": config.stem_stride,
    }
    return (
        common
        | {
            "basic_resnet": staged,
            "wide_resnet": staged,
            "tiny_cnn": {"widths": staged["widths"]},
            "lenet_caffe": {"input_size": side},
        }[config.architecture]
    )


def _dense(
    run: RunContext, config: AtmcConfig, start: Start, schooling: Schooling, *, lam: float | None = None
) -> tuple[nn.Module, float]:
    """The dense network, trained; the version that was given for a start stands for the adversarially trained one."""
    if run.inputs("start") and lam is None:
        return start.network, 0.0
    network = copy.deepcopy(start.network)
    seconds = train_plain(
        run, network, schooling.train, schooling.val, stage="dense" if lam is None else "dense, not attacked",
        lam=schooling.lam if lam is None else lam, attack=schooling.attack, epochs=config.dense_epochs,
        batch=config.batch, rate=config.dense_rate, weight_decay=config.weight_decay, pad=config.pad, flip=config.flip,
    )  # fmt: skip
    return network, seconds


def _compressed(
    run: RunContext,
    config: AtmcConfig,
    schooling: Schooling,
    dense: nn.Module,
    ratio: float,
    budget: int,
    seconds: float,
) -> Iterator[Made]:
    """The points of one ratio that come from the adversarially trained network."""
    prune, factor, quantise = _phases(config)
    if {"ATMC", "A-l0"} & set(config.families):
        network, factors = copy.deepcopy(dense), plain_factors(dense)
        hold = partial(_project, budget=budget, floors=factors.floors(config.floor, budget))
        tighten = partial(hold, over=config.tighten)
        spent = seconds + train_factors(
            run, network, factors, schooling, stage=f"l0 {ratio:g}", phases=[prune], hold=tighten
        )
        if "ATMC" in config.families:
            yield from _atmc(run, config, schooling, network, ratio, budget, spent)
        if "A-l0" in config.families:
            spent += train_factors(
                run, network, factors, schooling, stage=f"A-l0 {ratio:g}", phases=[factor, quantise], hold=hold
            )
            yield _point(run, schooling, "A-l0", ratio, None, network, factors, factors.flat.detach(), spent)
    if "AP" in config.families:
        yield _masked(run, config, schooling, dense, "AP", ratio, budget, seconds)
    if "ALR" in config.families:
        network, factors = copy.deepcopy(dense), low_rank_factors(dense, budget)
        spent = seconds + train_factors(
            run, network, factors, schooling, stage=f"ALR {ratio:g}", phases=_phases(config), hold=_nothing
        )
        yield _point(run, schooling, "ALR", ratio, None, network, factors, factors.flat.detach(), spent)


def _atmc(
    run: RunContext,
    config: AtmcConfig,
    schooling: Schooling,
    pruned: nn.Module,
    ratio: float,
    budget: int,
    seconds: float,
) -> Iterator[Made]:
    """Factors of the pruned network, then each of the bits from there."""
    _, phase, quantise = _phases(config)
    network, factors = copy.deepcopy(pruned), square_factors(pruned)
    floors = factors.floors(config.floor, budget)
    hold = partial(_project, budget=budget, floors=floors)
    seconds += train_factors(run, network, factors, schooling, stage=f"factors {ratio:g}", phases=[phase], hold=hold)
    for bits in config.bits:
        own, copied = copy.deepcopy(network), copy.deepcopy(factors)
        stage = f"{bits} bits {ratio:g}"
        if bits == DENSE_BITS:
            spent = train_factors(run, own, copied, schooling, stage=stage, phases=[quantise], hold=hold)
            kept = copied.flat.detach()
        else:
            admm = Admm(copied, bits=bits, per_value=config.per_value)
            pull = Pull(admm, config.rho, config.interval)
            spent = train_factors(run, own, copied, schooling, stage=stage, phases=[quantise], hold=hold, pull=pull)
            kept = admm.finished(budget, floors)
        yield _point(run, schooling, "ATMC", ratio, bits, own, copied, kept, seconds + spent)


def _masked(
    run: RunContext,
    config: AtmcConfig,
    schooling: Schooling,
    dense: nn.Module,
    family: str,
    ratio: float,
    budget: int,
    seconds: float,
    *,
    lam: float | None = None,
) -> Made:
    """AP and NAP: the smallest weights of all layers are masked once, the rest is trained on."""
    network, factors = copy.deepcopy(dense), plain_factors(dense)
    chosen = factors.flat.detach().clone()
    project(chosen, budget, factors.floors(config.floor, budget))
    removed = chosen == 0
    seconds += train_factors(
        run, network, factors, schooling, stage=f"{family} {ratio:g}", phases=_phases(config),
        hold=partial(_keep_zero, removed=removed), lam=lam,
    )  # fmt: skip
    return _point(run, schooling, family, ratio, None, network, factors, factors.flat.detach(), seconds, lam=lam)


def _phases(config: AtmcConfig) -> list[Phase]:
    """On the weights, on the factors, with quantisation; baselines have all of them, so that all cost the same."""
    return [
        Phase(config.prune_epochs, config.prune_rate),
        Phase(config.factor_epochs, config.factor_rate),
        Phase(config.bits_epochs, config.bits_rate),
    ]


def _project(flat: torch.Tensor, done: float, *, budget: int, floors: Floors, over: float = 0.0) -> None:
    """The budget, reached when the share ``over`` of the stage is done: what may be non-zero falls along a cubic curve
    (arXiv:1710.01878, equation 1)."""
    left = max(0.0, 1 - done / over) ** 3 if over else 0.0
    project(flat, budget + int(left * (flat.numel() - budget)), floors)


def _keep_zero(flat: torch.Tensor, done: float, *, removed: torch.Tensor) -> None:
    flat.masked_fill_(removed, 0.0)


def _nothing(flat: torch.Tensor, done: float) -> None:
    """No constraint: the ranks are the budget."""


def _point(
    run: RunContext,
    schooling: Schooling,
    family: str,
    ratio: float,
    bits: int | None,
    network: nn.Module,
    factors: Factors,
    kept: torch.Tensor,
    seconds: float,
    *,
    lam: float | None = None,
) -> Made:
    """The network with the weights that the file will give, to the bit, and norms that fit them."""
    weights = factors.weights(kept)
    exact(weights, network)
    refresh_norms(run, network, schooling, lam=schooling.lam if lam is None else lam)
    name = f"{family}{f'-{bits}' if bits else ''} {ratio:g}"
    return Made(name, family, ratio, bits, network, weights, seconds)


# What they are worth


def _judged(run: RunContext, made: list[Made], test: Pictures, attack: Attack) -> dict[str, Robustness]:
    """Every point's accuracies; a stage of its own, so that a run that is resumed does not judge twice."""
    state = Values()
    for number in run.steps(len(made), "judge", found=state):
        point = made[number]
        state[point.name] = assess(point.network, test.x, test.y, attack=attack, check=run.check).plain()
    return {name: Robustness.from_plain(values) for name, values in state.items()}


def _keep(run: RunContext, start: Start, made: list[Made], found: Mapping[str, Robustness], test: Pictures) -> None:
    """Save every point, report on it, and write what the page shows."""
    latencies = costs.latencies_ms({point.name: point.network for point in made}, test.shape)
    points, layers, reported = [], [], {}
    for point in made:
        state = weights_of(point.network, start.architecture, start.arch_kwargs)
        if point.weights is None:
            n_weights = sum(weight.numel() for weight in weights_to_compress(point.network).values())
            size = dense_sizes(n_weights, dense_content(state))
        else:
            size = sizes(point.weights, compact_content(state, point.weights))
            layers += layer_rows(point.weights, point.name)
        known = {"family": point.family, "ratio": point.ratio, "bits": point.bits, **size}
        facts = measured(
            found[point.name], macs=costs.macs(point.network, test.shape), params=costs.params(point.network),
            latency_ms=latencies[point.name], seconds=point.seconds,
            macs_nonzero=nonzero_macs(point.network, test.shape), **known,
        )  # fmt: skip
        run.save(
            "dense" if point.weights is None else "compressed", point.network, architecture=start.architecture,
            arch_kwargs=start.arch_kwargs, preprocessing=test.preprocessing, outputs="logits", label=point.name,
            facts={"measured": facts}, compact=point.weights,
        )  # fmt: skip
        reported[point.name] = facts
        points.append({"name": point.name, **known, **{key: facts[key] for key in ("sa", "ra", "ra_independent")}})
    run.report(
        networks=reported, robustness={name: each.plain() for name, each in found.items()}, test_images=len(test)
    )
    write_explorer(run, {"kind": "atmc", "points": points, "layers": layers})
