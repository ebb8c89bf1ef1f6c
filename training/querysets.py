"""Reads of labelled sets and runs."""

from typing import TYPE_CHECKING, Any, Self

from django.db import models

from accounts.querysets import SharedQuerySet
from models_zoo.models import Model

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from accounts.models import User


class LabelledSetQuerySet(SharedQuerySet):
    def for_lists(self) -> Self:
        """With what a line of a list shows, in one query."""
        return self.select_related("created_by", "taxonomy").defer(
            "taxonomy__classes", "taxonomy__edges", "taxonomy__node_names"
        )


class RunQuerySet(SharedQuerySet):
    def for_lists(self) -> Self:
        """With what a line of a list shows, in one query."""
        return self.select_related("created_by", "job", "edition__labelled_set")


class VersionPointQuerySet(models.QuerySet[Any]):
    """A point belongs to whom its adjustable version does."""

    def visible_to(self, user: "User | AnonymousUser") -> Self:
        return self.filter(version__model__in=Model.objects.visible_to(user))

    def editable_by(self, user: "User | AnonymousUser") -> Self:
        return self.filter(version__model__in=Model.objects.editable_by(user))
