"""Labels from sources: what corpora, campaigns and measures say of images.

Source: JSON, as it is kept with an edition::

    {"kind": "corpus", "corpus": 3}                                 opinion scores, or class labels, of a corpus
    {"kind": "campaign", "campaign": 12, "kinds": ["ordinary"]}     what people said of its trials of these kinds
    {"kind": "scores", "version": 5, "corpus": 3}                   scores of a measure, as pseudo-ratings

and of each: ``origin`` ("base" or "found"), ``split`` ("by_group", or "train": new content goes nowhere else),
``contents`` (only these content groups of the corpus), ``rows`` (only these rows).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from accounts.errors import DomainError
from accounts.permissions import require_view
from corpora.models import Corpus, Item
from corpora.reading import manifest_of, opinion_table
from labeling.models import Campaign, Trial, TrialKind, VerdictOutcome
from labeling.protocols import PROTOCOLS
from labeling.protocols.number import NumberProtocol
from labeling.querysets import SHARED_KINDS
from labeling.results import opinion_scores, rates
from models_zoo.models import Scores, Task, Version
from models_zoo.reading import oriented
from training.contents import ALL_TRAIN, BY_GROUP, contents_of
from training.engine.labels import NO_LABEL, ORIGINS
from training.models import LabelledSet

if TYPE_CHECKING:
    from accounts.models import User

FULL = 100.0
COLUMNS = ("corpus", "row", "mos", "std", "n", "label")
_TOLERANCE = 1e-9  # of a scale's width: what rounding may put a MOS outside of it
_FIELDS = {
    "corpus": {"corpus"},
    "campaign": {"campaign", "kinds"},
    "scores": {"version", "corpus"},
}
_COMMON = {"kind", "origin", "split", "contents", "rows"}

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """The labels of one source, one each of (n,). mos, std: NaN where there is none; n: ratings, 0 unknown; label: -1
    where there is none. left_out: rows without a label that training can use, by reason."""

    corpus: Integers
    row: Integers
    mos: Floats
    std: Floats
    n: Integers
    label: Integers
    left_out: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.row)

    def where(self, chosen: npt.NDArray[Any]) -> "Labels":
        columns = {name: getattr(self, name)[chosen] for name in COLUMNS}
        return Labels(**columns, left_out=self.left_out)


def source_name(source: Mapping[str, Any]) -> str:
    """What the column ``source`` holds: "corpus:3", "campaign:12", "scores:5@3"."""
    if source["kind"] == "scores":
        return f"scores:{source['version']}@{source['corpus']}"
    return f"{source['kind']}:{source[source['kind']]}"


def source_labels(source: Mapping[str, Any], *, labelled_set: LabelledSet, by: "User") -> Labels:
    """The labels of one source, on 0 … 100 or as class indices of the set's label space."""
    found = _READERS[source["kind"]](source, labelled_set, by)
    if "rows" in source:
        found = found.where(np.isin(found.row, np.asarray(source["rows"], dtype=np.int64)))
    if "contents" in source and len(found):
        found = found.where(np.isin(contents_of(found.corpus, found.row).group.astype(str), list(source["contents"])))
    if not len(found):
        why = "; ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        raise DomainError(
            f"{source_name(source)} has no labels that can be learnt from{f' ({why})' if why else ''}: choose another "
            "source, or have its images labelled first.",
            field="sources",
        )
    return found


def source_check(source: Mapping[str, Any]) -> None:
    """Raises DomainError for a source that is not put as it must be."""
    kind = source.get("kind")
    if kind not in _FIELDS:
        raise DomainError(f'A source is of kind {", ".join(_FIELDS)}, not "{kind}".', field="sources")
    needed = _FIELDS[kind] - {"kinds"}
    missing = sorted(needed - set(source))
    if missing:
        raise DomainError(f'A source of kind "{kind}" names its {missing[0]} by id.', field="sources")
    unknown = sorted(set(source) - _FIELDS[kind] - _COMMON)
    if unknown:
        known = ", ".join(sorted(_FIELDS[kind] | _COMMON))
        raise DomainError(f'A source of kind "{kind}" has no "{unknown[0]}": it may say {known}.', field="sources")
    for name, choices in (("origin", ORIGINS), ("split", (BY_GROUP, ALL_TRAIN))):
        if source.get(name, choices[0]) not in choices:
            raise DomainError(
                f'{name.capitalize()} "{source[name]}" does not exist: choose {" or ".join(choices)}.', field="sources"
            )


