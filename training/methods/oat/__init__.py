"""Once-for-all adversarial training: one network whose robustness is traded for accuracy when it is used.

Lambda: the weight of attacked images in the loss. Width: the share of the channels that a sub-network uses.
"""

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

PAPER = {
    "architecture": "basic_resnet",
    "widths": (64, 128, 256, 512),
    "blocks": (3, 4, 6, 3),
    "stem_stride": 1,
    "steps": 7,
    "step": 2 / 255,
    "epochs": 200,
    "warm_up": 0.0,
    "start": "paper",
    "dedicated": (),
    "most_images": 1_000_000,
    "most_test": 10_000,
}


@register_method(
    MethodCard(
        name="oat",
        title="Adjustable robustness (OAT, OATS)",
        summary="Trains one network for every trade-off between accuracy and robustness, and for several widths",
        source='"Once-for-All Adversarial Training", arXiv:2010.11828',
        recipe="recipe:train",
        data="classification",
        presets={
            "small": {"batch": 64},
            "widths": {"batch": 64, "shares": (0.5, 0.75, 1.0)},
            "paper": PAPER,
            "paper with widths": {**PAPER, "shares": (0.5, 0.75, 1.0)},
            "digits": {"eps": 0.15, "stem_stride": 1, "pad": 1, "flip": False, "epochs": 8},
        },
        curves=(
            Curve("Loss", "nats", (("loss", "training split"), ("clean_loss", "as they are"),
                                   ("attacked_loss", "attacked"))),
            Curve("Validation at the least lambda", "share", (("least_sa", "as they are"), ("least_ra", "attacked"))),
            Curve("Validation at the largest lambda", "share", (("most_sa", "as they are"), ("most_ra", "attacked"))),
        ),
        ours=(
            "Clean and attacked images of one batch go through the network in one call; each branch of a batch norm "
            "still takes the statistics of clean and of attacked images apart.",
            "FiLM runs once for each lambda, not for each image; during an attack norm and FiLM are one table.",
            "The code of lambdas is kept with the weights. A lambda that was not trained is refused, unless the slider "
            "is made continuous; what lies between is measured, and marked.",
            "The rate warms up, then falls along a cosine. One set of weights serves all lambdas: the last or the best "
            "mean over lambdas on the validation split.",
            "FiLM begins as if it were not there and codes have larger entries, so that minutes suffice; the presets "
            "of the paper leave both as published.",
            "With several widths the mean of their losses is learnt from, as the paper writes; others sum them.",
            "Every robust accuracy is confirmed by another library's attack on the same images, in float32; a gap of "
            "more than two points fails the run.",
        ),
        points="points:point",
    )
)  # fmt: skip
class OatConfig(MethodConfig):
    lambdas: tuple[float, ...] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 1.0),
        title="Lambdas",
        description="Weights of attacked images that it is trained for: 0 accuracy alone, 1 robustness alone",
        min_length=1,
    )
    shares: tuple[float, ...] = Field(
        (1.0,), title="Widths of sub-networks", description="Shares of the channels; 1 is the whole network",
        min_length=1,
    )  # fmt: skip
    dedicated: tuple[float, ...] = Field(
        (0.0, 0.4, 1.0),
        title="Dedicated networks",
        description="Lambdas for which a network is trained by itself, to compare with",
    )
    exported: tuple[float, ...] = Field(
        (0.0, 1.0), title="Kept as plain networks", description="Lambdas at which the whole network is kept besides"
    )
    default_lambda: float | None = Field(
        None, title="Default lambda", description="Where the adjustable network stands; empty: the middle one"
    )
    between: Literal["refused", "snapped", "interpolated"] = Field(
        "refused", title="Lambdas in between", description="Refused, taken as the nearest, or interpolated"
    )
    encoding: Literal["random", "dct", "onehot", "scalar"] = Field("random", title="Code of lambdas")
    code_size: int = Field(128, title="Length of the code", ge=1, le=4096)
    start: Literal["quick", "paper"] = Field(
        "quick", title="Start", description="quick: as the plain backbone, with larger codes; paper: as published"
    )
    clean_share: float | None = Field(
        None, title="Share of lambda 0", description="Of a batch; empty: the same as each other lambda", ge=0, le=1
    )
    joint_loss: Literal["mean", "sum"] = Field("mean", title="Loss over widths")
    keep: Literal["last", "best"] = Field("last", title="Weights that are kept")
    architecture: Literal["wide_resnet", "basic_resnet"] = Field("wide_resnet", title="Backbone")
    widths: Widths = (16, 32, 64)
    blocks: Blocks = (1, 1, 1)
    stem_stride: StemStride = 2
    dropout: float = Field(0.0, title="Dropout", description="Inside the blocks of wide_resnet", ge=0, lt=1)
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
    shown: int = Field(12, title="Images shown", description="On the page with the slider", ge=1, le=64)

    @field_validator("eps")
    @classmethod
    def _radius(cls, eps: float) -> float:
        return require_radius(eps, instead='take the method "pgdat" with lambda 0')

    @field_validator("lambdas", "dedicated", "exported")
    @classmethod
    def _weights(cls, lambdas: tuple[float, ...]) -> tuple[float, ...]:
        outside = [lam for lam in lambdas if not 0 <= lam <= 1]
        if outside:
            raise ValueError(f"a lambda is {outside[0]:g}: give weights from 0 (accuracy alone) to 1 (robustness)")
        if len(set(lambdas)) < len(lambdas):
            raise ValueError("a lambda is there twice: give each once")
        return tuple(sorted(lambdas))

    @field_validator("shares")
    @classmethod
    def _parts(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        outside = [share for share in shares if not 0 < share <= 1]
        if outside:
            raise ValueError(f"a width is {outside[0]:g}: give shares of the channels above 0 and up to 1")
        if max(shares) != 1 or len(set(shares)) < len(shares):
            raise ValueError("the widths have to hold 1, the whole network, and each once")
        return tuple(sorted(shares))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        require_stages(self.widths, self.blocks)
        least = min(self.shares) * min(self.widths)
        if int(least + 1e-6) < 1:
            raise ValueError(
                f"a width of {min(self.shares):g} leaves none of {min(self.widths)} channels: give at least "
                f"{1 / min(self.widths):g}"
            )
        if self.encoding != "scalar" and self.code_size < len(self.lambdas):
            raise ValueError(
                f"codes of {self.code_size} numbers cannot tell {len(self.lambdas)} lambdas apart: give a length of "
                f"at least {len(self.lambdas)}"
            )
        for lam in (*self.exported, *([] if self.default_lambda is None else [self.default_lambda])):
            is_trained = any(abs(lam - own) < 1e-6 for own in self.lambdas)
            is_between = self.between == "interpolated" and self.lambdas[0] < lam < self.lambdas[-1]
            if not (is_trained or is_between):
                known = ", ".join(f"{own:g}" for own in self.lambdas)
                raise ValueError(
                    f"lambda {lam:g} is to be kept or to be the default, but it is not trained: choose from {known}, "
                    "or train it too"
                )
        return self
