"""Numbers and arrays as JSON has them."""

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Arrays become lists, numpy scalars Python's, NaN and infinity None; at any depth of lists."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
