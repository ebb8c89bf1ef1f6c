"""The logistic: fits against a general optimiser, and fits that must not be used."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from labeling.psychometrics.logistic import CalibrationError, fit_logistic


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
