"""The common scale: monotone maps, read in blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from competition.selection.calibration import Calibrated, quantile_map
from competition.selection.columns import SelectionError
from competition.selection.gmad_columns import order_statistics
from labeling.psychometrics.logistic import CalibrationError, fit_logistic


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
    with pytest.raises((SelectionError, CalibrationError), match=message):
        quantile_map(np.array(column), model="M")


def test_a_calibrated_column_is_calibrated_as_it_is_read() -> None:
    x = np.random.default_rng(3).normal(size=1000).astype(np.float32)
    fit = fit_logistic(x[:100], 50 + 20 * np.tanh(x[:100]))
    column = Calibrated(x, fit)
    assert len(column) == 1000
    assert column.dtype == np.float32
    assert column[100:300].tolist() == fit.apply(x[100:300]).astype(np.float32).tolist()
    assert Calibrated(x.astype(np.float64), fit).dtype == np.float64
