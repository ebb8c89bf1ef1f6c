"""What the page of an adjustable network shows beside its curve: a few images, clean and attacked, at every point."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.engine.attacks import Attack, attacking, cross_entropy, pgd
from training.engine.context import RunContext
from training.engine.pictures import Pictures, plain_batch


@dataclass(frozen=True)
class Gallery:
    """content: "labels", "clean" and "attacked" of the explorer; sprites: tiles by name."""

    content: dict[str, Any]
    sprites: dict[str, list[npt.NDArray[np.uint8]]]


def gallery(
    run: RunContext, points: Sequence[tuple[str, Callable[[], nn.Module]]], test: Pictures, attack: Attack, *, n: int
) -> Gallery:
    """n test images of all classes by turns; what each point says of them, and of them attacked at that point."""
    chosen = by_turns(test.y.numpy(), run.rng("shown"))[:n]
    x, y = plain_batch(test, chosen).to(run.device), test.y[torch.from_numpy(chosen)].to(run.device)
    clean, attacked, moved_tiles = [], [], []
    for number, (_, make) in enumerate(points):
        run.check()
        module = make().to(run.device)
        generator = torch.Generator(run.device).manual_seed(run.seed + number)
        with attacking(module):
            moved = pgd(cross_entropy(module, y), x, attack, generator=generator)
            clean.append(said(module, x))
            attacked.append(said(module, moved))
        moved_tiles.extend(_tiles(_bytes(moved)))
    return Gallery(
        {"labels": y.tolist(), "clean": clean, "attacked": attacked},
        {"clean": _tiles(_bytes(x)), "attacked": moved_tiles},
    )


def by_turns(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Places of all images, drawn at random, one of each class before a second of any."""
    order = rng.permutation(len(labels))
    drawn = labels[order]
    turn = np.array([int((drawn[:at] == label).sum()) for at, label in enumerate(drawn)])
    found: npt.NDArray[np.int64] = order[np.lexsort((drawn, turn))]
    return found


def said(module: nn.Module, x: torch.Tensor) -> list[tuple[int, float]]:
    """Class and probability of each image."""
    with torch.no_grad():
        best = torch.softmax(module(x).float(), dim=1).max(dim=1)
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _tiles(pixels: torch.Tensor) -> list[npt.NDArray[np.uint8]]:
    """uint8 (N, C, H, W) -> (H, W, 3) each, or (H, W) of one channel."""
    rows = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return [row[:, :, 0] if row.shape[2] == 1 else row for row in rows]


def _bytes(x: torch.Tensor) -> torch.Tensor:
    return (x * 255).round().clamp(0, 255).byte()
