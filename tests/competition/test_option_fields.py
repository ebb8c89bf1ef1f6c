"""Forms from typed options: every kind of option, its bounds in words, and the schema that programs read."""

from typing import Any, Literal

import pytest
from django import forms
from pydantic import BaseModel, Field

from competition.kinds import KINDS
from competition.option_fields import option_fields, option_schema, shown_options


class Some(BaseModel):
    number: int = Field(3, ge=1, le=9, title="Number", description="How many")
    share: float = Field(0.5, gt=0, lt=1)
    cap: int | None = Field(None, ge=2)
    flag: bool = True
    choice: Literal["one_way", "both"] = Field("both", title="Way")
    protocol: Literal["forced", "ccr"] = "ccr"


Form = type("Form", (forms.Form,), dict(option_fields(Some)))
GOOD: dict[str, Any] = {"number": "4", "share": "0.25", "cap": "", "flag": "on", "choice": "one_way", "protocol": "ccr"}


def test_a_form_gives_what_the_options_take() -> None:
    form = Form(GOOD)
    assert form.is_valid(), form.errors
    assert Some(**form.cleaned_data) == Some(number=4, share=0.25, choice="one_way")
    assert {name: field.initial for name, field in form.fields.items()} == Some().model_dump()
    assert (form.fields["number"].label, form.fields["number"].help_text) == ("Number", "How many")
    assert ("one_way", "One way") in form.fields["choice"].choices
    assert "seven points" in dict(form.fields["protocol"].choices)["ccr"]
    assert 'min="1"' in str(form["number"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("number", "0", "Number is 0: it must be at least 1 and at most 9."),
        ("share", "1", "Share is 1: it must be more than 0 and less than 1."),
        ("cap", "1", "Cap is 1: it must be at least 2."),
        ("number", "", "This field is required."),
        ("share", "nan", "Enter a number."),
        ("choice", "none", "Select a valid choice"),
    ],
)
def test_values_beyond_the_bounds_are_refused_in_words(name: str, value: str, words: str) -> None:
    form = Form(GOOD | {name: value})
    assert list(form.errors) == [name]
    assert words in form.errors[name][0]


def test_options_are_shown_in_words() -> None:
    shown = dict(shown_options(Some, {"share": 0.25, "cap": None}))
    assert shown["Number"] == "3"
    assert (shown["Share"], shown["Cap"], shown["Flag"], shown["Way"]) == ("0.25", "none", "yes", "Both")


def test_the_schema_speaks_openapi() -> None:
    schema = option_schema(Some, "Some options")["properties"]
    assert (schema["cap"]["type"], schema["cap"]["nullable"], "anyOf" in schema["cap"]) == ("integer", True, False)
    assert (schema["share"]["minimum"], schema["share"]["exclusiveMinimum"]) == (0, True)
    assert (schema["share"]["maximum"], schema["share"]["exclusiveMaximum"]) == (1, True)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_defaults_of_every_kind_pass_its_own_form(kind: str) -> None:
    options = KINDS[kind].Options
    whole = type("Form", (forms.Form,), dict(option_fields(options)))
    defaults = options().model_dump()
    form = whole({name: "on" if value is True else value for name, value in defaults.items() if value is not None})
    assert form.is_valid(), form.errors
    assert form.cleaned_data == defaults
