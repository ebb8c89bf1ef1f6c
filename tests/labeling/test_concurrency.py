"""Many people at once: exact overlap, one winner of the last slot, one verdict, on SQLite and on PostgreSQL."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from django.db import close_old_connections, connection
from django.db.models import Count
from django.utils import timezone

from accounts.errors import Conflict, Denied, DomainError, Gone
from accounts.models import User
from labeling.models import Campaign, CampaignState, Invite, Judgement, Participation, Slot, Trial, Verdict
from labeling.services import (
    Answer,
    TrialSpec,
    invite_create,
    judgement_undo,
    participation_join,
    slot_skip,
    slots_lease,
    trials_add,
    turn_take,
)
from tests.labeling.builders import give, make_campaign, make_items, make_number_campaign

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def make_crowd(campaign: Campaign, count: int) -> list[User]:
    people = User.objects.bulk_create(User(username=f"person {number}") for number in range(count))
    Participation.objects.bulk_create(
        Participation(campaign=campaign, person=person, consented_at=timezone.now()) for person in people
    )
    return people


def at_once(act: Callable[[Any], Any], things: Sequence[Any], threads: int = 40) -> list[Any]:
    """Results of ``act`` on each thing, started together; an error is a result."""
    barrier = Barrier(min(threads, len(things)))

    def run(numbered: tuple[int, Any]) -> Any:
        number, thing = numbered
        if number < barrier.parties:
            barrier.wait(timeout=30)
        try:
            return act(thing)
        except DomainError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(barrier.parties) as pool:
        results = list(pool.map(run, enumerate(things)))
    close_old_connections()
    return results


def test_two_hundred_people_claim_the_last_slot(researcher: User) -> None:
    campaign = make_campaign(researcher, trials=1, overlap=1)
    people = make_crowd(campaign, 200)
    results = at_once(lambda person: slots_lease(campaign=campaign, person=person), people)
    assert Counter(map(len, results)) == {1: 1, 0: 199}
    slot = Slot.objects.get()
    winner = next(person for person, held in zip(people, results, strict=True) if held)
    assert (slot.state, slot.person_id) == ("leased", winner.pk)


def test_sixty_people_claim_a_slot_whose_lease_ran_out(researcher: User) -> None:
    campaign = make_campaign(researcher, trials=1, overlap=1)
    first, *people = make_crowd(campaign, 61)
    slot = slots_lease(campaign=campaign, person=first)[0]
    Slot.objects.update(leased_until=timezone.now())

    def act(person: User) -> Any:
        return give(slot, first) if person is None else slots_lease(campaign=campaign, person=person)

    results = at_once(act, [*people[:30], None, *people[30:]])
    takers = [result for result in results if isinstance(result, list) and result]
    late = next(result for result in results if not isinstance(result, list))
    assert len(takers) + (not isinstance(late, Gone)) == 1
    assert Slot.objects.get().state == ("leased" if takers else "done")


def test_the_last_two_answers_arrive_together(researcher: User) -> None:
    for _ in range(5):
        campaign = make_campaign(researcher, trials=0, overlap=2)
        start = Trial.objects.count()
        items = make_items(researcher, 2, files=False, start=1000 + start)
        trials_add(campaign=campaign, trials=[TrialSpec(item, [0]) for item in items])
        people = User.objects.bulk_create(User(username=f"{campaign.pk} {number}") for number in range(2))
        Participation.objects.bulk_create(
            Participation(campaign=campaign, person=person, consented_at=timezone.now()) for person in people
        )
        held = [(slot, person) for person in people for slot in slots_lease(campaign=campaign, person=person)]
        results = at_once(lambda pair: give(pair[0], pair[1]), held)
        assert [result.created for result in results] == [True] * 4
        campaign.refresh_from_db()
        assert campaign.state == CampaignState.COMPLETE
        assert campaign.verdicts.count() == 2


def test_one_answer_posted_many_times(researcher: User) -> None:
    campaign = make_campaign(researcher, trials=1, overlap=1)
    (person,) = make_crowd(campaign, 1)
    slot = slots_lease(campaign=campaign, person=person)[0]
    key = uuid4()
    results = at_once(lambda _: give(slot, person, key=key), range(20), threads=20)
    assert sorted(result.created for result in results) == [False] * 19 + [True]
    assert Judgement.objects.count() == 1


def test_one_person_in_twenty_windows(researcher: User) -> None:
    campaign = make_campaign(researcher, trials=10, overlap=2)
    (person,) = make_crowd(campaign, 1)
    at_once(lambda _: slots_lease(campaign=campaign, person=person, count=3), range(20), threads=20)
    assert Slot.objects.filter(person=person).count() == 3


def test_the_last_place_of_an_invite(researcher: User) -> None:
    campaign = make_campaign(researcher)
    invite = invite_create(campaign=campaign, by=researcher, quota=1)
    results = at_once(lambda _: participation_join(invite=Invite.objects.get(pk=invite.pk)), range(30), threads=30)
    assert sum(isinstance(result, Participation) for result in results) == 1
    assert all(isinstance(result, Participation | Gone) for result in results)
    assert Invite.objects.get().used == 1


def work(campaign: Campaign, person: User, seed: int) -> None:
    """Label until nothing is left, now and then skipping, undoing, not telling, or leaving leases to run out."""
    random = Random(seed)
    held = slots_lease(campaign=campaign, person=person)
    for _ in range(200):
        if not held:
            return
        slot = held[0]
        chance = random.random()
        if chance < 0.05:
            slot_skip(slot=slot, person=person)
            held = _again(campaign, person)
            continue
        if chance < 0.1:
            Slot.objects.filter(pk=slot.pk).update(leased_until=timezone.now())
        classes = slot.trial.classes
        number: dict[str, Any] = {"value": random.randint(-100, 100)}
        value = {str(index): random.random() < 0.6 for index in classes} if classes else number
        kind = "cannot_tell" if random.random() < 0.15 else "answer"
        answer = Answer(slot.pk, kind, value if kind == "answer" else {}, uuid4(), timezone.now(), 500, {})
        try:
            held = turn_take(campaign_id=campaign.pk, person=person, answer=answer, count=3).slots
            if random.random() < 0.08:
                judgement_undo(campaign=campaign, person=person)
                held = _again(campaign, person)
        except (Gone, Conflict, Denied):
            held = _again(campaign, person)


def _again(campaign: Campaign, person: User) -> list[Slot]:
    try:
        return slots_lease(campaign=campaign, person=person)
    except Gone:
        return []


@pytest.mark.parametrize("protocol", ["verify", "compare"])
def test_overlap_is_exact_whatever_people_do(researcher: User, protocol: str) -> None:
    """Sixteen people label 20 trials at once; whoever comes last finishes what skips and lost leases left."""
    options: dict[str, Any] = {"trials": 20, "overlap": 3, "extra_slots": 2, "lease_seconds": 600, "repeat_share": 0.0}
    if protocol == "verify":
        campaign = make_campaign(researcher, **options)
    else:
        campaign = make_number_campaign(researcher, protocol, **options)
    people = make_crowd(campaign, 16)
    at_once(lambda number: work(campaign, people[number], 100 + number), range(16), threads=16)
    Slot.objects.filter(state="leased").update(leased_until=timezone.now())
    for person in make_late(campaign, 8):
        while held := _again(campaign, person):
            give(held[0], person)
    campaign.refresh_from_db()
    assert campaign.state == CampaignState.COMPLETE
    assert Verdict.objects.count() == 20
    assert not Slot.objects.filter(state__in=["open", "leased"]).exists()
    in_force = Judgement.objects.in_force()
    per_trial = dict(in_force.order_by().values_list("trial").annotate(n=Count("pk")))
    for verdict in Verdict.objects.select_related("trial"):
        n = per_trial[verdict.trial_id]
        assert n == verdict.n_judgements
        assert n <= 5
        assert verdict.outcome == "dropped" or n >= 3
        if n > 3 and verdict.outcome == "settled":
            assert Slot.objects.filter(trial=verdict.trial_id, state="done").count() == n
    twice = in_force.order_by().values("trial", "person").annotate(n=Count("pk")).filter(n__gt=1)
    assert not twice.exists()
    assert not Slot.objects.filter(state="done").annotate(n=Count("judgements")).filter(n=0).exists()


def make_late(campaign: Campaign, count: int) -> list[User]:
    people = User.objects.bulk_create(User(username=f"late {number}") for number in range(count))
    Participation.objects.bulk_create(
        Participation(campaign=campaign, person=person, consented_at=timezone.now()) for person in people
    )
    return people
