"""Filters of the competition pages."""

from typing import Any

from django import template

register = template.Library()


@register.filter
def percent(share: float | None) -> str:
    """``0.1234`` as "12 %"; a dash where unknown."""
    return "—" if share is None else f"{100 * share:.0f} %"


@register.filter
def percent1(share: float | None) -> str:
    """``0.1234`` as "12.3 %"; a dash where unknown."""
    return "—" if share is None else f"{100 * share:.1f} %"


@register.filter
def figure(value: float | None, digits: int = 3) -> str:
    """A number with this many digits after the point; a dash where unknown."""
    return "—" if value is None else f"{value:.{digits}f}"


@register.filter
def distance(value: float | None) -> str:
    """A class distance: tiny ones in full, so that levels differ."""
    return "—" if value is None else f"{value:.4g}"


@register.filter
def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "unknown"
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.1f} days"


@register.filter
def key(values: Any, name: str) -> Any:
    """The value of this name; None where there is none."""
    return values.get(name) if isinstance(values, dict) else None


@register.filter
def at(values: Any, index: Any) -> Any:
    """One entry of a list or dict."""
    return values[index]
