"""The common scale: fits against a general optimiser, monotone maps, and fits that must not be used."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from competition.selection.calibration import Calibrated, CalibrationError, fit_logistic, quantile_map
from competition.selection.columns import SelectionError
from competition.selection.gmad_columns import order_statistics


def logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    return (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4))) + b2


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_the_least_squares_one(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = scale * rng.normal(3, 2, 400)
    mos = np.clip(logistic(x, 85, 12, 2.5 * scale, 0.9 * scale) + rng.normal(0, 6, 400), 0, 100)
    fit = fit_logistic(x, mos)
    with np.errstate(over="ignore"):
        expected = curve_fit(logistic, x, mos, p0=[mos.max(), mos.min(), x.mean(), x.std()], maxfev=10_000)[0]
    assert fit.converged
    assert [fit.b1, fit.b2, fit.b3 / scale, fit.b4 / scale] == pytest.approx(
        [*expected[:2], expected[2] / scale, abs(expected[3]) / scale], rel=1e-3, abs=1e-3
    )
    assert fit.rmse == pytest.approx(np.sqrt(np.mean((logistic(x, *expected) - mos) ** 2)))
    assert fit.explained == pytest.approx(1 - fit.rmse**2 / mos.var())


def test_the_fit_maps_in_order_and_leaves_gaps() -> None:
    rng = np.random.default_rng(1)
    x = rng.random(50)
    x[7] = np.nan
    fit = fit_logistic(x, 100 * np.nan_to_num(x))
    assert fit.n == 49
    grid = np.linspace(-1e6, 1e6, 2001)
    mapped = fit.apply(np.append(np.sort(np.append(grid, x[~np.isnan(x)])), np.nan))
    assert (np.diff(mapped[:-1]) >= 0).all()
    assert np.isnan(mapped[-1])
    assert np.isfinite(mapped[:-1]).all()


@pytest.mark.parametrize(
    ("x", "mos", "message"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 'model "M" has scored 4 rated images; .* needs at least 5'),
        ([1, 2, 3, 4, np.nan], [10, 20, 30, 40, 50], "has scored 4 rated images"),
        ([5] * 6, [10, 20, 30, 40, 50, 60], 'model "M": all 6 rated images have the same score, 5'),
        ([1, 2, 3, 4, 5, 6], [50] * 6, "the same MOS, 50"),
        ([1, 2, np.inf, 4, 5, -np.inf], [10, 20, 30, 40, 50, 60], 'model "M" has 2 infinite scores'),
        ([1, 2, 3, 4, 5, 6], [10, 20, 130, 40, 50, 60], "the MOS of rated image 2 is 130; MOS lie between 0 and 100"),
        ([1, 2, 3, 4, 5, 6], [10, 20, np.nan, 40, 50, 60], "the MOS of rated image 2 is nan"),
        ([1, 2, 3], [1, 2], "3 scores and 2 MOS"),
    ],
)
def test_what_cannot_be_fitted_is_named(x: list[float], mos: list[float], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        fit_logistic(x, mos, model="M")


def test_fits_that_must_not_be_used_say_why() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(200)
    falling = fit_logistic(-x, 100 * x, model="M")
    assert not falling.converged
    assert 'the fit of model "M" falls' in falling.message
    step = fit_logistic(x, np.where(x > 0.5, 90.0, 10.0), model="M")
    assert not step.converged
    assert "is a step" in step.message
    flat = fit_logistic(np.arange(200.0), 50 + np.tile([30, -30], 100), model="M")
    assert not flat.converged
    assert any(word in flat.message for word in ("flat", "falls", "step"))
    good = fit_logistic(x, 100 * x**2, model="M")
    assert good.converged
    assert good.message == ""


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 1500), st.sampled_from([1, 3, 50, 10**6]), st.booleans())
def test_the_quantile_map_keeps_the_order_and_fills_the_scale(seed: int, n: int, grain: int, narrow: bool) -> None:
    rng = np.random.default_rng(seed)
    column = (np.round(rng.normal(size=n) * grain) / grain).astype(np.float32 if narrow else np.float64)
    column[rng.random(n) < 0.1] = np.nan
    column[:2] = [-9, 9]
    mapped = quantile_map(column).apply(column)
    assert (np.isnan(mapped) == np.isnan(column)).all()
    order = np.argsort(column[~np.isnan(column)], kind="stable")
    assert (np.diff(mapped[~np.isnan(column)][order]) >= 0).all()
    assert (np.nanmin(mapped), np.nanmax(mapped)) == (0, 100)
    if grain == 10**6 and n > 500:  # hardly any ties: the place among the scores
        places = np.argsort(np.argsort(column[~np.isnan(column)])) / (np.sum(~np.isnan(column)) - 1)
        assert mapped[~np.isnan(column)] == pytest.approx(100 * places, abs=0.3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300), st.sampled_from([np.float32, np.float64]))
def test_order_statistics_are_those_of_a_sort(seed: int, n: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    column = (rng.normal(size=n) * 10.0 ** rng.integers(-30, 30, n)).astype(kind).round(rng.integers(0, 9))
    column[rng.random(n) < 0.2] = np.nan
    ordered = np.sort(column[~np.isnan(column)]).astype(np.float64)
    found = order_statistics(column, np.arange(len(ordered)), block_rows=37)
    assert found.tolist() == ordered.tolist()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, np.nan, np.nan], 'model "M" has scored 1 images'),
        ([2.0, 2.0, np.nan], 'model "M" gives every image the same score, 2'),
        ([1.0, np.inf, 3.0], 'model "M" has 1 infinite scores'),
    ],
)
def test_columns_without_quantiles_are_named(column: list[float], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        quantile_map(np.array(column), model="M")


def test_a_calibrated_column_is_calibrated_as_it_is_read() -> None:
    x = np.random.default_rng(3).normal(size=1000).astype(np.float32)
    fit = fit_logistic(x[:100], 50 + 20 * np.tanh(x[:100]))
    column = Calibrated(x, fit)
    assert len(column) == 1000
    assert column.dtype == np.float32
    assert column[100:300].tolist() == fit.apply(x[100:300]).astype(np.float32).tolist()
    assert Calibrated(x.astype(np.float64), fit).dtype == np.float64
