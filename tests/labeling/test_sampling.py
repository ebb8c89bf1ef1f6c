"""Active sampling: batches as trees, slots for the people there are, the budget to the judgement, and its end."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from accounts.errors import DomainError
from accounts.models import User
from jobs.inline import run_inline
from jobs.models import Job
from labeling.models import Campaign, Candidate, Judgement, Participation, Slot, Trial
from labeling.results import scales
from labeling.services import (
    campaign_create,
    campaign_open,
    candidates_add,
    pairs_sample,
    person_exclude,
    slots_lease,
)
from labeling.services.sampling import sampling_check, sampling_is_due
from labeling.services.settling import SAMPLING_JOB, budget_left
from tests.labeling.builders import give, make_corpus, make_items, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def items(researcher: User, monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Twelve pictures, in two content groups of six."""
    made = {item.row: item for item in make_items(researcher, 12, files=False)}
    monkeypatch.setattr(
        "labeling.services.sampling.item_ensure", lambda *, corpus, rows: {row: made[row] for row in rows}
    )
    return made


def make_active(by: User, rows: int, *, budget: int, opened: bool = True, **options: Any) -> Campaign:
    campaign = campaign_create(
        name="scale", protocol="forced", sampling="active", budget=budget, repeat_share=0.0, by=by, **options
    )
    candidates_add(campaign=campaign, corpus=make_corpus(by), rows=range(rows), by=by)
    if opened:
        campaign_open(campaign=campaign, by=by)
    return campaign


def answers(campaign: Campaign, people: list[User], rng: np.random.Generator) -> Iterator[Slot]:
    """People in turn compare what they are given, rows by their number, until nobody is given anything."""
    while True:
        gave = False
        for person in people:
            for slot in slots_lease(campaign=campaign, person=person, count=1):
                gap = (slot.trial.second.row - slot.trial.item.row) * 1.2
                give(slot, person, value={"value": 1 if rng.random() < 1 / (1 + np.exp(-gap)) else -1})
                gave = True
                yield slot
        if not gave and not pairs_sample(campaign=campaign):
            return


def test_settings(researcher: User) -> None:
    with pytest.raises(DomainError, match="say how many judgements"):
        campaign_create(name="x", protocol="compare", sampling="active", by=researcher)
    with pytest.raises(DomainError, match="shows one picture"):
        campaign_create(name="x", protocol="acr", sampling="active", budget=9, by=researcher)
    plain = campaign_create(name="x", protocol="compare", by=researcher)
    with pytest.raises(DomainError, match="add trials instead"):
        candidates_add(campaign=plain, corpus=make_corpus(researcher), rows=[0], by=researcher)


def test_the_first_batch_is_made_when_the_campaign_opens(researcher: User) -> None:
    campaign = make_active(researcher, 6, budget=100)
    job = Job.objects.get(kind=SAMPLING_JOB)
    assert run_inline(job).result["asked"] == 5
    trials = Trial.objects.select_related("item", "second")
    assert len({(trial.item.row, trial.second.row) for trial in trials}) == 5
    assert Slot.objects.count() == 5
    assert not sampling_is_due(campaign)


def test_a_campaign_ends_with_its_budget_and_finds_the_order(researcher: User) -> None:
    campaign = make_active(researcher, 7, budget=48, seed=3)
    people = [make_person(campaign, name) for name in ("ada", "grace", "alan", "edsger")]
    rng = np.random.default_rng(5)
    for _ in answers(campaign, people, rng):
        if sampling_is_due(campaign):
            pairs_sample(campaign=campaign)
    campaign.refresh_from_db()
    assert (budget_left(campaign), campaign.state) == (0, "complete")
    pairs = list(Judgement.objects.values_list("trial__item__row", "trial__second__row", "person"))
    assert len(pairs) == len(set(pairs)) == 48  # the budget to the judgement, and nobody has a pair twice
    lines = scales(campaign)[0].lines
    rows = [Candidate.objects.get(item=line["item"]).item.row for line in lines]
    assert np.corrcoef(rows, range(7))[0, 1] > 0.8
    asked = Counter((first, second) for first, second, _ in pairs)
    for verdict in campaign.verdicts.select_related("trial__item", "trial__second"):
        assert verdict.n_judgements == asked[verdict.trial.item.row, verdict.trial.second.row]


