"""The synthetic distortions, and corpora made with them."""

import hashlib
import io
import math
import os

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from accounts.errors import Denied, DomainError
from corpora import reading
from corpora.imaging.decode import decode_rgb
from corpora.imaging.distort import DISTORTIONS, blurred, distort, fitted, jpeg2000, noisy
from corpora.importers import IMPORTERS, ImportRefused, ImportRequest, Options, Pristine
from corpora.models import Corpus, CorpusState
from corpora.photographs import package_photographs
from corpora.services import corpus_create
from jobs.inline import run_inline
from jobs.models import Job
from jobs.services import job_announce, job_cancel
from tests.corpora.pictures import encoded, photograph


@pytest.fixture(scope="module")
def pixels():
    return np.asarray(photograph(3, 96, 64))


def test_the_parameters_are_those_of_the_study():
    values = {kind.name: kind.values for kind in DISTORTIONS.values()}
    assert values["blur"] == (7, 15, 39, 91, 199)
    assert [math.log2(value) for value in values["noise"]] == [-10, -7.5, -5.5, -3.5, 0]
    assert values["jpeg"] == (43, 12, 7, 4, 0)
    assert [round(24 / ratio, 2) for ratio in values["jpeg2000"]] == [0.46, 0.16, 0.07, 0.04, 0.02]


@pytest.mark.parametrize("window", [7, 15])
def test_blur_is_a_weighted_mean_over_the_window(window, pixels):
    half, sigma = window // 2, window / 6
    offsets = range(-half, half + 1)
    weights = np.array([[math.exp(-(y * y + x * x) / (2 * sigma**2)) for x in offsets] for y in offsets])
    weights /= weights.sum()
    padded = np.pad(pixels.astype(float), ((half, half), (half, half), (0, 0)), mode="symmetric")
    expected = np.empty(pixels.shape)
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            patch = padded[y : y + window, x : x + window]
            expected[y, x] = np.einsum("ij,ijc->c", weights, patch)
    assert np.abs(blurred(pixels, window) - expected).max() <= 0.501


def test_a_window_wider_than_the_image_leaves_hardly_a_gradient(pixels):
    smooth = blurred(pixels, 199).astype(float)
    assert smooth.std(axis=(0, 1)).max() < pixels.astype(float).std(axis=(0, 1)).max() / 5
    assert np.allclose(smooth.mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), atol=12)


def test_noise_has_the_variance_it_says():
    grey = np.full((300, 400, 3), 128, np.uint8)
    for variance in DISTORTIONS["noise"].values[:3]:
        values = (noisy(grey, variance, [1, 2]).astype(float) - 128) / 255
        assert values.var() == pytest.approx(variance, rel=0.02)
        assert abs(np.corrcoef(values[..., 0].ravel(), values[..., 1].ravel())[0, 1]) < 0.02
    assert not np.array_equal(noisy(grey, 0.1, [1]), noisy(grey, 0.1, [2]))


def test_jpeg_has_the_quality_it_says(pixels):
    for level, quality in enumerate(DISTORTIONS["jpeg"].values, start=1):
        data, ending = distort(pixels, "jpeg", level, seed=0, key="a")
        expected = encoded(Image.fromarray(pixels), "JPEG", quality=max(1, int(quality)))
        tables = [Image.open(io.BytesIO(content)).quantization for content in (data, expected)]
        assert ending == "jpg"
        assert tables[0] == tables[1]


def test_jpeg2000_comes_down_to_the_ratio():
    coffee = next(photo.pixels for photo in package_photographs() if photo.name == "coffee")
    previous = 0.0
    for ratio in DISTORTIONS["jpeg2000"].values:
        buffer = io.BytesIO()
        Image.fromarray(coffee).save(
            buffer, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True
        )
        assert coffee.nbytes / len(buffer.getvalue()) == pytest.approx(ratio, rel=0.06)
        error = float(((jpeg2000(coffee, ratio).astype(float) - coffee) ** 2).mean())
        assert error > previous
        previous = error


@pytest.mark.parametrize("name", sorted(DISTORTIONS))
def test_each_level_is_worse_than_the_one_before(name):
    china = fitted(next(photo.pixels for photo in package_photographs() if photo.name == "china"), (256, 192))
    errors = []
    for level in range(1, 6):
        data, _ = distort(china, name, level, seed=1, key="china")
        errors.append(float(((decode_rgb(data).astype(float) - china) ** 2).mean()))
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_pictures_are_scaled_down_and_cropped_from_their_middle():
    wide = np.zeros((100, 400, 3), np.uint8)
    wide[:, 150:250] = 255
    assert fitted(wide, (100, 100)).shape == (100, 100, 3)
    assert fitted(wide, (100, 100)).min() == 255
    assert fitted(wide, (200, 50)).shape == (50, 200, 3)
    assert fitted(wide, (1000, 1000)).shape == wide.shape
    assert fitted(wide, (50, 400)).shape == (100, 50, 3)
    assert fitted(wide, None) is wide


