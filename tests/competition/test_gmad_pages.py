"""The pages of gMAD competitions: made by form and in the admin, what they show, at how many queries."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from competition.models import Competition, Duel, Exhibit, ExhibitRole, Round, RoundState, Snapshot
from competition.reading import appearances
from corpora.models import Corpus, Item
from labeling.models import Judgement, Trial
from models_zoo.models import Version
from tests.competition.builders import committed, label_all, launch, work
from tests.competition.builders_gmad import LEVELS, make_gmad, make_quality_versions, make_scores, truthful
from tests.competition.test_pages import queries

PAGES = ["", "exhibits/", "exhibits/?role=control", "exhibits/?order=strongest", "people/", "setup/", "state/",
         "launch/", "edit/"]  # fmt: skip
FORM: dict[str, Any] = {
    "kind": "gmad", "levels": 3, "level_kind": "equal_width", "half_width": 12, "calibration": "auto", "top": 1,
    "image_cap": "", "same_source": "on", "protocol": "compare", "solver": "exact", "duplicate_distance": "",
    "control_size": 4, "overlap": 2, "seed": 0,
}  # fmt: skip


@pytest.fixture
def versions(corpus: Corpus, researcher: User, tmp_path: Any) -> list[Version]:
    return make_quality_versions(corpus, tmp_path, by=researcher)


@pytest.fixture
def settled(corpus: Corpus, versions: list[Version], researcher: User) -> Competition:
    competition = make_gmad(corpus, versions, by=researcher)
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, judge=truthful)
    work()
    return competition


def more_pairs(competition: Competition, count: int) -> None:
    """As many more exhibits of one duel, each a pair and a trial of its own."""
    duel = Duel.objects.filter(round__competition=competition).first()
    like = Exhibit.objects.filter(duel=duel).first()
    items = Item.objects.bulk_create(
        Item(
            corpus=like.item.corpus, row=1_000 + at, sha256=f"{at:064x}", width=16, height=16,
            image=like.item.image.name, thumbnail=like.item.thumbnail.name,
        )
        for at in range(2 * count)
    )  # fmt: skip
    trials = Trial.objects.bulk_create(
        Trial(campaign=like.trial.campaign, item=items[2 * at], second=items[2 * at + 1], position=10_000 + at)
        for at in range(count)
    )
    Exhibit.objects.bulk_create(
        Exhibit(
            round=duel.round, duel=duel, item=trial.item, second_item=trial.second, trial=trial, level=1,
            role=ExhibitRole.SELECTED, rank=100 + at, predictions=like.predictions, preference=50.0,
        )
        for at, trial in enumerate(trials)
    )  # fmt: skip


def test_queries_do_not_grow_with_exhibits(settled: Competition, researcher: User, client: Client) -> None:
    client.force_login(researcher)
    exhibit = Exhibit.objects.filter(round__competition=settled, role="selected").first()
    addresses = [*(f"{settled.get_absolute_url()}{page}" for page in (*PAGES, f"exhibits/{exhibit.pk}/")), "/"]
    before = {address: queries(client, address) for address in addresses}
    more_pairs(settled, 300)
    after = {address: queries(client, address) for address in addresses}
    assert after == before
    assert max(before.values()) <= 30, before


def test_the_dashboard_shows_both_measures_and_what_they_rest_on(
    settled: Competition, researcher: User, client: Client
) -> None:
    client.force_login(researcher)
    page = client.get(settled.get_absolute_url())
    text = page.content.decode()
    assert [board["measure"].name for board in page.context["boards"]] == ["aggressiveness", "resistance"]
    assert all([line["standing"].rank for line in board["lines"]] == [1, 2, 3] for board in page.context["boards"])
    assert len(page.context["scatter"]["marks"]) == 3
    for matrix in page.context["matrices"]:
        for i, row in enumerate(matrix["rows"]):
            assert [cell is None for cell in row["cells"]] == [i == j for j in range(3)]
    a, b = settled.entrants.all()[:2]
    assert f"?attacker={a.pk}&amp;defender={b.pk}" in text
    levels = page.context["levels"]
    assert [len(row["cells"]) for row in levels["rows"]] == [LEVELS] * 3
    assert "By quantiles: a score" in text
    assert "Share of random pairs that a model orders as people do" in text
    assert "Krippendorff" in text


def test_what_changed_since_the_last_round_and_where_models_competed(
    settled: Competition, versions: list[Version], researcher: User, client: Client
) -> None:
    first = Snapshot.objects.filter(competition=settled).latest("number")
    ranks = {each.entrant.version: each.rank for each in first.standings.filter(measure="aggressiveness")}
    seen = {each.version_id: each.rank for each in appearances(versions, researcher)}
    assert seen == {version.pk: rank for version, rank in ranks.items()}
    lines = list(first.standings.all())
    later = Round.objects.create(competition=settled, number=2, state=RoundState.COMPLETE)
    first.pk, first.number, first.round = None, first.number + 1, later
    first.save()
    for line in lines:  # the aggressive turn round, the resistant stay
        line.pk, line.snapshot = None, first
        line.rank = 4 - line.rank if line.measure == "aggressiveness" else line.rank
        line.save()
    client.force_login(researcher)
    boards = client.get(settled.get_absolute_url()).context["boards"]
    assert [[line["moved"] for line in board["lines"]] for board in boards] == [[2, 0, -2], [0, 0, 0]]
    for version in versions:
        assert str(settled) in client.get(version.model.get_absolute_url()).content.decode()


def test_one_person_gives_no_intervals(
    corpus: Corpus, versions: list[Version], researcher: User, client: Client
) -> None:
    competition = make_gmad(corpus, versions, by=researcher, overlap=1)
    label_all(launch(competition, by=researcher).campaign, judge=truthful, people=1)
    work()
    client.force_login(researcher)
    page = client.get(competition.get_absolute_url())
    assert "none: one person" in page.content.decode()
    assert len(page.context["scatter"]["marks"]) == 3


def test_levels_without_a_pair_are_said(
    corpus: Corpus, versions: list[Version], researcher: User, client: Client
) -> None:
    competition = make_gmad(corpus, versions, by=researcher, options={"levels": 30, "half_width": 0.4})
    launch(competition, by=researcher)
    client.force_login(researcher)
    page = client.get(competition.get_absolute_url())
    assert page.context["levels"]["empty"]
    assert "Levels that give no pair" in page.content.decode()
    assert all(duel.shortage for duel in page.context["short"])


def test_a_cell_opens_its_pairs_and_outcomes_filter(settled: Competition, researcher: User, client: Client) -> None:
    client.force_login(researcher)
    attacker, defender = settled.entrants.all()[:2]
    address = f"{settled.get_absolute_url()}exhibits/"
    shown = client.get(f"{address}?attacker={attacker.pk}&defender={defender.pk}").context["tiles"]
    assert {(tile["exhibit"].duel.first_id, tile["exhibit"].duel.second_id) for tile in shown} == {
        (attacker.pk, defender.pk)
    }
    assert {tile["exhibit"].level for tile in shown} <= set(range(1, LEVELS + 1))
    (tile,) = client.get(f"{address}?attacker={attacker.pk}&defender={defender.pk}&level=2").context["tiles"]
    assert tile["exhibit"].level == 2
    counted = 0
    for case in ("falsified", "held", "attacker", "open", "dropped"):
        tiles = client.get(f"{address}?case={case}").context["tiles"]
        assert all(tile["case"] == case for tile in tiles)
        counted += len(tiles)
    assert counted == Exhibit.objects.filter(role="selected").count()
    strongest = [tile["exhibit"].preference for tile in client.get(f"{address}?order=strongest").context["tiles"]]
    assert strongest == sorted(strongest, reverse=True)
    control = client.get(f"{address}?role=control").context["tiles"]
    assert len(control) == Exhibit.objects.filter(role="control").count() > 0


def test_an_exhibit_says_what_models_and_people_said(
    settled: Competition, versions: list[Version], researcher: User, client: Client
) -> None:
    client.force_login(researcher)
    for exhibit in Exhibit.objects.filter(round__competition=settled).select_related("item", "second_item", "trial"):
        page = client.get(f"{settled.get_absolute_url()}exhibits/{exhibit.pk}/")
        assert page.status_code == 200
        said, answers = page.context["said"], page.context["answers"]
        turned = -1 if exhibit.item_id != exhibit.trial.item_id else 1
        counted = Judgement.objects.counted().filter(trial=exhibit.trial)
        values = sorted(turned * judgement.value["value"] for judgement in counted)
        assert [answer["value"] for answer in answers] == values
        assert said["mean"] == pytest.approx(exhibit.preference) == pytest.approx(sum(values) / len(values))
        assert said["low"] <= said["mean"] <= said["high"]
        assert said["counts"] == [sum(v > 20 for v in values), sum(abs(v) <= 20 for v in values),
                                  sum(v < -20 for v in values)]  # fmt: skip
        scores = {line["entrant"].version: line for line in page.context["scores"]}
        for version in versions:
            first, second = scores[version]["raw"]
            is_first = (first > second) == version.model.higher_is_better
            assert scores[version]["prefers"] == ("first" if is_first else "second")
        if exhibit.duel:
            assert page.context["sides"][0]["gap"] >= 0
            assert scores[exhibit.duel.first.version]["prefers"] == "first"
        others = Exhibit.objects.filter(trial=exhibit.trial).exclude(pk=exhibit.pk)
        assert [each["exhibit"] for each in page.context["also"]] == list(others.order_by("pk"))
        assert client.get(page.context["trial_url"]).status_code == 200


def test_a_new_competition_by_form(corpus: Corpus, versions: list[Version], researcher: User, client: Client) -> None:
    client.force_login(researcher)
    page = client.get("/competitions/new/?kind=gmad")
    text = page.content.decode()
    assert "Kind of levels" in text
    assert "Confidence threshold" not in text
    assert "Kind of levels" not in client.get("/competitions/new/").content.decode()
    assert client.get("/competitions/new/?kind=chess").status_code == 404
    form = FORM | {"name": "by form", "corpus": corpus.pk, "versions": [version.pk for version in versions]}
    shown = client.post("/competitions/preview/", form)
    preview = shown.context["preview"]
    assert (preview.n_duels, preview.n_exhibits, preview.n_control) == (6, 18, 4)
    assert "are calibrated by their quantiles" in shown.content.decode()
    shown = client.post("/competitions/preview/", form | {"levels": 0})
    assert "Levels is 0: it must be at least 1 and at most 50" in shown.content.decode()
    for bad, words in (
        ({"levels": 0}, "Levels is 0"), ({"half_width": 0}, "Half width is 0: it must be more than 0"),
        ({"calibration": "logistic"}, "has no opinion scores to fit"), ({"level_kind": "no"}, "Select a valid choice"),
    ):  # fmt: skip
        refused = client.post("/competitions/new/", form | bad)
        assert words in str(refused.context["form"].errors.get(next(iter(bad)))) or words in refused.content.decode()
    made = client.post("/competitions/new/", form)
    competition = Competition.objects.get(name="by form")
    assert made.url == f"/competitions/{competition.pk}/launch/"
    assert (competition.kind, competition.taxonomy, competition.options["levels"]) == ("gmad", None, 3)
    assert competition.options["image_cap"] is None
    assert "cut into 3 levels" in client.get(made.url).content.decode()
    changed = form | {"levels": 2, "top": 2}
    assert client.post(f"/competitions/{competition.pk}/edit/", changed).status_code == 302
    competition.refresh_from_db()
    assert (competition.options["levels"], competition.options["top"]) == (2, 2)
    committed(client.post, path=made.url)
    assert competition.rounds.get().state == RoundState.SCORING
    address = f"/competitions/{competition.pk}/edit/"
    assert client.post(address, changed | {"description": "why"}).status_code == 302
    assert "can no longer change" in client.post(address, changed | {"levels": 5}).content.decode()
    competition.refresh_from_db()
    assert (competition.description, competition.options["levels"]) == ("why", 2)


def test_only_entrants_of_the_kind_are_offered(
    corpus: Corpus, versions: list[Version], researcher: User, client: Client, tmp_path: Any
) -> None:
    from tests.competition.builders import make_predictions

    classifier = make_predictions(corpus, tmp_path, by=researcher, name="classifier", accuracy=0.9, seed=1)
    client.force_login(researcher)

    def offered(kind: str) -> set[Version]:
        form = client.get(f"/competitions/new/?kind={kind}").context["form"]
        return set(form.fields["versions"].queryset)

    assert offered("gmad") == set(versions)
    assert offered("mad") == {classifier}


def test_an_entrant_is_added(
    settled: Competition, corpus: Corpus, researcher: User, client: Client, tmp_path: Any
) -> None:
    newcomer = make_scores(corpus, tmp_path, by=researcher, name="newcomer", noise=5.0)
    client.force_login(researcher)
    setup = client.get(f"{settled.get_absolute_url()}setup/").content.decode()
    assert f"It costs {2 * LEVELS} pairs per earlier entrant" in setup
    address = f"{settled.get_absolute_url()}entrants"
    shown = client.get(f"{address}/preview/", {"version": newcomer.pk}).context["preview"]
    assert (shown.n_duels, shown.n_exhibits) == (6, 6 * LEVELS)
    committed(client.post, path=f"{address}/add/", data={"version": newcomer.pk})
    work()
    assert settled.rounds.get().duels.count() == 12
    page = client.get(settled.get_absolute_url())
    assert len(page.context["levels"]["rows"]) == 4
    assert client.get(f"{settled.get_absolute_url()}exhibits/?role=control").status_code == 200


def test_launch_from_the_admin(corpus: Corpus, versions: list[Version], researcher: User, client: Client) -> None:
    researcher.is_staff = True
    researcher.save()
    client.force_login(researcher)
    address = "/admin/competition/competition/add/?kind=gmad"
    page = client.get(address)
    text = page.content.decode()
    assert "Kind of levels" in text
    assert 'name="threshold"' not in text
    assert "?kind=mad" in text
    form = FORM | {"name": "from the admin", "corpus": corpus.pk, "versions": [version.pk for version in versions[:2]]}
    refused = client.post(address, form | {"levels": 51})
    assert "Levels is 51" in str(refused.context["adminform"].form.errors["levels"])
    refused = client.post(address, form | {"calibration": "logistic"})
    assert "has no opinion scores" in str(refused.context["adminform"].form.errors["calibration"])
    saved = client.post(address, form)
    competition = Competition.objects.get(name="from the admin")
    assert (competition.kind, competition.options["half_width"]) == ("gmad", 12.0)
    assert client.get(saved.url).context["preview"].n_exhibits == 2 * LEVELS
    change = f"/admin/competition/competition/{competition.pk}/change/"
    assert client.get(change).status_code == 200
    client.post(change, form | {"levels": 4})
    competition.refresh_from_db()
    assert competition.options["levels"] == 4
    assert committed(client.post, path=saved.url).url == competition.get_absolute_url()
    assert "Levels: 4" in client.get(change).content.decode()
    client.post(change, {"name": "renamed", "description": "", "judgement_budget": ""})
    competition.refresh_from_db()
    assert (competition.name, competition.options["levels"]) == ("renamed", 4)
    listed = client.get("/admin/competition/competition/?kind=gmad").content.decode()
    assert "gMAD: quality models" in listed
    assert "4 levels" in listed


def test_lists_show_and_filter_the_kind(
    corpus: Corpus, versions: list[Version], researcher: User, client: Client
) -> None:
    make_gmad(corpus, versions, by=researcher)
    client.force_login(researcher)
    assert "3 levels" in client.get("/competitions/").content.decode()
    assert "No competition fits" in client.get("/competitions/?kind=mad").content.decode()
    assert [each.name for each in client.get("/competitions/?q=QUAL").context["page"]] == ["quality"]
