"""What stands beside a tick is where the tick stands; labels of points are readable; bars say what people said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from competition.charts import LABEL_HEIGHT, LABEL_WIDTH, axis, preference, preference_at, scatter


@pytest.mark.parametrize("values", [[0.021, 0.8], [0.0, 1.0], [0.3, 0.31], [-4.0, 17.0], [120.0, 980.0], [0.5]])
def test_tick_labels_say_where_ticks_stand_and_the_axis_holds_all_values(values: list[float]) -> None:
    scale = axis(values, 0.0, 1000.0)
    assert scale.low <= min(values)
    assert scale.high >= max(values)
    assert 2 <= len(scale.ticks) <= 7
    for tick in scale.ticks:
        assert scale.at(float(tick.label)) == pytest.approx(tick.at, abs=0.02)


POINT = st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 1), st.text("abcdefgh", min_size=1, max_size=24))


def point(x: float, y: float, half: float, name: str) -> dict[str, object]:
    return {"name": name, "x": x, "x_low": x - half, "x_high": x + half, "y": y, "y_low": y - half, "y_high": y + half}


@given(st.lists(POINT, min_size=2, max_size=16))
def test_points_stand_on_their_axes_and_their_labels_apart(points: list[tuple[float, float, float, str]]) -> None:
    plot = scatter([point(*each) for each in points])
    assert plot is not None
    spans = []
    for mark, (x, y, _, name) in zip(plot["marks"], points, strict=True):
        assert (mark["x"], mark["y"]) == (plot["x"].at(x), plot["y"].at(y))
        assert mark["x_low"] <= mark["x"] <= mark["x_high"]
        assert mark["y_low"] >= mark["y"] >= mark["y_high"]
        width = LABEL_WIDTH * len(name)
        start = mark["label_x"] - (width if mark["anchor"] == "end" else 0)
        spans.append((start, start + width, mark["label_y"]))
    for at, (low, high, line) in enumerate(spans):
        for other_low, other_high, other in spans[:at]:
            assert high <= other_low or other_high <= low or abs(line - other) >= LABEL_HEIGHT - 0.02


def test_one_point_is_no_plot() -> None:
    assert scatter([point(0, 0, 1, "a")]) is None


def test_a_preference_stands_where_it_belongs() -> None:
    bar = preference(40.0, -30.0, 130.0, 20.0)
    assert bar["start"] < bar["low"] < bar["zero"] < bar["x"] == preference_at(40.0) < bar["high"] == bar["end"]
    assert bar["zone"] + bar["zone_width"] == pytest.approx(preference_at(20.0))
    assert preference(0.0, None, None, 20.0)["low"] is None
