"""Which training runs made a version, and which took it: told by rooms above this one, which register who knows.

>>> deeds_register(lambda versions, user: [...])   # in the upper room's AppConfig.ready
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accounts.models import User
    from models_zoo.models import Version


@dataclass(frozen=True)
class Deed:
    """A run and its part in a version. what: the method's title; role: of the version in the run; is_maker: the version
    came out of it, else it went into it. explore_url: of a page where its settings can be moved; "" for none."""

    version_id: int
    title: str
    url: str
    what: str
    role: str
    is_maker: bool
    at: datetime
    explore_url: str = ""


Provider = Callable[[Sequence["Version"], "User"], list[Deed]]
_providers: list[Provider] = []


def deeds_register(provider: Provider) -> None:
    """Have ``provider(versions, user)`` asked on every version's page; it returns only what the person may see."""
    if provider not in _providers:
        _providers.append(provider)


def deeds_of(versions: "Sequence[Version]", user: "User") -> list[Deed]:
    """The runs of these versions, newest first."""
    found = [deed for provider in _providers for deed in provider(versions, user)]
    return sorted(found, key=lambda deed: deed.at, reverse=True)
