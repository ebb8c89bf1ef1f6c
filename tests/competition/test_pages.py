"""The pages of competitions: what they show, to whom, and at how many queries."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.services import membership_set
from competition.models import Competition, Duel, Exhibit, ExhibitRole, RoundState
from corpora.models import Corpus, Item
from labeling.models import Trial
from models_zoo.models import Version
from tests.competition.builders import committed, label_all, launch, make_competition, work

PAGES = ["", "exhibits/", "exhibits/?role=control", "people/", "setup/", "state/", "launch/", "edit/"]


@pytest.fixture
def settled(competition: Competition, researcher: User) -> Competition:
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign)
    work()
    return competition


def queries(client: Client, address: str) -> int:
    client.get(address)  # warms what is cached for every page: content types, the session
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


def more_exhibits(competition: Competition, count: int) -> None:
    """As many more exhibits, each on an item and a trial of its own."""
    duel = Duel.objects.filter(round__competition=competition).first()
    like = Exhibit.objects.filter(duel=duel).first()
    items = Item.objects.bulk_create(
        Item(
            corpus=like.item.corpus, row=1_000 + at, sha256=f"{at:064x}", width=16, height=16,
            image=like.item.image.name, thumbnail=like.item.thumbnail.name,
        )
        for at in range(count)
    )  # fmt: skip
    trials = Trial.objects.bulk_create(
        Trial(campaign=like.trial.campaign, item=item, position=10_000 + at, classes=like.trial.classes)
        for at, item in enumerate(items)
    )
    Exhibit.objects.bulk_create(
        Exhibit(
            round=duel.round, duel=duel, item=item, trial=trial, role=ExhibitRole.SELECTED, rank=100 + at,
            class_first=like.class_first, class_second=like.class_second, distance=1.0,
        )
        for at, (item, trial) in enumerate(zip(items, trials, strict=True))
    )  # fmt: skip


def test_queries_do_not_grow_with_exhibits(settled: Competition, researcher: User, client: Client) -> None:
    client.force_login(researcher)
    addresses = ["/", "/competitions/", *(f"{settled.get_absolute_url()}{page}" for page in PAGES)]
    before = {address: queries(client, address) for address in addresses}
    more_exhibits(settled, 1000)
    after = {address: queries(client, address) for address in addresses}
    assert after == before
    assert max(before.values()) <= 30, before


def test_the_dashboard_shows_the_leaderboard(settled: Competition, researcher: User, client: Client) -> None:
    client.force_login(researcher)
    page = client.get(settled.get_absolute_url())
    text = page.content.decode()
    assert [line["standing"].rank for line in page.context["boards"][0]["lines"]] == [1, 2, 3]
    for entrant in settled.entrants.all():
        assert str(entrant) in text
    first, second = settled.entrants.all()[:2]
    assert f"?first={first.pk}&amp;second={second.pk}" in text
    assert "Complete" in text
    number = page.context["snapshot"].number
    assert client.get(f"{settled.get_absolute_url()}?snapshot={number}").status_code == 200
    assert client.get(f"{settled.get_absolute_url()}?snapshot=999").status_code == 404


def test_a_cell_opens_the_images_of_its_duel(settled: Competition, researcher: User, client: Client) -> None:
    client.force_login(researcher)
    first, second = settled.entrants.all()[:2]
    page = client.get(f"{settled.get_absolute_url()}exhibits/?first={second.pk}&second={first.pk}")
    shown = [tile["exhibit"] for tile in page.context["tiles"]]
    assert shown
    assert {(each.duel.first_id, each.duel.second_id) for each in shown} == {(first.pk, second.pk)}
    for case in ("i", "ii", "iii", "open", "dropped"):
        page = client.get(f"{settled.get_absolute_url()}exhibits/?case={case}")
        assert all(tile["case"] == case for tile in page.context["tiles"])
    one = client.get(f"{settled.get_absolute_url()}exhibits/{shown[0].pk}/")
    assert {str(line["entrant"]) for line in one.context["answers"]} == {str(e) for e in settled.entrants.all()}


def test_a_new_competition_by_form_with_a_live_preview(
    corpus: Corpus, versions: list[Version], researcher: User, client: Client
) -> None:
    client.force_login(researcher)
    form: dict[str, Any] = {
        "name": "by form", "corpus": corpus.pk, "versions": [versions[0].pk], "k": 3, "reserve": 1, "threshold": 0.8,
        "per_class_cap": 3, "control_size": 2, "overlap": 3, "seed": 0,
    }  # fmt: skip
    assert "is the only entrant" in client.post("/competitions/preview/", form).content.decode()
    form["versions"] = [version.pk for version in versions]
    assert "Ready to launch" in client.post("/competitions/preview/", form).content.decode()
    assert "k is 0" in client.post("/competitions/new/", form | {"k": 0}).content.decode().replace("K is", "k is")
    made = client.post("/competitions/new/", form)
    competition = Competition.objects.get(name="by form")
    assert made.url == f"/competitions/{competition.pk}/launch/"
    assert "What the launch will take" in client.get(made.url).content.decode()
    committed(client.post, path=made.url)
    assert competition.rounds.get().state == RoundState.SCORING
    assert client.get(competition.get_absolute_url()).status_code == 200
    work()
    committed(client.post, path=f"/competitions/{competition.pk}/rounds/cancel/")
    assert competition.rounds.get().state == RoundState.CANCELLED
    committed(client.post, path=f"/competitions/{competition.pk}/rounds/retry/")
    work()
    assert competition.rounds.get().state == RoundState.LABELLING


def test_launch_from_the_admin(corpus: Corpus, versions: list[Version], researcher: User, client: Client) -> None:
    researcher.is_staff = True
    researcher.save()
    client.force_login(researcher)
    address = "/admin/competition/competition/add/"
    form: dict[str, Any] = {
        "name": "from the admin", "corpus": corpus.pk, "versions": [version.pk for version in versions[:2]], "k": 0,
        "reserve": 1, "threshold": 0.8, "per_class_cap": 3, "control_size": 2, "overlap": 3, "seed": 0,
    }  # fmt: skip
    assert client.get(address).status_code == 200
    refused = client.post(address, form)
    assert refused.status_code == 200
    assert "choose at least 1 image per pair" in str(refused.context["adminform"].form.errors["k"])
    assert "choose at least two" in client.post(address, form | {"versions": []}).content.decode()
    saved = client.post(address, form | {"k": 3})
    competition = Competition.objects.get(name="from the admin")
    assert competition.created_by == researcher
    assert saved.url == f"/admin/competition/competition/{competition.pk}/launch/"
    preview = client.get(saved.url)
    assert (preview.context["preview"].n_exhibits, preview.context["preview"].can_launch) == (3, True)
    assert committed(client.post, path=saved.url).url == competition.get_absolute_url()
    assert competition.rounds.get().state == RoundState.SCORING
    change = f"/admin/competition/competition/{competition.pk}/change/"
    assert client.get(change).status_code == 200
    client.post(change, {"name": "renamed", "description": "", "judgement_budget": ""})
    competition.refresh_from_db()
    assert (competition.name, competition.k) == ("renamed", 3)
    assert client.get("/admin/competition/competition/").status_code == 200
    assert client.get("/admin/competition/round/").status_code == 200


def test_only_those_who_may_see_it_do(
    competition: Competition, researcher: User, other_researcher: User, annotator: User, client: Client
) -> None:
    addresses = [f"{competition.get_absolute_url()}{page}" for page in PAGES]
    for address in addresses:
        assert client.get(address).url.startswith("/accounts/login/")
    client.force_login(annotator)
    for address in [*addresses, "/competitions/", "/competitions/new/", "/competitions/explore/"]:
        assert client.get(address).status_code == 403
    client.force_login(other_researcher)
    for address in addresses:
        assert client.get(address).status_code == 404
    membership_set(target=competition, username=other_researcher.username, role="viewer", by=researcher)
    for address in addresses:
        assert client.get(address).status_code == 200
    client.post(f"{competition.get_absolute_url()}launch/")
    client.post(f"{competition.get_absolute_url()}delete/")
    assert Competition.objects.filter(pk=competition.pk, rounds=None).exists()


def test_home_is_one_click_from_everybodys_work(
    settled: Competition, corpus: Corpus, versions: list[Version], researcher: User, client: Client
) -> None:
    assert "Log in" in client.get("/").content.decode()
    other = make_competition(corpus, versions, by=researcher, name="second")
    round_ = launch(other, by=researcher)
    client.force_login(researcher)
    page = client.get("/").content.decode()
    assert settled.get_absolute_url() in page
    assert f"/label/{round_.campaign_id}/" in page
    label_all(round_.campaign, most=1)
    client.force_login(User.objects.get(username="person 0"))
    page = client.get("/").content.decode()
    assert f"/label/{round_.campaign_id}/" in page
    assert "model 0" not in page
