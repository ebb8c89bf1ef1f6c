"""Asking people.

Campaign: the labelling of a set of exhibits under one protocol.
Trial: an exhibit inside a campaign: ordinary, gold, repeat, training or control.
Slot: one judgement that is required of a trial; leased to one person at a time.
Judgement: one person's answer; append-only, an undo supersedes it.
Verdict: what a trial's judgements amount to.
Participation: one person in one campaign. Invite: a link that makes participations.
"""

import secrets
import uuid
from typing import Protocol

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from simple_history.models import HistoricalRecords

from accounts.models import Shared
from corpora.models import Item, Taxonomy
from labeling.protocols import protocol_choices
from labeling.querysets import CampaignQuerySet, JudgementQuerySet, SlotQuerySet, TrialQuerySet


class Sized(Protocol):
    """Something with a width and a height in pixels."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


PICTURES = ("item", "second", "reference")  # of a trial, by place
TRIAL_PICTURES = tuple(f"trial__{name}" for name in PICTURES)
SIZE_RATIO = 1.5  # of widths or heights in a pair
SHARE = [MinValueValidator(0.0), MaxValueValidator(0.5)]
RATE = [MinValueValidator(0.0), MaxValueValidator(1.0)]


def size_note(first: Sized, second: Sized) -> str:
    """Says so when two pictures of a pair differ so much in size that size is what people will see; else empty."""
    sides = [(first.width, second.width), (first.height, second.height)]
    if all(max(pair) <= SIZE_RATIO * min(pair) for pair in sides):
        return ""
    return (
        f"The pictures of this pair differ much in size ({first.width} × {first.height} and {second.width} × "
        f"{second.height}): people will judge that as well. Pictures scaled to one size compare better."
    )


class CampaignState(models.TextChoices):
    DRAFT = "draft", "Draft: being set up, nobody can label"
    OPEN = "open", "Open"
    PAUSED = "paused", "Paused: no new trials are handed out"
    COMPLETE = "complete", "Complete: every trial is settled or dropped"
    CLOSED = "closed", "Closed by its owner before completion"


class Sampling(models.TextChoices):
    ALL = "all", "All: every trial that is added, as often as is asked for"
    ACTIVE = "active", "Active: of the candidates, the pairs whose answers tell most, as answers come in"


class Campaign(Shared):
    """The labelling of a set of exhibits under one protocol.

    ::

        draft ──> open <──> paused
                   │ ^        │
                   │ └──reopened by new trials──┐
                   ├──> complete ───────────────┘
                   └──> closed
    """

    name = models.CharField(max_length=160)
    protocol = models.CharField(max_length=12, choices=protocol_choices, default="verify")
    taxonomy = models.ForeignKey(
        Taxonomy,
        models.PROTECT,
        null=True,
        blank=True,
        help_text="Names and glosses of the classes asked about, where the protocol asks about classes",
    )
    question = models.CharField(
        max_length=200, blank=True, help_text="Asked under the pictures; empty: the protocol's own question"
    )
    state = models.CharField(max_length=10, choices=CampaignState, default=CampaignState.DRAFT)
    purpose = models.TextField(blank=True, help_text="Shown at the end: what the labels are for")
    instructions = models.TextField(blank=True, help_text="Shown before the first trial")
    consent = models.TextField(blank=True, help_text="What participants agree to; asked once")
    overlap = models.PositiveSmallIntegerField(
        default=5, validators=[MinValueValidator(1)], help_text="Judgements per trial"
    )
    extra_slots = models.PositiveSmallIntegerField(
        default=2, help_text="More judgements opened on an exact tie, at most"
    )
    sampling = models.CharField(
        max_length=8, choices=Sampling, default=Sampling.ALL, help_text="Which pairs are asked about; of ratings all"
    )
    budget = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Active sampling: judgements that count, in all; it ends there",
    )
    lease_seconds = models.PositiveIntegerField(default=600, validators=[MinValueValidator(10)])
    gold_share = models.FloatField(default=0.0, validators=SHARE, help_text="Share of trials with a known answer")
    gold_warn = models.FloatField(default=0.7, validators=RATE, help_text="Below this share right: a warning")
    gold_stop = models.FloatField(default=0.5, validators=RATE, help_text="Below this share right: no more trials")
    gold_minimum = models.PositiveSmallIntegerField(default=5, help_text="Gold answers before the bars apply")
    repeat_share = models.FloatField(default=0.0, validators=SHARE, help_text="Share of trials shown twice to a person")
    block_minutes = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(1)],
        help_text="A break is due after this long; the trials between two breaks are a block",
    )
    require_viewing = models.BooleanField(default=False, help_text="Refuse windows that fail the viewing check")
    show_agreement = models.BooleanField(default=False, help_text="Tell people their agreement with the majority")
    seed = models.PositiveBigIntegerField(default=0, help_text="Of trial order, sides, gold and repeat schedule")
    opened_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    objects = CampaignQuerySet.as_manager()  # type: ignore[misc]
    history = HistoricalRecords(excluded_fields=["state", "opened_at", "completed_at"])

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("labeling:campaign", args=[self.pk])


class Candidate(models.Model):
    """A picture that active sampling may pair with others of its scene."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="candidates")
    item = models.ForeignKey(Item, models.PROTECT, related_name="+")
    scene = models.CharField(max_length=200, blank=True, help_text="Only pictures of one scene are compared")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "item"], name="candidate_once")]

    def __str__(self) -> str:
        return f"{self.item} in {self.campaign}"


