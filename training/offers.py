"""What a labelled set can be made from: the corpora, campaigns and scores that fit it, and how a source is called."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db.models import QuerySet

from corpora.models import Corpus
from labeling.models import Campaign
from labeling.protocols import PROTOCOLS
from models_zoo.models import Scores, Task, Version
from training.models import LabelledSet

if TYPE_CHECKING:
    from accounts.models import User

RATING = [name for name, each in PROTOCOLS.items() if each.has_numbers and each.n_pictures == 1]
NAMING = [name for name, each in PROTOCOLS.items() if each.needs_taxonomy]


def corpora_for(labelled_set: LabelledSet, user: "User") -> QuerySet[Corpus]:
    """Imported corpora with labels of the set's kind."""
    found = Corpus.objects.visible_to(user).filter(state="ready").order_by("name")
    if labelled_set.task == Task.QUALITY:
        return found.filter(n_rated__gt=0)
    return found.filter(n_labelled__gt=0, taxonomy=labelled_set.taxonomy_id)


def campaigns_for(labelled_set: LabelledSet, user: "User") -> QuerySet[Campaign]:
    """Campaigns that asked what the set is about, newest first."""
    found: QuerySet[Campaign] = Campaign.objects.visible_to(user).exclude(state="draft").order_by("-id")
    if labelled_set.task == Task.QUALITY:
        return found.filter(protocol__in=RATING)
    return found.filter(protocol__in=NAMING, taxonomy=labelled_set.taxonomy_id)


def scores_for(labelled_set: LabelledSet, user: "User") -> QuerySet[Scores]:
    """Complete quality scores; none for a set of classes."""
    found = Scores.objects.visible_to(user).complete().filter(version__model__task=Task.QUALITY)
    found = found.select_related("version__model", "corpus").order_by("corpus__name", "version__model__name")
    return found if labelled_set.task == Task.QUALITY else found.none()


def source_lines(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sources as a page shows them: ``name``, ``url`` (empty where it has gone), ``what``, ``origin``, ``limits``."""
    known = _known(given)
    return [_line(source, known) for source in given]


def source_words(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sources in words, one text each."""
    parts = ("name", "what", "origin", "limits")
    return [", ".join(line[part] for part in parts if line[part]) for line in source_lines(given)]


def _known(given: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], Any]:
    """The objects that sources name, by kind and id, in three queries at most."""
    models: dict[str, Any] = {"corpus": Corpus, "campaign": Campaign, "version": Version}
    found: dict[tuple[str, int], Any] = {}
    for name, model in models.items():
        ids = {source[name] for source in given if name in source}
        if ids:
            rows = model.objects.filter(pk__in=ids)
            rows = rows.select_related("model") if model is Version else rows
            found |= {(name, row.pk): row for row in rows}
    return found


def _line(source: Mapping[str, Any], known: Mapping[tuple[str, int], Any]) -> dict[str, Any]:
    kind = source["kind"]
    main = known.get(("corpus" if kind == "scores" else kind, source["corpus" if kind == "scores" else kind]))
    what = {"corpus": "its own labels", "campaign": "verdicts of people"}.get(kind, "")
    if kind == "scores":
        what = f"scores of {known.get(('version', source['version'])) or 'a version that has gone'}"
    elif kind == "campaign" and "control" in source.get("kinds", ()):
        what = f"verdicts of {' and '.join(source['kinds'])} trials"
    limits = [f"{len(source['contents']):,} contents"] if "contents" in source else []
    limits += [f"{len(source['rows']):,} rows"] if "rows" in source else []
    limits += ["new contents into train"] if source.get("split") == "train" else []
    return {
        "kind": kind,
        "name": str(main) if main else f"{kind} that has gone",
        "url": main.get_absolute_url() if main else "",
        "what": what,
        "origin": source.get("origin", "base"),
        "limits": ", ".join(limits),
    }
