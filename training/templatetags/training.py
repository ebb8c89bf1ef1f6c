"""What training's pages write: durations, and bits of lists."""

from django import template

from jobs.words import duration

register = template.Library()


@register.filter("duration")
def duration_words(seconds: float | None) -> str:
    """183.2 -> "3 min"; a dash where nothing was computed."""
    return duration(seconds) if seconds else "—"


@register.filter
def width(value: float) -> str:
    """A percentage as a CSS width, with a point whatever the language."""
    return f"{value:.2f}%"
