"""Where a model competed: told by rooms above this one, which register who knows.

>>> appearances_register(lambda versions, user: [...])   # in the upper room's AppConfig.ready
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accounts.models import User
    from models_zoo.models import Version


@dataclass(frozen=True)
class Appearance:
    """One version in one competition, as its newest leaderboard says.

    ``rank``, ``rank_best``, ``rank_worst``: 1 is first, None before the first leaderboard; ``n_entrants``: of how many;
    ``at``: when that leaderboard was made, or the version entered.
    """

    version_id: int
    title: str
    url: str
    n_entrants: int
    at: datetime
    rank: int | None = None
    rank_best: int | None = None
    rank_worst: int | None = None


Provider = Callable[[Sequence["Version"], "User"], list[Appearance]]
_providers: list[Provider] = []


def appearances_register(provider: Provider) -> None:
    """Have ``provider(versions, user)`` asked on every model card; it returns only what the person may see."""
    if provider not in _providers:
        _providers.append(provider)


def appearances_of(versions: "Sequence[Version]", user: "User") -> list[Appearance]:
    """Where these versions competed, newest first."""
    found = [appearance for provider in _providers for appearance in provider(versions, user)]
    return sorted(found, key=lambda appearance: appearance.at, reverse=True)
