"""The kinds of competition, by name: what each asks, of whom, and how its leaderboard comes about."""

from competition.kinds.base import Kind
from competition.kinds.gmad import GMAD
from competition.kinds.mad import MAD
from competition.kinds.self_gmad import SELF_GMAD
from competition.kinds.self_mad import SELF_MAD

KINDS: dict[str, Kind] = {kind.name: kind for kind in (MAD, GMAD, SELF_GMAD, SELF_MAD)}
