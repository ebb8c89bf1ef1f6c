import pytest

from corpora import reading
from corpora.models import CorpusState, Item
from corpora.services import item_ensure

pytestmark = pytest.mark.django_db


def test_a_folder_becomes_rows_in_the_order_of_its_paths(imported, folder):
    corpus = imported(folder, options={"labels_from": "folder"})
    manifest = reading.manifest_of(corpus)
    table = manifest.slice(0, 10)
    assert corpus.state == CorpusState.READY
    assert table["path"].to_pylist() == ["cat/a.jpg", "cat/b.png", "cat/c.jpg", "dog/d.jpg", "dog/e f.jpg", "dog/é.jpg"]
    assert table["row"].to_pylist() == list(range(6))
    assert table["label"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert [item["name"] for item in corpus.taxonomy.classes] == ["cat", "dog"]
    assert (corpus.n_rows, corpus.n_quarantined, corpus.n_labelled) == (6, 0, 6)
    assert corpus.bytes == sum(file.stat().st_size for file in folder.rglob("*.*"))
    assert not (corpus.directory / "import").exists()


def test_items_are_copied_once(imported, folder):
    corpus = imported(folder)
    items = item_ensure(corpus=corpus, rows=[4, 1, 4])
    again = item_ensure(corpus=corpus, rows=[1, 4])
    assert list(items) == [1, 4]
    assert {row: item.pk for row, item in items.items()} == {row: item.pk for row, item in again.items()}
    assert Item.objects.count() == 2
    assert items[1].image.name.endswith(".png")
    assert items[4].image.name.endswith(".jpg")
