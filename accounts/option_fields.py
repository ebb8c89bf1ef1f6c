"""Form fields, readable values and an API schema made from typed options (a pydantic model).

A field's title and description become its label and help, its bounds the form's and the schema's. Choices are called
what ``json_schema_extra={"x-titles": {value: title}}`` says, else by their own value. Annotations that are understood:
bool, int, float, str, ``Literal``, tuples and lists of numbers, texts or literals, and each of these ``| None``.
"""

import operator
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from django import forms
from django.core.exceptions import ValidationError
from pydantic import BaseModel
from pydantic.fields import FieldInfo

NUMBERS: dict[Any, type[forms.Field]] = {int: forms.IntegerField, float: forms.FloatField}
TITLES = "x-titles"
BOUNDS: dict[type, tuple[str, str, Callable[[float, float], bool]]] = {
    annotated_types.Ge: ("ge", "at least {:g}", operator.ge),
    annotated_types.Gt: ("gt", "more than {:g}", operator.gt),
    annotated_types.Le: ("le", "at most {:g}", operator.le),
    annotated_types.Lt: ("lt", "less than {:g}", operator.lt),
}
"""Name of the limit, how it is said, what it asks of a value."""


class SequenceField(forms.CharField):
    """Several values in one box, separated by commas: ``0.1, 0.01`` becomes (0.1, 0.01)."""

    def __init__(self, *, of: Any, **kwargs: Any) -> None:
        self.of = of
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(_plain_text(part) for part in value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(value)
        parts = [part.strip() for part in (super().to_python(value) or "").split(",")]
        return tuple(self._one(part) for part in parts if part)

    def _one(self, part: str) -> Any:
        choices = get_args(self.of) if get_origin(self.of) is Literal else ()
        if choices:
            if part not in choices:
                raise ValidationError(f'"{part}" is no choice: use {", ".join(map(str, choices))}.')
            return part
        try:
            return self.of(part)
        except ValueError:
            wanted = "whole numbers" if self.of is int else "numbers"
            raise ValidationError(f'"{part}" is no number: give {wanted}, separated by commas.') from None

    def validate(self, value: Any) -> None:
        if self.required and not value:
            raise ValidationError(self.error_messages["required"], code="required")

    def run_validators(self, value: Any) -> None:
        """Lengths of texts do not apply."""


def option_fields(options: type[BaseModel]) -> dict[str, forms.Field]:
    """A form field for each option, with its title, description, default and bounds."""
    return {name: _field(name, info) for name, info in options.model_fields.items()}


def _field(name: str, info: FieldInfo) -> forms.Field:
    kind, is_optional = _kind(info.annotation)
    common: dict[str, Any] = {
        "label": title_of(name, info),
        "help_text": info.description or "",
        "initial": None if info.is_required() else info.get_default(call_default_factory=True),
        "required": not is_optional,
    }
    if kind is bool:
        return forms.BooleanField(**{**common, "required": False})
    if get_origin(kind) is Literal:
        choices = [(value, choice_title(info, value)) for value in get_args(kind)]
        return forms.ChoiceField(**common, choices=([("", "—")] if is_optional else []) + choices)
    if get_origin(kind) in {tuple, list}:
        needed = _needs_items(kind, info.metadata) and not is_optional
        return SequenceField(of=_element(kind), **{**common, "required": needed})
    if kind is str:
        return forms.CharField(**{**common, "required": common["initial"] != "" and not is_optional})
    field = NUMBERS[kind](**common)
    _bound(field, common["label"], info.metadata)
    return field


def title_of(name: str, info: FieldInfo) -> str:
    """An option as a person reads it."""
    return info.title or name.replace("_", " ").capitalize()


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type of an option, and whether it may be empty."""
    parts = get_args(annotation)
    if NoneType not in parts:
        return annotation, False
    (kind,) = (part for part in parts if part is not NoneType)
    return kind, True


def takes_several(info: FieldInfo) -> bool:
    """Whether an option is a list or a tuple."""
    return get_origin(_kind(info.annotation)[0]) in {tuple, list}


def _element(kind: Any) -> Any:
    """The type of what a tuple or list holds."""
    first = get_args(kind)[0]
    return get_args(first)[0] if get_origin(first) is Annotated else first


def _needs_items(kind: Any, metadata: list[Any]) -> bool:
    """Whether a list must hold something: a tuple of a fixed length, or a least length."""
    is_fixed = get_origin(kind) is tuple and Ellipsis not in get_args(kind)
    return is_fixed or any(isinstance(each, annotated_types.MinLen) and each.min_length > 0 for each in metadata)


def choice_title(info: FieldInfo, value: str) -> str:
    """A choice as a person reads it."""
    extra = info.json_schema_extra
    titles = extra.get(TITLES, {}) if isinstance(extra, Mapping) else {}
    named = titles.get(value) if isinstance(titles, Mapping) else None
    return str(named) if named else str(value).replace("_", " ").capitalize()


def bounds_words(info: FieldInfo) -> str:
    """ "at least 1 and at most 9"; empty where there are no bounds."""
    rules = _rules(info.metadata)
    return " and ".join(BOUNDS[type(each)][1].format(limit) for each, limit in rules)


def type_words(info: FieldInfo) -> str:
    """What an option takes, in words: "whole number", "one of paper, small", "numbers, separated by commas"."""
    kind, is_optional = _kind(info.annotation)
    plain = {bool: "yes or no", int: "whole number", float: "number", str: "text"}
    if get_origin(kind) is Literal:
        words = f"one of {', '.join(map(str, get_args(kind)))}"
    elif get_origin(kind) in {tuple, list}:
        element = _element(kind)
        several = {int: "whole numbers", float: "numbers"}.get(element, "texts")
        words = f"{several}, separated by commas"
    else:
        words = plain[kind]
    return f"{words}, or nothing" if is_optional else words


def _rules(metadata: list[Any]) -> list[tuple[Any, float]]:
    return [(each, getattr(each, BOUNDS[type(each)][0])) for each in metadata if type(each) in BOUNDS]


def _bound(field: forms.Field, label: str, metadata: list[Any]) -> None:
    """Refuse values beyond the bounds, in words; browsers are told the inclusive ones."""
    rules = [(BOUNDS[type(each)], limit) for each, limit in _rules(metadata)]
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
    fields = options.model_fields.items()
    return [(title_of(name, info), shown_value(info, getattr(whole, name))) for name, info in fields]


def shown_value(info: FieldInfo, value: Any) -> str:
    """A value of an option as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain_text(part) for part in value) or "none"
    if isinstance(value, str):
        return choice_title(info, value) if get_origin(_kind(info.annotation)[0]) is Literal else value
    return _plain_text(value)


def _plain_text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def option_schema(options: type[BaseModel], title: str) -> dict[str, Any]:
    """The options as OpenAPI 3.0 describes an object; it says "may be null" and exclusive bounds in its own way."""
    schema = options.model_json_schema()
    return {**schema, "title": title, "properties": {k: _plain(v) for k, v in schema.get("properties", {}).items()}}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    parts = [part for part in schema.get("anyOf", []) if part != {"type": "null"}]
    if len(parts) == 1:
        schema = {**{key: value for key, value in schema.items() if key != "anyOf"}, **parts[0], "nullable": True}
    if "prefixItems" in schema:  # a tuple of a fixed length; OpenAPI 3.0 has one schema for all its items
        schema = {**{key: value for key, value in schema.items() if key != "prefixItems"},
                  "items": schema["prefixItems"][0]}  # fmt: skip
    for end in ("minimum", "maximum"):
        exclusive = f"exclusive{end.capitalize()}"
        if exclusive in schema:
            schema = {**schema, end: schema[exclusive], exclusive: True}
    return schema
