"""Items: pictures copied for people, once, without a word about the file."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.db import connection
from PIL import Image

from accounts.errors import DomainError
from corpora.imaging.decode import decode_rgb
from corpora.models import Item
from corpora.services import RowsUnreadable, item_ensure
from tests.corpora.pictures import encoded, photograph


def stored(file) -> bytes:
    with default_storage.open(file.name) as content:
        return content.read()


@pytest.mark.django_db
def test_items_are_copied_once(imported, folder):
    corpus = imported(folder)
    items = item_ensure(corpus=corpus, rows=[4, 1, 4])
    again = item_ensure(corpus=corpus, rows=[1, 4])
    assert list(items) == [1, 4]
    assert {row: item.pk for row, item in items.items()} == {row: item.pk for row, item in again.items()}
    assert Item.objects.count() == 2
    assert (items[4].width, items[4].height) == (90, 70)
    for row, name, ending in ((1, "cat/b.png", ".png"), (4, "dog/e f.jpg", ".jpg")):
        assert items[row].image.name.endswith(ending)
        assert np.array_equal(decode_rgb(stored(items[row].image)), decode_rgb(folder / name))
        assert Image.open(io.BytesIO(stored(items[row].thumbnail))).size == (90, 70)


@pytest.mark.django_db
def test_equal_pictures_share_one_file(imported, folder):
    (folder / "dog/d.jpg").write_bytes((folder / "cat/a.jpg").read_bytes())
    items = item_ensure(corpus=imported(folder), rows=[0, 3])
    assert items[0].image.name == items[3].image.name
    assert items[0].pk != items[3].pk


@pytest.mark.django_db
def test_packed_rows_become_exact_pictures(imported, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(encoded(photograph(1, 32, 32)))
    corpus = imported(tmp_path / "in")
    item = item_ensure(corpus=corpus, rows=[0])[0]
    assert corpus.is_packed
    assert np.array_equal(decode_rgb(stored(item.image)), decode_rgb(tmp_path / "in/a.jpg"))


@pytest.mark.django_db
def test_people_see_a_turned_picture_upright(imported, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(encoded(photograph(), exif=exif))
    item = item_ensure(corpus=imported(tmp_path / "in"), rows=[0])[0]
    shown = Image.open(io.BytesIO(stored(item.image)))
    assert (item.width, item.height) == shown.size == (70, 90)
    assert not shown.getexif()


@pytest.mark.django_db
def test_files_that_vanished_or_changed_are_said_after_the_rest_is_done(imported, folder):
    corpus = imported(folder)
    (folder / "cat/a.jpg").unlink()
    (folder / "cat/b.png").write_bytes(encoded(photograph(77), "PNG"))
    with pytest.raises(RowsUnreadable, match=r"Row 0 of corpus .*; 1 more like it") as error:
        item_ensure(corpus=corpus, rows=[0, 1, 2])
    assert error.value.rows == {
        0: "the file cannot be read: No such file or directory",
        1: "the file has changed since the import",
    }
    assert list(Item.objects.values_list("row", flat=True)) == [2]


@pytest.mark.django_db
def test_rows_that_do_not_exist(imported, folder):
    with pytest.raises(DomainError, match="row 6 does not exist: there are rows 0 to 5"):
        item_ensure(corpus=imported(folder), rows=[2, 6])


@pytest.mark.django_db(transaction=True)
def test_many_at_once_make_each_item_once(imported, folder):
    corpus = imported(folder)

    def ensure(_):
        try:
            return {row: item.pk for row, item in item_ensure(corpus=corpus, rows=range(6)).items()}
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(ensure, range(6)))
    assert all(result == results[0] for result in results)
    assert Item.objects.count() == 6
