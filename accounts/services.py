"""Writes: tokens, memberships, people, preferences."""

import secrets
from datetime import timedelta
from typing import Any

import structlog
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.utils import timezone

from accounts.authentication import token_digest
from accounts.errors import Denied, DomainError
from accounts.models import ApiToken, Membership, MembershipRole, Scope, User
from accounts.permissions import require_owner

log = structlog.get_logger()

THEMES = ("", "light", "dark")


def token_create(
    *, user: User, name: str, scopes: list[str], days: int | None = None, by: User | None = None
) -> tuple[ApiToken, str]:
    """Make a token; the second value is the secret that is shown once and kept nowhere.

    Args:
        days: days until it expires; never when None.
    """
    if by is not None and by != user and not by.is_admin:
        raise Denied("Tokens are made by the person they act for.")
    unknown = sorted(set(scopes) - set(Scope.values))
    if unknown or not scopes:
        raise DomainError(f"Unknown scopes {unknown}: choose from {', '.join(Scope.values)}.", field="scopes")
    if not name.strip():
        raise DomainError("Give the token a name, so that you know later what uses it.", field="name")
    prefix, secret = secrets.token_hex(5), secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name.strip(),
        prefix=prefix,
        digest=token_digest(secret),
        scopes=sorted(scopes),
        expires_at=timezone.now() + timedelta(days=days) if days else None,
    )
    log.info("token_created", token=token.prefix, user=user.pk, scopes=token.scopes)
    return token, f"fals_{prefix}_{secret}"


def token_revoke(*, token: ApiToken, by: User) -> None:
    """End a token at once; its owner and admins may."""
    if token.user_id != by.pk and not by.is_admin:
        raise Denied("Only its owner or an admin may revoke a token.")
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    log.info("token_revoked", token=token.prefix, by=by.pk)


def membership_set(*, target: models.Model, username: str, role: str, by: User) -> Membership:
    """Give somebody a role on one object, replacing the role they had."""
    require_owner(by, target, action="share")
    if role not in MembershipRole.values:
        raise DomainError(f'"{role}" is no role: choose from {", ".join(MembershipRole.values)}.', field="role")
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise DomainError(f'There is no active account "{username}": ask an admin to make one.', field="username")
    kind = ContentType.objects.get_for_model(target)
    membership, _ = Membership.objects.update_or_create(
        user=user, content_type=kind, object_id=target.pk, defaults={"role": role}
    )
    log.info("membership_set", target=str(target), user=user.pk, role=role, by=by.pk)
    return membership


def membership_remove(*, membership: Membership, by: User) -> None:
    """Take somebody's role on an object away; owners, admins, and the person concerned may."""
    if membership.user_id != by.pk:
        target = membership.target
        assert isinstance(target, models.Model)
        require_owner(by, target, action="share")
    log.info("membership_removed", membership=membership.pk, by=by.pk)
    membership.delete()


def user_create(*, username: str, role: str, by: User, password: str | None = None, email: str = "") -> User:
    """Make an account; admins may. Without a password the person cannot log in until one is set."""
    if not by.is_admin:
        raise Denied("Only admins make accounts.")
    if User.objects.filter(username=username).exists():
        raise DomainError(f'There is already an account "{username}": choose another name.', field="username")
    return User.objects.create_user(username, email, password, role=role)


@transaction.atomic
def preferences_update(*, user: User, **values: Any) -> User:
    """Merge ``values`` into a person's preferences; ``theme`` is one of "", "light", "dark"."""
    if values.get("theme", "") not in THEMES:
        raise DomainError(f'"{values["theme"]}" is no theme: choose light, dark, or none to follow the system.')
    locked = User.objects.select_for_update().get(pk=user.pk)
    locked.preferences = {**locked.preferences, **values}
    locked.save(update_fields=["preferences"])
    return locked
