"""The admin: looked at by researchers, changed through the services."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from labeling.models import Campaign
from labeling.services import invite_create, person_exclude, slots_lease
from tests.labeling.builders import give, make_campaign, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign(researcher: User) -> Campaign:
    campaign = make_campaign(researcher, trials=2, overlap=1)
    person = make_person(campaign, "ada")
    give(slots_lease(campaign=campaign, person=person)[0], person)
    invite_create(campaign=campaign, by=researcher)
    grace = make_person(campaign, "grace")
    person_exclude(participation=campaign.participations.get(person=grace), reason="x", by=researcher)
    return campaign


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("model", ["campaign", "judgement", "verdict", "invite", "exclusion"])
def test_lists_show_what_one_may_see(campaign: Campaign, researcher: User, other_researcher: User, model: str) -> None:
    address = reverse(f"admin:labeling_{model}_changelist")
    mine = client_of(researcher).get(address)
    assert (mine.status_code, mine.context["cl"].result_count) == (200, 1)
    theirs = client_of(other_researcher).get(address)
    assert (theirs.status_code, theirs.context["cl"].result_count) == (200, 0)


def test_settings_go_through_the_service(campaign: Campaign, researcher: User) -> None:
    client = client_of(researcher)
    address = reverse("admin:labeling_campaign_change", args=[campaign.pk])
    form: dict[str, Any] = client.get(address).context["adminform"].form.initial
    good = {name: value for name, value in form.items() if value is not None and value is not False}
    client.post(address, good | {"purpose": "science"})
    campaign.refresh_from_db()
    assert campaign.purpose == "science"
    page = client.post(address, good | {"gold_stop": 0.9, "gold_warn": 0.5}, follow=True)
    assert "must not lie above" in page.content.decode()


def test_moves(campaign: Campaign, researcher: User) -> None:
    address = reverse("admin:labeling_campaign_changelist")
    client = client_of(researcher)
    client.post(address, {"action": "pause_selected", "_selected_action": [campaign.pk]})
    campaign.refresh_from_db()
    assert campaign.state == "paused"
    page = client.post(address, {"action": "pause_selected", "_selected_action": [campaign.pk]}, follow=True)
    assert "only a campaign that is open" in page.content.decode()
