"""Early exits by the clock: leaving early against computing everything, and max-average attacks in one batch.

    python -m benchmarks.bench_rdi [--images 2000] [--dry]

* Inference of the authors' ResNet-38 checkpoint (a network of random weights where the data folder lacks it): the
  network without its early exits; all exits computed and routed image by image, as the released code does; leaving
  early with what remains compacted, at the official thresholds, at thresholds tuned for honest budgets on half of the
  images, and at the cheapest budget in time at which that half shows the accuracy of the network without early exits.
  Accuracy and speed are of the other half; speed in batches of 100 and of images that come alone.
* One max-average attack on a batch: an attack per exit, each through the whole network in training mode with open
  parameters, as the released code does; here, every copy up to its own exit, all in one batch, parameters frozen.

One thread, float32; ratios are from turns of one process.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from benchmarks.report import markdown_table, write_section
from benchmarks.robust_data import DATA, cifar_data
from models_zoo.adapters.weights import load_into, read_state_dict
from models_zoo.architectures import build
from models_zoo.architectures.rdi import RdiResNet
from training.engine.attacks import Attack, attacking
from training.engine.pictures import Pictures, pictures, unit
from training.methods.rdi.attacks import losses_of_all, maker, max_average
from training.methods.rdi.judging import hear, mac_table
from training.methods.rdi.routing import MacTable, Said, for_budget, mean_macs, routed_right

CHECKPOINT = DATA / "cifar10" / "weights" / "rdi_resnet38_maxavg_60000.pth.tar"
OFFICIAL = (0.26419, 0.36976, 0.36145, 0.76639, 1.03506, 1.30606)
BUDGETS = (0.6, 0.75, 0.9)  # honest, as shares of the network's MACs
BATCH, ALONE = 100, 40
TURNS = 3
ATTACKED = 32  # images of one attack
ATTACK = Attack(8 / 255, 5, 2 / 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network, what = published()
    text = "\n\n".join(
        (
            "## Early exits: leaving early, attacks on several exits",
            "`python -m benchmarks.bench_rdi`",
            f"{what}. One thread, float32.",
            inference(network, options.images),
            training(),
        )
    )
    if options.dry:
        print(text)
    else:
        write_section("rdi", text)


def published() -> tuple[RdiResNet, str]:
    torch.manual_seed(0)
    network = build("rdi_resnet")
    assert isinstance(network, RdiResNet)
    if not CHECKPOINT.exists():
        return network, "ResNet-38 with six early exits and random weights: accuracies say nothing"
    load_into(network, read_state_dict(CHECKPOINT), architecture="rdi_resnet", weights=CHECKPOINT.name)
    return network, "The authors' ResNet-38 with six early exits, on CIFAR-10 test images (JPEG copies)"


def inference(network: RdiResNet, n: int) -> str:
    network.to(memory_format=torch.channels_last)
    if CHECKPOINT.exists():
        data = cifar_data(train=10, val=10, test=n)
        test = pictures(data, data.rows("test"))
    else:
        pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8))
        test = Pictures(pixels, torch.zeros(n, dtype=torch.int64), np.arange(n))
    said = hear(network, test).said
    order = np.random.default_rng(0).permutation(n)
    known, held = order[: n // 2], order[n // 2 :]
    own, rest = (Said(said.entropies[:, part], said.right[:, part]) for part in (known, held))
    table = mac_table(network, (3, 32, 32))
    shut = (0.0,) * len(OFFICIAL)
    ways = {"official thresholds": OFFICIAL} | {
        f"tuned for {share:.0%} of the MACs": for_budget("tuned", own, [own], table, share * table.whole)
        for share in BUDGETS
    }
    x = unit(test.x[torch.from_numpy(held)])
    clock = time_table(network, x[:BATCH])
    ways["as accurate as one exit, tuned for time"] = cheapest(own, clock)
    calls: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "one exit": network.backbone,
        "all exits, then a loop over images": lambda batch: looped(network, batch),
    }
    thresholds = {"one exit": shut, "all exits, then a loop over images": OFFICIAL} | ways
    calls |= {name: (lambda batch, own=own: leaving(network, batch, own)) for name, own in ways.items()}
    batches, alone = x.split(BATCH), x[:ALONE].split(1)
    in_batches = {name: [] for name in calls}
    by_itself = {name: [] for name in calls}
    with torch.inference_mode():
        for turn in range(TURNS + 1):
            for name, call in calls.items():
                for taken, parts in ((in_batches, batches), (by_itself, alone)):
                    seconds = timed(call, parts)
                    if turn:
                        taken[name].append(seconds / sum(len(part) for part in parts))
    one, one_alone = (statistics.median(each["one exit"]) for each in (in_batches, by_itself))
    rows = []
    for name in calls:
        paper, honest = mean_macs(rest, thresholds[name], table)
        if name == "all exits, then a loop over images":
            honest = float(table.honest([1.0] * len(OFFICIAL))[-1])
        seconds, seconds_alone = statistics.median(in_batches[name]), statistics.median(by_itself[name])
        rows.append([
            name, f"{100 * routed_right(rest, thresholds[name]).mean():.1f}", f"{paper / 2**20:.1f}",
            f"{honest / 2**20:.1f}", f"{1 / seconds:,.0f}", f"{one / seconds:.2f}", f"{1000 * seconds_alone:.2f}",
            f"{one_alone / seconds_alone:.2f}",
        ])  # fmt: skip
    header = ["", "accuracy %", "MACs (Mi), paper's count", "honest", "images/s", "speed-up", "ms, alone", "speed-up"]
    return f"{len(rest.right[0])} images.\n\n{markdown_table(header, rows)}"


def cheapest(said: Said, table: MacTable) -> tuple[float, ...]:
    """Thresholds of the least budget at which the routed network is as accurate as its last exit."""
    for budget in np.linspace(1.001 * (table.prefix[0] + table.head[0]), table.whole, 15)[:-1]:
        found = for_budget("tuned", said, [said], table, float(budget))
        if routed_right(said, found).mean() >= said.right[-1].mean():
            return found
    return (0.0,) * (len(said.right) - 1)


def time_table(network: RdiResNet, batch: torch.Tensor) -> MacTable:
    """Seconds of a batch instead of MACs: up to each exit, and of each head."""
    taken: list[list[float]] = []
    with torch.inference_mode():
        for _ in range(TURNS + 1):
            heads = [*network.heads, network.backbone.head]
            own = []
            for number, head in enumerate(heads):
                seen = network.prefix(batch, number)
                own += [timed(lambda x, at=number: network.prefix(x, at), [batch]), timed(head, [seen])]
            taken.append(own)
    median = np.median(taken[1:], axis=0).reshape(-1, 2)
    return MacTable(np.maximum.accumulate(median[:, 0]), median[:, 1], median[:, 1])


def leaving(network: RdiResNet, batch: torch.Tensor, thresholds: Sequence[float]) -> torch.Tensor:
    network.thresholds = tuple(thresholds)
    return network(batch)


def looped(network: RdiResNet, batch: torch.Tensor) -> torch.Tensor:
    """Everything is computed, then each image is looked at."""
    every = network(batch, every=True).softmax(2)
    chosen = []
    for image in range(len(batch)):
        for number in range(network.n_exits):
            p = every[number, image]
            is_last = number == network.n_exits - 1
            if is_last or float(-(p * (p + 1e-5).log()).sum()) < OFFICIAL[number]:
                chosen.append(p)
                break
    return torch.stack(chosen)


def training() -> str:
    """Seconds of one max-average attack, as a loop and as here."""
    rows = []
    for name, kwargs in (
        ("ResNet-38, six early exits", {}),
        ("ResNet-14, two early exits, small preset",
         {"blocks": [2, 2, 2], "exits": [2, 4], "heads": "light", "stem_stride": 2}),
    ):  # fmt: skip
        torch.manual_seed(0)
        network = build("rdi_resnet", **kwargs)
        assert isinstance(network, RdiResNet)
        network.to(memory_format=torch.channels_last)
        x = torch.rand(ATTACKED, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        y = torch.randint(0, 10, (ATTACKED,))
        loops, ours = [], []
        for turn in range(TURNS + 1):
            for taken, attack in ((loops, loop_attack), (ours, our_attack)):
                started = time.perf_counter()
                attack(network, x, y)
                if turn:
                    taken.append(time.perf_counter() - started)
        loop, own = statistics.median(loops), statistics.median(ours)
        rows.append([name, f"{loop:.2f}", f"{own:.2f}", f"{loop / own:.2f}"])
    header = [f"max-average attack, {ATTACKED} images, {ATTACK.steps} steps", "loop, s", "here, s", "ratio"]
    return markdown_table(header, rows)


def our_attack(network: RdiResNet, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with attacking(network):
        return max_average(network, x, y, maker("pgd", ATTACK))


def loop_attack(network: RdiResNet, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    network.train().requires_grad_(True)
    candidates, totals = [], []
    for number in range(network.n_exits):
        moved = (x + torch.empty_like(x).uniform_(-ATTACK.eps, ATTACK.eps)).clamp(0, 1)
        for _ in range(ATTACK.steps):
            moved = moved.detach().requires_grad_(True)
            functional.cross_entropy(network(moved, every=True)[number], y, reduction="sum").backward()
            assert moved.grad is not None
            moved = torch.clamp(moved + ATTACK.step * moved.grad.sign(), x - ATTACK.eps, x + ATTACK.eps).clamp(0, 1)
            network.zero_grad()
        candidates.append(moved.detach())
        with torch.no_grad():
            totals.append(losses_of_all(network, moved, y).sum(0))
    chosen = torch.stack(totals).argmax(0)
    return torch.stack(candidates)[chosen, torch.arange(len(y))]


def timed(call: Callable[[torch.Tensor], torch.Tensor], batches: Sequence[torch.Tensor]) -> float:
    started = time.perf_counter()
    for batch in batches:
        call(batch)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
