"""Every source of images, and the bad input that each can bring."""

import io
import os
import pickle  # noqa: TID251 - only to write the hostile and the harmless files that the reader must tell apart
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpora.importers import IMPORTERS, ArchiveLimits, ImportRefused, ImportRequest, Options
from corpora.importers.pickled import NotPlainData, read_plain
from tests.corpora.pictures import encoded, photograph

JPEG = encoded(photograph())


@pytest.fixture
def request_for(tmp_path):
    def make(location, **values):
        options = Options.from_dict(values.pop("options", {}))
        return ImportRequest(
            location=Path(location),
            unpacked=tmp_path / "unpacked",
            pixels=tmp_path / "packed.npy",
            options=options,
            **values,
        )

    return make


def listed(source, request):
    """(good paths in order, {bad path: reason}, the listing)"""
    listing = IMPORTERS[source](request)
    candidates = list(listing.candidates)
    bad = {candidate.path: candidate.problem for candidate in candidates if candidate.problem}
    return [candidate for candidate in candidates if not candidate.problem], bad, listing


def paths(candidates):
    return [candidate.path for candidate in candidates]


def put(folder: Path, *names: str, data: bytes = JPEG) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


# Folders


def test_folder_order_is_that_of_path_bytes(tmp_path, request_for):
    names = ["b.jpg", "a/z.jpg", "a.jpg", "a-b/c.jpg", "ä.jpg", "A.jpg", "a/b/c.jpg", "日本 語.png", "a0/x.jpg"]
    put(tmp_path / "in", *names)
    good, bad, _ = listed("folder", request_for(tmp_path / "in"))
    assert paths(good) == sorted(names, key=os.fsencode)
    assert bad == {}


def test_folder_takes_images_by_name_or_by_content_and_counts_the_rest(tmp_path, request_for):
    folder = tmp_path / "in"
    put(folder, "a.jpg", "no_ending", "odd.dat", ".hidden.jpg", ".git/b.jpg", "__MACOSX/c.jpg")
    put(folder, "notes.txt", "more.txt", "README", data=b"words")
    good, _, listing = listed("folder", request_for(folder))
    assert paths(good) == ["a.jpg", "no_ending", "odd.dat"]
    assert listing.skipped == {"hidden": 3, ".txt": 2, "no ending": 1}


def test_names_of_255_bytes_and_names_that_are_not_text(tmp_path, request_for):
    longest = "é" * 125 + "x" + ".jpg"
    assert len(longest.encode()) == 255
    put(tmp_path / "in", longest, "two  spaces .jpg", "quote\"'\\.jpg", "new\nline.jpg")
    (tmp_path / "in" / os.fsdecode(b"latin\xe9.jpg")).write_bytes(JPEG)
    good, bad, _ = listed("folder", request_for(tmp_path / "in"))
    assert longest in paths(good)
    assert len(good) == 4
    assert bad == {"latin\ufffd.jpg": "the file name is not UTF-8: rename it"}


def test_symbolic_link_loops_end(tmp_path, request_for):
    folder = tmp_path / "in"
    put(folder, "a/one.jpg", "b/two.jpg")
    os.symlink(folder, folder / "a" / "up")
    os.symlink(folder / "b", folder / "a" / "over")
    os.symlink(folder / "a", folder / "b" / "back")
    os.symlink("self.jpg", folder / "self.jpg")
    os.symlink(folder / "gone.jpg", folder / "broken.jpg")
    os.symlink(folder / "a" / "one.jpg", folder / "linked.jpg")
    good, bad, _ = listed("folder", request_for(folder))
    assert paths(good) == ["a/one.jpg", "a/over/two.jpg", "linked.jpg"]
    assert set(bad) == {"a/over/back", "a/up", "b", "broken.jpg", "self.jpg"}
    assert "read already" in bad["a/up"]
    assert bad["broken.jpg"] == bad["self.jpg"] == "broken symbolic link"


def test_links_may_not_leave_what_a_researcher_may_import(tmp_path, request_for):
    put(tmp_path, "in/a.jpg", "secret/s.jpg", "allowed/t.jpg")
    os.symlink(tmp_path / "secret", tmp_path / "in" / "s")
    os.symlink(tmp_path / "secret/s.jpg", tmp_path / "in" / "s.jpg")
    os.symlink(tmp_path / "allowed", tmp_path / "in" / "t")
    good, bad, _ = listed("folder", request_for(tmp_path / "in", within=(tmp_path / "allowed",)))
    assert paths(good) == ["a.jpg", "t/t.jpg"]
    assert set(bad) == {"s", "s.jpg"}


