"""Adversarially trained model compression (ATMC): few non-zero, few-bit weights that withstand attacks.

Family: how a network is compressed. ATMC: factors U V + C with a budget of non-zeros and few values a tensor; A-l0: the
same budget on the weights themselves; AP, NAP: the smallest weights are masked once, then the rest is trained on, with
and without attacks; ALR: low rank; DA: the dense network, adversarially trained. Ratio: of the dense network's
convolution and linear weights that may be non-zero.
"""

from typing import Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from training.engine.fields import (
    Batch,
    Epsilon,
    Grey,
    Mirror,
    Shift,
    Side,
    StemStride,
    TestImages,
    TrainingImages,
    WeightDecay,
    Widths,
    require_radius,
    require_stages,
)
from training.engine.registry import Curve, InputSlot, MethodCard, MethodConfig, register_method

Family = Literal["ATMC", "A-l0", "AP", "ALR", "NAP", "DA"]
DENSE_BITS = 32
MOST_BITS = 16
T = TypeVar("T")

_SMALL = {"batch": 64}
_SINGLE = {**_SMALL, "ratios": (0.02, 0.05, 0.1), "bits": (DENSE_BITS,)}
_PAPER = {
    "architecture": "basic_resnet", "widths": (64, 128, 256, 512), "blocks": (3, 4, 6, 3), "stem_stride": 1,
    "steps": 7, "dense_epochs": 200, "prune_epochs": 200, "factor_epochs": 200, "bits_epochs": 150,
    "dense_rate": 0.05, "prune_rate": 0.01, "factor_rate": 0.005, "bits_rate": 0.005, "interval": 10, "per_value": 1,
    "tighten": 0.0, "floor": 0, "ratios": (0.005,), "bits": (DENSE_BITS, 8),
    "most_images": 1_000_000, "most_test": 10_000,
}  # fmt: skip


