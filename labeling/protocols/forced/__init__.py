"""Two alternatives with a tie: which of two pictures is better, or neither (ITU-T P.910, pair comparison)."""

from labeling.protocols.base import Action
from labeling.protocols.number import ComparisonProtocol


class Forced(ComparisonProtocol):
    name = "forced"
    title = "Choose the better of two images (2AFC with tie)"
    low, high, step = -1, 1, 1
    level = "ordinal"
    labels = ((-1, "Left"), (0, "No difference"), (1, "Right"))
    answers = (
        Action("left", "Left", "ArrowLeft", "answer", -1),
        Action("same", "No difference", "ArrowDown", "answer", 0),
        Action("right", "Right", "ArrowRight", "answer", 1),
    )


PROTOCOL = Forced()
