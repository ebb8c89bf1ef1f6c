"""Reads of jobs."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.db import models
from django.db.models import CharField, Q, Value
from django.db.models.functions import Cast, Concat

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from accounts.models import User


def subject_of(instance: models.Model) -> str:
    """The subject string of an object: ``app.model:id``."""
    return f"{instance._meta.label_lower}:{instance.pk}"


def _subject_managers(verb: str) -> list[Any]:
    """Managers of every model that can answer ``verb``, jobs themselves excepted."""
    managers = [model._default_manager for model in apps.get_models() if model._meta.app_label != "jobs"]
    return [manager for manager in managers if hasattr(manager, verb)]


class JobQuerySet(models.QuerySet[Any]):
    def _own_or_about(self, user: "User", verb: str) -> Q:
        """Enqueued by this person, or about an object that the manager's ``verb`` gives them."""
        found = Q(created_by=user)
        if user.is_researcher:
            for manager in _subject_managers(verb):
                prefix = Value(f"{manager.model._meta.label_lower}:")
                key = Concat(prefix, Cast("pk", CharField()), output_field=CharField())
                found |= Q(subject__in=getattr(manager, verb)(user).annotate(subject_key=key).values("subject_key"))
        return found

    def visible_to(self, user: "User | AnonymousUser") -> Self:
        """Admins: all. Everybody: their own. Researchers: also those about an object that they may see."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_admin else self.filter(self._own_or_about(user, "visible_to"))

    def changeable_by(self, user: "User | AnonymousUser") -> Self:
        """Admins: all. Everybody: their own. Researchers: also those about an object that they may change."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_admin else self.filter(self._own_or_about(user, "editable_by"))

    def about(self, instance: models.Model) -> Self:
        """Jobs whose subject is this object, newest first."""
        return self.filter(subject=subject_of(instance))

    def live(self) -> Self:
        """Queued or in a worker's hand."""
        return self.filter(state__in=["queued", "running", "cancelling"])

    def startable(self, now: datetime) -> Self:
        """Queued, and not told to wait."""
        return self.filter(state="queued").filter(Q(not_before=None) | Q(not_before__lte=now))

    def stale(self, now: datetime, after: timedelta) -> Self:
        """In hand of a worker that has not been heard of for ``after``."""
        return self.filter(state__in=["running", "cancelling"], beat_at__lt=now - after)

    def unannounced(self, now: datetime, after: timedelta) -> Self:
        """Ended a while ago, but nobody was told."""
        return self.filter(state__in=["succeeded", "failed", "cancelled"], announced_at=None, ended_at__lt=now - after)
