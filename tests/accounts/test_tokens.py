"""Tokens: what a program may do with one, and what a thief finds in the database."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from accounts.errors import Denied, DomainError
from accounts.models import ApiToken, User
from accounts.services import token_create, token_revoke


class Probe(APIView):
    required_scopes = {"PUT": "annotate"}

    def get(self, request: Request) -> Response:
        return Response({"user": request.user.username})

    def put(self, request: Request) -> Response:
        return Response({})

    def post(self, request: Request) -> Response:
        return Response({})


def call(method: str, secret: str) -> Response:
    request = getattr(APIRequestFactory(), method)("/", HTTP_AUTHORIZATION=f"Bearer {secret}")
    return Probe.as_view()(request)


def test_a_token_acts_for_its_owner_and_the_secret_is_not_kept(researcher: User) -> None:
    token, secret = token_create(user=researcher, name="ci", scopes=["read"])
    assert call("get", secret).data == {"user": "researcher"}
    stored = ApiToken.objects.filter(pk=token.pk).values().get()
    assert secret.split("_", 2)[2] not in str(stored)
    token.refresh_from_db()
    assert token.last_used_at is not None


@pytest.mark.parametrize(
    ("scopes", "method", "status"),
    [
        (["read"], "get", 200),
        (["read"], "post", 403),
        (["read"], "put", 403),
        (["annotate"], "put", 200),
        (["annotate"], "get", 403),
        (["manage"], "post", 200),
        (["manage"], "put", 403),
    ],
)
def test_scopes_bound_what_a_token_may_do(researcher: User, scopes: list[str], method: str, status: int) -> None:
    _, secret = token_create(user=researcher, name="x", scopes=scopes)
    response = call(method, secret)
    assert response.status_code == status
    if status == 403:
        assert "lacks the scope" in str(response.data["detail"])


def test_revoked_expired_and_forged_tokens_are_refused(researcher: User, annotator: User) -> None:
    token, secret = token_create(user=researcher, name="x", scopes=["read"], days=1)
    with pytest.raises(Denied):
        token_revoke(token=token, by=annotator)
    assert call("get", secret[:-1] + ("a" if secret[-1] != "a" else "b")).status_code == 401
    assert call("get", "fals_nonsense").status_code == 401
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert call("get", secret).status_code == 401
    ApiToken.objects.filter(pk=token.pk).update(expires_at=None)
    assert call("get", secret).status_code == 200
    token_revoke(token=token, by=researcher)
    assert call("get", secret).status_code == 401
    assert issubclass(AuthenticationFailed, Exception)


def test_a_deactivated_person_loses_their_tokens(researcher: User) -> None:
    _, secret = token_create(user=researcher, name="x", scopes=["read"])
    User.objects.filter(pk=researcher.pk).update(is_active=False)
    assert call("get", secret).status_code == 401


def test_bad_requests_for_tokens_say_what_is_wrong(researcher: User, annotator: User) -> None:
    with pytest.raises(DomainError, match="choose from read, annotate, manage"):
        token_create(user=researcher, name="x", scopes=["everything"])
    with pytest.raises(DomainError, match="Give the token a name"):
        token_create(user=researcher, name=" ", scopes=["read"])
    with pytest.raises(Denied):
        token_create(user=researcher, name="x", scopes=["read"], by=annotator)


def test_the_page_shows_the_secret_once_and_revokes(client: Client, researcher: User) -> None:
    client.force_login(researcher)
    page = client.post("/account/", {"name": "notebook", "scopes": ["read"], "days": "30"})
    secret = page.context["secret"]
    assert secret in page.content.decode()
    assert call("get", secret).status_code == 200
    assert secret not in client.get("/account/").content.decode()
    token = ApiToken.objects.get()
    client.post(f"/account/tokens/{token.pk}/revoke/")
    assert call("get", secret).status_code == 401


def test_nobody_revokes_another_persons_token_by_its_number(client: Client, researcher: User, annotator: User) -> None:
    token, _ = token_create(user=researcher, name="x", scopes=["read"])
    client.force_login(annotator)
    assert client.post(f"/account/tokens/{token.pk}/revoke/").status_code == 404
