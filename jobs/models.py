"""Background work.

Job: a piece of background work, owned by the database; the Celery message carries its id and nothing else.
Handler: the function registered for a job's ``kind`` (jobs.registry).
Beat: the time at which the worker that holds a job last said that it is alive.
"""

import uuid

from django.conf import settings
from django.db import models
from django.urls import reverse

from jobs.querysets import JobQuerySet


class JobState(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    CANCELLING = "cancelling", "Cancelling"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"

    @property
    def tone(self) -> str:
        """How it looks: the suffix of a badge's class."""
        return _TONES[self]

    @classmethod
    def held(cls) -> list["JobState"]:
        """A worker has it in hand."""
        return [cls.RUNNING, cls.CANCELLING]

    @classmethod
    def ended(cls) -> list["JobState"]:
        return [cls.SUCCEEDED, cls.FAILED, cls.CANCELLED]


_TONES = {
    JobState.QUEUED: "",
    JobState.RUNNING: "info",
    JobState.CANCELLING: "warn",
    JobState.SUCCEEDED: "ok",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "",
}


class Queue(models.TextChoices):
    DEFAULT = "default", "Imports, settling, exports"
    SCORE = "score", "Scoring and selection"
    TRAIN = "train", "Training"


class Job(models.Model):
    """One piece of background work.

    ::

        queued ──claim──> running ──> succeeded
          │ ^               │  │ └───> failed ──retry──> queued
          │ └──take over────┘  │                 (also from cancelled)
          │  (stale beat), or  v
          │  release       cancelling ──> cancelled, or succeeded / failed
          │  (worker stops)                  ^   (it ended before it noticed)
          └──────cancel──────────────────────┘

    Every move is a conditional UPDATE that checks its row count (jobs.moves). The moves out of running and cancelling
    also name the claim, so a worker that lost its job can write nothing more.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=64, help_text='A registered handler, such as "corpora.import"')
    title = models.CharField(max_length=200)
    queue = models.CharField(max_length=16, choices=Queue, default=Queue.DEFAULT)
    payload = models.JSONField(default=dict, help_text="What the handler needs; ids and options, never data")
    subject = models.CharField(
        max_length=80, blank=True, db_index=True, help_text='What it is about, as "app.model:id", e.g. corpora.corpus:3'
    )
    is_unique = models.BooleanField(default=False, help_text="Only one live job of this kind and subject may exist")
    state = models.CharField(max_length=12, choices=JobState, default=JobState.QUEUED)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="jobs")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    announced_at = models.DateTimeField(
        null=True, help_text="When job_ended was sent; the reaper sends it when missing"
    )
    message_sent_at = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True, help_text="Earliest start, for retries with a pause")
    # Claim
    worker = models.CharField(max_length=120, blank=True, help_text="host:pid of who holds it")
    claim = models.UUIDField(null=True, help_text="Fence: a worker that lost its claim can write nothing more")
    beat_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=5, help_text="Starts before it fails for good")
    # Progress
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(null=True)
    unit = models.CharField(max_length=24, blank=True)
    rate = models.FloatField(null=True, help_text="Units per second")
    message = models.CharField(max_length=300, blank=True)
    # Outcome
    checkpoint = models.JSONField(default=dict, help_text="What the handler keeps between attempts")
    result = models.JSONField(default=dict)
    error = models.TextField(blank=True, help_text="Why it failed, in words a user understands")
    traceback = models.TextField(blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["state", "beat_at"]),
            models.Index(fields=["-created_at"]),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=models.Q(is_unique=True, state__in=["queued", "running", "cancelling"]),
                name="job_unique_while_live",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("jobs:detail", args=[self.pk])

    @property
    def is_ended(self) -> bool:
        return self.state in JobState.ended()

    @property
    def tone(self) -> str:
        return JobState(self.state).tone

    @property
    def percent(self) -> float | None:
        """0 to 100, or None while the total is unknown."""
        return min(100.0, 100.0 * self.done / self.total) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the rate; None when unknown or not running."""
        if self.state != JobState.RUNNING or not self.total or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate
