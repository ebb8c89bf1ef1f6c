"""A request that cannot be carried out is answered with a sentence, on pages and in JSON."""

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from accounts.errors import Conflict, Denied, DomainError
from accounts.middleware import DomainErrorMiddleware
from accounts.models import User


def answer(error: Exception, user: User, **headers: str) -> HttpResponse | None:
    request: HttpRequest = RequestFactory().get("/", **headers)
    request.user = user
    return DomainErrorMiddleware(lambda request: HttpResponse()).process_exception(request, error)


@pytest.mark.parametrize(("kind", "status"), [(DomainError, 400), (Conflict, 409), (Denied, 403)])
def test_the_message_is_shown_with_its_status(kind: type[DomainError], status: int, researcher: User) -> None:
    page = answer(kind('corpus "x" is empty: import images'), researcher)
    assert page is not None
    assert page.status_code == status
    assert "corpus &quot;x&quot; is empty: import images" in page.content.decode()
    data = answer(kind("no"), researcher, HTTP_ACCEPT="application/json")
    assert data is not None
    assert data.content == b'{"detail": "no"}'


def test_other_errors_are_not_hidden(researcher: User) -> None:
    assert answer(ValueError("bug"), researcher) is None
