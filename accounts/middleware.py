"""What a page says when a request cannot be carried out."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from accounts.errors import DomainError


class DomainErrorMiddleware:
    """A ``DomainError`` that a view lets through becomes a page, or JSON where that was asked for, with its message."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, DomainError):
            return None
        if request.headers.get("Accept", "").startswith("application/json"):
            return JsonResponse({"detail": str(error)}, status=error.status_code)
        return render(request, "error.html", {"message": str(error)}, status=error.status_code)
