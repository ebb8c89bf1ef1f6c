"""Opinion scores of a corpus: as imported, attached later, refused."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

from accounts.errors import Denied, DomainError
from corpora import grouped, reading
from corpora.importers import ImportRefused, Options, Scale
from corpora.importers.opinions import Opinion, read_opinion
from corpora.opinions import histogram, summary
from corpora.services import corpus_opinions_import, corpus_opinions_preview
from tests.corpora.pictures import encoded, photograph

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


# Attached later


@pytest.fixture
def table(tmp_path):
    def write(text: str, name: str = "mos.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.django_db
def test_scores_are_attached_and_replaced_as_a_whole(imported, folder, admin_user, table):
    corpus = imported(folder)
    digest = corpus.digest
    file = table("Path,MOS,std,n\ndog/d.jpg,2,0.5,10\ncat/a.jpg,4,,\nc.jpg,3,0.1,4\nelsewhere.jpg,1,,\n")
    plan = corpus_opinions_preview(corpus=corpus, file=file, by=admin_user, low=1, high=5)
    assert (plan.n_lines, plan.n_matched, plan.n_by_name, plan.n_unmatched) == (4, 3, 1, 1)
    assert (plan.unmatched, plan.problems) == (["elsewhere.jpg"], [])
    assert reading.opinions_of(corpus) is None
    corpus_opinions_import(corpus=corpus, file=file, by=admin_user, low=1, high=5)
    corpus.refresh_from_db()
    first = reading.opinion_table(corpus)
    assert (first.rows.tolist(), first.mos.tolist(), first.count.tolist()) == ([0, 2, 3], [4, 3, 2], [0, 4, 10])
    assert (corpus.n_rated, corpus.digest) == (3, digest)
    assert corpus.facts["opinions"]["source"] == "mos.csv"
    corpus_opinions_import(corpus=corpus, file=table("path,mos\ncat/b.png,80\ndog/d.jpg,20\n"), by=admin_user)
    second = reading.opinion_table(corpus)
    assert (second.rows.tolist(), second.mos.tolist()) == ([1, 3], [80, 20])
    assert (second.low, second.high) == (20, 80)
    assert corpus.n_rated == 2


@pytest.mark.django_db
def test_attached_scores_can_be_turned_round(imported, folder, admin_user, table):
    corpus = imported(folder)
    file = table("path,mos,std\ncat/a.jpg,90,4\ncat/b.png,10,5\n")
    corpus_opinions_import(corpus=corpus, file=file, by=admin_user, low=0, high=100, higher_is_worse=True)
    found = reading.opinion_table(corpus)
    assert (found.mos.tolist(), found.std.tolist()) == ([10, 90], [4, 5])
    assert corpus.facts["opinions"]["higher_is_worse"] is True


@pytest.mark.django_db
def test_a_file_with_something_wrong_changes_nothing(rated, admin_user, table):
    before = reading.opinion_table(rated)
    file = table(
        "path,mos,std,n\n"
        "cat/a.jpg,nan,,\n"
        "cat/b.png,bad,,\n"
        "cat/c.jpg,3,-1,\n"
        "dog/e f.jpg,5.5,,\n"
        "cat/a.jpg,3,,\n"
        "./cat/a.jpg,3,,\n"
        ",3,,\n"
        "../x.jpg,3,,\n"
        "cat/c.jpg,3,1,0\n"
    )
    plan = corpus_opinions_preview(corpus=rated, file=file, by=admin_user, low=1, high=5)
    assert plan.problems == [
        'row 1 ("cat/a.jpg"): mos is "nan", which is no finite number',
        'row 2 ("cat/b.png"): mos is "bad", which is no number',
        'row 3 ("cat/c.jpg"): mos_std is -1: a standard deviation is 0 or more',
        'row 4 ("dog/e f.jpg"): mos is 5.5, outside its scale from 1 to 5',
        "row 7: the path is empty",
        f'row 8 ("../x.jpg"): outside "{rated.root}", which the paths of this list are relative to',
        'row 9 ("cat/c.jpg"): mos_n is 0: a number of ratings is a whole number from 1 upwards',
        'row 6: "cat/a.jpg" is rated by row 5 already',
    ]
    with pytest.raises(DomainError, match=r'"mos.csv" cannot be used: row 1 .*; 5 more like it'):
        corpus_opinions_import(corpus=rated, file=file, by=admin_user, low=1, high=5)
    assert reading.opinion_table(rated) is before


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("path,score\ncat/a.jpg,3\n", {}, 'name the column of mean opinion scores "mos"'),
        ("name,mos\ncat/a.jpg,3\n", {}, 'no column "path"'),
        ("path,mos\n", {}, "has no score"),
        ("path,mos\nx.jpg,3\ny.jpg,4\n", {}, 'No path of "mos.csv" is a row .* the first is "x.jpg"'),
        ("path,mos\ncat/a.jpg,3\n", {"low": 1.0}, "two ends"),
        ("path,mos\ncat/a.jpg,3\n", {"higher_is_worse": True}, "only with the scale's ends"),
    ],
)
def test_tables_that_cannot_be_attached(text, values, message, imported, folder, admin_user, table):
    corpus = imported(folder)
    with pytest.raises(DomainError, match=message):
        corpus_opinions_import(corpus=corpus, file=table(text), by=admin_user, **values)
    assert reading.opinions_of(corpus) is None


@pytest.mark.django_db
def test_a_file_name_that_two_rows_have_matches_neither(imported, folder, admin_user, table):
    (folder / "dog/a.jpg").write_bytes(encoded(photograph(40)))
    corpus = imported(folder)
    plan = corpus_opinions_preview(corpus=corpus, file=table("path,mos\na.jpg,3\nd.jpg,2\n"), by=admin_user)
    assert (plan.n_matched, plan.n_by_name, plan.unmatched) == (1, 1, ["a.jpg"])


@pytest.mark.django_db
def test_names_without_their_ending_match_too(imported, folder, admin_user, table):
    (folder / "dog/c.png").write_bytes(encoded(photograph(41), "PNG"))
    corpus = imported(folder)
    file = table("image_name,mos\nd,2\ne f,3\nc,1\nc.png,4\n")
    plan = corpus_opinions_preview(corpus=corpus, file=file, by=admin_user)
    paths = reading.manifest_of(corpus).column("path").tolist()
    matched = {paths[row["row"]]: row["mos"] for row in plan.table.to_pylist()}
    assert matched == {"dog/d.jpg": 2, "dog/e f.jpg": 3, "dog/c.png": 4}
    assert plan.unmatched == ["c"]


@pytest.mark.django_db
def test_parquet_with_gaps_is_a_table_too(imported, folder, admin_user, tmp_path):
    corpus = imported(folder)
    columns = {"image": ["cat/a.jpg", "cat/b.png"], "mos": [3.5, None], "sd": [0.5, None], "count": [12.0, None]}
    pq.write_table(pa.table(columns), tmp_path / "mos.parquet")
    corpus_opinions_import(corpus=corpus, file=tmp_path / "mos.parquet", by=admin_user)
    found = reading.opinion_table(corpus)
    assert (found.rows.tolist(), found.mos.tolist(), found.count.tolist()) == ([0], [3.5], [12])


@pytest.mark.django_db
def test_only_editors_attach_scores(imported, folder, researcher, table):
    corpus = imported(folder, is_public=True)
    with pytest.raises(Denied, match="attach opinion scores to"):
        corpus_opinions_import(corpus=corpus, file=table("path,mos\ncat/a.jpg,3\n"), by=researcher)


@pytest.mark.django_db
def test_the_command_says_what_it_does(imported, folder, admin_user, table):
    corpus = imported(folder)
    file = table("path,mos\ncat/a.jpg,3\ngone.jpg,4\n")
    out = io.StringIO()
    call_command("corpus_opinions", "birds", str(file), "--dry-run", stdout=out)
    assert "2 rows: 1 matched (0 by file name alone), 1 not in the corpus" in out.getvalue()
    assert "not in the corpus: gone.jpg" in out.getvalue()
    assert reading.opinions_of(corpus) is None
    call_command("corpus_opinions", "birds", str(file), "--low", "1", "--high", "5", stdout=out)
    assert "1 of 6 images are rated" in out.getvalue()
    with pytest.raises(CommandError, match='no corpus "fish"'):
        call_command("corpus_opinions", "fish", str(file), stdout=out)
    with pytest.raises(CommandError, match="outside its scale"):
        call_command("corpus_opinions", "birds", str(file), "--low", "1", "--high", "2", stdout=out)
