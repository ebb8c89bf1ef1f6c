"""Attacks, the judges of robustness, costs, and pictures in memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from benchmarks.robust_data import digits_data
from models_zoo.adapters.prepare import Prepared
from training.engine import costs
from training.engine.attacks import Attack, BadAttack, Loss, attacking, cross_entropy, fgsm, pgd, wrm
from training.engine.labels import LabelledData, LabelsError
from training.engine.measures import Measured
from training.engine.pictures import augmented, pictures, plain_batch
from training.engine.robustness import Robustness, Unconfirmed, assess, measured, require_confirmed, still_right

EPS = 8 / 255


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return digits_data(train=300, val=100, test=100)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(8 * 64, 10),
        )  # fmt: skip


def batch(n: int = 6, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, 3, 8, 8), generator=generator), torch.randint(10, (n,), generator=generator)


def by_hand(loss: Loss, x: torch.Tensor, start: torch.Tensor, attack: Attack) -> torch.Tensor:
    """Projected gradient ascent as the paper writes it, image by image and pixel by pixel."""
    found = start.clone()
    for _ in range(attack.steps):
        leaf = found.clone().requires_grad_(True)
        loss(leaf).sum().backward()
        assert leaf.grad is not None
        found = found + attack.step * leaf.grad.sign()
        found = torch.minimum(torch.maximum(found, x - attack.eps), x + attack.eps).clamp(0, 1)
    return found


def test_pgd_is_projected_gradient_ascent() -> None:
    net, (x, y) = network().eval(), batch()
    attack = Attack(EPS, 5, EPS / 4)
    start = x + torch.empty_like(x).uniform_(-EPS, EPS, generator=torch.Generator().manual_seed(3))
    expected = by_hand(cross_entropy(net, y), x, start.clamp(0, 1), attack)
    got = pgd(cross_entropy(net, y), x, attack, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(got, expected)
    again = pgd(cross_entropy(net, y), x, Attack(EPS, 1, EPS, random_start=False))
    assert torch.equal(fgsm(cross_entropy(net, y), x, EPS), again)


@given(
    eps=st.floats(1e-3, 1.0),
    steps=st.integers(1, 4),
    step=st.floats(1e-3, 2.0),
    restarts=st.integers(1, 2),
    keep=st.sampled_from(["last", "best"]),
)
@settings(max_examples=25, deadline=None)
def test_attacked_images_stay_in_the_ball_and_in_range(
    eps: float, steps: int, step: float, restarts: int, keep: Any
) -> None:
    net, (x, y) = network().eval(), batch(3)
    got = pgd(cross_entropy(net, y), x, Attack(eps, steps, step, restarts), keep=keep)
    assert float((got - x).abs().max()) <= eps + 1e-6
    assert float(got.min()) >= 0
    assert float(got.max()) <= 1
    assert not got.requires_grad


def test_the_best_point_is_no_worse_than_the_last_and_restarts_help() -> None:
    net, (x, y) = network().eval(), batch(32)
    loss = cross_entropy(net, y)
    far = Attack(EPS, 4, EPS * 1.9)  # steps too long: the end of the ascent is not its top
    last = loss(pgd(loss, x, far, generator=torch.Generator().manual_seed(5)))
    best = loss(pgd(loss, x, far, keep="best", generator=torch.Generator().manual_seed(5)))
    several = loss(pgd(loss, x, Attack(EPS, 4, EPS * 1.9, 4), generator=torch.Generator().manual_seed(5)))
    assert bool((best >= last - 1e-6).all())
    assert bool((best > last + 1e-3).any())
    assert bool((several >= last - 1e-6).all())


def test_attacking_leaves_the_network_as_it_was() -> None:
    net, (x, y) = network(), batch()
    net.train()
    net[1].eval()  # a frozen norm
    net[0].bias.requires_grad_(False)
    statistics = {name: value.clone() for name, value in net.state_dict().items()}
    with attacking(net):
        assert not any(part.training for part in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
        pgd(cross_entropy(net, y), x, Attack(EPS, 2, EPS / 2))
    assert [part.training for part in net.modules()] == [True, True, False, True, True, True, True]
    assert [name for name, value in net.named_parameters() if not value.requires_grad] == ["0.bias"]
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, statistics[name]) for name, value in net.state_dict().items())
    with pytest.raises(RuntimeError), attacking(net):
        raise RuntimeError
    assert net.training


def test_wrm_is_ascent_on_the_penalised_loss() -> None:
    net, (x, y) = network().eval(), batch()
    loss = cross_entropy(net, y)
    expected = x.clone()
    for number in range(1, 4):
        leaf = expected.clone().requires_grad_(True)
        (1.3 * loss(leaf) - (leaf - x).square().sum((1, 2, 3)) / 2).sum().backward()
        assert leaf.grad is not None
        expected = (expected + leaf.grad / number**0.5).clamp(0, 1)
    got = wrm(loss, x, gamma=1.3, steps=3)
    torch.testing.assert_close(got, expected)
    assert bool((loss(got) > loss(x)).all())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Attack(0, 5, 0.01), "eps is 0: give a radius above 0"),
        (lambda: Attack(-1, 5, 0.01), "eps is -1"),
        (lambda: Attack(float("nan"), 5, 0.01), "eps is nan"),
        (lambda: Attack(EPS, 0, 0.01), "steps is 0: give at least 1"),
        (lambda: Attack(EPS, 5, 0), "step is 0: give more than 0"),
        (lambda: Attack(EPS, 5, 0.01, 2, random_start=False), "set random_start"),
        (lambda: wrm(lambda x: x.sum((1, 2, 3)), batch()[0], gamma=0), "give a gamma above 0"),
        (lambda: fgsm(lambda x: x.sum((1, 2, 3)), batch()[0] * 255, EPS), r"not in \[0, 1\]: divide bytes by 255"),
        (lambda: fgsm(lambda x: x.sum((1, 2, 3)), batch()[0] - 0.5, EPS), r"not in \[0, 1\]"),
        (lambda: fgsm(lambda x: x.sum((1, 2, 3)), batch()[0] * torch.nan, EPS), r"not in \[0, 1\]"),
        (lambda: fgsm(lambda x: x.sum((1, 2, 3)), batch()[0].byte(), EPS), "divide bytes by 255"),
        (lambda: fgsm(lambda x: x.mean(), batch()[0], EPS), "give one number an image"),
    ],
)
def test_bad_attacks_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(BadAttack, match=words):
        make()


def test_words_of_an_attack() -> None:
    assert str(Attack(EPS, 7, 2 / 255)) == "PGD-7, eps 8/255, step 2/255"
    assert str(Attack(EPS, 20, 2 / 255, 2)) == "PGD-20, eps 8/255, step 2/255, 2 restarts"


def fitted(data: LabelledData) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A network that knows the digits, with test images."""
    net, train = network(), pictures(data, data.rows("train"))
    net[3].p = 0.0
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(30):
        loss = functional.cross_entropy(net(plain_batch(train, slice(None))), train.y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    test = pictures(data, data.rows("test"))
    return net, test.x, test.y


def test_every_judge_says_what_was_seen(digits: LabelledData) -> None:
    net, x, y = fitted(digits)
    before = torch.random.get_rng_state()
    checks: list[int] = []
    found = assess(net, x, y, attack=Attack(0.1, 5, 0.03), batch=64, check=lambda: checks.append(1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert net.training
    assert len(checks) == 2 * 4
    predicted = net.eval()(x.float() / 255).argmax(1)
    assert found.sa.value == pytest.approx(float((predicted == y).float().mean()))
    assert found.sa.value > 0.85
    assert found.ra_independent is not None
    assert found.sa.value > found.ra.value >= found.ra_strong.value
    assert found.gap == pytest.approx(found.ra_strong.value - found.ra_independent.value)
    assert found.is_confirmed
    assert found.sa.low < found.sa.value < found.sa.high
    assert (found.n, found.attack) == (100, "PGD-5, eps 25.5/255, step 7.65/255")
    assert assess(net, x, y, attack=Attack(0.1, 5, 0.03), batch=64) == found
    told = measured(found, macs=1, params=2, latency_ms=3.0, bytes=4, seconds=5.0, family="none")
    assert (told["sa"], told["eps"]) == (found.sa.plain(), 0.1)
    assert set(told) == {
        "images", "sa", "ra", "ra_strong", "ra_independent", "eps", "attack", "macs", "params", "latency_ms", "bytes",
        "seconds", "confirmed", "family",
    }  # fmt: skip


def test_still_right_agrees_with_a_plain_loop(digits: LabelledData) -> None:
    net, x, y = fitted(digits)
    net.eval()
    images = x.float() / 255
    moved = fgsm(cross_entropy(net, y), images, 0.1)
    expected = (net(images).argmax(1) == y) & (net(moved).argmax(1) == y)
    got = still_right(net, x, y, lambda a, b: fgsm(cross_entropy(net, b), a, 0.1), batch=33)
    assert got.tolist() == expected.tolist()


class Masked(nn.Module):
    """Rounds its input to eight levels, through which no gradient comes, except for a misleading one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.round(x * 1000) / 1000)


def test_masked_gradients_are_found_out(digits: LabelledData) -> None:
    net, x, y = fitted(digits)
    found = assess(Masked(net), x, y, attack=Attack(0.1, 5, 0.03), surrogate=net)
    assert found.is_confirmed is False
    assert found.ra_independent is not None
    assert found.ra_strong.value - found.ra_independent.value > 0.1
    with pytest.raises(Unconfirmed, match=r'"rounded" is right on .* % under our PGD-20.*gradient masking'):
        require_confirmed({"rounded": found})
    unjudged = assess(Masked(net), x, y, attack=Attack(0.1, 1, 0.03), independent=False)
    assert unjudged.is_confirmed is None
    require_confirmed({"rounded": unjudged})


def test_a_gap_of_two_points_is_still_confirmed() -> None:
    def of(strong: float, independent: float, n: int = 1000) -> Robustness:
        a, b = (Measured(value, value, value) for value in (strong, independent))
        return Robustness(a, a, a, b, n, 0.1, "a", "b", "c")

    assert of(0.52, 0.50).is_confirmed
    assert of(0.40, 0.50).is_confirmed
    assert of(0.53, 0.50).is_confirmed is False
    assert of(0.55, 0.50, n=40).is_confirmed, "two images of forty"
    assert of(0.575, 0.50, n=40).is_confirmed is False


def test_macs_are_counted_by_hand() -> None:
    net = network()
    net.train()
    assert costs.macs(net, (3, 8, 8)) == 8 * 8 * 8 * 3 * 9 + 8 * 64 * 10
    assert net.training
    assert costs.params(net) == 3 * 8 * 9 + 8 + 16 + 8 * 64 * 10 + 10


def test_latencies_follow_the_work() -> None:
    threads = torch.get_num_threads()
    small, large = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3))
    found = costs.latencies_ms({"small": small, "large": large}, (3, 64, 64), rounds=5)
    assert found["large"] > 3 * found["small"] > 0
    assert torch.get_num_threads() == threads
    assert small.training


def test_pictures_are_what_the_zoo_shows_the_network(digits: LabelledData) -> None:
    rows = digits.require("train")
    for options in ({}, {"side": 12}, {"grey": True}):
        p = pictures(digits, rows, **options)
        assert (len(p), p.x.dtype, p.y.dtype) == (300, torch.uint8, torch.int64)
        seen = Prepared(nn.Identity(), p.preprocessing)
        pixels = np.stack([digits.pixels(int(index), p.preprocessing) for index in p.indices[:20]])
        torch.testing.assert_close(seen(torch.from_numpy(pixels)), plain_batch(p, np.arange(20)))
    assert p.y.tolist() == rows.label.tolist()


def test_pictures_are_drawn_and_bounded(digits: LabelledData, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = digits.require("train")
    drawn = pictures(digits, rows, most=50, rng=np.random.default_rng(4))
    assert len(drawn) == len(set(drawn.indices.tolist())) == 50
    assert drawn.y.tolist() == [rows.label[np.flatnonzero(rows.indices == index)[0]] for index in drawn.indices]
    with pytest.raises(LabelsError, match="split is empty"):
        pictures(digits, rows.where(np.zeros(len(rows), np.bool_)))
    monkeypatch.setattr("training.engine.pictures.MOST_BYTES", 1000)
    with pytest.raises(LabelsError, match="300 images of 8 x 8 pixels need"):
        pictures(digits, rows)


def test_augmented_pictures_are_shifts_and_mirrors(digits: LabelledData) -> None:
    p = pictures(digits, digits.require("train"))
    chosen = np.arange(40)
    assert torch.equal(augmented(p, chosen, pad=0, flip=False, rng=np.random.default_rng(0)), plain_batch(p, chosen))
    got = augmented(p, chosen, pad=2, flip=True, rng=np.random.default_rng(0))
    assert got.is_contiguous(memory_format=torch.channels_last)
    padded = functional.pad(plain_batch(p, chosen), (2, 2, 2, 2))
    kinds = set()
    for image, frame in zip(got, padded, strict=True):
        ways = {
            (top, left, mirrored): (part.flip(2) if mirrored else part)
            for top in range(5) for left in range(5) for mirrored in (False, True)
            for part in (frame[:, top : top + 8, left : left + 8],)
        }  # fmt: skip
        matches = [way for way, part in ways.items() if torch.equal(part, image)]
        assert matches
        kinds.add(matches[0])
    assert len(kinds) > 15
