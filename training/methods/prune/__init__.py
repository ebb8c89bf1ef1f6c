"""Pruned variants of one network: close enough to compete with it, different enough to find where it is wrong."""

from pydantic import Field, field_validator

from training.engine.registry import Curve, InputSlot, MethodCard, MethodConfig, register_method


@register_method(
    MethodCard(
        name="prune",
        title="Pruned variants of a network",
        summary="Masks weights of a target in several seeded ways and keeps the variants that are nearly as good",
        source='"Troubleshooting blind image quality models in the wild", arXiv:2105.06747',
        recipe="recipe:prune",
        data="any",
        inputs=(InputSlot("target", "Target", "The network that is to be troubleshot"),),
        presets={"small": {}, "large": {"most_images": 5_000}},
        curves=(
            Curve("Variants", "", (("admitted", "admitted"), ("pending", "still to be tried"))),
            Curve("Of the last pass", "SRCC or accuracy", (("best", "best"), ("worst", "worst"), ("bar", "least"))),
        ),
        ours=(
            "How masks are made, how many variants there are and the rule of admission: the paper leaves them open.",
            "Masks are global magnitude over all weights, or whole channels of one stage, at the given ratios; which "
            "of them, the seed decides.",
            "A variant is admitted when its SRCC (accuracy of a classifier) on the validation split is at most the "
            "tolerance below the target's; else its ratio is lowered and it is tried again.",
        ),
    )
)
class PruneConfig(MethodConfig):
    variants: int = Field(8, title="Variants", ge=1, le=64)
    ratios: tuple[float, ...] = Field(
        (0.3, 0.5, 0.7), title="Ratios", description="Shares of weights that are masked, to begin with", min_length=1
    )
    tolerance: float = Field(
        0.05,
        title="Tolerance",
        description="How far below the target a variant may be on the validation split",
        ge=0,
        le=1,
    )
    lower: float = Field(
        0.75, title="Lowering", description="Factor of the ratio where a variant is not admitted", gt=0, lt=1
    )
    least: float = Field(0.05, title="Least ratio", description="Below it a way of masking is given up", gt=0, lt=1)
    most_images: int = Field(
        600, title="Images", description="Of the validation split, at most; drawn by the seed", ge=3, le=100_000
    )

    @field_validator("ratios")
    @classmethod
    def _shares(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        outside = [ratio for ratio in ratios if not 0 < ratio < 1]
        if outside:
            raise ValueError(f"a ratio is {outside[0]:g}: give shares between 0 and 1")
        return ratios
