"""Images and label spaces.

Corpus: many images, mostly unlabelled, addressed by row number. Its rows live in a Parquet manifest, no database.
Item: one corpus row that people look at, copied into the database and into media storage.
Taxonomy: a label space: classes, and where there is a hierarchy, the distance between any two of them.
"""

from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.urls import reverse

from accounts.models import Shared
from corpora.querysets import CorpusQuerySet, TaxonomyQuerySet


class TaxonomyKind(models.TextChoices):
    IMAGENET = "imagenet1k", "ImageNet-1k over the WordNet nouns"
    TREE = "tree", "Own hierarchy, from a CSV"
    FLAT = "flat", "No hierarchy: every two classes at distance 1"


class Taxonomy(Shared):
    """A label space shared by models and corpora; immutable once used."""

    name = models.CharField(max_length=120, unique=True)
    kind = models.CharField(max_length=12, choices=TaxonomyKind)
    n_classes = models.PositiveIntegerField()
    classes = models.JSONField(help_text='One object per class index: {"id", "name", "synonyms": [], "gloss"}')
    edges = models.JSONField(default=list, help_text="[[child, parent], …] of node ids; empty when flat")
    node_names = models.JSONField(default=dict, help_text="What the inner nodes are called, where known")
    digest = models.CharField(max_length=64, help_text="SHA-256 of classes and edges; names the cached distance matrix")

    objects: ClassVar[Any] = TaxonomyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "taxonomies"
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("corpora:taxonomy", args=[self.pk])


class CorpusSource(models.TextChoices):
    FOLDER = "folder", "Folder of images on the server"
    ARCHIVE = "archive", "Zip or tar archive"
    LIST = "list", "CSV or Parquet list of paths"
    WEBDATASET = "webdataset", "WebDataset tar shards"
    CIFAR = "cifar", "CIFAR-10/100 in torchvision's layout"
    MNIST = "mnist", "MNIST or Fashion-MNIST in torchvision's layout"
    SVHN = "svhn", "SVHN in torchvision's layout"
    STL10 = "stl10", "STL-10 in torchvision's layout"
    KONIQ = "koniq10k", "KonIQ-10k, with opinion scores"
    SPAQ = "spaq", "SPAQ, with opinion scores"
    LIVE_WILD = "livewild", "LIVE in the Wild, with opinion scores"
    KADID = "kadid10k", "KADID-10k, with opinion scores and references"
    CSIQ = "csiq", "CSIQ, with opinion scores and references"
    TID = "tid2013", "TID2013, with opinion scores and references"
    DISTORTED = "distorted", "Photographs, distorted here in four ways and five levels"


class CorpusState(models.TextChoices):
    IMPORTING = "importing", "Importing"
    READY = "ready", "Ready"
    FAILED = "failed", "Import failed"


class Corpus(Shared):
    """Many images addressed by row number ``0 … n_rows-1``; the rows never change after import.

    Files under ``directory``: ``manifest.parquet`` (row, path, size, width, height, sha256, phash; where given label,
    mos, mos_std, mos_n, reference, group, distortion, level, notes), ``opinions.parquet`` (the MOS that count; may be
    replaced), ``quarantine.parquet`` (path, reason), ``packed.npy`` (tiny images, uint8 N×H×W×3), ``references.npy``
    and ``contents.npy`` (`corpora.contents`), ``labels.*.npy``, ``duplicates.*.npy``, ``sources.*.npy`` (rows by
    group), ``files/`` (whatever was unpacked or made), ``thumbnails/``; during the import also ``import/``.
    """

    name = models.CharField(max_length=120, unique=True)
    description = models.TextField(blank=True)
    source = models.CharField(max_length=12, choices=CorpusSource)
    location = models.CharField(max_length=1000, blank=True, help_text="Where the import read from")
    root = models.CharField(max_length=1000, blank=True, help_text="Directory that manifest paths are relative to")
    options = models.JSONField(default=dict, blank=True, help_text="Import options as given")
    taxonomy = models.ForeignKey(Taxonomy, models.PROTECT, null=True, blank=True, help_text="Of the labels, if any")
    state = models.CharField(max_length=12, choices=CorpusState, default=CorpusState.IMPORTING)
    n_rows = models.PositiveBigIntegerField(default=0)
    n_quarantined = models.PositiveBigIntegerField(default=0)
    n_labelled = models.PositiveBigIntegerField(default=0)
    n_rated = models.PositiveBigIntegerField(default=0, help_text="Rows with a mean opinion score")
    n_duplicate_groups = models.PositiveBigIntegerField(null=True, help_text="Groups of perceptual near-duplicates")
    bytes = models.PositiveBigIntegerField(default=0)
    is_packed = models.BooleanField(default=False, help_text="Tiny images of one size, kept as one uint8 array")
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 over the rows' paths and sha256")
    facts = models.JSONField(
        default=dict,
        help_text='Of the import: "skipped" and "notes" (how many by kind), "unknown_labels", "images_per_second", '
        '"contents" (references and source contents), "distortions" (parameters); "opinions": scale of the MOS',
    )

    objects: ClassVar[Any] = CorpusQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "corpora"
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    @property
    def directory(self) -> Path:
        return Path(settings.VAR_DIR) / "corpora" / str(self.pk)

    def get_absolute_url(self) -> str:
        return reverse("corpora:detail", args=[self.pk])


class Item(models.Model):
    """One corpus row that people look at; its picture is a copy, named by its content."""

    corpus = models.ForeignKey(Corpus, models.PROTECT, related_name="items")
    row = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    image = models.FileField(upload_to="items/", max_length=200)
    thumbnail = models.FileField(upload_to="thumbnails/", max_length=200)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["corpus", "row"], name="item_once_per_row")]

    def __str__(self) -> str:
        return f"{self.corpus} row {self.row}"
