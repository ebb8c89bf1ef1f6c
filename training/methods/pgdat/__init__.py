"""Adversarial training of one network at one trade-off: what adjustable and compressed ones are compared with."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from training.engine.registry import Curve, MethodCard, MethodConfig, register_method


@register_method(
    MethodCard(
        name="pgdat",
        title="Adversarial training of one network",
        summary="Trains a classifier on images that are attacked while it learns, at one fixed trade-off",
        source="arXiv:1706.06083; the weight between clean and attacked images as in arXiv:2010.11828, equation 2",
        recipe="recipe:train",
        data="classification",
        presets={
            "small": {"batch": 64},
            "standard": {"batch": 64, "lam": 0.0},
            "paper": {
                "architecture": "basic_resnet",
                "widths": (64, 128, 256, 512),
                "blocks": (3, 4, 6, 3),
                "stem_stride": 1,
                "steps": 7,
                "epochs": 200,
                "warm_up": 0.0,
                "most_images": 1_000_000,
                "most_test": 10_000,
            },
            "digits": {"eps": 0.15, "stem_stride": 1, "pad": 1, "flip": False, "epochs": 8},
        },
        curves=(
            Curve("Loss", "nats", (("loss", "training split"),)),
            Curve("Validation", "share", (("val_sa", "as they are"), ("val_ra", "attacked"))),
        ),
        ours=(
            "Images are attacked in evaluation mode with frozen parameters.",
            "Clean and attacked images go through the network in one call where both count.",
            "The rate warms up, then falls along a cosine; the weights of the last step are kept, none are chosen.",
            "Robust accuracy is confirmed by another library's attack on the same images, in float32; a gap of more "
            "than two points fails the run.",
        ),
    )
)
class PgdatConfig(MethodConfig):
    lam: float = Field(
        1.0, title="Lambda", description="Weight of attacked images: 0 trains in the standard way, 1 on them alone",
        ge=0, le=1,
    )  # fmt: skip
    architecture: Literal["wide_resnet", "basic_resnet"] = Field("wide_resnet", title="Backbone")
    widths: tuple[int, ...] = Field((16, 32, 64), title="Widths", description="Channels of each stage", min_length=1)
    blocks: tuple[int, ...] = Field((1, 1, 1), title="Blocks", description="Of each stage", min_length=1)
    stem_stride: int = Field(
        2, title="Stride of the stem", description="2 halves the image at once: four times as fast", ge=1, le=4
    )
    eps: float = Field(
        8 / 255, title="Epsilon", description="Radius of the attack, in pixel values from 0 to 1: 8/255 is 0.0314"
    )
    steps: int = Field(5, title="Attack steps", ge=1, le=100)
    step: float | None = Field(
        None, title="Length of a step", description="In pixel values from 0 to 1; empty: a quarter of epsilon", gt=0
    )
    epochs: int = Field(10, title="Epochs", ge=1, le=1000)
    batch: int = Field(128, title="Batch", description="Images per step", ge=2, le=4096)
    rate: float = Field(0.1, title="Learning rate", description="After the warm-up; falls along a cosine", gt=0)
    weight_decay: float = Field(5e-4, title="Weight decay", ge=0)
    warm_up: float = Field(0.1, title="Warm-up", description="Share of the steps in which the rate rises", ge=0, lt=1)
    pad: int = Field(4, title="Shift", description="Images are shifted by up to so many pixels", ge=0, le=64)
    flip: bool = Field(True, title="Mirror", description="Mirror half of the images")
    side: int | None = Field(
        None, title="Side", description="Images are fitted to this square, in pixels; empty: as the first one is",
        ge=4, le=512,
    )  # fmt: skip
    grey: bool = Field(False, title="Grey", description="Learn from one channel")
    most_images: int = Field(10_000, title="Training images", description="At most; drawn by the seed", ge=2)
    most_test: int = Field(500, title="Test images", description="On which it is attacked at the end, at most", ge=10)

    @field_validator("eps")
    @classmethod
    def _radius(cls, eps: float) -> float:
        if not 0 < eps <= 1:
            raise ValueError(
                "epsilon is a radius above 0 and up to 1, such as 8/255 = 0.0314; to train without attacks set lambda "
                "to 0"
            )
        return eps

    @model_validator(mode="after")
    def _stages(self) -> Self:
        if len(self.widths) != len(self.blocks):
            raise ValueError(
                f"there are {len(self.widths)} widths and {len(self.blocks)} numbers of blocks: give one of each for "
                "every stage"
            )
        return self
