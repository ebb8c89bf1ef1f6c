"""Models and what they say.

Model: a zoo model with its card. Version: an immutable set of weights (or predictions) of it.
Scores: what one version says about every row of one corpus; columns on disk, not database rows.
"""

from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from simple_history.models import HistoricalRecords

from accounts.models import Shared
from corpora.models import Corpus, Taxonomy
from models_zoo.querysets import ModelQuerySet, ScoresQuerySet, VersionQuerySet


class Task(models.TextChoices):
    CLASSIFICATION = "classification", "Classification"
    QUALITY = "quality", "Image quality"


class Model(Shared):
    """A zoo model: what it is for and where it comes from.

    A classifier has a label space. A quality model has none, but a direction (``higher_is_better``) and, where they are
    known, the ends of its scale.
    """

    name = models.CharField(max_length=120, unique=True)
    task = models.CharField(max_length=20, choices=Task, default=Task.CLASSIFICATION)
    taxonomy = models.ForeignKey(
        Taxonomy, models.PROTECT, null=True, blank=True, help_text="The label space a classifier predicts in"
    )
    higher_is_better = models.BooleanField(default=True, help_text="Of quality scores: whether more is better")
    score_low = models.FloatField(null=True, blank=True, help_text="Of quality scores: the lowest there is, if known")
    score_high = models.FloatField(null=True, blank=True, help_text="Of quality scores: the highest there is, if known")
    description = models.TextField(blank=True)
    licence = models.CharField(max_length=120, blank=True)
    source_url = models.CharField(max_length=500, blank=True, help_text="Paper or repository it comes from")
    history = HistoricalRecords()

    objects: ClassVar[Any] = ModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="model_taxonomy_by_task",
                condition=Q(task=Task.CLASSIFICATION, taxonomy__isnull=False)
                | Q(task=Task.QUALITY, taxonomy__isnull=True),
                violation_error_message="A classifier needs a label space; a quality model has none.",
            ),
            models.CheckConstraint(
                name="model_score_range_ascends",
                condition=Q(score_low__isnull=True) | Q(score_high__isnull=True) | Q(score_low__lt=F("score_high")),
                violation_error_message="The lowest score lies above the highest: swap them.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("models_zoo:model", args=[self.pk])


class VersionKind(models.TextChoices):
    TORCH = "torch", "Registered architecture with a weights file"
    ONNX = "onnx", "ONNX file"
    EXPORT = "export", "torch.export program"
    PREDICTIONS = "predictions", "Predictions file for one corpus"
    METRIC = "metric", "Registered quality measure"
    ENSEMBLE = "ensemble", "Ensemble: a weighted mean of other versions' scores"


ADDED_KINDS = [choice for choice in VersionKind.choices if choice[0] != VersionKind.ENSEMBLE]
"""Kinds that people add; ensembles are made of versions that are there."""


class Purpose(models.TextChoices):
    """What a version was made for; lists and choices show those made for use."""

    USE = "use", "Made for use"
    VARIANT = "variant", "Pruned variant for troubleshooting"
    ENSEMBLE = "ensemble", "Ensemble of variants for troubleshooting"


class VersionState(models.TextChoices):
    CHECKING = "checking", "Being checked"
    VERIFIED = "verified", "Verified"
    REFUSED = "refused", "Refused"


class Outputs(models.TextChoices):
    LOGITS = "logits", "Logits: a softmax makes the confidence"
    PROBABILITIES = "probabilities", "Probabilities: taken as they are"
    SCORE = "score", "One quality score"


class Version(models.Model):
    """An immutable set of weights or predictions.

    ``checking -> verified | refused``; only a verified version can score or compete.
    """

    model = models.ForeignKey(Model, models.PROTECT, related_name="versions")
    label = models.CharField(max_length=60, help_text='Such as "v1" or "epoch 90"')
    kind = models.CharField(max_length=12, choices=VersionKind)
    purpose = models.CharField(max_length=10, choices=Purpose, default=Purpose.USE)
    architecture = models.CharField(
        max_length=120, blank=True, help_text="Registry name: of a network for kind torch, of a measure for kind metric"
    )
    arch_kwargs = models.JSONField(default=dict, blank=True)
    preprocessing = models.JSONField(default=dict, blank=True, help_text="models_zoo.adapters.Preprocessing as a dict")
    outputs = models.CharField(max_length=13, choices=Outputs, default=Outputs.LOGITS)
    file = models.CharField(
        max_length=300, blank=True, help_text="Path under VAR_DIR, named by content; a measure may have none"
    )
    file_name = models.CharField(max_length=255, blank=True, help_text="What its owner called the file")
    sha256 = models.CharField(max_length=64, blank=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    corpus = models.ForeignKey(Corpus, models.PROTECT, null=True, blank=True, help_text="For predictions files")
    parents = models.ManyToManyField("self", symmetrical=False, blank=True, related_name="children")
    state = models.CharField(max_length=10, choices=VersionState, default=VersionState.CHECKING)
    refusal = models.TextField(blank=True, help_text="Why it was refused, and the way out")
    # Measured at verification
    parameters = models.PositiveBigIntegerField(null=True)
    macs = models.PositiveBigIntegerField(null=True, help_text="Multiply-accumulates per image")
    milliseconds = models.FloatField(null=True, help_text="CPU time per image, one thread")
    megabytes = models.FloatField(null=True, help_text="Peak memory of one forward pass")
    notes = models.JSONField(default=list, help_text="What the check found worth a look, though no reason to refuse")
    verified_at = models.DateTimeField(null=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = VersionQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "label"], name="version_label_once_per_model")]
        ordering = ["model__name", "id"]

    def __str__(self) -> str:
        return f"{self.model.name} {self.label}"

    def get_absolute_url(self) -> str:
        return reverse("models_zoo:version", args=[self.pk])

    @property
    def path(self) -> Path:
        return Path(settings.VAR_DIR) / self.file

    @property
    def runs(self) -> bool:
        """Whether there is something to run: a network or a measure."""
        return self.kind not in {VersionKind.PREDICTIONS, VersionKind.ENSEMBLE}


