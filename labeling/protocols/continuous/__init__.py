"""Continuous rating: one picture, a slider 0 … 100 with five adjectives along it (ITU-R BT.500, continuous scale)."""

from labeling.protocols.acr import ADJECTIVES
from labeling.protocols.base import Action
from labeling.protocols.number import NumberProtocol


class Continuous(NumberProtocol):
    name = "continuous"
    title = "Rate one image on a continuous scale (0 to 100)"
    low, high = 0, 100
    tolerance = 10
    question = "How good is the quality of this picture?"
    labels = tuple((20 * n + 10, word) for n, word in enumerate(ADJECTIVES))
    answers = (
        *(
            Action(f"at_{number}", f"{number}", f"Digit{number // 10 % 10}", "answer", number)
            for number in range(10, 101, 10)
        ),
        Action("move_left", "Slider left", "ArrowLeft", "move", -2),
        Action("move_right", "Slider right", "ArrowRight", "move", 2),
        Action("submit", "Send the slider", "Enter", "submit"),
    )


PROTOCOL = Continuous()