def _corpus(number: Any, by: "User") -> Corpus:
    found = Corpus.objects.filter(pk=number).first() if isinstance(number, int) else None
    if found is None:
        raise DomainError(f"There is no corpus {number}: choose another one.", field="sources")
    require_view(by, found)
    return cast("Corpus", found)


def _corpus_labels(source: Mapping[str, Any], labelled_set: LabelledSet, by: "User") -> Labels:
    corpus = _corpus(source["corpus"], by)
    if labelled_set.task == Task.QUALITY:
        return _opinions(corpus)
    if corpus.taxonomy_id is None or corpus.taxonomy_id != labelled_set.taxonomy_id:
        raise DomainError(
            f'Corpus "{corpus}" is not labelled in the label space of "{labelled_set}" ({labelled_set.taxonomy}): '
            "choose a corpus of that label space.",
            field="sources",
        )
    column = manifest_of(corpus).column("label").astype(np.float64)  # null is NaN
    rows = np.flatnonzero(~np.isnan(column))
    return _classes(np.full(len(rows), corpus.pk), rows, column[rows].astype(np.int64), np.zeros(len(rows), np.int64))


def _opinions(corpus: Corpus) -> Labels:
    table = opinion_table(corpus)
    mos, factor = on_full_scale(table.mos, table.low, table.high, what=f'The opinion scores of corpus "{corpus}"')
    return Labels(
        corpus=np.full(len(table), corpus.pk, np.int64),
        row=np.array(table.rows),
        mos=mos,
        std=table.std * factor,
        n=np.array(table.count),
        label=np.full(len(table), NO_LABEL, np.int64),
    )


def on_full_scale(mos: Floats, low: float, high: float, *, what: str) -> tuple[Floats, float]:
    """MOS from low … high to 0 … 100, and the factor that their standard deviations take.

    Raises:
        DomainError: a MOS outside of its scale, or a scale of no width.
    """
    if not high > low:
        raise DomainError(
            f"{what} have one value, {low:g}: there is nothing to learn from them. Choose images of different "
            "quality, or give the ends of the scale.",
            field="sources",
        )
    room = _TOLERANCE * (high - low)
    outside = np.flatnonzero(~((mos >= low - room) & (mos <= high + room)))
    if len(outside):
        raise DomainError(
            f"{what} reach from {low:g} to {high:g}, but one is {mos[outside[0]]:g}: give the range of their scale.",
            field="sources",
        )
    factor = FULL / (high - low)
    return np.clip((mos - low) * factor, 0.0, FULL), factor


def _scores_labels(source: Mapping[str, Any], labelled_set: LabelledSet, by: "User") -> Labels:
    corpus = _corpus(source["corpus"], by)
    version = Version.objects.select_related("model").filter(pk=source["version"]).first()
    if version is None:
        raise DomainError(f"There is no version {source['version']}: choose another one.", field="sources")
    require_view(by, version.model)
    if labelled_set.task != Task.QUALITY or version.model.task != Task.QUALITY:
        raise DomainError(
            f'Scores of "{version}" cannot label "{labelled_set}": only quality scores are pseudo-ratings, and only of '
            "quality sets.",
            field="sources",
        )
    scores = Scores.objects.select_related("version__model", "corpus").filter(version=version, corpus=corpus).first()
    if scores is None:
        raise DomainError(f'Corpus "{corpus}" has no scores of "{version}": run "score" first.', field="sources")
    values = np.asarray(oriented(scores), dtype=np.float64)
    rows = np.flatnonzero(np.isfinite(values))
    ends = (float(values[rows].min()), float(values[rows].max())) if len(rows) else (0.0, 1.0)
    mos, _ = on_full_scale(values[rows], *ends, what=f'The scores of "{version}" on corpus "{corpus}"')
    return Labels(
        corpus=np.full(len(rows), corpus.pk, np.int64),
        row=rows.astype(np.int64),
        mos=mos,
        std=np.zeros(len(rows)),
        n=np.zeros(len(rows), np.int64),
        label=np.full(len(rows), NO_LABEL, np.int64),
        left_out=Counter({"without a score": len(values) - len(rows)} if len(rows) < len(values) else {}),
    )


