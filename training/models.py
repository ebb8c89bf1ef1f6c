"""Labelled sets, and runs of training methods.

Labelled set: a named union of corpus labels and campaign verdicts. Edition: one immutable state of it, with splits that
are fixed by content group. Method: a training method, one folder of ``training.methods``. Run: one training run of it;
what comes out of it are new versions, whose lineage it is. Point: one setting of an adjustable version, which can be
made a version of its own.
"""

from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.models import Shared
from corpora.models import Taxonomy
from jobs.models import Job
from models_zoo.models import Task, Version
from training.querysets import LabelledSetQuerySet, RunQuerySet, VersionPointQuerySet


class LabelledSet(Shared):
    """A named union of labels; its editions hold the rows."""

    name = models.CharField(max_length=120, unique=True)
    task = models.CharField(max_length=20, choices=Task)
    taxonomy = models.ForeignKey(
        Taxonomy, models.PROTECT, null=True, blank=True, help_text="The label space of classes; none for quality"
    )
    description = models.TextField(blank=True)

    objects: ClassVar[Any] = LabelledSetQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="labelled_set_taxonomy_by_task",
                condition=Q(task=Task.CLASSIFICATION, taxonomy__isnull=False)
                | Q(task=Task.QUALITY, taxonomy__isnull=True),
                violation_error_message="Class labels need a label space; quality labels have none.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("training:set", args=[self.pk])


class Edition(models.Model):
    """One immutable state of a labelled set: a Parquet file under ``VAR_DIR``, named by its content.

    ``sources``: what it is a union of, as given; ``counts``: rows by split, by source, and by origin.
    """

    labelled_set = models.ForeignKey(LabelledSet, models.PROTECT, related_name="editions")
    number = models.PositiveIntegerField()
    sources = models.JSONField()
    seed = models.PositiveBigIntegerField(default=0)
    file = models.CharField(max_length=300, help_text="Path under VAR_DIR, named by content")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the rows")
    n_rows = models.PositiveBigIntegerField()
    counts = models.JSONField(default=dict)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["labelled_set", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["labelled_set", "number"], name="edition_number_once"),
        ]

    def __str__(self) -> str:
        return f"{self.labelled_set}, edition {self.number}"

    @property
    def path(self) -> Path:
        return Path(settings.VAR_DIR) / self.file


class Run(Shared):
    """One training run of a method. Its state is its job's; a retry is a new job that goes on from the checkpoint.

    ``config``: all fields of the method's config, as used. ``report``: what the recipe reported, JSON.
    Files (metrics, samples, checkpoints, artifacts) lie under ``directory``.
    """

    name = models.CharField(max_length=160)
    method = models.CharField(max_length=60, help_text="A name of the registry of training methods")
    preset = models.CharField(max_length=40, blank=True)
    config = models.JSONField(default=dict)
    edition = models.ForeignKey(Edition, models.PROTECT, null=True, blank=True, related_name="runs")
    seed = models.PositiveBigIntegerField(default=0)
    device = models.CharField(max_length=20, default="auto", help_text='"auto", "cpu", "cuda", "cuda:1"')
    resources = models.JSONField(
        default=dict,
        blank=True,
        help_text="Precision, limits and the like: what differs from training.engine.Resources",
    )
    request_key = models.CharField(
        max_length=64, blank=True, help_text="What was asked for, so that a second click finds the run of the first"
    )
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+")
    report = models.JSONField(default=dict)
    seconds = models.FloatField(default=0.0, help_text="Of computing, over all its jobs")
    finished_at = models.DateTimeField(null=True)

    objects: ClassVar[Any] = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("training:run", args=[self.pk])

    @property
    def directory(self) -> Path:
        return Path(settings.VAR_DIR) / "runs" / str(self.pk)


class RunInput(models.Model):
    """A version that goes into a run, by its role in the method; several versions may share a role, in order."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="inputs")
    role = models.CharField(max_length=40)
    number = models.PositiveSmallIntegerField(default=0, help_text="Order within the role")
    version = models.ForeignKey(Version, models.PROTECT, related_name="run_inputs")

    class Meta:
        ordering = ["role", "number"]
        constraints = [models.UniqueConstraint(fields=["run", "role", "number"], name="run_input_once")]

    def __str__(self) -> str:
        return f"{self.role}: {self.version}"


class RunOutput(models.Model):
    """A version that came out of a run."""

    run = models.ForeignKey(Run, models.PROTECT, related_name="outputs")
    role = models.CharField(max_length=40)
    number = models.PositiveSmallIntegerField(default=0)
    version = models.OneToOneField(Version, models.PROTECT, related_name="run_output")
    facts = models.JSONField(default=dict, help_text="What the recipe said of it")

    class Meta:
        ordering = ["role", "number"]
        constraints = [models.UniqueConstraint(fields=["run", "role", "number"], name="run_output_once")]

    def __str__(self) -> str:
        return f"{self.role}: {self.version}"


class VersionPoint(models.Model):
    """A point of an adjustable version that somebody wanted as a version of its own; made once for all who ask.

    ``point``: what the method's ``MethodCard.points`` takes; ``key``: its digest.
    """

    version = models.ForeignKey(Version, models.CASCADE, related_name="points", help_text="The adjustable one")
    point = models.JSONField()
    key = models.CharField(max_length=64)
    made = models.OneToOneField(Version, models.SET_NULL, null=True, related_name="made_as_point")
    facts = models.JSONField(default=dict, help_text="What the method said of the point")
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = VersionPointQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["version", "key"], name="version_point_once")]

    def __str__(self) -> str:
        return f"{self.version} at {self.words}"

    @property
    def words(self) -> str:
        """ "lam 0.3, width 0.5"."""
        return ", ".join(f"{name} {_plain(value)}" for name, value in self.point.items())


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(_plain(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
