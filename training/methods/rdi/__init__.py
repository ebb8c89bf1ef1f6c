"""Robust dynamic inference: a network with early exits that is trained against attacks on them."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from training.engine.fields import (
    Batch,
    Blocks,
    Epochs,
    Epsilon,
    Grey,
    Mirror,
    Shift,
    Side,
    StemStride,
    StepLength,
    TestImages,
    TrainingImages,
    WeightDecay,
    Widths,
    require_radius,
    require_stages,
)
from training.engine.registry import Curve, MethodCard, MethodConfig, register_method

_SMALL = {
    "blocks": (2, 2, 2), "exits": (2, 4), "heads": "light", "stem_stride": 2, "steps": 5, "epochs": 10, "batch": 64,
    "standard_epochs": 6, "weight_decay": 5e-4, "rule": "tuned", "default_budget": 0.7,
}  # fmt: skip


@register_method(
    MethodCard(
        name="rdi",
        title="Robust dynamic inference (RDI-Nets)",
        summary="Trains a network with early exits against attacks on them; sure images leave early",
        source='"Triple wins", arXiv:2002.10025',
        recipe="recipe:train",
        data="classification",
        points="points:at_thresholds",
        presets={
            "small": _SMALL,
            "defences": {**_SMALL, "compare": ("average", "main")},
            "paper": {
                "rate": 0.1, "epochs": 164, "batch": 128, "weight_decay": 1e-4, "schedule": "steps", "exit_loss": "sum",
                "most_images": 1_000_000, "most_val": 5_000, "most_test": 10_000,
            },
            "digits": {
                **_SMALL, "stem_stride": 1, "widths": (8, 16, 32), "eps": 0.1, "pad": 1, "flip": False, "epochs": 10,
                "standard_epochs": 3, "batch": 32, "budgets": (0.5, 0.7, 0.9),
            },
        },
        curves=(
            Curve("Loss", "nats", (("loss", "training split"),)),
            Curve("Validation, mean of the exits", "share", (("val_sa", "as they are"), ("val_ra", "average attack"))),
        ),
        ours=(
            "Images are attacked in evaluation mode with frozen parameters; the single attacks of max-average run as "
            "one batch, in which a copy is computed up to its exit alone.",
            "The loss is the mean over the exits, with a warm-up of the rate and clipped gradients: the sum at a rate "
            'of 0.1 was reported to diverge. Exit loss "sum" is the paper\'s.',
            "Thresholds come from the validation split, never from test images. Rule \"shares\" is the paper's start, "
            'equal shares; rule "tuned" finds the cuts of best accuracy at a price of MACs.',
            "MACs are reported as the paper counts them, and honestly: with the heads that were evaluated and "
            "rejected. Images that left are really not computed further.",
            "The headline robust accuracy is the worst of all attacks, the routing-aware one among them, which the "
            "paper does not run.",
            "Small presets begin with epochs of standard training, their baselines too.",
        ),
    )
)  # fmt: skip
class RdiConfig(MethodConfig):
    defence: Literal["max-average", "average", "main", "none"] = Field(
        "max-average", title="Defence", description="Which attack the network learns against; none is standard training"
    )
    compare: tuple[Literal["max-average", "average", "main", "none"], ...] = Field(
        (), title="Other defences", description="Trained in the same run, to compare"
    )
    baselines: bool = Field(
        True, title="Baselines", description="Train the network without early exits, and a narrower one of equal MACs"
    )
    widths: Widths = (16, 32, 64)
    blocks: Blocks = (6, 6, 6)
    exits: tuple[int, ...] = Field(
        (2, 5, 8, 11, 14, 17), title="Early exits", description="After which blocks, counted from 1 over all stages",
        min_length=1,
    )  # fmt: skip
    heads: Literal["paper", "light"] = Field(
        "paper", title="Heads", description="Of the exits: the paper's, or one convolution each"
    )
    stem_stride: StemStride = 1
    eps: Epsilon = 8 / 255
    steps: int = Field(10, title="Attack steps", description="In training", ge=1, le=100)
    test_steps: int = Field(20, title="Attack steps in tests", ge=1, le=1000)
    step: StepLength = None
    crafted: Literal["pgd", "fgsm", "wrm"] = Field("pgd", title="Training attack", description="How it is made")
    epochs: Epochs = 10
    standard_epochs: int = Field(
        0, title="Standard epochs", description="Of these, how many at the beginning make no attacks", ge=0, le=1000
    )
    batch: Batch = 128
    rate: float = Field(0.1, title="Learning rate", description="After the warm-up", gt=0)
    schedule: Literal["cosine", "steps"] = Field(
        "cosine", title="Schedule", description="The rate falls along a cosine, or to a tenth at 1/2 and 3/4"
    )
    warm_up: int = Field(
        400, title="Warm-up", description="Steps at a tenth of the rate; a tenth of all steps at most", ge=0
    )
    weight_decay: WeightDecay = 5e-4
    exit_loss: Literal["mean", "sum"] = Field("mean", title="Exit loss", description="Over the exits")
    weights: tuple[float, ...] = Field((), title="Weights of the exits", description="One each; empty: all 1")
    clip: float = Field(5.0, title="Clip", description="Largest norm of the gradient; 0 for none", ge=0)
    pad: Shift = 4
    flip: Mirror = True
    rule: Literal["shares", "tuned"] = Field(
        "shares", title="Thresholds", description="Shares of images per exit, or the cuts of best accuracy at a price"
    )
    default_budget: float | None = Field(
        None, title="Budget", description="Mean MACs by default, as a share of the network's; empty: equal shares",
        gt=0, le=1,
    )  # fmt: skip
    budgets: tuple[float, ...] = Field(
        (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), title="Budgets", description="Of the curve, as shares of the MACs",
        min_length=1,
    )  # fmt: skip
    side: Side = None
    grey: Grey = False
    most_images: TrainingImages = 10_000
    most_val: int = Field(1_000, title="Validation images", description="For thresholds, at most", ge=10)
    most_test: TestImages = 500

    @field_validator("eps")
    @classmethod
    def _radius(cls, eps: float) -> float:
        return require_radius(eps, instead='set the defence to "none"')

    @field_validator("budgets")
    @classmethod
    def _budgets(cls, budgets: tuple[float, ...]) -> tuple[float, ...]:
        outside = [budget for budget in budgets if not 0 < budget <= 1]
        if outside:
            raise ValueError(f"a budget is {outside[0]:g}: give shares of the network's MACs, above 0 and up to 1")
        return budgets

    @model_validator(mode="after")
    def _fits(self) -> Self:
        require_stages(self.widths, self.blocks)
        n_blocks = sum(self.blocks)
        if len(self.exits) >= n_blocks:
            raise ValueError(
                f"{len(self.exits)} early exits in a network of {n_blocks} blocks: give at most {n_blocks - 1}"
            )
        if list(self.exits) != sorted(set(self.exits)) or self.exits[0] < 1 or self.exits[-1] >= n_blocks:
            raise ValueError(
                f"early exits stand after blocks 1 to {n_blocks - 1}, ascending, each once; given: "
                f"{', '.join(map(str, self.exits))}"
            )
        n_exits = len(self.exits) + 1
        if self.weights and (len(self.weights) != n_exits or min(self.weights) < 0 or not sum(self.weights)):
            raise ValueError(
                f"{len(self.weights)} weights of exits: give {n_exits}, the last exit's among them, none below 0, not "
                "all 0"
            )
        if self.standard_epochs >= self.epochs and self.defence != "none":
            raise ValueError(
                f"all {self.epochs} epochs are standard ones, none is left for the defence: give fewer standard epochs"
            )
        return self
