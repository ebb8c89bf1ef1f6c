"""What the answers of a campaign amount to over all its pictures: opinion scores, preferences, and a scale from pairs.

Everyone: the other view, in which the answers of excluded people count as well.
Scene: pairs that show versions of one source picture; each scene has a scale of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from django.core.cache import cache
from django.db.models import Count, Max, Q
from numpy.typing import NDArray

from corpora import reading
from corpora.models import Corpus, Item
from labeling.models import Campaign, Exclusion, Judgement, JudgementKind
from labeling.protocols import PROTOCOLS
from labeling.protocols.number import ComparisonProtocol
from labeling.psychometrics.mos import maximum_likelihood_scores, mean_opinion_scores
from labeling.psychometrics.pairwise import rank_votes
from labeling.querysets import SHARED_KINDS

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Line = dict[str, Any]

CACHED_SECONDS = 3600
MOST_SCALED = 500  # items of one scale: its fit holds a square of them
MANY_SCALED = 100  # from here on fewer replicates
REPLICATES = 1000, 200


@dataclass(frozen=True)
class Answers:
    """Numbers that people gave to shared trials, one row each, in the order in which they were given.

    person, trial, item, second: (n,) ids; second 0 where a trial shows one picture. value: (n,) in trial order.
    """

    person: Integers
    trial: Integers
    item: Integers
    second: Integers
    value: Floats

    def __len__(self) -> int:
        return len(self.value)

    def of(self, rows: NDArray[Any]) -> "Answers":
        return Answers(self.person[rows], self.trial[rows], self.item[rows], self.second[rows], self.value[rows])


def answers_read(campaign: Campaign, *, everyone: bool = False) -> Answers:
    """The answers of a number protocol that count, or would if nobody were excluded."""
    if everyone:
        rows = Judgement.objects.in_force().filter(trial__kind__in=SHARED_KINDS)
    else:
        rows = Judgement.objects.counted()
    found = rows.filter(campaign=campaign, kind=JudgementKind.ANSWER).order_by("pk")
    columns = found.values_list("person_id", "trial_id", "trial__item_id", "trial__second_id", "value")
    table = [(*row[:3], row[3] or 0, row[4]["value"]) for row in columns.iterator(10_000)]
    person, trial, item, second, value = zip(*table, strict=True) if table else [()] * 5
    people, trials, items, seconds = (np.array(column, dtype=np.int64) for column in (person, trial, item, second))
    return Answers(people, trials, items, seconds, np.array(value, dtype=np.float64))


def digest(campaign: Campaign) -> str:
    """Changes whenever a judgement or an exclusion of the campaign does."""
    state = Judgement.objects.filter(campaign=campaign).aggregate(
        last=Max("pk"), undone=Count("pk", filter=Q(superseded_at__isnull=False))
    )
    exclusions = Exclusion.objects.filter(participation__campaign=campaign).aggregate(
        all=Count("pk"), lifted=Count("pk", filter=Q(lifted_at__isnull=False))
    )
    return f"{campaign.pk}:{state['last']}:{state['undone']}:{exclusions['all']}:{exclusions['lifted']}"


@dataclass(frozen=True)
class Opinions:
    """Opinion scores of rated pictures, and what their figures cannot say.

    lines  by picture: item, n, mos with std and its t interval low, high, and the quality of the P.910 likelihood with
           quality_low, quality_high; None where there are too few answers to tell
    """

    lines: list[Line]
    notes: list[str]


def opinion_scores(campaign: Campaign, *, everyone: bool = False) -> Opinions:
    """Opinion scores of everything that was rated, by id."""
    answers = answers_read(campaign, everyone=everyone)
    if not len(answers):
        return Opinions([], [])
    plain = mean_opinion_scores(answers.item, answers.value)
    likely, _ = maximum_likelihood_scores(answers.person, answers.item, answers.value)
    columns: dict[str, NDArray[Any]] = {
        "item": plain.items,
        "n": plain.ratings,
        "mos": plain.quality,
        "std": plain.error * np.sqrt(plain.ratings),
        "low": plain.low,
        "high": plain.high,
        "quality": likely.quality,
        "quality_low": likely.low,
        "quality_high": likely.high,
    }
    return Opinions(_lines(columns), [note for note in (plain.note, likely.note) if note])


def preferences(campaign: Campaign, *, everyone: bool = False) -> list[Line]:
    """A line per compared pair, by trial: trial, item, second, n, mean, std, low, high, first, neither, last.

    mean: above zero where ``item`` is better; first, neither, last: answers that prefer item, neither, second.
    """
    answers = answers_read(campaign, everyone=everyone)
    if not len(answers):
        return []
    zone = cast("ComparisonProtocol", PROTOCOLS[campaign.protocol]).zone
    means = mean_opinion_scores(answers.trial, answers.value)
    _, first_row, place = np.unique(answers.trial, return_index=True, return_inverse=True)
    columns: dict[str, NDArray[Any]] = {
        "trial": means.items,
        "item": answers.item[first_row],
        "second": answers.second[first_row],
        "n": means.ratings,
        "mean": means.quality,
        "std": means.error * np.sqrt(means.ratings),
        "low": means.low,
        "high": means.high,
        "first": np.bincount(place, answers.value > zone).astype(np.int64),
        "neither": np.bincount(place, np.abs(answers.value) <= zone).astype(np.int64),
        "last": np.bincount(place, answers.value < -zone).astype(np.int64),
    }
    return _lines(columns)


def _lines(columns: dict[str, NDArray[Any]]) -> list[Line]:
    lists = [column.tolist() for column in columns.values()]
    return [
        {name: None if value != value else value for name, value in zip(columns, row, strict=True)}
        for row in zip(*lists, strict=True)
    ]


def winners(protocol: ComparisonProtocol, value: Floats) -> Floats:
    """(n,) 1 where the first won, 0 where the second won, 0.5 for a tie."""
    return np.where(np.abs(value) <= protocol.zone, 0.5, (value > 0).astype(np.float64))


@dataclass(frozen=True)
class Scene:
    """The scale of one scene: lines by rank, and what its figures cannot say.

    name      of the content group; empty where all items share one scale
    lines     item, score (Bradley-Terry strength, mean 0), low, high, rank, rank_best, rank_worst, votes, component
    """

    name: str
    lines: list[Line]
    notes: list[str]
    connected: bool


def scales(campaign: Campaign, *, everyone: bool = False) -> list[Scene]:
    """Bradley-Terry scales of the items of a comparison campaign, one per scene, from all answers so far."""
    key = f"labeling:scales:{digest(campaign)}:{everyone}"
    if (kept := cache.get(key)) is not None:
        return cast("list[Scene]", kept)
    answers = answers_read(campaign, everyone=everyone)
    found = _scales(campaign, answers) if len(answers) else []
    cache.set(key, found, CACHED_SECONDS)
    return found


def _scales(campaign: Campaign, answers: Answers) -> list[Scene]:
    names = Names.of_ids(np.union1d(answers.item, answers.second).tolist())
    scene = names.scenes(answers)
    labels, of = np.unique(scene, return_inverse=True)
    return [_scale(campaign, str(label), answers.of(of == at), names) for at, label in enumerate(labels)]


def _scale(campaign: Campaign, name: str, answers: Answers, names: "Names") -> Scene:
    items = np.union1d(answers.item, answers.second)
    if len(items) > MOST_SCALED:
        note = f"there is no scale for more than {MOST_SCALED} pictures compared with each other (here {len(items)})"
        return Scene(name, [], [note], connected=False)
    protocol = cast("ComparisonProtocol", PROTOCOLS[campaign.protocol])
    standing = rank_votes(
        [names.label(item) for item in items.tolist()],
        answers.person,
        np.searchsorted(items, answers.item),
        np.searchsorted(items, answers.second),
        winners(protocol, answers.value),
        replicates=REPLICATES[len(items) > MANY_SCALED],
        seed=campaign.seed % 2**32,
    )
    lines = _lines(
        {
            "item": items,
            "score": standing.strength,
            "low": standing.low,
            "high": standing.high,
            "rank": standing.rank,
            "rank_best": standing.rank_best,
            "rank_worst": standing.rank_worst,
            "votes": standing.n_votes,
            "component": standing.connectivity.component,
        }
    )
    lines.sort(key=lambda line: (line["component"], line["rank"], line["item"]))
    return Scene(name, lines, list(standing.notes), standing.connectivity.connected)


@dataclass(frozen=True)
class Names:
    """Where items come from: their paths in their corpus, and the content groups (scenes) that they belong to.

    label(item)   its path, with the corpus in front where there are several
    """

    items: dict[int, Item]
    paths: dict[int, str]
    groups: dict[int, str]

    @staticmethod
    def of_ids(ids: Iterable[int]) -> "Names":
        """Those of items by id."""
        return Names.of(_items(sorted(set(ids))))

    @staticmethod
    def of(items: Iterable[Item]) -> "Names":
        """Those of items; paths and groups are absent where a corpus has none or its files are gone."""
        names = Names({item.pk: item for item in items}, {}, {})
        by_corpus: dict[Corpus, list[Item]] = {}
        for item in names.items.values():
            by_corpus.setdefault(item.corpus, []).append(item)
        for corpus, own in by_corpus.items():
            names._read(corpus, own)
        return names

    def _read(self, corpus: Corpus, items: Sequence[Item]) -> None:
        try:
            manifest = reading.manifest_of(corpus)
        except FileNotFoundError:
            return
        wanted = [name for name in ("path", "group") if name in manifest.schema.names]
        records = manifest.read([item.row for item in items], wanted).to_pylist()
        for item, record in zip(items, records, strict=True):
            self.paths[item.pk] = record["path"]
            if record.get("group"):
                self.groups[item.pk] = record["group"]

    @cached_property
    def _corpora(self) -> set[int]:
        return {item.corpus_id for item in self.items.values()}

    def label(self, item: int) -> str:
        row = self.items[item]
        name = self.paths.get(item) or f"row {row.row}"
        return f"{row.corpus.name}: {name}" if len(self._corpora) > 1 else name

    def scenes(self, answers: Answers) -> NDArray[Any]:
        """(n,) the content group of each pair; all empty as soon as one pair goes across groups."""
        pairs = set(zip(answers.item.tolist(), answers.second.tolist(), strict=True))
        if not all(self._scene(*pair) for pair in pairs):
            return np.full(len(answers), "")
        return np.array([self.groups[item] for item in answers.item.tolist()], dtype=str)

    def _scene(self, item: int, second: int) -> str:
        same_corpus = self.items[item].corpus_id == self.items[second].corpus_id
        group = self.groups.get(item, "")
        return group if same_corpus and group == self.groups.get(second) else ""


def _items(ids: Sequence[int]) -> Iterable[Item]:
    for start in range(0, len(ids), 500):
        yield from Item.objects.filter(pk__in=ids[start : start + 500]).select_related("corpus")


def rates(campaign: Campaign) -> bool:
    """Whether the campaign's answers are ratings of one picture."""
    protocol = PROTOCOLS[campaign.protocol]
    return protocol.has_numbers and protocol.n_pictures == 1


def compares(campaign: Campaign) -> bool:
    """Whether the campaign's answers compare two pictures."""
    protocol = PROTOCOLS[campaign.protocol]
    return protocol.has_numbers and protocol.n_pictures == 2