def test_scenes_are_never_mixed(researcher: User, items: dict[int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Groups:
        groups = {item.pk: "one" if row < 6 else "two" for row, item in items.items() if row != 11}

    monkeypatch.setattr("labeling.services.sampling.Names.of", lambda items: Groups)
    campaign = make_active(researcher, 0, budget=60, opened=False)
    corpus = make_corpus(researcher)
    assert candidates_add(campaign=campaign, corpus=corpus, rows=range(11), by=researcher, by_scene=True) == 11
    assert candidates_add(campaign=campaign, corpus=corpus, rows=range(11), by=researcher, by_scene=True) == 0
    with pytest.raises(DomainError, match="Row 11 belongs to no content group"):
        candidates_add(campaign=campaign, corpus=corpus, rows=[11], by=researcher, by_scene=True)
    campaign_open(campaign=campaign, by=researcher)
    assert pairs_sample(campaign=campaign) == 5 + 4
    for trial in Trial.objects.select_related("item", "second"):
        assert (trial.item.row < 6) is (trial.second.row < 6)


def test_one_annotator_has_each_pair_once_and_no_jobs_pile_up(researcher: User) -> None:
    campaign = make_active(researcher, 3, budget=50)
    run_inline(Job.objects.get(kind=SAMPLING_JOB))
    person = make_person(campaign, "ada")
    given = list(answers(campaign, [person], np.random.default_rng(0)))
    assert len(given) == 3
    campaign.refresh_from_db()
    assert campaign.state == "open"  # somebody else may still come
    sampling_check()
    run_inline(Job.objects.live().get(kind=SAMPLING_JOB))
    n_jobs = Job.objects.count()
    for _ in range(3):
        sampling_check()
    assert Job.objects.count() == n_jobs
    make_person(campaign, "grace")
    sampling_check()
    run_inline(Job.objects.live().get(kind=SAMPLING_JOB))
    assert Slot.objects.filter(state="open").count() == 3


def test_answers_of_excluded_people_are_asked_for_again(researcher: User) -> None:
    campaign = make_active(researcher, 3, budget=4)
    people = [make_person(campaign, name) for name in ("ada", "grace", "alan")]
    list(answers(campaign, people, np.random.default_rng(1)))
    campaign.refresh_from_db()
    assert campaign.state == "complete"
    part = Participation.objects.get(person=people[0])
    n_own = Judgement.objects.filter(person=people[0]).count()
    person_exclude(participation=part, reason="asleep", by=researcher, replace=True)
    campaign.refresh_from_db()
    assert campaign.state == "open"
    assert budget_left(campaign) + Slot.objects.filter(state="open").count() == n_own
    list(answers(campaign, people[1:], np.random.default_rng(2)))
    campaign.refresh_from_db()
    counted = Judgement.objects.counted().count()
    assert (counted, campaign.state) == (4, "complete") or budget_left(campaign) == 4 - counted


def test_an_answer_has_the_next_pairs_chosen(researcher: User, django_capture_on_commit_callbacks: Any) -> None:
    campaign = make_active(researcher, 4, budget=50)
    run_inline(Job.objects.get(kind=SAMPLING_JOB))
    person = make_person(campaign, "ada")
    make_person(campaign, "grace")
    with django_capture_on_commit_callbacks(execute=True):
        give(slots_lease(campaign=campaign, person=person, count=3)[0], person)
    assert Job.objects.live().filter(kind=SAMPLING_JOB).count() == 1


def test_pages_and_api(researcher: User, items: dict[int, Any]) -> None:
    campaign = make_active(researcher, 4, budget=20)
    pairs_sample(campaign=campaign)
    client = Client()
    client.force_login(researcher)
    page = client.get(reverse("labeling:campaign", args=[campaign.pk])).content.decode()
    assert "active, among 4 candidates; 17 of 20 judgements still to be asked for" in " ".join(page.split())
    page = client.get(reverse("labeling:candidates", args=[campaign.pk])).content.decode()
    assert page.count("<figure") == 4
    here = f"/api/v1/campaigns/{campaign.pk}/"
    body = client.get(f"{here}candidates/").json()
    assert (body["budget_left"], [row["row"] for row in body["candidates"]]) == (17, [0, 1, 2, 3])
    corpus = make_corpus(researcher).pk
    added = client.post(f"{here}candidates/", {"corpus": corpus, "rows": [4]}, content_type="application/json")
    assert (added.status_code, len(added.json()["candidates"])) == (201, 5)