class ScoresState(models.TextChoices):
    PARTIAL = "partial", "Partly scored"
    COMPLETE = "complete", "Complete"


class Scores(models.Model):
    """What one version says about every row of one corpus; the columns are files under ``directory``."""

    version = models.ForeignKey(Version, models.PROTECT, related_name="scores")
    corpus = models.ForeignKey(Corpus, models.PROTECT, related_name="scores")
    state = models.CharField(max_length=10, choices=ScoresState, default=ScoresState.PARTIAL)
    has_confidence = models.BooleanField(default=True)
    n_missing = models.PositiveBigIntegerField(default=0, help_text="Rows without a score: not decoded, or too small")
    accuracy = models.FloatField(null=True, help_text="On the corpus's own labels, where it has them")
    srcc = models.FloatField(
        null=True, help_text="Spearman's rank correlation of oriented quality scores with the corpus's own MOS"
    )
    krcc = models.FloatField(null=True, help_text="Kendall's tau-b of the same")
    images_per_second = models.FloatField(null=True)
    summary = models.JSONField(
        default=dict, help_text="Counts per class and confidence, or per score, kept so that no page reads the columns"
    )
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the columns")
    created_at = models.DateTimeField(auto_now_add=True)
    completed_at = models.DateTimeField(null=True)

    objects = ScoresQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "scores"
        constraints = [models.UniqueConstraint(fields=["version", "corpus"], name="scores_once")]

    def __str__(self) -> str:
        return f"{self.version} on {self.corpus}"

    def get_absolute_url(self) -> str:
        return reverse("models_zoo:scores", args=[self.version_id, self.corpus_id])

    @property
    def directory(self) -> Path:
        return Path(settings.VAR_DIR) / "scores" / f"{self.corpus_id}-{self.version_id}"
