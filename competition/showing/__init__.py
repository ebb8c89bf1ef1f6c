"""How each kind of competition is shown, by its name."""

from competition.models import Competition
from competition.showing.base import Show
from competition.showing.gmad import GMAD_SHOW
from competition.showing.mad import MAD_SHOW
from competition.showing.troubleshooting import SELF_GMAD_SHOW, SELF_MAD_SHOW

SHOWS: dict[str, Show] = {show.kind.name: show for show in (MAD_SHOW, GMAD_SHOW, SELF_GMAD_SHOW, SELF_MAD_SHOW)}


def show_of(competition: Competition) -> Show:
    return SHOWS[competition.kind]
