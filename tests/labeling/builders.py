"""Small campaigns for the tests of this room and of those above it."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from django.core.files.base import ContentFile
from django.db.models import Count, Q
from django.utils import timezone
from PIL import Image

from accounts.models import User
from corpora.models import Corpus, CorpusState, Item, Taxonomy
from labeling.models import Campaign, Judgement, Participation, Slot, Trial
from labeling.protocols import PROTOCOLS
from labeling.services import Recorded, TrialSpec, campaign_create, campaign_open, judgement_record, trials_add

DONE = Q(state="done")
NAMES = ["cat", "dog", "ship", "truck"]


def make_taxonomy(by: User, name: str = "animals and vehicles") -> Taxonomy:
    classes = [
        {"id": f"n{i}", "name": word, "synonyms": [f"{word} synonym"], "gloss": f"what a {word} is"}
        for i, word in enumerate(NAMES)
    ]
    made, _ = Taxonomy.objects.get_or_create(
        name=name,
        defaults={
            "kind": "flat",
            "n_classes": len(NAMES),
            "classes": classes,
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "created_by": by,
        },
    )
    return made


def make_corpus(by: User, name: str = "pictures") -> Corpus:
    return Corpus.objects.get_or_create(
        name=name, defaults={"source": "folder", "state": CorpusState.READY, "n_rows": 100_000, "created_by": by}
    )[0]


def make_items(
    by: User, count: int, *, size: tuple[int, int] = (32, 32), files: bool = True, start: int = 0
) -> list[Item]:
    """Items with a real picture each (``files``), or with the names of pictures only."""
    corpus = make_corpus(by)
    rows = []
    for row in range(start, start + count):
        item = Item(corpus=corpus, row=row, sha256=f"{row:064x}", width=size[0], height=size[1])
        item.image.name, item.thumbnail.name = f"items/{row}.png", f"thumbnails/{row}.png"
        if files:
            buffer = io.BytesIO()
            Image.new("RGB", size, (row * 37 % 256, row * 91 % 256, 120)).save(buffer, "PNG")
            for field in (item.image, item.thumbnail):
                field.save(f"{row}.png", ContentFile(buffer.getvalue()), save=False)
        rows.append(item)
    return Item.objects.bulk_create(rows)


def make_campaign(
    by: User, *, trials: int = 3, classes: Sequence[int] = (0, 1), files: bool = False, **options: Any
) -> Campaign:
    """An open campaign with ``trials`` ordinary trials."""
    campaign = campaign_create(name="cats and dogs", taxonomy=make_taxonomy(by), by=by, **options)
    campaign_open(campaign=campaign, by=by)
    if trials:
        items = make_items(by, trials, files=files)
        trials_add(campaign=campaign, trials=[TrialSpec(item, classes) for item in items], by=by)
    return campaign


def make_number_campaign(
    by: User, protocol: str, *, trials: int = 3, files: bool = False, size: tuple[int, int] = (32, 32), **options: Any
) -> Campaign:
    """An open campaign of ratings, or of comparisons of pictures (0, 1), (1, 2) ... in rows."""
    campaign = campaign_create(name="quality", protocol=protocol, by=by, **options)
    campaign_open(campaign=campaign, by=by)
    is_pair = PROTOCOLS[protocol].n_pictures == 2
    items = make_items(by, trials + is_pair, files=files, size=size)
    specs = [TrialSpec(items[n], second=items[n + 1] if is_pair else None) for n in range(trials)]
    trials_add(campaign=campaign, trials=specs, by=by)
    return campaign


def make_person(campaign: Campaign, name: str, *, consented: bool = True) -> User:
    person = User.objects.create_user(name)
    Participation.objects.create(campaign=campaign, person=person, consented_at=timezone.now() if consented else None)
    return person


def give(
    slot: Slot | int, person: User, *, kind: str = "answer", value: Any = None, key: Any = None, **more: Any
) -> Recorded:
    """Answer a slot: by default "yes" to everything, or 1."""
    if value is None and kind == "answer":
        trial = slot.trial if isinstance(slot, Slot) else Slot.objects.get(pk=slot).trial
        classes = trial.classes
        value = {str(index): True for index in classes} if classes else {"value": 1}
    fields: dict[str, Any] = {"presented_at": timezone.now(), "milliseconds": 900, "viewing": {"device": "keyboard"}}
    return judgement_record(
        slot=slot, person=person, kind=kind, value=value or {}, key=key or uuid4(), **(fields | more)
    )


def give_all(person: User, answers: Mapping[Trial, float], *, milliseconds: int = 1500) -> None:
    """Numbers of one person for shared trials, written at once: for tests of what is made of many answers."""
    taken = dict(Slot.objects.filter(trial__in=answers).values_list("trial").annotate(n=Count("pk", filter=DONE)))
    slots = [
        Slot(trial=trial, campaign=trial.campaign, number=100 + taken.get(trial.pk, 0), position=trial.position,
             state="done", person=person)
        for trial in answers
    ]  # fmt: skip
    Slot.objects.bulk_create(slots)
    protocol = PROTOCOLS[slots[0].campaign.protocol]
    Judgement.objects.bulk_create(
        Judgement(
            slot=slot,
            trial=slot.trial,
            campaign=slot.campaign,
            person=person,
            value={"value": answers[slot.trial]},
            presented_at=timezone.now(),
            milliseconds=milliseconds,
            viewing={"sides": protocol.shown_order([], seed=slot.campaign.seed, person=person.pk, trial=slot.trial.pk)},
        )
        for slot in slots
    )


def trial_of(campaign: Campaign, position: int = 0) -> Trial:
    return campaign.trials.order_by("position")[position]
