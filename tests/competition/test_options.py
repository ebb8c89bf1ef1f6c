"""The options of every kind of competition pass the form that is made from them."""

import pytest
from django import forms

from accounts.option_fields import option_fields
from competition.kinds import KINDS


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_defaults_of_every_kind_pass_its_own_form(kind: str) -> None:
    options = KINDS[kind].Options
    whole = type("Form", (forms.Form,), dict(option_fields(options)))
    defaults = options().model_dump()
    form = whole({name: "on" if value is True else value for name, value in defaults.items() if value is not None})
    assert form.is_valid(), form.errors
    assert form.cleaned_data == defaults
