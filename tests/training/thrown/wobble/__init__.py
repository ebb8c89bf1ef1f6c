"""A throw-away method of the tests: two stages with everything in them that has to survive a kill."""

from pydantic import Field

from training.engine.registry import Curve, InputSlot, MethodCard, MethodConfig, register_method


@register_method(
    MethodCard(
        name="wobble",
        title="Wobble",
        summary="Fits a random plane twice",
        source="these tests",
        recipe="recipe:train",
        points="recipe:scaled",
        data=None,
        inputs=(InputSlot("start", "Network to go on from", task="classification", required=False),),
        presets={"small": {}, "long": {"steps": 400, "pause": 0.01}},
        curves=(Curve("Loss", "", (("loss", "squared error"),)),),
    )
)
class WobbleConfig(MethodConfig):
    steps: int = Field(6, title="Steps", description="Of each stage", ge=1, le=10_000)
    rate: float = Field(0.01, title="Learning rate", gt=0)
    pause: float = Field(0.0, title="Seconds to wait after each step", ge=0)
    stop_at: int | None = Field(None, title="Step after which the first stage ends")
    spoil_at: int | None = Field(None, title="Step of the first stage at which the loss becomes NaN")
    fail_at: int | None = Field(None, title="Step of the second stage at which the recipe fails")
    n_outputs: int = Field(1, ge=0, le=4)
    same_label: bool = False
