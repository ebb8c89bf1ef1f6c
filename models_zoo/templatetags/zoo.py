"""Numbers as the zoo's pages write them. Absent values become a dash."""

from typing import Any

from django import template

from models_zoo.summaries import scale_words

register = template.Library()
register.simple_tag(scale_words)
ABSENT = "—"
SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@register.filter
def count(value: float | None) -> str:
    """1234567 -> "1.23 M"."""
    if value is None:
        return ABSENT
    for size, letter in SCALES:
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


@register.filter
def percent(value: float | None, digits: int = 1) -> str:
    """0.8123 -> "81.2 %"."""
    return ABSENT if value is None else f"{100 * value:.{digits}f} %"


@register.filter
def milliseconds(value: float | None) -> str:
    """12.345 -> "12.3 ms"."""
    return ABSENT if value is None else f"{value:.3g} ms"


@register.filter
def megabytes(value: float | None) -> str:
    """123.4 -> "123 MB"."""
    return ABSENT if value is None else f"{value:,.3g} MB"


@register.filter
def of_bytes(value: int | None) -> str:
    """Bytes -> "1.1 MB", in powers of 1000."""
    return ABSENT if value is None else f"{count(value)}B"


@register.filter
def width(value: float | None) -> str:
    """A share as a CSS width, with a point whatever the language."""
    return f"{100 * (value or 0):.2f}%"


@register.filter
def correlation(value: float | None) -> str:
    """0.8123 -> "0.812"."""
    return ABSENT if value is None else f"{value:.3f}"


@register.filter
def score(value: float | None) -> str:
    """12.67681 -> "12.68"."""
    return ABSENT if value is None else f"{value:.4g}"


@register.filter
def place_on_scale(said: dict[str, Any]) -> float | None:
    """Where a score lies between the ends of its scale, 0..1; None where an end is open."""
    low, high = said["low"], said["high"]
    return None if low is None or high is None else min(max((said["score"] - low) / (high - low), 0.0), 1.0)
