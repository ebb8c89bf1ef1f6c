"""Seven-point comparison: two pictures, from much worse to much better (ITU-R BT.500, comparison category rating)."""

from labeling.protocols.base import Action
from labeling.protocols.number import ComparisonProtocol

WORDS = ("much better", "better", "slightly better")


class CategoryComparison(ComparisonProtocol):
    name = "ccr"
    title = "Compare two images on seven points (BT.500 CCR)"
    low, high, step = -3, 3, 1
    level = "ordinal"
    labels = (
        *((n - 3, f"Left is {WORDS[n]}") for n in range(3)),
        (0, "The same"),
        *((n + 1, f"Right is {WORDS[2 - n]}") for n in range(3)),
    )
    answers = (
        Action("left_3", "Left much better", "Digit1", "answer", -3),
        Action("left_2", "Left better", "Digit2", "answer", -2),
        Action("left_1", "Left slightly better", "Digit3", "answer", -1),
        Action("same", "The same", "Digit4", "answer", 0),
        Action("right_1", "Right slightly better", "Digit5", "answer", 1),
        Action("right_2", "Right better", "Digit6", "answer", 2),
        Action("right_3", "Right much better", "Digit7", "answer", 3),
    )


PROTOCOL = CategoryComparison()
