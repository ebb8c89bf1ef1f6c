"""1,797 real handwritten digits that ship inside scikit-learn, harder versions of them, and five different classifiers.

Half of the digits train the classifiers; the other half and its harder versions are the corpus. Everything is seeded.
Digits: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from torch import nn

SIDE = 32
N_CLASSES = 10
BATCH = 32
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
#: node -> parent, by what the stroke does: closed loops, open curves, straight lines
SHAPES = {
    "loops": "digit", "one loop": "loops", "two loops": "loops",
    "open": "digit", "curved": "open", "straight": "open",
    "zero": "one loop", "six": "one loop", "nine": "one loop", "eight": "two loops",
    "two": "curved", "three": "curved", "five": "curved",
    "one": "straight", "four": "straight", "seven": "straight",
}  # fmt: skip
GLOSSES = [
    "a single closed loop", "one upright stroke, sometimes with a flag or a foot",
    "an open curve on top that ends in a stroke to the right", "two bowls open to the left, one above the other",
    "an open angle crossed by a stroke", "a flat top, then a bowl open to the left",
    "a stroke down into a closed loop below", "a flat top and a slanting stroke down",
    "two closed loops, one above the other", "a closed loop above a stroke down",
]  # fmt: skip

Harden = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Digits enlarged from 8×8 to 32×32 (cubic), dark ink on white.

    Returns:
        train images (n, 32, 32) float32 in [0, 1], train labels (n,) int64, test images, test labels.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    ink = np.clip(ndimage.zoom(data.images / 16.0, (1, SIDE / 8, SIDE / 8), order=3), 0, 1)
    images = (1.0 - ink).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[::2], order[1::2]
    return images[train], data.target[train], images[test], data.target[test]


def rotated(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(20, 40) * rng.choice([-1, 1])
    return ndimage.rotate(image, angle, reshape=False, order=1, cval=1.0)


def shifted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = rng.uniform(0.6, 0.8)
    matrix = np.eye(2) / scale
    centre = np.full(2, (SIDE - 1) / 2)
    offset = centre - matrix @ (centre + rng.uniform(-5, 5, 2))
    return ndimage.affine_transform(image, matrix, offset, order=1, cval=1.0)


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image + rng.normal(0, 0.3, image.shape)


def faint(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.75 + (ndimage.gaussian_filter(image, 1.5) - 1.0) * rng.uniform(0.3, 0.5)


def covered(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, left = rng.integers(2, SIDE - 14, 2)
    hidden = image.copy()
    hidden[top : top + 12, left : left + 12] = 0.5
    return hidden


HARDER: dict[str, Harden] = {
    "rotated": rotated, "shifted": shifted, "noisy": noisy, "faint": faint, "covered": covered,
}  # fmt: skip


def harden(images: np.ndarray, kind: str, *, seed: int) -> np.ndarray:
    """One harder version of each image; images and result (n, 32, 32) float32 in [0, 1]."""
    rng = np.random.default_rng([seed, sorted(HARDER).index(kind)])
    return np.stack([np.clip(HARDER[kind](image, rng), 0, 1) for image in images]).astype(np.float32)


def to_uint8(images: np.ndarray) -> np.ndarray:
    return np.round(images * 255).astype(np.uint8)


def write_corpus(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write the corpus as ``<digit's name>/<number>_<kind>.png``, originals and harder versions."""
    versions = {"original": images, **{kind: harden(images, kind, seed=1) for kind in HARDER}}
    for kind, pictures in versions.items():
        for number, (picture, label) in enumerate(zip(to_uint8(pictures), labels, strict=True)):
            path = folder / NAMES[label] / f"{number:04d}_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)


def read_image(path: Path) -> np.ndarray:
    """One image of the corpus as (32, 32) float32 in [0, 1]."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32) / 255


@dataclass(frozen=True)
class Recipe:
    """How one of the classifiers is trained; ``harder``: also on harder versions of the training half."""

    name: str
    description: str
    architecture: str
    arch_kwargs: dict[str, object]
    epochs: int
    learning_rate: float
    harder: bool = False


RECIPES = [
    Recipe(
        "digits linear", "Multinomial logistic regression on the pixels", "linear",
        {"input_size": SIDE, "in_channels": 1, "num_classes": N_CLASSES}, 20, 1e-2,
    ),
    Recipe(
        "digits perceptron", "One hidden layer of 64 units on the pixels", "mlp",
        {"hidden": [64], "input_size": SIDE, "in_channels": 1, "num_classes": N_CLASSES}, 20, 5e-3,
    ),
    Recipe(
        "digits small CNN", "Four convolutions, trained on the clean half only", "tiny_cnn",
        {"widths": [8, 16, 32, 64], "in_channels": 1, "num_classes": N_CLASSES}, 12, 1e-2,
    ),
    Recipe(
        "digits robust CNN", "The same network trained on harder versions too", "tiny_cnn",
        {"widths": [8, 16, 32, 64], "in_channels": 1, "num_classes": N_CLASSES}, 5, 1e-2, harder=True,
    ),
]  # fmt: skip
NEIGHBOURS_NAME = "digits nearest neighbours"
NEIGHBOURS_DESCRIPTION = "The five nearest training images vote, weighted by closeness; entered as a predictions file"


def train(
    recipe: Recipe, images: np.ndarray, labels: np.ndarray, *, seed: int, each_epoch: Callable[[int, float], None]
) -> "nn.Module":
    """Train one network with Adam on cross-entropy, the learning rate rising and falling once.

    Args:
        images: (n, 32, 32) float32 in [0, 1]; labels: (n,).
        each_epoch: called with the epoch (from 1) and its mean loss; may raise to stop.
    """
    import torch
    from torch.nn import functional as F

    from models_zoo.architectures import build

    torch.manual_seed(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network only loses time to waking threads
    if recipe.harder:
        images = np.concatenate([images, *(harden(images, kind, seed=2) for kind in HARDER)])
        labels = np.tile(labels, 1 + len(HARDER))
    x, y = torch.from_numpy(images)[:, None], torch.from_numpy(labels)  # (n, 1, 32, 32), (n,)
    network = build(recipe.architecture, **recipe.arch_kwargs).train()
    optimiser = torch.optim.Adam(network.parameters())
    n_batches = -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, recipe.epochs * n_batches)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(1, recipe.epochs + 1):
        losses = []
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            loss = F.cross_entropy(network(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        each_epoch(epoch, float(np.mean(losses)))
    torch.set_num_threads(threads)
    return network.eval()


def neighbours_predict(images: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Five nearest neighbours in pixel space.

    Args:
        images: (n, 32, 32) training images; queries: (q, 32, 32); both in [0, 1].

    Returns:
        classes (q,) and confidences (q,): the winning share of the vote, weighted by inverse distance.
    """
    from sklearn.neighbors import KNeighborsClassifier

    voters = KNeighborsClassifier(n_neighbors=5, weights="distance").fit(images.reshape(len(images), -1), labels)
    shares = voters.predict_proba(queries.reshape(len(queries), -1))
    return shares.argmax(1), shares.max(1)
