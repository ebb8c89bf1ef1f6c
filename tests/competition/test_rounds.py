"""A competition from launch to leaderboard, with what people do on the way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from accounts.errors import Conflict, DomainError
from accounts.models import User
from competition import services
from competition.kinds.mad.selecting import Masked
from competition.kinds.mad.standings import evidence_gather
from competition.models import Competition, Duel, Exhibit, ExhibitRole, Round, RoundState, Snapshot
from competition.rounds import reserves_promote
from competition.standings import snapshot_take
from corpora.models import Corpus
from jobs.inline import run_all_inline
from jobs.models import Job, JobState
from jobs.services import job_announce
from labeling.models import CampaignState, Participation, Trial, TrialState
from labeling.services import person_exclude, person_restore
from models_zoo.models import Version
from tests.competition.builders import (
    committed,
    label_all,
    labels_of,
    launch,
    make_competition,
    make_predictions,
    truthful,
    work,
)


def facts(**where: Any) -> list[tuple[Any, ...]]:
    """Everything about some exhibits that must never change."""
    columns = (
        "pk", "duel", "trial", "item__row", "role", "rank", "class_first", "class_second", "confidence_first",
        "confidence_second", "distance", "predictions", "right_first", "right_second", "dropped",
    )  # fmt: skip
    return [tuple(map(repr, line)) for line in Exhibit.objects.filter(**where).order_by("pk").values_list(*columns)]


def test_from_launch_to_leaderboard(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    assert round_.state == RoundState.LABELLING
    assert Duel.objects.filter(round=round_).count() == 3
    asked = Exhibit.objects.asked().filter(round=round_)
    assert not asked.filter(trial=None).exists()
    label_all(round_.campaign)
    assert Snapshot.objects.filter(competition=competition).count() == 0  # settling is a job of its own
    work()
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    snapshot = Snapshot.objects.latest_of(competition)
    assert [str(standing.entrant) for standing in snapshot.standings.order_by("rank")] == [
        "model 0 v1", "model 1 v1", "model 2 v1",
    ]  # fmt: skip
    assert snapshot.n_open == 0
    assert snapshot.n_exhibits == Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).count()
    assert sum(snapshot.standings.values_list("score", flat=True)) == pytest.approx(1)
    # Nothing changed: settling again keeps the snapshot.
    assert snapshot_take(round=round_).pk == snapshot.pk
    check_against_a_recount(round_, snapshot)


def check_against_a_recount(round_: Round, snapshot: Snapshot) -> None:
    """The matrix of a snapshot, recounted from the corpus's labels: the annotators were truthful."""
    labels = labels_of(round_.competition.corpus)
    numbers = {pk: at for at, pk in enumerate(snapshot.matrices["entrants"])}
    correct = np.zeros((3, 3), dtype=int)
    for exhibit in Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).select_related("duel", "item"):
        i, j = numbers[exhibit.duel.first_id], numbers[exhibit.duel.second_id]
        correct[i, j] += exhibit.class_first == labels[exhibit.item.row]
        correct[j, i] += exhibit.class_second == labels[exhibit.item.row]
    assert snapshot.matrices["correct"] == correct.tolist()
    for line in snapshot.control["entrants"]:
        rows = Exhibit.objects.filter(round=round_, role=ExhibitRole.CONTROL)
        said = {e.item.row: e.predictions[str(line["entrant"])] for e in rows if str(line["entrant"]) in e.predictions}
        assert line["correct"] == sum(label == labels[row] for row, label in said.items())


