"""Campaigns, trials, invites, exclusions, gold: the writes beside judging."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.errors import Conflict, Denied, DomainError, Gone
from accounts.models import User
from labeling.models import Campaign, Exclusion, Participation, Slot, Trial, Verdict
from labeling.services import (
    TrialSpec,
    campaign_close,
    campaign_create,
    campaign_open,
    campaign_pause,
    campaign_update,
    gold_add,
    gold_retire,
    invite_create,
    invite_revoke,
    participation_ensure,
    participation_join,
    person_exclude,
    person_restore,
    slots_lease,
    trial_drop,
    trials_add,
    viewing_record,
)
from labeling.signals import verdicts_changed
from tests.labeling.builders import give, make_campaign, make_items, make_person, make_taxonomy, trial_of

pytestmark = pytest.mark.django_db
YES, NO = {"0": True, "1": True}, {"0": False, "1": False}


class TestCampaign:
    def test_moves(self, researcher: User) -> None:
        campaign = campaign_create(name="c", taxonomy=make_taxonomy(researcher), by=researcher)
        campaign_open(campaign=campaign, by=researcher)
        campaign_pause(campaign=campaign, by=researcher)
        campaign_open(campaign=campaign, by=researcher)
        campaign_close(campaign=campaign, by=researcher)
        with pytest.raises(Conflict, match="closed"):
            campaign_open(campaign=campaign, by=researcher)

    def test_only_researchers_make_and_only_editors_change(
        self, researcher: User, other_researcher: User, annotator: User
    ) -> None:
        with pytest.raises(Denied):
            campaign_create(name="c", taxonomy=make_taxonomy(researcher), by=annotator)
        campaign = make_campaign(researcher, trials=0)
        for act in (campaign_open, campaign_pause, campaign_close, campaign_update, invite_create):
            with pytest.raises(Denied):
                act(campaign=campaign, by=other_researcher)  # type: ignore[operator]

    @pytest.mark.parametrize(
        ("bad", "field"),
        [
            ({"overlap": 0}, "overlap"),
            ({"gold_share": 0.9}, "gold_share"),
            ({"gold_stop": 0.9, "gold_warn": 0.5}, "gold_stop"),
            ({"colour": 1}, "colour"),
            ({"lease_seconds": 1}, "lease_seconds"),
        ],
    )
    def test_bad_settings_name_their_field(self, researcher: User, bad: dict[str, Any], field: str) -> None:
        with pytest.raises(DomainError) as error:
            campaign_create(name="c", taxonomy=make_taxonomy(researcher), by=researcher, **bad)
        assert error.value.field == field

    def test_overlap_is_fixed_once_open(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        with pytest.raises(DomainError, match="fixed"):
            campaign_update(campaign=campaign, by=researcher, overlap=7)
        campaign_update(campaign=campaign, by=researcher, purpose="science")
        assert campaign.history.count() == 2


class TestTrials:
    def test_asked_once(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=0, overlap=3)
        first, second = make_items(researcher, 2, files=False)
        made = trials_add(
            campaign=campaign,
            trials=[
                TrialSpec(first, [1, 0]),
                TrialSpec(second, [0, 1]),
                TrialSpec(first, [0, 1]),
                TrialSpec(first, [2]),
            ],
        )
        assert made[0] == made[2]
        assert len({trial.pk for trial in made}) == 3
        assert made[0].classes == [0, 1]
        again = trials_add(campaign=campaign, trials=[TrialSpec(first, [0, 1]), TrialSpec(first, [0, 1], "control")])
        assert again[0] == made[0]
        assert again[1] != made[0]
        assert Slot.objects.count() == 4 * 3

    def test_order_is_drawn_from_the_seed(self, researcher: User) -> None:
        items = make_items(researcher, 30, files=False)
        orders = []
        for seed in (1, 1, 2):
            campaign = make_campaign(researcher, trials=0, seed=seed)
            trials_add(campaign=campaign, trials=[TrialSpec(item, [0]) for item in items])
            orders.append(list(campaign.trials.order_by("position").values_list("item_id", flat=True)))
        assert orders[0] == orders[1] != orders[2]

    def test_more_trials_reopen_a_complete_campaign(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=1)
        person = make_person(campaign, "a")
        give(slots_lease(campaign=campaign, person=person)[0], person)
        campaign.refresh_from_db()
        assert campaign.state == "complete"
        trials_add(campaign=campaign, trials=[TrialSpec(item, [0]) for item in make_items(researcher, 1, start=9)])
        campaign.refresh_from_db()
        assert (campaign.state, campaign.completed_at) == ("open", None)

    @pytest.mark.parametrize(
        "bad",
        [
            {"classes": [0, 0]},
            {"classes": [0, 1, 2]},
            {"classes": []},
            {"classes": [99]},
            {"kind": "repeat"},
            {"kind": "gold"},
            {"kind": "gold", "expected": {0: True}},
            {"expected": {0: True, 1: True}},
        ],
    )
    def test_nonsense_is_refused(self, researcher: User, bad: dict[str, Any]) -> None:
        campaign = make_campaign(researcher, trials=0)
        item = make_items(researcher, 1, files=False)[0]
        with pytest.raises(DomainError):
            trials_add(campaign=campaign, trials=[TrialSpec(item, **{"classes": [0, 1], **bad})])
        assert not Trial.objects.exists()

    def test_none_for_a_closed_campaign(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=0)
        campaign_close(campaign=campaign, by=researcher)
        with pytest.raises(Conflict, match="closed"):
            trials_add(campaign=campaign, trials=[TrialSpec(make_items(researcher, 1, files=False)[0], [0])])

    def test_the_last_drop_completes(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1)
        trial_drop(trial=trial_of(campaign), by=researcher)
        campaign.refresh_from_db()
        assert campaign.state == "complete"
        assert Verdict.objects.get().outcome == "dropped"
        with pytest.raises(Conflict):
            trial_drop(trial=trial_of(campaign), by=researcher)


class TestInvites:
    def test_a_stranger_joins_and_comes_back(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        invite = invite_create(campaign=campaign, by=researcher, quota=2)
        part = participation_join(invite=invite, display_name="  Ada ")
        assert part.person.display_name == "Ada"
        assert not part.person.has_usable_password()
        assert not part.person.is_researcher
        assert participation_join(invite=invite, person=part.person) == part
        invite.refresh_from_db()
        assert invite.used == 1

    @pytest.mark.parametrize("how", ["quota", "expired", "revoked", "closed"])
    def test_refused_with_the_reason(self, researcher: User, how: str) -> None:
        campaign = make_campaign(researcher)
        invite = invite_create(campaign=campaign, by=researcher, quota=1)
        if how == "quota":
            participation_join(invite=invite)
        if how == "expired":
            invite.expires_at = timezone.now() - timedelta(seconds=1)
            invite.save()
        if how == "revoked":
            invite_revoke(invite=invite, by=researcher)
        if how == "closed":
            campaign_close(campaign=campaign, by=researcher)
        invite.refresh_from_db()
        words = {"quota": "places", "expired": "expired", "revoked": "withdrawn", "closed": "over"}
        with pytest.raises(Gone, match=words[how]):
            participation_join(invite=invite)
        assert User.objects.filter(username__startswith="guest").count() == (how == "quota")

    def test_without_an_invite_only_those_who_may_look(self, researcher: User, annotator: User) -> None:
        campaign = make_campaign(researcher)
        assert participation_ensure(campaign=campaign, person=researcher)
        with pytest.raises(Denied, match="invited"):
            participation_ensure(campaign=campaign, person=annotator)

    def test_viewing_check_warns_and_is_kept(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        warnings = viewing_record(
            campaign=campaign, person=person, viewing={"width": 200, "height": 300, "pixel_ratio": 2, "zoom": 1.5}
        )
        assert len(warnings) == 2
        assert Participation.objects.get().viewing["warnings"] == warnings
        fine = {"width": 1280, "height": 800, "pixel_ratio": 2, "zoom": 1}
        assert viewing_record(campaign=campaign, person=person, viewing=fine) == []


class TestExclusion:
    def _judged(self, researcher: User, votes: list[dict[str, bool]]) -> tuple[Campaign, list[Participation]]:
        campaign = make_campaign(researcher, trials=1, overlap=len(votes))
        for number, value in enumerate(votes):
            person = make_person(campaign, f"p{number}")
            give(slots_lease(campaign=campaign, person=person)[0], person, value=value)
        return campaign, list(Participation.objects.order_by("pk"))

    def test_verdict_without_and_with_again(self, researcher: User, django_capture_on_commit_callbacks: Any) -> None:
        campaign, parts = self._judged(researcher, [YES, YES, NO, NO, NO])
        assert Verdict.objects.get().value == NO
        changes = []

        def changed(**_: object) -> None:
            changes.append(1)

        verdicts_changed.connect(changed)
        with django_capture_on_commit_callbacks(execute=True):
            person_exclude(participation=parts[4], reason="asleep", by=researcher)
        assert changes == [1]
        assert not Verdict.objects.exists()  # two against two: one more judgement is asked for
        assert Slot.objects.filter(state="open").count() == 1
        person_restore(exclusion=Exclusion.objects.get(), by=researcher)
        assert Verdict.objects.get().value == NO
        assert not Slot.objects.filter(state="open").exists()
        campaign.refresh_from_db()
        assert campaign.state == "complete"

    def test_an_excluded_persons_answers_do_not_count_from_then_on(self, researcher: User) -> None:
        campaign, parts = self._judged(researcher, [YES, NO, NO])
        person_exclude(participation=parts[2], reason="asleep", by=researcher, replace=True)
        assert not Verdict.objects.exists()
        with pytest.raises(Gone, match="ended"):
            slots_lease(campaign=campaign, person=parts[2].person)
        late = make_person(campaign, "late")
        give(slots_lease(campaign=campaign, person=late)[0], late, value=YES)
        verdict = Verdict.objects.get()
        assert (verdict.value, verdict.n_judgements) == (YES, 3)

    def test_once_with_a_reason_by_editors(self, researcher: User, other_researcher: User) -> None:
        _, parts = self._judged(researcher, [YES])
        with pytest.raises(DomainError, match="reason"):
            person_exclude(participation=parts[0], reason=" ", by=researcher)
        with pytest.raises(Denied):
            person_exclude(participation=parts[0], reason="x", by=other_researcher)
        exclusion = person_exclude(participation=parts[0], reason="x", by=researcher)
        with pytest.raises(Conflict, match="already"):
            person_exclude(participation=parts[0], reason="x", by=researcher)
        person_restore(exclusion=exclusion, by=researcher)
        with pytest.raises(Conflict, match="already"):
            person_restore(exclusion=exclusion, by=researcher)
        assert Exclusion.objects.get().lifted_by == researcher

    def test_what_they_held_goes_to_others(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=1)
        person = make_person(campaign, "a")
        slot = slots_lease(campaign=campaign, person=person)[0]
        person_exclude(participation=Participation.objects.get(), reason="x", by=researcher)
        other = make_person(campaign, "b")
        assert [s.pk for s in slots_lease(campaign=campaign, person=other)] == [slot.pk]


class TestGold:
    def test_from_a_verdict_or_by_hand(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=2, overlap=1)
        person = make_person(campaign, "a")
        give(slots_lease(campaign=campaign, person=person)[0], person, value=NO)
        settled, unsettled = trial_of(campaign, 0), trial_of(campaign, 1)
        gold = gold_add(trial=settled, by=researcher)
        assert (gold.kind, gold.expected) == ("gold", NO)
        with pytest.raises(DomainError, match="no settled verdict"):
            gold_add(trial=unsettled, by=researcher)
        assert gold_add(trial=unsettled, by=researcher, expected={0: True, 1: False}).expected == {
            "0": True,
            "1": False,
        }
        assert gold_add(trial=settled, by=researcher, expected=YES).pk == gold.pk  # type: ignore[arg-type]
        gold.refresh_from_db()
        assert gold.expected == YES

    def test_retired_gold_is_not_handed_out(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=4, gold_share=0.5)
        item = make_items(researcher, 1, files=False, start=77)[0]
        gold = trials_add(campaign=campaign, trials=[TrialSpec(item, [0], "gold", {0: True})])[0]
        gold_retire(trial=gold, by=researcher)
        held = slots_lease(campaign=campaign, person=make_person(campaign, "a"), count=4)
        assert {slot.trial.kind for slot in held} == {"ordinary"}

    def test_nobody_is_tested_on_what_they_judged(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=6, overlap=1, gold_share=0.5)
        person = make_person(campaign, "a")
        for _ in range(3):
            give(slots_lease(campaign=campaign, person=person, count=1)[0], person)
        for trial in campaign.trials.filter(state="settled"):
            gold_add(trial=trial, by=researcher)
        assert {s.trial.kind for s in slots_lease(campaign=campaign, person=person, count=3)} == {"ordinary"}
