"""Adversarial training of one network at one trade-off: what adjustable and compressed ones are compared with."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from training.engine.fields import (
    Batch,
    Blocks,
    Epochs,
    Epsilon,
    Grey,
    Mirror,
    Rate,
    Shift,
    Side,
    StemStride,
    StepLength,
    TestImages,
    TrainingImages,
    WarmUp,
    WeightDecay,
    Widths,
    require_radius,
    require_stages,
)
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
    widths: Widths = (16, 32, 64)
    blocks: Blocks = (1, 1, 1)
    stem_stride: StemStride = 2
    eps: Epsilon = 8 / 255
    steps: int = Field(5, title="Attack steps", ge=1, le=100)
    step: StepLength = None
    epochs: Epochs = 10
    batch: Batch = 128
    rate: Rate = 0.1
    weight_decay: WeightDecay = 5e-4
    warm_up: WarmUp = 0.1
    pad: Shift = 4
    flip: Mirror = True
    side: Side = None
    grey: Grey = False
    most_images: TrainingImages = 10_000
    most_test: TestImages = 500

    @field_validator("eps")
    @classmethod
    def _radius(cls, eps: float) -> float:
        return require_radius(eps, instead="set lambda to 0")

    @model_validator(mode="after")
    def _stages(self) -> Self:
        require_stages(self.widths, self.blocks)
        return self
