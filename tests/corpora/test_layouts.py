"""Image-quality data sets as their authors ship them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from corpora import reading
from corpora.importers import IMPORTERS, ImportRefused, ImportRequest
from corpora.importers.layouts import LAYOUTS
from tests.corpora import layouts


def listed(source: str, location: Path, tmp_path: Path):
    listing = IMPORTERS[source](ImportRequest(location, tmp_path / "unpacked", tmp_path / "p.npy"))
    candidates = list(listing.candidates)
    return listing, {candidate.path: candidate for candidate in candidates}


def opinions(candidates):
    return {path: (c.mos, c.mos_std, c.mos_n) for path, c in candidates.items() if c.problem is None}


def test_koniq(tmp_path):
    listing, found = listed("koniq10k", layouts.koniq(tmp_path / "in"), tmp_path)
    assert opinions(found) == {
        "1024x768/10004473376.jpg": (3.82857142857143, 0.527278, 105),
        "1024x768/10007357496.jpg": (3.47916666666667, 0.580003, 96),
        "1024x768/826373.jpg": (2.80952380952381, 0.837241, 105),
    }
    assert (listing.scale.low, listing.scale.high, listing.scale.source) == (1, 5, "KonIQ-10k")
    assert {c.group for c in found.values()} == {None}


def test_koniq_in_the_small_resolution(tmp_path):
    root = layouts.koniq(tmp_path / "in")
    shutil.rmtree(root / "1024x768")
    _, found = listed("koniq10k", root, tmp_path)
    assert sorted(found) == [f"512x384/{name}.jpg" for name in ("10004473376", "10007357496", "826373")]


def test_spaq(tmp_path):
    listing, found = listed("spaq", layouts.spaq(tmp_path / "in"), tmp_path)
    assert opinions(found) == {"TestImage/00001.jpg": (31.29, None, None), "TestImage/00002.jpg": (72.0, None, None)}
    assert (listing.scale.low, listing.scale.high) == (0, 100)


def test_live_in_the_wild_without_the_raters_training(tmp_path):
    listing, found = listed("livewild", layouts.live_wild(tmp_path / "in"), tmp_path)
    values = np.linspace(90, 3.5, 10)[7:]
    folder = "ChallengeDB_release/Images"
    assert opinions(found) == {
        f"{folder}/{name}": (mos, mos / 5, None)
        for name, mos in zip(("3.bmp", "4.JPG", "1024.JPG"), values, strict=True)
    }
    assert listing.skipped == {"training image of the raters": 7}


def test_kadid_is_higher_for_better_images_whatever_its_column_is_called(tmp_path):
    listing, found = listed("kadid10k", layouts.kadid(tmp_path / "in"), tmp_path)
    blur = found["kadid10k/images/I02_01_05.png"]
    assert (blur.mos, blur.mos_std, blur.distortion, blur.level) == (1.1, 0.3, "Gaussian blur", 5)
    assert (blur.reference, blur.group) == ("kadid10k/images/I02.png", "i02")
    pristine = found["kadid10k/images/I02.png"]
    assert (pristine.mos, pristine.reference, pristine.group) == (None, "kadid10k/images/I02.png", "i02")
    assert (pristine.distortion, pristine.level) == ("pristine", 0)
    assert found["kadid10k/images/I01_10_02.png"].distortion == "JPEG"
    assert (listing.scale.low, listing.scale.high, listing.scale.higher_is_worse) == (1, 5, False)


def is_mean_and(spread: float, mean: float, n: int, *, squared: bool) -> bool:
    """Whether n whole numbers with this rounded mean can have this rounded (population) spread."""
    for total in range(n, 5 * n + 1):
        if round(total / n, 2) != mean:
            continue
        for squares in range(total, 25 * n + 1):
            variance = squares / n - (total / n) ** 2
            if variance >= 0 and round(variance if squared else variance**0.5, 3) == spread:
                return True
    return False


@pytest.mark.parametrize(("mean", "spread"), [(4.57, 0.496), (4.33, 0.869)])
def test_kadids_column_var_can_only_be_a_standard_deviation(mean, spread):
    assert is_mean_and(spread, mean, 30, squared=False)
    assert not is_mean_and(spread, mean, 30, squared=True)


@pytest.mark.parametrize("text", [False, True])
def test_csiq_is_turned_round(text, tmp_path):
    listing, found = listed("csiq", layouts.csiq(tmp_path / "in", text), tmp_path)
    noise = found["dst_imgs/awgn/1600.AWGN.1.png"]
    assert (noise.mos, noise.mos_std) == (pytest.approx(1 - 0.062), pytest.approx(0.061))
    assert (noise.distortion, noise.level, noise.group) == ("noise", 1, "1600")
    assert noise.reference == "src_imgs/1600.png"
    assert found["dst_imgs/jpeg2000/1600.jpeg2000.3.png"].mos == pytest.approx(0.49)
    assert found["dst_imgs/blur/boston.BLUR.5.png"].mos < found["dst_imgs/contrast/boston.contrast.2.png"].mos
    unrated = found["dst_imgs/contrast/boston.contrast.4.png"]
    assert (unrated.mos, unrated.problem, unrated.group) == (None, None, "boston")
    assert unrated.reference == "src_imgs/boston.png"
    assert found["src_imgs/boston.png"].reference == "src_imgs/boston.png"
    assert listing.scale.higher_is_worse
    assert not [c for c in found.values() if c.problem]


def test_tid_mixes_upper_and_lower_case(tmp_path):
    listing, found = listed("tid2013", layouts.tid(tmp_path / "in"), tmp_path)
    folder = "tid2013/distorted_images"
    assert opinions(found)[f"{folder}/i01_01_1.bmp"] == (5.51429, 0.13013, None)
    blur = found[f"{folder}/I01_08_5.BMP"]
    assert (blur.mos, blur.distortion, blur.level, blur.group) == (2.02564, "Gaussian blur", 5, "i01")
    assert blur.reference == "tid2013/reference_images/I01.BMP"
    sparse = found[f"{folder}/I25_24_3.bmp"]
    assert (sparse.distortion, sparse.reference) == (
        "sparse sampling and reconstruction",
        "tid2013/reference_images/i25.bmp",
    )
    assert (listing.scale.low, listing.scale.high) == (0, 9)


def test_tid_works_without_the_spread(tmp_path):
    root = layouts.tid(tmp_path / "in")
    (root / "tid2013" / "mos_std.txt").unlink()
    _, found = listed("tid2013", root, tmp_path)
    assert opinions(found)["tid2013/distorted_images/i01_01_1.bmp"] == (5.51429, None, None)


def test_images_that_were_converted_are_found_by_their_stem(tmp_path):
    root = layouts.tid(tmp_path / "in")
    for file in (root / "tid2013").rglob("*.[bB][mM][pP]"):
        layouts.picture(file.with_suffix(".png"))
        file.unlink()
    _, found = listed("tid2013", root, tmp_path)
    assert opinions(found)["tid2013/distorted_images/i01_01_1.png"] == (5.51429, 0.13013, None)
    assert found["tid2013/distorted_images/i01_01_1.png"].reference == "tid2013/reference_images/I01.png"


@pytest.mark.parametrize(("source", "make"), [("kadid10k", layouts.kadid), ("spaq", layouts.spaq)])
@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive_of_it_works_as_well(source, make, kind, tmp_path):
    root = make(tmp_path / "in")
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), kind, root))
    _, from_folder = listed(source, root, tmp_path)
    _, from_archive = listed(source, archive, tmp_path)
    assert from_archive == from_folder


# What is wrong with it


def test_ratings_and_images_that_do_not_match(tmp_path):
    root = layouts.kadid(tmp_path / "in")
    (root / "kadid10k/images/I01_01_01.png").unlink()
    layouts.picture(root / "kadid10k/images/I09_01_01.png")
    with (root / "kadid10k/dmos.csv").open("a") as file:
        file.write("I01_01_05.png,I01.png,2.2,0.1\nI02_10_02.png,I02.png,3,0.1\n")
    _, found = listed("kadid10k", root, tmp_path)
    assert found["I01_01_01.png"].problem == "rated by the annotation, but there is no such image"
    assert found["I01_01_05.png"].problem == "rated twice by the annotation; the first rating is taken"
    assert found["kadid10k/images/I01_01_05.png"].mos == 1.1
    stranger = found["kadid10k/images/I09_01_01.png"]
    assert (stranger.problem, stranger.mos, stranger.group) == (None, None, None)


@pytest.mark.parametrize(
    ("dmos", "var", "problem"),
    [
        ("5.2", "0.1", "mos is 5.2, outside its scale from 1 to 5"),
        ("nan", "0.1", 'mos is "nan", which is no finite number'),
        ("good", "0.1", 'mos is "good", which is no number'),
        ("4", "-0.1", "mos_std is -0.1: a standard deviation is 0 or more"),
    ],
)
def test_bad_scores_quarantine_their_image(dmos, var, problem, tmp_path):
    root = layouts.kadid(tmp_path / "in")
    table = root / "kadid10k/dmos.csv"
    table.write_text(
        table.read_text().replace("I01_01_01.png,I01.png,4.57,0.496", f"I01_01_01.png,I01.png,{dmos},{var}")
    )
    _, found = listed("kadid10k", root, tmp_path)
    assert found["kadid10k/images/I01_01_01.png"].problem == problem
    assert len(opinions(found)) == 7


@pytest.mark.parametrize("source", sorted(LAYOUTS))
def test_a_folder_that_is_something_else_is_refused_in_words(source, tmp_path):
    layouts.picture(tmp_path / "in" / "a.jpg")
    with pytest.raises(ImportRefused, match=r"does not hold .*: there is no file"):
        listed(source, tmp_path / "in", tmp_path)


def test_damaged_annotations_are_refused_in_words(tmp_path):
    root = layouts.spaq(tmp_path / "spaq")
    (root / "Annotations/MOS and Image attribute scores.xlsx").write_bytes(b"no workbook")
    with pytest.raises(ImportRefused, match="is no Excel workbook"):
        listed("spaq", root, tmp_path)
    root = layouts.live_wild(tmp_path / "live")
    savemat(root / "ChallengeDB_release/Data/AllMOS_release.mat", {"AllMOS_release": np.ones((1, 4))})
    with pytest.raises(ImportRefused, match="do not belong together: 10 names, but 4, 10 numbers"):
        listed("livewild", root, tmp_path)
    (root / "ChallengeDB_release/Data/AllMOS_release.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    with pytest.raises(ImportRefused, match="is no MATLAB 5 file"):
        listed("livewild", root, tmp_path)
    root = layouts.tid(tmp_path / "tid")
    (root / "tid2013/mos_std.txt").write_text("0.1\n")
    with pytest.raises(ImportRefused, match=r"1 lines.*3"):
        listed("tid2013", root, tmp_path)
    root = layouts.koniq(tmp_path / "koniq")
    (root / "koniq10k_scores_and_distributions.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ImportRefused, match="no header with the columns image_name, MOS"):
        listed("koniq10k", root, tmp_path)


# As corpora


@pytest.mark.django_db
def test_references_and_groups_become_arrays(imported, tmp_path):
    corpus = imported(layouts.csiq(tmp_path / "in"), source="csiq")
    paths = reading.manifest_of(corpus).column("path").tolist()
    table = reading.opinion_table(corpus)
    assert [paths[row] for row in table.rows] == sorted(path for path in paths if "dst" in path and ".4." not in path)
    assert (table.low, table.high, corpus.n_rated) == (0, 1, 4)
    references = reading.reference_rows(corpus)
    pristine = {row: path for row, path in enumerate(paths) if path.startswith("src_imgs")}
    for row, path in enumerate(paths):
        if row in pristine:
            assert references[row] == row
        else:
            assert Path(pristine[references[row]]).stem == Path(path).name.split(".")[0]
    groups = reading.content_groups(corpus)
    assert groups[references >= 0].tolist() == groups[references[references >= 0]].tolist()
    assert corpus.facts["opinions"]["higher_is_worse"] is True
    assert corpus.facts["contents"]["groups"] == 2
