"""Checks that services and API views call before they act."""

from typing import TYPE_CHECKING, Any, cast

from django.db import models
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.errors import Denied

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from accounts.models import ApiToken, User


def require_researcher(user: "User | AnonymousUser", *, action: str) -> None:
    """Raise ``Denied`` unless the person is a researcher or admin; ``action`` completes "to …"."""
    if not (user.is_authenticated and user.is_researcher):
        raise Denied(f"Your account may not {action}: that takes the researcher role, which an admin can give you.")


def require_edit(user: "User | AnonymousUser", target: models.Model, *, action: str) -> None:
    """Raise ``Denied`` unless the person may change ``target`` (an instance of a ``Shared`` model)."""
    if not type(target)._default_manager.editable_by(user).filter(pk=target.pk).exists():  # type: ignore[attr-defined]
        raise Denied(f'You may not {action} "{target}": ask its owner to make you an editor.')


def require_owner(user: "User | AnonymousUser", target: models.Model, *, action: str) -> None:
    """Raise ``Denied`` unless the person owns ``target`` (an instance of a ``Shared`` model)."""
    if not type(target)._default_manager.owned_by(user).filter(pk=target.pk).exists():  # type: ignore[attr-defined]
        raise Denied(f'Only an owner of "{target}" may {action} it.')


def require_view(user: "User | AnonymousUser", target: models.Model) -> None:
    """Raise ``Denied`` unless the person may look at ``target`` (an instance of a ``Shared`` model)."""
    if not type(target)._default_manager.visible_to(user).filter(pk=target.pk).exists():  # type: ignore[attr-defined]
        raise Denied(f'You may not see "{target}": ask its owner to share it with you.')


class ScopedPermission(BasePermission):
    """Logged in, and, with a token, holding the scope the request needs.

    A view may set ``required_scopes = {"POST": "annotate"}``; reads need ``read``, other methods ``manage``.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not (request.user and request.user.is_authenticated and request.user.is_active):
            return False
        token = request.auth
        if token is None:
            return True
        default = "read" if request.method in SAFE_METHODS else "manage"
        needed = getattr(view, "required_scopes", {}).get(request.method, default)
        self.message = f'This token lacks the scope "{needed}".'
        return needed in cast("ApiToken", token).scopes
