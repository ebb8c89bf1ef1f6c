"""BRISQUE and NIQE against slow recomputations with scipy, scikit-learn's machines and people's ratings."""

import csv
import tarfile

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import brentq
from scipy.special import gamma
from scipy.stats import gennorm, spearmanr
from skimage import data
from sklearn.datasets import load_sample_image
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVR

from corpora.imaging.decode import decode_rgb
from models_zoo.metrics import UnsuitableImage, UnsuitableParams, get
from models_zoo.metrics.brisque import BrisqueParams, brisque_features, brisque_fit, brisque_load
from models_zoo.metrics.naturalness import fit
from models_zoo.metrics.niqe import NiqeParams, niqe_blocks, niqe_fit, niqe_load
from models_zoo.metrics.planes import halve, luminance
from tests.models_zoo.metrics.pictures import NAMES, SHARED, as_jpeg, blurred, constant, noisy, photograph
from tests.models_zoo.metrics.slow import slow_brisque, slow_halve, slow_niqe_blocks

PUBLISHED = SHARED / "biqa_params"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"needs the published parameters in {PUBLISHED}")
# With the published parameters: BRISQUE by libsvm 3.37 (svm_predict on our features, which piq 0.8.0's equal to 2e-4),
# NIQE by pyiqa 0.1.16 (its resize works in float32, and it lets rounding errors of flat areas take part).
JUDGED = [("astronaut", 2.866283, 3.068545), ("coffee", 30.065964, 4.058429), ("chelsea", 2.572592, 2.572079)]


def sums_of(values):
    below, above = np.minimum(values, 0), np.maximum(values, 0)
    return np.array([(below**2).sum(), (above**2).sum(), np.abs(values).sum(), (values < 0).sum(), (values > 0).sum()])


@pytest.fixture(scope="module")
def published_brisque(tmp_path_factory):
    """The two published files, one after the other."""
    path = tmp_path_factory.mktemp("params") / "brisque.txt"
    names = ("brisque_feature_range.txt", "brisque_svr_model.txt")
    path.write_text("".join((PUBLISHED / name).read_text() for name in names))
    return path


# the shared statistics


@pytest.mark.parametrize("shape", [0.5, 0.8, 1, 2, 3.7])
def test_the_shape_of_a_known_distribution_is_found(shape):
    values = gennorm.rvs(shape, size=400_000, random_state=4)
    fits = fit(sums_of(values), len(values))
    assert fits.shape_ggd == pytest.approx(shape, rel=0.03)
    assert fits.shape == pytest.approx(shape, rel=0.03)
    assert fits.power == pytest.approx(gennorm.var(shape), rel=0.03)


@pytest.mark.parametrize("shape", [0.7, 1.4, 2.5])
def test_both_sides_of_an_asymmetric_distribution_are_found(shape):
    values = np.abs(gennorm.rvs(shape, size=400_000, random_state=5))
    left_share = 0.5 / (0.5 + 1.5)  # the density is continuous at 0, so the wider side holds more
    values = np.where(np.random.default_rng(6).random(len(values)) < left_share, -0.5 * values, 1.5 * values)
    fits = fit(sums_of(values), len(values))
    assert fits.shape == pytest.approx(shape, rel=0.03)
    assert fits.right / fits.left == pytest.approx(3, rel=0.02)
    assert fits.mean == pytest.approx(values.mean(), rel=0.02)


def test_the_grid_holds_the_exact_moment_match():
    values = gennorm.rvs(1.3, size=5_000, random_state=7)
    wanted = np.mean(values**2) / np.mean(np.abs(values)) ** 2
    exact = brentq(lambda a: gamma(1 / a) * gamma(3 / a) / gamma(2 / a) ** 2 - wanted, 0.2, 10)
    assert fit(sums_of(values), len(values)).shape_ggd == pytest.approx(exact, abs=0.00051)


@pytest.mark.parametrize("size", [(300, 451), (301, 450), (40, 41)])
def test_halving_is_the_published_bicubic_resize(size):
    plane = luminance(photograph("coffee"))[: size[0], : size[1]].astype(float)
    assert halve(plane).shape == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    np.testing.assert_allclose(halve(plane), slow_halve(plane), atol=1e-9)


