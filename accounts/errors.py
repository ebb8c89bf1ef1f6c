"""Errors whose message is meant for the person who caused them: it names the thing, the value and the way out."""

from typing import Any

from django.core.exceptions import PermissionDenied
from rest_framework import status
from rest_framework.response import Response


class DomainError(Exception):
    """A request that cannot be carried out; ``str(error)`` is shown as it is.

    Attributes:
        field: the form or API field at fault, where there is one.
    """

    status_code: int = status.HTTP_400_BAD_REQUEST

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Conflict(DomainError):
    """The thing changed meanwhile, or the request was already carried out differently."""

    status_code = status.HTTP_409_CONFLICT


class Gone(DomainError):
    """The thing existed and is over: an expired lease, a closed campaign, a used-up invite."""

    status_code = status.HTTP_410_GONE


class Denied(DomainError, PermissionDenied):
    """This person may not do this to this thing."""

    status_code = status.HTTP_403_FORBIDDEN


def api_exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn domain errors into ``{"detail": message, "field": name}`` with their status; the rest as DRF does."""
    if isinstance(error, DomainError):
        body: dict[str, Any] = {"detail": str(error)}
        if error.field:
            body["field"] = error.field
        return Response(body, status=error.status_code)
    from rest_framework.views import exception_handler  # reads settings that name modules which import this one

    return exception_handler(error, context)
