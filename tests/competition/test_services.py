"""What competitions refuse, with the field at fault and the way out; previews; who may do what."""

from pathlib import Path
from typing import Any

import pytest

from accounts.errors import Conflict, Denied, DomainError
from accounts.models import User
from accounts.services import membership_set
from competition import planning, services
from competition.models import Competition, Entrant
from corpora.models import Corpus
from models_zoo.models import Version, VersionState
from models_zoo.services import version_add
from tests.competition.builders import committed, launch, make_competition, make_pictures_corpus, make_predictions
from tests.models_zoo.builders import checked, make_model, make_taxonomy


def plan(corpus: Corpus | None, versions: list[Version], **settings: Any) -> planning.Plan:
    return planning.Plan(
        corpus=corpus, taxonomy=versions[0].model.taxonomy if versions else None, versions=versions, **settings
    )


def test_the_preview_counts_exhibits_judgements_and_scoring(corpus: Corpus, versions: list[Version]) -> None:
    shown = planning.preview(plan(corpus, versions, k=4, control_size=5, overlap=3))
    assert (shown.n_duels, shown.n_exhibits, shown.n_control) == (3, 12, 10)
    assert shown.n_judgements == (12 + 10) * 3
    assert (shown.unscored, shown.scoring_seconds, shown.can_launch) == ((), 0, True)


def test_scoring_time_is_milliseconds_times_rows_of_what_is_not_scored(corpus: Corpus, versions: list[Version]) -> None:
    versions[0].scores.all().delete()
    versions[1].scores.all().delete()
    for version in versions[:2]:
        Version.objects.filter(pk=version.pk).update(kind="torch", milliseconds=250.0)
        version.refresh_from_db()
    shown = planning.preview(plan(corpus, versions))
    assert shown.scoring_seconds == pytest.approx(2 * 0.25 * corpus.n_rows)
    Version.objects.filter(pk=versions[0].pk).update(milliseconds=None)
    versions[0].refresh_from_db()
    assert planning.preview(plan(corpus, versions)).scoring_seconds is None


def test_gold_and_repeats_add_judgements(corpus: Corpus, versions: list[Version]) -> None:
    few = planning.preview(plan(corpus, versions))
    more = planning.preview(plan(corpus, versions, campaign_options={"gold_share": 0.1, "repeat_share": 0.1}))
    assert more.n_judgements == round(few.n_judgements * 1.2)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"k": 0}, "k", "K is 0: choose at least 1 image per pair"),
        ({"overlap": 0}, "overlap", "Overlap is 0: at least 1 person"),
        ({"threshold": 1.5}, "threshold", "Threshold is 1.5: a confidence lies between 0 and 1"),
        ({"per_class_cap": 0}, "per_class_cap", "Per class cap is 0"),
        ({"reserve": -1}, "reserve", "Reserve is -1"),
        ({"judgement_budget": 100}, "judgement_budget", "budget is 100: .*lower k to"),
    ],
)
def test_bad_settings_name_the_field_and_the_remedy(
    corpus: Corpus, versions: list[Version], changes: dict[str, Any], field: str, message: str
) -> None:
    import re

    problems = planning.preview(plan(corpus, versions, **({"k": 30, "control_size": 0} | changes))).problems
    assert [problem.field for problem in problems] == [field]
    assert re.search(message, problems[0].message)


def test_the_budget_remedy_is_affordable(corpus: Corpus, versions: list[Version]) -> None:
    tight = plan(corpus, versions, k=30, control_size=4, overlap=3, judgement_budget=200)
    message = planning.preview(tight).problems[0].message
    k = int(message.split("lower k to ")[1].split(",")[0])
    assert k >= 1
    assert planning.preview(plan(corpus, versions, k=k, control_size=4, overlap=3, judgement_budget=200)).can_launch


