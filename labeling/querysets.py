"""Reads of campaigns, trials, slots and judgements."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import Count, Exists, OuterRef, Q

from accounts.querysets import SharedQuerySet

if TYPE_CHECKING:
    from accounts.models import User

SHARED_KINDS = ["ordinary", "control"]
TAXONOMY_LONG = ("classes", "edges", "node_names")


def exclusion_in_force(*, campaign: str = "campaign", person: str = "person") -> Exists:
    """Whether the person of the outer row is excluded from its campaign; the arguments name the outer columns."""
    from labeling.models import Exclusion

    return Exists(
        Exclusion.objects.filter(
            lifted_at__isnull=True,
            participation__campaign=OuterRef(campaign),
            participation__person=OuterRef(person),
        )
    )


class CampaignQuerySet(SharedQuerySet):
    def joined_by(self, user: "User") -> Self:
        """Those this person takes part in."""
        return self.filter(participations__person=user)

    def with_taxonomy(self) -> Self:
        """The taxonomy as well, without its classes, which are long and cached elsewhere."""
        return self.select_related("taxonomy").defer(*(f"taxonomy__{name}" for name in TAXONOMY_LONG))

    def with_progress(self) -> Self:
        """Annotates ``n_trials``, ``n_ended``, ``n_required`` (slots not void) and ``n_done`` of the shared trials."""
        from labeling.models import Slot, Trial

        def counted(rows: models.QuerySet[Any]) -> models.functions.Coalesce:
            total = (
                rows.filter(campaign=OuterRef("pk")).order_by().values("campaign").annotate(n=Count("pk")).values("n")
            )
            return models.functions.Coalesce(models.Subquery(total, output_field=models.IntegerField()), 0)

        trials = Trial.objects.filter(kind__in=SHARED_KINDS)
        slots = Slot.objects.filter(is_shared=True)
        return self.annotate(
            n_trials=counted(trials),
            n_ended=counted(trials.exclude(state="open")),
            n_required=counted(slots.exclude(state="void")),
            n_done=counted(slots.filter(state="done")),
        )


class TrialQuerySet(models.QuerySet[Any]):
    def shared(self) -> Self:
        """Ordinary and control trials: those that get verdicts."""
        return self.filter(kind__in=SHARED_KINDS)

    def unended(self) -> Self:
        """Shared trials that still wait for judgements."""
        return self.shared().filter(state="open")


class SlotQuerySet(models.QuerySet[Any]):
    def new_to(self, person: "User") -> Self:
        """Of trials that this person has neither had nor passed on."""
        from labeling.models import Skip, Slot

        same_trial = {"trial": OuterRef("trial"), "person": person}
        return self.filter(~Exists(Slot.objects.filter(**same_trial)), ~Exists(Skip.objects.filter(**same_trial)))

    def available_to(self, person: "User", now: datetime) -> Self:
        """Everything that could be handed to this person now."""
        free = Q(state="open") | Q(state="leased", leased_until__lt=now)
        return self.filter(free, is_shared=True).new_to(person)


class JudgementQuerySet(models.QuerySet[Any]):
    def in_force(self) -> Self:
        """Not superseded by an undo."""
        return self.filter(superseded_at__isnull=True)

    def counted(self) -> Self:
        """Those that verdicts rest on: in force, of shared trials, of people who are not excluded."""
        return self.in_force().filter(~exclusion_in_force(), trial__kind__in=SHARED_KINDS)
