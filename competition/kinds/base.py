"""What a kind of competition gives to the work that all kinds share.

Measure: what a leaderboard of the kind ranks. Options: the settings that only this kind has, a typed object that is
kept in ``Competition.options``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from competition.models import Competition, Entrant, Exhibit, Round, RoundState
from labeling.services import TrialSpec
from models_zoo.models import Task

if TYPE_CHECKING:
    from accounts.models import User
    from competition.planning import Plan, Problem
    from jobs.context import JobContext
    from models_zoo.models import Scores, Version


class Options(BaseModel):
    """Settings of one kind alone; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Measure:
    name: str
    title: str
    what: str


@dataclass(frozen=True)
class Place:
    """One line of a leaderboard."""

    entrant: Entrant
    measure: str
    score: float
    low: float | None
    high: float | None
    rank: int
    rank_best: int
    rank_worst: int
    n_images: int


@dataclass(frozen=True)
class Leaderboard:
    """What a snapshot keeps, and its lines."""

    matrices: dict[str, Any]
    k_curve: list[dict[str, Any]]
    control: dict[str, Any]
    places: Sequence[Place]


class Evidence(ABC):
    """What a leaderboard rests on. Equal evidence has equal digests, whatever the database's ids are."""

    n_exhibits: int
    n_open: int
    n_judgements: int
    excluded_people: Sequence[int]
    agreement: dict[str, Any]

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether nobody has judged anything yet."""

    @abstractmethod
    def digest(self, *, replicates: int, seed: int, everyone: bool) -> str:
        """SHA-256 of the evidence and the parameters."""

    @abstractmethod
    def rank(self, *, replicates: int, seed: int) -> Leaderboard:
        """The leaderboard; the same evidence gives the same numbers to the last bit."""


class Kind(ABC):
    """One kind of competition.

    Attributes:
        settings: the fields of ``Competition`` that it uses beyond those that all use.
        protocols: how people may be asked; the first is the default.
        is_directed: a duel has an attacker and a defender, so every two entrants have two.
        troubleshoots: it is about one version, the target, whose competitors each round makes; people's answers train
            it, so that rounds are prepared before they score and may learn when they are complete.
        first_state: of a round.
    """

    name: str
    title: str
    task: Task
    settings: tuple[str, ...] = ()
    Options: type[Options] = Options
    protocols: tuple[str, ...]
    measures: tuple[Measure, ...]
    is_directed = False
    troubleshoots = False
    first_state = RoundState.SCORING

    def options(self, competition: Competition) -> Any:
        return self.Options(**competition.options)

    def n_duels(self, n_entrants: int, newcomers: int, options: dict[str, Any]) -> int:
        """Duels of so many entrants, or of the last of them that are newcomers."""
        pairs = comb(n_entrants, 2) - (comb(n_entrants - newcomers, 2) if newcomers else 0)
        return 2 * pairs if self.is_directed else pairs

    def entrants(self, round: Round) -> list[Entrant]:
        """Who takes part in a round, in the order of their numbers, with version, model and label space."""
        found: list[Entrant] = list(round.competition.entrants.with_versions())
        return found

    @abstractmethod
    def n_exhibits(self, plan: "Plan") -> int:
        """Exhibits of duels, at most."""

    @abstractmethod
    def n_control(self, plan: "Plan") -> int:
        """Questions of the control arm, at most."""

    def passes(self, plan: "Plan") -> "Sequence[Version]":
        """Versions as dear as those that the round will make and score, one each."""
        return ()

    @abstractmethod
    def cheaper(self, plan: "Plan", share: float) -> list[str]:
        """Ways to need only this share of the exhibits, in words."""

    @abstractmethod
    def problems(self, plan: "Plan") -> list["Problem"]:
        """What is wrong with the settings of this kind and with entrants that do not fit it."""

    @abstractmethod
    def warnings(self, plan: "Plan", scored: "dict[int, Scores]") -> list[str]:
        """What is no reason to refuse the settings, but worth knowing before a launch."""

    def require_view(self, *, options: dict[str, Any], by: "User") -> None:  # noqa: B027 - most kinds name nothing
        """Refuse settings that name something the person may not see. Raises Denied or DomainError."""

    def prepare(self, *, round: Round, context: "JobContext") -> None:  # noqa: B027 - most kinds need nothing
        """Make what the round needs before its entrants score. Kills and repetitions change nothing."""

    @abstractmethod
    def select(self, *, round: Round, context: "JobContext") -> None:
        """Keep the duels and exhibits that the round lacks; entrants are scored. Kills and repetitions change nothing.

        Raises:
            DomainError: when something that it needs is missing.
        """

    @abstractmethod
    def campaign_settings(self, competition: Competition) -> dict[str, Any]:
        """Protocol and what it needs, for ``labeling.services.campaign_create``."""

    @abstractmethod
    def trial_spec(self, exhibit: Exhibit) -> TrialSpec:
        """The question of an exhibit; ``item`` and ``second_item`` are loaded."""

    def questions(self, exhibit: Exhibit) -> list[TrialSpec]:
        """The questions of an exhibit: one, or where two images are rated one by one, one about each."""
        return [self.trial_spec(exhibit)]

    @abstractmethod
    def asking_order(self, exhibit: Exhibit, competition: Competition) -> tuple[Any, ...]:
        """Sorts exhibits so that labels help most: the best of each duel first, control spread among them."""

    @abstractmethod
    def verdict_facts(self, exhibit: Exhibit) -> dict[str, Any]:
        """The fields of an exhibit that follow from its trial's verdict (loaded, or none)."""

    @abstractmethod
    def evidence(self, *, round: Round, everyone: bool) -> Evidence:
        """Everything judged in this round and the ones before it; ``everyone``: excluded people count as well."""
