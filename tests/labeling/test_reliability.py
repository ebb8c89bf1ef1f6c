"""Who can be relied on where answers are numbers: planted people are found, and what cannot be told is said."""

from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from labeling.charts import answer_pictures, people_plot
from labeling.models import Campaign, Judgement, Participation, Trial
from labeling.protocols import PROTOCOLS
from labeling.psychometrics.agreement import krippendorff
from labeling.reliability import PersonReport, agreement_report, crowd_report, person_row
from labeling.results import opinion_scores, preferences, scales
from labeling.services import TrialSpec, person_exclude, person_restore, slots_lease, trials_add
from tests.labeling.builders import give, give_all, make_items, make_number_campaign, make_person

pytestmark = pytest.mark.django_db
N_TRIALS = 24


def trials_in(campaign: Campaign) -> list[Trial]:
    trials = list(campaign.trials.order_by("item_id"))
    for trial in trials:
        trial.campaign = campaign
    return trials


def reports_of(campaign: Campaign) -> dict[str, PersonReport]:
    return {report.participation.person.username: report for report in crowd_report(campaign).people}


@pytest.fixture
def ratings(researcher: User) -> Campaign:
    """Ten careful people; one who rates high, one who rates at random, one who answers 3 at once, one who leaves."""
    campaign = make_number_campaign(researcher, "continuous", trials=N_TRIALS, overlap=1, repeat_share=0.0)
    trials, rng = trials_in(campaign), np.random.default_rng(1)
    truth = np.linspace(20, 70, N_TRIALS)

    def rate(name: str, values: Any, **more: Any) -> None:
        numbers = np.clip(np.round(values, 1), 0, 100).tolist()
        give_all(make_person(campaign, name), dict(zip(trials, numbers, strict=False)), **more)

    for n in range(10):
        rate(f"careful {n}", truth + rng.normal(0, 5, N_TRIALS))
    rate("high", truth + 20 + rng.normal(0, 5, N_TRIALS))
    rate("random", rng.uniform(0, 100, N_TRIALS))
    rate("at once", np.full(N_TRIALS, 3.0), milliseconds=0)
    rate("leaves", truth[:2])
    return campaign


def test_planted_people_are_found(ratings: Campaign) -> None:
    reports = reports_of(ratings)
    careful = [reports[f"careful {n}"] for n in range(10)]
    assert not any(report.flags for report in careful)
    assert reports["high"].bias == pytest.approx(20 + np.mean([report.bias for report in careful]), abs=4)
    assert max(report.inconsistency or 0 for report in careful) < 9 < 20 < (reports["random"].inconsistency or 0)
    assert (reports["high"].inconsistency or 99) < 9
    assert {flag.split(":")[0] for flag in reports["at once"].flags} >= {"speed", "straight-lining"}
    assert reports["at once"].correlation is None  # no variation
    assert min(report.correlation or 0 for report in careful) > 0.8 > abs(reports["random"].correlation or 0)
    assert reports["at once"].reason.startswith("speed: 100 %")
    assert crowd_report(ratings).people[0].participation.person.username == "at once"
    row = person_row(reports["leaves"])
    assert (row["answers"], row["bt500"]["judged"], row["bt500"]["rejected"]) == (2, 2, False)


def test_bt500_rejects_and_says_why(researcher: User) -> None:
    campaign = make_number_campaign(researcher, "continuous", trials=N_TRIALS, overlap=1)
    trials, rng = trials_in(campaign), np.random.default_rng(3)
    truth = np.linspace(25, 75, N_TRIALS)
    for n in range(21):
        give_all(
            make_person(campaign, f"careful {n}"), dict(zip(trials, truth + rng.normal(0, 8, N_TRIALS), strict=True))
        )
    spread = truth + 24 * (-1) ** np.arange(N_TRIALS)
    give_all(make_person(campaign, "random"), dict(zip(trials, spread, strict=True)))
    reports = reports_of(campaign)
    assert [name for name, report in reports.items() if report.is_far] == ["random"]
    assert reports["random"].reason.startswith("bt500: far from the others")
    assert person_row(reports["random"])["bt500"]["rejected"] is True


