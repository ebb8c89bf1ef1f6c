"""What pages, API and exports show of one kind of competition.

Case: what came of an exhibit, by which galleries filter. Tile: an exhibit in a gallery.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Q, QuerySet

from competition.forms import GalleryForm
from competition.kinds.base import Kind
from competition.models import Competition, Exhibit, Round, RoundState, Snapshot
from corpora.models import Corpus
from models_zoo.models import Version

RELATED = ("item", "second_item", "trial__verdict", "round", "duel__first__version__model",
           "duel__second__version__model")  # fmt: skip


class Show(ABC):
    """How one kind is shown; its templates lie in ``competition/<name of the kind>/``.

    Attributes:
        about: what such a competition does, in a sentence.
        steps: what happens in each step of a round.
        labels, helps: words for the fields of its form that differ from the model's own.
        entrants_help: which versions can compete.
        exploring: what its explorer shows, in a sentence.
        nothing: what it means when a round found nothing to ask.
        cases: what can come of an exhibit, in words.
        GalleryForm: filters of the gallery.
        gallery_field: the filter that chooses an entrant.
        counted: what the number of a leaderboard's line counts.
    """

    kind: Kind
    about: str
    steps: dict[RoundState, str]
    labels: dict[str, str]
    helps: dict[str, str]
    entrants_help: str
    exploring: str
    nothing: str
    cases: dict[str, str]
    GalleryForm: type[GalleryForm]
    gallery_field: str
    counted: str

    def template(self, part: str) -> str:
        return f"competition/{self.kind.name}/{part}.html"

    @abstractmethod
    def size(self, competition: Competition) -> str:
        """How much it asks of each two entrants, for lists."""

    @abstractmethod
    def entrant_cost(self, competition: Competition) -> str:
        """What one more entrant takes, in words."""

    @abstractmethod
    def selects(self, competition: Competition) -> str:
        """What a round selects, in words."""

    @abstractmethod
    def settings(self, competition: Competition) -> list[tuple[str, Any]]:
        """The settings of its kind, as (title, value)."""

    @abstractmethod
    def dashboard(self, competition: Competition, snapshot: Snapshot | None, round_: Round | None) -> dict[str, Any]:
        """What ``dashboard.html`` shows beneath the leaderboards."""

    @abstractmethod
    def exhibits(self, competition: Competition, filters: dict[str, Any]) -> QuerySet[Exhibit]:
        """The exhibits that pass the gallery's filters, in order, with all that tiles need."""

    @abstractmethod
    def tiles(self, competition: Competition, exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
        """What ``tiles.html`` shows; a fixed number of queries."""

    @abstractmethod
    def exhibit(self, competition: Competition, exhibit: Exhibit) -> dict[str, Any]:
        """What ``exhibit.html`` shows; nothing that grows with the corpus."""

    @abstractmethod
    def explored(self, said: Mapping[str, Any], corpus: Corpus, pair: Sequence[Version]) -> dict[str, Any] | None:
        """What ``explore.html`` shows of two versions: ``rows`` that pass the filters that the query says, ``tiles``, a
        function that shows some of them, and what else the page wants; None until a worker has compared them."""

    @abstractmethod
    def case(self, exhibit: Exhibit) -> str:
        """The key in ``cases`` of an exhibit of a duel."""

    @abstractmethod
    def case_filter(self, case: str) -> Q:
        """Exhibits of one case."""
