"""Labelled sets: what their editions hold, that nothing of the test split gets into training, and what is refused."""

import shutil
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from PIL import Image

from accounts.errors import Denied, DomainError
from accounts.models import User
from corpora.imaging.phash import near_duplicate_groups
from corpora.models import Corpus, Item
from corpora.opinions import OPINIONS, write_opinions
from labeling.models import Campaign, Verdict
from labeling.services import TrialSpec, campaign_create, campaign_open, trials_add
from models_zoo.services import version_add
from tests.labeling.builders import give_all, make_person
from tests.models_zoo.builders import checked, make_taxonomy
from tests.models_zoo.builders import make_corpus as make_class_corpus
from tests.models_zoo.quality_builders import quality_model, scored
from tests.training.builders import LEVELS, blur_corpus, imported, mos_of, texture
from training import contents
from training.engine.labels import SPLITS, LabelsError
from training.labelled import edition_add, labelled_set_create
from training.models import Edition, LabelledSet
from training.sets import edition_data


@pytest.fixture
def corpus(admin: User, tmp_path: Path) -> Corpus:
    return blur_corpus(admin, tmp_path)


@pytest.fixture
def labelled_set(admin: User) -> LabelledSet:
    return labelled_set_create(name="blur", task="quality", by=admin)


def of_corpus(corpus: Corpus, **more: Any) -> dict[str, Any]:
    return {"kind": "corpus", "corpus": corpus.pk, **more}


def splits_of(edition: Edition) -> dict[str, set[str]]:
    """The splits in which each group is."""
    rows = edition_data(edition).rows()
    found: dict[str, set[str]] = {}
    for group, split in zip(rows.group, rows.split, strict=True):
        found.setdefault(group, set()).add(split)
    return found


def item_of(corpus: Corpus, row: int) -> Item:
    return Item.objects.create(corpus=corpus, row=row, sha256=f"{row:064x}", width=48, height=48)


def rating_campaign(corpus: Corpus, rows: list[int], by: User) -> Campaign:
    """Five people rate these rows on 1 ... 5: each says 1 + row modulo 5, two of them one more."""
    campaign = campaign_create(name="ratings", protocol="acr", by=by, overlap=5, repeat_share=0.0)
    campaign_open(campaign=campaign, by=by)
    trials_add(campaign=campaign, trials=[TrialSpec(item_of(corpus, row)) for row in rows], by=by)
    trials = list(campaign.trials.order_by("position"))
    for number in range(5):
        person = make_person(campaign, f"person {number}")
        give_all(person, {trial: float(1 + (trial.item.row + number % 2) % 5) for trial in trials})
    return campaign


def test_an_edition_holds_opinions_split_by_content(corpus: Corpus, labelled_set: LabelledSet, admin: User) -> None:
    edition = edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus)], by=admin, seed=3)
    data = edition_data(edition)
    rows = data.rows()
    assert len(rows) == edition.n_rows == corpus.n_rows
    assert all(len(splits) == 1 for splits in splits_of(edition).values())
    assert Counter(rows.split.tolist()) == Counter(edition.counts["split"])
    assert set(rows.split) == set(SPLITS)
    content, level = (int(part) for part in rows.path[5].removesuffix(".png").split("-"))
    assert (rows.mos[5], rows.std[5], rows.n[5], rows.label[5]) == (mos_of(content, level), 9, 21, -1)
    assert data.pixels(5).shape == (48, 48, 3)
    again = edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus)], by=admin, seed=3)
    assert again == edition  # the same rows twice are one edition
    other = edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus)], by=admin, seed=4)
    assert other.number == edition.number + 1
    assert splits_of(other) != splits_of(edition)


def test_parts_of_a_corpus_keep_their_side(corpus: Corpus, labelled_set: LabelledSet, admin: User) -> None:
    """A group's split does not depend on what else there is."""
    whole = edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus)], by=admin, seed=3)
    contents = [f"t{number}" for number in range(9)]
    part = edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus, contents=contents)], by=admin, seed=3)
    assert part.n_rows == 9 * LEVELS
    everything = splits_of(whole)
    assert all(everything[group] == splits for group, splits in splits_of(part).items())
    rows = edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus, rows=list(range(36)))], by=admin, seed=3)
    assert rows.n_rows == 36