def _campaign_labels(source: Mapping[str, Any], labelled_set: LabelledSet, by: "User") -> Labels:
    campaign = Campaign.objects.filter(pk=source["campaign"]).first() if isinstance(source["campaign"], int) else None
    if campaign is None:
        raise DomainError(f"There is no campaign {source['campaign']}: choose another one.", field="sources")
    require_view(by, campaign)
    kinds = source.get("kinds", [TrialKind.ORDINARY])
    unknown = sorted(set(kinds) - set(SHARED_KINDS))
    if unknown or not kinds:
        choices = " and ".join(SHARED_KINDS)
        raise DomainError(f'Labels come from trials of kind {choices}, not "{", ".join(unknown)}".', field="sources")
    if labelled_set.task == Task.QUALITY:
        if not rates(campaign):
            raise DomainError(
                f'Campaign "{campaign}" did not ask for ratings of single images: quality labels need those.',
                field="sources",
            )
        return _rated(campaign, kinds, by)
    if not PROTOCOLS[campaign.protocol].needs_taxonomy or campaign.taxonomy_id != labelled_set.taxonomy_id:
        raise DomainError(
            f'Campaign "{campaign}" did not ask about classes of the label space of "{labelled_set}" '
            f"({labelled_set.taxonomy}): choose another campaign.",
            field="sources",
        )
    return _confirmed(campaign, kinds, by)


def _places(items: Sequence[int], by: "User") -> dict[int, tuple[int, int]]:
    """Corpus and row of items by id; of corpora that the person may see."""
    found = {item.pk: (item.corpus_id, item.row) for item in Item.objects.filter(pk__in=items).only("corpus_id", "row")}
    for corpus in Corpus.objects.filter(pk__in={corpus for corpus, _ in found.values()}):
        require_view(by, corpus)
    return found


def _rated(campaign: Campaign, kinds: Sequence[str], by: "User") -> Labels:
    """Mean ratings of images shown in trials of these kinds alone, so that none of another kind gets in."""
    trials = Trial.objects.filter(campaign=campaign)
    wanted = set(trials.filter(kind__in=kinds).values_list("item_id", flat=True))
    others = trials.filter(kind__in=set(SHARED_KINDS) - set(kinds))
    wanted -= set(others.values_list("item_id", flat=True))
    dropped = set(trials.filter(verdict__outcome=VerdictOutcome.DROPPED).values_list("item_id", flat=True)) & wanted
    lines = [line for line in opinion_scores(campaign).lines if line["item"] in wanted - dropped]
    left_out = Counter({"that people could not rate": len(dropped)} if dropped else {})
    if unrated := len(wanted - dropped) - len(lines):
        left_out["not rated yet"] = unrated
    protocol = cast("NumberProtocol", PROTOCOLS[campaign.protocol])
    mean = np.array([line["mos"] for line in lines], np.float64)
    ends = (float(protocol.low), float(protocol.high))
    mos, factor = on_full_scale(mean, *ends, what=f'The ratings of campaign "{campaign}"')
    places = _places([line["item"] for line in lines], by)
    return Labels(
        corpus=np.array([places[line["item"]][0] for line in lines], np.int64),
        row=np.array([places[line["item"]][1] for line in lines], np.int64),
        mos=mos,
        std=np.array([np.nan if line["std"] is None else line["std"] for line in lines], np.float64) * factor,
        n=np.array([line["n"] for line in lines], np.int64),
        label=np.full(len(lines), NO_LABEL, np.int64),
        left_out=left_out,
    )


def _confirmed(campaign: Campaign, kinds: Sequence[str], by: "User") -> Labels:
    """The class of each image of which people confirmed one, over all its trials."""
    trials = Trial.objects.filter(campaign=campaign, kind__in=SHARED_KINDS).select_related("verdict")
    others = {trial.item_id for trial in trials if trial.kind not in kinds}
    said: dict[int, set[int]] = {}
    judgements: Counter[int] = Counter()
    for trial in trials:
        if trial.item_id in others:
            continue
        verdict = getattr(trial, "verdict", None)
        yes = {int(index) for index, truth in verdict.value.items() if truth} if verdict else set()
        said.setdefault(trial.item_id, set()).update(yes)
        judgements[trial.item_id] += verdict.n_judgements if verdict else 0
    chosen = {item: next(iter(classes)) for item, classes in said.items() if len(classes) == 1}
    left_out = Counter({"without one confirmed class": len(said) - len(chosen)} if len(chosen) < len(said) else {})
    places = _places(list(chosen), by)
    corpus, row = (np.array([places[item][at] for item in chosen], np.int64) for at in (0, 1))
    counts = np.array([judgements[item] for item in chosen], np.int64)
    return _classes(corpus, row, np.array(list(chosen.values()), np.int64), counts, left_out)


def _classes(
    corpus: Integers, row: Integers, label: Integers, n: Integers, left_out: Counter[str] | None = None
) -> Labels:
    nothing = np.full(len(row), np.nan)
    return Labels(corpus, row, nothing, nothing, n, label, left_out or Counter())


_READERS = {"corpus": _corpus_labels, "campaign": _campaign_labels, "scores": _scores_labels}