@register_method(
    MethodCard(
        name="atmc",
        title="Compression that keeps robustness (ATMC)",
        summary="Trains a classifier under attack while pruning, factorising and quantising it; writes small files",
        source="arXiv:1902.03538",
        recipe="recipe:train",
        data="classification",
        inputs=(
            InputSlot(
                "start",
                "Start",
                "A dense network to compress; empty: one is trained first",
                task="classification",
                required=False,
            ),
        ),
        presets={
            "small": _SMALL,
            "all": {**_SMALL, "families": ("ATMC", "A-l0", "AP", "ALR", "NAP", "DA"), "ratios": (0.02, 0.05, 0.1)},
            "nap": {**_SINGLE, "families": ("NAP",)},
            "ap": {**_SINGLE, "families": ("AP",)},
            "al0": {**_SINGLE, "families": ("A-l0",)},
            "alr": {**_SINGLE, "families": ("ALR",)},
            "da": {**_SINGLE, "families": ("DA",)},
            "paper": _PAPER,
            "paper-mnist": {
                **_PAPER,
                "architecture": "lenet_caffe",
                "grey": True,
                "side": 28,
                "eps": 76 / 255,
                "steps": 16,
                "ratios": (0.0015, 0.003, 0.006, 0.01, 0.025, 0.05),
                "pad": 0,
                "flip": False,
            },
            "digits": {
                "architecture": "tiny_cnn",
                "eps": 0.1,
                "pad": 1,
                "flip": False,
                "ratios": (0.1, 0.2),
                "dense_epochs": 6,
            },
        },
        curves=(
            Curve("Loss", "nats", (("loss", "training split"),)),
            Curve("Validation", "share", (("val_sa", "as they are"), ("val_ra", "attacked"))),
            Curve("Non-zeros", "", (("nonzeros", "of all factors"),)),
            Curve("Distance to the quantised copy", "share of the norm", (("copy_distance", "|theta - theta'|"),)),
        ),
        ours=(
            "Attacks start at random points and are made in evaluation mode; test images are never augmented.",
            "The loss is that of attacked images, as the paper writes it; the weight of clean ones is an option.",
            "Composed weights are made once a step, for the attack and for the gradients, which the chain rule carries "
            "back to the factors.",
            "A layer keeps a few non-zeros whatever the others' magnitudes are, and the budget is reached step by "
            "step: in small networks the largest values of all may leave a layer without any, and nothing passes it.",
            "The quantiser works on sorted values and starts from its last centres; a codebook value stands for a few "
            "non-zeros at least, so that small layers profit too.",
            "What is kept is the quantised copy, projected onto the budget, its norms re-estimated; both constraints "
            "hold exactly.",
            "The file is really small: places of the non-zeros, codes and codebooks are what it holds, and its size "
            "on disk stands beside the paper's formula, which counts neither places nor norms.",
            "The rate falls along a cosine in every stage. ALR keeps as many values as the budget allows.",
            "Robust accuracy is confirmed by another library's attack on the same images.",
        ),
    )
)
class AtmcConfig(MethodConfig):
    families: tuple[Family, ...] = Field(
        ("ATMC",), title="Families", description="ATMC, A-l0, AP, ALR, NAP, DA; stages that they share run once",
        min_length=1,
    )  # fmt: skip
    ratios: tuple[float, ...] = Field(
        (0.05,), title="Ratios", description="Shares of the dense weights that may be non-zero", min_length=1
    )
    bits: tuple[int, ...] = Field(
        (DENSE_BITS, 8, 4), title="Bits", description="Of ATMC's non-zeros: 1 to 16; 32 leaves them as they are",
        min_length=1,
    )  # fmt: skip
    architecture: Literal["basic_resnet", "wide_resnet", "tiny_cnn", "lenet_caffe"] = Field(
        "basic_resnet", title="Backbone"
    )
    widths: Widths = (16, 32, 64)
    blocks: tuple[int, ...] = Field((1, 1, 1), title="Blocks", description="Of each stage of a residual network")
    stem_stride: StemStride = 2
    eps: Epsilon = 4 / 255
    steps: int = Field(3, title="Attack steps", description="Each of 1.25 epsilon / steps", ge=1, le=100)
    clean_weight: float = Field(
        0.0, title="Weight of clean images", description="In the loss; the rest counts attacked ones", ge=0, le=1
    )
    dense_epochs: int = Field(8, title="Epochs, dense", ge=1, le=1000)
    prune_epochs: int = Field(2, title="Epochs, l0 on weights", ge=1, le=1000)
    factor_epochs: int = Field(2, title="Epochs, l0 on factors", ge=1, le=1000)
    bits_epochs: int = Field(2, title="Epochs, quantisation", ge=1, le=1000)
    dense_rate: float = Field(0.1, title="Rate, dense", ge=0)
    prune_rate: float = Field(0.05, title="Rate, l0 on weights", ge=0)
    factor_rate: float = Field(0.03, title="Rate, l0 on factors", ge=0)
    bits_rate: float = Field(0.02, title="Rate, quantisation", ge=0)
    batch: Batch = 128
    weight_decay: WeightDecay = 1e-4
    tighten: float = Field(
        0.6, title="Tightening", description="Share of the stage on weights over which the budget falls; 0: at once",
        ge=0, lt=1,
    )  # fmt: skip
    floor: int = Field(
        1, title="Floor", description="Non-zeros that a layer keeps for each of its outputs; 0: none, as in the paper",
        ge=0, le=1000,
    )  # fmt: skip
    rho: float = Field(0.1, title="Rho", description="Pull towards the quantised copy", ge=0)
    interval: int = Field(5, title="Interval", description="Steps between two updates of the quantised copy", ge=1)
    per_value: int = Field(
        4, title="Non-zeros a codebook value", description="At least; 1 as in the paper, where small layers stay float",
        ge=1, le=1024,
    )  # fmt: skip
    pad: Shift = 4
    flip: Mirror = True
    side: Side = None
    grey: Grey = False
    most_images: TrainingImages = 10_000
    most_test: TestImages = 500

    @field_validator("ratios")
    @classmethod
    def _shares(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        outside = [ratio for ratio in ratios if not 0 < ratio <= 1]
        if outside:
            raise ValueError(f"a ratio is {outside[0]:g}: give shares above 0 and up to 1")
        return _once("ratio", ratios)

    @field_validator("bits")
    @classmethod
    def _widths_of_codes(cls, bits: tuple[int, ...]) -> tuple[int, ...]:
        outside = [each for each in bits if not (1 <= each <= MOST_BITS or each == DENSE_BITS)]
        if outside:
            raise ValueError(f"bits are {outside[0]}: give 1 to {MOST_BITS}, or {DENSE_BITS} for no quantisation")
        return _once("number of bits", bits)

    @field_validator("families")
    @classmethod
    def _different(cls, families: tuple[Family, ...]) -> tuple[Family, ...]:
        return _once("family", families)

    @field_validator("eps")
    @classmethod
    def _radius(cls, eps: float) -> float:
        return require_radius(eps, instead="set the weight of clean images to 1")

    @model_validator(mode="after")
    def _stages(self) -> Self:
        if self.architecture in {"basic_resnet", "wide_resnet"}:
            require_stages(self.widths, self.blocks)
        return self


def _once(name: str, values: tuple[T, ...]) -> tuple[T, ...]:
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ValueError(f"the {name} {twice[0]} is there twice: give each once")
    return values
