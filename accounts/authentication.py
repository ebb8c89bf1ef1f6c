"""Bearer tokens of programs."""

import hashlib
import hmac
from datetime import timedelta

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import ApiToken, User

LAST_USED_GRAIN = timedelta(minutes=1)


def token_digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer fals_<prefix>_<secret>``."""

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        parts = get_authorization_header(request).decode("latin-1").split()
        if not parts or parts[0].lower() != "bearer":
            return None
        pieces = parts[1].split("_", 2) if len(parts) == 2 else []
        if len(pieces) != 3 or pieces[0] != "fals":
            raise AuthenticationFailed("The token is malformed: it looks like fals_<prefix>_<secret>.")
        token = ApiToken.objects.select_related("user").filter(prefix=pieces[1]).first()
        if token is None or not hmac.compare_digest(token.digest, token_digest(pieces[2])):
            raise AuthenticationFailed("The token is not valid.")
        now = timezone.now()
        if token.revoked_at or (token.expires_at and token.expires_at < now) or not token.user.is_active:
            raise AuthenticationFailed("The token was revoked or has expired: make a new one on your account page.")
        if token.last_used_at is None or now - token.last_used_at > LAST_USED_GRAIN:
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        return token.user, token
