"""Whole imports through the job: rows, labels, quarantine, breaking off and going on."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.errors import Conflict, Denied, DomainError
from corpora import grouped, importing, reading
from corpora.files import load_npy, written_whole
from corpora.importers import IMPORTERS, ImportRefused, ImportRequest, Options
from corpora.models import Corpus, CorpusState
from corpora.services import corpus_create, taxonomy_create, taxonomy_ensure_imagenet
from jobs.inline import run_inline
from jobs.models import Job
from jobs.services import job_announce, job_cancel, job_retry
from tests.corpora.pictures import encoded, photograph

pytestmark = pytest.mark.django_db


def rows_of(corpus, *columns):
    table = reading.manifest_of(corpus).slice(0, 10_000)
    return [table[column].to_pylist() for column in columns]


def test_a_folder_becomes_rows_in_the_order_of_its_paths(imported, folder):
    corpus = imported(folder, options={"labels_from": "folder"})
    names = ["cat/a.jpg", "cat/b.png", "cat/c.jpg", "dog/d.jpg", "dog/e f.jpg", "dog/é.jpg"]
    paths, rows, labels, sums = rows_of(corpus, "path", "row", "label", "sha256")
    assert corpus.state == CorpusState.READY
    assert paths == names
    assert rows == list(range(6))
    assert labels == [0, 0, 0, 1, 1, 1]
    assert sums == [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    assert [item["name"] for item in corpus.taxonomy.classes] == ["cat", "dog"]
    assert (corpus.n_rows, corpus.n_quarantined, corpus.n_labelled) == (6, 0, 6)
    assert corpus.bytes == sum(file.stat().st_size for file in folder.rglob("*.*"))
    assert reading.groups_of(corpus, grouped.LABELS).rows(1).tolist() == [3, 4, 5]
    assert not (corpus.directory / "import").exists()
    assert not (corpus.directory / "files").exists()


def test_bad_files_are_quarantined_and_the_rest_goes_on(imported, folder):
    (folder / "cut.jpg").write_bytes(encoded(photograph())[:800])
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.jpg").write_text("not an image")
    (folder / "notes.txt").write_text("notes")
    os.symlink(folder, folder / "again")
    corpus = imported(folder)
    bad = {file["path"]: file["reason"] for file in reading.quarantine_of(corpus).slice(0, 99).to_pylist()}
    assert (corpus.n_rows, corpus.n_quarantined) == (6, 4)
    assert list(bad) == ["again", "cut.jpg", "empty.png", "words.jpg"]
    assert bad["empty.png"] == "the file is empty"
    assert bad["words.jpg"] == "not an image in a known format"
    assert "damaged" in bad["cut.jpg"]
    assert corpus.facts["skipped"] == {".txt": 1}


def test_what_was_done_to_images_is_noted(imported, folder):
    (folder / "grey.jpg").write_bytes(encoded(photograph().convert("L")))
    (folder / "grey.png").write_bytes(encoded(photograph().convert("L")))
    corpus = imported(folder)
    assert corpus.facts["notes"] == {"greyscale": 2, "name says another format": 1}
    assert rows_of(corpus, "notes")[0][-2:] == ["greyscale", "name says another format; greyscale"]


def test_labels_are_found_in_a_given_taxonomy(imported, tmp_path, admin_user):
    for name in ("n02123045", "golden retriever", "281", "unicorn"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "a.jpg").write_bytes(encoded(photograph(len(name))))
    imagenet = taxonomy_ensure_imagenet(by=admin_user)
    corpus = imported(tmp_path / "in", taxonomy=imagenet, options={"labels_from": "folder"})
    assert rows_of(corpus, "label")[0] == [281, 207, 281, None]
    assert (corpus.n_rows, corpus.n_labelled) == (4, 3)
    assert corpus.facts["unknown_labels"] == {"rows": 1, "examples": ["unicorn"]}


def test_a_list_with_numbers_as_labels_needs_no_taxonomy(imported, folder):
    (folder / "list.csv").write_text("path,label,mos,reference,group\ncat/c.jpg,7,3.5,cat/a.jpg,g\ncat/a.jpg,,,,\n")
    corpus = imported(folder / "list.csv", source="list")
    assert rows_of(corpus, "path", "label", "mos", "reference", "group") == [
        ["cat/c.jpg", "cat/a.jpg"], [7, None], [3.5, None], ["cat/a.jpg", None], ["g", None],
    ]  # fmt: skip
    assert corpus.taxonomy is None


def test_the_same_classes_share_a_taxonomy(imported, folder):
    first = imported(folder, options={"labels_from": "folder"})
    second = imported(folder, name="again", options={"labels_from": "folder"})
    assert first.taxonomy == second.taxonomy


def test_tiny_images_of_one_size_are_packed(imported, tmp_path):
    (tmp_path / "in").mkdir()
    pictures = [photograph(seed, 32, 24) for seed in range(5)]
    for number, picture in enumerate(pictures):
        (tmp_path / "in" / f"{number}.png").write_bytes(encoded(picture, "PNG"))
    (tmp_path / "in" / "2x.png").write_bytes(b"broken")
    corpus = imported(tmp_path / "in")
    source = reading.row_source(corpus)
    assert corpus.is_packed
    assert len(source) == 5
    assert np.array_equal(source.read(range(1, 4)), np.stack([np.asarray(picture) for picture in pictures[1:4]]))
    assert isinstance(load_npy(corpus.directory / "packed.npy"), np.memmap)


def test_other_images_are_read_from_their_files(imported, folder):
    corpus = imported(folder)
    (folder / "cat/b.png").unlink()
    first, second, third = reading.row_source(corpus).read(range(3))
    assert first == (folder / "cat/a.jpg").read_bytes()
    assert isinstance(second, OSError)
    assert third == (folder / "cat/c.jpg").read_bytes()
    assert not corpus.is_packed


def test_cifar_is_packed_with_its_class_names(imported, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    (tmp_path / "test_batch.bin").write_bytes(b"".join(bytes([n]) + pixels[n].tobytes() for n in range(4)))
    (tmp_path / "batches.meta.txt").write_text("plane\ncar\nbird\ncat\n")
    corpus = imported(tmp_path, source="cifar")
    assert corpus.is_packed
    assert rows_of(corpus, "path", "label") == [[f"test/0000{n}.png" for n in range(4)], [0, 1, 2, 3]]
    assert [item["name"] for item in corpus.taxonomy.classes] == ["plane", "car", "bird", "cat"]


def test_near_duplicates_are_grouped(imported, folder):
    shutil.copy(folder / "cat/a.jpg", folder / "dog/copy.jpg")
    corpus = imported(folder)
    assert corpus.n_duplicate_groups == 1
    assert reading.groups_of(corpus, grouped.DUPLICATES).rows(0).tolist() == [0, 3]


# What stops an import


def fails(location, by, **values):
    corpus = corpus_create(name="birds", source="folder", location=str(location), by=by, **values)
    with pytest.raises(DomainError) as error:
        run_inline(Job.objects.about(corpus).get())
    corpus.refresh_from_db()
    assert corpus.state == CorpusState.FAILED
    return corpus, str(error.value)


def test_an_empty_corpus_says_what_was_there(tmp_path, admin_user, django_capture_on_commit_callbacks):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    with django_capture_on_commit_callbacks(execute=True):
        corpus, message = fails(tmp_path / "in", admin_user)
    assert "holds no image; left out: 1 .txt" in message
    (tmp_path / "in" / "a.jpg").write_bytes(encoded(photograph()))
    with django_capture_on_commit_callbacks(execute=True):
        run_inline(job_retry(job=Job.objects.about(corpus).get(), by=admin_user))
    corpus.refresh_from_db()
    assert (corpus.state, corpus.n_rows) == (CorpusState.READY, 1)


def test_a_corpus_of_bad_files_only_fails_and_lists_them(tmp_path, admin_user):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"")
    corpus, message = fails(tmp_path / "in", admin_user)
    assert "none of the 1 images" in message
    assert '"a.jpg": the file is empty' in message
    assert reading.quarantine_of(corpus).slice(0, 9).to_pylist() == [{"path": "a.jpg", "reason": "the file is empty"}]


def test_a_vanished_folder(tmp_path, admin_user):
    _, message = fails(tmp_path / "gone", admin_user)
    assert "is not a folder on the server" in message


def test_a_cancelled_import_has_failed(folder, admin_user):
    corpus = corpus_create(name="birds", source="folder", location=str(folder), by=admin_user)
    job = Job.objects.about(corpus).get()
    job_announce(job_cancel(job=job, by=admin_user))
    corpus.refresh_from_db()
    assert corpus.state == CorpusState.FAILED


def full_disk(monkeypatch, after: int) -> None:
    """Every file written whole has room for `after` bytes, then the disk is full."""
    original = importing.write_table
    room = [after]

    def write(target, *args, **values):
        n_rows = original(target, *args, **values)
        room[0] -= target.stat().st_size
        if room[0] < 0:
            target.unlink()
            raise OSError(errno.ENOSPC, "No space left on device")
        return n_rows

    monkeypatch.setattr(importing, "write_table", write)


@pytest.mark.parametrize("room", [0, 3_000, 8_000])
def test_a_full_disk_is_said_and_the_import_goes_on_later(room, folder, admin_user, monkeypatch, imported):
    undisturbed = imported(folder, name="undisturbed")
    with monkeypatch.context() as patch:
        full_disk(patch, room)
        corpus, message = fails(folder, admin_user)
    assert "disk is full" in message
    assert not list(corpus.directory.rglob("*.part"))
    assert not (corpus.directory / "manifest.parquet").exists()
    run_inline(job_retry(job=Job.objects.about(corpus).get(), by=admin_user))
    corpus.refresh_from_db()
    assert files_of(corpus.directory) == files_of(undisturbed.directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_disk_that_really_fills_up_leaves_nothing_half_written(tmp_path, folder):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this system allows no mount")
    try:
        place = importing.Place(disk / "corpus")
        (disk / "filler").write_bytes(bytes(48 * 1024))
        with pytest.raises(OSError, match="No space left") as error:
            run(place, folder)
        assert error.value.errno == errno.ENOSPC
        assert not list(disk.rglob("*.part"))
        assert not (place.directory / "manifest.parquet").exists()
        (disk / "filler").unlink()
        run(place, folder)
        assert (place.directory / "manifest.parquet").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Breaking off and going on


def run(place, folder, report=lambda *args, **values: None):
    place.directory.mkdir(exist_ok=True)
    place.clean()
    request = ImportRequest(folder, place.directory / "files", place.directory / "packed.npy", Options())
    listed = importing.write_listing(place, "folder", request)
    importing.write_parts(place, listed, report=report)
    return importing.merge(place, listed, {}, report=report)


def files_of(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "import" not in path.parts
    }


@pytest.fixture
def many(tmp_path):
    """Ninety tiny pictures, three of them broken."""
    for number in range(90):
        path = tmp_path / "many" / f"{number % 7}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"broken" if number % 30 == 7 else encoded(photograph(number, 16, 16), "PNG"))
    return tmp_path / "many"


def test_an_import_broken_off_anywhere_ends_in_the_same_bytes(many, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "BATCH", 8)
    whole = importing.Place(tmp_path / "whole")
    calls = []
    run(whole, many, report=lambda *args, **values: calls.append(args))
    expected = files_of(whole.directory)
    assert {"manifest.parquet", "quarantine.parquet", "packed.npy", "duplicates.rows.npy"} <= set(expected)

    class Killed(BaseException):
        pass

    for moment in range(0, len(calls), 3):
        place = importing.Place(tmp_path / f"broken-{moment}")
        seen = []

        def report(*args, seen=seen, moment=moment, **values):
            seen.append(args)
            if len(seen) == moment:
                raise Killed

        try:
            run(place, many, report)
        except Killed:
            (many / "0" / "new.png").write_bytes(encoded(photograph(99, 16, 16), "PNG"))
            run(place, many)
            (many / "0" / "new.png").unlink()
        assert files_of(place.directory) == expected


SLOW_IMPORT = """
import sys
import time
from pathlib import Path
from corpora import importing
from corpora.importers import ImportRequest, Options