def test_photographs_of_packages():
    found = package_photographs()
    assert [photo.name for photo in found] == sorted(photo.name for photo in found)
    assert {"astronaut", "chelsea", "china", "coffee", "flower", "rocket"} <= {photo.name for photo in found}
    for photo in found:
        assert photo.pixels.dtype == np.uint8
        assert photo.pixels.shape[2] == 3
        assert min(photo.pixels.shape[:2]) >= 300
        assert photo.credit
        assert photo.licence


# Corpora


NAMES = ["pristine.png"] + [
    f"{kind.name}_{level}.{kind.ending}" for kind in DISTORTIONS.values() for level in range(1, 6)
]


@pytest.fixture
def pristine(tmp_path):
    """Two photographs and what cannot be distorted."""
    folder = tmp_path / "pristine"
    folder.mkdir()
    for seed, name in enumerate(("harbour.jpg", "park.png")):
        (folder / name).write_bytes(encoded(photograph(seed), "PNG" if name.endswith("png") else "JPEG"))
    (folder / "tiny.png").write_bytes(encoded(photograph(5, 20, 20), "PNG"))
    (folder / "broken.jpg").write_bytes(b"broken")
    return folder


def sums(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.django_db
def test_a_folder_of_photographs_becomes_a_corpus(pristine, imported):
    corpus = imported(pristine, source="distorted", options={"seed": 7, "size": "64x48"})
    manifest = reading.manifest_of(corpus).slice(0, 99).to_pylist()
    assert [row["path"] for row in manifest] == [f"{photo}/{name}" for photo in ("harbour", "park") for name in NAMES]
    assert {(row["width"], row["height"]) for row in manifest} == {(64, 48)}
    assert [row["distortion"] for row in manifest[:7]] == ["pristine", *["blur"] * 5, "noise"]
    assert [row["level"] for row in manifest[:7]] == [0, 1, 2, 3, 4, 5, 1]
    assert reading.reference_rows(corpus).tolist() == [0] * 21 + [21] * 21
    assert reading.content_groups(corpus).tolist() == [0] * 21 + [1] * 21
    bad = {file["path"]: file["reason"] for file in reading.quarantine_of(corpus).slice(0, 9).to_pylist()}
    assert bad["broken"] == "not an image in a known format"
    assert "20 x 20 pixels are too few" in bad["tiny"]
    made = corpus.facts["distortions"]
    assert (made["seed"], made["size"]) == (7, [64, 48])
    assert made["kinds"][0]["values"] == [7, 15, 39, 91, 199]


@pytest.mark.django_db
def test_the_same_seed_gives_the_same_files(pristine, imported):
    first = imported(pristine, source="distorted", name="first", options={"seed": "7"})
    again = imported(pristine, source="distorted", name="again", options={"seed": "7"})
    other = imported(pristine, source="distorted", name="other", options={"seed": "8"})
    assert sums(first.directory / "files") == sums(again.directory / "files")
    assert first.digest == again.digest
    files, others = sums(first.directory / "files"), sums(other.directory / "files")
    differing = {name for name in files if files[name] != others[name]}
    assert differing == {f"{photo}/noise_{level}.png" for photo in ("harbour", "park") for level in range(1, 6)}
    assert len({files[f"{photo}/noise_5.png"] for photo in ("harbour", "park")}) == 2


@pytest.mark.django_db
def test_a_corpus_of_photographs_can_be_distorted(folder, imported):
    source = imported(folder, name="source")
    corpus = imported("", source="distorted", options={"corpus": source.pk})
    assert corpus.n_rows == 6 * 21
    paths = reading.manifest_of(corpus).column("path")
    assert [path for path in paths if path.endswith("pristine.png")][3] == "dog/d/pristine.png"
    assert np.array_equal(
        decode_rgb(corpus.directory / "files" / "cat/b/pristine.png"), decode_rgb(folder / "cat/b.png")
    )
    twice = imported("", source="distorted", name="twice", options={"corpus": corpus.pk})
    assert twice.n_rows == 6 * 21  # only the references are distorted anew


def test_making_goes_on_where_it_stopped(pristine, tmp_path):
    def request(tick):
        return ImportRequest(pristine, tmp_path / "files", tmp_path / "p.npy", Options(), tick=tick)

    calls = []

    def stop(count, unit, total):
        calls.append((count, unit, total))
        if count == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(IMPORTERS["distorted"](request(stop)).candidates)
    assert calls[0] == (0, "images distorted", 84)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "files" / "harbour").iterdir()}
    assert len(kept) == 21
    list(IMPORTERS["distorted"](request(lambda *args: None)).candidates)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert len(sums(tmp_path / "files")) == 42


