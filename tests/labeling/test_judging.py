"""Lease, record, undo, skip, and what verdicts they make."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from accounts.errors import Conflict, Denied, DomainError, Gone
from accounts.models import User
from labeling.models import Campaign, CampaignState, Judgement, Participation, Skip, Slot, TrialState, Verdict
from labeling.services import (
    TrialSpec,
    campaign_close,
    campaign_pause,
    judgement_undo,
    slot_skip,
    slots_lease,
    trial_drop,
    trials_add,
    turn_take,
)
from labeling.services.judging import Answer
from labeling.signals import campaign_complete, trial_ended, verdicts_changed
from tests.labeling.builders import give, make_campaign, make_items, make_person, trial_of

pytestmark = pytest.mark.django_db


def people(campaign: Campaign, count: int) -> list[User]:
    return [make_person(campaign, f"person {number}") for number in range(count)]


def vote(campaign: Campaign, person: User, value: dict[str, bool] | None = None, kind: str = "answer") -> None:
    slot = slots_lease(campaign=campaign, person=person, count=1)[0]
    give(slot, person, kind=kind, value=value)


YES, NO = {"0": True, "1": True}, {"0": False, "1": False}


class TestLease:
    def test_three_different_trials_in_order(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=5)
        slots = slots_lease(campaign=campaign, person=make_person(campaign, "a"), count=3)
        assert [slot.trial.position for slot in slots] == [0, 1, 2]
        assert all(slot.leased_until > timezone.now() for slot in slots)

    def test_asking_again_gives_the_same(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=5)
        person = make_person(campaign, "a")
        first = slots_lease(campaign=campaign, person=person, count=3)
        assert [s.pk for s in slots_lease(campaign=campaign, person=person, count=3)] == [s.pk for s in first]
        assert len(slots_lease(campaign=campaign, person=person, count=100)) == 5

    def test_nobody_holds_more_than_eight(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=20)
        assert len(slots_lease(campaign=campaign, person=make_person(campaign, "a"), count=100)) == 8

    def test_no_more_people_than_slots(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=2)
        a, b, c = people(campaign, 3)
        assert len(slots_lease(campaign=campaign, person=a)) == 1
        assert len(slots_lease(campaign=campaign, person=b)) == 1
        assert slots_lease(campaign=campaign, person=c) == []

    def test_one_slot_of_a_trial_per_person(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=5)
        person = make_person(campaign, "a")
        vote(campaign, person)
        assert slots_lease(campaign=campaign, person=person) == []

    def test_a_lease_that_ran_out_goes_to_the_next(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=1)
        a, b = people(campaign, 2)
        slot = slots_lease(campaign=campaign, person=a)[0]
        assert slots_lease(campaign=campaign, person=b) == []
        Slot.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
        assert [s.pk for s in slots_lease(campaign=campaign, person=b)] == [slot.pk]
        with pytest.raises(Gone, match="handed on"):
            give(slot, a)
        give(slot, b)

    def test_a_late_answer_counts_while_nobody_took_the_slot(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=1)
        person = make_person(campaign, "a")
        slot = slots_lease(campaign=campaign, person=person)[0]
        Slot.objects.update(leased_until=timezone.now() - timedelta(hours=1))
        assert give(slot, person).created

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"consented_at": None}, "Agree to take part"),
            ({"stopped_at": timezone.now()}, "has ended"),
        ],
    )
    def test_refused_without_consent_or_after_a_stop(
        self, researcher: User, change: dict[str, Any], error: str
    ) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        Participation.objects.update(**change)
        with pytest.raises((Denied, Gone), match=error):
            slots_lease(campaign=campaign, person=person)

    def test_refused_to_strangers(self, researcher: User, annotator: User) -> None:
        with pytest.raises(Denied, match="no part"):
            slots_lease(campaign=make_campaign(researcher), person=annotator)

    def test_viewing_check_is_a_wall_only_on_demand(self, researcher: User) -> None:
        campaign = make_campaign(researcher, require_viewing=True)
        person = make_person(campaign, "a")
        with pytest.raises(Denied, match="viewing check"):
            slots_lease(campaign=campaign, person=person)
        Participation.objects.update(viewing={"warnings": []})
        assert slots_lease(campaign=campaign, person=person)

    def test_paused_keeps_what_is_held_and_gives_nothing_new(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        a, b = people(campaign, 2)
        slot = slots_lease(campaign=campaign, person=a, count=1)[0]
        campaign_pause(campaign=campaign, by=researcher)
        assert slots_lease(campaign=campaign, person=b) == []
        assert give(slot, a).created

    def test_draft_and_closed_are_said(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        Campaign.objects.update(state="draft")
        with pytest.raises(Denied, match="not been opened"):
            slots_lease(campaign=campaign, person=person)
        Campaign.objects.update(state="closed")
        with pytest.raises(Gone, match="closed"):
            slots_lease(campaign=campaign, person=person)


class TestRecord:
    def test_kept_with_sides_and_times(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        slot = slots_lease(campaign=campaign, person=person)[0]
        judgement = give(slot, person, viewing={"width": 1280, "device": "touch", "junk": 1}).judgement
        assert sorted(judgement.viewing["sides"]) == [0, 1]
        assert judgement.viewing["width"] == 1280
        assert "junk" not in judgement.viewing
        slot.refresh_from_db()
        assert slot.state == "done"

    def test_posted_twice_returns_the_first(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        slot = slots_lease(campaign=campaign, person=person)[0]
        key = uuid4()
        first = give(slot, person, value=YES, key=key)
        again = give(slot, person, value=NO, key=key)
        assert (first.created, again.created) == (True, False)
        assert again.judgement.pk == first.judgement.pk
        assert again.judgement.value == YES
        assert Judgement.objects.count() == 1

    def test_posted_twice_after_the_campaign_closed(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        first, second = slots_lease(campaign=campaign, person=person, count=2)
        key = uuid4()
        give(first, person, key=key)
        campaign_close(campaign=campaign, by=researcher)
        assert not give(first, person, key=key).created
        with pytest.raises(Gone, match="closed meanwhile"):
            give(second, person)

    def test_two_windows(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        slot = slots_lease(campaign=campaign, person=person)[0]
        give(slot, person)
        with pytest.raises(Conflict, match="answered this one already"):
            give(slot, person)

    def test_one_key_for_two_answers(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        first, second = slots_lease(campaign=campaign, person=person, count=2)
        key = uuid4()
        give(first, person, key=key)
        with pytest.raises(Conflict, match="key was used"):
            give(second, person, key=key)
        second.refresh_from_db()
        assert second.state == "leased"

    def test_another_persons_slot(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        a, b = people(campaign, 2)
        slot = slots_lease(campaign=campaign, person=a)[0]
        with pytest.raises(Denied, match="somebody else"):
            give(slot, b)

    def test_nobodys_slot(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        with pytest.raises(Denied):
            give(Slot.objects.filter(state="open").first(), person)
        with pytest.raises(DomainError, match="no slot"):
            give(10**9, person, value=YES)

    def test_stale_page_after_the_trial_was_dropped(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1)
        person = make_person(campaign, "a")
        slot = slots_lease(campaign=campaign, person=person)[0]
        trial_drop(trial=slot.trial, by=researcher)
        with pytest.raises(Gone, match="withdrawn"):
            give(slot, person)

    @pytest.mark.parametrize(
        "bad",
        [
            {"value": {"0": True}},
            {"value": {"0": True, "2": True}},
            {"value": {"0": 1, "1": 0}},
            {"value": {"0": None, "1": True}},
            {"kind": "maybe", "value": YES},
            {"kind": "cannot_tell", "value": YES},
            {"milliseconds": -1},
            {"milliseconds": 10**12},
            {"viewing": {"zoom": "big"}},
            {"viewing": {"device": "telepathy"}},
            {"viewing": []},
        ],
    )
    def test_values_are_checked(self, researcher: User, bad: dict[str, Any]) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        slot = slots_lease(campaign=campaign, person=person)[0]
        with pytest.raises(DomainError):
            give(slot, person, **bad)
        slot.refresh_from_db()
        assert slot.state == "leased"

    def test_turn_records_and_leases_in_one(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=5)
        person = make_person(campaign, "a")
        held = slots_lease(campaign=campaign, person=person, count=3)
        answer = Answer(held[0].pk, "answer", YES, uuid4(), timezone.now(), 700, {})
        turn = turn_take(campaign_id=campaign.pk, person=person, answer=answer, count=3)
        assert turn.recorded.created
        assert [slot.trial.position for slot in turn.slots] == [1, 2, 3]


class TestVerdict:
    def test_majority_of_each_question(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=3)
        for person, value in zip(people(campaign, 3), [YES, {"0": True, "1": False}, NO], strict=True):
            vote(campaign, person, value)
        verdict = Verdict.objects.get()
        assert (verdict.outcome, verdict.value) == ("settled", {"0": True, "1": False})
        assert verdict.counts == {"0": [2, 1], "1": [1, 2]}
        assert trial_of(campaign).state == TrialState.SETTLED
        campaign.refresh_from_db()
        assert campaign.state == CampaignState.COMPLETE

    def test_signals_come_after_commit(self, researcher: User, django_capture_on_commit_callbacks: Any) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=1)
        seen: list[str] = []

        def ended(verdict: Verdict, **_: object) -> None:
            seen.append(verdict.outcome)

        def complete(**_: object) -> None:
            seen.append("complete")

        trial_ended.connect(ended)
        campaign_complete.connect(complete)
        with django_capture_on_commit_callbacks(execute=True):
            vote(campaign, make_person(campaign, "a"))
            assert seen == []
        assert seen == ["settled", "complete"]

    def test_three_of_five_who_cannot_tell_drop_it_at_once(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=5)
        a, b, c, d = people(campaign, 4)
        vote(campaign, a, kind="cannot_tell")
        vote(campaign, b, kind="broken")
        waiting = slots_lease(campaign=campaign, person=d)[0]
        vote(campaign, c, kind="cannot_tell")
        verdict = Verdict.objects.get()
        assert (verdict.outcome, verdict.n_cannot_tell, verdict.n_broken) == ("dropped", 2, 1)
        assert trial_of(campaign).state == TrialState.DROPPED
        assert set(Slot.objects.values_list("state", flat=True)) == {"done", "void"}
        with pytest.raises(Gone, match="withdrawn"):
            give(waiting, d)

    def test_a_tie_opens_one_more_slot_and_settles_by_it(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=2)
        a, b, c = people(campaign, 3)
        vote(campaign, a, YES)
        vote(campaign, b, NO)
        assert not Verdict.objects.exists()
        assert Slot.objects.filter(state="open").count() == 1
        vote(campaign, c, YES)
        assert Verdict.objects.get().value == YES

    def test_a_tie_to_the_end_is_undecided(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=2, extra_slots=2)
        for person, kind, value in zip(
            people(campaign, 4), ["answer"] * 2 + ["cannot_tell"] * 2, [YES, NO, {}, {}], strict=True
        ):
            vote(campaign, person, value, kind)
        verdict = Verdict.objects.get()
        assert (verdict.outcome, verdict.n_judgements) == ("undecided", 4)
        assert verdict.value == {"0": None, "1": None}
        assert trial_of(campaign).state == TrialState.SETTLED

    def test_overlap_is_never_exceeded(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=4, overlap=2, extra_slots=0)
        for person in people(campaign, 6):
            while slots := slots_lease(campaign=campaign, person=person):
                give(slots[0], person)
        assert Judgement.objects.count() == 8
        assert campaign.verdicts.count() == 4


class TestUndo:
    def test_supersedes_and_leases_again(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        slot = slots_lease(campaign=campaign, person=person)[0]
        give(slot, person, value=YES)
        assert judgement_undo(campaign=campaign, person=person).pk == slot.pk
        give(slot, person, value=NO)
        assert Judgement.objects.in_force().get().value == NO
        assert Judgement.objects.count() == 2

    def test_takes_a_verdict_back(self, researcher: User, django_capture_on_commit_callbacks: Any) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=1)
        person = make_person(campaign, "a")
        vote(campaign, person, YES)
        changes: list[Campaign] = []

        def changed(campaign: Campaign, **_: object) -> None:
            changes.append(campaign)

        verdicts_changed.connect(changed)
        with django_capture_on_commit_callbacks(execute=True):
            slot = judgement_undo(campaign=campaign, person=person)
        assert changes == [campaign]
        assert not Verdict.objects.exists()
        campaign.refresh_from_db()
        assert campaign.state == CampaignState.OPEN
        give(slot, person, value=NO)
        assert Verdict.objects.get().value == NO
        campaign.refresh_from_db()
        assert campaign.state == CampaignState.COMPLETE

    def test_ten_and_no_further(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=12)
        person = make_person(campaign, "a")
        for _ in range(12):
            vote(campaign, person)
        undone = [judgement_undo(campaign=campaign, person=person).position for _ in range(10)]
        assert undone == list(range(11, 1, -1))
        with pytest.raises(Gone, match="last 10"):
            judgement_undo(campaign=campaign, person=person)

    def test_posted_twice_undoes_once(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        first, second = slots_lease(campaign=campaign, person=person, count=2)
        key = uuid4()
        give(first, person)
        give(second, person, key=key)
        assert judgement_undo(campaign=campaign, person=person, key=key).pk == second.pk
        assert judgement_undo(campaign=campaign, person=person, key=key).pk == second.pk
        assert Judgement.objects.in_force().count() == 1

    def test_only_the_latest(self, researcher: User) -> None:
        campaign = make_campaign(researcher)
        person = make_person(campaign, "a")
        first, second = slots_lease(campaign=campaign, person=person, count=2)
        key = uuid4()
        give(first, person, key=key)
        give(second, person)
        with pytest.raises(Conflict):
            judgement_undo(campaign=campaign, person=person, key=key)

    def test_extra_slot_of_a_tie_that_vanished_is_void(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=2)
        a, b = people(campaign, 2)
        vote(campaign, a, YES)
        vote(campaign, b, NO)
        slot = judgement_undo(campaign=campaign, person=b)
        give(slot, b, value=YES)
        assert Verdict.objects.get().n_judgements == 2
        assert Slot.objects.get(number=2).state == "void"

    def test_not_after_a_drop(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=1)
        person = make_person(campaign, "a")
        vote(campaign, person, kind="cannot_tell")
        with pytest.raises(Gone, match="withdrawn"):
            judgement_undo(campaign=campaign, person=person)


class TestSkip:
    def test_goes_to_others_and_not_back(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1, overlap=1)
        a, b = people(campaign, 2)
        slot = slots_lease(campaign=campaign, person=a)[0]
        slot_skip(slot=slot, person=a)
        slot_skip(slot=slot, person=a)
        assert Skip.objects.count() == 1
        assert slots_lease(campaign=campaign, person=a) == []
        assert [s.pk for s in slots_lease(campaign=campaign, person=b)] == [slot.pk]
        with pytest.raises(Gone):
            give(slot, a)

    def test_not_somebody_elses(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=1)
        a, b = people(campaign, 2)
        slot = slots_lease(campaign=campaign, person=a)[0]
        with pytest.raises(Denied):
            slot_skip(slot=slot, person=b)


class TestTraining:
    def test_comes_first_in_its_order_and_never_counts(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=2)
        items = make_items(researcher, 2, files=False, start=50)
        specs = [TrialSpec(item, [0], "training", {0: True}, "look at the ears") for item in items]
        training = trials_add(campaign=campaign, trials=specs)
        person = make_person(campaign, "a")
        slots = slots_lease(campaign=campaign, person=person, count=3)
        assert [slot.trial_id for slot in slots] == [trial.pk for trial in training]
        give(slots[0], person)
        assert Participation.objects.get().trained_at is None
        give(slots[1], person)
        assert Participation.objects.get().trained_at is not None
        assert {s.trial.kind for s in slots_lease(campaign=campaign, person=person)} == {"ordinary"}
        with pytest.raises(Gone, match="solution"):
            judgement_undo(campaign=campaign, person=person)


class TestGoldAndRepeats:
    def _gold(self, researcher: User, **options: Any) -> Campaign:
        campaign = make_campaign(researcher, trials=40, overlap=1, **options)
        items = make_items(researcher, 20, files=False, start=100)
        trials_add(campaign=campaign, trials=[TrialSpec(item, [0, 1], "gold", YES) for item in items])
        return campaign

    def test_share_is_kept_in_every_block(self, researcher: User) -> None:
        campaign = self._gold(researcher, gold_share=0.2)
        person = make_person(campaign, "a")
        kinds = []
        for _ in range(30):
            slot = slots_lease(campaign=campaign, person=person, count=1)[0]
            kinds.append(slot.trial.kind)
            give(slot, person, value=YES)
        assert [kinds[i : i + 5].count("gold") for i in range(0, 30, 5)] == [1] * 6
        assert not Verdict.objects.filter(trial__kind="gold").exists()

    def test_wrong_answers_warn_then_stop(self, researcher: User) -> None:
        campaign = self._gold(researcher, gold_share=0.5, gold_minimum=3)
        person = make_person(campaign, "a")
        notices = []
        for _ in range(30):
            try:
                slot = slots_lease(campaign=campaign, person=person, count=1)[0]
            except Gone:
                break
            right = slot.trial.kind != "gold"
            notices.append(give(slot, person, value=YES if right else NO).notice)
        assert Participation.objects.get().stopped_at is not None
        assert any("ends here" in notice for notice in notices)
        assert not Slot.objects.filter(state="leased").exists()

    def test_right_answers_are_left_alone(self, researcher: User) -> None:
        campaign = self._gold(researcher, gold_share=0.5, gold_minimum=3)
        person = make_person(campaign, "a")
        for _ in range(20):
            assert give(slots_lease(campaign=campaign, person=person, count=1)[0], person, value=YES).notice == ""

    def test_repeats_come_later_and_once(self, researcher: User) -> None:
        campaign = make_campaign(researcher, trials=60, repeat_share=0.2)
        person = make_person(campaign, "a")
        seen: list[tuple[str, int]] = []
        for _ in range(50):
            slot = slots_lease(campaign=campaign, person=person, count=1)[0]
            seen.append((slot.trial.kind, slot.trial.item_id))
            give(slot, person)
        repeats = [(n, item) for n, (kind, item) in enumerate(seen) if kind == "repeat"]
        assert len(repeats) >= 7
        assert len({item for _, item in repeats}) == len(repeats)
        assert all(n - seen.index(("ordinary", item)) >= 8 for n, item in repeats)
