"""The explorer of quality models: pairs with which one would falsify the other, before any label is spent.

Attack: in a level of the defender, the image that the attacker finds best and the one it finds worst. Both versions of
a pair attack. A worker selects the attacks once per corpus and pair of score tables, as a competition would, and keeps
them as a small file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from django.urls import reverse

from accounts.errors import DomainError
from corpora.models import Corpus
from corpora.reading import content_groups, opinion_table, records_of
from models_zoo.models import Scores, Version
from models_zoo.reading import oriented

if TYPE_CHECKING:
    from competition.selection.calibration import QuantileMap
    from competition.selection.gmad import Selection
    from jobs.context import JobContext
    from labeling.psychometrics.logistic import Logistic

LEVELS = 6
HALF_WIDTH = 9.0  # as in the study
PER_LEVEL = 20  # disjoint pairs of each attacker in each level
ROW = np.dtype(
    [
        ("attacker", "u1"), ("level", "u1"), ("rank", "<u2"), ("best", "<i8"), ("worst", "<i8"),
        ("attacker_best", "<f4"), ("attacker_worst", "<f4"), ("defender_best", "<f4"), ("defender_worst", "<f4"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Attacks:
    """rows: (n,) structured as ``ROW``, the widest gaps of the attacker first; ``attacker`` is 0 or 1, a place in the
    pair of versions. counts: (2, levels) images in the levels of each as a defender. calibration: "logistic" or
    "quantile", of both."""

    rows: np.ndarray
    counts: list[list[int]]
    calibration: str
    n_rows: int

    def filtered(self, *, attacker: int | None = None, level: int | None = None) -> np.ndarray:
        """Positions of the rows that pass."""
        kept = np.ones(len(self.rows), dtype=np.bool_)
        if attacker is not None:
            kept &= self.rows["attacker"] == attacker
        if level is not None:
            kept &= self.rows["level"] == level
        return np.flatnonzero(kept)


def attacks_find(
    corpus: Corpus, pair: Sequence[Version], scores: Sequence[Scores], context: "JobContext"
) -> tuple[np.ndarray, dict[str, Any]]:
    """(rows, facts) of the attacks of two versions upon each other.

    Raises:
        DomainError: one of them scores everything alike.
    """
    from competition.selection.calibration import Calibrated
    from competition.selection.columns import SelectionError
    from competition.selection.gmad import select
    from labeling.psychometrics.logistic import CalibrationError

    names = [str(version) for version in pair]
    columns = [oriented(each) for each in scores]
    try:
        scales, kind = _scales(corpus, names, columns)
        found = select(
            [Calibrated(column, scale) for column, scale in zip(columns, scales, strict=True)],
            names=names,
            levels=LEVELS,
            half_width=HALF_WIDTH,
            top=PER_LEVEL,
            groups=content_groups(corpus),
            progress=lambda done, total: context.report(done=done, total=total, unit="rows", message="Comparing"),
        )
    except (CalibrationError, SelectionError) as error:
        raise DomainError(f"{error}.") from error
    facts = {"n_rows": found.n_rows, "counts": found.levels.count.tolist(), "calibration": kind}
    return _rows(found), facts


def _scales(
    corpus: Corpus, names: Sequence[str], columns: Sequence[np.ndarray]
) -> tuple[Sequence["Logistic | QuantileMap"], str]:
    """One kind of scale for both: logistic where the corpus has opinion scores that both can be fitted to."""
    from competition.selection.calibration import quantile_map
    from labeling.psychometrics.logistic import CalibrationError, fit_logistic

    quantiles = [quantile_map(column, model=name) for name, column in zip(names, columns, strict=True)]
    if not corpus.n_rated:
        return quantiles, "quantile"
    rated = opinion_table(corpus)
    ratings = 100 * (rated.mos - rated.low) / (rated.high - rated.low)
    try:
        fitted = [fit_logistic(column[rated.rows], ratings) for column in columns]
    except CalibrationError:
        return quantiles, "quantile"
    return (fitted, "logistic") if all(each.converged for each in fitted) else (quantiles, "quantile")


def _rows(found: "Selection") -> np.ndarray:
    rows = np.empty(len(found.pairs), ROW)
    for name in ROW.names or ():
        rows[name] = getattr(found.pairs, name)
    gap = rows["attacker_best"] - rows["attacker_worst"]
    return rows[np.lexsort((rows["level"], rows["attacker"], -gap))]


def tiles(corpus: Corpus, found: Attacks, positions: np.ndarray, pair: Sequence[Version]) -> list[dict[str, Any]]:
    """What the page and the API show of some attacks."""
    chosen = found.rows[positions]
    rows = sorted({int(row) for name in ("best", "worst") for row in chosen[name]})
    records = dict(zip(rows, records_of(corpus, rows, ["path", "width"]), strict=True))
    return [
        {
            "attacker": pair[int(line["attacker"])],
            "defender": pair[1 - int(line["attacker"])],
            "level": int(line["level"]),
            "rank": int(line["rank"]),
            **{end: _picture(corpus, int(line[end]), records) for end in ("best", "worst")},
            **{
                f"{role}_{end}": float(line[f"{role}_{end}"])
                for role in ("attacker", "defender")
                for end in ("best", "worst")
            },
        }
        for line in chosen
    ]


def _picture(corpus: Corpus, row: int, records: dict[int, dict[str, Any]]) -> dict[str, Any]:
    record = records[row]
    thumbnail = reverse("corpora:row_thumbnail", args=[corpus.pk, row])
    return {"row": row, "path": record["path"], "width": record["width"], "thumbnail": thumbnail}
