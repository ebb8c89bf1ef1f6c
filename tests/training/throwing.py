"""Methods that stand in folders of the tests; without Django, for processes that have only the engine."""

from pathlib import Path

import training.methods
from training.engine import registry

THROWN = Path(__file__).parent / "thrown"


def add_methods(folder: Path) -> None:
    """Make the packages of a folder methods."""
    training.methods.__path__.append(str(folder))
    registry._discover.cache_clear()
