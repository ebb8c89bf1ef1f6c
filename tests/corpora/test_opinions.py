"""Opinion scores of a corpus: as imported, attached later, refused."""

import numpy as np
import pytest

from accounts.errors import DomainError
from corpora import grouped, reading
from corpora.importers import ImportRefused, Options, Scale
from corpora.importers.opinions import Opinion, read_opinion
from corpora.opinions import histogram, summary

FIVE = Scale(1, 5)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("3.5", "0.5", "12"), Opinion(3.5, 0.5, 12)),
        ((3, None, 7.0), Opinion(3.0, None, 7)),
        (("", "0.5", "12"), None),
        ((None, None, None), None),
        (("1", "", ""), Opinion(1.0)),
        (("0.99", "", ""), "mos is 0.99, outside its scale from 1 to 5"),
        (("inf", "", ""), 'mos is "inf", which is no finite number'),
        (("three", "", ""), 'mos is "three", which is no number'),
        (("3", "nan", ""), 'mos_std is "nan", which is no finite number'),
        (("3", "-1", ""), "mos_std is -1: a standard deviation is 0 or more"),
        (("3", "0", "0"), "mos_n is 0: a number of ratings is a whole number from 1 upwards"),
        (("3", "0", "2.5"), "mos_n is 2.5: a number of ratings is a whole number from 1 upwards"),
    ],
)
def test_what_cells_say(cells, expected):
    assert read_opinion(*cells, scale=FIVE) == expected


def test_scores_that_are_higher_for_worse_images_are_turned_round():
    assert read_opinion("2", "0.5", scale=Scale(1, 9, higher_is_worse=True)) == Opinion(8.0, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mos_low": "1"}, "two ends"),
        ({"mos_low": "5", "mos_high": "1"}, "the first must be the smaller"),
        ({"mos_low": "a", "mos_high": "1"}, 'mos_low is "a", which is no number'),
        ({"mos_low": "nan", "mos_high": "1"}, "which is no number"),
        ({"higher_is_worse": "yes"}, "only with the scale's ends"),
        ({"higher_is_worse": "maybe"}, "choose one of yes"),
    ],
)
def test_a_scale_that_makes_no_sense(options, message):
    with pytest.raises(ImportRefused, match=message):
        Options.from_dict(options)


# Imported


LIST = """path,mos,std,count,reference,group,distortion,level
cat/a.jpg,4.5,0.4,20,cat/a.jpg,one,pristine,0
cat/b.png,2,0.6,21,./cat/a.jpg,one,blur,3
cat/c.jpg,,,,cat/a.jpg,one,noise,1
dog/d.jpg,6,0.1,9,,two,,
dog/e f.jpg,3.25,,,gone.jpg,two,,
dog/é.jpg,x,,,,,,
"""


@pytest.fixture
def rated(folder, imported):
    (folder / "list.csv").write_text(LIST)
    return imported(folder / "list.csv", source="list", options={"mos_low": 1, "mos_high": "5"})


@pytest.mark.django_db
def test_a_list_brings_scores_references_and_groups(rated):
    table = reading.opinion_table(rated)
    assert table.rows.tolist() == [0, 1, 3]
    assert table.mos.tolist() == [4.5, 2, 3.25]
    assert table.std.tolist()[:2] == [0.4, 0.6]
    assert np.isnan(table.std[2])
    assert table.count.tolist() == [20, 21, 0]
    assert (table.low, table.high) == (1, 5)
    assert (rated.n_rated, rated.n_rows, rated.n_quarantined) == (3, 4, 2)
    assert reading.reference_rows(rated).tolist() == [0, 0, 0, -1]
    assert reading.content_groups(rated).tolist() == [0, 0, 0, 1]
    assert reading.groups_of(rated, grouped.SOURCES).rows(0).tolist() == [0, 1, 2]
    assert rated.facts["contents"]["lost_references"] == {"rows": 1, "examples": ["gone.jpg"]}
    manifest = reading.manifest_of(rated).slice(0, 4)
    assert manifest["distortion"].to_pylist() == ["pristine", "blur", "noise", None]
    assert manifest["level"].to_pylist() == [0, 3, 1, None]
    bad = {file["path"]: file["reason"] for file in reading.quarantine_of(rated).slice(0, 9).to_pylist()}
    assert bad == {
        "dog/d.jpg": "mos is 6, outside its scale from 1 to 5",
        "dog/é.jpg": 'mos is "x", which is no number',
    }


@pytest.mark.django_db
def test_without_a_given_scale_the_scores_give_it(folder, imported):
    (folder / "list.csv").write_text("path,mos\ncat/a.jpg,-7\ncat/b.png,40\n")
    corpus = imported(folder / "list.csv", source="list")
    table = reading.opinion_table(corpus)
    assert (table.low, table.high) == (-7, 40)
    assert corpus.facts["opinions"]["is_given"] is False


@pytest.mark.django_db
def test_a_corpus_without_scores_says_how_to_attach_them(imported, folder):
    corpus = imported(folder)
    with pytest.raises(DomainError, match='Corpus "birds" has no opinion scores: attach a CSV'):
        reading.opinion_table(corpus)
    assert reading.opinions_of(corpus) is None
    assert reading.reference_rows(corpus).tolist() == [-1] * 6
    assert reading.content_groups(corpus).tolist() == [-1] * 6


@pytest.mark.django_db
def test_numbers_and_pictures_of_the_scores(rated):
    table = reading.opinion_table(rated)
    assert summary(table) == {
        "n": 3, "mean": pytest.approx(3.25), "lowest": 2, "highest": 4.5, "mean_std": pytest.approx(0.5), "ratings": 41,
    }  # fmt: skip
    bars = histogram(table, 4)
    assert [(bar.low, bar.high, bar.count, bar.share) for bar in bars] == [
        (1, 2, 0, 0), (2, 3, 1, 1), (3, 4, 1, 1), (4, 5, 1, 1),
    ]  # fmt: skip
    assert table.of_row(1) == {"mos": 2, "mos_std": 0.6, "mos_n": 21}
    assert table.of_row(2) == {"mos": None, "mos_std": None, "mos_n": None}
    assert table.of_row(3) == {"mos": 3.25, "mos_std": None, "mos_n": None}
