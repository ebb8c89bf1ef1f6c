"""What people said of a corpus's images: mean opinion scores by row, in `opinions.parquet` beside the manifest.

Columns: row, mos (higher = better), mos_std (of the ratings), mos_n (how many ratings); the last two null where
unknown. The file's metadata hold the ends of the scale, `low` and `high`. Rows ascend; rows without an opinion are
absent. The file is the only one that may change after an import, and it changes as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpora.manifest import OPINION_FIELDS, write_table

OPINIONS = "opinions.parquet"
SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False), *OPINION_FIELDS])

NO_OPINION = {"mos": None, "mos_std": None, "mos_n": None}

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OpinionTable:
    """The rated rows of a corpus.

    rows: (n,) int64, ascending; mos: (n,) float64, higher = better; std: (n,) float64, of the ratings, NaN where
    unknown; count: (n,) int64 ratings, 0 where unknown; low, high: ends of the scale.
    """

    rows: Rows
    mos: Floats
    std: Floats
    count: Rows
    low: float
    high: float

    def __len__(self) -> int:
        return len(self.rows)

    def of_row(self, row: int) -> dict[str, Any]:
        """The columns mos, mos_std, mos_n of one row; None where there is nothing to say."""
        place = int(np.searchsorted(self.rows, row))
        if place == len(self.rows) or self.rows[place] != row:
            return dict(NO_OPINION)
        std, count = float(self.std[place]), int(self.count[place])
        return {"mos": float(self.mos[place]), "mos_std": None if np.isnan(std) else std, "mos_n": count or None}


def write_opinions(directory: Path, table: pa.Table, low: float, high: float) -> int:
    """Keep a table of `SCHEMA`, in any order of rows, in place of what there is. The number of rows."""
    schema = SCHEMA.with_metadata({"low": repr(low), "high": repr(high)})
    ordered = table.select(SCHEMA.names).sort_by("row").cast(SCHEMA).replace_schema_metadata(schema.metadata)
    return write_table(directory / OPINIONS, schema, [ordered])


def read_opinions(directory: Path) -> OpinionTable:
    """Raises FileNotFoundError when the corpus has none."""
    file = directory / OPINIONS
    return _read(file, file.stat().st_mtime_ns)


def span(mos: Sequence[float] | Floats, low: float | None, high: float | None) -> tuple[float, float]:
    """The scale's ends; where they are not given, the lowest and the highest score."""
    if low is not None and high is not None:
        return low, high
    values = np.asarray(mos, dtype=np.float64)
    return float(values.min()), float(values.max())


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram. low <= score < high (the last one includes its end); share: of the tallest bar."""

    low: float
    high: float
    count: int
    share: float


def histogram(table: OpinionTable, n_bars: int = 20) -> list[Bar]:
    """How many rows have which MOS, over the whole scale."""
    high = table.high if table.high > table.low else table.low + 1
    counts, edges = np.histogram(table.mos, bins=n_bars, range=(table.low, high))
    tallest = max(1, int(counts.max()))
    return [
        Bar(float(edges[i]), float(edges[i + 1]), int(count), int(count) / tallest) for i, count in enumerate(counts)
    ]


def summary(table: OpinionTable) -> dict[str, float | int | None]:
    """n, mean, lowest and highest MOS, mean standard deviation of the ratings, and how many ratings; None = unknown."""
    known = ~np.isnan(table.std)
    return {
        "n": len(table),
        "mean": float(table.mos.mean()),
        "lowest": float(table.mos.min()),
        "highest": float(table.mos.max()),
        "mean_std": float(table.std[known].mean()) if known.any() else None,
        "ratings": int(table.count.sum()) or None,
    }


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> OpinionTable:
    table = pq.read_table(file)
    ends = table.schema.metadata
    arrays = (
        table["row"].to_numpy(),
        table["mos"].to_numpy(),
        table["mos_std"].to_numpy(),
        table["mos_n"].fill_null(0).to_numpy().astype(np.int64),
    )
    rows, mos, std, count = (np.array(array) for array in arrays)
    for array in (rows, mos, std, count):
        array.flags.writeable = False  # shared between requests
    return OpinionTable(rows, mos, std, count, low=float(ends[b"low"]), high=float(ends[b"high"]))