def test_copies_of_test_images_stay_out_of_training(
    corpus: Corpus, labelled_set: LabelledSet, admin: User, tmp_path: Path
) -> None:
    """The same files, near-duplicates and the same contents in another corpus are in the split of the first."""
    first = edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus)], by=admin, seed=3)
    place = tmp_path / "copies"
    place.mkdir()
    for file in (tmp_path / "blurred").glob("*-0.png"):
        shutil.copy(file, place / f"other name {file.name}")  # the same bytes
    for file in (tmp_path / "blurred").glob("*-1.png"):  # other bytes, hardly another picture
        Image.open(file).save(place / f"{file.stem}.jpg", quality=95)
    names = sorted(path.name for path in place.iterdir())
    (place / "list.csv").write_text("path,mos\n" + "\n".join(f"{name},{at % 90}" for at, name in enumerate(names)))
    copies = imported(admin, place / "list.csv", name="copies")
    second = edition_add(
        labelled_set=labelled_set,
        sources=[of_corpus(corpus), of_corpus(copies, split="train")],
        by=admin,
        seed=3,
        based_on=first,
    )
    rows = edition_data(second).rows()
    assert second.n_rows == corpus.n_rows + len(names)
    assert all(len(splits) == 1 for splits in splits_of(second).values())
    was = dict(zip(rows.row[rows.scale == 0], rows.split[rows.scale == 0], strict=True))
    old = edition_data(first).rows()
    assert was == dict(zip(old.row, old.split, strict=True))
    of_content = {path.split("-")[0]: split for path, split in zip(old.path, old.split, strict=True)}
    for path, split in zip(rows.path[rows.scale == 1], rows.split[rows.scale == 1], strict=True):
        assert split == of_content[path.removeprefix("other name ").split("-")[0]], path