inspect = importing._inspect

def slowly(*args, **values):
    time.sleep(0.02)
    return inspect(*args, **values)

importing._inspect = slowly
importing.BATCH = 8
place, folder = importing.Place(Path(sys.argv[1])), Path(sys.argv[2])
place.directory.mkdir()
request = ImportRequest(folder, place.directory / "files", place.directory / "packed.npy", Options())
listed = importing.write_listing(place, "folder", request)
importing.write_parts(place, listed, report=lambda *args, **values: None)
"""


def test_kill_9_costs_one_batch(many, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "BATCH", 8)
    whole, place = importing.Place(tmp_path / "whole"), importing.Place(tmp_path / "killed")
    run(whole, many)
    command = [sys.executable, "-c", SLOW_IMPORT, str(place.directory), str(many)]
    process = subprocess.Popen(command, cwd=Path.cwd())
    deadline = time.monotonic() + 60
    while len(list(place.work.glob("part-*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = sorted(place.work.glob("part-*.parquet"))
    assert 3 <= len(kept) < 12
    times = [file.stat().st_mtime_ns for file in kept]
    run(place, many)
    assert [file.stat().st_mtime_ns for file in kept] == times
    assert files_of(place.directory) == files_of(whole.directory)


def test_unpacking_goes_on_where_it_stopped(folder, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "in"), "zip", folder)
    target = tmp_path / "unpacked"
    request = ImportRequest(Path(archive), target, tmp_path / "p.npy")
    first = [candidate.path for candidate in IMPORTERS["archive"](request).candidates]
    kept = (target / "cat/a.jpg").stat().st_mtime_ns
    (target / "dog/d.jpg").unlink()
    (target / "cat/c.jpg").write_bytes(b"half")
    assert [candidate.path for candidate in IMPORTERS["archive"](request).candidates] == first
    assert (target / "cat/a.jpg").stat().st_mtime_ns == kept
    for name in ("dog/d.jpg", "cat/c.jpg"):
        assert (target / name).read_bytes() == (folder / name).read_bytes()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a"
    with pytest.raises(TypeError), written_whole(target) as file:
        file.writelines([b"half", "no bytes"])
    assert list(tmp_path.iterdir()) == []


# Who may import what


def test_researchers_import_from_listed_folders_only(folder, researcher, settings, var_dir):
    with pytest.raises(Denied, match="IMPORT_ROOTS"):
        corpus_create(name="birds", source="folder", location=str(folder), by=researcher)
    with pytest.raises(Denied):
        corpus_create(name="birds", source="folder", location=f"{var_dir}/inbox/../secret", by=researcher)
    settings.IMPORT_ROOTS = [str(folder.parent)]
    assert corpus_create(name="birds", source="folder", location=str(folder), by=researcher).pk
    (var_dir / "inbox").mkdir()
    os.symlink("/etc", var_dir / "inbox" / "out")
    with pytest.raises(Denied):
        corpus_create(name="etc", source="folder", location=str(var_dir / "inbox" / "out"), by=researcher)
    with pytest.raises(Denied):
        corpus_create(name="l", source="list", location=str(folder / "l.csv"), options={"root": "/etc"}, by=researcher)


def test_links_out_of_the_listed_folders_are_quarantined(folder, researcher, settings, imported, tmp_path):
    settings.IMPORT_ROOTS = [str(folder)]
    (tmp_path / "secret.jpg").write_bytes(encoded(photograph()))
    os.symlink(tmp_path / "secret.jpg", folder / "out.jpg")
    corpus = imported(folder, by=researcher)
    assert (corpus.n_rows, corpus.n_quarantined) == (6, 1)


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"name": " "}, "name", "needs a name"),
        ({"source": "video"}, "source", '"video" does not exist: choose one of folder'),
        ({"options": {"colour": "x"}}, "options", '"colour" does not exist'),
        ({"location": "photos"}, "location", "not an absolute path"),
        ({"location": ""}, "location", "not an absolute path"),
    ],
)
def test_what_is_wrong_is_said_with_the_field(values, field, message, folder, admin_user):
    given = {"name": "birds", "source": "folder", "location": str(folder), "by": admin_user, **values}
    with pytest.raises(DomainError, match=message) as error:
        corpus_create(**given)
    assert error.value.field == field
    assert not Corpus.objects.exists()


def test_names_are_taken_once(folder, admin_user):
    corpus_create(name="birds", source="folder", location=str(folder), by=admin_user)
    with pytest.raises(Conflict, match='named "birds" already'):
        corpus_create(name="birds", source="folder", location=str(folder), by=admin_user)
    assert Job.objects.count() == 1


def test_uploads_are_kept_until_they_are_imported(folder, researcher, tmp_path, var_dir):
    archive = Path(shutil.make_archive(str(tmp_path / "in"), "zip", folder))
    upload = SimpleUploadedFile("../../evil name.zip", archive.read_bytes())
    corpus = corpus_create(name="up", source="archive", upload=upload, by=researcher)
    stored = Path(corpus.location)
    assert stored.parent.parent == var_dir / "uploads"
    run_inline(Job.objects.about(corpus).get())
    corpus.refresh_from_db()
    assert corpus.n_rows == 6
    assert not stored.parent.exists()


def test_uploads_that_are_refused_leave_nothing_behind(researcher, var_dir, settings):
    with pytest.raises(DomainError, match="folder cannot be uploaded"):
        corpus_create(name="a", source="folder", upload=SimpleUploadedFile("a.zip", b"x"), by=researcher)
    settings.UPLOAD_LIMIT_BYTES = 3
    with pytest.raises(DomainError, match="is larger than"):
        corpus_create(name="a", source="archive", upload=SimpleUploadedFile("a.zip", b"four"), by=researcher)
    settings.UPLOAD_LIMIT_BYTES = 30
    corpus_create(name="a", source="archive", upload=SimpleUploadedFile("a.zip", b"x"), by=researcher)
    with pytest.raises(Conflict):
        corpus_create(name="a", source="archive", upload=SimpleUploadedFile("b.zip", b"x"), by=researcher)
    assert [path.name for path in (var_dir / "uploads").rglob("*.zip")] == ["a.zip"]


def test_too_many_labels_are_no_classes(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(importing, "MAX_CLASSES", 1)
    place = importing.Place(tmp_path / "c")
    place.directory.mkdir()
    request = ImportRequest(folder, tmp_path / "f", tmp_path / "p.npy", Options(labels_from="folder"))
    listed = importing.write_listing(place, "folder", request)
    importing.write_parts(place, listed, report=lambda *args, **values: None)
    with pytest.raises(ImportRefused, match="more than 1 different labels"):
        importing.label_names(place, listed)


def test_own_taxonomies(tmp_path, researcher):
    (tmp_path / "t.csv").write_text("child,parent,class\na,root,0\nb,root,1\n")
    tree = taxonomy_create(name="shapes", kind="tree", file=tmp_path / "t.csv", by=researcher)
    assert (tree.n_classes, tree.edges) == (2, [["a", "root"], ["b", "root"]])
    with pytest.raises(Conflict):
        taxonomy_create(name="shapes", kind="flat", names=["x"], by=researcher)
    (tmp_path / "t.csv").write_text("child,parent,class\na,b,0\nb,a,1\n")
    with pytest.raises(DomainError, match="cycle"):
        taxonomy_create(name="loop", kind="tree", file=tmp_path / "t.csv", by=researcher)
    with pytest.raises(DomainError, match="needs its CSV"):
        taxonomy_create(name="none", kind="tree", by=researcher)