def test_a_folder_that_is_none(tmp_path, request_for):
    with pytest.raises(ImportRefused, match="is not a folder"):
        listed("folder", request_for(tmp_path / "gone"))


# Archives


def zip_of(path: Path, entries: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def tar_of(path: Path, entries: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


GOOD = {"x/b.jpg": JPEG, "x/a.png": encoded(photograph(1), "PNG"), "read me.txt": b"hello", ".hid.jpg": JPEG}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_archives_unpack_below_the_corpus(kind, tmp_path, request_for):
    file = tmp_path / f"in.{kind}"
    zip_of(file, GOOD) if kind == "zip" else tar_of(file, GOOD, "w:" + kind[4:])
    good, bad, listing = listed("archive", request_for(file, options={"labels_from": "folder"}))
    assert paths(good) == ["x/a.png", "x/b.jpg"]
    assert [candidate.label for candidate in good] == ["x", "x"]
    assert bad == {}
    assert listing.skipped == {".txt": 1, "hidden": 1}
    assert (listing.root / "x/b.jpg").read_bytes() == JPEG
    assert sorted(path.name for path in listing.root.rglob("*.*")) == ["a.png", "b.jpg"]


SLIPS = {
    "../out.jpg": JPEG,
    "a/../../out2.jpg": JPEG,
    "/abs.jpg": JPEG,
    "C:\\evil.jpg": JPEG,
    "..\\win.jpg": JPEG,
    "ok.jpg": JPEG,
}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_archive_writes_outside_the_corpus(kind, tmp_path, request_for):
    before = set(tmp_path.rglob("*"))
    file = tmp_path / f"in.{kind}"
    (zip_of if kind == "zip" else tar_of)(file, SLIPS)
    good, bad, listing = listed("archive", request_for(file))
    assert paths(good) == ["ok.jpg"]
    assert len(bad) == 5
    assert any("leaves the archive" in reason for reason in bad.values())
    assert any("absolute name" in reason for reason in bad.values())
    made = {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert made == {file, listing.root / "ok.jpg"}


def test_links_and_devices_in_a_tar_are_left_out(tmp_path, request_for):
    file = tmp_path / "in.tar"
    with tarfile.open(file, "w") as archive:
        for name, kind, target in [
            ("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.jpg", tarfile.LNKTYPE, "ok.jpg"),
            ("dev.jpg", tarfile.CHRTYPE, ""),
            ("dir", tarfile.SYMTYPE, "/tmp"),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        for name in ("dir/through.jpg", "ok.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(JPEG)
            archive.addfile(info, io.BytesIO(JPEG))
    good, bad, listing = listed("archive", request_for(file))
    assert paths(good) == ["dir/through.jpg", "ok.jpg"]
    assert set(bad) == {"link.jpg", "hard.jpg", "dev.jpg", "dir"}
    assert not any(path.is_symlink() for path in listing.root.rglob("*"))


def test_links_in_a_zip_are_left_out(tmp_path, request_for):
    file = zip_of(tmp_path / "in.zip", {"ok.jpg": JPEG})
    info = zipfile.ZipInfo("link.jpg")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    good, bad, _ = listed("archive", request_for(file))
    assert paths(good) == ["ok.jpg"]
    assert bad == {"link.jpg": "symbolic link or device in the archive"}


def test_one_bomb_in_a_zip_is_left_out(tmp_path, request_for):
    file = zip_of(tmp_path / "in.zip", {"bomb.bmp": bytes(30 * 2**20), "ok.jpg": JPEG})
    good, bad, listing = listed("archive", request_for(file))
    assert paths(good) == ["ok.jpg"]
    assert "200 times its size" in bad["bomb.bmp"]
    assert not (listing.root / "bomb.bmp").exists()


def test_an_entry_that_lies_about_its_size_is_left_out(tmp_path, request_for):
    file = zip_of(tmp_path / "in.zip", {"liar.bmp": bytes(3 * 2**20), "ok.jpg": JPEG})
    data = bytearray(file.read_bytes())
    size = (3 * 2**20).to_bytes(4, "little")
    while size in data:
        place = data.index(size)
        data[place : place + 4] = (1000).to_bytes(4, "little")
    file.write_bytes(data)
    good, bad, listing = listed("archive", request_for(file, limits=ArchiveLimits(ratio=10_000)))
    assert "ok.jpg" in paths(good)
    if "liar.bmp" not in bad:
        assert (listing.root / "liar.bmp").stat().st_size <= 1000


def test_too_large_an_entry_is_left_out_of_a_tar(tmp_path, request_for):
    file = tar_of(tmp_path / "in.tar.gz", {"large.bmp": bytes(50_000), "ok.jpg": JPEG}, "w:gz")
    good, bad, _ = listed("archive", request_for(file, limits=ArchiveLimits(file_bytes=40_000)))
    assert paths(good) == ["ok.jpg"]
    assert "50,000 bytes unpacked are more than the limit of 40,000" in bad["large.bmp"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ArchiveLimits(total_bytes=2 * 2**20), "more than the limit"),
        (ArchiveLimits(ratio_from=2 * 2**20), "200 times its size"),
        (ArchiveLimits(entries=3), "more than 3 entries"),
    ],
)
def test_an_archive_that_is_a_bomb_as_a_whole_stops_the_import(limits, message, tmp_path, request_for):
    file = tar_of(tmp_path / "in.tar.gz", {f"{n}.bmp": bytes(2**20) for n in range(8)}, "w:gz")
    with pytest.raises(ImportRefused, match=message):
        listed("archive", request_for(file, limits=limits))


def test_names_twice_names_too_long_and_a_file_that_is_a_folder(tmp_path, request_for):
    entries = {"a.jpg": JPEG, "x" * 256 + ".jpg": JPEG, "a.jpg/b.jpg": JPEG}
    file = zip_of(tmp_path / "in.zip", entries)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("a.jpg", b"other")
    good, bad, listing = listed("archive", request_for(file))
    assert paths(good) == ["a.jpg"]
    assert (listing.root / "a.jpg").read_bytes() == JPEG
    assert sorted(bad.values()) == [
        "its name is both a file and a folder in this archive",
        "name longer than 255 bytes",
        "the archive holds this name twice; the first one is taken",
    ]


def test_what_is_no_archive(tmp_path, request_for):
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    with pytest.raises(ImportRefused, match="neither a zip nor a tar"):
        listed("archive", request_for(tmp_path / "a.zip"))
    whole = tar_of(tmp_path / "b.tar.gz", {f"{n}.jpg": os.urandom(9000) for n in range(9)}, "w:gz").read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[:15])
    with pytest.raises(ImportRefused, match="damaged"):
        listed("archive", request_for(tmp_path / "b.tar.gz"))


@pytest.mark.parametrize(("ending", "mode"), [("tar.gz", "w:gz"), ("tar", "w")])
def test_what_stands_before_the_cut_of_a_tar_is_read(ending, mode, tmp_path, request_for):
    files = {f"{n}.jpg": JPEG[:-2] + os.urandom(9000) + JPEG[-2:] for n in range(9)}
    file = tar_of(tmp_path / f"b.{ending}", files, mode)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    good, bad, listing = listed("archive", request_for(file))
    assert 3 <= len(good) <= 4
    assert paths(good) == [f"{n}.jpg" for n in range(len(good))]
    for path in paths(good):
        assert (listing.root / path).read_bytes() == files[path]
    assert "the archive is damaged or cut off here" in bad[f"b.{ending}, the rest"]
    assert set(bad) <= {f"b.{ending}, the rest", f"{len(good)}.jpg"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_stands_before_the_cut_of_a_zip_is_read(method, tmp_path, request_for):
    file = tmp_path / "b.zip"
    files = {f"ordner/bild é {n}.jpg": JPEG[:-2] + os.urandom(9000) + JPEG[-2:] for n in range(9)}
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.mkdir("ordner")
        for name, data in files.items():
            archive.writestr(name, data)
    whole = file.read_bytes()
    for kept, n_files, lost in ((len(whole) // 2, 4, ["b.zip, the rest"]), (len(whole) - 100, 9, [])):
        file.write_bytes(whole[:kept])
        good, bad, listing = listed("archive", request_for(file))
        assert len(good) == n_files
        for path in paths(good):
            assert (listing.root / path).read_bytes() == files[path]
        assert list(bad) == lost
    file.write_bytes(whole[: len(whole) // 2].replace(files["ordner/bild é 1.jpg"][500:510], b"0123456789"))
    if method == zipfile.ZIP_STORED:
        shutil.rmtree(tmp_path / "unpacked", ignore_errors=True)
        good, bad, _ = listed("archive", request_for(file))
        assert "its check sum is wrong" in bad["ordner/bild é 1.jpg"]
    file.write_bytes(whole[:20])
    with pytest.raises(ImportRefused, match="cut off"):
        listed("archive", request_for(file))


def test_the_rest_of_a_cut_zip_that_was_streamed_is_lost(tmp_path, request_for):
    class Pipe(io.RawIOBase):
        """Cannot be rewound, so that sizes stand behind the content."""

        def __init__(self):
            self.data = bytearray()

        def writable(self):
            return True

        def write(self, data):
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("a.jpg", JPEG)
        archive.writestr("b.jpg", JPEG)
    (tmp_path / "c.zip").write_bytes(pipe.data[:-30])
    with pytest.raises(ImportRefused, match=r'the size of "a.jpg" stands in the missing end'):
        listed("archive", request_for(tmp_path / "c.zip"))


def test_a_damaged_entry_of_a_zip_is_left_out(tmp_path, request_for):
    noise = os.urandom(5000)
    file = tmp_path / "in.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("bad.jpg", noise)
        archive.writestr("ok.jpg", JPEG)
    file.write_bytes(file.read_bytes().replace(noise[100:110], b"0123456789"))
    good, bad, _ = listed("archive", request_for(file))
    assert paths(good) == ["ok.jpg"]
    assert "damaged in the archive" in bad["bad.jpg"]


# Lists


def test_a_csv_list_keeps_its_order_and_columns(tmp_path, request_for):
    put(tmp_path / "in", "z.jpg", "a b/c.jpg", "q.jpg")
    (tmp_path / "in/list.csv").write_text(
        "\ufeffPath,label,mos,reference,group,other\nz.jpg,3,4.5,ref.png,g1,x\n./a b/c.jpg,,,,,\nq.jpg,cat,,,,\n",
        encoding="utf-8",
    )
    good, bad, listing = listed("list", request_for(tmp_path / "in/list.csv"))
    assert bad == {}
    assert [(c.path, c.label, c.mos, c.reference, c.group) for c in good] == [
        ("z.jpg", "3", 4.5, "ref.png", "g1"),
        ("a b/c.jpg", None, None, None, None),
        ("q.jpg", "cat", None, None, None),
    ]
    assert listing.root == tmp_path / "in"


def test_a_parquet_list_with_gaps_in_its_labels(tmp_path, request_for):
    put(tmp_path, "a.jpg", "b.jpg")
    table = pa.table({"image": ["b.jpg", "a.jpg"], "label": [1.0, float("nan")], "mos": [2.5, None]})
    pq.write_table(table, tmp_path / "list.parquet")
    good, _, _ = listed("list", request_for(tmp_path / "list.parquet"))
    assert [(c.path, c.label, c.mos) for c in good] == [("b.jpg", "1", 2.5), ("a.jpg", None, None)]


def test_bad_rows_of_a_list_are_told_apart(tmp_path, request_for):
    put(tmp_path, "in/a.jpg", "in/b.jpg", "secret.jpg")
    rows = ["a.jpg", "gone.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"), "", "a.jpg", "x" * 300 + ".jpg"]
    rows.append(str(tmp_path / "in/b.jpg"))
    (tmp_path / "in/list.csv").write_text("path,mos\n" + "".join(f"{row},1\n" for row in rows) + "b.jpg,much\n")
    candidates = list(IMPORTERS["list"](request_for(tmp_path / "in/list.csv")).candidates)
    assert [(c.path, c.problem) for c in candidates if c.problem is None] == [("a.jpg", None), ("b.jpg", None)]
    problems = [c.problem for c in candidates if c.problem]
    assert problems[0] == "no such file"
    assert "outside" in problems[1]
    assert "outside" in problems[2]
    assert problems[3] == "the path is empty"
    assert problems[4] == "listed twice; row 1 of the list is taken"
    assert "name too long" in problems[5]
    assert problems[6] == 'mos is "much", which is no number'


def test_lists_that_are_none(tmp_path, request_for):
    (tmp_path / "a.csv").write_text("name,label\nx,1\n")
    with pytest.raises(ImportRefused, match='no column "path": it has name, label'):
        listed("list", request_for(tmp_path / "a.csv"))
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(ImportRefused, match="is no Parquet table"):
        listed("list", request_for(tmp_path / "b.parquet"))
    (tmp_path / "c.csv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(ImportRefused, match="no CSV table in UTF-8"):
        listed("list", request_for(tmp_path / "c.csv"))


# WebDataset


def test_webdataset_groups_by_key(tmp_path, request_for):
    tar_of(
        tmp_path / "in" if (tmp_path / "in").mkdir() else tmp_path / "in/s-000001.tar",
        {"k2.jpg": JPEG, "k2.cls": b"7\n"},
    )
    tar_of(
        tmp_path / "in/s-000000.tar",
        {
            "d/k1.jpg": JPEG, "d/k1.cls": b"3", "d/k1.json": b'{"label": 9}',
            "k3.left.png": encoded(photograph(1), "PNG"), "k3.right.png": JPEG, "k3.txt": b"cat",
            "k4.jpg": JPEG, "k4.json": b'{"cls": "dog"}',
            "k5.jpg": JPEG, "k5.json": b"{broken",
            "__index__.bin": b"x",
        },
    )  # fmt: skip
    expected = [
        ("s-000000/d/k1.jpg", "3"),
        ("s-000000/k3.left.png", "cat"),
        ("s-000000/k3.right.png", "cat"),
        ("s-000000/k4.jpg", "dog"),
        ("s-000000/k5.jpg", None),
        ("s-000001/k2.jpg", "7"),
    ]
    for location in (tmp_path / "in", tmp_path / "in/s-{000000..000001}.tar"):
        good, bad, listing = listed("webdataset", request_for(location))
        assert [(c.path, c.label) for c in good] == expected
        assert bad == {}
        assert (listing.root / "s-000001/k2.jpg").read_bytes() == JPEG


def test_webdataset_with_a_missing_shard(tmp_path, request_for):
    with pytest.raises(ImportRefused, match=r"s-0.tar.* \(3 are missing\)"):
        listed("webdataset", request_for(tmp_path / "s-{0..2}.tar"))
    with pytest.raises(ImportRefused, match=r"holds no \.tar shard"):
        listed("webdataset", request_for(tmp_path))


# CIFAR


def python_batch(pixels: np.ndarray, labels: list[int], protocol: int, key: str = "labels") -> bytes:
    batch = {b"batch_label": b"batch", key.encode(): labels, b"data": pixels, b"filenames": [b"x.png"] * len(labels)}
    return pickle.dumps(batch, protocol=protocol)


def planes(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch byte for byte as Python 2's cPickle wrote the published files."""

    def text(words: bytes) -> bytes:
        return b"U" + bytes([len(words)]) + words

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07"
        + b"(K\x01" + b"M" + len(pixels).to_bytes(2, "little") + b"M" + (3072).to_bytes(2, "little") + b"\x86"
        + b"cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\t(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + pixels.nbytes.to_bytes(4, "little") + pixels.tobytes() + b"tb"
    )  # fmt: skip
    numbers = b"]q\x0a(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(" + text(b"data") + array + text(b"labels") + numbers + b"u."


def test_cifar10_as_it_was_published(images, tmp_path, request_for):
    (tmp_path / "test_batch").write_bytes(python2_batch(planes(images), [3, 1, 0, 2, 1, 9]))
    assert pickle.loads((tmp_path / "test_batch").read_bytes(), encoding="bytes")[b"labels"] == [3, 1, 0, 2, 1, 9]
    good, _, listing = listed("cifar", request_for(tmp_path))
    assert [candidate.label for candidate in good] == ["3", "1", "0", "2", "1", "9"]
    assert listing.label_names == []
    assert np.array_equal(np.load(listing.pixels), images)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_cifar10_in_its_python_layout(protocol, images, tmp_path, request_for):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(python_batch(planes(images), [3, 1, 0, 2, 1, 9], protocol))
    names = [f"n{index}".encode() for index in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol))
    for location in (folder, tmp_path):
        good, _, listing = listed("cifar", request_for(location))
        assert paths(good) == [f"test/{number:05d}.png" for number in range(6)]
        assert [candidate.label for candidate in good] == ["3", "1", "0", "2", "1", "9"]
        assert listing.label_names == [name.decode() for name in names]
        assert np.array_equal(np.load(listing.pixels), images)


def test_cifar100_takes_the_fine_labels_of_both_splits(images, tmp_path, request_for):
    for name, labels in (("train", [99, 5, 4, 3, 2, 1]), ("test", [0, 1, 2, 3, 4, 5])):
        (tmp_path / name).write_bytes(python_batch(planes(images), labels, 2, "fine_labels"))
    good, _, listing = listed("cifar", request_for(tmp_path, options={"split": "both"}))
    assert paths(good)[5:7] == ["train/00005.png", "test/00000.png"]
    assert good[0].label == "99"
    assert np.load(listing.pixels).shape == (12, 32, 32, 3)


@pytest.mark.parametrize("as_tar", [False, True])
def test_cifar_in_its_binary_layout(as_tar, images, tmp_path, request_for):
    records = {
        "test_batch.bin": b"".join(bytes([label]) + planes(images[label : label + 1]).tobytes() for label in range(6)),
        "batches.meta.txt": b"a\nb\nc\nd\ne\nf\n\n",
    }
    put(tmp_path / "in", "test_batch.bin", data=records["test_batch.bin"])
    put(tmp_path / "in", "batches.meta.txt", data=records["batches.meta.txt"])
    packed = {f"cifar-10-batches-bin/{name}": data for name, data in records.items()}
    location = tar_of(tmp_path / "c.tar.gz", packed, "w:gz") if as_tar else tmp_path / "in"
    good, _, listing = listed("cifar", request_for(location))
    assert [candidate.label for candidate in good] == list("012345")
    assert listing.label_names == list("abcdef")
    assert np.array_equal(np.load(listing.pixels), images)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/falsify-was-here",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Hostile(), b"labels": []}),
        pickle.dumps({b"data": Hostile(), b"labels": []}, 0),
        b"cos\nsystem\n(S'touch /tmp/falsify-was-here'\ntR.",
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 0]}, 2),
        pickle.dumps({b"data": np.zeros((2, 10), np.uint8), b"labels": [0, 0]}, 2),
        pickle.dumps([1, 2, 3]),
        python_batch(np.zeros((2, 3072), np.uint8), [1], 2),
        python_batch(np.zeros((2, 3072), np.uint8), [1, 1], 2)[:-500],
        b"no pickle at all",
        b"",
    ],
)
def test_hostile_and_broken_batches_run_nothing(content, tmp_path, request_for):
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(ImportRefused, match='"test_batch" is not a CIFAR batch'):
        listed("cifar", request_for(tmp_path))
    assert not Path("/tmp/falsify-was-here").exists()


def test_the_reader_of_plain_data_names_what_it_refuses():
    with pytest.raises(NotPlainData, match=r'names "\w+\.system"'):
        read_plain(pickle.dumps(Hostile()))
    loop: list = []
    loop.append(loop)
    with pytest.raises(NotPlainData, match="contains itself"):
        read_plain(pickle.dumps(loop))


@pytest.mark.parametrize("protocol", range(6))
def test_the_reader_of_plain_data_agrees_with_what_was_written(protocol):
    shared = [1, 2, "three", b"four", None, True, False, -5, 2**40, 1.0]
    shared.pop()
    value = {"a": shared, b"b": (shared, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), 3: [], "d": {}}
    assert read_plain(pickle.dumps(value, protocol)) == value


def test_what_is_no_cifar(tmp_path, request_for):
    put(tmp_path, "a.jpg")
    with pytest.raises(ImportRefused, match="does not hold CIFAR"):
        listed("cifar", request_for(tmp_path))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073 * 2 + 1))
    with pytest.raises(ImportRefused, match="no multiple of 3073"):
        listed("cifar", request_for(tmp_path))


def test_options_that_do_not_exist():
    with pytest.raises(ImportRefused, match='"colour" does not exist'):
        Options.from_dict({"colour": "red"})
    with pytest.raises(ImportRefused, match='split is "half": choose one of test, train, both'):
        Options.from_dict({"split": "half"})
