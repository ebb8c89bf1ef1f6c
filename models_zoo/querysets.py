"""Reads: which models, versions and scores a person may see, and how the zoo is listed."""

from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.db import models
from django.db.models import Count, Max, OuterRef, Q, Subquery

from accounts.querysets import SharedQuerySet

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from accounts.models import User
    from corpora.models import Corpus

HEAVY = ("taxonomy__classes", "taxonomy__edges", "taxonomy__node_names")
SUMMARY_COLUMNS = ("parameters", "macs", "milliseconds")


def _shared(label: str) -> SharedQuerySet:
    """All rows of a ``Shared`` model, by its label: models.py imports this module, not the other way round."""
    manager: Any = apps.get_model(label)._default_manager
    rows: SharedQuerySet = manager.all()
    return rows


class ModelQuerySet(SharedQuerySet):
    def for_lists(self) -> Self:
        """With owner and label space, but without the classes, which are long."""
        return self.select_related("taxonomy", "created_by").defer(*HEAVY)

    def with_summary(self, corpus: "Corpus | None" = None) -> Self:
        """Adds what a list shows of each model; variants and ensembles made for troubleshooting are left out.

        ``n_versions``, ``n_verified``; ``parameters``, ``macs``, ``milliseconds`` of its newest verified version; and
        ``best_accuracy`` and ``best_srcc`` of any of its versions on ``corpus`` (empty without one).
        """
        versions = apps.get_model("models_zoo.Version").objects.filter(model=OuterRef("pk"), purpose="use")
        newest = versions.filter(state="verified").order_by("-id")
        for_use = Q(versions__purpose="use")
        rows = self.annotate(
            n_versions=Count("versions", filter=for_use, distinct=True),
            n_verified=Count("versions", filter=for_use & Q(versions__state="verified"), distinct=True),
            **{column: Subquery(newest.values(column)[:1]) for column in SUMMARY_COLUMNS},
        )
        if corpus is None:
            nothing = models.Value(None, output_field=models.FloatField(null=True))
            return rows.annotate(best_accuracy=nothing, best_srcc=nothing)
        on_corpus = for_use & Q(versions__scores__corpus=corpus, versions__scores__state="complete")
        return rows.annotate(
            best_accuracy=Max("versions__scores__accuracy", filter=on_corpus),
            best_srcc=Max("versions__scores__srcc", filter=on_corpus),
        )


class VersionQuerySet(models.QuerySet[Any]):
    def visible_to(self, user: "User | AnonymousUser") -> Self:
        """Versions of the models this person may look at."""
        return self.filter(model__in=_shared("models_zoo.Model").visible_to(user))

    def editable_by(self, user: "User | AnonymousUser") -> Self:
        """Versions of the models this person may change."""
        return self.filter(model__in=_shared("models_zoo.Model").editable_by(user))

    def for_lists(self) -> Self:
        """With model, label space and corpus, but without the classes, which are long."""
        related = self.select_related("model__taxonomy", "corpus", "created_by")
        return related.defer(*(f"model__{column}" for column in HEAVY))

    def for_task(self, task: str) -> Self:
        """Versions of classifiers ("classification") or of quality models ("quality")."""
        return self.filter(model__task=task)

    def verified(self) -> Self:
        """Those that may score and compete."""
        return self.filter(state="verified")

    def for_use(self) -> Self:
        """Those that people look for: no variants and ensembles made for troubleshooting."""
        return self.filter(purpose="use")

    def named(self, name: str) -> Self:
        """Versions that ``name`` means: an id, or "model label" as it is shown."""
        if name.isdecimal():
            return self.filter(pk=int(name))
        cuts = [index for index, letter in enumerate(name) if letter == " "]
        matches = Q(pk__in=[])
        for cut in cuts:
            matches |= Q(model__name=name[:cut], label=name[cut + 1 :])
        return self.filter(matches)


class ScoresQuerySet(models.QuerySet[Any]):
    def visible_to(self, user: "User | AnonymousUser") -> Self:
        """Scores of versions this person may look at, on corpora they may look at."""
        return self.filter(
            version__model__in=_shared("models_zoo.Model").visible_to(user),
            corpus__in=_shared("corpora.Corpus").visible_to(user),
        )

    def complete(self) -> Self:
        return self.filter(state="complete")
