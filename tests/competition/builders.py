"""Small competitions of predictions files, and people who label them."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from django.test import TestCase
from django.utils import timezone

from accounts.models import User
from competition.models import Competition, Round
from competition.services import competition_create, competition_launch
from corpora import locations
from corpora.manifest import Manifest
from corpora.models import Corpus
from corpora.reading import manifest_of
from corpora.services import corpus_create
from jobs.inline import run_all_inline, run_inline
from jobs.models import Job, JobState
from labeling.models import Campaign, Participation, Trial
from labeling.services import judgement_record, slots_lease
from models_zoo.models import Version
from models_zoo.services import version_add
from tests.models_zoo.builders import checked, make_model, make_pictures, make_taxonomy

NAMES = ["cat", "dog", "ship", "truck", "frog", "bird"]
Judge = Callable[[Trial, int], tuple[str, dict[str, bool]]]


def make_pictures_corpus(by: User, *, n: int = 60, name: str = "pictures") -> Corpus:
    """``n`` tiny labelled pictures, a folder per class."""
    folder = make_pictures(locations.inbox() / name, n, names=NAMES)
    made = corpus_create(
        name=name,
        source="folder",
        location=str(folder),
        by=by,
        taxonomy=make_taxonomy(by, NAMES),
        options={"labels_from": "folder"},
    )
    run_inline(Job.objects.about(made).get())
    made.refresh_from_db()
    return made


def labels_of(corpus: Corpus) -> np.ndarray:
    return _labels_of(manifest_of(corpus))


@lru_cache(maxsize=4)
def _labels_of(manifest: Manifest) -> np.ndarray:
    return np.asarray(manifest.column("label"), dtype=np.int64)


def make_predictions(
    corpus: Corpus, folder: Path, *, by: User, name: str, accuracy: float, seed: int, classes: np.ndarray | None = None
) -> Version:
    """A verified predictions version that is right on about ``accuracy`` of the rows, always confident."""
    rng = np.random.default_rng(seed)
    truth = labels_of(corpus)
    wrong = (truth + rng.integers(1, len(NAMES), len(truth))) % len(NAMES)
    said = np.where(rng.random(len(truth)) < accuracy, truth, wrong) if classes is None else classes
    confidence = rng.uniform(0.85, 1.0, len(truth)).round(3)
    file = folder / f"{name}.csv"
    lines = [f"{row},{label},{sure}" for row, (label, sure) in enumerate(zip(said, confidence, strict=True))]
    file.write_text("row,class,confidence\n" + "\n".join(lines) + "\n")
    model = make_model(by, name, taxonomy=corpus.taxonomy)
    return checked(version_add(model=model, label="v1", kind="predictions", by=by, file=file, corpus=corpus))


def make_versions(corpus: Corpus, folder: Path, *, by: User, accuracies: Sequence[float]) -> list[Version]:
    return [
        make_predictions(corpus, folder, by=by, name=f"model {at}", accuracy=accuracy, seed=at)
        for at, accuracy in enumerate(accuracies)
    ]


def make_competition(corpus: Corpus, versions: Sequence[Version], *, by: User, **settings: Any) -> Competition:
    """Small: k = 4, no near-duplicates, three people per exhibit."""
    values: dict[str, Any] = {
        "name": "small", "k": 4, "reserve": 3, "control_size": 5, "overlap": 3, "per_class_cap": 3,
        "duplicate_distance": None,
    }  # fmt: skip
    return competition_create(corpus=corpus, versions=versions, by=by, **(values | settings))


def committed(act: Callable[..., Any], **arguments: Any) -> Any:
    """Call a service as if its transaction had committed: what waits for the commit is done."""
    with TestCase.captureOnCommitCallbacks(execute=True):
        return act(**arguments)


def work() -> list[Job]:
    """Run all queued jobs to their ends, those that wait included; none may fail."""
    Job.objects.filter(state=JobState.QUEUED).update(not_before=None)
    with TestCase.captureOnCommitCallbacks(execute=True):
        ended = run_all_inline()
    assert all(job.state == JobState.SUCCEEDED for job in ended), [job.traceback or job.error for job in ended]
    return ended + (work() if Job.objects.filter(state=JobState.QUEUED).exists() else [])


def launch(competition: Competition, *, by: User) -> Round:
    """Launch, and work until people are asked."""
    round_ = committed(competition_launch, competition=competition, by=by)
    work()
    round_.refresh_from_db()
    return round_


def truthful(trial: Trial, person: int) -> tuple[str, dict[str, bool]]:
    """Says what the corpus's labels say."""
    label = labels_of(trial.item.corpus)[trial.item.row]
    return "answer", {str(index): bool(index == label) for index in trial.classes}


def people_of(campaign: Campaign, count: int) -> list[User]:
    people = []
    for number in range(count):
        person, _ = User.objects.get_or_create(username=f"person {number}")
        Participation.objects.get_or_create(
            campaign=campaign, person=person, defaults={"consented_at": timezone.now(), "trained_at": timezone.now()}
        )
        people.append(person)
    return people


def label_all(campaign: Campaign, *, judge: Judge = truthful, people: int = 3, most: int | None = None) -> int:
    """Have people answer everything (or ``most`` judgements) that is handed out; returns how many they gave."""
    given = 0
    persons = people_of(campaign, people)
    while True:
        before = given
        for number, person in enumerate(persons):
            campaign.refresh_from_db()
            if campaign.state != "open":
                return given
            for slot in slots_lease(campaign=campaign, person=person, count=20):
                if most is not None and given >= most:
                    return given
                slot.trial.refresh_from_db()
                if slot.trial.state != "open":
                    continue
                kind, value = judge(slot.trial, number)
                committed(
                    judgement_record, slot=slot.pk, person=person, kind=kind, value=value, key=uuid4(),
                    presented_at=timezone.now(), milliseconds=500 + 10 * number, viewing={},
                )  # fmt: skip
                given += 1
        if given == before:
            return given
