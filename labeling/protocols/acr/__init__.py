"""Absolute category rating: one picture, five adjectives, 1 bad … 5 excellent (ITU-T P.910, section 7.1)."""

from labeling.protocols.base import Action
from labeling.protocols.number import NumberProtocol

ADJECTIVES = ("Bad", "Poor", "Fair", "Good", "Excellent")


class AbsoluteCategory(NumberProtocol):
    name = "acr"
    title = "Rate one image with five adjectives (ACR, 1 to 5)"
    low, high, step = 1, 5, 1
    level = "ordinal"
    tolerance = 1
    question = "How good is the quality of this picture?"
    labels = tuple(enumerate(ADJECTIVES, start=1))
    answers = tuple(
        Action(word.lower(), word, f"Digit{number}", "answer", number)
        for number, word in enumerate(ADJECTIVES, start=1)
    )


PROTOCOL = AbsoluteCategory()