def test_one_entrant_and_none(corpus: Corpus, versions: list[Version], researcher: User) -> None:
    alone = make_competition(corpus, versions[:1], by=researcher)
    with pytest.raises(DomainError, match='"model 0 v1" is the only entrant: add at least one version') as caught:
        services.competition_launch(competition=alone, by=researcher)
    assert caught.value.field == "versions"
    assert "There are no entrants" in planning.preview(plan(corpus, [])).problems[0].message
    with pytest.raises(DomainError, match="There are no entrants"):
        make_competition(corpus, [], by=researcher, name="empty")


def test_other_label_spaces_are_named(
    corpus: Corpus, versions: list[Version], competition: Competition, researcher: User, tmp_path: Path
) -> None:
    other = make_taxonomy(researcher, ["left", "right"])
    (tmp_path / "other.csv").write_text("row,class\n" + "\n".join(f"{row},0" for row in range(60)) + "\n")
    model = make_model(researcher, "sides", taxonomy=other)
    stranger = checked(
        version_add(
            model=model, label="v1", kind="predictions", by=researcher, file=tmp_path / "other.csv", corpus=corpus
        )
    )
    with pytest.raises(DomainError, match=r'"sides v1" predicts in the label space "left, right".*"cat, dog') as caught:
        make_competition(corpus, [versions[0], stranger], by=researcher, name="mixed")
    assert caught.value.field == "versions"
    with pytest.raises(DomainError, match="must share one label space"):
        services.entrant_add(competition=competition, version=stranger, by=researcher)


@pytest.mark.parametrize(
    ("state", "message"),
    [(VersionState.CHECKING, "still being checked"), (VersionState.REFUSED, "was refused .no softmax.: leave it out")],
)
def test_unverified_versions(
    competition: Competition, versions: list[Version], researcher: User, state: str, message: str
) -> None:
    Version.objects.filter(pk=versions[1].pk).update(state=state, refusal="no softmax.")
    with pytest.raises(DomainError, match=message):
        services.competition_launch(competition=competition, by=researcher)


@pytest.mark.parametrize(
    ("state", "message"), [("importing", "still being imported"), ("failed", "import of .* failed")]
)
def test_a_corpus_that_is_not_ready(competition: Competition, researcher: User, state: str, message: str) -> None:
    Corpus.objects.filter(pk=competition.corpus_id).update(state=state)
    competition.refresh_from_db()
    with pytest.raises(DomainError, match=message):
        services.competition_launch(competition=competition, by=researcher)


def test_an_empty_corpus(competition: Competition, researcher: User) -> None:
    Corpus.objects.filter(pk=competition.corpus_id).update(n_rows=0)
    competition.refresh_from_db()
    with pytest.raises(DomainError, match="holds no images"):
        services.competition_launch(competition=competition, by=researcher)


def test_predictions_for_another_corpus(competition: Competition, researcher: User, tmp_path: Path) -> None:
    elsewhere = make_pictures_corpus(researcher, n=6, name="elsewhere")
    version = make_predictions(elsewhere, tmp_path, by=researcher, name="far", accuracy=1, seed=0)
    services.entrant_add(competition=competition, version=version, by=researcher)
    with pytest.raises(DomainError, match='predictions file for the corpus "elsewhere"'):
        services.competition_launch(competition=competition, by=researcher)


def test_names_are_taken_once(
    competition: Competition, corpus: Corpus, versions: list[Version], researcher: User
) -> None:
    with pytest.raises(DomainError, match='There is a competition "small" already') as caught:
        make_competition(corpus, versions, by=researcher)
    assert caught.value.field == "name"
    with pytest.raises(DomainError, match="no name"):
        make_competition(corpus, versions, by=researcher, name="  ")


def test_a_version_competes_once(
    competition: Competition, corpus: Corpus, versions: list[Version], researcher: User
) -> None:
    with pytest.raises(Conflict, match="competes already"):
        services.entrant_add(competition=competition, version=versions[0], by=researcher)
    with pytest.raises(DomainError, match="entered twice"):
        make_competition(corpus, [versions[0], versions[0]], by=researcher, name="twice")


