"""Fixtures of this room."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    """What one test caches is not seen by the next, whose rows have the same ids."""
    cache.clear()
    yield
    cache.clear()
