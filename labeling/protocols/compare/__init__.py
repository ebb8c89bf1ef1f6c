"""Comparison slider: two pictures, how much better is one of them, -100 … 100 with a zone of uncertainty of +-20.

The scale is that of the gMAD competition (CVPR 2016, section 4).
"""

from labeling.protocols.base import Action
from labeling.protocols.number import ComparisonProtocol


class Compare(ComparisonProtocol):
    name = "compare"
    title = "Compare two images: how much better is one? (slider, -100 to 100)"
    low, high, zone = -100, 100, 20
    labels = (
        (-100, "Left is much better"), (-60, "Left is better"), (0, "Uncertain"), (60, "Right is better"),
        (100, "Right is much better"),
    )  # fmt: skip
    answers = (
        Action("left_3", "Left, much", "Digit1", "answer", -90),
        Action("left_2", "Left", "Digit2", "answer", -60),
        Action("left_1", "Left, slightly", "Digit3", "answer", -30),
        Action("same", "Uncertain", "Digit4", "answer", 0),
        Action("right_1", "Right, slightly", "Digit5", "answer", 30),
        Action("right_2", "Right", "Digit6", "answer", 60),
        Action("right_3", "Right, much", "Digit7", "answer", 90),
        Action("move_left", "Slider left", "ArrowLeft", "move", -5),
        Action("move_right", "Slider right", "ArrowRight", "move", 5),
        Action("submit", "Send the slider", "Enter", "submit"),
    )


PROTOCOL = Compare()
