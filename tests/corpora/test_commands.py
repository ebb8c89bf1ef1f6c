"""The command line."""

import io
import shutil

import pytest
from django.core.management import CommandError, call_command

from corpora.models import Corpus, CorpusState, Taxonomy
from tests.corpora.pictures import encoded, photograph

pytestmark = pytest.mark.django_db


def run(*words) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, verbosity=0)
    return out.getvalue()


def test_import_a_folder(folder, admin_user):
    said = run("corpus_import", str(folder), "--name", "birds", "--labels-from", "folder", "--public")
    corpus = Corpus.objects.get()
    assert "6 images, 6 labelled, 0 quarantined" in said
    assert (corpus.created_by, corpus.is_public, corpus.source) == (admin_user, True, "folder")


def test_the_source_is_guessed(folder, admin_user, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "in"), "gztar", folder)
    run("corpus_import", archive, "--name", "archive")
    (folder / "l.csv").write_text("path,label\ncat/a.jpg,tabby\n")
    run("corpus_import", str(folder / "l.csv"), "--name", "list", "--taxonomy", "imagenet1k")
    assert dict(Corpus.objects.values_list("source", "n_rows")) == {"archive": 6, "list": 1}
    assert Corpus.objects.get(name="list").n_labelled == 1


def test_a_broken_off_import_goes_on(tmp_path, admin_user):
    (tmp_path / "in").mkdir()
    with pytest.raises(CommandError, match="holds no image"):
        run("corpus_import", str(tmp_path / "in"), "--name", "birds")
    (tmp_path / "in/a.jpg").write_bytes(encoded(photograph()))
    run("corpus_import", str(tmp_path / "in"), "--name", "birds")
    assert Corpus.objects.get().state == CorpusState.READY


def test_what_is_wrong_is_said(folder, db, admin_user):
    run("corpus_import", str(folder), "--name", "birds")
    with pytest.raises(CommandError, match='named "birds" already'):
        run("corpus_import", str(folder), "--name", "birds")
    with pytest.raises(CommandError, match='no account "nobody"'):
        run("corpus_import", str(folder), "--name", "b", "--user", "nobody")
    with pytest.raises(CommandError, match='no taxonomy "shapes"'):
        run("corpus_import", str(folder), "--name", "b", "--taxonomy", "shapes")


def test_no_account_yet(folder, db):
    with pytest.raises(CommandError, match="createsuperuser"):
        run("corpus_import", str(folder), "--name", "birds")


def test_taxonomies(tmp_path, admin_user):
    (tmp_path / "shapes.csv").write_text("child,parent,class\na,root,0\nb,root,1\n")
    (tmp_path / "plain.txt").write_text("x\ny\n")
    assert "2 classes" in run("taxonomy_import", str(tmp_path / "shapes.csv"))
    assert "2 classes" in run("taxonomy_import", str(tmp_path / "plain.txt"), "--name", "plain")
    assert "1,000 classes" in run("taxonomy_import", "imagenet1k")
    assert set(Taxonomy.objects.values_list("name", flat=True)) == {"shapes", "plain", "ImageNet-1k"}
    with pytest.raises(CommandError, match="already"):
        run("taxonomy_import", str(tmp_path / "shapes.csv"))
