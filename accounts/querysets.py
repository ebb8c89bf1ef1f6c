"""Reads: who may see and change what."""

from typing import TYPE_CHECKING, Any, Self

from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import Q

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from accounts.models import User


class SharedQuerySet(models.QuerySet[Any]):
    """Rows of a model that derives from ``Shared``."""

    def _memberships(self, user: "User", roles: list[str]) -> models.QuerySet[Any]:
        from accounts.models import Membership

        kind = ContentType.objects.get_for_model(self.model)
        return Membership.objects.filter(user=user, content_type=kind, role__in=roles).values("object_id")

    def visible_to(self, user: "User | AnonymousUser") -> Self:
        """What this person may look at: everything (admin), own, public (researchers), or shared with them."""
        if not user.is_authenticated:
            return self.none()
        if user.is_admin:
            return self
        mine = Q(created_by=user) | Q(pk__in=self._memberships(user, ["viewer", "editor", "owner"]))
        return self.filter(mine | Q(is_public=True)) if user.is_researcher else self.filter(mine)

    def editable_by(self, user: "User | AnonymousUser") -> Self:
        """What this person may change: everything (admin), own, or shared with them as editor or owner."""
        if not user.is_authenticated:
            return self.none()
        if user.is_admin:
            return self
        return self.filter(Q(created_by=user) | Q(pk__in=self._memberships(user, ["editor", "owner"])))

    def owned_by(self, user: "User | AnonymousUser") -> Self:
        """What this person may share and delete: everything (admin), own, or shared with them as owner."""
        if not user.is_authenticated:
            return self.none()
        if user.is_admin:
            return self
        return self.filter(Q(created_by=user) | Q(pk__in=self._memberships(user, ["owner"])))
