"""Logging: one line per event, plain or JSON, from ``LOG_LEVEL`` on, for the product's own loggers and for libraries'.

Annotators' requests, which come by the hundred per second, leave a line each at LOG_LEVEL=DEBUG alone; what they did is
in the database, and errors are logged as ever.
"""

import logging
import re
import sys
from collections.abc import Awaitable
from typing import Any, Literal

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django_structlog.middlewares import RequestMiddleware

Form = Literal["plain", "json"]
QUIET = re.compile(r"/(?:label/(?:\d+/(?:answer|next|undo|skip|viewing|preferences)/|slots/.*)|healthz)$")


def _renderer(form: Form) -> Any:
    if form == "json":
        return structlog.processors.JSONRenderer()
    plain = structlog.dev.plain_traceback  # the rich one shows local variables, secrets among them, and takes its time
    return structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=plain)


def _stamps(form: Form) -> list[Any]:
    """What every line has beside its event."""
    errors = [structlog.processors.format_exc_info] if form == "json" else []
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        *errors,
    ]


def structlog_configure(level: str, form: Form) -> None:
    """What is below the level costs a call that returns at once."""
    structlog.configure(
        processors=[*_stamps(form), _renderer(form)],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=lambda *names: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def logging_settings(level: str, form: Form) -> dict[str, Any]:
    """Django's ``LOGGING``: libraries' lines look like the product's own."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(form)],
                "foreign_pre_chain": [*_stamps(form), structlog.stdlib.add_logger_name],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": level},
    }


class RequestLog(RequestMiddleware):
    """A line per request with its id, person and outcome; none for annotators' requests above DEBUG."""

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if settings.LOG_LEVEL != "DEBUG" and QUIET.search(request.path_info):
            return self.get_response(request)
        return super().__call__(request)
