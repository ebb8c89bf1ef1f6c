"""Reads of competitions."""

from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import Count, OuterRef, Q, Subquery

from accounts.querysets import SharedQuerySet

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from accounts.models import User
    from competition.models import Entrant

LIVE_STATES = ("preparing", "scoring", "selecting", "labelling", "settling", "learning")


class CompetitionQuerySet(SharedQuerySet):
    def for_lists(self) -> Self:
        """With corpus, label space and owner; without the classes, which are long."""
        heavy = ("taxonomy__classes", "taxonomy__edges", "taxonomy__node_names")
        return self.select_related("corpus", "taxonomy", "created_by").defer(*heavy)

    def with_round(self) -> Self:
        """Adds what a list shows: entrant count, latest round's number and state."""
        from competition.models import Round

        latest = Round.objects.filter(competition=OuterRef("pk")).order_by("-number")
        return self.annotate(
            n_entrants=Count("entrants", distinct=True),
            round_number=Subquery(latest.values("number")[:1]),
            round_state=Subquery(latest.values("state")[:1]),
        )


class EntrantQuerySet(models.QuerySet[Any]):
    def with_versions(self) -> Self:
        """In the order of entry, with version, model and label space; without the classes, which are long."""
        heavy = ("classes", "edges", "node_names")
        return (
            self.select_related("version__model__taxonomy")
            .defer(*(f"version__model__taxonomy__{column}" for column in heavy))
            .order_by("number")
        )


class RoundQuerySet(models.QuerySet[Any]):
    def visible_to(self, user: "User | AnonymousUser") -> Self:
        """Rounds of the competitions that this person may look at."""
        from competition.models import Competition

        return self.filter(competition__in=Competition.objects.visible_to(user))

    def live(self) -> Self:
        """Not complete, failed or cancelled."""
        return self.filter(state__in=LIVE_STATES)


class ExhibitQuerySet(models.QuerySet[Any]):
    def asked(self) -> Self:
        """What people were or are asked about: everything but the untouched reserve."""
        return self.exclude(role="reserve")

    def about_trials(self, **conditions: Any) -> Self:
        """Those with a trial, of either of their images, that meets the conditions, such as ``state="open"``."""
        either = Q(pk__in=[])
        for name in ("trial", "second_trial"):
            either |= Q(**{f"{name}__{field}": value for field, value in conditions.items()})
        return self.filter(either)

    def of_pair(self, first: "Entrant", second: "Entrant") -> Self:
        """Exhibits of the duels of these two, in whichever order they are named."""
        return self.filter(Q(duel__first=first, duel__second=second) | Q(duel__first=second, duel__second=first))

    def counted(self) -> Self:
        """Selected exhibits whose people came to a verdict: what a leaderboard rests on."""
        return self.filter(role="selected", trial__verdict__outcome="settled")


class SnapshotQuerySet(models.QuerySet[Any]):
    def latest_of(self, competition: Any, *, counts_everyone: bool = False) -> Any | None:
        """The newest leaderboard of a competition, or None."""
        return self.filter(competition=competition, counts_everyone=counts_everyone).order_by("-number").first()