def test_the_same_question_is_asked_once(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    asked = Exhibit.objects.asked().filter(round=round_, duel__isnull=False).select_related("trial")
    questions = {(e.item_id, tuple(sorted((e.class_first, e.class_second)))) for e in asked}
    assert len({e.trial_id for e in asked}) == len(questions)
    for exhibit in asked:
        assert exhibit.trial.classes == sorted([exhibit.class_first, exhibit.class_second])


def test_control_images_ask_about_at_most_two_classes_at_a_time(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    control = list(Exhibit.objects.filter(round=round_, role=ExhibitRole.CONTROL).select_related("trial"))
    assert len({exhibit.item_id for exhibit in control}) == competition.control_size
    for item in {exhibit.item_id for exhibit in control}:
        parts = [exhibit for exhibit in control if exhibit.item_id == item]
        said = [label for part in parts for label in part.predictions.values()]
        assert len(said) == 3
        assert sorted({label for part in parts for label in part.trial.classes}) == sorted(set(said))
        assert all(1 <= len(part.trial.classes) <= 2 and part.trial.kind == "control" for part in parts)


def test_a_newcomer_changes_nothing_of_what_was_there(
    competition: Competition, corpus: Corpus, researcher: User, tmp_path: Path
) -> None:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign)
    work()
    before = facts(round=round_)
    trials = list(Trial.objects.order_by("pk").values())
    snapshot = Snapshot.objects.latest_of(competition)
    newcomer = make_predictions(corpus, tmp_path, by=researcher, name="newcomer", accuracy=0.6, seed=9)
    entrant = committed(services.entrant_add, competition=competition, version=newcomer, by=researcher)
    round_.refresh_from_db()
    assert round_.state == RoundState.SCORING
    work()
    round_.refresh_from_db()
    assert round_.state == RoundState.LABELLING
    known = [int(line[0]) for line in before]
    assert facts(pk__in=known) == before
    assert list(Trial.objects.filter(pk__in=[row["id"] for row in trials]).order_by("pk").values()) == trials
    fresh = Exhibit.objects.filter(round=round_).exclude(pk__in=known)
    assert {e.duel.second_id for e in fresh if e.duel} == {entrant.pk}
    assert Duel.objects.filter(round=round_).count() == 6
    assert fresh.filter(role=ExhibitRole.SELECTED).count() <= 3 * competition.k
    assert all(list(e.predictions) == [str(entrant.pk)] for e in fresh.filter(role=ExhibitRole.CONTROL))
    round_.campaign.refresh_from_db()
    assert round_.campaign.state == CampaignState.OPEN
    label_all(round_.campaign)
    work()
    later = Snapshot.objects.latest_of(competition)
    assert later.standings.count() == 4
    assert later.control["entrants"][3]["images"] == competition.control_size
    old = np.array(snapshot.matrices["images"])
    assert (np.array(later.matrices["images"])[:3, :3] == old).all()


def cannot_tell(trial: Trial, person: int) -> tuple[str, dict[str, bool]]:
    return "cannot_tell", {}


def test_a_reserve_takes_the_place_of_a_dropped_exhibit(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    duel = Duel.objects.filter(round=round_, n_reserve__gt=0).first()
    hard = Exhibit.objects.filter(duel=duel, role=ExhibitRole.SELECTED).order_by("rank").first()
    spare = Exhibit.objects.filter(duel=duel, role=ExhibitRole.RESERVE).order_by("rank").first()

    def judge(trial: Trial, person: int) -> tuple[str, dict[str, bool]]:
        return cannot_tell(trial, person) if trial.pk == hard.trial_id else truthful(trial, person)

    label_all(round_.campaign, judge=judge)
    work()
    hard.refresh_from_db()
    spare.refresh_from_db()
    assert (hard.dropped, hard.right_first) == (True, None)
    assert (spare.role, spare.trial.state) == (ExhibitRole.SELECTED, TrialState.SETTLED)
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    assert Snapshot.objects.latest_of(competition).n_exhibits == sum(round_.duels.values_list("n_selected", flat=True))
    assert reserves_promote(round=round_) == 0


def test_ties_to_the_end_are_replaced_until_the_reserve_is_used_up(competition: Competition, researcher: User) -> None:
    """Of the two people who see a picture one says yes, one no: nothing is ever decided, and nothing hangs."""
    options = {"overlap": 2, "control_size": 0, "k": 2, "reserve": 1, "campaign_options": {"extra_slots": 0}}
    services.competition_update(competition=competition, by=researcher, **options)
    round_ = launch(competition, by=researcher)

    def split(trial: Trial, person: int) -> tuple[str, dict[str, bool]]:
        return "answer", {str(label): trial.judgements.count() % 2 == 0 for label in trial.classes}

    label_all(round_.campaign, people=2, judge=split)
    work()
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    exhibits = Exhibit.objects.filter(round=round_)
    assert not exhibits.filter(role=ExhibitRole.RESERVE).exists()
    assert not exhibits.filter(dropped=False).exists()
    assert Snapshot.objects.latest_of(competition) is None


def test_no_disagreement_at_all_completes_and_says_so(
    corpus: Corpus, researcher: User, tmp_path: Path, client: Any
) -> None:
    same = labels_of(corpus)
    twins = [
        make_predictions(corpus, tmp_path, by=researcher, name=name, accuracy=1, seed=1, classes=same) for name in "ab"
    ]
    competition = make_competition(corpus, twins, by=researcher, control_size=0)
    round_ = launch(competition, by=researcher)
    assert round_.state == RoundState.COMPLETE
    assert round_.campaign is None
    assert "agree on all 60 images" in round_.duels.get().shortage
    client.force_login(researcher)
    page = client.get(competition.get_absolute_url()).content.decode()
    assert "no two entrants disagree confidently" in page
    assert "agree on all 60 images" in page


def test_a_control_arm_alone_gives_a_leaderboard_without_ranks(
    corpus: Corpus, researcher: User, tmp_path: Path, client: Any
) -> None:
    same = labels_of(corpus)
    twins = [
        make_predictions(corpus, tmp_path, by=researcher, name=name, accuracy=1, seed=1, classes=same) for name in "ab"
    ]
    competition = make_competition(corpus, twins, by=researcher)
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign)
    work()
    snapshot = Snapshot.objects.latest_of(competition)
    assert snapshot.standings.count() == 0
    assert [line["accuracy"] for line in snapshot.control["entrants"]] == [1.0, 1.0]
    client.force_login(researcher)
    assert client.get(competition.get_absolute_url()).status_code == 200


def test_the_next_round_asks_about_new_images_only(competition: Competition, researcher: User) -> None:
    first = launch(competition, by=researcher)
    with pytest.raises(Conflict, match="Round 1 is labelling"):
        services.round_start(competition=competition, by=researcher)
    label_all(first.campaign)
    work()
    second = committed(services.round_start, competition=competition, by=researcher)
    work()
    second.refresh_from_db()
    assert (second.number, second.state) == (2, RoundState.LABELLING)
    earlier, later = (
        set(Exhibit.objects.asked().filter(round=each).values_list("item__row", flat=True)) for each in (first, second)
    )
    assert later
    assert not earlier & later
    label_all(second.campaign)
    work()
    snapshot = Snapshot.objects.latest_of(competition)
    assert snapshot.round == second
    counted = Exhibit.objects.counted().filter(round__competition=competition).count()
    assert snapshot.n_exhibits == counted > Snapshot.objects.filter(round=first).first().n_exhibits


def test_interim_leaderboards_while_people_label(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, most=30)
    work()
    snapshot = Snapshot.objects.latest_of(competition)
    assert snapshot.n_open > 0
    round_.refresh_from_db()
    assert round_.state == RoundState.LABELLING


def test_with_and_without_excluded_people(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, people=5)
    work()
    complete = Snapshot.objects.latest_of(competition)
    part = Participation.objects.get(campaign=round_.campaign, person__username="person 0")
    committed(person_exclude, participation=part, reason="always yes", by=researcher)
    work()
    without = Snapshot.objects.latest_of(competition)
    everyone = Snapshot.objects.latest_of(competition, counts_everyone=True)
    assert without.excluded_people == [part.person_id]
    assert without.n_judgements < complete.n_judgements
    assert everyone.matrices["correct"] == complete.matrices["correct"]
    assert everyone.n_judgements == complete.n_judgements
    committed(person_restore, exclusion=part.exclusions.get(), by=researcher)
    work()
    assert Snapshot.objects.latest_of(competition).matrices == complete.matrices


def test_cancel_and_retry_lose_nothing(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, most=10)
    work()
    before = facts(round=round_)
    committed(services.round_cancel, round=round_, by=researcher)
    round_.campaign.refresh_from_db()
    assert (round_.state, round_.campaign.state) == (RoundState.CANCELLED, CampaignState.PAUSED)
    with pytest.raises(Conflict, match="nothing to cancel"):
        services.round_cancel(round=round_, by=researcher)
    committed(services.round_retry, round=round_, by=researcher)
    work()
    round_.refresh_from_db()
    round_.campaign.refresh_from_db()
    assert (round_.state, round_.campaign.state) == (RoundState.LABELLING, CampaignState.OPEN)
    assert facts(round=round_) == before


def test_cancel_before_the_job_starts(competition: Competition, researcher: User) -> None:
    round_ = committed(services.competition_launch, competition=competition, by=researcher)
    committed(services.round_cancel, round=round_, by=researcher)
    work()
    round_.refresh_from_db()
    assert (round_.state, round_.job.state) == (RoundState.CANCELLED, JobState.CANCELLED)
    assert not Duel.objects.exists()


def test_a_failed_job_fails_the_round_with_its_reason(
    competition: Competition, versions: list[Version], researcher: User
) -> None:
    round_ = committed(services.competition_launch, competition=competition, by=researcher)
    Version.objects.filter(pk=versions[0].pk).update(state="refused", refusal="its file is gone")
    committed(run_all_inline)
    round_.refresh_from_db()
    assert round_.state == RoundState.FAILED
    assert "its file is gone" in round_.error
    with pytest.raises(DomainError, match="its file is gone"):
        services.round_retry(round=round_, by=researcher)
    Version.objects.filter(pk=versions[0].pk).update(state="verified")
    committed(services.round_retry, round=round_, by=researcher)
    work()
    round_.refresh_from_db()
    assert (round_.state, round_.error) == (RoundState.LABELLING, "")


def test_settling_that_was_overtaken_is_done_again(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign)
    work()
    done = Job.objects.filter(kind="competition.settle").latest("ended_at")
    Round.objects.filter(pk=round_.pk).update(changed_at=timezone.now())
    committed(job_announce, job=done)
    again = Job.objects.filter(kind="competition.settle", state=JobState.QUEUED)
    assert again.count() == 1


def test_equal_evidence_has_equal_digests(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign)
    evidence = [evidence_gather(round=round_) for _ in range(2)]
    digests = {each.digest(replicates=10, seed=0, everyone=False) for each in evidence}
    assert len(digests) == 1
    assert evidence[0].digest(replicates=11, seed=0, everyone=False) not in digests


def test_masked_rows_are_no_disagreement() -> None:
    first = np.array([1, 2, 65535, 3, 4], dtype=np.uint16)
    second = np.array([2, 1, 1, 65535, 4], dtype=np.uint16)
    columns = [Masked(column, np.array([0]), (first, second)) for column in (first, second)]
    a, b = (column[0:5] for column in columns)
    assert (a != b).tolist() == [False, True, False, False, False]
    assert columns[0][1:3].tolist() == [2, 0]
    assert len(columns[0]) == 5