def test_agreement_is_at_the_level_of_the_protocol(ratings: Campaign) -> None:
    rows = list(Judgement.objects.values_list("person_id", "trial_id", "value"))
    person, trial, value = zip(*((who, trial, value["value"]) for who, trial, value in rows), strict=True)
    expected = krippendorff(person, trial, value, level="interval", replicates=0)
    assert agreement_report(ratings).alpha == pytest.approx(expected.alpha)


def test_excluding_changes_scores_and_restoring_brings_them_back(ratings: Campaign, researcher: User) -> None:
    before = opinion_scores(ratings).lines
    part = Participation.objects.get(person__username="random")
    exclusion = person_exclude(participation=part, reason="at random", by=researcher)
    without = opinion_scores(ratings).lines
    assert without != before
    assert opinion_scores(ratings, everyone=True).lines == before
    truth = np.linspace(20, 70, N_TRIALS)
    wrong = [np.abs([line["mos"] for line in lines] - truth).mean() for lines in (before, without)]
    assert wrong[1] < wrong[0]
    likely = np.corrcoef([line["quality"] for line in before], truth)[0, 1]
    assert likely > np.corrcoef([line["mos"] for line in before], truth)[0, 1]
    assert reports_of(ratings)["random"].inconsistency is not None  # figures stay, so that one sees why
    person_restore(exclusion=exclusion, by=researcher)
    assert opinion_scores(ratings).lines == before


def test_pages_show_all_of_it(ratings: Campaign, researcher: User) -> None:
    client = Client()
    client.force_login(researcher)
    page = client.get(reverse("labeling:people", args=[ratings.pk])).content.decode()
    assert page.count('class="strip"') == page.count('class="bars-small"') == 14
    assert page.count('class="person person-') == 14
    assert ">speed: 100 % of 24 answers came in under 0.5 s (median 0.00 s); straight-lining" in page  # the proposal
    part = Participation.objects.get(person__username="random")
    client.post(reverse("labeling:exclude", args=[ratings.pk, part.pk]), {"reason": "at random"})
    page = client.get(reverse("labeling:results", args=[ratings.pk])).content.decode()
    assert "MOS, everybody" in page
    assert page.count('class="mark"') == N_TRIALS


@pytest.fixture
def pairs(researcher: User) -> Campaign:
    """Six careful people, one who always presses left, and one who prefers at random."""
    campaign = make_number_campaign(researcher, "forced", trials=N_TRIALS, overlap=1, repeat_share=0.0)
    trials, rng = trials_in(campaign), np.random.default_rng(2)
    for n in range(6):
        give_all(
            make_person(campaign, f"careful {n}"), {trial: int(rng.choice([-1, 1], p=[0.1, 0.9])) for trial in trials}
        )
    left = make_person(campaign, "left")
    order = PROTOCOLS["forced"].shown_order
    sides = {trial: order([], seed=campaign.seed, person=left.pk, trial=trial.pk) for trial in trials}
    give_all(left, {trial: 1 if sides[trial] == [0, 1] else -1 for trial in trials})
    return campaign


def test_always_left_is_found(pairs: Campaign) -> None:
    reports = reports_of(pairs)
    assert reports["left"].left == (N_TRIALS, N_TRIALS)
    assert {flag.split(":")[0] for flag in reports["left"].flags} >= {"side bias", "straight-lining"}
    assert (reports["left"].bias or 0) < -0.4 < min(reports[f"careful {n}"].bias or 0 for n in range(6))
    assert not any(reports[f"careful {n}"].flags for n in range(6))
    assert set(reports["left"].shown) == {"-1"}
    agreed, compared = reports["careful 0"].others or (0, 0)
    assert compared > 0
    assert agreed / compared > 0.7
    pictures = answer_pictures(list(reports.values()), PROTOCOLS["forced"])
    bars = pictures[reports["left"].participation.pk]["bars"]["bars"]
    assert len(bars) == 3
    assert [bar["height"] > 0 for bar in bars] == [True, False, False]


