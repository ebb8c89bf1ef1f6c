"""Methods by name. Importing this module, or a method's package, imports no torch: the recipe is imported to be run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from training.engine.context import RunContext
    from training.engine.explore import Point
    from training.engine.networks import InputNetwork

PACKAGE = "training.methods"
Recipe = Callable[["RunContext", Any], None]
MakePoint = Callable[["InputNetwork", Mapping[str, Any]], "Point"]


class UnknownMethod(ValueError):
    """No method of that name."""


class BadConfig(ValueError):
    """A value that the method's config refuses. ``field`` names it; the message says what would do."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class MethodConfig(BaseModel):
    """Base of every method's config; unknown names are refused. A field's title and description become its label and
    help on the web form, its bounds the form's and the API schema's."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class InputSlot:
    """Versions that a method takes. task: "quality", "classification"; None for any. many: several, in order."""

    role: str
    title: str
    help: str = ""
    task: str | None = None
    required: bool = True
    many: bool = False


@dataclass(frozen=True)
class Curve:
    """A plot of the run page: metrics over steps on one axis. metrics: (name in the stream, label)."""

    title: str
    unit: str
    metrics: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class MethodCard:
    """What a person sees before choosing a method.

    name: the folder's name under ``training.methods``. source: paper and section. data: the task of the labelled set it
    needs, "any" for that of its inputs, None for none. presets: config values by name; the first is the default.
    recipe: "module:function" within the method's package. points: the same, of a function that makes a network of one
    setting of an adjustable output, ``(InputNetwork, dict) -> training.engine.explore.Point``, and raises ValueError
    where there is no such setting; "" where nothing is adjustable. ours: what differs from the paper, in sentences.
    """

    name: str
    title: str
    summary: str
    source: str
    recipe: str
    data: Literal["quality", "classification", "any"] | None
    inputs: tuple[InputSlot, ...] = ()
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    ours: tuple[str, ...] = ()
    points: str = ""
    is_listed: bool = True  # False: other parts of the product start it, no form offers it


@dataclass(frozen=True)
class Method:
    card: MethodCard
    config: type[MethodConfig]

    def configure(self, preset: str = "", **values: Any) -> MethodConfig:
        """The config of a preset ("" for the default one) with some values changed. Raises BadConfig."""
        name = preset or next(iter(self.card.presets), "")
        if name and name not in self.card.presets:
            known = ", ".join(self.card.presets)
            raise BadConfig(f'method "{self.card.name}" has no preset "{name}": choose from {known}', field="preset")
        try:
            return self.config(**{**(dict(self.card.presets[name]) if name else {}), **values})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "config"
            raise BadConfig(f"{where}: {first['msg']} (given: {first['input']!r})", field=where) from None

    def recipe(self) -> Recipe:
        """The function that trains; imports torch."""
        found: Recipe = self._function(self.card.recipe)
        return found

    def points(self) -> MakePoint | None:
        """The function that makes a network of a point; None where nothing is adjustable. Imports torch."""
        return self._function(self.card.points) if self.card.points else None

    def _function(self, path: str) -> Any:
        module, _, function = path.partition(":")
        return getattr(import_module(f"{PACKAGE}.{self.card.name}.{module}"), function)


_registered: dict[str, Method] = {}


def register_method(card: MethodCard) -> Callable[[type[MethodConfig]], type[MethodConfig]]:
    """Decorator of a method's config class. Raises ValueError when the name is taken by another package."""

    def enter(config: type[MethodConfig]) -> type[MethodConfig]:
        known = _registered.get(card.name)
        if known is not None and known.config.__module__ != config.__module__:
            both = f"{known.config.__module__}, {config.__module__}"
            raise ValueError(f'method "{card.name}" is registered twice: {both}')
        _registered[card.name] = Method(card, config)
        return config

    return enter


@cache
def _discover() -> None:
    for module in iter_modules(import_module(PACKAGE).__path__):
        if module.ispkg:
            import_module(f"{PACKAGE}.{module.name}")


def methods() -> dict[str, Method]:
    """All methods by name."""
    _discover()
    return dict(sorted(_registered.items()))


def method(name: str) -> Method:
    """One method. Raises UnknownMethod naming the known ones."""
    found = methods().get(name)
    if found is None:
        raise UnknownMethod(f'there is no training method "{name}": choose from {", ".join(methods()) or "none"}')
    return found
