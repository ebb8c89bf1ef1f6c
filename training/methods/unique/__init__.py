"""UNIQUE: a blind quality network that learns from pairs inside each data set, with its own uncertainty."""

from typing import Literal

from pydantic import Field, model_validator

from training.engine.registry import Curve, InputSlot, MethodCard, MethodConfig, register_method


@register_method(
    MethodCard(
        name="unique",
        title="Quality network from opinion scores (UNIQUE)",
        summary="Learns to rank pictures by quality from pairs inside each data set, and how sure it can be",
        source='"Uncertainty-aware blind image quality assessment in the laboratory and wild", arXiv:2005.13983',
        recipe="recipe:train",
        data="quality",
        inputs=(
            InputSlot(
                "start",
                "Version to go on from",
                "A network with a score and its deviation, such as one trained on pseudo-ratings; none begins anew",
                task="quality",
                required=False,
            ),
        ),
        presets={
            "small": {},
            "paper": {
                "architecture": "unique_resnet34", "crop": 384, "pairs": "drawn", "images_per_epoch": 520_000,
                "head_epochs": 3, "head_batch": 256, "epochs": 12, "batch": 64, "rate": 1e-4, "decay_epochs": 3,
                "decay": 0.1, "weight_decay": 5e-4, "evaluate_every": 1, "resize": None,
            },
        },
        curves=(
            Curve("Loss", "", (("loss", "fidelity + hinge"), ("fidelity_loss", "fidelity"), ("hinge_loss", "hinge"))),
            Curve("Validation split", "SRCC", (("val_srcc", "SRCC"),)),
            Curve("Learning rate", "", (("rate", "rate"),)),
        ),
        ours=(
            "A batch is drawn from one data set or campaign, chosen in proportion to its images; the paper fixes how "
            "many pairs each of its six databases gives.",
            "The schedule of the learning rate begins anew with the second phase.",
            "Of all epochs the weights with the best SRCC on the validation split are kept.",
            'Preset "small" is for a CPU: a small network from scratch, all pairs inside a batch of crops.',
            "Pseudo-ratings (standard deviation 0) say of a pair only which is better, as in arXiv:2003.03849.",
        ),
    )
)  # fmt: skip
class UniqueConfig(MethodConfig):
    architecture: Literal["unique_small", "unique_squeezenet", "unique_resnet18", "unique_resnet34"] = Field(
        "unique_small", title="Architecture", description="Of a network that begins anew"
    )
    resize: int | None = Field(
        None, title="Shorter side", description="Pixels that pictures are scaled to; empty leaves them", ge=32, le=2048
    )
    crop: int = Field(160, title="Crop", description="Side of the crops it learns from, in pixels", ge=32, le=1024)
    flip: bool = Field(True, title="Mirror", description="Mirror half of the crops")
    pairs: Literal["drawn", "all"] = Field(
        "all", title="Pairs", description="Two and two of a batch, as they are drawn, or all pairs inside a batch"
    )
    images_per_epoch: int | None = Field(
        None, title="Images per epoch", description="Empty: as many as the training split has", ge=2
    )
    head_epochs: int = Field(0, title="Epochs of the head", description="In which only the last layer learns", ge=0)
    head_batch: int = Field(32, title="Batch of the head", description="Images per step of those epochs", ge=2, le=1024)
    epochs: int = Field(40, title="Epochs", description="In all, those of the head included", ge=1, le=10_000)
    batch: int = Field(16, title="Batch", description="Images per step", ge=2, le=1024)
    rate: float = Field(2e-3, title="Learning rate", gt=0, le=1)
    decay: float = Field(0.3, title="Decay", description="Factor of the learning rate every so many epochs", gt=0, le=1)
    decay_epochs: int = Field(15, title="Epochs between decays", ge=1)
    weight_decay: float = Field(5e-4, title="Weight decay", ge=0, le=1)
    hinge: float = Field(1.0, title="Weight of the hinge", description="On the order of uncertainties", ge=0)
    margin: float = Field(0.025, title="Margin of the hinge", ge=0)
    unknown_std: float = Field(
        15.0,
        title="Deviation where none is known",
        description="Of the ratings of a picture, on a scale of 100; such pictures have no part in the hinge",
        ge=0,
        le=100,
    )
    evaluate_every: int = Field(4, title="Epochs between evaluations", ge=1)
    patience: int = Field(
        0, title="Patience", description="Evaluations without a better SRCC after which it ends; 0: never", ge=0
    )

    @model_validator(mode="after")
    def _phases(self) -> "UniqueConfig":
        if self.head_epochs >= self.epochs:
            raise ValueError(
                f"{self.head_epochs} epochs of the head leave nothing of {self.epochs} epochs: give more epochs"
            )
        return self