class TrialKind(models.TextChoices):
    ORDINARY = "ordinary", "Ordinary"
    CONTROL = "control", "Control: a random image, to compare with"
    GOLD = "gold", "Gold: the answer is known"
    REPEAT = "repeat", "Repeat: shown to a person for the second time"
    TRAINING = "training", "Training: answered with feedback, never counted"

    @classmethod
    def shared(cls) -> list["TrialKind"]:
        """Kinds whose slots are shared out; those of the others are made per person."""
        return [cls.ORDINARY, cls.CONTROL]


class TrialState(models.TextChoices):
    OPEN = "open", "Open"
    SETTLED = "settled", "Settled"
    DROPPED = "dropped", "Dropped: people could not tell"


class Trial(models.Model):
    """An exhibit inside a campaign: one picture and the classes asked about, or one or two pictures to be rated.

    Of two pictures the one with the lower id is the first, so that the same pair is asked about once.
    """

    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="trials")
    item = models.ForeignKey(Item, models.PROTECT, related_name="trials", help_text="The first picture")
    second = models.ForeignKey(Item, models.PROTECT, null=True, related_name="+", help_text="The second of a pair")
    reference = models.ForeignKey(
        Item, models.PROTECT, null=True, related_name="+", help_text="Shown beside them, not judged"
    )
    kind = models.CharField(max_length=10, choices=TrialKind, default=TrialKind.ORDINARY)
    state = models.CharField(max_length=8, choices=TrialState, default=TrialState.OPEN)
    position = models.PositiveIntegerField(help_text="Order in which trials are handed out")
    classes = models.JSONField(default=list, help_text="Class indices asked about, ascending; none for ratings")
    expected = models.JSONField(
        null=True, blank=True, help_text="Gold and training: {class index: true|false} or the zone {low, high}"
    )
    explanation = models.CharField(max_length=500, blank=True, help_text="Training: why")
    repeat_of = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="repeats")

    objects = TrialQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["campaign", "item", "kind", "classes"], condition=Q(second=None), name="trial_asked_once"
            ),
            models.UniqueConstraint(
                fields=["campaign", "item", "second", "kind"], condition=~Q(second=None), name="trial_pair_asked_once"
            ),
            models.CheckConstraint(condition=Q(second=None) | Q(second__gt=F("item")), name="trial_pair_in_order"),
        ]
        indexes = [models.Index(fields=["campaign", "state", "position"])]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} trial {self.pk}"

    @property
    def note(self) -> str:
        """What is odd about its pictures, in words for researchers; they are shown all the same."""
        return size_note(self.item, self.second) if self.second else ""


class SlotState(models.TextChoices):
    OPEN = "open", "Open"
    LEASED = "leased", "Leased to a person until its lease ends"
    DONE = "done", "Judged"
    VOID = "void", "No longer required"


class Slot(models.Model):
    """One judgement that is required of a trial.

    ::

        open ──lease──> leased ──judgement──> done
          ^               │ ^                  │
          └─────skip──────┘ └──────undo────────┘
        (open | leased ──trial ended without it──> void ──trial reopened──> open)

    A lease that ran out counts as open for the next person; its holder may still answer until somebody has taken it.
    """

    trial = models.ForeignKey(Trial, models.PROTECT, related_name="slots")
    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="slots")
    number = models.PositiveSmallIntegerField(
        help_text="0 … overlap-1, then extra ones; 0 for slots made for one person"
    )
    position = models.PositiveIntegerField(help_text="Copy of the trial's, so that claiming reads one table")
    state = models.CharField(max_length=6, choices=SlotState, default=SlotState.OPEN)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="slots")
    leased_until = models.DateTimeField(null=True, blank=True)
    taken_from = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Whose lease had run out when it was claimed; tells a late answer from a stranger's",
    )
    is_shared = models.BooleanField(default=True, help_text="False: made for one person (gold, repeat, training)")

    objects = SlotQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["trial", "person"], condition=Q(person__isnull=False), name="slot_once_per_person"
            ),
            models.UniqueConstraint(fields=["trial", "number"], condition=Q(is_shared=True), name="slot_number_once"),
            models.CheckConstraint(
                condition=Q(state__in=["leased", "done"], person__isnull=False) | Q(state__in=["open", "void"]),
                name="slot_held_by_somebody",
            ),
        ]
        indexes = [
            models.Index(fields=["campaign", "state", "position"]),
            models.Index(fields=["person", "campaign", "state"]),
        ]

    def __str__(self) -> str:
        return f"Slot {self.number} of {self.trial_id}"


