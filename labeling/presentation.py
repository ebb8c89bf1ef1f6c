"""What the annotator's page is told about a trial, and about how far a person is.

Nothing here says which model predicted what, what others answered, whether a trial is gold or a repeat, or what a file
is called.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from django.db.models import Count
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from corpora.models import Taxonomy
from labeling.models import PICTURES, Campaign, Judgement, Participation, Slot, SlotState, TrialKind
from labeling.protocols import PROTOCOLS
from labeling.protocols.base import Action

REFERENCE = 2  # place of a trial's reference


def class_names(taxonomy: Taxonomy | None) -> list[dict[str, Any]]:
    """The classes of a taxonomy by index, none without one; they never change, so each process reads them once."""
    return _classes(taxonomy.pk, taxonomy.digest) if taxonomy else []


@lru_cache(maxsize=16)
def _classes(taxonomy_id: int, digest: str) -> list[dict[str, Any]]:
    return Taxonomy.objects.values_list("classes", flat=True).get(pk=taxonomy_id, digest=digest)


def trial_card(slot: Slot, *, campaign: Campaign, person: User) -> dict[str, Any]:
    """What is shown for a slot whose trial's pictures are loaded. Training trials carry their solution.

    ``pictures`` stand in shown order; ``place`` is where each stands in the trial.
    """
    trial, protocol = slot.trial, PROTOCOLS[campaign.protocol]
    order = protocol.shown_order(trial.classes, seed=campaign.seed, person=person.pk, trial=trial.pk)
    places = order if protocol.n_pictures == 2 else [0]
    card: dict[str, Any] = {
        "slot": slot.pk,
        "pictures": [_picture(slot, place) for place in places],
        "reference": _picture(slot, REFERENCE) if trial.reference_id else None,
        "variant": protocol.variant(trial.classes),
        **protocol.present(order, class_names(campaign.taxonomy)),
    }
    if trial.kind == TrialKind.TRAINING:
        card["training"] = {"expected": trial.expected, "explanation": trial.explanation}
    return card


def _picture(slot: Slot, place: int) -> dict[str, Any]:
    item = getattr(slot.trial, PICTURES[place])
    return {
        "place": place,
        "image": reverse("labeling:image", args=[slot.pk, place]),
        "width": item.width,
        "height": item.height,
    }


def trial_cards(slots: Iterable[Slot], *, campaign: Campaign, person: User) -> list[dict[str, Any]]:
    return [trial_card(slot, campaign=campaign, person=person) for slot in slots]


def key_bindings(person: User, actions: Iterable[Action]) -> dict[str, str]:
    """The key of each action, by position: the person's own where they chose one."""
    chosen = person.preferences.get("keys", {})
    return {action.name: chosen.get(action.name, action.code) for action in actions}


def person_state(participation: Participation) -> str:
    """Where a person stands: "stopped", or the state of the campaign."""
    if participation.stopped_at or participation.is_excluded:
        return "stopped"
    return participation.campaign.state


def person_progress(*, campaign: Campaign, person: User) -> dict[str, int]:
    """``done``: answers given; ``left``: trials this person holds or could still be given."""
    own = Slot.objects.filter(campaign=campaign, person=person).exclude(trial__kind=TrialKind.TRAINING)
    counts = dict(own.order_by().values_list("state").annotate(n=Count("pk")))
    available = Slot.objects.filter(campaign=campaign).available_to(person, timezone.now())
    left = available.aggregate(n=Count("trial", distinct=True))["n"]
    done, held = counts.get(SlotState.DONE, 0), counts.get(SlotState.LEASED, 0)
    return {"done": done, "left": left + held}


def person_statistics(*, campaign: Campaign, person: User) -> dict[str, Any]:
    """What a person did here; agreement with the majority only where the campaign tells it."""
    rows = Judgement.objects.in_force().filter(campaign=campaign, person=person)
    rows = rows.exclude(trial__kind=TrialKind.TRAINING)
    times = sorted(rows.values_list("milliseconds", flat=True))
    statistics: dict[str, Any] = {
        "answers": len(times),
        "median_seconds": times[len(times) // 2] / 1000 if times else None,
    }
    if campaign.show_agreement:
        agreeing = PROTOCOLS[campaign.protocol].agreeing
        settled = rows.counted().filter(kind="answer", trial__verdict__outcome="settled")
        pairs = [agreeing(*pair) for pair in settled.values_list("value", "trial__verdict__value")]
        agreed, compared = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
        statistics |= {"compared": compared, "agreement": agreed / compared if compared else None}
    return statistics
