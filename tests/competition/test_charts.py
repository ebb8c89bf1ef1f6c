"""What stands beside a tick is where the tick stands."""

import pytest

from competition.charts import axis


@pytest.mark.parametrize("values", [[0.021, 0.8], [0.0, 1.0], [0.3, 0.31], [-4.0, 17.0], [120.0, 980.0], [0.5]])
def test_tick_labels_say_where_ticks_stand_and_the_axis_holds_all_values(values: list[float]) -> None:
    scale = axis(values, 0.0, 1000.0)
    assert scale.low <= min(values)
    assert scale.high >= max(values)
    assert 2 <= len(scale.ticks) <= 7
    for tick in scale.ticks:
        assert scale.at(float(tick.label)) == pytest.approx(tick.at, abs=0.02)
