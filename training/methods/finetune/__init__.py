"""Fine-tuning of a target and its pruned variants on the failures that people labelled, without losing what it knew."""

from pydantic import Field, field_validator

from training.engine.registry import Curve, InputSlot, MethodCard, MethodConfig, register_method


@register_method(
    MethodCard(
        name="finetune",
        title="Fine-tune a network and its variants on found failures",
        summary="Half of every batch are labels the set began with, half are labels of images that a competition found",
        source='"Troubleshooting blind image quality models in the wild", arXiv:2105.06747; batches of half old, half '
        'new labels: "Troubleshooting image segmentation models with human-in-the-loop", Machine Learning 2022',
        recipe="recipe:finetune",
        data="any",
        inputs=(
            InputSlot("target", "Target", "The network to be improved"),
            InputSlot(
                "variant",
                "Pruned variants",
                "Tuned along on the same batches; their masks stay",
                required=False,
                many=True,
            ),
        ),
        presets={
            "small": {},
            "large": {"steps": 2_000, "batch": 64, "crop": 384, "rate": 3e-5},
        },
        curves=(
            Curve("Loss of the target", "", (("loss", "both halves"), ("base_loss", "base"), ("found_loss", "found"))),
            Curve("Loss of the variants", "", (("variants_loss", "mean"),)),
        ),
        ours=(
            "Steps, rates and crops: the papers do not give them.",
            "Quality networks learn by fidelity loss and uncertainty hinge (UNIQUE) on pairs inside one scale; those "
            "that give no deviation get a fixed one. Classifiers learn by cross-entropy.",
            "Batch norms keep their statistics, and masked weights stay zero.",
            "What was forgotten is measured on the original test labels, before and after, on the same images.",
        ),
    )
)
class FinetuneConfig(MethodConfig):
    steps: int = Field(60, title="Steps", ge=1, le=1_000_000)
    batch: int = Field(16, title="Batch", description="Images per step, an even number", ge=4, le=1024)
    crop: int = Field(160, title="Crop", description="Side of the crops of quality networks, in pixels", ge=32, le=1024)
    flip: bool = Field(True, title="Mirror", description="Mirror half of the crops")
    rate: float = Field(3e-4, title="Learning rate", description="At the start; falls to zero in a line", gt=0, le=1)
    weight_decay: float = Field(0.0, title="Weight decay", ge=0, le=1)
    freeze_norms: bool = Field(
        True, title="Keep batch norms", description="Use their running statistics and do not change those"
    )
    hinge: float = Field(1.0, title="Weight of the hinge", description="On the order of uncertainties", ge=0)
    margin: float = Field(0.025, title="Margin of the hinge", ge=0)
    unknown_std: float = Field(
        15.0,
        title="Deviation where none is known",
        description="Of a picture's ratings, on a scale of 100",
        ge=0,
        le=100,
    )
    fixed_sigma: float = Field(
        0.3,
        title="Fixed deviation",
        description="Of networks that give none: a share of the standard deviation of their scores",
        gt=0,
        le=10,
    )
    forgetting: float = Field(
        0.01, title="Forgotten beyond", description="Loss of SRCC or accuracy on the original test labels", ge=0, le=1
    )

    @field_validator("batch")
    @classmethod
    def _halves(cls, batch: int) -> int:
        if batch % 2:
            raise ValueError("half of a batch are base labels, half found ones: give an even number")
        return batch
