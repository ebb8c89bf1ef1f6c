"""Troubleshooting a quality network: two rounds, from pruning to the new target, against slow recounts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accounts.errors import Conflict, Denied, DomainError
from accounts.models import User
from competition import exports, learning, loop, services
from competition.kinds.troubleshooting import targets
from competition.models import Competition, Exhibit, ExhibitRole, Round, RoundState, Snapshot
from competition.ranking.failures import Rated, difference
from corpora.models import Corpus
from jobs.models import Job
from labeling.models import Trial, TrialKind
from models_zoo.models import Scores, Version
from models_zoo.reading import oriented
from tests.competition.builders import committed, label_all, work
from tests.competition.builders_self import OPTIONS, begin, labelled, mos, noise_network, noisy_corpus, seen
from training.models import Edition, Run

pytestmark = pytest.mark.django_db


@pytest.fixture
def corpus(var_dir: Path, researcher: User) -> Corpus:
    return noisy_corpus(researcher)


@pytest.fixture
def edition(corpus: Corpus, researcher: User) -> Edition:
    return labelled(corpus, researcher)


@pytest.fixture
def target(var_dir: Path, researcher: User, tmp_path: Path) -> Version:
    return noise_network(researcher, tmp_path)


@pytest.fixture
def competition(target: Version, corpus: Corpus, edition: Edition, researcher: User) -> Competition:
    made = begin(target, corpus, edition, by=researcher)
    work()
    return made


def latest(competition: Competition) -> Round:
    found: Round = competition.rounds.select_related("campaign", "learn_run", "prepare_run").order_by("-number")[0]
    return found


def test_one_button_prunes_selects_and_asks(competition: Competition, target: Version, edition: Edition) -> None:
    round_ = latest(competition)
    assert (round_.state, round_.error) == (RoundState.LABELLING, "")
    entrants = list(competition.entrants.filter(round=round_).select_related("version"))
    assert [entrant.version.purpose for entrant in entrants] == ["use", "ensemble", "ensemble"]
    assert entrants[0].version == target
    assert round_.prepare_run is not None
    assert round_.prepare_run.outputs.count() == OPTIONS["variants"]

    images = {
        row
        for pair in Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).values_list(
            "item__row", "second_item__row"
        )
        for row in pair
    }
    control = set(Exhibit.objects.filter(round=round_, role=ExhibitRole.CONTROL).values_list("item__row", flat=True))
    assert 4 <= len(images) <= OPTIONS["budget"]
    assert len(control) == 4
    assert not images & control
    import pyarrow.parquet as pq

    known = set(pq.read_table(edition.path)["row"].to_pylist())
    assert not (images | control) & known, "nothing that is labelled already is asked about"
    assert round_.campaign is not None
    trials = Trial.objects.filter(campaign=round_.campaign)
    assert trials.count() == len(images) + len(control), "every image is asked about once, whatever shows it"
    assert set(trials.filter(kind=TrialKind.CONTROL).values_list("item__row", flat=True)) == control


def test_a_round_is_labelled_learnt_from_and_followed_by_another(
    competition: Competition, target: Version, researcher: User, client: Any
) -> None:
    first = latest(competition)
    label_all(first.campaign, judge=seen)
    work()
    first.refresh_from_db()
    assert first.state == RoundState.COMPLETE
    _check_failures(first, target)

    with pytest.raises(Conflict, match="fine-tune the target first"):
        services.round_start(competition=competition, by=researcher)
    committed(learning.round_learn, round=first, by=researcher)
    with pytest.raises(Conflict):
        learning.round_learn(round=first, by=researcher)
    assert Job.objects.filter(kind="competition.learn").count() == 1
    work()
    first.refresh_from_db()
    assert (first.state, first.error) == (RoundState.COMPLETE, "")
    assert first.learn_run is not None
    assert first.learn_run.outputs.filter(role="variant").count() == OPTIONS["variants"]
    control = set(Exhibit.objects.filter(round=first, role=ExhibitRole.CONTROL).values_list("item__row", flat=True))
    import pyarrow.parquet as pq

    assert first.edition is not None
    table = pq.read_table(first.edition.path).to_pylist()
    found = {line["row"] for line in table if line["origin"] == "found"}
    assert found
    assert not found & control, "the control arm is never learnt from"

    committed(services.round_start, competition=competition, by=researcher)
    work()
    second = latest(competition)
    assert (second.number, second.state) == (2, RoundState.LABELLING)
    assert [entrant.version for entrant in targets(competition)] == [
        target,
        first.learn_run.outputs.get(role="target").version,
    ]
    asked = set(Exhibit.objects.filter(round=first).values_list("item__row", flat=True))
    again = set(Exhibit.objects.filter(round=second).values_list("item__row", flat=True))
    assert not asked & again
    label_all(second.campaign, judge=seen)
    work()
    second.refresh_from_db()
    assert second.state == RoundState.COMPLETE
    fresh = Snapshot.objects.filter(round=second).order_by("-number")[0].matrices["fresh"]
    assert {"old", "new", "change", "n"} <= set(fresh)
    _check_fresh(second, fresh, targets(competition))

    client.force_login(researcher)
    page = client.get(competition.get_absolute_url()).content.decode()
    assert "What was forgotten" in page
    assert "Fine-tune on what was found" in page
    assert "SRCC over the rounds" in page
    lines = loop.loop_read(competition)
    assert [line["round"].number for line in lines] == [1, 2]
    assert {row["reading"] for row in exports.reading_rows(competition)} >= {"test", "fresh", "failures", "control"}
    gallery = client.get(f"{competition.get_absolute_url()}exhibits/").content.decode()
    assert "Before" in gallery
    assert "After" in gallery
    exhibit = Exhibit.objects.filter(round=first, role=ExhibitRole.SELECTED)[0]
    assert client.get(f"{competition.get_absolute_url()}exhibits/{exhibit.pk}/").status_code == 200
    assert client.get(f"{competition.get_absolute_url()}setup/").status_code == 200
    assert client.get(f"{competition.get_absolute_url()}people/").status_code == 200
    answer = client.get(f"/api/v1/competitions/{competition.pk}/readings/").json()
    assert answer[1]["fresh"]["new"]["srcc"]["value"] == pytest.approx(fresh["new"]["srcc"]["value"])


def _check_failures(round_: Round, target: Version) -> None:
    """The failure rate equals a slow count over the pairs."""
    said = [0.0, -2.0, 2.0]
    failures = pairs = 0
    for exhibit in Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).select_related(
        "item", "second_item", "duel__first"
    ):
        assert exhibit.second_item is not None
        assert exhibit.duel is not None
        rated = []
        for item in (exhibit.item, exhibit.second_item):
            values = [float(np.clip(mos(item.row) + each, 0, 100).round(1)) for each in said]
            rated.append(Rated(float(np.mean(values)), float(np.std(values, ddof=1)), 3))
        failures += difference(*rated).contradicts(attacks=exhibit.duel.first.version_id == target.pk)
        pairs += 1
        assert exhibit.preference == pytest.approx(rated[0].mean - rated[1].mean, abs=3)
    counted = Snapshot.objects.filter(round=round_).order_by("-number")[0].matrices["failures"]
    assert (counted["k"], counted["n"]) == (failures, pairs)


def _check_fresh(round_: Round, fresh: dict[str, Any], both: list[Any]) -> None:
    """Old and new target on the same images, by scipy."""
    from scipy.stats import spearmanr

    rows = sorted(
        {
            row
            for pair in Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED).values_list(
                "item__row", "second_item__row"
            )
            for row in pair
        }
    )
    means = {
        verdict.trial.item.row: verdict.value["mean"]
        for verdict in round_.campaign.verdicts.select_related("trial__item")
    }  # type: ignore[union-attr]
    for name, entrant in zip(("old", "new"), both, strict=True):
        scores = Scores.objects.select_related("version__model", "corpus").get(
            version=entrant.version, corpus=round_.competition.corpus
        )
        expected = spearmanr(oriented(scores)[rows], [means[row] for row in rows]).statistic
        assert fresh[name]["srcc"]["value"] == pytest.approx(expected)


def test_two_clicks_on_troubleshoot_start_one(
    competition: Competition, target: Version, corpus: Corpus, edition: Edition, researcher: User
) -> None:
    again = begin(target, corpus, edition, by=researcher)
    assert again == competition
    assert Run.objects.filter(method="prune").count() == 1


def test_a_campaign_closed_half_way_settles_what_is_there(competition: Competition, researcher: User) -> None:
    round_ = latest(competition)
    label_all(round_.campaign, judge=seen, most=9)
    committed(learning.round_close, round=round_, by=researcher)
    work()
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    with pytest.raises(Conflict, match="no campaign to close"):
        learning.round_close(round=round_, by=researcher)


def test_what_is_said_of_it_can_change_after_the_launch(
    competition: Competition, target: Version, researcher: User
) -> None:
    services.competition_configure(
        competition=competition, by=researcher, versions=[target], description="another", options=competition.options
    )
    competition.refresh_from_db()
    assert competition.description == "another"


def test_nothing_is_learnt_from_nothing(competition: Competition, researcher: User) -> None:
    round_ = latest(competition)
    committed(learning.round_close, round=round_, by=researcher)
    work()
    round_.refresh_from_db()
    with pytest.raises(DomainError, match="nothing to learn"):
        learning.round_learn(round=round_, by=researcher)


def test_only_its_owner_trains_and_closes(
    competition: Competition, other_researcher: User, annotator: User, target: Version, corpus: Corpus, edition: Edition
) -> None:
    round_ = latest(competition)
    for person in (other_researcher, annotator):
        with pytest.raises(Denied):
            learning.round_learn(round=round_, by=person)
        with pytest.raises(Denied):
            learning.round_close(round=round_, by=person)
        with pytest.raises(Denied):
            begin(target, corpus, edition, by=person)


def test_a_target_that_cannot_be_pruned_fails_with_the_reason(
    target: Version, corpus: Corpus, edition: Edition, researcher: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.methods.prune import recipe

    def refuse(*_: Any) -> None:
        raise recipe.NotPrunable("it has 0 of 3 variants")

    monkeypatch.setattr(recipe, "prune", refuse)
    made = begin(target, corpus, edition, by=researcher)
    from jobs.inline import run_all_inline

    with pytest.MonkeyPatch.context():
        committed(run_all_inline)
    round_ = latest(made)
    assert round_.state == RoundState.FAILED
    assert "0 of 3 variants" in round_.error
    monkeypatch.undo()
    committed(services.round_retry, round=round_, by=researcher)
    work()
    assert latest(made).state == RoundState.LABELLING