def test_campaign_verdicts_join_as_found_labels(corpus: Corpus, labelled_set: LabelledSet, admin: User) -> None:
    """Ratings of test contents stay in the test split, whatever the source asks for; those of new contents train."""
    base = edition_add(
        labelled_set=labelled_set,
        sources=[of_corpus(corpus, contents=[f"t{number}" for number in range(9)])],
        by=admin,
        seed=3,
    )
    campaign = rating_campaign(corpus, list(range(0, 48, 2)), admin)
    found = {"kind": "campaign", "campaign": campaign.pk, "origin": "found", "split": "train"}
    edition = edition_add(labelled_set=labelled_set, sources=[*base.sources, found], by=admin, seed=3, based_on=base)
    rows = edition_data(edition).rows(origin="found")
    assert len(rows) == 24
    before = edition_data(base).rows()
    content_split = {row // LEVELS: split for row, split in zip(before.row, before.split, strict=True)}
    assert {"test", "train"} <= set(rows.split)
    for row, split, mos, std, n in zip(rows.row, rows.split, rows.mos, rows.std, rows.n, strict=True):
        assert split == content_split.get(row // LEVELS, "train")
        given = [float(1 + (row + number % 2) % 5) for number in range(5)]
        assert mos == pytest.approx((np.mean(given) - 1) * 25)
        assert std == pytest.approx(np.std(given, ddof=1) * 25)
        assert n == 5
    assert edition.counts["cells"]["found"]["train"] == (rows.split == "train").sum()
    assert set(rows.scale) == {1}


def test_the_control_arm_is_never_learnt_from(corpus: Corpus, labelled_set: LabelledSet, admin: User) -> None:
    campaign = rating_campaign(corpus, list(range(10)), admin)
    control = campaign.trials.filter(item__row__in=[2, 5])
    control.update(kind="control")
    source = {"kind": "campaign", "campaign": campaign.pk, "split": "train"}
    edition = edition_add(labelled_set=labelled_set, sources=[source], by=admin, fractions=(1, 0, 0))
    assert set(edition_data(edition).rows().row) == {0, 1, 3, 4, 6, 7, 8, 9}
    more = [source, of_corpus(corpus, rows=[20, 21])]
    after = edition_add(labelled_set=labelled_set, sources=more, by=admin, based_on=edition)
    assert after.counts["fractions"] == {"train": 1, "val": 0, "test": 0}  # those of the edition before
    both = source | {"kinds": ["ordinary", "control"]}
    assert edition_add(labelled_set=labelled_set, sources=[both], by=admin, fractions=(1, 0, 0)).n_rows == 10


def test_confirmed_classes_are_labels(admin: User, tmp_path: Path) -> None:
    corpus = make_class_corpus(admin, tmp_path, n=30)
    labelled_set = labelled_set_create(name="classes", task="classification", taxonomy=corpus.taxonomy, by=admin)
    campaign = campaign_create(name="classes", taxonomy=corpus.taxonomy, by=admin, overlap=1)
    campaign_open(campaign=campaign, by=admin)
    items = [item_of(corpus, row) for row in range(4)]
    trials_add(campaign=campaign, trials=[TrialSpec(item, (0, 1)) for item in items], by=admin)
    answers = {0: (True, False), 1: (False, True), 2: (True, True), 3: (False, None)}
    for trial in campaign.trials.order_by("position"):
        value = {str(index): said for index, said in enumerate(answers[trial.item.row])}
        Verdict.objects.create(
            trial=trial, campaign=campaign, outcome="settled", value=value, n_judgements=5, settled_at=timezone.now()
        )
    sources = [of_corpus(corpus), {"kind": "campaign", "campaign": campaign.pk, "origin": "found", "split": "train"}]
    edition = edition_add(labelled_set=labelled_set, sources=sources, by=admin, seed=1)
    data = edition_data(edition)
    found = data.rows(origin="found")
    assert data.task == "classification"
    assert dict(zip(found.row.tolist(), found.label.tolist(), strict=True)) == {0: 0, 1: 1}
    assert edition.counts["left_out"] == {"without one confirmed class": 2}
    assert np.isnan(found.mos).all()
    assert data.rows(origin="base").label.tolist() == [0] * 10 + [1] * 10 + [2] * 10


def test_scores_of_a_measure_are_pseudo_ratings(
    corpus: Corpus, labelled_set: LabelledSet, admin: User, tmp_path: Path
) -> None:
    model = quality_model(admin, "blur effect", higher_is_better=False)
    version = checked(version_add(model=model, label="v1", kind="metric", architecture="blur_effect", by=admin))
    source = {"kind": "scores", "version": version.pk, "corpus": corpus.pk}
    with pytest.raises(DomainError, match='has no scores of "blur effect v1": run "score" first'):
        edition_add(labelled_set=labelled_set, sources=[source], by=admin)
    scored([version], corpus, admin)
    edition = edition_add(labelled_set=labelled_set, sources=[source], by=admin, seed=3)
    rows = edition_data(edition).rows()
    assert (rows.mos.min(), rows.mos.max()) == (0, 100)
    assert (rows.std == 0).all()
    sharp, soft = (rows.mos[np.array([path.endswith(f"-{level}.png") for path in rows.path])] for level in (0, 3))
    assert sharp.min() > soft.max()
    assert rows.source[0] == f"scores:{version.pk}@{corpus.pk}"


def test_what_cannot_be_learnt_from_is_refused(
    corpus: Corpus, labelled_set: LabelledSet, admin: User, tmp_path: Path
) -> None:
    def refused(sources: list[dict[str, Any]], match: str, **more: Any) -> None:
        with pytest.raises(DomainError, match=match):
            edition_add(labelled_set=labelled_set, sources=sources, by=admin, **more)

    refused([], "needs a source")
    refused([{"kind": "folder"}], 'of kind corpus, campaign, scores, not "folder"')
    refused([{"kind": "corpus"}], "names its corpus by id")
    refused([of_corpus(corpus, colour=1)], 'has no "colour": it may say')
    refused([of_corpus(corpus, origin="elsewhere")], 'Origin "elsewhere" does not exist')
    refused([{"kind": "corpus", "corpus": 999}], "no corpus 999")
    refused([{"kind": "campaign", "campaign": 999}], "no campaign 999")
    refused([{"kind": "scores", "version": 999, "corpus": corpus.pk}], "no version 999")
    refused([of_corpus(corpus), of_corpus(corpus)], "twice")
    refused([of_corpus(corpus)], "add up to 1", fractions=(0.5, 0.2, 0.2))
    refused([of_corpus(corpus, rows=[0, 1])], "split .* would be empty: its 1 groups")
    refused([of_corpus(corpus, rows=[0])], "of one opinion score, 90", fractions=(1, 0, 0))
    refused([of_corpus(corpus, contents=["nothing"])], "has no labels that can be learnt from")
    bare = blur_corpus(admin, tmp_path, name="unrated", rated=False, contents=range(3))
    refused([of_corpus(bare)], 'Corpus "unrated" has no opinion scores')
    classes = make_class_corpus(admin, tmp_path, name="classes")
    other = labelled_set_create(
        name="others", task="classification", taxonomy=make_taxonomy(admin, ["a", "b"]), by=admin
    )
    with pytest.raises(DomainError, match='"classes" is not labelled in the label space of "others"'):
        edition_add(labelled_set=other, sources=[of_corpus(classes)], by=admin)
    verify = campaign_create(name="verify", taxonomy=classes.taxonomy, by=admin)
    refused([{"kind": "campaign", "campaign": verify.pk}], "did not ask for ratings of single images")
    empty = campaign_create(name="empty", protocol="acr", by=admin)
    refused([{"kind": "campaign", "campaign": empty.pk}], "has no labels that can be learnt from")


def test_opinions_outside_their_scale_are_named(corpus: Corpus, labelled_set: LabelledSet, admin: User) -> None:
    table = pq.read_table(corpus.directory / OPINIONS)
    write_opinions(corpus.directory, table, 0.0, 50.0)
    with pytest.raises(DomainError, match='scores of corpus "blurred" reach from 0 to 50, but one is 90'):
        edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus)], by=admin)
    write_opinions(corpus.directory, table, 7.0, 7.0)
    with pytest.raises(DomainError, match="have one value, 7"):
        edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus)], by=admin)


