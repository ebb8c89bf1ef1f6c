"""Pages and requests of annotators and researchers: what they show, whom they refuse, how many statements they take."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from labeling import throttling
from labeling.models import Campaign, Invite, Judgement, Participation, Slot, Trial
from labeling.services import TrialSpec, invite_create, person_exclude, slots_lease, trials_add
from tests.labeling.builders import give, make_campaign, make_items, make_person, trial_of

pytestmark = pytest.mark.django_db
Post = Callable[..., Any]


@pytest.fixture
def campaign(researcher: User) -> Campaign:
    return make_campaign(researcher, trials=5, files=True, overlap=2, purpose="To find flaws.")


@pytest.fixture
def person(campaign: Campaign) -> User:
    return make_person(campaign, "ada")


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def post(client: Client, address: str, campaign: Campaign, **body: Any) -> Any:
    return client.post(
        reverse(f"labeling:{address}", args=[campaign.pk]), json.dumps(body), content_type="application/json"
    )


def answer(slot: int, **more: Any) -> dict[str, Any]:
    fields = {
        "slot": slot,
        "key": str(uuid4()),
        "kind": "answer",
        "value": {"0": True, "1": False},
        "presented_at": timezone.now().isoformat(),
        "milliseconds": 800,
        "viewing": {"width": 1280, "height": 800, "device": "keyboard"},
    }
    return fields | more


class TestJoining:
    def test_from_link_to_labelling(self, campaign: Campaign, researcher: User) -> None:
        Campaign.objects.update(consent="We keep your answers.")
        invite = invite_create(campaign=campaign, by=researcher)
        client = Client()
        link = reverse("labeling:invite", args=[invite.code])
        assert "cats and dogs" in client.get(link).content.decode()
        assert not Participation.objects.exists()  # looking is not joining
        page = client.post(link, {"display_name": "Ada"}, follow=True)
        assert "We keep your answers." in page.content.decode()
        label = reverse("labeling:label", args=[campaign.pk])
        refused = client.post(label)
        assert refused.status_code == 400
        assert "Tick the box" in refused.content.decode()
        page = client.post(label, {"agree": "yes"}, follow=True)
        assert 'id="stage"' in page.content.decode()
        assert client.get(link).url == label  # the link brings them back

    def test_over_is_said_kindly(self, campaign: Campaign, researcher: User) -> None:
        invite = invite_create(campaign=campaign, by=researcher, quota=1)
        Invite.objects.update(used=1)
        page = Client().get(reverse("labeling:invite", args=[invite.code]))
        assert page.status_code == 410
        assert "All places" in page.content.decode()

    def test_joins_are_throttled(self, campaign: Campaign, researcher: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(throttling, "JOINS_PER_HOUR", 2)
        cache.clear()
        link = reverse("labeling:invite", args=[invite_create(campaign=campaign, by=researcher).code])
        codes = [Client().post(link).status_code for _ in range(3)]
        assert codes == [302, 302, 429]

    def test_uninvited_people_are_refused(self, campaign: Campaign, annotator: User) -> None:
        page = client_of(annotator).get(reverse("labeling:label", args=[campaign.pk]))
        assert page.status_code == 403
        assert "invited" in page.content.decode()


class TestRequests:
    def test_next_answer_undo_skip(self, campaign: Campaign, person: User) -> None:
        client = client_of(person)
        first = post(client, "next", campaign).json()
        assert first["state"] == "open"
        assert [sorted(trial) for trial in first["trials"]] == [
            ["classes", "pictures", "reference", "slot", "variant"]
        ] * 3
        slot = first["trials"][0]["slot"]
        reply = post(client, "answer", campaign, **answer(slot)).json()
        assert reply["recorded"] == {"slot": slot, "created": True}
        assert len(reply["trials"]) == 3
        assert slot not in {trial["slot"] for trial in reply["trials"]}
        again = post(client, "undo", campaign).json()
        assert again["trial"]["slot"] == slot
        skipped = post(client, "skip", campaign, slot=slot).json()
        assert slot not in {trial["slot"] for trial in skipped["trials"]}

    def test_blind(self, campaign: Campaign, person: User, researcher: User) -> None:
        """Nothing tells gold and repeats from ordinary trials, names files, or says what others answered."""
        item = make_items(researcher, 1, start=60)[0]
        trials_add(campaign=campaign, trials=[TrialSpec(item, [0, 1], "gold", {0: True, 1: True})])
        Campaign.objects.update(gold_share=0.5)
        client = client_of(person)
        text = post(client, "next", campaign, count=6).content.decode()
        assert Slot.objects.filter(trial__kind="gold", person=person).exists()
        for word in ("gold", "kind", "expected", "items/", ".png", "position", "repeat"):
            assert word not in text

    @pytest.mark.parametrize(
        ("change", "code", "words"),
        [
            ({"value": {"0": True}}, 400, "each class"),
            ({"slot": 10**9}, 400, "no slot"),
            ({"slot": "1"}, 400, "whole number"),
            ({"key": "x"}, 400, "UUID"),
            ({"presented_at": "yesterday"}, 400, "time such as"),
            ({"presented_at": "2026-01-01T00:00:00"}, 400, "time zone"),
            ({"milliseconds": 10**9}, 400, "milliseconds"),
            ({"milliseconds": True}, 400, "whole number"),
        ],
    )
    def test_bad_answers_say_why(
        self, campaign: Campaign, person: User, change: dict[str, Any], code: int, words: str
    ) -> None:
        slot = slots_lease(campaign=campaign, person=person)[0]
        reply = post(client_of(person), "answer", campaign, **answer(slot.pk) | change)
        assert (reply.status_code, words in reply.json()["detail"]) == (code, True)
        assert not Judgement.objects.exists()

    def test_no_json(self, campaign: Campaign, person: User) -> None:
        client = client_of(person)
        address = reverse("labeling:answer", args=[campaign.pk])
        for body in ("{", "[]", '"x"'):
            assert client.post(address, body, content_type="application/json").status_code == 400

    def test_late_foreign_stale_and_logged_out(self, campaign: Campaign, person: User, researcher: User) -> None:
        other = make_person(campaign, "grace")
        slot = slots_lease(campaign=campaign, person=person)[0]
        assert post(client_of(other), "answer", campaign, **answer(slot.pk)).status_code == 403
        assert post(Client(), "answer", campaign, **answer(slot.pk)).status_code == 401
        Slot.objects.filter(pk=slot.pk).update(person=other, taken_from=person)
        assert post(client_of(person), "answer", campaign, **answer(slot.pk)).status_code == 410
        Campaign.objects.update(state="closed")
        assert post(client_of(other), "answer", campaign, **answer(slot.pk)).status_code == 410

    def test_csrf_is_checked(self, campaign: Campaign, person: User) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(person)
        assert post(client, "next", campaign).status_code == 403

    def test_the_round_trip_takes_few_statements(
        self, campaign: Campaign, person: User, django_assert_num_queries: Any
    ) -> None:
        client = client_of(person)
        trials = post(client, "next", campaign).json()["trials"]
        post(client, "answer", campaign, **answer(trials[0]["slot"]))
        with django_assert_num_queries(11):
            # person, begin, participation with campaign, slot with trial, take slot, judgement, votes of the trial,
            # what is held, next slot, claim it, commit; the session comes from the cache
            reply = post(client, "answer", campaign, **answer(trials[1]["slot"]))
        assert reply.json()["recorded"]["created"]

    def test_keys_are_remembered(self, campaign: Campaign, person: User) -> None:
        client = client_of(person)
        assert post(client, "preferences", campaign, keys={"left": "KeyF", "right": "KeyJ"}).status_code == 200
        page = client.get(reverse("labeling:label", args=[campaign.pk])).content.decode()
        assert '"left": "KeyF"' in page
        for bad in ({"left": "KeyF", "right": "KeyF"}, {"left": "ArrowUp"}, {"fly": "KeyF"}, {"left": "a b"}, []):
            assert post(client, "preferences", campaign, keys=bad).status_code == 400

    def test_viewing_wall(self, campaign: Campaign, person: User) -> None:
        Campaign.objects.update(require_viewing=True)
        client = client_of(person)
        assert post(client, "next", campaign).status_code == 403
        small = post(client, "viewing", campaign, width=100, height=100, pixel_ratio=1, zoom=1)
        assert len(small.json()["warnings"]) == 1
        post(client, "viewing", campaign, width=1280, height=800, pixel_ratio=1, zoom=1)
        assert post(client, "next", campaign).status_code == 200


class TestPictures:
    def test_for_holders_and_researchers_only(
        self, campaign: Campaign, person: User, researcher: User, other_researcher: User
    ) -> None:
        slot = slots_lease(campaign=campaign, person=person)[0]
        address = reverse("labeling:image", args=[slot.pk, 0])
        reply = client_of(person).get(address)
        assert b"".join(reply.streaming_content)[:4] == b"\x89PNG"
        assert reply["X-Content-Type-Options"] == "nosniff"
        assert reply["Content-Type"] == "image/png"
        assert "filename" not in reply["Content-Disposition"]
        assert client_of(researcher).get(address).status_code == 200
        for stranger in (make_person(campaign, "grace"), other_researcher):
            assert client_of(stranger).get(address).status_code == 404
        assert Client().get(address).status_code == 302


class TestThanks:
    def test_own_statistics_and_agreement_only_if_allowed(self, campaign: Campaign, person: User) -> None:
        other = make_person(campaign, "grace")
        for who in (person, other):
            slot = slots_lease(campaign=campaign, person=who, count=1)[0]
            give(slot, who)
        client = client_of(person)
        address = reverse("labeling:thanks", args=[campaign.pk])
        text = client.get(address).content.decode()
        assert "To find flaws." in text
        assert "agreement" not in text
        Campaign.objects.update(show_agreement=True)
        assert "100 %" in client.get(address).content.decode()


PAGES = ["campaign", "people", "verdicts", "invites", "settings"]


class TestResearcher:
    def _fill(self, campaign: Campaign) -> None:
        for name in ("ada", "grace", "alan"):
            who = make_person(campaign, name)
            for slot in slots_lease(campaign=campaign, person=who, count=2):
                give(slot, who)

    @pytest.mark.parametrize("page", PAGES)
    def test_pages_are_for_those_who_may_see(
        self, campaign: Campaign, researcher: User, other_researcher: User, annotator: User, page: str
    ) -> None:
        self._fill(campaign)
        address = reverse(f"labeling:{page}", args=[campaign.pk])
        assert client_of(researcher).get(address).status_code == 200
        assert client_of(other_researcher).get(address).status_code == 404
        assert client_of(annotator).get(address).status_code == 404
        assert Client().get(address).status_code == 302

    def test_public_campaigns_are_looked_at_and_not_changed(self, campaign: Campaign, other_researcher: User) -> None:
        Campaign.objects.update(is_public=True)
        client = client_of(other_researcher)
        assert client.get(reverse("labeling:campaign", args=[campaign.pk])).status_code == 200
        assert client.get(reverse("labeling:settings", args=[campaign.pk])).status_code == 403
        assert client.post(reverse("labeling:move", args=[campaign.pk]), {"to": "close"}).status_code == 403
        trial = trial_of(campaign)
        assert client.post(reverse("labeling:gold", args=[campaign.pk, trial.pk])).status_code == 403
        assert client.post(reverse("labeling:drop", args=[campaign.pk, trial.pk])).status_code == 403

    @pytest.mark.parametrize(("page", "most"), [("campaign", 14), ("people", 13), ("verdicts", 8), ("list", 6)])
    def test_statements_do_not_grow(
        self, campaign: Campaign, researcher: User, page: str, most: int, django_assert_max_num_queries: Any
    ) -> None:
        client = client_of(researcher)
        address = reverse(f"labeling:{page}", args=[] if page == "list" else [campaign.pk])
        client.get(address)
        self._fill(campaign)
        trials_add(campaign=campaign, trials=[TrialSpec(item, [0]) for item in make_items(researcher, 30, start=200)])
        with django_assert_max_num_queries(most):
            assert client.get(address).status_code == 200

    def test_exclude_and_restore(self, campaign: Campaign, researcher: User) -> None:
        self._fill(campaign)
        client = client_of(researcher)
        part = Participation.objects.order_by("pk").first()
        assert part
        client.post(reverse("labeling:exclude", args=[campaign.pk, part.pk]), {"reason": "asleep"})
        assert "asleep" in client.get(reverse("labeling:people", args=[campaign.pk])).content.decode()
        client.post(reverse("labeling:restore", args=[campaign.pk, part.pk]))
        assert "restored by" in client.get(reverse("labeling:people", args=[campaign.pk])).content.decode()

    def test_gold_drop_invites_settings(self, campaign: Campaign, researcher: User) -> None:
        client = client_of(researcher)
        trial = trial_of(campaign)
        client.post(reverse("labeling:gold", args=[campaign.pk, trial.pk]), {"class_0": "yes"})
        gold = Trial.objects.get(kind="gold")
        assert gold.expected == {"0": True, "1": False}
        assert "gold" in client.get(reverse("labeling:verdicts", args=[campaign.pk]) + "?kind=gold").content.decode()
        client.post(reverse("labeling:drop", args=[campaign.pk, trial.pk]))
        assert "dropped" in client.get(reverse("labeling:verdicts", args=[campaign.pk])).content.decode()
        client.post(reverse("labeling:invites", args=[campaign.pk]), {"note": "lab", "quota": 3})
        invite = Invite.objects.get()
        assert invite.code in client.get(reverse("labeling:invites", args=[campaign.pk])).content.decode()
        client.post(reverse("labeling:revoke", args=[campaign.pk, invite.pk]))
        assert "withdrawn" in client.get(reverse("labeling:invites", args=[campaign.pk])).content.decode()

    def test_settings_say_what_is_wrong(self, campaign: Campaign, researcher: User) -> None:
        client = client_of(researcher)
        address = reverse("labeling:settings", args=[campaign.pk])
        form = client.get(address).context["form"]
        good = {name: value for name, value in form.initial.items() if value is not None and value is not False}
        assert client.post(address, good | {"purpose": "science"}).status_code == 302
        campaign.refresh_from_db()
        assert (campaign.purpose, campaign.overlap) == ("science", 2)
        bad = client.post(address, good | {"gold_stop": "0.9", "gold_warn": "0.5"})
        assert "must not lie above" in bad.content.decode()

    def test_reliability_finds_the_careless(self, researcher: User) -> None:
        from labeling.reliability import agreement_report, crowd_report

        campaign = make_campaign(researcher, trials=24, overlap=4)
        names = ["ada", "grace", "alan", "rush"]
        crowd = {name: make_person(campaign, name) for name in names}
        for name, who in crowd.items():
            for n in range(24):
                slot = slots_lease(campaign=campaign, person=who, count=1)[0]
                truth = slot.trial.item.row % 2 == 0
                value = {"0": truth, "1": not truth} if name != "rush" else {"0": True, "1": True}
                give(slot, who, value=value, milliseconds=1500 + n if name != "rush" else 120)
        reports = {report.participation.person.username: report for report in crowd_report(campaign).people}
        assert reports["ada"].flags == []
        assert any("speed" in flag for flag in reports["rush"].flags)
        assert any("straight-lining" in flag for flag in reports["rush"].flags)
        assert reports["ada"].others == (48, 48)
        assert reports["rush"].others == (24, 48)
        before = agreement_report(campaign)
        assert before.persons == 4
        part = Participation.objects.get(person=crowd["rush"])
        person_exclude(participation=part, reason="rushed", by=researcher)
        after = agreement_report(campaign)
        assert (after.persons, after.alpha) == (3, pytest.approx(1.0))
        assert before.alpha < after.alpha
