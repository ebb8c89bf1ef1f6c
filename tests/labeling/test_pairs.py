"""Comparisons and ratings in the services: sides, repeats, gold, training, verdicts, the round trip."""

import json
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.errors import DomainError
from accounts.models import User
from labeling.models import Judgement, Participation, Slot, Trial, Verdict
from labeling.presentation import trial_card
from labeling.protocols import PROTOCOLS
from labeling.services import TrialSpec, gold_add, judgement_undo, person_exclude, slots_lease, trials_add
from tests.labeling.builders import give, make_items, make_number_campaign, make_person

pytestmark = pytest.mark.django_db
NUMBERS = [name for name in PROTOCOLS if name != "verify"]


def test_a_pair_is_asked_once_in_whatever_order_it_is_named(researcher: User) -> None:
    campaign = make_number_campaign(researcher, "compare", trials=1)
    first, second = Trial.objects.get().item, Trial.objects.get().second
    again = trials_add(campaign=campaign, trials=[TrialSpec(second, second=first)])
    assert again == [Trial.objects.get()]
    zone = {"low": 30, "high": 100}
    gold = trials_add(campaign=campaign, trials=[TrialSpec(second, kind="gold", expected=zone, second=first)])[0]
    assert (gold.item_id, gold.expected) == (first.pk, {"low": -100, "high": -30})
    for wrong in (TrialSpec(first), TrialSpec(first, second=first), TrialSpec(first, [1], second=second)):
        with pytest.raises(DomainError):
            trials_add(campaign=campaign, trials=[wrong])


def test_a_repeated_pair_has_its_sides_drawn_anew(researcher: User) -> None:
    campaign = make_number_campaign(researcher, "forced", trials=18, overlap=3, repeat_share=0.5)
    same: Counter[bool] = Counter()
    for name in ("ada", "grace", "alan"):
        person = make_person(campaign, name)
        for _ in range(26):
            slots = slots_lease(campaign=campaign, person=person, count=1)
            if not slots:
                break
            card = trial_card(slots[0], campaign=campaign, person=person)
            give(slots[0], person)
            judgement = Judgement.objects.latest("pk")
            assert judgement.viewing["sides"] == [picture["place"] for picture in card["pictures"]] == card["order"]
            if slots[0].trial.kind == "repeat":
                first = Judgement.objects.get(person=person, trial=slots[0].trial.repeat_of)
                same[first.viewing["sides"] == judgement.viewing["sides"]] += 1
    assert same.total() >= 12
    assert 0.2 < same[True] / same.total() < 0.8
    repeats = Trial.objects.filter(kind="repeat")
    assert repeats.count() == repeats.values("item", "second").distinct().count()  # shared by all who repeat it


@pytest.mark.parametrize("protocol", NUMBERS)
def test_training_comes_first_in_its_order_and_gold_by_its_zone(researcher: User, protocol: str) -> None:
    campaign = make_number_campaign(
        researcher, protocol, trials=6, overlap=1, gold_share=0.5, gold_minimum=1, gold_warn=1.0, gold_stop=0.0
    )
    zone = {"low": 1, "high": 1}
    items = make_items(researcher, 8, files=False, start=80)
    is_pair = PROTOCOLS[protocol].n_pictures == 2
    kinds = ["training", "training", "training", "gold"]
    specs = [
        TrialSpec(items[n], kind=kind, expected=zone, second=items[n + 4] if is_pair else None)
        for n, kind in enumerate(kinds)
    ]
    trials_add(campaign=campaign, trials=specs)
    person = make_person(campaign, "ada")
    wrong = PROTOCOLS[protocol].low if PROTOCOLS[protocol].low != 1 else PROTOCOLS[protocol].high
    asked, notices = [], []
    while slots := slots_lease(campaign=campaign, person=person, count=1):
        asked.append(slots[0].trial)
        card = trial_card(slots[0], campaign=campaign, person=person)
        assert ("training" in card) is (slots[0].trial.kind == "training")
        is_gold = slots[0].trial.kind == "gold"
        notices.append((is_gold, give(slots[0], person, value={"value": wrong if is_gold else 1}).notice))
    assert [trial.item_id for trial in asked[:3]] == [item.pk for item in items[:3]]
    assert [is_gold for is_gold, notice in notices if notice] == [True]
    assert Participation.objects.get().trained_at is not None
    assert Verdict.objects.count() == 6