def test_only_those_who_may_make_editions(
    corpus: Corpus, labelled_set: LabelledSet, admin: User, other_researcher: User, annotator: User
) -> None:
    with pytest.raises(Denied, match="researcher role"):
        labelled_set_create(name="mine", task="quality", by=annotator)
    with pytest.raises(Denied, match='add editions to "blur"'):
        edition_add(labelled_set=labelled_set, sources=[of_corpus(corpus)], by=other_researcher)
    own = labelled_set_create(name="own", task="quality", by=other_researcher)
    with pytest.raises(Denied, match='may not see "blurred"'):
        edition_add(labelled_set=own, sources=[of_corpus(corpus)], by=other_researcher)
    for values, match in (
        ({"name": " "}, "has no name"),
        ({"name": "blur"}, 'a labelled set "blur" already'),
        ({"task": "colours"}, 'no task "colours"'),
        ({"task": "classification"}, "need a label space"),
        ({"taxonomy": make_taxonomy(admin)}, "have no label space"),
    ):
        with pytest.raises(DomainError, match=match):
            labelled_set_create(**({"name": "new", "task": "quality", "by": admin} | values))


def test_images_that_are_gone_are_named(labelled_set: LabelledSet, admin: User, tmp_path: Path) -> None:
    place = tmp_path / "larger"
    place.mkdir()
    for number in range(4):  # of several sizes, so that the corpus keeps no copy of them
        Image.fromarray(texture(number, side=60 + number)).save(place / f"{number}.png")
    (place / "list.csv").write_text("path,mos\n" + "".join(f"{number}.png,{20 * number}\n" for number in range(4)))
    larger = imported(admin, place / "list.csv", name="larger")
    edition = edition_add(labelled_set=labelled_set, sources=[of_corpus(larger)], by=admin, fractions=(1, 0, 0))
    data = edition_data(edition)
    (place / "3.png").unlink()
    with pytest.raises(LabelsError, match=r'image "3.png" of corpus \d+ cannot be trained on'):
        data.pixels(3)
    with pytest.raises(LabelsError, match='"blur, edition 1" has 0 rows in its train split of origin "found"'):
        data.require("train", "found")
    edition.path.unlink()
    with pytest.raises(DomainError, match='"blur, edition 1" cannot be read'):
        edition_data(edition)


def test_the_command_makes_and_shows_editions(corpus: Corpus, admin: User) -> None:
    def said(*arguments: Any) -> str:
        out = StringIO()
        call_command("labelled_set", *arguments, stdout=out)
        return out.getvalue()

    assert 'Labelled set "shots" (' in said("create", "shots")
    added = said("add", "shots", "--corpus", corpus.pk, "--seed", 3)
    assert '"shots, edition 1"' in added
    assert "48 labels in 12 groups of like content" in added
    assert "edition 1" in said("add", "shots", "--based-on", 1, "--seed", 3)  # nothing new
    assert "edition 1" in said("show", "shots")
    assert "shots (Image quality" in said("show")
    with pytest.raises(CommandError, match='no labelled set "others"'):
        call_command("labelled_set", "show", "others")
    with pytest.raises(CommandError, match="has no edition 7"):
        call_command("labelled_set", "add", "shots", "--based-on", "7")


def test_few_hashes_group_as_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    phash = rng.integers(0, 2**63, 40, dtype=np.uint64)
    phash[10:20] = phash[:10] ^ np.uint64(0b1011)
    phash[20:25] = phash[10:15] ^ np.uint64(0b1111 << 20)
    phash[30] = phash[31]
    expected = near_duplicate_groups(phash)
    named = contents.near_duplicates(phash)
    found = [np.flatnonzero(named == name).tolist() for name in dict.fromkeys(named) if name]
    assert sorted(found) == expected
    assert contents.near_duplicates(phash[:0]).tolist() == []
    monkeypatch.setattr(contents, "FEW", 10)
    again = contents.near_duplicates(phash)
    assert sorted(np.flatnonzero(again == name).tolist() for name in dict.fromkeys(again) if name) == expected