def test_halving_is_pillows_bicubic_inside():
    plane = luminance(photograph("coffee"))
    pillow = np.asarray(Image.fromarray(plane.astype(np.float32)).resize((300, 200), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(halve(plane)[2:-2, 2:-2], pillow[2:-2, 2:-2], atol=1e-3)


# BRISQUE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spoil", [lambda image: image, lambda image: as_jpeg(image, 10)], ids=["good", "jpeg"])
def test_brisques_features_follow_their_definition(name, spoil):
    image = spoil(photograph(name))[:301, :400]
    np.testing.assert_allclose(brisque_features(image), slow_brisque(image), rtol=1e-6, atol=1e-9)


def test_black_bars_do_not_turn_rounding_errors_into_statistics():
    image = photograph("coffee").copy()
    image[:120] = 0
    np.testing.assert_allclose(brisque_features(image), slow_brisque(image), rtol=1e-6, atol=1e-9)


@needs_published
@pytest.mark.parametrize(("name", "brisque", "niqe"), JUDGED)
def test_published_models_score_as_other_programs_do(name, brisque, niqe, published_brisque):
    image = photograph(name)
    assert get("brisque").build(published_brisque)(image) == pytest.approx(brisque, abs=1e-5)
    assert get("niqe").build(PUBLISHED / "niqe_pristine_params.npz")(image) == pytest.approx(niqe, abs=4e-3)


@needs_published
def test_the_published_machine_is_read_and_evaluated_as_its_text_says(published_brisque):
    params = brisque_load(published_brisque)
    lines = published_brisque.read_text().split("SV\n")[1].splitlines()
    coefficients, support = np.zeros(len(lines)), np.zeros((len(lines), 36))
    for row, line in enumerate(lines):
        first, *pairs = line.split()
        coefficients[row] = float(first)
        for index, value in (pair.split(":") for pair in pairs):  # zeros are left out
            support[row, int(index) - 1] = float(value)
    features = brisque_features(photograph("coffee"))
    scaled = (features * params.scale + params.offset)[None]
    expected = (rbf_kernel(scaled, support, gamma=0.05) @ coefficients).item() + 153.591
    assert params.score(features) == pytest.approx(expected, abs=1e-6)


@needs_published
def test_the_published_ranges_take_each_feature_to_minus_one_and_one(published_brisque):
    params = brisque_load(published_brisque)
    first = params.scale[0], params.offset[0]  # shape, 0.338 .. 10
    assert 0.338 * first[0] + first[1] == pytest.approx(-1)
    assert 10 * first[0] + first[1] == pytest.approx(1)
    assert params.gamma == 0.05
    assert params.intercept == pytest.approx(153.591)
    assert len(params.coefficients) == 774


@needs_published
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("spoil", "steps"), [(blurred, (1, 2, 4)), (noisy, (15, 40)), (as_jpeg, (20, 5))])
def test_published_brisque_and_niqe_find_a_spoilt_photograph_worse(name, spoil, steps, published_brisque):
    measures = get("brisque").build(published_brisque), get("niqe").build(PUBLISHED / "niqe_pristine_params.npz")
    image = photograph(name)
    for measure in measures:
        scores = [measure(image), *(measure(spoil(image, step)) for step in steps)]
        assert scores == sorted(scores)


def test_a_fitted_machine_rates_as_scikit_learns_and_survives_its_file(tmp_path):
    images = [spoil(photograph(name)[:200, :200]) for name in NAMES for spoil in VERSIONS]
    mos = [rating for _ in NAMES for rating in VERSIONS.values()]
    features = np.array([brisque_features(image) for image in images])
    params = brisque_fit(features, mos, mos_range=(1, 5))
    scaled = features * params.scale + params.offset
    assert scaled.min() == pytest.approx(-1)
    assert scaled.max() == pytest.approx(1)
    judge = SVR(C=1024, gamma=0.05, epsilon=0.1).fit(scaled, 25 * (5 - np.array(mos)))
    params.save(tmp_path / "fitted.npz")
    measure = get("brisque").build(tmp_path / "fitted.npz")
    scores = [measure(image) for image in images]
    np.testing.assert_allclose(scores, judge.predict(scaled), atol=1e-6)
    assert spearmanr(scores, mos).statistic < -0.9


VERSIONS = {
    lambda image: image: 4.8,
    lambda image: blurred(image, 1): 3.6,
    lambda image: blurred(image, 3): 1.4,
    lambda image: noisy(image, 12): 3.1,
    lambda image: noisy(image, 45): 1.2,
    lambda image: as_jpeg(image, 12): 2.2,
}


@pytest.mark.parametrize(
    ("features", "mos", "words"),
    [
        (np.zeros((5, 35)), np.zeros(5), "needs features"),
        (np.zeros((5, 36)), np.zeros(4), "needs features"),
        (np.full((5, 36), np.nan), np.ones(5), "must be finite"),
        (np.zeros((5, 36)), np.full(5, 7.0), "from 7 to 7 do not fit the scale 1 to 5"),
    ],
)
def test_unusable_training_data_are_refused(features, mos, words):
    with pytest.raises(UnsuitableParams, match=words):
        brisque_fit(features, mos, mos_range=(1, 5))


@pytest.mark.parametrize("level", [0, 200])
def test_brisque_refuses_a_constant_image(level):
    with pytest.raises(UnsuitableImage, match="constant"):
        brisque_features(constant(level))


# NIQE


@pytest.mark.parametrize("name", NAMES)
def test_niqes_blocks_follow_their_definition(name):
    image = photograph(name)[:250, :310]
    features, sharpness = niqe_blocks(image)
    slow_features, slow_sharpness = slow_niqe_blocks(image)
    np.testing.assert_allclose(features, slow_features, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(sharpness, slow_sharpness, rtol=1e-9)


def test_niqes_score_is_the_distance_of_the_two_gaussians():
    rng = np.random.default_rng(8)
    pristine, features = rng.normal(size=(100, 36)), rng.normal(0.5, 2, size=(50, 36))
    params = NiqeParams(pristine.mean(0), np.cov(pristine.T))
    offset = pristine.mean(0) - features.mean(0)
    expected = np.sqrt(offset @ np.linalg.solve((np.cov(pristine.T) + np.cov(features.T)) / 2, offset))
    assert params.score(features) == pytest.approx(expected, rel=1e-9)


def test_fitting_keeps_the_sharp_blocks_of_each_photograph():
    images = [photograph("astronaut"), photograph("coffee"), photograph("chelsea")]
    kept = []
    for image in images:
        features, sharpness = slow_niqe_blocks(image)
        kept += list(features[np.isfinite(features).all(1) & (sharpness > 0.3 * sharpness.max())])
    params = niqe_fit(images, sharp=0.3)
    np.testing.assert_allclose(params.mean, np.mean(kept, axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(params.covariance, np.cov(np.array(kept).T), rtol=1e-4, atol=1e-9)


def test_niqe_fitted_to_a_handful_of_photographs_finds_spoilt_ones_worse(tmp_path):
    photographs = [photograph("astronaut"), photograph("chelsea"), photograph("rocket"), data.stereo_motorcycle()[0]]
    photographs += [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    niqe_fit(photographs, sharp=0.4).save(tmp_path / "niqe.npz")
    measure, unseen = get("niqe").build(tmp_path / "niqe.npz"), photograph("coffee")
    for spoil, steps in ((blurred, (1.5, 4)), (noisy, (20, 60)), (as_jpeg, (20, 5))):
        scores = [measure(unseen), *(measure(spoil(unseen, step)) for step in steps)]
        assert scores == sorted(scores)


def test_too_few_blocks_to_fit_are_refused():
    with pytest.raises(UnsuitableParams, match=r"more than 36 sharp blocks.*have"):
        niqe_fit([photograph("chelsea")])
    with pytest.raises(UnsuitableParams, match="have 0"):
        niqe_fit([])


def test_niqe_leaves_flat_blocks_out():
    image = photograph("chelsea").copy()
    image[:96] = 40
    image[96:99] = 40
    features, sharpness = niqe_blocks(image)
    assert len(features) == len(sharpness) == 8  # of twelve
    np.testing.assert_allclose(features, niqe_blocks(image)[0])


@needs_published
def test_niqe_refuses_an_image_with_less_than_two_textured_blocks():
    measure = get("niqe").build(PUBLISHED / "niqe_pristine_params.npz")
    with pytest.raises(UnsuitableImage, match="96 x 96 pixels: it needs two with texture, this image has 1"):
        measure(photograph("chelsea")[:150, :150])
    with pytest.raises(UnsuitableImage, match="this image has 0"):
        measure(constant(side=300))


@needs_published
@pytest.mark.skipif(not (SHARED / "iqa_uhd_frames").is_dir(), reason=f"needs the rated frames in {SHARED}")
def test_published_models_agree_with_peoples_ratings(published_brisque):
    """Frames of several resolutions, each shown at full screen height: so they are scaled to one size first."""
    folder = SHARED / "iqa_uhd_frames"
    with (folder / "mos_ci.csv").open(newline="") as file:
        mos = {row["image_name"]: float(row["mos"]) for row in csv.DictReader(file)}
    measures = get("brisque").build(published_brisque), get("niqe").build(PUBLISHED / "niqe_pristine_params.npz")
    rows = []
    with tarfile.open(folder / "images.tar") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name)[::8]:
            frame = Image.fromarray(decode_rgb(archive.extractfile(member).read()))
            shown = np.asarray(frame.resize((896, 896), Image.Resampling.BICUBIC))
            name = member.name.removeprefix("images/").removesuffix(".jpg")
            rows.append((mos[name], *(measure(shown) for measure in measures)))
    ratings, brisque, niqe = np.array(rows).T
    assert spearmanr(brisque, ratings).statistic < -0.75
    assert spearmanr(niqe, ratings).statistic < -0.8


# files


def test_niqes_parameters_are_read_under_the_published_names_too(tmp_path):
    mean, covariance = np.arange(36.0), np.eye(36)
    np.savez(tmp_path / "published.npz", mu_pris_param=mean[None], cov_pris_param=covariance)
    NiqeParams(mean, covariance).save(tmp_path / "ours.npz")
    for name in ("published.npz", "ours.npz"):
        read = niqe_load(tmp_path / name)
        np.testing.assert_array_equal(read.mean, mean)
        np.testing.assert_array_equal(read.covariance, covariance)


def test_brisques_parameters_survive_their_file(tmp_path):
    rng = np.random.default_rng(9)
    params = BrisqueParams(rng.normal(size=(7, 36)), rng.normal(size=7), 3.5, 0.05, np.ones(36), np.zeros(36))
    params.save(tmp_path / "brisque.npz")
    features = rng.normal(size=36)
    assert brisque_load(tmp_path / "brisque.npz").score(features) == params.score(features)