class JudgementKind(models.TextChoices):
    ANSWER = "answer", "Answer"
    CANNOT_TELL = "cannot_tell", "Cannot tell, or not a natural image"
    BROKEN = "broken", "The image did not show"


class Judgement(models.Model):
    """One person's answer; append-only. The one without ``superseded_at`` is in force.

    Anything may be retried under the same ``key``; the second post changes nothing and returns the first.
    """

    slot = models.ForeignKey(Slot, models.PROTECT, related_name="judgements")
    trial = models.ForeignKey(Trial, models.PROTECT, related_name="judgements")
    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="judgements")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="judgements")
    key = models.UUIDField(default=uuid.uuid4, unique=True, help_text="Idempotency key, made by the page")
    kind = models.CharField(max_length=12, choices=JudgementKind, default=JudgementKind.ANSWER)
    value = models.JSONField(default=dict, help_text="As the protocol has it, in trial order; empty unless an answer")
    presented_at = models.DateTimeField(help_text="When the picture was painted, by the page's clock")
    milliseconds = models.PositiveIntegerField(help_text="From paint to answer")
    viewing = models.JSONField(default=dict, help_text="Sides as shown, window, pixel ratio, zoom, input device")
    created_at = models.DateTimeField(auto_now_add=True)
    superseded_at = models.DateTimeField(null=True, blank=True)

    objects = JudgementQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["slot"], condition=Q(superseded_at__isnull=True), name="judgement_in_force_once"
            ),
        ]
        indexes = [models.Index(fields=["campaign", "person", "-id"])]

    def __str__(self) -> str:
        return f"{self.kind} by {self.person_id} on {self.trial_id}"


class Skip(models.Model):
    """Somebody passed a trial on: it is not offered to them again."""

    trial = models.ForeignKey(Trial, models.CASCADE, related_name="skips")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="skips")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["trial", "person"], name="skip_once")]

    def __str__(self) -> str:
        return f"{self.person_id} skipped {self.trial_id}"


class VerdictOutcome(models.TextChoices):
    SETTLED = "settled", "Settled"
    UNDECIDED = "undecided", "Still tied after every extra judgement"
    DROPPED = "dropped", "People could not tell"


class Verdict(models.Model):
    """What a trial's judgements amount to; recomputed when they change."""

    trial = models.OneToOneField(Trial, models.PROTECT, related_name="verdict")
    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="verdicts")
    outcome = models.CharField(max_length=10, choices=VerdictOutcome)
    value = models.JSONField(default=dict, help_text="As the protocol has it; empty when dropped")
    counts = models.JSONField(default=dict, help_text="As the protocol has it: how many said what")
    n_judgements = models.PositiveSmallIntegerField()
    n_cannot_tell = models.PositiveSmallIntegerField(default=0)
    n_broken = models.PositiveSmallIntegerField(default=0)
    settled_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.outcome}: {self.value}"


def invite_code() -> str:
    return secrets.token_urlsafe(12)


class Invite(models.Model):
    """A link that lets people take part without an account."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="invites")
    code = models.CharField(max_length=32, unique=True, default=invite_code)
    note = models.CharField(max_length=120, blank=True, help_text="Whom it was sent to")
    quota = models.PositiveIntegerField(default=20, help_text="People who may use it")
    used = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(used__lte=F("quota")), name="invite_within_quota")]

    def __str__(self) -> str:
        return f"Invite to {self.campaign}"


class Participation(models.Model):
    """One person in one campaign."""

    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="participations")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="participations")
    invite = models.ForeignKey(Invite, models.SET_NULL, null=True, blank=True, related_name="participations")
    consented_at = models.DateTimeField(null=True, blank=True)
    trained_at = models.DateTimeField(null=True, blank=True, help_text="When the training trials were finished")
    viewing = models.JSONField(default=dict, help_text="The viewing check: window, pixel ratio, zoom, warnings")
    stopped_at = models.DateTimeField(null=True, blank=True, help_text="Gold fell below the lower bar")
    served = models.PositiveIntegerField(default=0, help_text="Trials handed out so far; places gold and repeats")
    created_at = models.DateTimeField(auto_now_add=True)

    is_excluded: bool  # set where a participation is read for labelling

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "person"], name="participation_once")]

    def __str__(self) -> str:
        return f"{self.person} in {self.campaign}"


class Exclusion(models.Model):
    """Somebody's judgements are left out of verdicts; reversible, with the reason."""

    participation = models.ForeignKey(Participation, models.PROTECT, related_name="exclusions")
    reason = models.CharField(max_length=300)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    lifted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    lifted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["participation"], condition=Q(lifted_at__isnull=True), name="exclusion_in_force_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.participation}: {self.reason}"
