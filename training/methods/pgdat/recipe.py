"""Adversarial training from top to bottom: the images, the training, and the judges."""

from models_zoo.architectures import build
from training.engine import costs
from training.engine.adversarial import WATCHED, train_plain
from training.engine.attacks import Attack
from training.engine.context import RunContext
from training.engine.pictures import pictures
from training.engine.robustness import assess, measured, require_confirmed
from training.methods.pgdat import PgdatConfig

SHOWN = 8  # training images, in the samples


def train(run: RunContext, config: PgdatConfig) -> None:
    assert run.data is not None
    data, grey = run.data, config.grey
    rows = data.require("train", least=2)
    learnt = pictures(data, rows, side=config.side, grey=grey, most=config.most_images, rng=run.rng("images"))
    side = learnt.shape[2]
    val = pictures(data, data.require("val"), side=side, grey=grey, most=WATCHED, rng=run.rng("val"))
    test = pictures(data, data.require("test"), side=side, grey=grey, most=config.most_test, rng=run.rng("test"))
    attack = Attack(config.eps, config.steps, config.step or config.eps / 4)
    described = {
        "widths": list(config.widths),
        "blocks": list(config.blocks),
        "stem_stride": config.stem_stride,
        "in_channels": learnt.shape[0],
        "num_classes": data.n_classes,
    }
    network = build(config.architecture, **described)
    run.sample("images", list(learnt.x[:SHOWN].permute(0, 2, 3, 1).numpy()), caption="What it learns from")

    seconds = train_plain(
        run, network, learnt, val, stage="train", lam=config.lam, attack=attack, epochs=config.epochs,
        batch=config.batch, rate=config.rate, weight_decay=config.weight_decay, warm_up=config.warm_up,
        pad=config.pad, flip=config.flip,
    )  # fmt: skip

    found = assess(network, test.x, test.y, attack=attack, check=run.check)
    facts = measured(
        found, macs=costs.macs(network, learnt.shape), params=costs.params(network),
        latency_ms=costs.latency_ms(network, learnt.shape), seconds=seconds, lam=config.lam,
    )  # fmt: skip
    saved = run.save(
        "network",
        network,
        architecture=config.architecture,
        arch_kwargs=described,
        preprocessing=learnt.preprocessing,
        outputs="logits",
        label=f"lambda {config.lam:g}",
        facts={"measured": facts},
    )
    run.report(network=saved.facts["measured"], robustness=found.plain(), training_images=len(learnt))
    require_confirmed({saved.label: found})