def test_settings_are_fixed_by_the_launch(competition: Competition, versions: list[Version], researcher: User) -> None:
    services.competition_update(competition=competition, by=researcher, k=3)
    services.entrant_remove(entrant=competition.entrants.get(number=3), by=researcher)
    committed(services.competition_launch, competition=competition, by=researcher)
    with pytest.raises(Conflict, match="k can no longer change"):
        services.competition_update(competition=competition, by=researcher, k=4)
    services.competition_update(competition=competition, by=researcher, description="Which digits?")
    with pytest.raises(Conflict, match="entrants stay"):
        services.entrant_remove(entrant=competition.entrants.first(), by=researcher)
    with pytest.raises(Conflict, match="was launched already"):
        services.competition_launch(competition=competition, by=researcher)
    with pytest.raises(Conflict, match="judgements are kept"):
        services.competition_delete(competition=competition, by=researcher)
    with pytest.raises(Conflict, match="is scoring: an entrant can be added once"):
        services.entrant_add(competition=competition, version=versions[2], by=researcher)


def test_entrants_before_the_launch_can_be_replaced(
    competition: Competition, versions: list[Version], researcher: User
) -> None:
    services.competition_configure(competition=competition, by=researcher, versions=[versions[2], versions[0]], k=2)
    kept = Entrant.objects.filter(competition=competition).order_by("number").values_list("version", flat=True)
    assert list(kept) == [versions[0].pk, versions[2].pk]
    services.competition_delete(competition=competition, by=researcher)
    assert not Competition.objects.exists()


def test_a_newcomer_must_fit_the_budget(
    competition: Competition, corpus: Corpus, researcher: User, tmp_path: Path
) -> None:
    launch(competition, by=researcher)
    services.competition_update(competition=competition, by=researcher, judgement_budget=10)
    newcomer = make_predictions(corpus, tmp_path, by=researcher, name="newcomer", accuracy=0.5, seed=8)
    shown = services.competition_preview(plan=planning.Plan.of(competition, newcomers=[newcomer]))
    assert (shown.n_duels, shown.n_exhibits) == (3, 3 * competition.k)
    with pytest.raises(DomainError, match="the budget is 10"):
        services.entrant_add(competition=competition, version=newcomer, by=researcher)


ACTIONS = {
    "update": lambda c, u: services.competition_update(competition=c, by=u, k=2),
    "launch": lambda c, u: services.competition_launch(competition=c, by=u),
    "delete": lambda c, u: services.competition_delete(competition=c, by=u),
    "remove": lambda c, u: services.entrant_remove(entrant=c.entrants.first(), by=u),
    "start": lambda c, u: services.round_start(competition=c, by=u),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_strangers_and_viewers_may_not(
    name: str, competition: Competition, researcher: User, other_researcher: User, annotator: User
) -> None:
    membership_set(target=competition, username=other_researcher.username, role="viewer", by=researcher)
    for user in (other_researcher, annotator):
        with pytest.raises(Denied):
            ACTIONS[name](competition, user)


def test_editors_may(competition: Competition, researcher: User, other_researcher: User) -> None:
    membership_set(target=competition, username=other_researcher.username, role="editor", by=researcher)
    round_ = committed(services.competition_launch, competition=competition, by=other_researcher)
    assert round_.job.created_by == other_researcher


def test_annotators_make_no_competitions(corpus: Corpus, versions: list[Version], annotator: User) -> None:
    with pytest.raises(Denied, match="researcher role"):
        make_competition(corpus, versions, by=annotator, name="mine")


def test_nobody_enters_models_they_cannot_see(corpus: Corpus, versions: list[Version], other_researcher: User) -> None:
    with pytest.raises(Denied, match="You may not see"):
        make_competition(corpus, versions, by=other_researcher, name="mine")
