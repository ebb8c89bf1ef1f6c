"""Early exits: routing and budgets, the attacks on several exits, and what a run leaves behind."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.robust_data import DATA, cifar_data, data_of, digits_data
from models_zoo.adapters.weights import load_into, read_state_dict
from models_zoo.architectures import build
from models_zoo.architectures.rdi import RdiResNet, entropy
from training.engine.attacks import Attack, attacking, pgd
from training.engine.devices import Resources
from training.engine.explore import check_explorer
from training.engine.labels import LabelledData
from training.engine.local import RunResult, run_method
from training.engine.pictures import Pictures, pictures
from training.engine.registry import BadConfig, MethodConfig, method
from training.methods.rdi import attacks
from training.methods.rdi.judging import (
    at_thresholds,
    hear,
    hear_under_attacks,
    judge,
    mac_table,
    routing_aware_hits,
    speeds,
)
from training.methods.rdi.points import at_thresholds as point_at
from training.methods.rdi.routing import (
    MacTable,
    Said,
    both_accuracies,
    by_shares,
    equal_shares,
    for_budget,
    mean_macs,
    route,
    routed_right,
    shares,
    tuned,
)

CPU = Resources(device="cpu")
MI = 2**20
SMALL = {"widths": [4, 8], "blocks": [2, 2], "exits": [1, 3], "heads": "light", "num_classes": 10}
TINY: dict[str, Any] = {
    "widths": (4, 8), "blocks": (1, 2), "exits": (1, 2), "epochs": 2, "standard_epochs": 1, "steps": 2,
    "test_steps": 2, "most_test": 30, "most_val": 40, "budgets": (0.6, 1.0),
}  # fmt: skip
WEIGHTS = DATA / "cifar10" / "weights" / "rdi_resnet38_maxavg_60000.pth.tar"
OFFICIAL = (0.26419, 0.36976, 0.36145, 0.76639, 1.03506, 1.30606)


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return digits_data(train=200, val=40, test=40)


@pytest.fixture(scope="module")
def learnt() -> RdiResNet:
    """A small network after a few steps on digits, so that gradients and exits mean something."""
    torch.manual_seed(0)
    net = build("rdi_resnet", **SMALL)
    assert isinstance(net, RdiResNet)
    data = digits_data(train=600)
    some = pictures(data, data.rows("train"))
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    net.train()
    for step in range(60):
        chosen = torch.randint(len(some), (64,), generator=torch.Generator().manual_seed(step))
        logits = net(some.x[chosen].float() / 255, every=True)
        loss = sum(functional.cross_entropy(each, some.y[chosen]) for each in logits)
        optimiser.zero_grad()
        torch.as_tensor(loss).backward()
        optimiser.step()
    return net.eval()


def some_digits(n: int) -> Pictures:
    data = digits_data(train=50)
    return pictures(data, data.rows("test")).first(n)


def random_said(seed: int, n_exits: int = 3, n: int = 40) -> Said:
    rng = np.random.default_rng(seed)
    sure = np.sort(rng.uniform(0, 2.3, (n_exits, n)), axis=0)[::-1]
    return Said(sure.astype(np.float32).astype(float), rng.random((n_exits, n)) > sure / 3)


TABLE = MacTable(np.array([10.0, 20.0, 30.0]), np.array([4.0, 2.0, 1.0]), np.array([3.0, 1.0, 0.0]))


def slow_cost(thresholds: tuple[float, ...], leaving: int, table: MacTable) -> float:
    cost = table.prefix[leaving] + table.head[leaving]
    return cost + sum(table.head[at] for at in range(leaving) if thresholds[at] > 0)


# Routing and budgets


def test_equal_shares_leave_at_every_exit() -> None:
    said = random_said(0, n_exits=4, n=400)
    thresholds = equal_shares(said.entropies)
    np.testing.assert_allclose(shares(said, thresholds), 0.25, atol=0.005)
    waiting = list(range(400))
    for number, threshold in enumerate(thresholds):  # the slow way: sort those that are left, cut, go on
        waiting.sort(key=lambda image: said.entropies[number, image])
        assert threshold == said.entropies[number, waiting[100]]
        waiting = waiting[100:]


def test_shares_at_their_ends() -> None:
    said = random_said(1)
    assert by_shares(said.entropies, [0, 0, 1]) == (0.0, 0.0)
    everyone = by_shares(said.entropies, [1, 0, 0])
    assert shares(said, everyone).tolist() == [1, 0, 0]
    assert shares(said, (math.log(10) + 1, 0)).tolist() == [1, 0, 0]
    assert shares(said, (0, 0)).tolist() == [0, 0, 1]


def test_costs_count_what_was_evaluated_and_rejected() -> None:
    said = random_said(2)
    for thresholds in ((1.2, 0.9), (0.0, 0.9), (1.2, 0.0), (0.0, 0.0)):
        exits = route(said.entropies, thresholds)
        paper, honest = mean_macs(said, thresholds, TABLE)
        assert honest == pytest.approx(np.mean([slow_cost(thresholds, at, TABLE) for at in exits]))
        assert paper == pytest.approx(np.mean(TABLE.paper()[exits]))
    assert TABLE.honest((0, 0))[-1] == TABLE.whole == 31


def test_a_cut_is_the_best_of_all_cuts() -> None:
    for seed, price in itertools.product(range(4), (0.0, 0.005, 0.02)):
        said = [random_said(seed), random_said(seed + 10, n=25), random_said(seed + 20)]

        def value(thresholds: tuple[float, ...], said: list[Said] = said, price: float = price) -> float:
            found = []
            for each in said:
                exits = route(each.entropies, thresholds)
                costs = np.array([slow_cost(thresholds, at, TABLE) for at in exits])
                found.append(np.mean(routed_right(each, thresholds) - price * costs))
            return float(found[0] + np.mean(found[1:]))

        ended = tuned(said[0], said[1:], TABLE, price, (0.0, 0.0))
        for number in range(2):
            every = [0.0, 9.0, *np.concatenate([each.entropies[number] for each in said])]
            best = max(value((*ended[:number], float(cut), *ended[number + 1 :])) for cut in every)
            assert value(ended) == pytest.approx(best)
        assert value(ended) >= value((0.0, 0.0))


@pytest.mark.parametrize("rule", ["shares", "tuned"])
def test_budgets_are_kept(rule: Any) -> None:
    clean, attacked = random_said(3, n=200), [random_said(4, n=200), random_said(5, n=200)]
    accuracies = []
    for budget in (16, 20, 24, 28, 31):
        thresholds = for_budget(rule, clean, attacked, TABLE, budget)
        assert mean_macs(clean, thresholds, TABLE)[1] <= budget
        accuracies.append(both_accuracies(clean, attacked, thresholds))
    assert for_budget(rule, clean, attacked, TABLE, 99) == (0.0, 0.0)
    assert mean_macs(clean, for_budget(rule, clean, attacked, TABLE, 24), TABLE)[1] > 20  # and used
    if rule == "tuned":
        plain = [for_budget("shares", clean, attacked, TABLE, budget) for budget in (16, 20, 24, 28)]
        for ours, theirs in zip(accuracies, plain, strict=False):
            assert ours >= both_accuracies(clean, attacked, theirs)
    with pytest.raises(ValueError, match="below 14, what the first exit alone costs"):
        for_budget(rule, clean, attacked, TABLE, 5)


def test_macs_of_the_published_network() -> None:
    net = build("rdi_resnet")
    assert isinstance(net, RdiResNet)
    table = mac_table(net, (3, 32, 32))
    np.testing.assert_allclose(table.paper() / MI, [16.79, 30.29, 36.54, 50.04, 61.42, 74.92, 79.42], atol=0.01)
    assert table.honest([1.0] * 6)[-1] / MI == pytest.approx(96.4, abs=0.05)
    assert table.honest([1.0] * 6)[1] / MI == pytest.approx(37.7, abs=0.05)


def test_a_table_agrees_with_what_routing_computes() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    net = build("rdi_resnet", **SMALL)
    assert isinstance(net, RdiResNet)
    table, x = mac_table(net, (3, 16, 16)), torch.rand(12, 3, 16, 16)
    with torch.no_grad():
        own = entropy(net(x, every=True)).quantile(0.5, dim=1)[:2].tolist()
        for thresholds in (tuple(own), (0.0, own[1]), (own[0], 0.0)):
            net.thresholds = thresholds
            with FlopCounterMode(display=False) as counter:
                exits = net.routed(x).exit
            assert counter.get_total_flops() / 2 == table.honest(thresholds)[exits.numpy()].sum()


# Attacks


def test_single_attacks_in_one_batch_are_single_attacks(learnt: RdiResNet) -> None:
    some = some_digits(8)
    x, y = some.x.float() / 255, some.y
    attack = Attack(0.1, 3, 0.04, random_start=False)
    with attacking(learnt):
        together = attacks.all_singles(learnt, x, y, attacks.maker("pgd", attack))
        for number in range(3):
            alone = pgd(lambda z, number=number: functional.cross_entropy(  # type: ignore[misc]
                learnt(z, every=True)[number], y, reduction="none"), x, attack)  # fmt: skip
            torch.testing.assert_close(together[number], alone)


@pytest.mark.parametrize("kind", ["pgd", "fgsm", "wrm"])
def test_max_average_takes_the_worst_candidate_of_each_image(learnt: RdiResNet, kind: str) -> None:
    some = some_digits(20)
    x, y = some.x.float() / 255, some.y
    attack = Attack(0.1, 3, 0.04)
    with attacking(learnt):
        candidates = attacks.all_singles(learnt, x, y, attacks.maker(kind, attack))
        chosen = attacks.worst_for_all(learnt, candidates, y)

        def total(images: torch.Tensor) -> torch.Tensor:
            return torch.stack(
                [functional.cross_entropy(learnt.at(images, at), y, reduction="none") for at in range(3)]
            ).sum(0)

        with torch.no_grad():
            own, others = total(chosen), torch.stack([total(each) for each in candidates])
    assert (own >= others.max(0).values - 1e-5).all()
    assert len(set(others.argmax(0).tolist())) > 1
    if kind != "wrm":
        assert (chosen - x).abs().max() <= 0.1 + 1e-6
    assert chosen.min() >= 0
    assert chosen.max() <= 1


def test_routing_aware_attacks_the_exit_that_answers(learnt: RdiResNet) -> None:
    some = some_digits(16)
    x, y = some.x.float() / 255, some.y
    with attacking(learnt), torch.no_grad():
        every = learnt(x, every=True)
        thresholds = tuple(entropy(every).quantile(0.5, dim=1)[:2].tolist())
        with at_thresholds(learnt, thresholds):
            losses = attacks.routing_aware(learnt, y)(x)
            exits = learnt.routed(x).exit
        assert learnt.thresholds == (0.0, 0.0)
        assert len(set(exits.tolist())) > 1
        expected = functional.cross_entropy(every[exits, torch.arange(16)], y, reduction="none")
    torch.testing.assert_close(losses, expected)


def test_the_headline_is_the_worst_attack(learnt: RdiResNet) -> None:
    some = some_digits(60)
    attack = Attack(0.06, 5, 0.02)
    clean = hear(learnt, some).said
    with at_thresholds(learnt, equal_shares(clean.entropies)):
        attacked = hear_under_attacks(learnt, some, attack, shown=3)
        said = {name: each.said for name, each in attacked.items()}
        judged = judge(learnt, some, clean, said, attack)
        routed = routing_aware_hits(learnt, some, routed_right(clean, learnt.thresholds), attack)
        with torch.no_grad():
            found = learnt.routed(some.x.float() / 255)
    assert list(judged.attacks) == [
        "single, exit 1", "single, exit 2", "single, last exit", "average", "max-average", "routing-aware",
    ]  # fmt: skip
    found_right = (found.logits.argmax(1) == some.y).float().mean().item()
    assert judged.robustness.sa.value == pytest.approx(found_right)
    assert judged.robustness.ra.value == min(float(hits.mean()) for hits in judged.attacks.values())
    assert judged.attacks["routing-aware"].mean() == routed.mean()
    assert judged.robustness.ra_strong.value <= judged.robustness.ra.value <= judged.robustness.sa.value
    assert judged.robustness.is_confirmed
    assert attacked["average"].images.shape == (3, 3, 8, 8)
    assert attacked["average"].probabilities.sum(2) == pytest.approx(1, abs=1e-5)


# Runs


def configured(**values: Any) -> MethodConfig:
    return method("rdi").configure("digits", **{**TINY, **values})


def trained(directory: Path, data: LabelledData, **values: Any) -> RunResult:
    return run_method("rdi", config=configured(**values), directory=directory, data=data, resources=CPU)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits: LabelledData) -> RunResult:
    return trained(tmp_path_factory.mktemp("rdi"), digits, compare=("average",))


def test_a_run_leaves_versions_and_a_page(whole: RunResult) -> None:
    roles = [output.role for output in whole.outputs]
    assert sorted(roles) == ["narrow", "network", "other defence", "single"]
    for output in whole.outputs:
        told = output.facts["measured"]
        assert {"sa", "ra", "ra_strong", "ra_independent", "macs", "bytes", "seconds", "latency_ms"} <= set(told)
        assert told["images_per_second"] > 0
    network = whole.network("network")
    told = network.facts["measured"]
    assert told["macs"] < told["macs_whole"] == whole.network("single").facts["measured"]["macs"]
    assert told["ra"]["value"] == min(told["ra_by_attack"].values())
    assert whole.network("narrow").facts["measured"]["macs"] <= told["macs_whole"]
    explorer = json.loads((whole.directory / "artifacts" / "explore.json").read_text())
    checked = check_explorer(explorer)
    assert len(checked.exits) == 3
    assert explorer["sprites"]["attacked"]["n"] == 30
    module = network.module()
    assert isinstance(module, RdiResNet)
    assert module.thresholds == tuple(network.facts["thresholds"])


def test_the_page_routes_as_the_network_does(whole: RunResult, digits: LabelledData) -> None:
    explorer = json.loads((whole.directory / "artifacts" / "explore.json").read_text())
    test = pictures(digits, digits.rows("test"), most=30, rng=np.random.default_rng(
        np.random.SeedSequence([0, _number("test")])))  # fmt: skip
    for point in explorer["points"]:
        made = point_at(whole.network("network"), {"thresholds": point["thresholds"]})
        assert made.arch_kwargs["thresholds"] == point["thresholds"]
        assert isinstance(made.module, RdiResNet)
        with torch.no_grad():
            found = made.module.routed(test.x.float() / 255)
        sure = np.array(explorer["entropies"]).T
        assert route(sure, point["thresholds"]).tolist() == found.exit.tolist()
        said = [explorer["predictions"][image][at][0] for image, at in enumerate(found.exit.tolist())]
        assert said == found.logits.argmax(1).tolist()
        assert float(np.mean(found.logits.argmax(1).numpy() == test.y.numpy())) == pytest.approx(point["sa"]["value"])


def _number(part: str) -> int:
    from training.engine.context import _as_number

    return _as_number(part)


def test_thresholds_never_see_test_images(tmp_path: Path, digits: LabelledData, whole: RunResult) -> None:
    everything = digits.rows()
    pixels = np.stack([digits.pixels(int(index)) for index in everything.indices])
    is_test = everything.split == "test"
    pixels[is_test] = 255 - pixels[is_test]
    other = data_of(pixels, everything.label, everything.split.tolist(), name="other tests")
    again = trained(tmp_path / "run", other, baselines=False)
    assert again.network("network").facts["thresholds"] == whole.network("network").facts["thresholds"]
    assert again.network("network").facts["measured"]["sa"] != whole.network("network").facts["measured"]["sa"]


def test_stopped_and_resumed_it_gives_the_same_bytes(tmp_path: Path, digits: LabelledData, whole: RunResult) -> None:
    def stop(where: Any) -> None:
        if where.stage == "single" and where.done == 2:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {"config": configured(compare=("average",)), "data": digits, "resources": CPU}
    with pytest.raises(KeyboardInterrupt):
        run_method("rdi", directory=tmp_path / "stopped", progress=stop, **arguments)
    resumed = run_method("rdi", directory=tmp_path / "stopped", **arguments)
    assert [output.sha256 for output in resumed.outputs] == [output.sha256 for output in whole.outputs]
    assert resumed.network("network").facts["thresholds"] == whole.network("network").facts["thresholds"]


def test_points_that_are_none_are_refused(whole: RunResult) -> None:
    network = whole.network("network")
    for point in ({}, {"thresholds": "0.1"}, {"thresholds": [True, 1.0]}):
        with pytest.raises(ValueError, match="give a number of nats for each early exit"):
            point_at(network, point)
    with pytest.raises(ValueError, match="3 thresholds for 2 early exits"):
        point_at(network, {"thresholds": [1, 1, 1]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eps": 0.0}, 'set the defence to "none"'),
        ({"exits": (1, 2, 3)}, "3 early exits in a network of 3 blocks: give at most 2"),
        ({"exits": (2, 1)}, "ascending"),
        ({"widths": (0, 8)}, "a width is 0"),
        ({"blocks": (3,)}, "2 widths and 1 numbers of blocks"),
        ({"weights": (1.0,)}, "1 weights of exits: give 3"),
        ({"standard_epochs": 2}, "none is left for the defence"),
        ({"budgets": (1.5,)}, "a budget is 1.5"),
        ({"heads": "wide"}, "heads"),
    ],
)
def test_configs_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        configured(**values)


def test_leaving_early_saves_time() -> None:
    torch.manual_seed(0)
    net = build("rdi_resnet", blocks=[4, 4, 4], exits=[2, 6], heads="light")
    some = Pictures(torch.randint(0, 256, (120, 3, 32, 32), dtype=torch.uint8), torch.zeros(120), np.arange(120))
    assert isinstance(net, RdiResNet)
    found = speeds({"first": (net, (9.0, 9.0)), "plain": (net.backbone, None)}, some)
    assert found["first"][0] > 1.5 * found["plain"][0]
    assert found["first"][1] < found["plain"][1]


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.exists(), reason="the RDI-Nets checkpoint is not in the data folder")
def test_the_published_network_on_real_images() -> None:
    net = build("rdi_resnet", thresholds=OFFICIAL)
    assert isinstance(net, RdiResNet)
    load_into(net, read_state_dict(WEIGHTS), architecture="rdi_resnet", weights=WEIGHTS.name)
    data = cifar_data(train=10, val=10, test=500)
    test = pictures(data, data.rows("test"))
    clean = hear(net, test).said
    with torch.no_grad():
        routed = [net.routed(part) for part in (test.x.float() / 255).split(100)]
    exits = torch.cat([each.exit for each in routed])
    assert (exits.numpy() == route(clean.entropies, OFFICIAL)).all()
    assert routed_right(clean, OFFICIAL).mean() == pytest.approx(0.822, abs=0.05)
    paper, honest = mean_macs(clean, OFFICIAL, mac_table(net, (3, 32, 32)))
    assert paper / MI == pytest.approx(54, abs=3)
    assert honest > paper
    some = test.first(100)
    attack = Attack(8 / 255, 5, 2 / 255)
    right = routed_right(hear(net, some).said, OFFICIAL)
    routing = routing_aware_hits(net, some, right, attack).mean()
    said = hear_under_attacks(net, some, attack)
    published = min((right & routed_right(each.said, OFFICIAL)).mean() for each in said.values())
    assert routing < published  # the attack that the paper does not run is the stronger
