"""Residual networks with early exits (RDI-Nets, arXiv:2002.10025, sections 3 and 4.1).

Exit: a head that may answer for an image before the network ends; the last one is the network's own. Prefix: what
stands before an exit. An image leaves at the first exit whose softmax entropy (nats) is below that exit's threshold,
else at the last. A threshold of 0 or less closes an exit: its head is not even computed.

In evaluation mode images that left are taken out of the batch after each exit, so that nothing more is computed for
them. While a graph is traced for export, and in training mode, all exits are computed and one is chosen.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from models_zoo.architectures.backbones import BasicBlock, BasicResNet, plain_conv

HEADS = ("paper", "light")


class Routed(NamedTuple):
    """logits: (N, num_classes) of the exit at which each image left; exit: (N,) int64, from 0."""

    logits: torch.Tensor
    exit: torch.Tensor


class RdiResNet(nn.Module):
    """x: (N, in_channels, H, W) in [0, 1] -> logits: (N, num_classes) of the exit that the thresholds choose.

    Args:
        widths, blocks, stem_stride, in_channels, num_classes: as `BasicResNet` has them.
        exits: after which blocks early exits stand, counted from 1 over all stages, ascending, before the last one.
        thresholds: nats, one per early exit; None closes all of them.
        heads: "paper": two convolutions, a residual block or a linear layer, by the stages that are left; "light":
            one 3x3 convolution of stride 2, or a linear layer in the last stage.

    Raises ValueError for exits or thresholds that do not fit.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        exits: Sequence[int],
        thresholds: Sequence[float] | None = None,
        heads: str = "paper",
        stem_stride: int = 1,
        in_channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.backbone = BasicResNet(
            widths=widths, blocks=blocks, stem_stride=stem_stride, in_channels=in_channels, num_classes=num_classes
        )
        self.places = require_exits(exits, sum(blocks))
        if heads not in HEADS:
            raise ValueError(f'heads are "{heads}": choose one of {", ".join(HEADS)}')
        self.heads = nn.ModuleList(
            _head(heads, *_stage(place, widths, blocks), num_classes=num_classes) for place in self.places
        )
        self.thresholds = require_thresholds(thresholds, len(self.places))
        for module in self.heads.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def n_exits(self) -> int:
        """Exits with the last one."""
        return len(self.places) + 1

    def forward(self, x: torch.Tensor, *, every: bool = False) -> torch.Tensor:
        """every: give the logits of all exits, (exits, N, num_classes)."""
        if every:
            return self._every(x)
        if self.training or torch.jit.is_tracing():
            return choose(self._every(x), self.thresholds).logits
        return self.routed(x).logits

    def routed(self, x: torch.Tensor) -> Routed:
        """Where each image leaves, and with what; what left is not computed further."""
        z = self.backbone.stem(x)
        waiting = torch.arange(len(x), device=x.device)
        answers: list[torch.Tensor] = []
        left: list[torch.Tensor] = []
        for number, threshold in enumerate(self.thresholds):
            if not len(waiting):
                break
            z = self._segment(number, z)
            if threshold <= 0:
                continue
            logits = self.heads[number](z)
            leaves = entropy(logits) < threshold
            going = int(leaves.sum())
            if not going:
                continue
            answers.append(logits[leaves])
            left.append(torch.stack((waiting[leaves], torch.full_like(waiting[:going], number))))
            z, waiting = z[~leaves], waiting[~leaves]
        if len(waiting) or not answers:
            answers.append(self._last(z))
            left.append(torch.stack((waiting, torch.full_like(waiting, len(self.places)))))
        order, exits = torch.cat(left, dim=1)  # (2, N)
        back = order.argsort()
        return Routed(torch.cat(answers)[back], exits[back])

    def at(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """The logits of one exit, from 0; nothing beyond it is computed."""
        z = self.backbone.stem(x)
        for before in range(min(number + 1, len(self.places))):
            z = self._segment(before, z)
        return self.heads[number](z) if number < len(self.places) else self._last(z)

    def each_at_its_exit(self, x: torch.Tensor) -> torch.Tensor:
        """x: (exits * N, ...), a copy of the batch for each exit, the first exit's first. Each copy is computed up to
        its exit alone -> (exits * N, num_classes)."""
        n = len(x) // self.n_exits
        z = self.backbone.stem(x)
        answers = []
        for number, head in enumerate(self.heads):
            z = self._segment(number, z)
            answers.append(head(z[:n]))
            z = z[n:]
        return torch.cat([*answers, self._last(z)])

    def prefix(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """The map that an exit's head sees; that of the last exit is what the last block gives."""
        z = self.backbone.stem(x)
        for block in self.backbone.blocks[: self.places[number] if number < len(self.places) else None]:
            z = block(z)
        return z

    def published(self, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The same tensors under the names used here, where they have those of the authors' checkpoints."""
        if "conv1.weight" not in state:
            return state
        layers = {(int(found[1]), int(found[2])) for found in map(_GROUP.match, state) if found}
        before = {group: sum(other < group for other, _ in layers) for group, _ in layers}
        return {_renamed(key, before): tensor for key, tensor in state.items()}

    def _every(self, x: torch.Tensor) -> torch.Tensor:
        z = self.backbone.stem(x)
        answers = []
        for number, head in enumerate(self.heads):
            z = self._segment(number, z)
            answers.append(head(z))
        return torch.stack([*answers, self._last(z)])

    def _segment(self, number: int, z: torch.Tensor) -> torch.Tensor:
        """Through the blocks between the exit before and this one."""
        start = self.places[number - 1] if number else 0
        for block in self.backbone.blocks[start : self.places[number]]:
            z = block(z)
        return z

    def _last(self, z: torch.Tensor) -> torch.Tensor:
        """From the last early exit to the end."""
        for block in self.backbone.blocks[self.places[-1] :]:
            z = block(z)
        return self.backbone.head(z)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """(..., C) -> (...) nats, of the softmax; never below 0. Not to be differentiated."""
    logs = logits.detach().float().log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


def choose(logits: torch.Tensor, thresholds: Sequence[float]) -> Routed:
    """The rule, once everything was computed. logits: (exits, N, C); thresholds: exits - 1."""
    chosen, exits = logits[-1], torch.full_like(logits[-1, :, 0], len(thresholds), dtype=torch.int64)
    for number in reversed(range(len(thresholds))):
        leaves = entropy(logits[number]) < thresholds[number]
        chosen = torch.where(leaves[:, None], logits[number], chosen)
        exits = torch.where(leaves, number, exits)
    return Routed(chosen, exits)


def require_exits(exits: Sequence[int], n_blocks: int) -> tuple[int, ...]:
    """The places of early exits. Raises ValueError where they do not fit a network of that many blocks."""
    places = tuple(int(place) for place in exits)
    if not places:
        raise ValueError("there is no early exit: name the blocks after which one stands, such as 2 and 5")
    if len(places) >= n_blocks:
        raise ValueError(
            f"{len(places)} early exits in a network of {n_blocks} blocks: give at most {n_blocks - 1}, one after each "
            "block but the last"
        )
    if list(places) != sorted(set(places)) or not 1 <= places[0] <= places[-1] < n_blocks:
        raise ValueError(
            f"early exits after blocks {', '.join(map(str, places))} of {n_blocks}: give different numbers from 1 to "
            f"{n_blocks - 1}, ascending"
        )
    return places


def require_thresholds(thresholds: Sequence[float] | None, n_early: int) -> tuple[float, ...]:
    """One number of nats per early exit; all closed for None. Raises ValueError."""
    given = (0.0,) * n_early if thresholds is None else tuple(float(each) for each in thresholds)
    if len(given) != n_early:
        raise ValueError(f"{len(given)} thresholds for {n_early} early exits: give one for each")
    if any(each != each for each in given):
        raise ValueError("a threshold is not a number: give nats, 0 to close an exit")
    return given


def _stage(place: int, widths: Sequence[int], blocks: Sequence[int]) -> tuple[int, int]:
    """Channels after a block, and the stages that are left after its own."""
    for stage, n in enumerate(blocks):
        if place <= n:
            return widths[stage], len(blocks) - 1 - stage
        place -= n
    raise ValueError(f"there is no block {place}")


def _head(kind: str, n: int, stages_left: int, *, num_classes: int) -> nn.Sequential:
    """Pools round up, so that a map of one pixel is no error; maps of even size are halved exactly."""
    half = nn.MaxPool2d(2, ceil_mode=True)
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if not stages_left:
        return nn.Sequential(*last, nn.Linear(n, num_classes))
    if kind == "light":
        layers = [plain_conv(n, 2 * n, 3, 2), nn.BatchNorm2d(2 * n), nn.ReLU()]
        return nn.Sequential(*layers, *last, nn.Linear(2 * n, num_classes))
    if stages_left == 1:
        return nn.Sequential(half, BasicBlock(n, n, 1), *last, nn.Linear(n, num_classes))
    layers = [half, plain_conv(n, 4 * n, 5, 1), nn.BatchNorm2d(4 * n), nn.ReLU()]
    layers += [half, plain_conv(4 * n, 2 * n, 3, 1), nn.BatchNorm2d(2 * n)]
    return nn.Sequential(*layers, *last, nn.Linear(2 * n, num_classes))


_GROUP = re.compile(r"group(\d+)_layer(\d+)\.")
_NAMES = (
    (re.compile(r"^branch_layer(\d+)\."), lambda found: f"heads.{int(found[1]) - 1}."),
    (re.compile(r"^conv1\."), lambda found: "backbone.conv."),
    (re.compile(r"^bn1\."), lambda found: "backbone.norm."),
    (re.compile(r"^fc\."), lambda found: "backbone.linear."),
    (re.compile(r"\.bn([12])\."), lambda found: f".norm{found[1]}."),
    (re.compile(r"\.downsample\.0\."), lambda found: ".shortcut."),
    (re.compile(r"\.downsample\.1\."), lambda found: ".shortcut_norm."),
)


def _renamed(key: str, before: Mapping[int, int]) -> str:
    for pattern, name in _NAMES:
        key = pattern.sub(name, key)
    return _GROUP.sub(lambda found: f"backbone.blocks.{before[int(found[1])] + int(found[2])}.", key)
