"""Opinion scores as sources write them: read, checked against their scale, turned to higher = better."""

import math
from dataclasses import dataclass
from typing import Any

from corpora.importers.base import Scale

MOS, STD, COUNT = ("mos",), ("mos_std", "std", "sd"), ("mos_n", "n", "count")  # names of the columns in tables


@dataclass(frozen=True)
class Opinion:
    """mos: higher = better; std: of the ratings; n: how many ratings."""

    mos: float
    std: float | None = None
    n: int | None = None


def read_opinion(mos: Any, std: Any = None, n: Any = None, *, scale: Scale) -> Opinion | str | None:
    """The opinion that three cells give; None where the first is empty; what is wrong with them as a text.

    Cells are texts, numbers or None.
    """
    score, problem = number(mos, "mos")
    spread, std_problem = number(std, "mos_std")
    ratings, n_problem = number(n, "mos_n")
    problem = problem or std_problem or n_problem
    if problem:
        return problem
    if score is None:
        return None
    if scale.low is not None and scale.high is not None and not scale.low <= score <= scale.high:
        return f"mos is {score:g}, outside its scale from {scale.low:g} to {scale.high:g}"
    if spread is not None and spread < 0:
        return f"mos_std is {spread:g}: a standard deviation is 0 or more"
    if ratings is not None and (ratings < 1 or ratings != int(ratings)):
        return f"mos_n is {ratings:g}: a number of ratings is a whole number from 1 upwards"
    return Opinion(scale.oriented(score), spread, None if ratings is None else int(ratings))


def opinion_columns(opinion: Opinion) -> dict[str, Any]:
    """The opinion as fields of a Candidate."""
    return {"mos": opinion.mos, "mos_std": opinion.std, "mos_n": opinion.n}


def number(cell: Any, name: str) -> tuple[float | None, str | None]:
    """(the finite number in a cell or None where it is empty, what is wrong)."""
    text = "" if cell is None else str(cell).strip()
    if not text:
        return None, None
    try:
        value = float(text)
    except ValueError:
        return None, f'{name} is "{text}", which is no number'
    return (value, None) if math.isfinite(value) else (None, f'{name} is "{text}", which is no finite number')
