"""Networks of which one set of weights serves every trade-off between accuracy and robustness (OAT and OATS).

Source: "Once-for-All Adversarial Training", arXiv:2010.11828, section 3.

Lambda: the weight of the adversarial loss, from 0 (accuracy alone) to 1 (robustness alone); an input of the network.
Code: the vector that stands for a lambda. Branch: the half of a doubled batch norm, 0 where lambda is 0, 1 above: it
follows from lambda, never from whether an image was attacked. Share: the part of the channels that a slimmed network
uses (the paper's width factor). Point: a lambda and a share.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from models_zoo.architectures.backbones import BasicResNet, Parts, WideResNet
from models_zoo.architectures.registry import build

Encoding = Literal["random", "dct", "onehot", "scalar"]
Between = Literal["refused", "snapped", "interpolated"]
CLEAN, ROBUST = 0, 1
SLOPE = 0.01  # of LeakyReLU, in FiLM
_SAME = 1e-6  # between a lambda or share that is asked for and one that was trained

BACKBONES: Mapping[str, type[BasicResNet] | type[WideResNet]] = {"basic_resnet": BasicResNet, "wide_resnet": WideResNet}
_STEMS = {"basic_resnet": "stem", "wide_resnet": "stem_width"}  # what the first width is called


class UntrainedPoint(ValueError):
    """A lambda or share that the network was not trained for; the message names those that it was."""


@dataclass(frozen=True)
class Condition:
    """What the images of a batch are computed under.

    codes: (m, d) of the lambdas that occur; branches: (m,) branch of each. rows: (N,) int64 which code is each image's,
    None where all have the only one. groups: (images, branch) of the parts of the batch that are normed together in
    training, in order; empty where it is one. share: index into the network's shares. tables: see `Adjustable.tabled`.
    """

    codes: torch.Tensor
    branches: tuple[int, ...]
    rows: torch.Tensor | None = None
    groups: tuple[tuple[int, int], ...] = ()
    share: int = -1
    tables: Mapping["AdaptiveNorm", tuple[torch.Tensor, torch.Tensor]] | None = None

    def and_attacked(self, n_clean: int) -> "Condition":
        """For the batch followed by attacked copies of its images after the first n_clean: a group of their own."""
        assert self.rows is not None
        attacked = self.rows[n_clean:]
        groups = (*self.groups, (len(attacked), ROBUST))
        return replace(self, rows=torch.cat([self.rows, attacked]), groups=groups)


class Film(nn.Module):
    """codes (m, d) -> factor and summand, (m, c) each: two linear layers with LeakyReLU after each (arXiv:1709.07871).

    Of a slimmed network, c < n channels, the first rows of each half are used.
    """

    def __init__(self, n: int, code_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(code_size, 2 * n)
        self.out = nn.Linear(2 * n, 2 * n)

    def forward(self, codes: torch.Tensor, c: int) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = functional.linear(codes, self.hidden.weight[: 2 * c], self.hidden.bias[: 2 * c])
        hidden = functional.leaky_relu(hidden, SLOPE)
        out = functional.linear(hidden, self.out.weight[: 2 * c, : 2 * c], self.out.bias[: 2 * c])
        factor, summand = functional.leaky_relu(out, SLOPE).split(c, dim=1)
        return factor, summand


class AdaptiveNorm(nn.Module):
    """Batch norm with a branch for lambda = 0 and one for lambda > 0, a pair for each share; then FiLM if modulated.

    FiLM runs on the codes that occur and is gathered by image. In evaluation mode norm and FiLM are one multiplication
    and one addition.
    """

    def __init__(self, n: int, *, modulated: bool, shares: Sequence[float], code_size: int) -> None:
        super().__init__()
        self.clean = nn.ModuleList(nn.BatchNorm2d(slimmed(n, share)) for share in shares)
        self.robust = nn.ModuleList(nn.BatchNorm2d(slimmed(n, share)) for share in shares)
        self.film = Film(n, code_size) if modulated else None

    def branch(self, number: int, share: int) -> nn.BatchNorm2d:
        found = (self.robust if number == ROBUST else self.clean)[share]
        assert isinstance(found, nn.BatchNorm2d)
        return found

    def forward(self, x: torch.Tensor, given: Condition) -> torch.Tensor:
        if given.tables is not None:
            factor, summand = given.tables[self]
        elif self.training:
            x = self._normed(x, given)
            if self.film is None:
                return x
            factor, summand = _by_image(*self._modulation(given), given.rows)
        else:
            factor, summand = self.table(given)
        return torch.addcmul(summand.to(x.dtype), x, factor.to(x.dtype))

    def table(self, given: Condition) -> tuple[torch.Tensor, torch.Tensor]:
        """Factor and summand that are norm (with its running statistics) and FiLM in one: (N or 1, c, 1, 1) each."""
        pairs = {number: affine(self.branch(number, given.share)) for number in sorted(set(given.branches))}
        factor, summand = (torch.stack([pairs[number][at] for number in given.branches]) for at in (0, 1))
        if self.film is not None:
            by, plus = self._modulation(given)
            factor, summand = factor * by, summand * by + plus
        return _by_image(factor, summand, given.rows)

    def _modulation(self, given: Condition) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.film is not None
        with torch.autocast(given.codes.device.type, enabled=False):  # a few rows, but every image depends on them
            factor, summand = self.film(given.codes, self.branch(CLEAN, given.share).num_features)
        return factor, summand

    def _normed(self, x: torch.Tensor, given: Condition) -> torch.Tensor:
        groups = given.groups or ((len(x), given.branches[0]),)
        parts = x.split([n for n, _ in groups])
        normed = [
            _batch_normed(self.branch(number, given.share), part)
            for part, (n, number) in zip(parts, groups, strict=True)
            if n
        ]
        return normed[0] if len(normed) == 1 else torch.cat(normed)


class SlimConv(nn.Conv2d):
    """A convolution whose first channels are a convolution of a slimmed network."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, *, shares: Sequence[float]) -> None:
        super().__init__(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.outs = tuple(slimmed(n_out, share) for share in shares)

    def forward(self, x: torch.Tensor, given: Condition) -> torch.Tensor:  # type: ignore[override]
        weight = self.weight[: self.outs[given.share], : x.shape[1]]
        return functional.conv2d(x, weight, stride=self.stride, padding=self.padding)


class SlimLinear(nn.Linear):
    """A linear layer that takes as many inputs as there are."""

    def forward(self, x: torch.Tensor, given: Condition) -> torch.Tensor:  # type: ignore[override]
        return functional.linear(x, self.weight[:, : x.shape[1]], self.bias)


class Adjustable(nn.Module):
    """x: (N, C, H, W) in [0, 1], and a condition -> logits (N, num_classes); without one, at the default point.

    backbone, shape: a name of `BACKBONES` and what it takes. lambdas: that it is trained for. shares: of slimmed
    networks, the largest 1. encoding: "random" rows of an orthogonal matrix of code_size (drawn by torch's global
    generator, kept as a buffer), rows of "dct" or of the identity ("onehot"), or lambda itself ("scalar").
    between: what `at` makes of a lambda that is not one of them. lam, share: the default point.

    Raises ValueError for what makes no network, naming what would.
    """

    codes: torch.Tensor

    def __init__(
        self,
        *,
        backbone: str = "basic_resnet",
        shape: Mapping[str, Any],
        lambdas: Sequence[float],
        shares: Sequence[float] = (1.0,),
        encoding: Encoding = "random",
        code_size: int = 128,
        between: Between = "refused",
        lam: float = 0.0,
        share: float = 1.0,
        in_channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(
                f'the backbone "{backbone}" cannot be made adjustable: its batch norms have to be doubled and followed '
                f"by FiLM; choose {' or '.join(BACKBONES)}"
            )
        self.lambdas = _lambdas(lambdas)
        self.shares = _shares(shares)
        self.encoding, self.between = encoding, between
        self.architecture = backbone
        self.shape = {**shape, "in_channels": in_channels, "num_classes": num_classes}
        self.register_buffer("codes", codes_of(self.lambdas, encoding, code_size))
        parts = Parts(
            conv=partial(SlimConv, shares=self.shares),
            norm=partial(AdaptiveNorm, shares=self.shares, code_size=self.codes.shape[1]),
            linear=SlimLinear,
        )
        self.backbone = BACKBONES[backbone](**self.shape, parts=parts)
        self.lam, self.share = lam, share
        self.at(lam, share)

    def forward(self, x: torch.Tensor, given: Condition | None = None) -> torch.Tensor:
        return self.backbone(x, self.at(self.lam, self.share) if given is None else given)

    def at(self, lam: float, share: float = 1.0) -> Condition:
        """All images at one point. Raises UntrainedPoint."""
        code, branch = self._code(lam)
        return Condition(code[None], (branch,), share=self.share_index(share))

    def mixed(self, which: torch.Tensor, share: int = -1) -> Condition:
        """Each image at a lambda of its own.

        which: (N,) int64 index into `lambdas`, those of lambda 0 before the others. share: index into `shares`.
        """
        branches = tuple(ROBUST if lam > 0 else CLEAN for lam in self.lambdas)
        n_clean = int((which == self.lambdas.index(0.0)).sum()) if 0.0 in self.lambdas else 0
        groups = ((n_clean, CLEAN), (len(which) - n_clean, ROBUST))
        return Condition(self.codes, branches, which, groups, share % len(self.shares))

    def tabled(self, given: Condition) -> Condition:
        """The condition for many evaluations of the same weights, such as the steps of an attack: norm and FiLM of
        every layer are computed now, once, and hold while nothing is trained. No gradient reaches the weights."""
        with torch.no_grad():
            tables = {layer: layer.table(given) for layer in self.modules() if isinstance(layer, AdaptiveNorm)}
        return replace(given, tables=tables)

    def share_index(self, share: float) -> int:
        found = [at for at, own in enumerate(self.shares) if abs(own - share) < _SAME]
        if not found:
            raise UntrainedPoint(f"there is no sub-network of width {share:g}: choose {_listed(self.shares)}")
        return found[0]

    def _code(self, lam: float) -> tuple[torch.Tensor, int]:
        """(d,) and the branch."""
        branch = ROBUST if lam > _SAME else CLEAN
        found = [at for at, own in enumerate(self.lambdas) if abs(own - lam) < _SAME]
        if found:
            return self.codes[found[0]], branch
        low, high = self.lambdas[0], self.lambdas[-1]
        if not (low < lam < high) or self.between == "refused":
            raise UntrainedPoint(
                f"lambda {lam:g} is not one that the network was trained for: choose {_listed(self.lambdas)}"
                + (
                    ', or train it with between="interpolated", and it may lie between two of them'
                    if self.between == "refused"
                    else ", or a value between two of them"
                )
            )
        above = next(at for at, own in enumerate(self.lambdas) if own > lam)
        part = (lam - self.lambdas[above - 1]) / (self.lambdas[above] - self.lambdas[above - 1])
        if self.between == "snapped":
            nearest = above if part >= 0.5 else above - 1
            return self.codes[nearest], ROBUST if self.lambdas[nearest] > 0 else CLEAN
        return torch.lerp(self.codes[above - 1], self.codes[above], part), branch


def quick_start(network: Adjustable) -> None:
    """Begin as the plain backbone, and with codes that FiLM learns from at once.

    FiLM begins close to a factor of 1 and a summand of 0; as torch starts linear layers, and as the paper leaves it,
    factors begin near 0, half of them below. Codes of length 1 are scaled to entries of size 1.
    """
    if network.encoding in {"random", "onehot"}:
        network.codes.mul_(math.sqrt(network.codes.shape[1]))
    for layer in network.modules():
        if isinstance(layer, Film):
            n = layer.out.out_features // 2
            with torch.no_grad():
                layer.out.bias.zero_()[:n] = 1


@dataclass(frozen=True)
class Folded:
    """A point as a network without conditions: a name of the registry, its arguments, and the module with weights."""

    architecture: str
    arch_kwargs: dict[str, Any]
    module: nn.Module


def fold(network: Adjustable, lam: float, share: float = 1.0) -> Folded:
    """The plain backbone that computes what the network does at a point, in evaluation mode.

    FiLM and the branch of a norm become one batch norm's weight and bias, exactly; what the share leaves out is cut
    off. Raises UntrainedPoint.
    """
    given = network.at(lam, share)
    kwargs = slim_shape(network.architecture, network.shape, network.shares[given.share])
    with torch.random.fork_rng(devices=[]):
        module = build(network.architecture, **kwargs)
    with torch.no_grad():
        for name, target in module.named_modules():
            if isinstance(target, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                _copy_folded(network.backbone.get_submodule(name), target, given)
    return Folded(network.architecture, kwargs, module)


def slim_shape(architecture: str, shape: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The arguments of the plain backbone of a share."""
    stem = _STEMS[architecture]
    cut: dict[str, Any] = {"widths": [slimmed(width, share) for width in shape["widths"]]}
    if shape.get(stem) is not None:
        cut[stem] = slimmed(shape[stem], share)
    elif stem == "stem_width":
        cut[stem] = slimmed(16, share)
    return {**shape, **cut}


def slimmed(n: int, share: float) -> int:
    """Channels of a share of n. Raises ValueError where none would be left."""
    left = int(n * share + _SAME)
    if left < 1:
        raise ValueError(f"a width of {share:g} leaves none of {n} channels: give at least {1 / n:g}")
    return left


def codes_of(lambdas: Sequence[float], encoding: Encoding, size: int) -> torch.Tensor:
    """(m, d) codes of lambdas by their place; d = size, or 1 with "scalar". Raises ValueError."""
    m = len(lambdas)
    if encoding == "scalar":
        return torch.tensor(lambdas, dtype=torch.float32)[:, None]
    if size < m:
        raise ValueError(f"codes of {size} numbers cannot tell {m} lambdas apart: give a code size of at least {m}")
    if encoding == "random":
        return torch.linalg.qr(torch.randn(size, size))[0][:m].contiguous()
    if encoding == "dct":  # type II of the identity's columns, not normalised
        j, n = torch.arange(m, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
        return (2 * torch.cos(math.pi * j * (2 * n + 1) / (2 * size))).float()
    if encoding == "onehot":
        return torch.eye(size)[:m].contiguous()
    raise ValueError(f'there is no encoding "{encoding}": choose random, dct, onehot or scalar')


def affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch norm's factor and summand (c,) in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return factor, norm.bias - norm.running_mean * factor


def _copy_folded(source: nn.Module, target: nn.Module, given: Condition) -> None:
    if isinstance(source, SlimConv | SlimLinear):
        weight = target.get_parameter("weight")
        weight.copy_(source.weight[tuple(slice(n) for n in weight.shape)])
        if isinstance(source, SlimLinear):
            target.get_parameter("bias").copy_(source.bias)
        return
    assert isinstance(source, AdaptiveNorm)
    assert isinstance(target, nn.BatchNorm2d)
    norm = source.branch(given.branches[0], given.share)
    target.load_state_dict(norm.state_dict())
    if source.film is not None:
        factor, summand = source.film(given.codes, norm.num_features)
        target.weight.copy_(norm.weight * factor[0])
        target.bias.copy_(norm.bias * factor[0] + summand[0])


def _by_image(
    factor: torch.Tensor, summand: torch.Tensor, rows: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(m, c) -> (N or 1, c, 1, 1)."""
    if rows is not None:
        factor, summand = factor[rows], summand[rows]
    return factor[:, :, None, None], summand[:, :, None, None]


def _batch_normed(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """In training mode; a single value a channel has no variance, and is normed by the running statistics."""
    if x.numel() > x.shape[1]:
        return norm(x)
    return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def _lambdas(values: Sequence[float]) -> tuple[float, ...]:
    outside = [value for value in values if not 0 <= value <= 1]
    if outside:
        raise ValueError(f"a lambda is {outside[0]:g}: give weights from 0 (accuracy alone) to 1 (robustness alone)")
    return _ascending("lambda", values)


def _shares(values: Sequence[float]) -> tuple[float, ...]:
    outside = [value for value in values if not 0 < value <= 1]
    if outside:
        raise ValueError(f"a width is {outside[0]:g}: give shares of the channels above 0 and up to 1")
    if values and max(values) != 1:
        raise ValueError(f"the largest width is {max(values):g}: the whole network, width 1, has to be among them")
    return _ascending("width", values)


def _ascending(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if not values:
        raise ValueError(f"there is no {name}: give at least one")
    ordered = tuple(sorted(float(value) for value in values))
    twice = [low for low, high in pairwise(ordered) if high - low < _SAME]
    if twice:
        raise ValueError(f"{name} {twice[0]:g} is there twice: give each once")
    return ordered


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
