"""Images of labelled rows as batches: crops to learn from, and whole images to evaluate on."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.spec import Preprocessing
from training.engine.labels import LabelledData

PIXELS_AT_ONCE = 2_000_000  # of whole images of one size that are evaluated together
PIXELS_WAITING = 40_000_000  # of decoded images that wait for others of their size
IMAGES_AT_ONCE = 32

Floats = npt.NDArray[np.float64]


def crops(
    data: LabelledData,
    indices: Sequence[int] | npt.NDArray[np.int64],
    *,
    preprocessing: Preprocessing,
    crop: int | None,
    flip: bool,
    rng: np.random.Generator,
) -> torch.Tensor:
    """A random crop of each image: uint8 (n, h, w, 3).

    preprocessing: of the version, so that networks learn at the size at which they will be used. crop: side in pixels;
    less where an image of the batch is smaller, so that all crops are real; None takes the smallest image's size. flip:
    mirror half of them.
    """
    images = [data.pixels(int(index), preprocessing) for index in indices]
    sides = [min(image.shape[axis] for image in images) for axis in (0, 1)]
    height, width = (side if crop is None else min(side, crop) for side in sides)
    batch = np.empty((len(images), height, width, 3), np.uint8)
    for at, image in enumerate(images):
        top = rng.integers(image.shape[0] - height + 1)
        left = rng.integers(image.shape[1] - width + 1)
        part = image[top : top + height, left : left + width]
        batch[at] = part[:, ::-1] if flip and rng.random() < 0.5 else part
    return torch.from_numpy(batch)


def evaluate(
    networks: Sequence[Prepared],
    data: LabelledData,
    indices: Sequence[int] | npt.NDArray[np.int64],
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    check: Callable[[], None] | None = None,
) -> npt.NDArray[np.float32]:
    """What networks say of whole images: (networks, n, outputs) float32. Each image is decoded once for all of them.

    preprocessing: shared by the networks. Images of one size share a batch. The networks come back in the mode they
    were in. check: called now and then; what it raises ends the evaluation.
    """
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    said: dict[int, npt.NDArray[np.float32]] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, npt.NDArray[np.uint8]]]] = {}
    n_waiting = 0

    def run(shape: tuple[int, ...]) -> int:
        group = waiting.pop(shape)
        batch = torch.from_numpy(np.stack([image for _, image in group])).to(device)
        with torch.inference_mode():
            outputs = [_two_dimensional(network(batch)) for network in networks]
        said.update(zip((place for place, _ in group), np.stack(outputs, axis=1), strict=True))
        return len(group) * shape[0] * shape[1]

    try:
        for place, index in enumerate(indices):
            image = data.pixels(int(index), preprocessing)
            bucket = waiting.setdefault(image.shape, [])
            bucket.append((place, image))
            size = image.shape[0] * image.shape[1]
            n_waiting += size
            if len(bucket) >= IMAGES_AT_ONCE or len(bucket) * size >= PIXELS_AT_ONCE:
                n_waiting -= run(image.shape)
                if check is not None:
                    check()
            while n_waiting > PIXELS_WAITING:
                n_waiting -= run(max(waiting, key=lambda shape: len(waiting[shape]) * shape[0] * shape[1]))
        for shape in list(waiting):
            run(shape)
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
    if not said:
        return np.empty((len(networks), 0, 1), np.float32)
    return np.stack([said[place] for place in range(len(said))], axis=1)


def freeze_norms(network: nn.Module) -> None:
    """Keep the running statistics of batch norms: right where batches are small or unlike what comes later."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _two_dimensional(outputs: torch.Tensor) -> npt.NDArray[np.float32]:
    """(n,) or (n, outputs) -> (n, outputs)."""
    values = outputs.float().cpu().numpy()
    return values[:, None] if values.ndim == 1 else values.reshape(len(values), -1)
