"""Settings that several methods of robust classifiers have in common, with the names and bounds that forms show.

A config says ``eps: Epsilon = 8 / 255``. Importing this imports no torch.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

Widths = Annotated[tuple[int, ...], Field(title="Widths", description="Channels of each stage", min_length=1)]
Blocks = Annotated[tuple[int, ...], Field(title="Blocks", description="Of each stage", min_length=1)]
StemStride = Annotated[
    int,
    Field(title="Stride of the stem", description="2 halves the image at once: four times as fast", ge=1, le=4),
]
Epsilon = Annotated[
    float, Field(title="Epsilon", description="Radius of the attack, in pixel values from 0 to 1: 8/255 is 0.0314")
]
StepLength = Annotated[
    float | None,
    Field(title="Length of a step", description="In pixel values from 0 to 1; empty: a quarter of epsilon", gt=0),
]
Epochs = Annotated[int, Field(title="Epochs", ge=1, le=1000)]
Batch = Annotated[int, Field(title="Batch", description="Images per step", ge=2, le=4096)]
Rate = Annotated[float, Field(title="Learning rate", description="After the warm-up; falls along a cosine", gt=0)]
WeightDecay = Annotated[float, Field(title="Weight decay", ge=0)]
WarmUp = Annotated[float, Field(title="Warm-up", description="Share of the steps in which the rate rises", ge=0, lt=1)]
Shift = Annotated[int, Field(title="Shift", description="Images are shifted by up to so many pixels", ge=0, le=64)]
Mirror = Annotated[bool, Field(title="Mirror", description="Mirror half of the images")]
Side = Annotated[
    int | None,
    Field(
        title="Side", description="Images are fitted to this square, in pixels; empty: as the first one is",
        ge=4, le=512,
    ),
]  # fmt: skip
Grey = Annotated[bool, Field(title="Grey", description="Learn from one channel")]
TrainingImages = Annotated[int, Field(title="Training images", description="At most; drawn by the seed", ge=2)]
TestImages = Annotated[
    int, Field(title="Test images", description="On which networks are attacked at the end, at most", ge=10)
]


def require_radius(eps: float, *, instead: str) -> float:
    """The radius of an attack. instead: what to do for training without attacks. Raises ValueError."""
    if not 0 < eps <= 1:
        raise ValueError(
            f"epsilon is a radius above 0 and up to 1, such as 8/255 = 0.0314; to train without attacks {instead}"
        )
    return eps


def require_stages(widths: Sequence[int], blocks: Sequence[int]) -> None:
    """Channels and blocks of the stages of a residual network. Raises ValueError where they make none."""
    if len(widths) != len(blocks):
        raise ValueError(
            f"there are {len(widths)} widths and {len(blocks)} numbers of blocks: give one of each for every stage"
        )
    for name, values in (("width", widths), ("number of blocks", blocks)):
        low = [value for value in values if value < 1]
        if low:
            raise ValueError(f"a {name} is {low[0]}: give at least 1")
