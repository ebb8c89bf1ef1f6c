"""Quality from ratings, against small matrices worked by hand, a generic optimiser, simulation and real studies."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from labeling.psychometrics.intervals import PsychometricsError
from labeling.psychometrics.mos import bias_removed_scores, maximum_likelihood_scores, mean_opinion_scores

DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", "../shared/data")) / "subjective"
ESTIMATORS = [bias_removed_scores, maximum_likelihood_scores]


def long_form(matrix):
    """(person, item, value) of a matrix (persons, items) with NaN for what a person did not see."""
    person, item = np.nonzero(~np.isnan(matrix))
    return person, item, matrix[person, item]


def simulate(seed, persons=20, items=40, bias=None, inconsistency=None, seen=1.0):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(1, 5, items)
    bias = np.zeros(persons) if bias is None else np.asarray(bias)
    inconsistency = np.full(persons, 0.5) if inconsistency is None else np.asarray(inconsistency)
    noise = inconsistency[:, None] * rng.normal(size=(persons, items))
    matrix = quality + bias[:, None] + noise
    matrix[rng.random(matrix.shape) > seen] = np.nan
    return quality, matrix


def rmse(estimate, truth):
    """Root mean square error up to the common offset that no rating can show."""
    return np.sqrt(np.mean((estimate - estimate.mean() - truth + truth.mean()) ** 2))


def read_study(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} of the optional data folder ({DATA})")
    videos = json.loads(path.read_text())["dis_videos"]
    return np.array([video["os"] for video in videos], dtype=np.float64).T  # (persons, items)


def test_mos_by_hand():
    scores = mean_opinion_scores(["b", "a", "a", "a", "c", "c"], [5, 1, 2, 3, 4, 4])
    assert scores.items.tolist() == ["a", "b", "c"]
    assert scores.quality.tolist() == [2, 5, 4]
    assert scores.error[0] == pytest.approx(1 / np.sqrt(3))
    assert scores.high[0] == pytest.approx(2 + 4.302653 / np.sqrt(3))
    assert scores.ratings.tolist() == [3, 1, 2]
    assert np.isnan([scores.low[1], scores.high[1]]).all()
    assert (scores.low[2], scores.high[2]) == (4, 4)


def test_bias_removal_by_hand():
    """Two items, two persons, one of them a whole point above: bias +-0.5, and nothing else left."""
    scores, people = bias_removed_scores(["p", "p", "q", "q"], [1, 2, 1, 2], [3, 4, 2, 3])
    assert people.bias.tolist() == pytest.approx([0.5, -0.5])
    assert scores.quality.tolist() == pytest.approx([2.5, 3.5])
    np.testing.assert_allclose(people.inconsistency, 0, atol=1e-9)
    np.testing.assert_allclose(scores.error, 0, atol=1e-9)


def test_bias_removal_is_least_squares_on_sparse_ratings():
    _, matrix = simulate(4, persons=6, items=9, bias=[1, -1, 0.5, 0, 0, 2], seen=0.6)
    person, item, value = long_form(matrix)
    design = np.zeros((value.size, 15))
    design[np.arange(value.size), item] = 1
    design[np.arange(value.size), 9 + person] = 1
    fitted = design @ np.linalg.lstsq(design, value, rcond=None)[0]
    scores, people = bias_removed_scores(person, item, value)
    np.testing.assert_allclose(scores.quality[item] + people.bias[person], fitted, atol=1e-6)


def test_published_maximum_likelihood_equals_a_generic_optimiser():
    """The likelihood has no maximum where one person's noise vanishes, hence the optimiser's bound."""
    inconsistency = np.tile([0.5, 0.8, 1.2], 5)
    _, matrix = simulate(7, persons=15, items=40, bias=np.linspace(-1, 1, 15), inconsistency=inconsistency)
    person, item, value = long_form(matrix)

    def loss(theta):
        quality, bias, log_sigma = np.split(theta, [40, 55])
        residual = value - quality[item] - bias[person]
        return (log_sigma[person] + residual**2 / np.exp(2 * log_sigma[person]) / 2).sum() + bias.sum() ** 2

    start = np.concatenate([matrix.mean(axis=0), np.zeros(30)])
    bounds = [(None, None)] * 55 + [(np.log(0.2), None)] * 15
    options = {"maxiter": 5000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-8}
    slow = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options=options)
    scores, people = maximum_likelihood_scores(person, item, value, mode="published")
    np.testing.assert_allclose(scores.quality, slow.x[:40], atol=1e-3)
    np.testing.assert_allclose(people.bias, slow.x[40:55], atol=1e-3)
    np.testing.assert_allclose(people.inconsistency, np.exp(slow.x[55:]), atol=1e-3)


def test_five_ratings_an_item_do_not_run_away():
    """With as few persons as campaigns have, the restricted fit beats plain MOS; the published one does not."""
    errors, inside = [], []
    for seed in range(15):
        rng = np.random.default_rng(100 + seed)
        inconsistency = rng.choice([0.4, 0.6, 1.2], 5)
        quality, matrix = simulate(seed, persons=5, bias=rng.normal(0, 0.4, 5), inconsistency=inconsistency)
        columns = long_form(matrix)
        restricted, _ = maximum_likelihood_scores(*columns)
        published, _ = maximum_likelihood_scores(*columns, mode="published")
        errors.append([rmse(s.quality, quality) for s in (restricted, mean_opinion_scores(*columns[1:]), published)])
        centred = restricted.quality - restricted.quality.mean() + quality.mean()
        inside.append(np.abs(centred - quality) < restricted.high - restricted.quality)
    restricted_error, mos_error, published_error = np.mean(errors, axis=0)
    assert restricted_error < 0.85 * mos_error
    assert published_error > mos_error
    assert 0.88 < np.mean(inside) < 0.98


@pytest.mark.parametrize("seed", range(3))
def test_biased_and_inconsistent_persons_are_found_and_quality_improves(seed):
    bias = np.zeros(20)
    inconsistency = np.full(20, 0.5)
    bias[3], bias[8], inconsistency[15] = 1.5, -1.5, 3.0
    quality, matrix = simulate(seed, bias=bias, inconsistency=inconsistency, seen=0.7)
    person, item, value = long_form(matrix)
    scores, people = maximum_likelihood_scores(person, item, value)
    assert people.bias.argmax() == 3
    assert people.bias.argmin() == 8
    assert people.inconsistency.argmax() == 15
    np.testing.assert_allclose(people.bias[[3, 8]] - np.median(people.bias), [1.5, -1.5], atol=0.5)
    plain = mean_opinion_scores(item, value)
    unbiased, _ = bias_removed_scores(person, item, value)
    assert rmse(scores.quality, quality) < rmse(unbiased.quality, quality) < rmse(plain.quality, quality)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_one_careful_looking_person_with_few_ratings_does_not_take_over(estimate):
    quality, matrix = simulate(1, persons=15, items=30)
    matrix[0, 2:] = np.nan
    matrix[0, :2] = quality[:2] + 2
    scores, people = estimate(*long_form(matrix))
    assert rmse(scores.quality, quality) < 0.3
    assert people.ratings[0] == 2


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_identical_ratings_have_no_bias(estimate):
    scores, people = estimate([1, 1, 2, 2], [1, 2, 1, 2], [3, 3, 3, 3])
    assert scores.quality.tolist() == [3, 3]
    assert people.bias.tolist() == [0, 0]


def test_bias_removal_reaches_the_end_where_persons_barely_overlap():
    """A chain of 60 persons, each sharing one item with the next: passes over the means would never end."""
    rng = np.random.default_rng(2)
    person = np.repeat(np.arange(60), 4)
    item = (np.arange(60)[:, None] * 3 + np.arange(4)).ravel()
    value = rng.uniform(1, 5, item.max() + 1)[item] + rng.normal(0, 1, 60)[person] + rng.normal(0, 0.3, 240)
    design = np.zeros((240, item.max() + 61))
    design[np.arange(240), item] = 1
    design[np.arange(240), item.max() + 1 + person] = 1
    fitted = design @ np.linalg.lstsq(design, value, rcond=None)[0]
    scores, people = bias_removed_scores(person, item, value)
    np.testing.assert_allclose(scores.quality[item] + people.bias[person], fitted, atol=1e-9)


def test_published_likelihood_is_the_alternation_written_out():
    """ITU-T P.910 Annex E step by step on a full matrix: quality, bias, inconsistency, until quality stands still."""
    _, matrix = simulate(3, persons=18, items=25, bias=np.linspace(-1, 1, 18), inconsistency=np.linspace(0.3, 1.5, 18))
    quality, bias = matrix.mean(axis=0), np.zeros(18)
    for _ in range(10_000):
        before = quality
        bias = (matrix - quality).mean(axis=1)
        spread = (matrix - quality - bias[:, None]).std(axis=1)
        quality = ((matrix - bias[:, None]) / spread[:, None] ** 2).sum(axis=0) / (1 / spread**2).sum()
        if np.linalg.norm(quality - before) < 1e-8:
            break
    scores, people = maximum_likelihood_scores(*long_form(matrix))
    np.testing.assert_allclose(scores.quality, quality, atol=1e-6)
    np.testing.assert_allclose(people.bias, bias, atol=1e-6)
    np.testing.assert_allclose(people.inconsistency, spread, atol=1e-6)
    np.testing.assert_allclose(scores.error, (1 / spread**2).sum() ** -0.5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_the_scale_of_the_ratings_does_not_matter(scale):
    _, matrix = simulate(5, persons=9, items=20, seen=0.8)
    person, item, value = long_form(matrix)
    for estimate in ESTIMATORS:
        plain, people = estimate(person, item, value)
        scaled, scaled_people = estimate(person, item, value * scale)
        np.testing.assert_allclose(scaled.quality / scale, plain.quality, atol=1e-6)
        np.testing.assert_allclose(scaled_people.inconsistency / scale, people.inconsistency, atol=1e-6)


def test_fifteen_ratings_an_item_call_for_the_published_likelihood():
    for persons, mode in ((15, "published"), (14, "restricted")):
        _, matrix = simulate(1, persons=persons)
        chosen = maximum_likelihood_scores(*long_form(matrix))[1]
        named = maximum_likelihood_scores(*long_form(matrix), mode=mode)[1]
        np.testing.assert_array_equal(chosen.inconsistency, named.inconsistency)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_groups_without_a_rating_in_common_are_fitted_apart_and_said(estimate):
    _, matrix = simulate(6, persons=8, items=12, bias=[2, 0, 0, 0, 1, 0, 0, 0])
    matrix[:4, 6:] = matrix[4:, :6] = np.nan
    scores, people = estimate(*long_form(matrix))
    alone, alone_people = estimate(*long_form(matrix[:4, :6]))
    assert people.bias[:4].sum() == pytest.approx(0, abs=1e-9)
    assert "2 groups of persons and items" in scores.note
    if estimate is bias_removed_scores:
        np.testing.assert_allclose(scores.quality[:6], alone.quality, atol=1e-9)
        np.testing.assert_allclose(people.bias[:4], alone_people.bias, atol=1e-9)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_one_person_is_all_quality(estimate):
    scores, people = estimate(["p"] * 3, ["a", "b", "c"], [1, 5, 3])
    assert scores.quality.tolist() == pytest.approx([1, 5, 3])
    assert people.bias.tolist() == pytest.approx([0])
    assert np.isnan(scores.error).all()
    assert scores.note


def test_items_with_one_rating_have_no_interval_and_it_is_said():
    assert "1 of 2 items have a single rating" in mean_opinion_scores(["a", "a", "b"], [1, 2, 3]).note


def test_perfect_agreement_leaves_no_inconsistency():
    matrix = np.tile([1.0, 3.0, 5.0, 2.0, 4.0, 3.0], (7, 1))
    scores, people = maximum_likelihood_scores(*long_form(matrix))
    np.testing.assert_allclose(scores.quality, matrix[0], atol=1e-9)
    np.testing.assert_allclose(people.inconsistency, 0, atol=1e-9)
    assert np.isfinite(scores.error).all()


def test_laboratory_ratings_give_the_published_means():
    folder = DATA.parent / "iqa_uhd_frames"
    if not folder.exists():
        pytest.skip(f"needs iqa_uhd_frames of the optional data folder ({DATA.parent})")
    with (folder / "ratings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "mos_ci.csv").open(newline="") as file:
        published = {row["image_name"]: float(row["mos"]) for row in csv.DictReader(file)}
    names = [row["video_name"].rpartition("\\")[2].removesuffix(".png']") for row in rows]
    scores = mean_opinion_scores(names, [float(row["rating"]) for row in rows])
    assert len(scores.items) == len(published) == 371
    np.testing.assert_allclose(scores.quality, [published[name] for name in scores.items.tolist()], atol=1e-12)


@pytest.mark.parametrize("name", ["nflx_public_raw.json", "vqeg_hd3_raw.json"])
def test_real_studies(name):
    """On complete real data all three agree on the order, and the fits leave the overall mean alone."""
    matrix = read_study(name)
    person, item, value = long_form(matrix)
    plain = mean_opinion_scores(item, value)
    np.testing.assert_allclose(plain.quality, matrix.mean(axis=0))
    for estimate in ESTIMATORS:
        scores, people = estimate(person, item, value)
        assert spearmanr(scores.quality, plain.quality).statistic > 0.98
        assert abs(people.bias.mean()) < 1e-6
        assert scores.error.mean() < plain.error.mean()
    unbiased, _ = bias_removed_scores(person, item, value)
    np.testing.assert_allclose(unbiased.quality, plain.quality, atol=1e-6)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([1, 2], [1, 1], [3.0, np.nan]), "rating 1 is nan"),
        (([1, 2], [1, 1], [3.0]), "differ in shape"),
        (([1], [1, 1], [3.0, 2.0]), "differ in shape"),
        (([], [], []), "no ratings"),
    ],
)
def test_bad_columns_are_refused(columns, message):
    with pytest.raises(PsychometricsError, match=message):
        maximum_likelihood_scores(*columns)


def test_unknown_mode_is_refused():
    with pytest.raises(PsychometricsError, match='unknown mode "bayes"'):
        maximum_likelihood_scores([1, 2], [1, 1], [3, 4], mode="bayes")