def test_a_photograph_that_vanishes_is_quarantined(pristine, tmp_path):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    photographs = [Pristine("gone", gone), Pristine("here", lambda: np.asarray(photograph(1)))]
    request = ImportRequest(pristine, tmp_path / "files", tmp_path / "p.npy", pristine=lambda: photographs)
    found = list(IMPORTERS["distorted"](request).candidates)
    assert len(found) == 22
    assert (found[-1].path, found[-1].problem) == (
        "gone", "the photograph cannot be read: No such file or directory",
    )  # fmt: skip


@pytest.mark.django_db
def test_it_can_be_cancelled(pristine, admin_user):
    corpus = corpus_create(name="d", source="distorted", location=str(pristine), by=admin_user)
    job = Job.objects.about(corpus).get()
    job_announce(job_cancel(job=job, by=admin_user))
    with pytest.raises(DomainError, match="cancelled"):
        run_inline(job)
    corpus.refresh_from_db()
    assert corpus.state == CorpusState.FAILED


@pytest.mark.django_db
def test_names_that_differ_in_their_ending_stay_apart(tmp_path, imported):
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(("a.jpg", "A.png", "b.jpg")):
        (tmp_path / "in" / name).write_bytes(encoded(photograph(seed), "PNG" if name.endswith("png") else "JPEG"))
    corpus = imported(tmp_path / "in", source="distorted")
    manifest = reading.manifest_of(corpus)
    assert sorted(set(manifest.column("group"))) == ["A.png", "a.jpg", "b"]


@pytest.mark.django_db
def test_a_folder_without_photographs_is_refused(tmp_path, admin_user):
    (tmp_path / "in").mkdir()
    corpus = corpus_create(name="d", source="distorted", location=str(tmp_path / "in"), by=admin_user)
    with pytest.raises(DomainError, match="no photograph to distort"):
        run_inline(Job.objects.about(corpus).get())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "512"}, "write it like 512x384"),
        ({"size": "16x512"}, "at least 32 pixels"),
        ({"seed": "-1"}, "whole number from 0"),
        ({"corpus": "x"}, "whole number from 0"),
        ({"photographs": "web"}, "choose one of packages"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ImportRefused, match=message):
        Options.from_dict(options)


@pytest.mark.django_db
def test_where_the_photographs_are_is_said_once(pristine, admin_user, researcher, folder, imported, settings):
    with pytest.raises(DomainError, match="Say once where"):
        corpus_create(name="d", source="distorted", by=admin_user)
    with pytest.raises(DomainError, match="Say once where"):
        corpus_create(
            name="d", source="distorted", location=str(pristine), options={"photographs": "packages"}, by=admin_user
        )
    hidden = imported(folder, name="hidden")
    with pytest.raises(DomainError, match=f"no imported corpus {hidden.pk} that you may see"):
        corpus_create(name="d", source="distorted", options={"corpus": hidden.pk}, by=researcher)
    with pytest.raises(Denied):
        corpus_create(name="d", source="distorted", location=str(pristine), by=researcher)
    assert Corpus.objects.count() == 1


@pytest.mark.django_db
def test_links_are_not_followed_out_of_the_folder(pristine, researcher, settings, imported, tmp_path):
    settings.IMPORT_ROOTS = [str(pristine)]
    (tmp_path / "secret.jpg").write_bytes(encoded(photograph(9)))
    os.symlink(tmp_path / "secret.jpg", pristine / "out.jpg")
    corpus = imported(pristine, source="distorted", by=researcher)
    assert "out" not in set(reading.manifest_of(corpus).column("group"))


@pytest.mark.django_db
def test_the_command(pristine, admin_user, imported, folder):
    out = io.StringIO()
    call_command("corpus_distort", str(pristine), "--name", "d", "--size", "64x48", stdout=out, verbosity=0)
    assert 'Corpus "d"' in out.getvalue()
    assert "42 images of 2 photographs" in out.getvalue()
    imported(folder, name="source")
    call_command("corpus_distort", "--corpus", "source", "--name", "e", stdout=out, verbosity=0)
    assert Corpus.objects.get(name="e").n_rows == 126
    with pytest.raises(CommandError, match='no corpus "nothing"'):
        call_command("corpus_distort", "--corpus", "nothing", "--name", "f", stdout=out, verbosity=0)


@pytest.mark.slow
@pytest.mark.django_db
def test_photographs_of_packages_become_a_corpus(imported):
    corpus = imported("", source="distorted", options={"photographs": "packages", "size": "256x192"})
    assert corpus.n_rows == 21 * len(package_photographs())
    assert corpus.facts["distortions"]["credits"]["chelsea"] == "Stéfan van der Walt, CC0"