@pytest.mark.parametrize("protocol", NUMBERS)
def test_verdicts_follow_undo_and_exclusion(researcher: User, protocol: str) -> None:
    campaign = make_number_campaign(researcher, protocol, trials=1, overlap=2)
    people = [make_person(campaign, name) for name in ("ada", "grace")]
    low, high = PROTOCOLS[protocol].low, PROTOCOLS[protocol].high
    for person, value in zip(people, (low, high), strict=True):
        give(slots_lease(campaign=campaign, person=person)[0], person, value={"value": value})
    verdict = Verdict.objects.get()
    assert (verdict.outcome, verdict.value["mean"], verdict.value["n"]) == ("settled", (low + high) / 2, 2)
    judgement_undo(campaign=campaign, person=people[1])
    assert not Verdict.objects.exists()
    give(Slot.objects.get(person=people[1], state="leased"), people[1], value={"value": high})
    person_exclude(participation=Participation.objects.get(person=people[0]), reason="x", by=researcher)
    assert Verdict.objects.get().value == {"mean": high, "std": None, "n": 1, "low": None, "high": None}
    gold = gold_add(trial=Trial.objects.get(), by=researcher)
    assert gold.expected["low"] <= high <= gold.expected["high"]


def test_gold_of_a_pair_that_was_judged_is_not_served(researcher: User) -> None:
    campaign = make_number_campaign(researcher, "ccr", trials=4, overlap=1, gold_share=0.5)
    trial = Trial.objects.order_by("position").first()
    gold_add(trial=trial, by=researcher, expected={"low": 1, "high": 3})
    person = make_person(campaign, "ada")
    pairs = Counter()
    while slots := slots_lease(campaign=campaign, person=person, count=1):
        pairs[slots[0].trial.item_id, slots[0].trial.second_id] += 1
        give(slots[0], person)
    # it may come as gold first and as an ordinary trial later, but never again as gold
    assert Slot.objects.filter(person=person, trial__kind="gold").count() <= 1
    assert max(pairs.values()) <= 2


def test_always_the_same_answer_at_once_and_leaving(researcher: User) -> None:
    """Answers of no time at all are kept; what a person who leaves held goes to the next."""
    campaign = make_number_campaign(researcher, "acr", trials=4, overlap=1, lease_seconds=10)
    rush, late = make_person(campaign, "rush"), make_person(campaign, "late")
    give(slots_lease(campaign=campaign, person=rush, count=3)[0], rush, milliseconds=0)
    Slot.objects.filter(state="leased").update(leased_until=timezone.now())
    while slots := slots_lease(campaign=campaign, person=late, count=3):
        give(slots[0], late, value={"value": 5})
    campaign.refresh_from_db()
    assert campaign.state == "complete"
    assert Judgement.objects.filter(person=rush).count() == 1


@pytest.mark.parametrize("protocol", ["compare", "acr"])
def test_the_round_trip_takes_as_few_statements(
    researcher: User, protocol: str, django_assert_num_queries: Any
) -> None:
    campaign = make_number_campaign(researcher, protocol, trials=8, overlap=2, repeat_share=0.0)
    person = make_person(campaign, "ada")
    client = Client()
    client.force_login(person)

    def post(address: str, **body: Any) -> Any:
        return client.post(
            reverse(f"labeling:{address}", args=[campaign.pk]), json.dumps(body), content_type="application/json"
        )

    def answer(slot: int, **more: Any) -> Any:
        viewing = {"width": 1280, "height": 800, "device": "keyboard", "session": "00ff00ff"} | more
        moment = timezone.now().isoformat()
        return post("answer", slot=slot, key=str(uuid4()), kind="answer", value={"value": 1}, presented_at=moment,
                    milliseconds=800, viewing=viewing)  # fmt: skip

    trials = post("next").json()["trials"]
    answer(trials[0]["slot"])
    with django_assert_num_queries(11):
        assert answer(trials[1]["slot"]).json()["recorded"]["created"]
    assert Judgement.objects.latest("pk").viewing["session"] == "00ff00ff"
    for bad in ("x", "00FF00FF", 12345678, "00ff00ff0"):
        assert answer(trials[2]["slot"], session=bad).status_code == 400
