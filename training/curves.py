"""The metrics of a run for pages and programs: read on from where a reader stopped, and thinned.

Series: one metric of one stage over its steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.engine.metrics import read_metrics

KEYS = frozenset({"stage", "step", "t"})
POINTS = 1_500  # of a series at once: more than a plot has pixels

Point = tuple[int, float]


@dataclass
class Series:
    """A metric of a stage. ``n_points``: before thinning; ``points``: (step, value), steps ascending."""

    stage: str
    name: str
    points: list[Point] = field(default_factory=list)
    n_points: int = 0


@dataclass(frozen=True)
class Part:
    """What came after a position of the stream. position: where to read on. restarted: the run went on from an earlier
    checkpoint, so what was read before is to be forgotten: this part begins at the start."""

    position: int
    restarted: bool
    series: list[Series]

    def plain(self) -> dict[str, Any]:
        """JSON."""
        series = [vars(each) for each in self.series]
        return {"position": self.position, "restarted": self.restarted, "series": series}


def read(directory: Path, after: int = 0) -> Part:
    """What the metrics of a run's directory say after a position (0: from the start); empty before there are any."""
    found = read_metrics(directory, after)
    series = series_of(found.lines)
    for each in series:
        each.points = thin(each.points)
    return Part(found.position, found.restarted, series)


def series_of(lines: Iterable[dict[str, Any]]) -> list[Series]:
    """Series in the order in which their metrics first appear."""
    found: dict[tuple[str, str], Series] = {}
    for line in lines:
        stage, step = str(line.get("stage", "")), int(line["step"])
        for name, value in line.items():
            if name in KEYS or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            series = found.setdefault((stage, name), Series(stage, name))
            series.points.append((step, float(value)))
            series.n_points += 1
    return list(found.values())


def thin(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """At most about so many points: the first, the last, and of even stretches the lowest and the highest, so that no
    spike is lost."""
    if len(points) <= most:
        return list(points)
    n_stretches = max(1, (most - 2) // 2)
    inner = points[1:-1]
    kept = [points[0]]
    for number in range(n_stretches):
        stretch = inner[number * len(inner) // n_stretches : (number + 1) * len(inner) // n_stretches]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept.extend(sorted(ends))
    return [*kept, points[-1]]
