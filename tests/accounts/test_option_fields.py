"""Forms from typed options: every kind of option, its bounds in words, and the schema that programs read."""

from typing import Any, Literal

import pytest
from django import forms
from pydantic import BaseModel, Field

from accounts.option_fields import TITLES, bounds_words, option_fields, option_schema, shown_options, type_words


class Some(BaseModel):
    number: int = Field(3, ge=1, le=9, title="Number", description="How many")
    share: float = Field(0.5, gt=0, lt=1)
    cap: int | None = Field(None, ge=2)
    flag: bool = True
    choice: Literal["one_way", "both"] = Field("both", title="Way")
    protocol: Literal["forced", "ccr"] = Field("ccr", json_schema_extra={TITLES: {"ccr": "Seven points"}})
    rates: tuple[float, ...] = Field((0.1, 1e-5), title="Rates", min_length=1)
    pair: tuple[int, int] = (3, 4)
    layers: tuple[Literal["head", "body"], ...] = ()
    note: str = ""


Form = type("Form", (forms.Form,), dict(option_fields(Some)))
GOOD: dict[str, Any] = {
    "number": "4", "share": "0.25", "cap": "", "flag": "on", "choice": "one_way", "protocol": "ccr",
    "rates": "0.5, 1e-3", "pair": "3,4", "layers": "head", "note": "x",
}  # fmt: skip


def test_a_form_gives_what_the_options_take() -> None:
    form = Form(GOOD)
    assert form.is_valid(), form.errors
    wanted = Some(number=4, share=0.25, choice="one_way", rates=(0.5, 0.001), layers=("head",), note="x")
    assert Some(**form.cleaned_data) == wanted
    assert {name: field.initial for name, field in form.fields.items()} == Some().model_dump()
    assert (form.fields["number"].label, form.fields["number"].help_text) == ("Number", "How many")
    assert ("one_way", "One way") in form.fields["choice"].choices
    assert dict(form.fields["protocol"].choices) == {"ccr": "Seven points", "forced": "Forced"}
    assert 'min="1"' in str(form["number"])
    assert 'value="0.1, 1e-05"' in str(Form()["rates"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("number", "0", "Number is 0: it must be at least 1 and at most 9."),
        ("share", "1", "Share is 1: it must be more than 0 and less than 1."),
        ("cap", "1", "Cap is 1: it must be at least 2."),
        ("number", "", "This field is required."),
        ("share", "nan", "Enter a number."),
        ("choice", "none", "Select a valid choice"),
        ("rates", "0.1, fast", '"fast" is no number: give numbers, separated by commas.'),
        ("rates", "", "This field is required."),
        ("pair", "1.5, 2", "give whole numbers"),
        ("layers", "head, tail", '"tail" is no choice: use head, body.'),
    ],
)
def test_values_beyond_the_bounds_are_refused_in_words(name: str, value: str, words: str) -> None:
    form = Form(GOOD | {name: value})
    assert list(form.errors) == [name]
    assert words in form.errors[name][0]


def test_options_are_shown_in_words() -> None:
    shown = dict(shown_options(Some, {"share": 0.25, "cap": None, "layers": ("head",)}))
    assert shown["Number"] == "3"
    assert (shown["Share"], shown["Cap"], shown["Flag"], shown["Way"]) == ("0.25", "none", "yes", "Both")
    assert (shown["Rates"], shown["Layers"], shown["Protocol"]) == ("0.1, 1e-05", "head", "Seven points")
    fields = Some.model_fields
    assert bounds_words(fields["number"]) == "at least 1 and at most 9"
    assert (type_words(fields["cap"]), type_words(fields["rates"])) == (
        "whole number, or nothing",
        "numbers, separated by commas",
    )


def test_the_schema_speaks_openapi() -> None:
    schema = option_schema(Some, "Some options")["properties"]
    assert (schema["cap"]["type"], schema["cap"]["nullable"], "anyOf" in schema["cap"]) == ("integer", True, False)
    assert (schema["share"]["minimum"], schema["share"]["exclusiveMinimum"]) == (0, True)
    assert (schema["share"]["maximum"], schema["share"]["exclusiveMaximum"]) == (1, True)
    assert (schema["pair"]["items"], "prefixItems" in schema["pair"]) == ({"type": "integer"}, False)
