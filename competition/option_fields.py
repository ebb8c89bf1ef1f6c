"""Form fields and an API schema made from the typed options of a kind: a new kind needs no form of its own."""

import operator
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import annotated_types
from django import forms
from django.core.exceptions import ValidationError
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from labeling.protocols import PROTOCOLS

NUMBERS: dict[Any, type[forms.Field]] = {int: forms.IntegerField, float: forms.FloatField}
BOUNDS: dict[type, tuple[str, str, Callable[[float, float], bool]]] = {
    annotated_types.Ge: ("ge", "at least {:g}", operator.ge),
    annotated_types.Gt: ("gt", "more than {:g}", operator.gt),
    annotated_types.Le: ("le", "at most {:g}", operator.le),
    annotated_types.Lt: ("lt", "less than {:g}", operator.lt),
}
"""Name of the limit, how it is said, what it asks of a value."""


def option_fields(options: type[BaseModel]) -> dict[str, forms.Field]:
    """A form field for each option, with its title, description, default and bounds."""
    return {name: _field(name, info) for name, info in options.model_fields.items()}


def _field(name: str, info: FieldInfo) -> forms.Field:
    kind, is_optional = _kind(info.annotation)
    common: dict[str, Any] = {
        "label": info.title or name.replace("_", " ").capitalize(),
        "help_text": info.description or "",
        "initial": info.get_default(call_default_factory=True),
        "required": not is_optional,
    }
    if kind is bool:
        return forms.BooleanField(**{**common, "required": False})
    if get_origin(kind) is Literal:
        choices = [(value, _title(name, value)) for value in get_args(kind)]
        return forms.ChoiceField(**common, choices=([("", "—")] if is_optional else []) + choices)
    field = NUMBERS.get(kind, forms.CharField)(**common)
    _bound(field, common["label"], info.metadata)
    return field


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type of an option, and whether it may be empty."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal or len(parts) != 1:
        return annotation, False
    return parts[0], True


def _title(name: str, value: str) -> str:
    """A choice as a person reads it; protocols have titles."""
    if name == "protocol":
        return PROTOCOLS[value].title
    return value.replace("_", " ").capitalize()


def _bound(field: forms.Field, label: str, metadata: list[Any]) -> None:
    """Refuse values beyond the bounds, in words; browsers are told the inclusive ones."""
    rules = [(BOUNDS[type(each)], getattr(each, BOUNDS[type(each)][0])) for each in metadata if type(each) in BOUNDS]
    allowed = " and ".join(words.format(limit) for (_, words, _), limit in rules)
    attributes = {"ge": "min", "le": "max"}
    field.widget.attrs |= {attributes[name]: f"{limit:g}" for (name, _, _), limit in rules if name in attributes}
    if isinstance(field, forms.FloatField):
        field.widget.attrs["step"] = "any"

    def check(value: float) -> None:
        if not all(holds(value, limit) for (_, _, holds), limit in rules):
            raise ValidationError(f"{label} is {value:g}: it must be {allowed}.")

    field.validators = [*field.validators, check]


def shown_options(options: type[BaseModel], values: dict[str, Any]) -> list[tuple[str, Any]]:
    """(title, value) of every option, with defaults for absent ones; choices and absence in words."""
    whole = options(**values)
    return [(str(field.label), _shown(name, getattr(whole, name))) for name, field in option_fields(options).items()]


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return _title(name, value) if isinstance(value, str) else f"{value:g}"


def option_schema(options: type[BaseModel], title: str) -> dict[str, Any]:
    """The options as OpenAPI 3.0 describes an object; it says "may be null" and exclusive bounds in its own way."""
    schema = options.model_json_schema()
    return {**schema, "title": title, "properties": {k: _plain(v) for k, v in schema["properties"].items()}}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    parts = [part for part in schema.get("anyOf", []) if part != {"type": "null"}]
    if len(parts) == 1:
        schema = {**{key: value for key, value in schema.items() if key != "anyOf"}, **parts[0], "nullable": True}
    for end in ("minimum", "maximum"):
        exclusive = f"exclusive{end.capitalize()}"
        if exclusive in schema:
            schema = {**schema, end: schema[exclusive], exclusive: True}
    return schema
