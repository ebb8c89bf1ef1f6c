"""Researchers' pages of ratings and comparisons: settings, adding trials by hand, the gallery, one trial, gold."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from accounts.models import User
from corpora.models import Corpus
from corpora.services import corpus_create
from jobs.inline import run_inline
from jobs.models import Job
from labeling.listing import list_read, rows_of, text_of_rows
from labeling.models import Campaign, Trial, size_note
from labeling.protocols import PROTOCOLS
from labeling.services import campaign_create, slots_lease
from tests.corpora.pictures import encoded, photograph
from tests.labeling.builders import give, make_number_campaign, make_person, make_taxonomy, trial_of

pytestmark = pytest.mark.django_db
SIZES = {"a.jpg": (90, 70), "b.jpg": (90, 70), "c.jpg": (90, 70), "large.jpg": (300, 210)}


@pytest.fixture
def client(researcher: User) -> Client:
    made = Client()
    made.force_login(researcher)
    return made


@pytest.fixture
def corpus(researcher: User, settings: LazySettings, tmp_path: Path) -> Corpus:
    """Four pictures, two contents: a and b show one, c and large the other."""
    settings.VAR_DIR = tmp_path / "var"
    settings.IMPORT_ROOTS = [str(tmp_path)]
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        (folder / name).write_bytes(encoded(photograph(seed, *size)))
    groups = "\n".join(f"{name},{'one' if name in 'a.jpg b.jpg' else 'two'}" for name in SIZES)
    (folder / "list.csv").write_text("path,group\n" + groups)
    made = corpus_create(name="photos", source="list", location=str(folder / "list.csv"), by=researcher)
    run_inline(Job.objects.about(made).get())
    made.refresh_from_db()
    return made


def draft(researcher: User, protocol: str) -> Campaign:
    taxonomy = make_taxonomy(researcher) if PROTOCOLS[protocol].needs_taxonomy else None
    return campaign_create(name="by hand", protocol=protocol, taxonomy=taxonomy, by=researcher)


def filled(form: Any) -> dict[str, Any]:
    """What a browser would send of a form as it is shown."""
    return {name: value for name in form.fields if (value := form[name].value()) is not None and value is not False}


class TestSettings:
    def test_what_is_left_empty_is_as_the_protocol_advises(self, client: Client, researcher: User) -> None:
        make_taxonomy(researcher)
        address = reverse("labeling:create")
        form = client.get(address).context["form"]
        given = filled(form)
        client.post(address, given | {"name": "rated", "protocol": "acr", "taxonomy": "", "question": "Sharp?"})
        made = Campaign.objects.get()
        assert (made.protocol, made.taxonomy, made.question) == ("acr", None, "Sharp?")
        assert (made.overlap, made.repeat_share, made.block_minutes) == (15, 0.1, 30)
        page = client.post(address, given | {"name": "classes", "protocol": "verify", "taxonomy": ""})
        assert "name their taxonomy" in page.content.decode()

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_settings_of_every_protocol(self, client: Client, researcher: User, protocol: str) -> None:
        campaign = draft(researcher, protocol)
        address = reverse("labeling:settings", args=[campaign.pk])
        form = client.get(address).context["form"]
        given = filled(form)
        assert client.post(address, given | {"block_minutes": "12", "protocol": "forced"}).status_code == 302
        campaign.refresh_from_db()
        assert (campaign.block_minutes, campaign.protocol) == (12, protocol)


class TestAdding:
    def test_rows_are_checked_shown_and_added(self, client: Client, researcher: User, corpus: Corpus) -> None:
        campaign = draft(researcher, "compare")
        address = reverse("labeling:add", args=[campaign.pk])
        page = client.post(address, {"corpus": corpus.pk, "rows": "0-3", "pairing": "content"})
        assert not Trial.objects.exists()
        listed = page.context["listed"]
        assert [tuple(spec.rows) for spec in listed.specs] == [(0, 1), (2, 3)]
        assert "differ much in size (90 × 70 and 300 × 210)" in page.content.decode()
        text = page.context["form"]["list"].value()
        reply = client.post(address, {"corpus": corpus.pk, "list": text, "confirm": "yes"})
        assert reply.status_code == 302
        assert [(trial.item.row, trial.second.row) for trial in Trial.objects.order_by("pk")] == [(0, 1), (2, 3)]
        gallery = client.get(reverse("labeling:verdicts", args=[campaign.pk])).content.decode()
        assert gallery.count("sizes differ") == 1

    def test_a_list_by_paths_with_gold_and_training(self, client: Client, researcher: User, corpus: Corpus) -> None:
        campaign = draft(researcher, "forced")
        lines = [
            "path,path_b,kind,expected_low,expected_high,explanation",
            "b.jpg,a.jpg,gold,1,1,",
            "a.jpg,c.jpg,training,-1,0,Look at the edges",
            "c.jpg,large.jpg,,,,",
        ]
        file = SimpleUploadedFile("list.csv", "\n".join(lines).encode("utf-8-sig"))
        address = reverse("labeling:add", args=[campaign.pk])
        client.post(address, {"corpus": corpus.pk, "file": file, "confirm": "yes"})
        trials = {trial.kind: trial for trial in Trial.objects.select_related("item", "second")}
        gold = trials["gold"]
        assert (gold.item.row, gold.second.row, gold.expected) == (0, 1, {"low": -1, "high": -1})  # put in order
        assert trials["training"].explanation == "Look at the edges"
        assert trials["ordinary"].slots.count() == campaign.overlap

    def test_classes_by_name(self, researcher: User, corpus: Corpus) -> None:
        campaign = draft(researcher, "verify")
        text = text_of_rows(campaign, corpus, [0, 2], classes="cat; 3")
        assert [(spec.row, spec.classes) for spec in list_read(campaign, corpus, text).specs] == [
            (0, [0, 3]), (2, [0, 3]),
        ]  # fmt: skip
        gold = list_read(campaign, corpus, "row,class_a,expected_a,kind\n1,dog,no,gold\n")
        assert gold.specs[0].expected == {"1": False}
        wrong = list_read(campaign, corpus, "row,class_a,expected_a,kind\n1,dog,maybe,gold\n1,wolf,,\n1,,,\n")
        assert [line for line, _ in wrong.problems] == [2, 3, 4]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "empty"),
            ("path\na.jpg", "path_b"),
            ("path,path_b,colour\na.jpg,b.jpg,red", '"colour"'),
            ("path_b\nb.jpg", "needs a column path"),
            ("path,path_b\na.jpg,missing.jpg", '"missing.jpg"'),
            ("path,path_b\na.jpg,", "missing"),
            ("path,path_b\na.jpg,a.jpg", "two different"),
            ("row,row_b\n0,99", '"99"'),
            ("row,row_b,kind\n0,1,repeat", "repeat"),
            ("row,row_b,kind\n0,1,gold", "needs the expected answer"),
            ("row,row_b,kind,expected_low,expected_high\n0,1,gold,50,10", "lies above"),
            ("row,row_b,kind,expected_low,expected_high\n0,1,gold,50,", "must be a number"),
            ("row,row_b,kind,expected_low,expected_high\n0,1,gold,50,1000", "from -100 to 100"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, researcher: User, corpus: Corpus, text: str, words: str) -> None:
        listed = list_read(draft(researcher, "compare"), corpus, text)
        assert len(listed.problems) == 1
        line, problem = listed.problems[0]
        assert words in problem
        assert line == (2 if "\n" in text and not listed.specs and "column" not in problem else 1)

    def test_rows_in_words(self) -> None:
        assert rows_of("0-2, 5,1", 6) == [0, 1, 2, 5]
        for bad in ("x", "3-1", "0-6", "1-"):
            with pytest.raises(Exception, match="row"):
                rows_of(bad, 6)

    def test_repeated_lines_are_asked_once(self, researcher: User, corpus: Corpus) -> None:
        listed = list_read(draft(researcher, "ccr"), corpus, "row,row_b\n0,1\n1,0\n")
        assert listed.notes == ["1 lines repeat earlier ones: each is asked once."]

    def test_only_editors_add(self, other_researcher: User, researcher: User) -> None:
        campaign = draft(researcher, "acr")
        Campaign.objects.update(is_public=True)
        stranger = Client()
        stranger.force_login(other_researcher)
        assert stranger.get(reverse("labeling:add", args=[campaign.pk])).status_code == 403


def test_sizes_that_differ_are_noted() -> None:
    class Size:
        def __init__(self, width: int, height: int) -> None:
            self.width, self.height = width, height

    assert size_note(Size(300, 200), Size(200, 160)) == ""
    assert "differ much" in size_note(Size(301, 200), Size(200, 160))


class TestTrials:
    @pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "verify"])
    def test_gallery_trial_and_gold(self, client: Client, researcher: User, protocol: str) -> None:
        campaign = make_number_campaign(researcher, protocol, trials=3, overlap=2, files=True)
        value = 60 if PROTOCOLS[protocol].high == 100 else 1
        for name in ("ada", "grace"):
            person = make_person(campaign, name)
            slot = slots_lease(campaign=campaign, person=person, count=1)[0]
            give(slot, person, value={"value": value})
        gallery = client.get(reverse("labeling:verdicts", args=[campaign.pk])).content.decode()
        trial = trial_of(campaign)
        is_pair = trial.second_id is not None
        assert ("A is better" in gallery) is is_pair
        assert gallery.count("<img") == 3 * (1 + is_pair)
        page = client.get(reverse("labeling:trial", args=[campaign.pk, trial.pk])).content.decode()
        assert ("on the left" in page) is is_pair
        assert page.count("<figure") == 1 + is_pair
        gold = reverse("labeling:gold", args=[campaign.pk, trial.pk])
        client.post(gold, {"low": value - 1 if value == 60 else value, "high": value})
        made = Trial.objects.get(kind="gold")
        assert made.expected["high"] == value
        assert "Retire this gold" in client.get(reverse("labeling:trial", args=[campaign.pk, made.pk])).content.decode()
        refused = client.post(gold, {"low": "9999", "high": "10000"})
        assert refused.status_code == 400

    def test_thanks_agreement_of_comparisons(self, researcher: User) -> None:
        campaign = make_number_campaign(researcher, "forced", trials=1, overlap=3, show_agreement=True)
        people = [make_person(campaign, name) for name in ("ada", "grace", "alan")]
        for person, value in zip(people, (1, 1, -1), strict=True):
            give(slots_lease(campaign=campaign, person=person)[0], person, value={"value": value})
        for person, share in zip(people, ("100 %", "100 %", "0 %"), strict=True):
            visitor = Client()
            visitor.force_login(person)
            text: Any = visitor.get(reverse("labeling:thanks", args=[campaign.pk])).content.decode()
            assert f"<strong>{share}</strong>" in text