def test_preferences_and_scale_of_comparisons(pairs: Campaign, researcher: User) -> None:
    values: dict[int, list[float]] = {}
    for trial, value in Judgement.objects.values_list("trial_id", "value"):
        values.setdefault(trial, []).append(value["value"])
    for line in preferences(pairs):
        own = values[line["trial"]]
        assert (line["n"], line["mean"]) == (len(own), pytest.approx(np.mean(own)))
        assert (line["first"], line["neither"], line["last"]) == (own.count(1), own.count(0), own.count(-1))
    scene = scales(pairs)[0]
    assert [line["rank"] for line in scene.lines] == list(range(1, N_TRIALS + 2))
    assert scene.connected
    rows = [line["item"] for line in scene.lines]
    assert np.corrcoef(rows, range(len(rows)))[0, 1] > 0.95  # a chain in which the first mostly wins
    client = Client()
    client.force_login(researcher)
    page = client.get(reverse("labeling:results", args=[pairs.pk])).content.decode()
    assert page.count('class="mark"') == N_TRIALS + 1


def test_pairs_that_nothing_connects_are_not_ranked_together(researcher: User) -> None:
    campaign = make_number_campaign(researcher, "ccr", trials=1, overlap=1)
    apart = make_items(researcher, 2, files=False, start=50)
    trials_add(campaign=campaign, trials=[TrialSpec(apart[0], second=apart[1])])
    for name in ("ada", "grace"):
        give_all(make_person(campaign, name), dict.fromkeys(trials_in(campaign), 2))
    scene = scales(campaign)[0]
    assert not scene.connected
    assert [line["rank"] for line in scene.lines] == [1, 2, 1, 2]
    assert "never compared with each other" in scene.notes[0]
    client = Client()
    client.force_login(researcher)
    page = client.get(reverse("labeling:results", args=[campaign.pk])).content.decode()
    assert "never compared with each other" in page
    assert ">Group<" in page


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "verify"])
def test_one_annotator_and_nobody(researcher: User, protocol: str) -> None:
    """Pages and figures hold with nobody, with somebody who has not begun, and with one person."""
    campaign = make_number_campaign(researcher, protocol, trials=3, overlap=1)
    client = Client()
    client.force_login(researcher)

    def pages_hold() -> str:
        texts = [
            client.get(reverse(f"labeling:{page}", args=[campaign.pk])).content.decode()
            for page in ("campaign", "verdicts", "results", "people")
        ]
        return texts[-1]

    assert "Nobody takes part yet" in pages_hold()
    person = make_person(campaign, "ada")
    assert "nobody has answered yet" in pages_hold().lower()
    give(slots_lease(campaign=campaign, person=person, count=1)[0], person, milliseconds=0)
    page = pages_hold()
    assert "no item has two judgements" in page.lower()
    assert "cannot tell" in page  # BT.500 needs more judgements per item
    report = reports_of(campaign)["ada"]
    assert (report.bias, report.inconsistency, report.is_far, report.flags) == (None, None, False, [])
    assert people_plot([report]) is None


def test_repeats_of_ratings(researcher: User) -> None:
    campaign = make_number_campaign(researcher, "acr", trials=30, overlap=1, repeat_share=0.2)
    person = make_person(campaign, "ada")
    given: dict[int, int] = {}
    n_repeats = 0
    while slots := slots_lease(campaign=campaign, person=person, count=1):
        trial = slots[0].trial
        n_repeats += trial.kind == "repeat"
        value = given.setdefault(trial.item_id, 1 + len(given) % 4)
        give(slots[0], person, value={"value": min(5, value + (trial.kind == "repeat"))})
    report = reports_of(campaign)["ada"]
    assert n_repeats >= 4
    assert report.repeats == (n_repeats, n_repeats)  # a step off still counts as the same
    assert report.difference == pytest.approx(1.0)
    assert any(rule == "repeat consistency" for rule, _ in crowd_report(campaign).notes)
