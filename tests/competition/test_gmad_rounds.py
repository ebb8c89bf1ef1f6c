"""A gMAD competition from launch to leaderboard, against slow recounts from its rows."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accounts.errors import DomainError
from accounts.models import User
from competition import services
from competition.models import Competition, Duel, Exhibit, ExhibitRole, Round, RoundState, Snapshot
from competition.standings import snapshot_take
from corpora.models import Corpus
from jobs.inline import run_all_inline
from jobs.models import Job, JobState
from labeling.models import Judgement, Participation, Trial, TrialKind
from labeling.services import person_exclude
from models_zoo.models import Version
from tests.competition.builders import committed, label_all, launch, work
from tests.competition.builders_gmad import (
    LEVELS,
    N_ROWS,
    make_column,
    make_gmad,
    make_quality_versions,
    make_scores,
    truth,
    truthful,
)


@pytest.fixture
def versions(corpus: Corpus, researcher: User, tmp_path: Path) -> list[Version]:
    return make_quality_versions(corpus, tmp_path, by=researcher)


@pytest.fixture
def competition(corpus: Corpus, versions: list[Version], researcher: User) -> Competition:
    return make_gmad(corpus, versions, by=researcher)


def facts(**where: Any) -> list[tuple[Any, ...]]:
    columns = (
        "pk", "duel", "trial", "item__row", "second_item__row", "level", "role", "rank", "predictions", "preference",
        "dropped",
    )  # fmt: skip
    return [tuple(map(repr, line)) for line in Exhibit.objects.filter(**where).order_by("pk").values_list(*columns)]


def test_exhibits_are_the_extremes_of_each_level(
    competition: Competition, versions: list[Version], researcher: User
) -> None:
    round_ = launch(competition, by=researcher)
    assert round_.state == RoundState.LABELLING
    assert round_.campaign is not None
    assert round_.campaign.protocol == "compare"
    columns = {}
    for entrant in competition.entrants.select_related("version"):
        raw = np.loadtxt(entrant.version.path, delimiter=",", skiprows=1)[:, 1].astype(np.float32)
        oriented = -raw if entrant.version == versions[1] else raw
        columns[entrant.pk] = 100 * np.argsort(np.argsort(oriented)) / (N_ROWS - 1)  # quantiles: no ties here
    found = {
        (e.duel.first_id, e.duel.second_id, e.level): (e.item.row, e.second_item.row)
        for e in Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).select_related("item", "second_item")
    }
    expected = {}
    for attacker, one in columns.items():
        for defender, other in columns.items():
            for level in range(LEVELS if attacker != defender else 0):
                members = np.flatnonzero(np.abs(other - 100 * (level + 0.5) / LEVELS) < 12)
                best, worst = members[one[members].argmax()], members[one[members].argmin()]
                expected[attacker, defender, level + 1] = (int(best), int(worst))
    assert found == expected
    assert Duel.objects.filter(round=round_).count() == 6
    for described in round_.facts["entrants"].values():
        assert described["calibration"] == {"kind": "quantile"}
        assert sum(described["count"]) > 0


def test_the_same_pair_is_asked_once(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    exhibits = list(Exhibit.objects.filter(round=round_).select_related("trial"))
    assert all(exhibit.trial for exhibit in exhibits)
    kinds = {ExhibitRole.SELECTED: TrialKind.ORDINARY, ExhibitRole.CONTROL: TrialKind.CONTROL}
    pairs = {(frozenset({e.item_id, e.second_item_id}), e.role) for e in exhibits}
    assert len({e.trial_id for e in exhibits}) == len(pairs)
    for exhibit in exhibits:
        assert {exhibit.trial.item_id, exhibit.trial.second_id} == {exhibit.item_id, exhibit.second_item_id}
        assert exhibit.trial.kind == kinds[ExhibitRole(exhibit.role)]


def test_leaderboard_against_a_recount(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, judge=truthful)
    work()
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    snapshot = Snapshot.objects.latest_of(competition)
    assert snapshot.n_open == 0
    for measure in ("aggressiveness", "resistance"):
        lines = snapshot.standings.filter(measure=measure).order_by("rank")
        assert [str(line.entrant.version.model) for line in lines] == ["q0", "q1", "q2"]
        assert sum(line.score for line in lines) == pytest.approx(0, abs=1e-9)
        assert all(line.low <= line.score <= line.high for line in lines)
    check_matrices(round_, snapshot)
    assert snapshot.control["entrants"][0]["accuracy"] == 1.0
    assert snapshot_take(round=round_).pk == snapshot.pk


def check_matrices(round_: Round, snapshot: Snapshot) -> None:
    """Aggressiveness and resistance as gMAD defines them, from the judgements in the database."""
    entrants = snapshot.matrices["entrants"]
    counts = {pk: round_.facts["entrants"][str(pk)]["count"] for pk in entrants}
    said: dict[int, list[float]] = defaultdict(list)
    for judgement in Judgement.objects.filter(campaign=round_.campaign):
        said[judgement.trial_id].append(judgement.value["value"])
    s: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for exhibit in Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).select_related("trial", "duel"):
        sign = 1 if exhibit.trial.item_id == exhibit.item_id else -1
        mean = sign * float(np.mean(said[exhibit.trial_id]))
        assert exhibit.preference == pytest.approx(mean)
        s[exhibit.duel.first_id, exhibit.duel.second_id][exhibit.level] = mean
    for i, one in enumerate(entrants):
        for j, other in enumerate(entrants):
            if i == j:
                continue
            attack, defend = s[one, other], s[other, one]
            weight = [counts[other][level - 1] for level in attack]
            a = np.average(list(attack.values()), weights=weight)
            own = [counts[one][level - 1] for level in defend]
            r = np.average([100 - abs(value) for value in defend.values()], weights=own)
            assert snapshot.matrices["aggressiveness"][i][j] == pytest.approx(a)
            assert snapshot.matrices["resistance"][i][j] == pytest.approx(r)


def test_a_newcomer_changes_nothing_of_what_was_there(
    competition: Competition, corpus: Corpus, researcher: User, tmp_path: Path
) -> None:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, judge=truthful, most=20)
    before = facts(round=round_, role=ExhibitRole.SELECTED)
    control = [line[:8] for line in facts(round=round_, role=ExhibitRole.CONTROL)]
    newcomer = make_scores(corpus, tmp_path, by=researcher, name="new", noise=5.0)
    committed(services.entrant_add, competition=competition, version=newcomer, by=researcher)
    work()
    round_.refresh_from_db()
    assert round_.state == RoundState.LABELLING
    after = facts(round=round_, role=ExhibitRole.SELECTED)
    assert after[: len(before)] == before
    assert [line[:8] for line in facts(round=round_, role=ExhibitRole.CONTROL)] == control
    fresh = Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED)[len(before) :]
    entrant = competition.entrants.get(version=newcomer)
    assert len(fresh) == 2 * 3 * LEVELS
    assert all(entrant.pk in {e.duel.first_id, e.duel.second_id} for e in fresh)
    assert all(str(entrant.pk) in e.predictions for e in Exhibit.objects.filter(round=round_, role="control"))
    assert len(round_.facts["entrants"]) == 4
    label_all(round_.campaign, judge=truthful)
    work()
    assert Snapshot.objects.latest_of(competition).standings.count() == 8


def test_working_again_changes_nothing(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    before, trials = facts(round=round_), Trial.objects.filter(campaign=round_.campaign).count()
    services.round_cancel(round=round_, by=researcher)
    committed(services.round_retry, round=round_, by=researcher)
    work()
    assert facts(round=round_) == before
    assert Trial.objects.filter(campaign=round_.campaign).count() == trials


def test_the_next_round_asks_about_new_images_only(competition: Competition, researcher: User) -> None:
    first = launch(competition, by=researcher)
    label_all(first.campaign, judge=truthful)
    work()
    second = committed(services.round_start, competition=competition, by=researcher)
    work()
    shown = [
        {
            row
            for pair in Exhibit.objects.filter(round=each).values_list("item__row", "second_item__row")
            for row in pair
        }
        for each in (first, second)
    ]
    assert shown[1]
    assert not shown[0] & shown[1]
    second.refresh_from_db()
    label_all(second.campaign, judge=truthful)
    work()
    snapshot = Snapshot.objects.latest_of(competition)
    assert snapshot.n_exhibits == Exhibit.objects.filter(role=ExhibitRole.SELECTED, preference__isnull=False).count()


def test_with_and_without_excluded_people(competition: Competition, researcher: User) -> None:
    def contrary(trial: Trial, person: int) -> tuple[str, dict[str, Any]]:
        kind, value = truthful(trial, 0)
        return kind, value if person else {"value": -value["value"]}

    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, judge=contrary)
    work()
    part = Participation.objects.get(campaign=round_.campaign, person__username="person 0")
    committed(person_exclude, participation=part, by=researcher, reason="answers the other way round")
    work()
    without = Snapshot.objects.latest_of(competition)
    everyone = Snapshot.objects.latest_of(competition, counts_everyone=True)
    assert without.excluded_people == [part.person_id]
    a, b = (np.array(each.matrices["aggressiveness"], dtype=float) for each in (without, everyone))
    assert np.nanmax(np.abs(a)) > np.nanmax(np.abs(b))  # the contrary person had drawn every mean towards zero


def test_people_who_cannot_tell_drop_a_pair(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    lost = Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).first()

    def judge(trial: Trial, person: int) -> tuple[str, dict[str, Any]]:
        return ("cannot_tell", {}) if trial.pk == lost.trial_id else truthful(trial, person)

    label_all(round_.campaign, judge=judge)
    work()
    lost.refresh_from_db()
    assert (lost.dropped, lost.preference) == (True, None)
    snapshot = Snapshot.objects.latest_of(competition)
    shared = Exhibit.objects.filter(round=round_, trial=lost.trial_id, role=ExhibitRole.SELECTED).count()
    total = Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).count()
    assert snapshot.n_exhibits == total - shared


def test_a_logistic_calibration_is_recorded(
    corpus: Corpus, versions: list[Version], researcher: User, tmp_path: Path
) -> None:
    from corpora.reading import manifest_of
    from corpora.services import corpus_opinions_import

    file = tmp_path / "mos.csv"
    paths = manifest_of(corpus).column("path")
    lines = [f"{path},{1 + 4 * value / 100:.4f}" for path, value in zip(paths, truth(), strict=True)]
    file.write_text("path,mos\n" + "\n".join(lines) + "\n")
    corpus_opinions_import(corpus=corpus, file=file, by=researcher, low=1, high=5)
    corpus.refresh_from_db()
    competition = make_gmad(corpus, versions[:2], by=researcher, options={"calibration": "logistic"})
    round_ = launch(competition, by=researcher)
    for described in round_.facts["entrants"].values():
        assert described["calibration"]["kind"] == "logistic"
        assert described["calibration"]["explained"] > 0.8
        assert described["calibration"]["n"] == N_ROWS
        assert described["calibration"]["b1"] > described["calibration"]["b2"]


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"options": {"levels": 0}}, "levels", "greater than or equal to 1"),
        ({"options": {"half_width": -1.0}}, "half_width", "greater than 0"),
        ({"options": {"colour": "red"}}, "colour", "not permitted"),
        ({"options": {"calibration": "logistic"}}, "calibration", "no opinion scores"),
        ({"kind": "chess"}, "kind", "no kind of competition"),
    ],
)
def test_bad_settings_name_the_field(
    corpus: Corpus, versions: list[Version], researcher: User, given: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(DomainError) as caught:
        make_gmad(corpus, versions, by=researcher, **given)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_quality_models_do_not_compete_in_mad(corpus: Corpus, versions: list[Version], researcher: User) -> None:
    with pytest.raises(DomainError, match="cannot compete here") as caught:
        services.competition_create(name="mixed", corpus=corpus, versions=versions, by=researcher)
    assert caught.value.field == "versions"


def test_equal_scores_everywhere_fail_the_round_in_words(
    corpus: Corpus, versions: list[Version], researcher: User, tmp_path: Path
) -> None:
    constant = make_column(corpus, tmp_path, np.full(N_ROWS, 3.0), by=researcher, name="constant")
    competition = make_gmad(corpus, [versions[0], constant], by=researcher)
    round_ = committed(services.competition_launch, competition=competition, by=researcher)
    run_all_inline()
    round_.refresh_from_db()
    job = Job.objects.get(pk=round_.job_id)
    assert job.state == JobState.FAILED
    assert "constant v1" in job.error
    assert "same score" in job.error
    assert not Exhibit.objects.filter(round=round_).exists()


def test_a_campaign_with_one_annotator_has_no_intervals_to_boast_of(competition: Competition, researcher: User) -> None:
    Competition.objects.filter(pk=competition.pk).update(overlap=1)
    competition.refresh_from_db()
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, judge=truthful, people=1)
    work()
    snapshot = Snapshot.objects.latest_of(competition)
    assert snapshot.standings.count() == 6
    assert not snapshot.standings.exclude(low=None).exists()
    assert any("person" in note for note in snapshot.matrices["notes"])
